"""What a host is given: its task, and the variables of its first process."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from hetero_tfdata.emulate import requirements
from hetero_tfdata.emulate.hosts import master
from hetero_tfdata.emulate.mpirun import toolkit_variables
from hetero_tfdata.emulate.task import HostTask
from hetero_tfdata.emulate.toolkit import Toolkit
from hetero_tfdata.emulate.variables import Variables, command_arguments, inherited

__all__ = ["environment", "task"]


def task(variables: Variables, toolkit: Toolkit | None) -> HostTask:
    """The toolkit's `train`; or, where our stand-in takes its place, the entry point and the host's part in the ranks."""
    job, host, view = variables.job, variables.host, variables.view
    takes_ranks = toolkit is None and host.group == job.distribution
    entry_point = [sys.executable, job.entry_point, *command_arguments(job.hyperparameters)]
    return HostTask(
        host=host.name,
        command=entry_point if toolkit is None else [str(toolkit.train)],
        code_dir=str(variables.code_dir),
        output_dir=str(view.base_dir / "output"),
        log=view.log,
        emulator_pid=view.parent_pid,
        rank_hosts=sorted(other.name for other in variables.hosts if other.group == host.group) if takes_ranks else [],
        processes_per_host=job.processes_per_host,
        sockets=view.sockets,
        rank_variables=_rank_variables(variables) if takes_ranks else {},
        is_toolkit=toolkit is not None,
    )


def environment(variables: Variables, toolkit: Toolkit | None, packages: Path) -> dict[str, str]:
    """What the host inherits from the emulator, and what it is told; the toolkit tells itself SM_* and more.

    `packages` are the run's own, from the job's requirements.txt, where the folder exists.
    """
    kept = _inherited(variables.view.programs)
    if packages.exists():
        kept |= requirements.variables(packages, kept)
    if toolkit is not None:
        return toolkit.environment(kept) | variables.container()
    return kept | variables.environment()


def _rank_variables(variables: Variables) -> dict[str, str]:
    """What a host's ranks are told otherwise than its other processes: by mpirun, which runs on the master."""
    first = master(variables.job, variables.hosts)
    starts_ranks = next(host for host in variables.hosts if host.name == first)
    told = Variables(variables.job, variables.hosts, starts_ranks, variables.view).toolkit()
    told |= toolkit_variables(starts_ranks.instance_type, variables.view.network_interface)
    return told | dict(variables.view.rank_variables)


def _inherited(own_programs: str) -> dict[str, str]:
    """The caller's variables, with the host's own commands, this Python and this package found, TensorFlow less talkative."""
    kept = inherited(os.environ)
    kept.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    path = [os.path.abspath(entry) for entry in kept.get("PYTHONPATH", "").split(os.pathsep) if entry]
    package = str(Path(__file__).resolve().parents[2])
    if package not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *path):
        path.append(package)
    programs = [own_programs, sysconfig.get_path("scripts"), *filter(None, kept.get("PATH", os.defpath).split(os.pathsep))]
    return kept | {"PATH": os.pathsep.join(dict.fromkeys(programs)), "PYTHONPATH": os.pathsep.join(path)}
