"""The part of a dataset that is worth keeping: a run of map() steps whose results are the same whenever a record comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from hetero_tfdata.service.caching.functions import Functions, Part
from hetero_tfdata.service.caching.sameness import MAPS, Sameness
from hetero_tfdata.service.preflight.graph import Graph
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["Region", "find"]

# What stands between two map() steps of a run: it changes no element, so that both can be computed after it.
_BETWEEN = {
    "AssertCardinality",
    "Model",
    "Options",
    "Prefetch",
    "Repeat",
    "Shard",
    "Shuffle",
    "ShuffleAndRepeat",
    "Skip",
    "Take",
}
# A last step of only these makes elements larger for next to nothing: it is computed each time.
_CHEAP = {"AddV2", "Cast", "Const", "Identity", "Mul", "NoOp", "RealDiv", "Sub", "Sum", "OneHot", "Rsqrt", "Reciprocal"}
_COSTLY = ("Decode", "Resize", "ReadFile")


@dataclass(frozen=True)
class Value:
    """One component as a run makes it.

    Attributes:
        copy_of: the component of the run's input that it is; or None.
        inputs: the components of the run's input that it is made from.
        varies: what makes it differ; None: it is the same whenever its record comes.
    """

    copy_of: int | None
    inputs: frozenset[int]
    varies: str | None


@dataclass(frozen=True)
class Region:
    """What is kept.

    Attributes:
        maps: the run, in the order of the data.
        values: how each component of its last step comes about.
    """

    maps: tuple[Stage, ...]
    values: tuple[Value, ...]

    @property
    def source(self) -> Stage:
        """The dataset that the run reads."""
        return self.maps[0].inputs[0]

    @property
    def kept(self) -> tuple[int, ...]:
        """Components that are looked up."""
        return tuple(n for n, value in enumerate(self.values) if value.copy_of is None and value.varies is None)

    @property
    def fresh(self) -> tuple[int, ...]:
        """Components that are computed each time, from nothing of what is kept."""
        return tuple(n for n, value in enumerate(self.values) if value.copy_of is None and value.varies is not None)

    @property
    def key(self) -> tuple[int, ...]:
        """Components of the run's input by whose content is looked up."""
        return tuple(sorted(frozenset().union(*(self.values[n].inputs for n in self.kept))))

    @property
    def title(self) -> str:
        """The steps as the user wrote them: "map(parse), map(decode)"."""
        return ", ".join(stage.call() for stage in self.maps)

    def between(self) -> Iterator[Stage]:
        """The stages between the run's steps."""
        for first, last in zip(self.maps, self.maps[1:], strict=False):
            stage = last.inputs[0]
            while stage is not first:
                yield stage
                stage = stage.inputs[0]

    def parts(self, functions: Functions, outputs: tuple[int, ...], suffix: str, *, effects: bool) -> list[Part]:
        """Of each step, the part that is needed to make those components of the last one."""
        wanted, parts = outputs, []
        for stage in reversed(self.maps):
            part = functions.part(stage.node.attr["f"].func.name, wanted, suffix, effects=effects)
            parts.append(part)
            below = len(stage.inputs[0].types)
            wanted = tuple(one for one in part.inputs if one < below)
        return parts[::-1]


def find(graph: Graph, functions: Functions, sameness: Sameness) -> Region | str:
    """What is worth keeping; or, in a sentence, why nothing is."""
    found: dict[Stage, Region] = {}
    for stage in graph.stages:
        if stage.kind not in MAPS:
            continue
        below = _map_below(stage)
        before = found.get(below) if below else None
        region = _region((*before.maps, stage), functions, sameness) if before else None
        if before and region:
            del found[before.maps[-1]]
        region = region or _region((stage,), functions, sameness)
        if region:
            found[stage] = region
    regions = [_without_cheap_end(region, functions, sameness) for region in found.values()]
    if not regions:
        return _why_nothing(graph, sameness)
    return max(regions, key=lambda region: _work(region, functions))


def _map_below(stage: Stage) -> Stage | None:
    below = stage.inputs[0]
    while below.kind in _BETWEEN and len(below.readers) == 1:
        below = below.inputs[0]
    return below if below.kind in MAPS and len(below.readers) == 1 else None


def _region(maps: tuple[Stage, ...], functions: Functions, sameness: Sameness) -> Region | None:
    """The run, if something of it can be kept."""
    varying = sameness[maps[0].inputs[0]]
    values = [Value(number, frozenset([number]), reason) for number, reason in enumerate(varying)]
    for stage in maps:
        name = stage.node.attr["f"].func.name
        steady = frozenset(
            n for n in range(len(functions[name].signature.input_arg)) if n >= len(values) or not values[n].varies
        )
        if functions.effect_that_varies(name, steady):
            return None
        after = []
        for made, reason in zip(functions.made(name), sameness[stage], strict=True):
            if made.copy_of is not None and made.copy_of < len(values):
                after.append(values[made.copy_of])
                continue
            below = [values[number] for number in sorted(made.inputs) if number < len(values)]
            if reason and any(one.copy_of is None and not one.varies for one in below):
                return None  # it needs what would be kept: the run ends before this step
            after.append(Value(None, frozenset().union(*(one.inputs for one in below)), reason))
        values = after
    region = Region(maps, tuple(values))
    if not region.kept or not region.key:
        return None
    together = frozenset(region.key)
    if any(values[number].inputs & together for number in region.fresh):
        return None  # what is random is made from the same record: it would be decoded all the same
    types = [maps[-1].types[number] for number in region.kept]
    return None if tf.resource.as_datatype_enum in types else region


def _without_cheap_end(region: Region, functions: Functions, sameness: Sameness) -> Region:
    """Without last steps that make elements larger for next to nothing, such as a cast to float32."""
    while len(region.maps) > 1:
        last, before = region.maps[-1].element_bytes, region.maps[-2].element_bytes
        cheap = set(functions.operations(region.maps[-1].node.attr["f"].func.name)) <= _CHEAP
        shorter = _region(region.maps[:-1], functions, sameness)
        if not (cheap and last and before and last > before and shorter):
            break
        region = shorter
    return region


def _work(region: Region, functions: Functions) -> tuple[bool, int]:
    operations = [op for stage in region.maps for op in functions.operations(stage.node.attr["f"].func.name)]
    return any(op.startswith(_COSTLY) for op in operations), len(operations)


def _why_nothing(graph: Graph, sameness: Sameness) -> str:
    maps = [stage for stage in graph.stages if stage.kind in MAPS and any(sameness[stage]) and not sameness.is_of_files(stage)]
    if not maps:
        return "it has no map() step whose result is the same in every pass"
    stage = maps[0]
    reason = next(reason for reason in sameness[stage] if reason)
    if "puts other records together" in reason:
        return f"{reason}, before {stage.call()}. Instead: map(decode) on single records, before the batches are made"
    if reason.startswith(stage.call()):
        return (
            f"{reason}, and decodes in the same step. Instead: map(decode).map(augment), with all that is random in the second"
        )
    return f"what {stage.call()} makes differs in every pass: {reason}. Instead: map(decode) of the record alone before it"
