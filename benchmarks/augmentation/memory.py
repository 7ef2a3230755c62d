"""Peak memory of the presets, in batches of their output above the same input merely batched.

A process of its own for each preset, for its input alone, and for each of two batch sizes; its largest resident size over some
batches once it is warm. XLA's code and the libraries do not grow with the batch: the slope between the two sizes is what the
preset holds in batches, and what remains is given as fixed MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentation.measure import Contender, Process

BATCHES = 16  # a process, after two for warming up

__all__ = ["Case", "all_cases", "batches_above_input", "measure"]


@dataclass(frozen=True)
class Case:
    """A preset.

    Attributes:
        name: the preset's.
        function: of presets_alone.py, with the preset.
        image_bytes: of one image of the output.
        sizes: the two batch sizes, images.
    """

    name: str
    function: str
    image_bytes: int
    sizes: tuple[int, int]


def all_cases() -> Sequence[Case]:
    """The presets that are measured."""
    jpeg = 224 * 224 * 3
    return (
        Case("cifar_heavy", "cifar_heavy", 32 * 32 * 3, (1024, 8192)),
        Case("mnist_heavy", "mnist_heavy", 28 * 28, (8192, 32_768)),
        Case("imagenet_train", "imagenet_train", jpeg, (128, 512)),
        Case("imagenet_eval", "imagenet_eval", jpeg, (128, 512)),
        Case("driving_train", "driving_train", 480 * 640 * 3, (16, 64)),
    )


def batches_above_input(
    peaks_kib: Sequence[int], input_kib: Sequence[int], sizes: Sequence[int], image_bytes: int
) -> dict[str, float]:
    """The preset's and the input's peaks at two batch sizes -> what grows with a batch, in batches, and what does not, in MiB.

    `at_larger` is the plain difference at the larger size, in batches, fixed part included.
    """
    above = [(peak - base) * 1024 for peak, base in zip(peaks_kib, input_kib, strict=True)]
    batch = [size * image_bytes for size in sizes]
    slope = (above[1] - above[0]) / (batch[1] - batch[0])
    return {"batches": slope, "fixed_mib": (above[0] - slope * batch[0]) / 2**20, "at_larger": above[1] / batch[1]}


def measure(case: Case, photographs: Path, logs: Path) -> dict[str, Any]:
    """Its peaks and what follows from them."""
    peaks: dict[str, list[int]] = {}
    for function in (case.function, f"{case.function}_input"):
        peaks[function] = [_peak_kib(function, size, photographs, logs) for size in case.sizes]
    preset, alone = peaks.values()
    figures = batches_above_input(preset, alone, case.sizes, case.image_bytes)
    return {**figures, "sizes": list(case.sizes), "peak_kib": preset, "input_peak_kib": alone}


def _peak_kib(function: str, batch: int, photographs: Path, logs: Path) -> int:
    contender = Contender.tensorflow(
        f"memory-{function}-{batch}", function, BATCHES, "presets_alone", function, folder=str(photographs), batch=batch
    )
    process = Process(contender, Path(sys.executable), logs / f"{contender.name}.log")
    try:
        process.wait_ready()
        process.turn(2)
        return process.turn(BATCHES).peak_kib
    finally:
        process.end()
