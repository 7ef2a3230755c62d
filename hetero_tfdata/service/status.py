"""How a host and its servers are: the value that each host's health port gives to whoever asks, and how to ask.

Asked by the commands and by the training script's own process, so it stands here, below `launch`, which answers. Importing
this costs no gRPC.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import JobError

if TYPE_CHECKING:
    import grpc

__all__ = [
    "HEALTH_SERVICE",
    "STATUS_METHOD",
    "HostStatus",
    "Phase",
    "ServerStatus",
    "ask_status",
    "decode",
    "encode",
    "parsed",
    "reason_of",
]

HEALTH_SERVICE = "hetero_tfdata.Health"
STATUS_METHOD = "Status"


class Phase(str, Enum):
    """What a host is doing."""

    STARTING = "starting"
    SERVING = "serving"
    TRAINING = "training"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows it."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


@dataclass(frozen=True)
class ServerStatus:
    """One server of a host: the process that runs now, and what its predecessors on the port left.

    Attributes:
        name: "dispatcher", "worker 0".
        port: where it listens.
        alive: whether its process runs; False while it waits for its next start.
        ready: whether the process serves yet: it imports TensorFlow first.
        restarts: how often it was started again.
        batches_served: by all its processes; 0 for a dispatcher.
        cpu_s: CPU seconds, user and system, that the process that runs now and its ended children have used; begins anew with
            each restart; 0 while none runs.
        started: when that process was started, in seconds since 1970 by the host's own clock; None while none runs.
        modules: whose custom operations it has loaded, and its successors load.
        functions: the Python functions of graphs that it can serve, and its successors (`Functions` as JSON).
    """

    name: str
    port: int
    alive: bool
    ready: bool
    restarts: int
    batches_served: int
    cpu_s: float
    started: float | None
    modules: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostStatus:
    """How a host is.

    Attributes:
        host: its name.
        phase: what it does.
        reason: of a failure or a stop; else None.
        usable_cpus: CPUs that its processes may really use.
        workers: its worker processes, by index; empty where it runs none.
        dispatcher: the dispatcher, on the host that runs it; else None.
        tensorflow: the version that its servers import; None where it can't be told.
    """

    host: str
    phase: Phase
    reason: str | None
    usable_cpus: int
    workers: tuple[ServerStatus, ...] = ()
    dispatcher: ServerStatus | None = None
    tensorflow: str | None = None


def ask_status(host: Host, timeout_s: float) -> HostStatus:
    """Asks a host how it is; for any process of the job.

    Args:
        host: whom to ask.
        timeout_s: seconds to wait for the answer. A refused connection is told at once.

    Raises:
        JobError: no answer in time, or none that can be understood; names the host, its address and the reason.
    """
    # only now: the supervisor, which `import hetero_tfdata` may lead to, needs no more than the values above
    from hetero_tfdata.service.health_port import connect, grpc, introduction

    place = f"{host.name} ({host.address}:{host.health_port})"
    with connect(host) as channel:
        try:
            answer = channel.unary_unary(f"/{HEALTH_SERVICE}/{STATUS_METHOD}")(
                b"{}", timeout=timeout_s, metadata=introduction()
            )
        except grpc.RpcError as error:
            raise JobError(f"{place} did not tell its state within {timeout_s:g} s: {reason_of(error)}") from None
    try:
        return decode(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(
            f"{place} answered with something that is not a host's state ({type(error).__name__}: {error}); expected the "
            "same version of hetero_tfdata on every host"
        ) from None


def encode(status: HostStatus) -> bytes:
    """The value as it travels: JSON."""
    return json.dumps(asdict(status)).encode()


def decode(message: bytes) -> HostStatus:
    """The value again; raises ValueError, TypeError or KeyError for what `encode` can't have written."""
    fields: dict[str, Any] = parsed(message)
    fields["phase"] = Phase(fields["phase"])
    fields["workers"] = tuple(_server(server) for server in fields["workers"])
    fields["dispatcher"] = None if fields["dispatcher"] is None else _server(fields["dispatcher"])
    return HostStatus(**fields)


def parsed(message: bytes) -> Any:
    """The JSON of a message; raises ValueError for anything else, also for brackets beyond what Python's parser takes."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON, got {message[:40]!r} ({type(error).__name__})") from None


def _server(fields: dict[str, Any]) -> ServerStatus:
    return ServerStatus(**fields | {"modules": tuple(fields["modules"]), "functions": tuple(fields["functions"])})


def reason_of(error: grpc.RpcError) -> str:
    """A failed call, in a few words."""
    code, details = error.code(), error.details() or ""
    return f"{code.name.lower()}: {details.splitlines()[0][:160] if details else 'no details'}"
