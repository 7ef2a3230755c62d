"""What SageMaker's container images bring for the toolkit, and this machine's own must not be used for: ssh, root's home, and a
Python environment into which it may install.

The hosts see these by mounts of their own; those of this machine stay untouched.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.emulate.space import Folder, needed_below
from hetero_tfdata.emulate.toolkit import root_home
from hetero_tfdata.errors import ConfigurationError

__all__ = ["Image"]

# The images' own: root comes in by key alone. PAM only hands /etc/environment on, into which the toolkit writes a host's
# variables for the ranks that mpirun starts there by ssh.
_SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
PrintMotd no
PidFile none
"""
_PAM = """\
auth required pam_deny.so
account required pam_permit.so
session required pam_env.so
"""
# `train` waits for the name of every host; known hosts are those of this run.
_SSH_CONFIG = """\
Host *
  StrictHostKeyChecking no
  LogLevel ERROR
"""
_MUST_EXIST = ("/etc/ssh", "/etc/environment", "/etc/pam.d/sshd")
_KEY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Image:
    """What the hosts of one run see of their own.

    Attributes:
        path: the folder of this machine that holds the files, for the caller to remove.
        has_ssh: whether the job has a distribution, whose ranks are started by ssh.
        layers: folders that hosts may change for themselves: where `train` installs a job's requirements.txt.
    """

    path: Path
    has_ssh: bool
    layers: tuple[str, ...]

    @classmethod
    def make(cls, path: Path, hosts: Iterable[str], job: Job, privileges: Privileges) -> Image:
        """As in an image, one key pair for all hosts; and each host's own copy of what it may change.

        Raises:
            ConfigurationError: this user can't have it, or this machine has no place for the mounts.
        """
        layers = (sys.prefix,) if Path(job.source_dir, "requirements.txt").exists() else ()
        image = cls(path, job.distribution is not None, layers)
        path.mkdir(mode=0o700)
        if image.has_ssh:
            image._make_ssh(hosts, privileges)
        return image

    def _make_ssh(self, hosts: Iterable[str], privileges: Privileges) -> None:
        if not privileges.is_root:
            raise ConfigurationError("--toolkit with a distribution starts sshd, which needs root: run it as root")
        for needed in _MUST_EXIST:
            if not Path(needed).exists():
                raise ConfigurationError(f"--toolkit mounts a file or folder of each host's own over {needed}: make one")
        ssh, home = self.path / "etc-ssh", self.path / "home-ssh"
        for folder in (ssh, home):
            folder.mkdir(mode=0o755 if folder == ssh else 0o700)
        for key in (ssh / "ssh_host_key", home / "id_ed25519"):
            _make_key(key)
        (ssh / "sshd_config").write_text(_SSHD_CONFIG)
        (self.path / "pam").write_text(_PAM)
        shutil.copy(home / "id_ed25519.pub", home / "authorized_keys")
        (home / "config").write_text(_SSH_CONFIG)
        for host in hosts:
            shutil.copytree(home, self.path / host / "ssh")
            (self.path / host / "environment").touch()

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of every host."""
        return {"HOME": root_home()} if self.has_ssh else {}

    def folders(self, keep: Iterable[str]) -> tuple[Folder, ...]:
        """Root's home, empty but for what Python needs of it, and what exists of `keep` below it."""
        home = root_home()
        return (Folder(home, mode=0o700, keep=needed_below(home, keep), make=(".ssh",)),) if self.has_ssh else ()

    def binds(self, host: str) -> tuple[tuple[str, str], ...]:
        """(source on the machine, place on the host)."""
        if not self.has_ssh:
            return ()
        own = self.path / host
        return (
            (str(self.path / "etc-ssh"), "/etc/ssh"),
            (str(self.path / "pam"), "/etc/pam.d/sshd"),
            (str(own / "environment"), "/etc/environment"),
            (str(own / "ssh"), f"{root_home()}/.ssh"),
        )


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "emulated", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_KEY_TIMEOUT_S)
    if done.returncode != 0:
        raise ConfigurationError(f"--toolkit: ssh-keygen failed: {' '.join(done.stderr.split())}")
