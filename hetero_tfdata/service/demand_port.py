"""A host's side of demands: the method that takes them, and the port of a rank that owns its servers itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import HeteroTFDataError, ServiceError
from hetero_tfdata.service.demand import DEMAND_METHOD, Demand, decode, encode_answer
from hetero_tfdata.service.health_port import grpc, listen

__all__ = ["DemandPort", "Meet", "taking"]

# Meets a demand within that many seconds, or raises (Supervisor.meet).
Meet = Callable[[Demand, float], None]


def taking(who_meets: Callable[[], Meet | None]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """The method of a health port that takes demands; `who_meets` is asked at each."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            demand, timeout_s = decode(request)
        except (AttributeError, KeyError, TypeError, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected libraries, workers, functions, timeout_s")
        meet = who_meets()
        try:
            if meet is None:
                raise ServiceError(f"was told {demand}, but runs no servers")
            meet(demand, timeout_s)
        except HeteroTFDataError as error:
            return encode_answer(error)
        return encode_answer(None)

    return answer


class DemandPort:
    """Takes demands for servers that one rank owns, where `launch`, whose health port does it otherwise, does not run.

    Args:
        host: this host.
        hosts: all hosts of the job.
        meet: meets a demand.

    Raises:
        PortInUseError: the health port is taken.
    """

    def __init__(self, host: Host, hosts: Sequence[Host], meet: Meet) -> None:
        self._server = listen(host, hosts, {DEMAND_METHOD: taking(lambda: meet)})
        self._server.start()

    def close(self) -> None:
        """Takes no more demands."""
        self._server.stop(grace=None)
