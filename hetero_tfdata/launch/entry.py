"""The one entry point: what a host does follows from its role, and its exit code from the job's outcome.

data host      servers; follows the leader; exits 0 when training succeeded, 1 when it failed or its host was lost
leader         runs the script; publishes the outcome and waits until the data hosts know it
other ranks    run the script and report its end to the leader
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hetero_tfdata.cluster.topology import Cluster, Role
from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError
from hetero_tfdata.launch import preparing
from hetero_tfdata.launch.data_host import serve
from hetero_tfdata.launch.following import announce_failure
from hetero_tfdata.launch.job import Deadlines, Job
from hetero_tfdata.launch.outcome import write_failure
from hetero_tfdata.launch.training_host import lead, run_alone, take_part

__all__ = ["launch"]


def launch(
    script: str,
    arguments: Sequence[str] = (),
    *,
    preload: Sequence[str] = (),
    workers: int | None = None,
    local_workers: int | None = 0,
    prepare: Sequence[str] = (),
    roles: Mapping[str, Role | str] | None = None,
    deadlines: Deadlines | None = None,
) -> int:
    """Plays this host's part in the job and returns its exit code.

    Args:
        script: the training script, a path.
        arguments: its arguments.
        preload: modules whose custom operations the servers load before they serve.
        workers: worker processes per serving host; by default after the CPUs that the host may use and its link.
        local_workers: worker processes beside the training on each training host of a heterogeneous job; None: as many as fit
            into the CPUs that the training leaves idle, measured while it runs. They read the dataset's files there, so the
            training group needs the data's channels too.
        prepare: a script with its arguments, which the data hosts run before they serve (without data hosts the training
            hosts, before they train): one that makes the files that the dataset reads, in a folder that is the same on all of
            them. What is done already it should find done. `distribute()` and `files()` wait for it with their
            `ready_timeout_s`.
        roles: group name -> role, where the names don't tell.
        deadlines: how long to wait for what.

    Raises:
        ConfigurationError: no such script, or the cluster's configuration can't be right.
        PortInUseError: a port of this host is taken.
    """
    job: Job | None = None
    try:
        if not Path(script).is_file():
            raise ConfigurationError(f"expected a training script, there is no file {script!r} in {os.getcwd()}")
        cluster = Cluster.discover(roles=roles)
        job = Job(
            cluster,
            script,
            tuple(arguments),
            tuple(preload),
            workers,
            local_workers,
            tuple(prepare),
            {name: Role(role) for name, role in (roles or {}).items()},
            deadlines or Deadlines(),
        )
        preparing.check(job)
        if cluster.role is Role.IGNORED:
            job.log(f"group {cluster.group.name!r} takes no part in this job")
            return 0
        if cluster.role is Role.DATA:
            return serve(job)
        if not cluster.is_heterogeneous:
            preparing.prepare_in_turn(job)
        if cluster.dispatcher_host is None:
            return run_alone(job)
        return lead(job) if cluster.is_leader else take_part(job)
    except HeteroTFDataError as error:
        write_failure(str(error))
        if job is not None and job.cluster.ranks.local_rank == 0:
            others = [host for host in job.cluster.hosts if host != job.cluster.here]
            announce_failure(job.cluster.current_host, others, str(error))
        raise
