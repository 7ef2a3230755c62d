"""The description of an emulated job: instance groups, source, channels, hyperparameters; checked when built."""

from __future__ import annotations

import difflib
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.emulate import channels
from hetero_tfdata.emulate.channels import Channel
from hetero_tfdata.errors import ConfigurationError

__all__ = ["Group", "Job", "parse_accelerators", "parse_hyperparameter", "parse_variable"]

# CreateTrainingJob's limits: InstanceGroups 0-5, InstanceGroupName 1-64 characters; 100 HyperParameters, whose values (as
# JSON) have up to 2,500 characters; Environment: names and values of up to 512 characters.
_MAX_GROUPS = 5
_MAX_NAME = 64
_MAX_HYPERPARAMETERS = 100
_MAX_KEY, _MAX_VALUE = 256, 2500
_VARIABLE, _MAX_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}"), 512
_INSTANCE_TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
# Of instances.tsv, those that are no GPUs: the toolkit counts them as neurons.
_NO_GPUS = (None, "Trainium")
# What sagemaker-training 5.1 accepts as the name of an entry point; older ones accept more.
_ENTRY_POINT = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*\.py")


@dataclass(frozen=True)
class Group:
    """An instance group.

    Attributes:
        name: such as "data_group"; 1 to 64 characters.
        instance_type: such as "ml.c5.18xlarge"; told to the hosts; its CPUs and link limit them where the run has a scale.
        count: hosts in the group, at least 1.
    """

    name: str
    instance_type: str
    count: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= _MAX_NAME:
            raise ConfigurationError(f"group {self.name!r}: expected a name of 1 to {_MAX_NAME} characters")
        if not _INSTANCE_TYPE.fullmatch(self.instance_type):
            raise ConfigurationError(
                f"group {self.name!r}: expected an instance type such as ml.c5.18xlarge, got {self.instance_type!r}"
            )
        if self.count < 1:
            raise ConfigurationError(f"group {self.name!r}: expected a count of at least 1, got {self.count}")

    @classmethod
    def parse(cls, text: str) -> Group:
        """A group from NAME=TYPE:COUNT, such as data_group=ml.c5.18xlarge:2."""
        name, equals, rest = text.partition("=")
        instance_type, colon, count = rest.rpartition(":")
        if not (equals and colon and re.fullmatch(r"-?[0-9]+", count)):
            raise ConfigurationError(f"--group: expected NAME=TYPE:COUNT such as data_group=ml.c5.18xlarge:2, got {text!r}")
        return cls(name, instance_type, int(count))


@dataclass(frozen=True)
class Job:
    """What CreateTrainingJob would be told; paths are made absolute, everything is checked here.

    Attributes:
        groups: 1 to 5 instance groups; one group is a homogeneous job.
        source_dir: the folder with the entry point; every host gets a copy.
        entry_point: a .py file, relative to source_dir.
        distribution: the group that runs MPI; None: every host runs the entry point directly.
        processes_per_host: ranks on each host of the distribution group.
        channels: name -> folder, the same on every host; or a Channel, for some groups alone or read-only.
        hyperparameters: JSON values; the entry point gets them as `--key value`, sorted by key.
        name: the training job's name.
        checkpoints: the folder that every host sees as /opt/ml/checkpoints and that stays for the next run, as the
            job's checkpoint_s3_uri would; made where it is missing. None: an empty one for each host.
        accelerators: GPUs on each host of a group, by its name, where it is not what the instance type has.
        environment: variables of every host, as CreateTrainingJob's Environment sets them.
    """

    groups: Sequence[Group]
    source_dir: Path | str
    entry_point: str
    distribution: str | None = None
    processes_per_host: int = 1
    channels: Mapping[str, Channel | Path | str] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(default_factory=lambda: _generated_name())
    checkpoints: Path | str | None = None
    accelerators: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        object.__setattr__(self, "source_dir", _folder(self.source_dir, "source folder"))
        self._check_groups()
        self._check_entry_point()
        object.__setattr__(self, "channels", channels.checked(self.channels, [group.name for group in self.groups]))
        self._check_accelerators()
        self._check_environment()
        if self.checkpoints is not None:
            checkpoints = Path(self.checkpoints).expanduser().resolve()
            if checkpoints.exists() and not checkpoints.is_dir():
                raise ConfigurationError(f"checkpoints {self.checkpoints} is no folder ({checkpoints})")
            object.__setattr__(self, "checkpoints", checkpoints)
        object.__setattr__(self, "hyperparameters", _checked_hyperparameters(self.hyperparameters))

    def channels_of(self, group: str) -> dict[str, Channel]:
        """The channels that the hosts of a group have."""
        every = {name: channel for name, channel in self.channels.items() if isinstance(channel, Channel)}
        return {name: channel for name, channel in every.items() if channel.is_for(group)}

    def gpus_of(self, group: str) -> int:
        """GPUs that each host of a group is told it has: what was given, else the instance type's, 0 where unknown."""
        kind = next(one.instance_type for one in self.groups if one.name == group)
        return self.accelerators.get(group, _gpus(kind))

    @property
    def is_heterogeneous(self) -> bool:
        """Whether the job has several instance groups."""
        return len(self.groups) > 1

    def _check_groups(self) -> None:
        names = [group.name for group in self.groups]
        if not 1 <= len(names) <= _MAX_GROUPS:
            raise ConfigurationError(f"expected 1 to {_MAX_GROUPS} groups (SageMaker's limit), got {len(names)}")
        for name in names:
            if names.count(name) > 1:
                raise ConfigurationError(f"group {name!r} is given {names.count(name)} times; give each group one name")
        if self.processes_per_host < 1:
            raise ConfigurationError(f"expected at least 1 process per host, got {self.processes_per_host}")
        if self.distribution is None:
            if self.processes_per_host > 1:
                raise ConfigurationError(
                    f"{self.processes_per_host} processes per host need a distribution: "
                    f"say which group runs them, such as --distribution {names[-1]}"
                )
        elif self.distribution not in names:
            near = difflib.get_close_matches(self.distribution, names, 1)
            raise ConfigurationError(
                f"distribution group {self.distribution!r} is not in this job (groups: {', '.join(names)})"
                + (f"; did you mean {near[0]}?" if near else "")
            )

    def _check_accelerators(self) -> None:
        names = [group.name for group in self.groups]
        for group, count in self.accelerators.items():
            if group not in names:
                raise ConfigurationError(f"accelerators of {group!r}: not a group of this job (groups: {', '.join(names)})")
            if count < 0:
                raise ConfigurationError(f"accelerators of {group!r}: expected 0 or more, got {count}")

    def _check_environment(self) -> None:
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name):
                raise ConfigurationError(f"environment {name!r}: expected a name of letters, digits and _ (SageMaker's rule)")
            if len(value) > _MAX_VARIABLE:
                raise ConfigurationError(f"environment {name}: expected at most {_MAX_VARIABLE} characters, got {len(value)}")

    def _check_entry_point(self) -> None:
        source = Path(self.source_dir)
        named = f"entry point {self.entry_point!r}"
        if self.entry_point.startswith("/") or ".." in self.entry_point.split("/"):
            raise ConfigurationError(f"{named}: expected a path inside the source folder {source}, relative to it")
        if not _ENTRY_POINT.fullmatch(self.entry_point):
            raise ConfigurationError(
                f"{named}: expected a .py file whose path has only letters, digits, '.', '_', '+', '-' and '/'"
            )
        if not (source / self.entry_point).is_file():
            there = sorted(path.name for path in source.glob("*.py"))
            near = difflib.get_close_matches(self.entry_point, there, 1)
            raise ConfigurationError(
                f"{named} is not in the source folder {source}" + (f"; did you mean {near[0]}?" if near else "")
            )


