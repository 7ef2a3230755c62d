"""When things happen to a run: starts of hosts, faults, ends."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from hetero_tfdata.emulate.faults import Fault
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.errors import ConfigurationError

__all__ = ["MAX_RUNTIME", "STOP", "TIME_LIMIT", "Course"]

# What ended a run, for its result.
TIME_LIMIT, STOP, MAX_RUNTIME = "time limit", "stop", "maximum runtime"
# From SIGTERM to SIGKILL: SageMaker's for a stopped job; who presses Ctrl-C waits less.
_STOP_GRACE_S = 120.0
_GRACE_S = 20.0


@dataclass(frozen=True)
class Course:
    """All times in seconds; those of a run count from the start of its first host.

    Attributes:
        timeout_s: the emulator's own limit; a run that reaches it has failed.
        stop_after_s: when the job is stopped as by StopTrainingJob; None: never.
        max_runtime_s: the job's MaxRuntimeInSeconds, when it is stopped likewise; None: never.
        stop_grace_s: from SIGTERM to SIGKILL, whatever ends a host. None: 120 in a run that may be stopped, as SageMaker
            gives; else 20.
        stagger_s: between the starts of two hosts, in random order; 0: all at once.
        faults: by time.
    """

    timeout_s: float
    stop_after_s: float | None = None
    max_runtime_s: float | None = None
    stop_grace_s: float | None = None
    stagger_s: float = 0.0
    faults: Sequence[Fault] = ()

    def __post_init__(self) -> None:
        for what, value in (
            ("a time limit", self.timeout_s),
            ("a stop after", self.stop_after_s),
            ("a maximum runtime", self.max_runtime_s),
        ):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigurationError(f"expected {what} of more than 0 seconds, got {value:g}")
        for what, value in (("a grace time", self.stop_grace_s), ("a stagger", self.stagger_s)):
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ConfigurationError(f"expected {what} of 0 seconds or more, got {value:g}")

    @property
    def grace_s(self) -> float:
        """From SIGTERM to SIGKILL."""
        if self.stop_grace_s is not None:
            return self.stop_grace_s
        return _GRACE_S if self.stop_after_s is None and self.max_runtime_s is None else _STOP_GRACE_S

    def ended_by(self, elapsed_s: float) -> str | None:
        """What ends the run at this time."""
        limits = ((self.stop_after_s, STOP), (self.max_runtime_s, MAX_RUNTIME), (self.timeout_s, TIME_LIMIT))
        reached = [(limit, name) for limit, name in limits if limit is not None and elapsed_s >= limit]
        return min(reached)[1] if reached else None

    def starts(self, hosts: Sequence[Host], seed: int | None) -> list[tuple[float, Host]]:
        """When each host comes up; a seed repeats their order."""
        order = list(hosts)
        if self.stagger_s:
            random.Random(seed).shuffle(order)
        return [(self.stagger_s * number, host) for number, host in enumerate(order)]
