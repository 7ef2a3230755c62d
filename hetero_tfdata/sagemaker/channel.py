"""Where a channel's data are: in S3, on a file system, and in a folder for the emulator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hetero_tfdata.errors import ConfigurationError

__all__ = ["Channel", "FileSystem", "check_channels"]

_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")
_MODES = ("File", "FastFile")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SYSTEMS = ("FSxLustre", "EFS")
_MOST_CHANNELS = 20


@dataclass(frozen=True)
class FileSystem:
    """A mounted file system: all groups of a job have it, or none.

    Attributes:
        id: such as "fs-0123456789abcdef0".
        type: "FSxLustre" or "EFS".
        directory: absolute, such as "/mountname/train".
    """

    id: str
    type: str
    directory: str

    def __post_init__(self) -> None:
        if self.type not in _SYSTEMS:
            raise ConfigurationError(f"file system {self.id}: expected the type {' or '.join(_SYSTEMS)}, got {self.type!r}")
        if not re.fullmatch(r"fs-[0-9a-f]{8,40}", self.id):
            raise ConfigurationError(f"file system {self.id!r}: expected an id such as fs-0123456789abcdef0")
        if not self.directory.startswith("/"):
            raise ConfigurationError(f"file system {self.id}: expected an absolute directory, got {self.directory!r}")


@dataclass(frozen=True)
class Channel:
    """An input channel; its name is its key in the job.

    Attributes:
        s3: such as "s3://bucket/train"; None where it is on a file system.
        file_system: instead of S3.
        groups: the instance groups that get it; empty: all of them.
        input_mode: "File" (downloaded before the script starts) or "FastFile" (read as it is asked for).
        local: the folder that stands for it on the emulator, relative to the job's folder.
    """

    s3: str | None = None
    file_system: FileSystem | None = None
    groups: Sequence[str] = ()
    input_mode: str = "File"
    local: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        if (self.s3 is None) == (self.file_system is None):
            raise ConfigurationError('expected either s3 = "s3://bucket/folder" or a file_system')
        if self.s3 is not None and not _S3.fullmatch(self.s3):
            raise ConfigurationError(f"expected an address such as s3://bucket/folder, got {self.s3!r}")
        if self.input_mode not in _MODES:
            raise ConfigurationError(
                f"expected input_mode {' or '.join(_MODES)}, got {self.input_mode!r} (Pipe gives FIFOs, which tf.data can't "
                "read file by file)"
            )
        if self.file_system is not None and self.groups:
            raise ConfigurationError("a file system can't be given to some groups only: SageMaker mounts it on every host")
        if self.file_system is not None and self.input_mode == "FastFile":
            raise ConfigurationError("a file system is mounted: expected no input_mode")


def check_channels(channels: dict[str, Channel], groups: Sequence[str]) -> None:
    """The rules that hold between channels.

    Raises:
        ConfigurationError: a name, a group or their number can't be right, or some channels have groups and others not.
    """
    if len(channels) > _MOST_CHANNELS:
        raise ConfigurationError(f"expected up to {_MOST_CHANNELS} channels (SageMaker's limit), got {len(channels)}")
    for name, channel in channels.items():
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"channel {name!r}: expected 1 to 64 letters, digits, '.', '_' or '-'")
        for group in channel.groups:
            if group not in groups:
                raise ConfigurationError(f"channel {name!r}: group {group!r} is not in this job (groups: {', '.join(groups)})")
    named = [name for name, channel in channels.items() if channel.groups]
    others = [name for name, channel in channels.items() if not channel.groups]
    if named and others:
        raise ConfigurationError(
            f"expected groups for all channels or for none (SageMaker's rule): {', '.join(named)} have them, "
            f"{', '.join(others)} have not"
        )