def parse_hyperparameter(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is taken as JSON where it is JSON, else as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigurationError(f"-p: expected KEY=VALUE such as epochs=3, got {text!r}")
    try:
        return key, json.loads(value, parse_constant=_no_json)
    except ValueError:
        return key, value


def parse_variable(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigurationError(f"--environment: expected NAME=VALUE such as TF_CPP_MIN_LOG_LEVEL=2, got {name!r}")
    return name, value


def parse_accelerators(texts: Sequence[str], groups: Sequence[Group], distribution: str | None) -> dict[str, int]:
    """GPUs of each host by group, from texts of N (every group that has GPUs, or trains) or GROUP=N."""
    found: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not number.isdigit() or bool(name) != bool(equals):
            raise ConfigurationError(f"--accelerators: expected N or GROUP=N such as dnn_group=2, got {text!r}")
        have = [group.name for group in groups if _gpus(group.instance_type) or group.name == distribution]
        if not name and not have:
            raise ConfigurationError(f"--accelerators {text}: no group of this job has any; say which, as GROUP={text}")
        found.update(dict.fromkeys([name] if name else have, int(number)))
    return found


def _gpus(instance_type: str) -> int:
    kind = instance(instance_type)
    return kind.accelerators or 0 if kind is not None and kind.accelerator not in _NO_GPUS else 0


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is Python's, not JSON's")


def _checked_hyperparameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters as they come back from SageMaker's JSON: a tuple is a list."""
    checked = {}
    for key, value in given.items():
        if not key or key.startswith("sagemaker_"):
            raise ConfigurationError(
                f"hyperparameter {key!r}: expected a name that does not begin with sagemaker_, SageMaker sets those"
            )
        try:
            encoded = json.dumps(value)
            checked[key] = json.loads(encoded)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"hyperparameter {key!r}: expected a JSON value, got {value!r}: {error}") from None
        if len(key) > _MAX_KEY or len(encoded) > _MAX_VALUE:
            raise ConfigurationError(
                f"hyperparameter {key[:20]!r}: expected up to {_MAX_KEY} characters and a value of up to {_MAX_VALUE} as JSON "
                f"(SageMaker's limits), got {len(key)} and {len(encoded)}"
            )
    if len(checked) > _MAX_HYPERPARAMETERS:
        raise ConfigurationError(f"expected up to {_MAX_HYPERPARAMETERS} hyperparameters, got {len(checked)}")
    return checked


def _folder(path: Path | str, what: str) -> Path:
    resolved = Path(path).expanduser().resolve()
    if not resolved.is_dir():
        raise ConfigurationError(
            f"{what} {path} " + ("is no folder" if resolved.exists() else "does not exist") + f" ({resolved})"
        )
    return resolved


def _generated_name() -> str:
    return f"emulated-{time.strftime('%Y-%m-%d-%H-%M-%S')}-{secrets.token_hex(2)}"
