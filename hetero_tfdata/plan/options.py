"""The clusters that a plan compares, with their steps and their prices, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hetero_tfdata.cluster.instances import Instance, instances
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.model import Assumptions, Job, Prediction, predict
from hetero_tfdata.plan.prices import PriceList

__all__ = ["OBJECTIVES", "Option", "best", "data_types", "larger_sizes", "options"]

OBJECTIVES = ("cheapest", "fastest")
MOST_DATA_INSTANCES = 16  # SageMaker's default limit of instances in a training job is 20
# Steps closer than this are the same.
_SAME = 0.005
_ABOUT_SAME = 0.02  # of the costs of different types: fewer hosts have fewer ways to fail


@dataclass(frozen=True)
class Option:
    """One cluster.

    Attributes:
        train: type of the training hosts.
        train_count: how many.
        data: type of the data hosts; None without any.
        prediction: its step.
        usd_per_hour: of all its hosts.
    """

    train: Instance
    train_count: int
    data: Instance | None
    prediction: Prediction
    usd_per_hour: float

    @property
    def usd_per_1000_steps(self) -> float:
        """Dollars."""
        return self.usd_per_hour * self.prediction.step_ms / 3600.0

    @property
    def name(self) -> str:
        """Such as "1 ml.p4d.24xlarge + 2 ml.c5.18xlarge"."""
        data = f" + {self.prediction.data_instances} {self.data.name}" if self.data and self.prediction.data_instances else ""
        return f"{self.train_count} {self.train.name}{data}"

    def as_json(self) -> dict[str, Any]:
        """For programs; times in ms, money in dollars."""
        return {
            "train_instance": self.train.name,
            "train_count": self.train_count,
            "data_instance": self.data.name if self.data and self.prediction.data_instances else None,
            "data_instances": self.prediction.data_instances,
            "step_ms": self.prediction.step_ms,
            "input_ms": self.prediction.input_ms,
            "usd_per_hour": self.usd_per_hour,
            "usd_per_1000_steps": self.usd_per_1000_steps,
            "accelerator_utilisation": self.prediction.accelerator_utilisation,
            "bottleneck": self.prediction.bottleneck,
            "limit": self.prediction.limit,
        }


def options(
    job: Job,
    train: Instance,
    train_count: int,
    data: Instance,
    prices: PriceList,
    most: int | None = None,
    assumptions: Assumptions | None = None,
) -> list[Option]:
    """From no data host to `most`; None: to the first that no longer makes the step shorter, and at most 16.

    Raises:
        ConfigurationError: a price is not known.
    """
    base, each = train_count * prices.usd(train.name), prices.usd(data.name)
    found: list[Option] = []
    for count in range((MOST_DATA_INSTANCES if most is None else most) + 1):
        prediction = predict(job, train, train_count, data, count, assumptions)
        found.append(Option(train, train_count, data, prediction, base + count * each))
        if most is None and count and prediction.step_ms > found[-2].prediction.step_ms * (1 - _SAME):
            break
    return found


def best(found: Sequence[Option], objective: str = "cheapest", usd_per_hour_at_most: float | None = None) -> Option:
    """The cheapest per step, or the fastest, within a budget where there is one; of equals the one with fewer data hosts, and
    of several types of data hosts whose best clusters lie within 2 % of each other the one of which the fewest are needed.

    Raises:
        ConfigurationError: none is within the budget.
    """
    affordable = [one for one in found if usd_per_hour_at_most is None or one.usd_per_hour <= usd_per_hour_at_most]
    if not affordable:
        least = min(one.usd_per_hour for one in found)
        raise ConfigurationError(
            f"--usd-per-hour-at-most {usd_per_hour_at_most:g}: expected at least what the smallest cluster costs, {least:.3f}"
        )

    def cost(one: Option) -> float:
        return one.usd_per_1000_steps if objective == "cheapest" else one.prediction.step_ms

    winners = []
    for data in dict.fromkeys(one.data.name if one.data else None for one in affordable):
        same = [one for one in affordable if (one.data.name if one.data else None) == data]
        least = min(map(cost, same))
        equals = [one for one in same if cost(one) <= least * (1 + _SAME)]
        winners.append(min(equals, key=lambda one: (one.usd_per_hour, one.prediction.data_instances)))
    least = min(map(cost, winners))
    near = [one for one in winners if cost(one) <= least * (1 + _ABOUT_SAME)]
    return min(near, key=lambda one: (one.prediction.data_instances, cost(one)))


def data_types(prices: PriceList) -> list[Instance]:
    """Types without an accelerator that have a price and known vCPUs, cheapest first."""
    found = [one for one in instances().values() if not one.accelerators and one.vcpu and one.name in prices]
    return sorted(found, key=lambda one: prices.usd(one.name))


def larger_sizes(train: Instance, prices: PriceList) -> Iterable[Instance]:
    """Of the same family, with as many of the same accelerators and more vCPUs; those without a price too."""
    family = train.name.split(".")[1]
    for one in sorted(instances().values(), key=lambda one: one.vcpu or math.inf):
        same = one.name.split(".")[1] == family and one.accelerators == train.accelerators
        if same and one.vcpu and train.vcpu and one.vcpu > train.vcpu:
            yield one
