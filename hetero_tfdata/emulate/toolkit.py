"""sagemaker-training itself on the hosts: its `train` command, and what it needs of this machine."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hetero_tfdata.emulate.job import Job
from hetero_tfdata.errors import ConfigurationError

__all__ = ["Toolkit"]

_PACKAGE = "sagemaker-training"
# What the ranks of a distribution need, by command and the Debian package that has it. The toolkit itself starts sshd there.
_COMMANDS = {
    "mpirun": "openmpi-bin",
    "/usr/sbin/sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
# Names of the person at this machine; in a container there is root, and ssh and paramiko would ask for theirs.
_PERSONAL = {"USER", "LOGNAME", "LNAME", "USERNAME", "MAIL", "SSH_AUTH_SOCK", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY"}


@dataclass(frozen=True)
class Toolkit:
    """The installed sagemaker-training.

    Attributes:
        version: such as "5.1.4".
        train: its command, which SageMaker starts in every container.
        horovod_has_mpi: whether the installed Horovod can be started by mpirun; None where there is none.
    """

    version: str
    train: Path
    horovod_has_mpi: bool | None = None

    @classmethod
    def find(cls, job: Job) -> Toolkit:
        """The toolkit of this Python environment.

        Raises:
            ConfigurationError: it, or what the job's ranks need, is not installed; says what to install.
        """
        train = Path(sysconfig.get_path("scripts"), "train")
        try:
            installed = version(_PACKAGE)
        except PackageNotFoundError:
            raise ConfigurationError(
                f"--toolkit runs the command train of {_PACKAGE}, which is not installed: pip install 'hetero-tfdata[toolkit]'"
            ) from None
        if not train.is_file():
            raise ConfigurationError(f"--toolkit runs {train}, which {_PACKAGE} {installed} should have brought: reinstall it")
        if job.distribution is None:
            return cls(installed, train)
        missing = [package for command, package in _COMMANDS.items() if shutil.which(command) is None]
        if missing:
            packages = " ".join(dict.fromkeys(missing))
            raise ConfigurationError(
                f"--toolkit starts the ranks of {job.distribution} by mpirun and ssh, whose Debian packages are missing: "
                f"apt install {packages}, or leave --toolkit out"
            )
        if importlib.util.find_spec("mpi4py") is None:
            raise ConfigurationError("--toolkit starts ranks as `python -m mpi4py`, which is not installed: pip install mpi4py")
        return cls(installed, train, _horovod_has_mpi())

    def notes(self) -> list[str]:
        """What a run's first lines should say of it."""
        said = [f"toolkit: {self.train}, sagemaker-training {self.version}"]
        if self.horovod_has_mpi is False:
            said.append(
                "Horovod was built without MPI: a script that uses it fails under mpirun (make setup-toolkit builds one)"
            )
        return said

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The variables of the container's own, from what hosts inherit anyway."""
        container = {name: value for name, value in inherited.items() if name not in _PERSONAL}
        return container | {
            # The hosts share this machine's CPUs: a rank that waits for another must not do so on a CPU which that needs.
            "OMPI_MCA_mpi_yield_when_idle": "1",
        }


def root_home() -> str:
    """Where sshd and ssh look for root's keys, whatever HOME says."""
    return pwd.getpwuid(0).pw_dir


def _horovod_has_mpi() -> bool | None:
    """Looks for Open MPI's library in Horovod's, for importing Horovod would import TensorFlow."""
    spec = importlib.util.find_spec("horovod")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        return None
    libraries = [path for folder in folders for path in Path(os.fspath(folder), "tensorflow").glob("mpi_lib*.so")]
    return any(b"libmpi.so" in library.read_bytes() for library in libraries)
