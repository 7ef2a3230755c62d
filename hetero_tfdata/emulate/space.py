"""What surrounds the processes of a host with namespaces of its own, as a value; container.py makes it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Folder", "Space", "needed_below"]


@dataclass(frozen=True)
class Folder:
    """A folder that the host does not share with the machine.

    Attributes:
        path: where the host sees it; must exist on the machine.
        backing: the folder of the machine that holds its content; None: memory.
        mode: its permissions.
        keep: files and folders below it that the host sees as the machine does.
        make: names of empty folders in it.
    """

    path: str
    backing: str | None = None
    mode: int = 0o755
    keep: tuple[str, ...] = ()
    make: tuple[str, ...] = ()


@dataclass(frozen=True)
class Space:
    """The namespaces, mounts and control groups of one host.

    Attributes:
        host: its name, which `hostname` says.
        emulator_pid: the process that the host must not outlive.
        network: the file that stands for its network namespace.
        control_groups: the folders of the control groups it belongs to.
        folders: the folders of its own, in order.
        binds: (source on the machine, place on the host), in order, after the folders.
        layers: folders that the host may change for itself, while the machine's stay as they are.
        output_dir: /opt/ml/output as the machine sees it: where a failure is noted that comes before any mount.
        read_only: those of the places in which nobody can write.
    """

    host: str
    emulator_pid: int
    network: str
    control_groups: tuple[str, ...]
    folders: tuple[Folder, ...]
    binds: tuple[tuple[str, str], ...]
    output_dir: str
    read_only: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Writes the file that `read` reads."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Space:
        """Reads what `write` wrote."""
        values = json.loads(path.read_text())
        folders = tuple(
            Folder(**(folder | {name: tuple(folder[name]) for name in ("keep", "make")})) for folder in values["folders"]
        )
        binds = tuple((source, target) for source, target in values["binds"])
        lists = {name: tuple(values[name]) for name in ("control_groups", "read_only", "layers")}
        return cls(**(values | {"folders": folders, "binds": binds} | lists))


def needed_below(folder: str, paths: Iterable[str] = ()) -> tuple[str, ...]:
    """What Python and its modules need of a folder that a host hides; and what exists of `paths`."""
    python = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), *sys.path]
    python += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    wanted = {os.path.abspath(path) for path in [*python, *paths] if path}
    below = sorted(path for path in wanted if path.startswith(folder.rstrip("/") + "/") and os.path.exists(path))
    return tuple(path for path in below if not any(path.startswith(other + "/") for other in below))
