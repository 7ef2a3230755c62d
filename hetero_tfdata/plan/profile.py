"""What was measured of an input graph, as a file that `plan` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.files import write

__all__ = ["LEAST_BUSY", "Profile", "StageCost"]

_FORMAT = 1
# Of the CPUs: tf.data leaves up to a fifth idle of itself (measured: 7 to 12 %, with and without quotas). A graph that leaves
# more waits for something else, such as files, which other hosts' CPUs would not shorten.
LEAST_BUSY = 0.8


@dataclass(frozen=True)
class StageCost:
    """One stage of the graph.

    Attributes:
        stage: as the user wrote it: "map(augment)".
        cpu_ms_per_sample: what it adds to the stages before it.
        share: of the whole graph's.
    """

    stage: str
    cpu_ms_per_sample: float
    share: float


@dataclass(frozen=True)
class Profile:
    """A graph's cost.

    Attributes:
        dataset: the MODULE:FUNCTION that made it.
        graph: a fingerprint of its stages and element_spec.
        cpu_ms_per_sample: vCPU-milliseconds a sample, in a steady state with all CPUs taken: CPU time, and what the graph
            leaves idle of the CPUs although more samples are wanted (at most a fifth).
        cpus_busy: the part of this machine's CPUs that worked meanwhile.
        wire_bytes_per_sample: as distribute() sends it.
        samples_per_s: that this machine made.
        memory_mib: that the graph took at most, above what the process had before.
        stages: from the source on.
        machine: CPU model, CPUs, TensorFlow, date.
        accelerator_ms_per_step: of the training step with a batch that is there already; None: not measured.
        batch_size: samples of that batch.
        float32_bytes_per_sample: of the bytes on the wire, those that are float32.
    """

    dataset: str
    graph: str
    cpu_ms_per_sample: float
    cpus_busy: float
    wire_bytes_per_sample: float
    samples_per_s: float
    memory_mib: float
    stages: Sequence[StageCost]
    machine: Mapping[str, Any] = field(default_factory=dict)
    accelerator_ms_per_step: float | None = None
    batch_size: int | None = None
    float32_bytes_per_sample: float = 0.0

    def write(self, path: Path) -> None:
        """Replaces the file in one step."""
        write(path, json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n", "the profile")

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Raises ConfigurationError: it is no profile."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") != _FORMAT:
                raise ValueError("it has another format")
            profile = cls(**{**values, "stages": tuple(StageCost(**stage) for stage in values["stages"])})
            numbers = (profile.cpu_ms_per_sample, profile.wire_bytes_per_sample, profile.accelerator_ms_per_step or 1.0)
            if not all(0 < number < math.inf for number in numbers):
                raise ValueError(f"expected numbers above 0, got {numbers}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigurationError(
                f"--profile {path}: expected a file that `hetero-tfdata measure` wrote: {type(error).__name__}: {error}"
            ) from None
        return profile
