"""What a host's part of the job needs to know, as one value."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from hetero_tfdata.cluster.topology import ROLES_VARIABLE, Cluster, Role
from hetero_tfdata.service.custom_ops import PRELOADED_VARIABLE
from hetero_tfdata.service.distribute import LAUNCHED_VARIABLE

__all__ = ["Deadlines", "Job"]


@dataclass(frozen=True)
class Deadlines:
    """How long a host waits for what. No wait is without one.

    Attributes:
        first_contact_s: until another host of the job comes up. Hosts of one SageMaker job start up to 20 minutes apart.
        servers_s: until this host's own servers serve: they import TensorFlow, which takes about 4 s, or 15 with a protobuf
            that has no compiled wheel, on CPUs that may be busy.
        lease_s: how long a host that was there may be silent before it counts as lost.
        ranks_s: between the end of rank 0's script and the end of the last rank's.
        inform_s: until every data host has the outcome.
        idle_window_s: how long the idle CPUs of a training host are measured before workers are started on them.
        grace_s: between SIGTERM and SIGKILL of the training script. SageMaker gives a stopped job 120 s.
    """

    first_contact_s: float = 1200.0
    servers_s: float = 180.0
    lease_s: float = 30.0
    ranks_s: float = 60.0
    inform_s: float = 60.0
    idle_window_s: float = 30.0
    grace_s: float = 100.0


@dataclass(frozen=True)
class Job:
    """The job as one host sees it.

    Attributes:
        cluster: who this host is and who the others are.
        script: the training script, a path.
        arguments: its arguments.
        preload: modules whose custom operations the servers load before they serve.
        workers: worker processes per serving host; None: after the CPUs that the host may use.
        local_workers: worker processes beside the training on each training host of a heterogeneous job; None: as many as
            fit into what the training leaves idle.
        prepare: a script with its arguments, which the hosts that read files run before anything else; empty: none.
        roles: group name -> role, as the caller said.
        deadlines: how long to wait for what.
    """

    cluster: Cluster
    script: str
    arguments: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    workers: int | None = None
    local_workers: int | None = 0
    prepare: tuple[str, ...] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    deadlines: Deadlines = field(default_factory=Deadlines)

    @property
    def script_folder(self) -> str:
        """Where the script finds its own modules, and where this host's servers find them too."""
        return os.path.dirname(os.path.abspath(self.script))

    @property
    def script_environment(self) -> dict[str, str]:
        """What the training script finds in its environment besides this process's own."""
        environment = {LAUNCHED_VARIABLE: "1", PRELOADED_VARIABLE: ",".join(self.preload)}
        if self.roles:
            environment[ROLES_VARIABLE] = ",".join(f"{name}={role.value}" for name, role in self.roles.items())
        return environment

    def log(self, line: str) -> None:
        """Writes a line to the job's log, with this host's name."""
        print(f"hetero_tfdata: {self.cluster.current_host}: {line}", file=sys.stderr, flush=True)
