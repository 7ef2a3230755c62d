"""What a dataset demands of the hosts that are to serve it, and how a training script's process asks for it.

distribute() on the leader sends a demand before it registers the dataset, to the health port of each host; the host answers
once its servers meet it, or why they can't. demand_port.py is the host's side. Importing this costs no gRPC.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hetero_tfdata import errors
from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import HeteroTFDataError, NotReadyError, ServiceError
from hetero_tfdata.service.functions import Functions
from hetero_tfdata.service.status import HEALTH_SERVICE, parsed, reason_of

if TYPE_CHECKING:
    import grpc

__all__ = ["DATASET_FN", "DEMAND_METHOD", "Demand", "decode", "encode", "encode_answer", "make"]

DEMAND_METHOD = "Demand"

_FIRST_WORD_S = 10.0
_NEXT_WORD_S = 30.0
_MOST_S = 86_400.0  # what a host takes for itself, whatever it is told
_ANSWER_S = 2.0  # a host that gives up at its deadline says why
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
DATASET_FN = re.compile(rf"{_MODULE.pattern}:{_MODULE.pattern}")


@dataclass(frozen=True)
class Demand:
    """What a dataset demands of a host's servers.

    Attributes:
        libraries: module -> the custom operations of it that the graph names. The servers import the module, which must
            register them.
        workers: worker processes on the host, at least; None: as many as there are.
        functions: the graph's Python functions, which the workers have to import; None: it has none.
    """

    libraries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    workers: int | None = None
    functions: Functions | None = None

    def __post_init__(self) -> None:
        named = [one.module for one in self.functions.functions] if self.functions and not self.functions.dataset_fn else []
        for module in (*self.libraries, *named):
            if not _MODULE.fullmatch(module):
                raise ValueError(f"expected the name of a module, got {module!r}")
        if self.workers is not None and not (isinstance(self.workers, int) and self.workers > 0):
            raise ValueError(f"expected a number of workers, got {self.workers!r}")
        if self.functions and self.functions.dataset_fn and not DATASET_FN.fullmatch(self.functions.dataset_fn):
            raise ValueError(f"expected module:function, got {self.functions.dataset_fn!r}")

    def __bool__(self) -> bool:
        return bool(self.libraries) or self.workers is not None or self.functions is not None

    def __str__(self) -> str:
        """As what a host is waited for: "to load my_ops and to start 3 workers"."""
        parts = [f"to load {', '.join(self.libraries)}"] if self.libraries else []
        parts += [] if self.functions is None else [f"to import {self.functions}"]
        parts += [] if self.workers is None else [f"to have {self.workers} workers"]
        return " and ".join(parts)


def make(demands: Sequence[tuple[Host, Demand]], timeout_s: float, log: Callable[[str], None]) -> None:
    """Makes demands of hosts, all at once, and returns when they are met.

    Args:
        demands: of whom, and what.
        timeout_s: seconds until the error.
        log: takes a line after 10 s and every 30 s from then on.

    Raises:
        ConfigurationError: a host can't load a module; names both, and why.
        HeteroTFDataError: another error of the host's.
        NotReadyError: a host did not answer before the deadline.
    """
    from hetero_tfdata.service.health_port import connect, introduction  # only now: it imports gRPC

    channels = [connect(host) for host, _ in demands]
    try:
        calls = [
            channel.unary_unary(f"/{HEALTH_SERVICE}/{DEMAND_METHOD}").future(
                encode(demand, timeout_s), timeout=timeout_s + _ANSWER_S, wait_for_ready=True, metadata=introduction()
            )
            for channel, (_, demand) in zip(channels, demands, strict=True)
        ]
        _wait(calls, demands, timeout_s, log)
        problems = [
            problem for call, (host, demand) in zip(calls, demands, strict=True) if (problem := _problem(call, host, demand))
        ]
    finally:
        for channel in channels:
            channel.close()
    if problems:
        raise type(problems[0])("; ".join(map(str, problems)))


def _wait(
    calls: Sequence[grpc.Future], demands: Sequence[tuple[Host, Demand]], timeout_s: float, log: Callable[[str], None]
) -> None:
    started = time.monotonic()
    next_word_s = _FIRST_WORD_S
    while not all(call.done() for call in calls):
        time.sleep(0.02)
        waited = time.monotonic() - started
        if waited >= next_word_s:
            late = [f"{_place(host)} {demand}" for call, (host, demand) in zip(calls, demands, strict=True) if not call.done()]
            log(f"waiting for {' and '.join(late)}: {waited:.0f} of {timeout_s:.0f} s")
            next_word_s = waited + _NEXT_WORD_S


def _problem(call: grpc.Future, host: Host, demand: Demand) -> HeteroTFDataError | None:
    import grpc

    try:
        answer = parsed(call.result())
        if answer["problem"] is None:
            return None
        kind = getattr(errors, str(answer["kind"]), ServiceError)
        return kind(f"{_place(host)}: {answer['problem']}")
    except grpc.RpcError as error:
        return NotReadyError(
            f"{_place(host)} did not answer when it was told {demand}: {reason_of(error)}. Look at that host's log; expected "
            "the same version of hetero_tfdata on every host"
        )
    except (KeyError, TypeError, ValueError) as error:
        return ServiceError(
            f"{_place(host)} was told {demand} and answered with something else ({type(error).__name__}: {error}); expected "
            "the same version of hetero_tfdata on every host"
        )


def _place(host: Host) -> str:
    return f"{host.name} ({host.address}:{host.health_port})"


def encode(demand: Demand, timeout_s: float) -> bytes:
    """The demand as it travels, with the seconds that the host may take: JSON."""
    functions = None if demand.functions is None else demand.functions.as_dict()
    fields = {"libraries": dict(demand.libraries), "workers": demand.workers, "functions": functions, "timeout_s": timeout_s}
    return json.dumps(fields).encode()


def decode(message: bytes) -> tuple[Demand, float]:
    """The demand and the seconds again; raises ValueError, TypeError, KeyError or AttributeError for what `encode` can't have
    written."""
    fields = parsed(message)
    libraries = {str(module): tuple(map(str, operations)) for module, operations in fields["libraries"].items()}
    timeout_s = float(fields["timeout_s"])
    if not timeout_s >= 0:
        raise ValueError(f"expected seconds, got {timeout_s}")
    functions = None if fields["functions"] is None else Functions.of(fields["functions"])
    return Demand(libraries, fields["workers"], functions), min(timeout_s, _MOST_S)


def encode_answer(error: HeteroTFDataError | None) -> bytes:
    """How it ended, as it travels: JSON."""
    return json.dumps({"problem": None if error is None else str(error), "kind": type(error).__name__}).encode()
