"""What one rank got of one pass of a stream, and how it is told to the leader's launcher."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.service.status import HEALTH_SERVICE, parsed

__all__ = ["SHARE_METHOD", "Share", "decode", "teller"]

SHARE_METHOD = "Share"
_TELL_S = 2.0


@dataclass(frozen=True)
class Share:
    """What one rank got of one pass.

    Attributes:
        stream: the distributed dataset's name.
        number: of the pass, from 1.
        rank: whose share it is.
        elements: how many came.
        rows: in them.
        state: "open", "ended" or "left", as in `pulse.Pass`.
        expected: rows of the pass over all ranks; None where nobody knows.
        drops_remainder: fewer may come without a fault, as in `rows.Extent`.
        endless: the pass has no end, likewise.
        falls_back: it goes on without its service, see fallback.py.
    """

    stream: str
    number: int
    rank: int
    elements: int
    rows: int
    state: str
    expected: int | None
    drops_remainder: bool
    endless: bool = False
    falls_back: bool = False


def decode(message: bytes) -> Share:
    """A share as it travels, which is JSON; raises ValueError or TypeError for anything else."""
    share = Share(**parsed(message))
    counts = (share.number, share.rank, share.elements, share.rows, share.expected or 0)
    if not all(type(count) is int and count >= 0 for count in counts) or share.state not in ("open", "ended", "left"):
        raise ValueError(f"expected a rank's share of a pass, got {share}")
    return share


def teller(leader: Host) -> Callable[[Share], bool]:
    """Tells the leader's launcher, on its health port."""
    import grpc

    from hetero_tfdata.service.health_port import connect, introduction

    call = connect(leader).unary_unary(f"/{HEALTH_SERVICE}/{SHARE_METHOD}")

    def tell(share: Share) -> bool:
        # at the interpreter's end gRPC may be gone before this
        with contextlib.suppress(grpc.RpcError, RuntimeError, ValueError):
            call(json.dumps(asdict(share)).encode(), timeout=_TELL_S, metadata=introduction())
            return True
        return False

    return tell
