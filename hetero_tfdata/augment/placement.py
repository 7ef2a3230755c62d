"""In what order a chain's operations cost least, and which of them belong beside the accelerator.

Nothing moves unless the pixels stay the same, to the bit: an operation keeps its random numbers wherever it goes
(Chain.positions), and two operations change places only if the table below says that they commute exactly.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from hetero_tfdata.augment.chain import Chain, flat
from hetero_tfdata.augment.cropping import CenterCrop
from hetero_tfdata.augment.filters import Dilation, Erosion
from hetero_tfdata.augment.geometry import RandomFlip
from hetero_tfdata.augment.normalization import Normalize
from hetero_tfdata.augment.op import Op, TableOp

__all__ = ["Plan", "Split", "Stage", "commute", "plan", "split"]

# Each value by itself, whatever its place.
_BY_VALUE = (TableOp,)
# Each pixel of the result is one pixel of the input; none is computed or invented.
_BY_PLACE = (RandomFlip, CenterCrop)
# A square neighbourhood looks the same in a mirror, and a maximum does not depend on the order.
_SYMMETRIC = (Dilation, Erosion)


@dataclass(frozen=True)
class Stage:
    """An operation of a plan.

    Attributes:
        op: the operation.
        bytes_out: of one sample after it.
        cpu_us: CPU microseconds a sample, from the measured costs (costs.tsv); None where it was not measured.
    """

    op: Op
    bytes_out: int
    cpu_us: float | None


@dataclass(frozen=True)
class Plan:
    """A chain in the order in which it costs least.

    Attributes:
        chain: the operations in that order; the same pixels as before.
        stages: what each makes of a sample.
        moves: what changed places, in words.
    """

    chain: Chain
    stages: tuple[Stage, ...]
    moves: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{'operation':<48}{'bytes out':>12}{'CPU us':>10}"]
        lines += [f"{stage.op!r:<48.47}{stage.bytes_out:>12,}{_microseconds(stage.cpu_us):>10}" for stage in self.stages]
        return "\n".join([*lines, *(f"moved: {move}" for move in self.moves)])


@dataclass(frozen=True)
class Split:
    """A chain in two parts, which give the same pixels one after the other as the whole.

    Attributes:
        data: runs on the CPU hosts.
        accelerator: runs behind the wire; may be empty.
        stages: of both parts; the first `len(data)` operations are the data part's.
        wire_bytes: of one sample between them.
        cpu_us: CPU microseconds a sample on the data hosts; None where an operation was not measured.
        moves: what changed places or sides, in words.
    """

    data: Chain
    accelerator: Chain
    stages: tuple[Stage, ...]
    wire_bytes: int
    cpu_us: float | None
    moves: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"data hosts:  {self.data!r}",
                f"             {_microseconds(self.cpu_us)} CPU us and {self.wire_bytes:,} bytes a sample",
                f"accelerator: {self.accelerator!r}",
                *(f"moved: {move}" for move in self.moves),
            ]
        )


def commute(first: Op, second: Op) -> bool:
    """Whether the two give the same pixels, to the bit, in either order."""
    for one, other in ((first, second), (second, first)):
        if isinstance(one, _BY_VALUE) and isinstance(other, _BY_PLACE):
            return True
        if isinstance(one, RandomFlip) and isinstance(other, _SYMMETRIC):
            return True
    return False


def plan(chain: Chain, height: int, width: int, channels: int = 3) -> Plan:
    """Orders what commutes so that what shrinks a sample comes first.

    Args:
        chain: the chain as written.
        height: of its input images.
        width: of its input images.
        channels: of its input images.
    """
    entries = list(zip(flat(chain.ops), chain.all_positions, strict=True))
    moves = []
    swapped = True
    while swapped:
        swapped = False
        size = (height, width)
        for number in range(len(entries) - 1):
            (first, first_place), (second, second_place) = entries[number : number + 2]
            after_first = first.output_size(*size)
            if commute(first, second) and _shrinks(second, after_first) < _shrinks(first, size):
                moves.append(f"{second!r} before {first!r}: it leaves {_shrinks(second, after_first):.0%} of the bytes")
                entries[number : number + 2] = [(second, second_place), (first, first_place)]
                swapped = True
                break
            size = after_first
    ordered = dataclasses.replace(chain, ops=[op for op, _ in entries], positions=[place for _, place in entries])
    return Plan(ordered, _stages([op for op, _ in entries], height, width, channels), tuple(moves))


def split(chain: Chain, height: int, width: int, channels: int = 3) -> Split:
    """The part of a planned chain for the CPU hosts, and the part for the accelerator.

    From the end of the chain on, operations that work value by value, normalise or mirror go to the accelerator, where they
    cost next to nothing, as long as no more bytes have to cross the wire for it. A random one stays if its numbers come from a
    fingerprint of the whole chain's input, which the accelerator does not see.
    """
    planned = plan(chain, height, width, channels)
    ops, places = flat(planned.chain.ops), planned.chain.all_positions
    sizes = [height * width * channels, *(stage.bytes_out for stage in planned.stages)]
    keyed = chain.seed is None or chain.key is not None
    cut = len(ops)
    while cut > 0:
        op = ops[cut - 1]
        movable = isinstance(op, (*_BY_VALUE, Normalize, RandomFlip)) and (keyed or not op.is_random)
        if not movable or sizes[cut - 1] > sizes[cut]:
            break
        cut -= 1
    moves = (*planned.moves, *(f"{op!r} to the accelerator" for op in ops[cut:]))
    costs = [stage.cpu_us for stage in planned.stages[:cut]]
    return Split(
        data=dataclasses.replace(chain, ops=ops[:cut], positions=places[:cut]),
        accelerator=dataclasses.replace(chain, ops=ops[cut:], positions=places[cut:]),
        stages=planned.stages,
        wire_bytes=sizes[cut],
        cpu_us=None if None in costs else sum(cost for cost in costs if cost is not None),
        moves=moves,
    )


def _shrinks(op: Op, size: tuple[int, int]) -> float:
    """Bytes after / bytes before."""
    height, width = op.output_size(*size)
    return height * width / (size[0] * size[1])


def _stages(ops: Sequence[Op], height: int, width: int, channels: int) -> tuple[Stage, ...]:
    stages = []
    for op in ops:
        values = height * width * channels
        height, width = op.output_size(height, width)
        cost = _costs().get(type(op).__name__)
        stages.append(
            Stage(op, height * width * channels * op.output_dtype.size, None if cost is None else cost * values / 1000)
        )
    return tuple(stages)


@functools.cache
def _costs() -> dict[str, float]:
    """Operation -> CPU nanoseconds a value of its input; written by `make bench-augment_costs`."""
    text = resources.files("hetero_tfdata.augment").joinpath("costs.tsv").read_text()
    rows = csv.DictReader((line for line in text.splitlines() if not line.startswith("#")), delimiter="\t")
    return {row["operation"]: float(row["cpu_ns_per_value"]) for row in rows}


def _microseconds(cost: float | None) -> str:
    return "?" if cost is None else f"{cost:,.0f}"
