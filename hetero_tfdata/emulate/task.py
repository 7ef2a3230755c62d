"""What the emulator asks of one host's process: the content of its private file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HostTask"]


@dataclass(frozen=True)
class HostTask:
    """The entry point of one host, and its part in the ranks if it has one.

    Attributes:
        host: SageMaker's name.
        command: the entry point with its arguments.
        code_dir: its working directory.
        output_dir: /opt/ml/output, where success or failure is noted.
        log: where everything that the host prints goes.
        emulator_pid: the parent that this host must not outlive; 0: one that it can't see, of which the kernel takes care.
        rank_hosts: the hosts of the distribution group, the master first, if this is one of them; else empty.
        processes_per_host: ranks on each of them.
        sockets: the folder of their sockets.
        rank_variables: environment variables of the ranks here that replace horovodrun's and the host's.
        stop_grace_s: from a SIGTERM to the SIGKILL for what still runs.
        own_disk: whether what it writes is on a disk of its own, which can be full.
        is_toolkit: the command is the container's own, which starts entry point or ranks and notes how they ended by itself.
    """

    host: str
    command: list[str]
    code_dir: str
    output_dir: str
    log: str
    emulator_pid: int
    rank_hosts: list[str] = dataclasses.field(default_factory=list)
    processes_per_host: int = 1
    sockets: str = ""
    rank_variables: dict[str, str] = dataclasses.field(default_factory=dict)
    stop_grace_s: float = 20.0
    own_disk: bool = False
    is_toolkit: bool = False

    @property
    def is_master(self) -> bool:
        """Whether this host starts the ranks."""
        return bool(self.rank_hosts) and self.rank_hosts[0] == self.host

    def write(self, path: Path) -> None:
        """Writes the file that `read` reads."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> HostTask:
        """Reads what `write` wrote."""
        return cls(**json.loads(path.read_text()))
