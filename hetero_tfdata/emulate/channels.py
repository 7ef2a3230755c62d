"""Input channels: which folder, for which groups, read how."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hetero_tfdata.errors import ConfigurationError

__all__ = ["Channel", "checked", "parse_channel"]

# CreateTrainingJob's ChannelName: 1 to 64 of these.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODES = ("File", "FastFile")


@dataclass(frozen=True)
class Channel:
    """An input channel.

    Attributes:
        folder: what the hosts see below /opt/ml/input/data.
        groups: the instance groups that get it, as `S3DataSource.InstanceGroupNames`; empty: all of them.
        mode: "File", or "FastFile": the same folder, but nobody can write in it (under process isolation, which can't forbid
            it, this is told in inputdataconfig.json alone).
    """

    folder: Path | str
    groups: Sequence[str] = ()
    mode: str = "File"

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        if self.mode not in _MODES:
            raise ConfigurationError(
                f"input mode {self.mode!r} is not emulated, expected {' or '.join(_MODES)} (Pipe gives FIFOs, not folders)"
            )

    def is_for(self, group: str) -> bool:
        """Whether the hosts of the group have it."""
        return not self.groups or group in self.groups


def parse_channel(text: str, mode: str = "File") -> tuple[str, Channel]:
    """A channel from NAME=DIR, or NAME@GROUP[,GROUP...]=DIR for some groups alone."""
    left, equals, folder = text.partition("=")
    name, at, groups = left.partition("@")
    named = tuple(groups.split(",")) if at else ()
    if not (name and equals and folder) or "" in named:
        raise ConfigurationError(
            f"--channel: expected NAME=DIR such as train=data/train, or NAME@GROUP[,GROUP]=DIR, got {text!r}"
        )
    return name, Channel(folder, named, mode)


def checked(channels: Mapping[str, Channel | Path | str], groups: Sequence[str]) -> dict[str, Channel]:
    """The channels of a job with these groups, their folders absolute.

    Raises:
        ConfigurationError: a name, folder or group can't be right.
    """
    found = {}
    for name, given in channels.items():
        channel = given if isinstance(given, Channel) else Channel(given)
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"channel {name!r}: expected 1 to 64 letters, digits, '.', '_' or '-'")
        resolved = Path(channel.folder).expanduser().resolve()
        if not resolved.is_dir():
            what = "is no folder" if resolved.exists() else "does not exist"
            raise ConfigurationError(f"channel {name!r}: folder {channel.folder} {what} ({resolved})")
        for group in channel.groups:
            if group not in groups:
                raise ConfigurationError(f"channel {name!r}: group {group!r} is not in this job (groups: {', '.join(groups)})")
        found[name] = Channel(resolved, channel.groups, channel.mode)
    named = [name for name, channel in found.items() if channel.groups]
    unnamed = [name for name, channel in found.items() if not channel.groups]
    if named and unnamed:
        raise ConfigurationError(
            f"channel {named[0]!r} names groups, {unnamed[0]!r} does not: SageMaker takes groups for all channels or for none; "
            f"name them all, such as {unnamed[0]}@{','.join(groups)}"
        )
    return found
