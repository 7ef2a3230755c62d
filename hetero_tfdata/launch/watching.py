"""What a host watches while its part runs: other hosts, other ranks, signals. Each is a context; leaving it ends the watch."""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import HeteroTFDataError, JobError
from hetero_tfdata.launch.following import follow
from hetero_tfdata.launch.health import HealthServer, HostState, Phase
from hetero_tfdata.launch.job import Job
from hetero_tfdata.launch.outcome import Outcome, sentence, write_served
from hetero_tfdata.service.status import ServerStatus, ask_status
from hetero_tfdata.service.supervisor import Supervisor
from hetero_tfdata.service.tally import Tally

__all__ = ["following_leader", "following_serving_hosts", "on_sigterm", "rank_reports", "running_servers", "tallying"]

_JOIN_S = 5.0
_LOOK_S = 5.0  # a worker that died needs about as long to serve again
_ASK_S = 2.0


def follow_host(job: Job, host: Host, stopped: threading.Event, health: HealthServer | None = None) -> HostState | None:
    """Follows another host of the job with the job's deadlines; see `following.follow`. `health` is this host's own server."""
    return follow(
        host,
        job.cluster.current_host,
        first_contact_s=job.deadlines.first_contact_s,
        lease_s=job.deadlines.lease_s,
        stopped=stopped,
        gave_up=lambda: health.failure_of(host.name) if health is not None else None,
    )


@contextlib.contextmanager
def running_servers(job: Job, health: HealthServer, on_failure: Callable[[HeteroTFDataError], None]) -> Iterator[Supervisor]:
    """This host's servers, whose state and whose ear is the health port; afterwards what they served stands in the host's
    report."""
    supervisor = Supervisor.for_host(
        job.cluster,
        log=job.log,
        preload=job.preload,
        modules_in=job.script_folder,
        workers=job.workers,
        on_failure=on_failure,
    )
    try:
        with supervisor:
            health.show(supervisor.status)
            health.take_demands(supervisor.meet)
            yield supervisor
    finally:
        write_served(job.cluster, supervisor)
        supervisor.close()


@contextlib.contextmanager
def following_leader(job: Job, health: HealthServer, outcomes: queue.SimpleQueue[Outcome]) -> Iterator[None]:
    """Puts the job's outcome when the leader publishes it, or is lost."""

    def run(stopped: threading.Event) -> None:
        try:
            state = follow_host(job, job.cluster.leader_host, stopped, health)
        except JobError as error:
            outcomes.put(Outcome(False, str(error)))
            return
        if state is not None:
            outcomes.put(Outcome(state.phase is Phase.SUCCEEDED, state.reason))

    with _threads([run]):
        yield


@contextlib.contextmanager
def following_serving_hosts(
    job: Job, health: HealthServer, on_failure: Callable[[Host, str], None], on_loss: Callable[[Host, str], None]
) -> Iterator[threading.Event]:
    """Calls on_failure when another host that serves batches says that it failed, and on_loss when there is no sign of it any
    more, until the event that it yields is set."""

    def run(host: Host, stopped: threading.Event) -> None:
        try:
            state = follow_host(job, host, stopped, health)
        except JobError as error:
            if not stopped.is_set():
                on_loss(host, str(error))
            return
        if state is not None and state.phase is Phase.FAILED and not stopped.is_set():
            on_failure(host, state.reason or "no reason given")

    others = [host for host in job.cluster.serving_hosts if host.name != job.cluster.current_host]
    with _threads([partial(run, host) for host in others]) as stopped:
        yield stopped


@contextlib.contextmanager
def rank_reports(health: HealthServer, lease_s: float, on_failure: Callable[[str], None]) -> Iterator[None]:
    """Calls on_failure when another rank reports one, or its launcher has been gone for the lease. mpirun ends all ranks when
    one fails; TF_CONFIG's ranks have nobody."""

    def run(stopped: threading.Event) -> None:
        while not stopped.is_set():
            health.wait_for_reports(sys.maxsize, timeout_s=0.5)
            failure = health.first_failure or health.gone_rank(lease_s)
            if failure is not None:
                on_failure(sentence(failure))
                return

    with _threads([run]):
        yield


@contextlib.contextmanager
def tallying(job: Job, health: HealthServer) -> Iterator[Tally]:
    """Adds up what the ranks got and watches the workers for those that are started again; losses stand in the log."""
    cluster = job.cluster
    beside = cluster.training_hosts if job.local_workers != 0 and cluster.is_heterogeneous else ()

    def ask() -> dict[str, Sequence[ServerStatus]]:
        told: dict[str, Sequence[ServerStatus]] = {}
        for host in (*cluster.serving_hosts, *beside):
            with contextlib.suppress(JobError):
                told[host.name] = ask_status(host, _ASK_S).workers
        return told

    tally = Tally(cluster.ranks.size, job.log, ask)
    health.take_shares(tally.add)

    def run(stopped: threading.Event) -> None:
        while not stopped.wait(timeout=_LOOK_S):
            tally.look()

    with _threads([run]):
        yield tally


@contextlib.contextmanager
def on_sigterm(action: Callable[[], object]) -> Iterator[None]:
    """Calls the action on SIGTERM."""
    previous = signal.signal(signal.SIGTERM, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _threads(bodies: list[Callable[[threading.Event], None]]) -> Iterator[threading.Event]:
    """Runs each body with an event that is set when the block ends."""
    stopped = threading.Event()
    threads = [threading.Thread(target=body, args=(stopped,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    try:
        yield stopped
    finally:
        stopped.set()
        for thread in threads:
            thread.join(timeout=_JOIN_S)
