"""The description of a SageMaker job; every rule that the service or its SDK has is checked when it is built."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hetero_tfdata import emulate
from hetero_tfdata.emulate.job import Group
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.sagemaker.channel import Channel, check_channels
from hetero_tfdata.sagemaker.images import Image, image

__all__ = ["Job"]

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,36}")  # the SDK adds a time of 24 characters to make up to 63
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")
_MOST_RUNTIME_S = 28 * 24 * 3600
_MOST_TAGS = 50
_DEFAULT_TRAINING = "dnn_group"


@dataclass(frozen=True)
class Job:
    """What SageMaker is asked for. The emulator takes the same.

    Attributes:
        source_dir: the folder with the entry point.
        groups: 1 to 5 instance groups; one is a homogeneous job.
        name: what the job's name begins with; letters, digits and hyphens.
        entry_point: a .py file in source_dir.
        distribution: the group that runs MPI (Horovod); None: every host runs the entry point itself.
        processes_per_host: ranks on each host of that group.
        mpi_options: added to mpirun's command line.
        framework_version: TensorFlow's, of SageMaker's own image.
        image_uri: an image of your own instead.
        hyperparameters: JSON values.
        environment: variables of every host.
        channels: by name.
        checkpoints: where /opt/ml/checkpoints is kept, such as "s3://bucket/checkpoints"; None: nowhere.
        output: where the model and the output go; None: the SDK's default bucket.
        role: the execution role's ARN; None: `submit --role` has to say it.
        max_runtime_s: seconds after which the job is stopped.
        max_wait_s: on spot instances, seconds with all waiting; None: on demand.
        keep_alive_s: of a warm pool; heterogeneous clusters have none.
        volume_gib: of each host.
        subnets, security_groups: of a VPC, both or none.
        encrypts_traffic: between the hosts.
        is_isolated: no network at all (network isolation).
        has_token: a random job token is set with each submission.
        has_metrics: the step timer's lines become CloudWatch metrics.
        has_profiler: SageMaker Debugger's profiler is on, and makes its report.
        tags: of the job.
    """

    source_dir: Path | str
    groups: Sequence[Group]
    name: str = "hetero-tfdata"
    entry_point: str = "launcher.py"
    distribution: str | None = None
    processes_per_host: int = 1
    mpi_options: str = ""
    framework_version: str = "2.12"
    image_uri: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    checkpoints: str | None = None
    output: str | None = None
    role: str | None = None
    max_runtime_s: int = 24 * 3600
    max_wait_s: int | None = None
    keep_alive_s: int | None = None
    volume_gib: int = 30
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    encrypts_traffic: bool = False
    is_isolated: bool = False
    has_token: bool = True
    has_metrics: bool = True
    has_profiler: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("groups", "subnets", "security_groups"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for group in self.groups:
            if group.instance_type.startswith("local"):  # Group itself wants ml.*
                raise ConfigurationError("local types: SageMaker's local mode refuses groups")
            _check_type(group)
        # the same rules of groups, source, entry point, distribution, hyperparameters and environment
        checked = self._emulated({})
        object.__setattr__(self, "source_dir", checked.source_dir)
        object.__setattr__(self, "hyperparameters", checked.hyperparameters)
        check_channels(dict(self.channels), [group.name for group in self.groups])
        self._check_name()
        self._check_times()
        self._check_addresses()
        self._check_network()
        if self.image_uri is None:
            image(self.framework_version, needs_horovod=self.distribution is not None)
        if len(self.tags) > _MOST_TAGS or any(key.lower().startswith("aws:") for key in self.tags):
            raise ConfigurationError(f"tags: expected up to {_MOST_TAGS}, none of which begins with aws:")

    @property
    def image(self) -> Image | None:
        """Which of SageMaker's images; None where it has one of its own."""
        return None if self.image_uri else image(self.framework_version, needs_horovod=False)

    @property
    def is_heterogeneous(self) -> bool:
        """Whether it has several instance groups."""
        return len(self.groups) > 1

    def homogeneous(self) -> Job:
        """The same job without its data groups: what does not train is left out, and its channels go to all that is left.

        Raises:
            ConfigurationError: it can't be told which group trains.
        """
        training = [group for group in self.groups if group.name == (self.distribution or _DEFAULT_TRAINING)]
        if len(self.groups) > 1 and len(training) != 1:
            raise ConfigurationError(
                f"--homogeneous: expected a distribution group, or a group named {_DEFAULT_TRAINING}, to tell which one trains"
            )
        channels = {name: replace(channel, groups=()) for name, channel in self.channels.items()}
        return replace(self, groups=training or self.groups, channels=channels)

    def emulated(self, folder: Path, folders: Mapping[str, Path] | None = None) -> emulate.Job:
        """The same job for `emulate.run`: its channels are their local folders, relative to `folder`.

        Args:
            folder: the job's.
            folders: of channels that have another one.

        Raises:
            ConfigurationError: a channel has no local folder, or it isn't there.
        """
        channels, folders = {}, folders or {}
        for name, channel in self.channels.items():
            if name in folders:
                channels[name] = emulate.Channel(folders[name], channel.groups, channel.input_mode)
                continue
            if channel.local is None:
                raise ConfigurationError(f'channel {name!r}: expected a folder for the emulator (local = "data/{name}")')
            channels[name] = emulate.Channel(folder / channel.local, channel.groups, channel.input_mode)
        return self._emulated(channels)

    def _emulated(self, channels: Mapping[str, emulate.Channel]) -> emulate.Job:
        return emulate.Job(
            groups=self.groups,
            source_dir=self.source_dir,
            entry_point=self.entry_point,
            distribution=self.distribution,
            processes_per_host=self.processes_per_host,
            channels=channels,
            hyperparameters=self.hyperparameters,
            environment=self.environment,
        )

    def _check_name(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"name {self.name!r}: expected up to 37 letters, digits and hyphens (SageMaker allows 63 with the time that is "
                "added)"
            )

    def _check_times(self) -> None:
        if not 1 <= self.max_runtime_s <= _MOST_RUNTIME_S:
            raise ConfigurationError(f"max_runtime_s: expected 1 to {_MOST_RUNTIME_S} (28 days), got {self.max_runtime_s}")
        if self.max_wait_s is not None and self.max_wait_s < self.max_runtime_s:
            raise ConfigurationError(
                f"max_wait_s: expected at least max_runtime_s ({self.max_runtime_s}), as it counts waiting and running, "
                f"got {self.max_wait_s}"
            )
        if self.keep_alive_s is not None and self.is_heterogeneous:
            raise ConfigurationError("keep_alive_s: heterogeneous clusters have no warm pools; leave it out")
        if self.volume_gib < 1:
            raise ConfigurationError(f"volume_gib: expected at least 1, got {self.volume_gib}")

    def _check_addresses(self) -> None:
        for name in ("checkpoints", "output"):
            value = getattr(self, name)
            if value is not None and not _S3.fullmatch(value):
                raise ConfigurationError(f"{name}: expected an address such as s3://bucket/folder, got {value!r}")
        if self.role is not None and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/.+", self.role):
            raise ConfigurationError(f"role: expected an ARN such as arn:aws:iam::123456789012:role/name, got {self.role!r}")

    def _check_network(self) -> None:
        if bool(self.subnets) != bool(self.security_groups):
            raise ConfigurationError("a VPC needs both subnets and security_groups")
        on_file_system = [name for name, channel in self.channels.items() if channel.file_system is not None]
        if on_file_system and not self.subnets:
            raise ConfigurationError(
                f"channel {on_file_system[0]!r}: a file system is reached from its VPC only; give subnets and security_groups"
            )
        grouped = [name for name, channel in self.channels.items() if channel.groups]
        if self.is_isolated and grouped:
            raise ConfigurationError(
                f"channel {grouped[0]!r}: expected no groups with is_isolated: the source travels as a channel for all, "
                "and SageMaker takes groups for all channels or for none"
            )
        requirements = Path(self.source_dir) / "requirements.txt"
        if self.is_isolated and requirements.exists():
            wanted = [line.split("#")[0].strip() for line in requirements.read_text().splitlines()]
            remote = [line for line in wanted if line and not line.startswith(("./", "--no-index"))]
            if remote:
                raise ConfigurationError(
                    f"is_isolated: nothing can be downloaded there, but requirements.txt asks for {remote[0]}; put wheels into "
                    "the source folder (./name.whl) or leave the isolation out"
                )


def _check_type(group: Group) -> None:
    """By the list in botocore's own description of the service, where it is installed."""
    known = _known_types()
    if known and group.instance_type not in known:
        near = difflib.get_close_matches(group.instance_type, known, 3)
        raise ConfigurationError(
            f"group {group.name!r}: SageMaker trains on no {group.instance_type}"
            + (f"; did you mean {' or '.join(near)}?" if near else "")
        )


def _known_types() -> list[str]:
    try:
        from botocore.loaders import Loader
    except ImportError:
        return []
    types: list[str] = Loader().load_service_model("sagemaker", "service-2")["shapes"]["TrainingInstanceType"]["enum"]
    return types
