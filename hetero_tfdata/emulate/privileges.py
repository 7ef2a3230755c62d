"""The right to make namespaces: root's, or that of a user namespace of the emulator's own.

As a program: `python -m hetero_tfdata.emulate.privileges` holds that user namespace until its standard input ends, which
is when the emulator ends, whatever ended it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hetero_tfdata.errors import ConfigurationError

__all__ = ["NETWORK_NAMESPACES", "Privileges"]

# Where `ip netns` looks for names.
NETWORK_NAMESPACES = "/run/netns"
_INSTEAD = "or use --isolation process"
# What the namespaces of a host need, by command and the Debian package that has it.
_COMMANDS = {"ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
_HOLDER_TIMEOUT_S = 60.0
_COMMAND_TIMEOUT_S = 60.0
# linux/capability.h
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


@dataclass(frozen=True)
class Privileges:
    """How commands are run that only root may run.

    Attributes:
        prefix: what goes before such a command; empty for root.
        held: file descriptors that the commands hold open while they run.
    """

    prefix: tuple[str, ...] = ()
    held: tuple[int, ...] = ()

    @property
    def is_root(self) -> bool:
        """Whether the machine's root runs the commands, and not that of a user namespace."""
        return not self.prefix

    @classmethod
    @contextlib.contextmanager
    def acquire(cls) -> Iterator[Privileges]:
        """Root's privileges where this process has them, else those of a fresh user namespace.

        Raises:
            ConfigurationError: neither can be had, or a command is missing; says which.
        """
        check_commands()
        if _is_root():
            yield cls()
            return
        holder = subprocess.Popen(
            [sys.executable, "-m", "hetero_tfdata.emulate.privileges"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the emulator, which ends the hosts first
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        with holder:
            try:
                assert holder.stdout is not None
                if holder.stdout.readline() != "ready\n":
                    _, said = holder.communicate()
                    reason = (said.strip().splitlines() or ["no reason was given"])[-1]
                    raise ConfigurationError(
                        f"--isolation namespace needs root, or user namespaces, which this machine refuses ({reason}): "
                        f"run it as root, {_INSTEAD}"
                    )
                # --preserve-credentials: the user's own id is root there, and the only one.
                yield cls(("nsenter", f"--target={holder.pid}", "--user", "--mount", "--net", "--preserve-credentials", "--"))
            finally:
                assert holder.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    holder.stdin.close()
                try:
                    holder.wait(_HOLDER_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    holder.kill()

    def run(self, command: Sequence[str], given: str = "") -> str:
        """Runs a command with `given` on its standard input; its output.

        Raises:
            ConfigurationError: it failed; has its last words.
        """
        try:
            done = subprocess.run(
                [*self.prefix, *command],
                input=given,
                capture_output=True,
                text=True,
                timeout=_COMMAND_TIMEOUT_S,
                pass_fds=self.held,
                start_new_session=True,  # Ctrl-C must not interrupt what it makes or removes
            )
        except subprocess.TimeoutExpired:
            raise ConfigurationError(
                f"--isolation namespace: {' '.join(command[:4])} did not end in {_COMMAND_TIMEOUT_S:g} s; {_INSTEAD}"
            ) from None
        if done.returncode != 0:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise ConfigurationError(f"--isolation namespace: {' '.join(command[:4])} failed: {said}; {_INSTEAD}")
        return done.stdout


def check_commands() -> None:
    """Raises ConfigurationError for a command that is not installed, with its package's name."""
    for command, package in _COMMANDS.items():
        if shutil.which(command) is None:
            raise ConfigurationError(
                f"--isolation namespace needs the command {command}, which is not installed: "
                f"install the package {package} (apt-get install {package}), {_INSTEAD}"
            )


def _is_root() -> bool:
    with open("/proc/self/status") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return all(effective >> capability & 1 for capability in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN))


def main() -> int:
    """Makes a user namespace in which this user is root, with a /run in which `ip netns` has a place for names."""
    from hetero_tfdata.emulate import syscalls
    from hetero_tfdata.emulate.container import recompose
    from hetero_tfdata.emulate.space import Folder

    user, group = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        syscalls.private_mounts()
        there = tuple(entry.path for entry in os.scandir("/run") if entry.path != NETWORK_NAMESPACES)
        recompose(Folder("/run", keep=there, make=("netns",)))
        # A host has these two mounted anew; a machine that refuses it refuses it here already.
        syscalls.unshare(syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return 1
    print("ready", flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
