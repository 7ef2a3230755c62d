"""What a host's processes see, as far as it differs by isolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["HostView"]


@dataclass(frozen=True)
class HostView:
    """What one host's processes see.

    Attributes:
        base_dir: its /opt/ml.
        log: the file of what they print.
        parent_pid: what its first process sees as its parent.
        sockets: the folder in which the hosts of a distribution meet; empty without one.
        programs: the folder of its own commands, which comes first in PATH: nvidia-smi.
        network_interface: the interface to the other hosts.
        shared_channels: a channel is told by its folder on the machine, the only path that is the same on every host; else
            it is mounted below /opt/ml, as on SageMaker.
        variables: environment variables of the host alone.
        rank_variables: what its ranks must know better than horovodrun, which takes all hosts for this one.
    """

    base_dir: Path
    log: str = ""
    parent_pid: int = 0
    sockets: str = ""
    programs: str = ""
    network_interface: str = "lo"
    shared_channels: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    rank_variables: Mapping[str, str] = field(default_factory=dict)

    def channel(self, name: str, source: Path | str) -> str:
        """The path of a channel."""
        return str(source) if self.shared_channels else str(self.base_dir / "input" / "data" / name)
