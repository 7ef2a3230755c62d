"""A training host's part: run the script; as the leader, publish the outcome; as another rank, report to the leader."""

from __future__ import annotations

import contextlib
import threading

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import HeteroTFDataError, JobError
from hetero_tfdata.launch import outcome
from hetero_tfdata.launch.following import attending, report_rank
from hetero_tfdata.launch.health import HealthServer, Phase, RankReport
from hetero_tfdata.launch.job import Job
from hetero_tfdata.launch.local_workers import local_workers, wanted
from hetero_tfdata.launch.outcome import Outcome, sentence, write_failure, write_losses
from hetero_tfdata.launch.script import Script
from hetero_tfdata.launch.watching import (
    follow_host,
    following_serving_hosts,
    on_sigterm,
    rank_reports,
    running_servers,
    tallying,
)

__all__ = ["lead", "run_alone", "take_part"]

_REPORT_S = 10.0


def run_alone(job: Job) -> int:
    """One training process, and nobody who serves: the script's exit code."""
    training = _Training(job)
    with on_sigterm(lambda: training.end("stopped (SIGTERM)")):
        code = training.run()
    if code:
        write_failure(training.failure(code))
    return code


def lead(job: Job) -> int:
    """Rank 0: the script's exit code, or 1 where the job failed in spite of it."""
    with contextlib.ExitStack() as stack:
        cluster, deadlines = job.cluster, job.deadlines
        health = stack.enter_context(HealthServer(cluster.here, cluster.hosts))
        training = _Training(job)
        uninformed = {host.name for host in cluster.serving_hosts} - {cluster.current_host}

        def stop() -> None:
            failure = health.first_failure or health.gone_rank()
            reason = sentence(failure) if failure else f"training on {cluster.current_host} was stopped (SIGTERM)"
            health.publish(Phase.STOPPING, reason)
            training.end(reason)

        def fail(host: Host, reason: str) -> None:
            uninformed.discard(host.name)
            if tally.falls_back:
                job.log(f"host {host.name} failed: {reason}; the training goes on, on its own CPUs if it has to")
            else:
                training.end(f"host {host.name} failed: {reason}")

        def lose(host: Host, reason: str) -> None:
            lost.add(host.name)
            left = [one.name for one in cluster.data_hosts if one.name not in lost]
            if left and host != cluster.dispatcher_host and tally.is_endless:
                # a stream without an end flows past workers that are gone
                uninformed.discard(host.name)
                job.log(f"{reason}; the training goes on with {', '.join(left)}, as its datasets have no end")
            else:
                fail(host, reason)

        lost: set[str] = set()
        tally = stack.enter_context(tallying(job, health))
        stack.enter_context(on_sigterm(stop))
        if not cluster.is_heterogeneous:
            servers = stack.enter_context(running_servers(job, health, lambda error: training.end(str(error))))
            servers.wait_until_ready(deadlines.servers_s)
        losses = stack.enter_context(following_serving_hosts(job, health, fail, lose))
        stack.enter_context(rank_reports(health, deadlines.lease_s, training.end))
        end_local_workers = stack.enter_context(local_workers(job, health))
        health.publish(Phase.TRAINING)
        code = training.run()
        losses.set()
        result = _result(job, health, training, code)
        if result.succeeded:
            tally.close()
        write_losses(tally)
        end_local_workers()  # all ranks have ended, or the job has failed
        outcome.publish(job, health, result)
        late = health.wait_until_informed(uninformed, deadlines.inform_s)
        if late:
            job.log(f"could not tell {', '.join(sorted(late))}, which will end by its own deadline")
    return code or (0 if result.succeeded else 1)


def take_part(job: Job) -> int:
    """A rank that is not the leader: the script's exit code."""
    cluster = job.cluster
    publishes = cluster.ranks.local_rank == 0 and cluster.here != cluster.leader_host
    serves = publishes and not cluster.is_heterogeneous
    beside = wanted(job)
    with contextlib.ExitStack() as stack:
        training = _Training(job)
        stack.enter_context(attending(cluster.leader_host, cluster.ranks.rank, cluster.current_host))
        stack.enter_context(on_sigterm(lambda: training.end("stopped (SIGTERM)")))
        if publishes:
            health = stack.enter_context(HealthServer(cluster.here, cluster.hosts))
        if beside:
            stack.enter_context(local_workers(job, health))
        if publishes and not serves:
            health.publish(Phase.TRAINING)
        if serves:

            def on_failure(error: HeteroTFDataError) -> None:
                health.publish(Phase.FAILED, str(error))
                training.end(str(error))

            servers = stack.enter_context(running_servers(job, health, on_failure))
            servers.wait_until_ready(job.deadlines.servers_s)
            health.publish(Phase.SERVING)
        code = training.run()
        report = RankReport(cluster.ranks.rank, cluster.current_host, code, training.failure(code) if code else None)
        if code:
            write_failure(sentence(report))
        reached = report_rank(cluster.leader_host, report, _REPORT_S)
        if (serves or beside) and reached and not code:
            # other ranks may still read from this host's workers
            with contextlib.suppress(JobError):
                follow_host(job, cluster.leader_host, threading.Event())
    return code


class _Training:
    """The script, and why it was ended if it was."""

    def __init__(self, job: Job) -> None:
        self.interrupted: str | None = None
        self._job = job
        self._script: Script | None = None

    def run(self) -> int:
        """Runs the script to its end: its exit code, or 1 if it was ended from here."""
        self._script = Script(self._job.script, self._job.arguments, self._job.script_environment)
        if self.interrupted is not None:
            self._script.terminate(self._job.deadlines.grace_s)
        code = self._script.wait()
        return 1 if self.interrupted is not None else code

    def end(self, reason: str) -> None:
        """Ends the script, now or as soon as it runs; the first reason counts."""
        if self.interrupted is None:
            self.interrupted = reason
            self._job.log(f"{reason}; ending the training")
        if self._script is not None:
            self._script.terminate(self._job.deadlines.grace_s)

    def failure(self, code: int) -> str:
        """One sentence on why the training ended with that code."""
        assert self._script is not None
        return self.interrupted or self._script.failure(code)


def _result(job: Job, health: HealthServer, training: _Training, code: int) -> Outcome:
    """What the job came to, with its first cause: a rank that failed before this one, a loss, or the script itself."""
    cluster = job.cluster
    if code == 0 and cluster.ranks.size > 1 and not health.wait_for_reports(cluster.ranks.size - 1, job.deadlines.ranks_s):
        missing = sorted(set(range(1, cluster.ranks.size)) - set(health.reports))
        names = ", ".join(map(str, missing))
        return Outcome(False, f"rank {names} had not ended {job.deadlines.ranks_s:.0f} s after rank 0")
    failure = health.first_failure or (health.gone_rank() if code else None)
    if failure is not None:
        return Outcome(False, sentence(failure))
    if code == 0:
        return Outcome(True)
    if training.interrupted is not None:
        return Outcome(False, training.interrupted)
    return Outcome(False, sentence(RankReport(0, cluster.current_host, code, training.failure(code))))
