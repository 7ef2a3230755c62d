"""What one rank got of one pass of a stream, and how it is told to the leader's launcher."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.service.status import HEALTH_SERVICE

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
    """

    stream: str
    number: int
    rank: int
    elements: int
    rows: int
    state: str
    expected: int | None
    drops_remainder: bool


def decode(message: bytes) -> Share:
    """A share as it travels, which is JSON; raises ValueError or TypeError for anything else."""
    share = Share(**json.loads(message))
    counts = (share.number, share.rank, share.elements, share.rows, share.expected or 0)
    if not all(type(count) is int and count >= 0 for count in counts) or share.state not in ("open", "ended", "left"):
        raise ValueError(f"expected a rank's share of a pass, got {share}")
    return share


def teller(leader: Host) -> Callable[[Share], bool]:
    """Tells the leader's launcher, on its health port."""
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # see readiness.py
    import grpc

    channel = grpc.insecure_channel(f"{leader.address}:{leader.health_port}")
    call = channel.unary_unary(f"/{HEALTH_SERVICE}/{SHARE_METHOD}")

    def tell(share: Share) -> bool:
        # at the interpreter's end gRPC may be gone before this
        with contextlib.suppress(grpc.RpcError, RuntimeError, ValueError):
            call(json.dumps(asdict(share)).encode(), timeout=_TELL_S)
            return True
        return False

    return tell
