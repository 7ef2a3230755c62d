"""The runs of emulators with namespaces on this machine, so that the next one can clear up what a killed one left.

Each run has a folder, with a file that its emulator holds locked as long as it lives, and a list of what it makes, written
before it is made. A run whose lock is free is dead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hetero_tfdata.emulate import cgroups
from hetero_tfdata.emulate.files import write_by_rename
from hetero_tfdata.emulate.network import remove_names
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.errors import ConfigurationError

__all__ = ["Run"]

# Of root's and every other user's folder of runs.
_NAME = "hetero-tfdata"
_LOCK = "lock"
_MADE = "made.json"


class Run:
    """One run; `name` begins the names of everything it makes on the machine.

    `privileges` are those to make it with: a command of a killed emulator keeps the run alive until it has ended.
    """

    def __init__(self, folder: Path, privileges: Privileges) -> None:
        self.folder, self.privileges = folder, privileges
        self.name = folder.name

    @classmethod
    @contextlib.contextmanager
    def begin(cls, privileges: Privileges) -> Iterator[Run]:
        """A new run, after what dead ones left has been removed; at its end, all that it made is removed."""
        home = _home(privileges)
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if home.stat().st_uid != os.geteuid():
                raise PermissionError(f"expected a folder of user {os.geteuid()}, it is user {home.stat().st_uid}'s")
            with _locked(home / _LOCK):
                for folder in sorted(home.iterdir()):
                    if folder.is_dir():
                        with contextlib.suppress(OSError, ConfigurationError):  # the next start tries again
                            _clear_if_dead(folder, privileges)
                folder = home / f"hetero-{secrets.token_hex(3)}"
                folder.mkdir()
                lock = open(folder / _LOCK, "w")  # noqa: SIM115 (held until the run ends, whatever ends it)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise ConfigurationError(f"--isolation namespace: {home} can't be used: {error}") from None
        with lock:
            try:
                yield cls(folder, dataclasses.replace(privileges, held=(lock.fileno(),)))
            finally:
                try:
                    _clear(folder, privileges)
                except OSError as error:
                    raise ConfigurationError(
                        f"what the run made on this machine can't be removed now, the next start tries again: {error}"
                    ) from None

    def will_make(self, *, namespaces: list[str], control_groups: list[Path]) -> None:
        """Notes what is to be removed whatever happens: names of network namespaces, folders of control groups."""
        listed = namespaces if self.privileges.is_root else []  # those of a user namespace end with it
        write_by_rename(
            self.folder / _MADE, {"namespaces": listed, "control_groups": [str(folder) for folder in control_groups]}
        )


def _home(privileges: Privileges) -> Path:
    if privileges.is_root:
        return Path("/run", _NAME)
    own = os.environ.get("XDG_RUNTIME_DIR")
    return Path(own, _NAME) if own and os.access(own, os.W_OK) else Path(tempfile.gettempdir(), f"{_NAME}-{os.getuid()}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_if_dead(folder: Path, privileges: Privileges) -> None:
    with open(folder / _LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _clear(folder, privileges)


def _clear(folder: Path, privileges: Privileges) -> None:
    try:
        made: dict[str, Any] = json.loads((folder / _MADE).read_text())
    except (OSError, ValueError):
        made = {}
    try:
        # The hosts' processes have ended with their emulator, or do in this moment; a control group waits for them.
        cgroups.remove(Path(name) for name in made.get("control_groups", ()))
    finally:
        remove_names(privileges, made.get("namespaces", ()))
    shutil.rmtree(folder)
