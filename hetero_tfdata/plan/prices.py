"""Dollars per hour: the sourced ones, and those that a user gives. A price that nobody gave is an error, never a guess."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hetero_tfdata.cluster.instances import Instance, instances
from hetero_tfdata.errors import ConfigurationError

__all__ = ["PriceList", "described"]

_NEWEST = "2026-09"
_SOURCES = {
    "2022": "the published article (AWS, 2022, us-east-1)",
    "2026-09": "SageMaker training, us-east-1, on demand, AWS Price List read 2026-09-27",
}
_HEADER = ["instance_type", "usd_per_hour"]


@dataclass(frozen=True)
class PriceList:
    """Dollars per hour of instance types.

    Attributes:
        source: where they are from, in words.
        usd_per_hour: by instance type.
        name: how the user named it.
    """

    source: str
    usd_per_hour: Mapping[str, float]
    name: str

    @classmethod
    def of(cls, name: str = _NEWEST) -> PriceList:
        """The list of that date, or a file: a line of column names (instance_type, usd_per_hour), a line for each type, tabs
        between the columns, lines of `#` for where they are from. A file's prices go before those of the newest list; `-` is
        for a type that can't be had there.

        Raises:
            ConfigurationError: there is no such list or file, or a line of it is not understood.
        """
        if name in _SOURCES:
            found = {one.name: one.usd_per_hour[name] for one in instances().values() if name in one.usd_per_hour}
            return cls(_SOURCES[name], found, name)
        path = Path(name)
        if not path.is_file():
            raise ConfigurationError(f"--prices {name}: expected {', '.join(_SOURCES)} or a file, there is none of that name")
        newest = cls.of(_NEWEST)
        try:
            own = _parsed(path.read_text(encoding="utf-8"), name)
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(f"--prices {name}: can't be read: {error}") from None
        prices = {kind: price for kind, price in {**newest.usd_per_hour, **own}.items() if price is not None}
        return cls(f"{name}; what it lacks: {newest.source}", prices, name)

    def __contains__(self, instance_type: str) -> bool:
        return instance_type in self.usd_per_hour

    def usd(self, instance_type: str) -> float:
        """Dollars per hour.

        Raises:
            ConfigurationError: it is not known, with the way to give it.
        """
        if instance_type not in self.usd_per_hour:
            others = [name for name in _SOURCES if name != self.name and instance_type in PriceList.of(name)]
            way = f"--prices {others[0]} has one, or give" if others else "give"
            raise ConfigurationError(
                f"{instance_type}: its price is not known in {self.name}; {way} your own: --prices FILE with the lines "
                f"'instance_type<tab>usd_per_hour' and '{instance_type}<tab>1.23'"
            )
        return self.usd_per_hour[instance_type]


def described(name: str) -> Instance:
    """The instance type of that name, with or without "ml.".

    Raises:
        ConfigurationError: unknown, with near matches; or its vCPUs are not sourced.
    """
    known = instances()
    full = name if name.startswith("ml.") else f"ml.{name}"
    if full not in known:
        near = difflib.get_close_matches(full, known, 3, 0.75)
        meant = f"; did you mean {' or '.join(near)}?" if near else f" (known: {', '.join(sorted(known))})"
        raise ConfigurationError(f"instance type {name!r} is not known{meant}")
    if known[full].vcpu is None:
        raise ConfigurationError(f"{full}: its vCPUs are not sourced, so nothing can be predicted for it")
    return dataclasses.replace(known[full])


def _parsed(text: str, source: str) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    header: list[str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split()
        if not cells or line.startswith("#"):
            continue
        place = f"--prices {source}, line {number}"
        if header is None:
            if cells != _HEADER:
                raise ConfigurationError(f"{place}: expected the column names {' and '.join(_HEADER)}, got {line!r}")
            header = cells
            continue
        if len(cells) != 2 or cells[0] in found:
            raise ConfigurationError(f"{place}: expected an instance type, once, and dollars per hour, got {line!r}")
        if cells[1] == "-":
            found[cells[0]] = None
            continue
        try:
            price = float(cells[1])
        except ValueError:
            price = -1.0
        if not 0 < price < float("inf"):
            raise ConfigurationError(f"{place}: expected dollars per hour above 0, or -, got {cells[1]!r}")
        found[cells[0]] = price
    if header is None:
        raise ConfigurationError(f"--prices {source}: expected the column names {' and '.join(_HEADER)}, the file is empty")
    return found
