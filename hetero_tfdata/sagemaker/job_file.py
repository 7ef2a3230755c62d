"""job.toml: a job as a file in its source folder. Every name in it is one of `Job`, `Channel` or `Group`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hetero_tfdata.emulate.job import Group
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.sagemaker.channel import Channel, FileSystem
from hetero_tfdata.sagemaker.job import Job

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["FILE", "read"]

FILE = "job.toml"
_OWN = {"distribution", "groups", "channels", "source_dir", "processes_per_host", "mpi_options"}
_PLAIN = [one.name for one in fields(Job) if one.name not in _OWN]
_TABLES = ["groups", "distribution", "channels"]


def read(path: Path | str) -> Job:
    """The job of a file, or of the job.toml in a folder.

    Raises:
        ConfigurationError: it can't be read, something in it is unknown or has the wrong kind, or a rule is broken; one line
            that begins with the file.
    """
    place = Path(path)
    file = place / FILE if place.is_dir() else place
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: expected a job file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise ConfigurationError(f"{file}: expected TOML: {error}") from None
    try:
        return _job(content, file.parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _job(content: Mapping[str, Any], folder: Path) -> Job:
    _known(content, [*_PLAIN, *_TABLES], "")
    plain = {name: _kind(name, value, _kinds()[name]) for name, value in content.items() if name in _PLAIN}
    groups = [_group(name, told) for name, told in _tables(content, "groups").items()]
    if not groups:
        raise ConfigurationError("expected instance groups, such as [groups.dnn_group] with instance_type and count")
    channels = {}
    for name, told in _tables(content, "channels").items():
        try:
            channels[name] = _channel(told)
        except ConfigurationError as error:
            raise ConfigurationError(f"channels.{name}: {error}") from None
    return Job(source_dir=folder, groups=groups, channels=channels, **_distribution(content.get("distribution")), **plain)


def _distribution(told: Any) -> dict[str, Any]:
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise ConfigurationError('distribution: expected a table, such as [distribution] with group = "dnn_group"')
    _known(told, ["group", "processes_per_host", "mpi_options"], "distribution.")
    group = told.get("group")
    if not isinstance(group, str):
        raise ConfigurationError(f"distribution.group: expected the name of one group (SageMaker's rule), got {group!r}")
    found: dict[str, Any] = {"distribution": group}
    if "processes_per_host" in told:
        found["processes_per_host"] = _kind("distribution.processes_per_host", told["processes_per_host"], int)
    if "mpi_options" in told:
        found["mpi_options"] = _kind("distribution.mpi_options", told["mpi_options"], str)
    return found


def _group(name: str, told: Any) -> Group:
    _known(told, ["instance_type", "count"], f"groups.{name}.")
    if "instance_type" not in told:
        raise ConfigurationError(f"groups.{name}: expected an instance_type")
    kind = _kind(f"groups.{name}.instance_type", told["instance_type"], str)
    if kind.startswith("local"):
        raise ConfigurationError(f"groups.{name}: SageMaker's local mode refuses groups; `hetero-tfdata emulate` runs them")
    return Group(name, kind, _kind(f"groups.{name}.count", told.get("count", 1), int))


def _channel(told: Any) -> Channel:
    _known(told, ["s3", "file_system", "groups", "input_mode", "local"], "")
    system = told.get("file_system")
    if system is not None:
        if not isinstance(system, dict) or system.keys() != {"id", "type", "directory"}:
            raise ConfigurationError('expected file_system = {id = "fs-...", type = "FSxLustre", directory = "/..."}')
        system = FileSystem(**{name: _kind(f"file_system.{name}", value, str) for name, value in system.items()})
    plain = {name: _kind(name, told[name], str) for name in ("s3", "input_mode", "local") if name in told}
    groups = told.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(one, str) for one in groups):
        raise ConfigurationError(f"groups: expected a list of names, got {groups!r}")
    return Channel(file_system=system, groups=groups, **plain)


def _tables(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    told = content.get(name, {})
    if not isinstance(told, dict) or not all(isinstance(one, dict) for one in told.values()):
        raise ConfigurationError(f"{name}: expected tables such as [{name}.NAME]")
    return told


def _kinds() -> dict[str, Any]:
    texts = {"name", "entry_point", "framework_version", "image_uri", "checkpoints", "output", "role"}
    numbers = {"max_runtime_s", "max_wait_s", "keep_alive_s", "volume_gib"}
    lists = {"subnets", "security_groups"}
    tables = {"hyperparameters", "environment", "tags"}
    kinds: dict[str, Any] = dict.fromkeys(texts, str) | dict.fromkeys(numbers, int)
    kinds |= dict.fromkeys(lists, list) | dict.fromkeys(tables, dict)
    return kinds | {name: bool for name in _PLAIN if name not in kinds}


def _kind(name: str, value: Any, kind: Any) -> Any:
    words = {str: "text", int: "a whole number", bool: "true or false", list: "a list of texts", dict: "a table"}
    fits = type(value) is kind and (kind is not list or all(isinstance(one, str) for one in value))
    if name in ("environment", "tags") and fits:
        fits = all(isinstance(one, str) for one in value.values())
    if not fits:
        raise ConfigurationError(f"{name}: expected {words[kind]}, got {value!r}")
    return value


def _known(told: Any, names: list[str], place: str) -> None:
    for name in told:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise ConfigurationError(
                f"{place}{name} is unknown" + (f"; did you mean {place}{near[0]}?" if near else f" (known: {', '.join(names)})")
            )
