"""The state file of a run: always how the hosts are, for other programs to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hetero_tfdata.emulate.files import RunFolder, write_by_rename
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.emulate.isolation import RunningHost
from hetero_tfdata.errors import ConfigurationError

__all__ = ["StateFile"]


class StateFile:
    """A file that is replaced whenever something has changed; without a path, nothing is written."""

    def __init__(self, path: Path | str | None) -> None:
        self._path = Path(path).expanduser().absolute() if path is not None else None
        self._written: dict[str, Any] | None = None
        if self._path is not None and self._path.is_dir():
            raise ConfigurationError(f"state file {self._path} is a folder")

    def write(
        self, hosts: tuple[Host, ...], running: Mapping[str, RunningHost], exit_codes: Mapping[str, int], folder: RunFolder
    ) -> None:
        """Brings the file up to date."""
        if self._path is None:
            return
        entries = []
        for host in hosts:
            started = running.get(host.name)
            entries.append(
                {
                    "name": host.name,
                    "group": host.group,
                    "instance_type": host.instance_type,
                    "address": host.address,
                    "pid": started.pid if started else None,
                    "namespace": started.namespace if started else None,
                    "exit_code": exit_codes.get(host.name),
                    "failure": folder.failure(host.name),
                }
            )
        if self._written != (state := {"hosts": entries}):
            write_by_rename(self._path, state)
            self._written = state
