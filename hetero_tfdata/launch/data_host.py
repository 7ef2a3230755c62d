"""A data host's part: serve until the job's outcome is known."""

from __future__ import annotations

import queue

from hetero_tfdata.errors import HeteroTFDataError
from hetero_tfdata.launch import outcome
from hetero_tfdata.launch.health import HealthServer, Phase
from hetero_tfdata.launch.job import Job
from hetero_tfdata.launch.outcome import Outcome
from hetero_tfdata.launch.preparing import prepare
from hetero_tfdata.launch.watching import following_leader, on_sigterm, running_servers

__all__ = ["serve"]

_INFORM_LEADER_S = 5.0


def serve(job: Job) -> int:
    """Runs this host's servers until the leader has published the outcome or is lost, or a server can't be kept running.

    Returns:
        0 if training succeeded, 2 if this host could not serve as it was told to, else 1.

    Raises:
        PortInUseError: the health port of this host is taken.
    """
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    leader = job.cluster.leader_host

    def on_failure(error: HeteroTFDataError) -> None:
        outcomes.put(Outcome(False, str(error)))

    with (
        on_sigterm(lambda: outcomes.put(Outcome(False, f"{job.cluster.current_host} was stopped (SIGTERM)"))),
        HealthServer(job.cluster.here, job.cluster.hosts) as health,
    ):
        try:
            with following_leader(job, health, outcomes):
                prepare(job, unless=lambda: not outcomes.empty())
                with running_servers(job, health, on_failure) as servers:
                    servers.wait_until_ready(job.deadlines.servers_s, unless=lambda: not outcomes.empty())
                    health.publish(Phase.SERVING)
                    job.log(f"serving with {len(servers.report())} workers; waiting for {leader.name}")
                    result = outcomes.get()
                    code = 0 if result.succeeded else 1
        except HeteroTFDataError as error:
            result, code = Outcome(False, str(error)), error.exit_code
        outcome.publish(job, health, result)
        if not result.succeeded:
            # it may be news to the leader
            health.wait_until_informed({leader.name}, _INFORM_LEADER_S)
    return code
