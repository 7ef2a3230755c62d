"""What an instance type has and costs: instances.tsv, whose first lines say where each column comes from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from hetero_tfdata.errors import ConfigurationError

__all__ = ["Instance", "instance", "instances", "parse"]

_FILE = "instances.tsv"
_PRICE = "usd_per_hour_"
_COLUMNS = ("instance_type", "vcpu", "memory_gib", "accelerators", "accelerator", "baseline_gbps")


@dataclass(frozen=True)
class Instance:
    """An instance type, each figure for one host; None where the figure is not sourced.

    Attributes:
        name: such as "ml.c5.18xlarge".
        vcpu: virtual CPUs.
        memory_gib: memory.
        accelerators: GPUs or the like; 0 on a CPU instance.
        accelerator: which, such as "A100-40GB"; None on a CPU instance.
        baseline_gbps: the link's sustained rate in Gbit/s. "Up to 10 Gbit/s" types have a burst above it.
        usd_per_hour: month or year of the price -> dollars, such as {"2026-09": 3.672, "2022": 3.672}; newest first, only
            those that are sourced.
    """

    name: str
    vcpu: int | None
    memory_gib: float | None
    accelerators: int | None
    accelerator: str | None
    baseline_gbps: float | None
    usd_per_hour: Mapping[str, float] = field(default_factory=dict, hash=False)


def instance(name: str) -> Instance | None:
    """The instance type of that name; None for one that the file doesn't have.

    Raises:
        ConfigurationError: the file is damaged; names line and column.
    """
    return instances().get(name)


@functools.cache
def instances() -> dict[str, Instance]:
    """All instance types of the file, by name.

    Raises:
        ConfigurationError: the file is damaged; names line and column.
    """
    return parse(resources.files("hetero_tfdata.cluster").joinpath(_FILE).read_text(encoding="utf-8"), _FILE)


def parse(text: str, source: str) -> dict[str, Instance]:
    """The instance types of a file like instances.tsv, by name.

    Args:
        text: lines of `#` comments, one of column names, one for each instance type, with tabs between the columns.
        source: what to call the file in messages.

    Raises:
        ConfigurationError: names line and column, what was expected and what came.
    """
    found: dict[str, Instance] = {}
    header: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        place = f"{source}, line {number}"
        cells = line.split("\t")
        if not header:
            header = _checked_header(cells, place)
            continue
        if len(cells) != len(header):
            raise ConfigurationError(f"{place}: expected {len(header)} columns, got {len(cells)}")
        row = dict(zip(header, cells, strict=True))
        name = row["instance_type"]
        if not name or name in found:
            raise ConfigurationError(f"{place}: expected an instance type that no other line has, got {name!r}")
        prices = {
            column.removeprefix(_PRICE).replace("_", "-"): price
            for column in header
            if column.startswith(_PRICE) and (price := _number(row, column, place)) is not None
        }
        found[name] = Instance(
            name=name,
            vcpu=_whole(row, "vcpu", place),
            memory_gib=_number(row, "memory_gib", place),
            accelerators=_whole(row, "accelerators", place),
            accelerator=row["accelerator"] or None,
            baseline_gbps=_number(row, "baseline_gbps", place),
            usd_per_hour=prices,
        )
    if not header:
        raise ConfigurationError(f"{source}: expected a line of column names ({', '.join(_COLUMNS)}), found none")
    return found


def _checked_header(names: list[str], place: str) -> list[str]:
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise ConfigurationError(f"{place}: expected the columns {', '.join(_COLUMNS)}; {', '.join(missing)} is not there")
    return names


def _number(row: Mapping[str, str], column: str, place: str) -> float | None:
    text = row[column]
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(f"{place}, column {column}: expected a number of at least 0 or nothing, got {text!r}")
    return value


def _whole(row: Mapping[str, str], column: str, place: str) -> int | None:
    value = _number(row, column, place)
    if value is not None and value != int(value):
        raise ConfigurationError(f"{place}, column {column}: expected a whole number or nothing, got {row[column]!r}")
    return None if value is None else int(value)
