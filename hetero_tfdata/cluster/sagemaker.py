"""What SageMaker tells a process: resourceconfig.json, hyperparameters.json and SM_*; nobody else reads them.

The formats are those of the CreateTrainingJob documentation and of sagemaker-training 4.9 and 5.1. That package is not
imported: it would bring boto3 and create folders.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetero_tfdata.errors import ResourceConfigError

__all__ = [
    "ResourceConfig",
    "base_dir",
    "channel_dir",
    "distribution_groups",
    "failure_file",
    "output_data_dir",
    "read",
    "training_job_name",
    "write_failure",
]

_FAILURE_CHARACTERS = 1024  # SageMaker shows no more of the file


@dataclass(frozen=True)
class ResourceConfig:
    """resourceconfig.json, checked.

    Attributes:
        source: the file or variable it came from, for messages.
        current_host: this host's name, such as "algo-3".
        hosts: all hosts of the job, in the order of the file.
        groups: (name, instance type, hosts) of each instance group; empty where the job has none.
    """

    source: str
    current_host: str
    hosts: tuple[str, ...]
    groups: tuple[tuple[str, str, tuple[str, ...]], ...]


def base_dir(environ: Mapping[str, str]) -> Path:
    """SageMaker's folder: /opt/ml, or what SAGEMAKER_BASE_DIR says."""
    return Path(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")


def channel_dir(environ: Mapping[str, str], channel: str) -> Path:
    """The folder of an input channel: what SM_CHANNEL_<NAME> says, or where SageMaker puts it on the hosts that have it."""
    return Path(environ.get(f"SM_CHANNEL_{channel.upper()}") or base_dir(environ) / "input" / "data" / channel)


def output_data_dir(environ: Mapping[str, str]) -> Path:
    """The folder whose content SageMaker uploads beside the model when the job ends."""
    return Path(environ.get("SM_OUTPUT_DATA_DIR") or base_dir(environ) / "output" / "data")


def failure_file(environ: Mapping[str, str]) -> Path:
    """The file whose first 1,024 characters SageMaker shows as the reason of a failed job."""
    return base_dir(environ) / "output" / "failure"


def write_failure(environ: Mapping[str, str], reason: str) -> None:
    """Writes the failure file, unless the script wrote one itself; outside SageMaker there is no folder for it."""
    path = failure_file(environ)
    if path.parent.is_dir() and not path.exists():
        with contextlib.suppress(OSError):
            path.write_text(reason[:_FAILURE_CHARACTERS])


def read(environ: Mapping[str, str]) -> ResourceConfig | None:
    """Reads the resource configuration; None where this is no SageMaker job.

    The file comes first: mpirun hands the SM_* variables of its own host to the ranks on all hosts, so on another host
    SM_RESOURCE_CONFIG names the wrong current host. The variable serves where mpirun dropped SAGEMAKER_BASE_DIR.

    Raises:
        ResourceConfigError: malformed or incomplete; names the file, the key and what was expected.
    """
    path = base_dir(environ) / "input" / "config" / "resourceconfig.json"
    if path.is_file():
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ResourceConfigError(f"{path}: expected a readable text file, got: {error}") from None
        return _parse(text, str(path))
    if environ.get("SM_RESOURCE_CONFIG"):
        return _parse(environ["SM_RESOURCE_CONFIG"], "SM_RESOURCE_CONFIG")
    if environ.get("SAGEMAKER_BASE_DIR"):
        raise ResourceConfigError(f"{path}: expected this file because SAGEMAKER_BASE_DIR is set, it does not exist")
    return None


def distribution_groups(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The instance groups on which SageMaker starts mpirun (or another distribution); empty where there is none."""
    text, source = environ.get("SM_DISTRIBUTION_INSTANCE_GROUPS"), "SM_DISTRIBUTION_INSTANCE_GROUPS"
    if not text:
        path = base_dir(environ) / "input" / "config" / "hyperparameters.json"
        source = f"{path}: key 'sagemaker_distribution_instance_groups'"
        if path.is_file():
            try:
                text = json.loads(path.read_text()).get("sagemaker_distribution_instance_groups")
            except (OSError, ValueError, AttributeError) as error:
                raise ResourceConfigError(f"{path}: expected a JSON object of hyperparameters, got: {error}") from None
    if not text:
        return ()
    try:
        groups = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        groups = None
    if not isinstance(groups, list) or not all(isinstance(name, str) for name in groups):
        raise ResourceConfigError(f'{source}: expected a JSON list of group names such as ["dnn_group"], got {text!r}')
    return tuple(groups)


def training_job_name(environ: Mapping[str, str]) -> str | None:
    """The training job's name: TRAINING_JOB_NAME, or SM_TRAINING_ENV's where mpirun passed only SM_*."""
    if environ.get("TRAINING_JOB_NAME"):
        return environ["TRAINING_JOB_NAME"]
    try:
        name = json.loads(environ.get("SM_TRAINING_ENV", "{}")).get("job_name")
    except (ValueError, AttributeError):
        return None
    return name if isinstance(name, str) and name else None


def _parse(text: str, source: str) -> ResourceConfig:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResourceConfigError(f"{source}: expected a JSON object, got text that is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise ResourceConfigError(f"{source}: expected a JSON object, got {_kind(config)}")
    current_host = _get(config, "current_host", str, source, "current_host")
    hosts = _host_names(config, "hosts", source, "hosts")
    if current_host not in hosts:
        raise ResourceConfigError(
            f"{source}: key 'current_host': expected one of 'hosts' ({', '.join(hosts)}), got {current_host!r}"
        )
    groups: list[tuple[str, str, tuple[str, ...]]] = []
    group_of: dict[str, str] = {}
    listed = config.get("instance_groups") or []
    if not isinstance(listed, list):
        raise ResourceConfigError(f"{source}: key 'instance_groups': expected a list of objects, got {_kind(listed)}")
    for number, group in enumerate(listed):
        key = f"instance_groups[{number}]"
        if not isinstance(group, dict):
            raise ResourceConfigError(f"{source}: key '{key}': expected an object, got {_kind(group)}")
        name = _get(group, "instance_group_name", str, source, f"{key}.instance_group_name")
        instance_type = _get(group, "instance_type", str, source, f"{key}.instance_type")
        members = _host_names(group, "hosts", source, f"{key}.hosts")
        if name in (known for known, _, _ in groups):
            raise ResourceConfigError(f"{source}: key '{key}.instance_group_name': group {name!r} stands there twice")
        for host in members:
            if host not in hosts:
                raise ResourceConfigError(f"{source}: key '{key}.hosts': {host!r} is not among 'hosts'")
            if host in group_of:
                raise ResourceConfigError(f"{source}: key '{key}.hosts': {host!r} is in group {group_of[host]!r} already")
            group_of[host] = name
        groups.append((name, instance_type, members))
    homeless = [host for host in hosts if groups and host not in group_of]
    if homeless:
        raise ResourceConfigError(
            f"{source}: key 'instance_groups': expected every host in a group, {', '.join(homeless)} is in none"
        )
    return ResourceConfig(source, current_host, hosts, tuple(groups))


def _get(mapping: dict[str, Any], key: str, kind: type, source: str, shown: str) -> Any:
    if key not in mapping:
        raise ResourceConfigError(f"{source}: key '{shown}' is missing (keys: {', '.join(map(str, mapping)) or 'none'})")
    value = mapping[key]
    if not isinstance(value, kind) or not value:
        raise ResourceConfigError(f"{source}: key '{shown}': expected a non-empty {_NAMES[kind]}, got {_kind(value)}")
    return value


def _host_names(mapping: dict[str, Any], key: str, source: str, shown: str) -> tuple[str, ...]:
    names = _get(mapping, key, list, source, shown)
    for name in names:
        if not isinstance(name, str) or not name:
            raise ResourceConfigError(f"{source}: key '{shown}': expected host names, got {_kind(name)} among them")
    if len(set(names)) != len(names):
        raise ResourceConfigError(f"{source}: key '{shown}': expected each host once, got {', '.join(names)}")
    return tuple(names)


_NAMES: dict[type, str] = {str: "string", list: "list", dict: "object"}


def _kind(value: Any) -> str:
    return f"{_NAMES.get(type(value), type(value).__name__)} {value!r}"[:120]
