"""What was seen of a job that ran: how busy each of its hosts was, and how its steps spent their time."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hetero_tfdata.cluster.instances import Instance, instance

__all__ = ["HostLoad", "Observed", "StepTimes", "groups_told", "steps_told"]

_EPOCH = re.compile(
    r"hetero_tfdata: epoch \d+: (?P<steps>\d+) steps, (?P<step_ms>[\d.]+) ms/step"
    r"(?:, input wait (?P<wait_ms>[\d.]+) ms/step)?(?:, input-bound [\d.]+ %)?(?:, (?P<images_per_s>[\d.]+) images/s)?"
)
# of the toolkit's "Training Env", and of its command lines
_GROUP = re.compile(r'"?(?:current_instance_group|SM_CURRENT_INSTANCE_GROUP)"?\s*[=:]\s*"?(?P<group>[\w-]+)')


@dataclass(frozen=True)
class HostLoad:
    """How busy a host was: parts of what it has, from 0 to 1; None where nobody measured it.

    Attributes:
        host: such as "algo-1".
        group: its instance group; None where it can't be told.
        instance_type: such as "ml.p4d.24xlarge"; None likewise.
        cpu: of its vCPUs, or of the quota of an emulated host.
        accelerator: of its GPUs.
        accelerator_memory: of theirs.
        memory: of its own.
        disk: of the space.
        link: of the link's rate, in the busier direction.
        vcpus: that `cpu` is a part of, where they are fewer than the type's: an emulated host's quota.
        series: figure -> (minutes since the first point, part), where there is a course.
    """

    host: str
    group: str | None
    instance_type: str | None
    cpu: float | None = None
    accelerator: float | None = None
    accelerator_memory: float | None = None
    memory: float | None = None
    disk: float | None = None
    link: float | None = None
    vcpus: float | None = None
    series: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict, repr=False)

    @property
    def instance(self) -> Instance | None:
        """The facts of its type; None where they are not known."""
        return instance(self.instance_type) if self.instance_type else None

    @property
    def has_accelerators(self) -> bool:
        """By its type, else by what was measured."""
        known = self.instance
        return bool(known.accelerators) if known and known.accelerators is not None else self.accelerator is not None


@dataclass(frozen=True)
class StepTimes:
    """The steps of a job, as the leader's step timer told them: means of an epoch, the median of the epochs.

    Attributes:
        step_ms: from the end of one step to the end of the next.
        input_wait_ms: what of it went by until the batch was there; None where nobody timed it.
        images_per_s: of all ranks together.
    """

    step_ms: float
    input_wait_ms: float | None = None
    images_per_s: float | None = None

    @property
    def global_batch_size(self) -> int | None:
        """Samples of a step."""
        return None if self.images_per_s is None else round(self.images_per_s * self.step_ms / 1000)


@dataclass(frozen=True)
class Observed:
    """All that was seen.

    Attributes:
        job: its name.
        source: where the figures are from, in words.
        hosts: by name.
        steps: None where no step timer's line was found.
        notes: what else a reader should know.
    """

    job: str
    source: str
    hosts: tuple[HostLoad, ...]
    steps: StepTimes | None = None
    notes: tuple[str, ...] = ()


def steps_told(lines: Iterable[str]) -> StepTimes | None:
    """Of the step timer's lines in a log. The first epoch is left out where there are others: it compiles."""
    found = [match.groupdict() for line in lines if (match := _EPOCH.search(line))]
    if not found:
        return None
    kept = found[1:] or found
    waits, rates = ([float(one[name]) for one in kept if one[name]] for name in ("wait_ms", "images_per_s"))
    return StepTimes(
        statistics.median(float(one["step_ms"]) for one in kept),
        statistics.median(waits) if waits else None,
        statistics.median(rates) if rates else None,
    )


def groups_told(lines: Iterable[str]) -> str | None:
    """The instance group that a host's log names as its own; None: it names none."""
    return next((match["group"] for line in lines if (match := _GROUP.search(line))), None)
