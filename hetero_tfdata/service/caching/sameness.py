"""Which components of a dataset's elements are the same whenever a record comes, and what makes the others differ."""

from __future__ import annotations

from hetero_tfdata.service.caching.functions import Functions
from hetero_tfdata.service.preflight.graph import ENDLESS, Graph
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["PASS_LAST", "Sameness"]

# In the name of a function whose last component is the number of the pass, and the others follow from the file and record:
# those of files().
PASS_LAST = "pass_last"
MAPS = {"Map", "ParallelMap"}
_UNCHANGED = {
    "AssertCardinality",
    "Cache",
    "Filter",
    "IgnoreErrors",
    "Model",
    "Options",
    "ParallelFilter",
    "Prefetch",
    "Repeat",
}
_UNCHANGED |= {"Shard", "Shuffle", "ShuffleAndRepeat", "Skip", "Sleep", "Take", "TakeWhile", "Unique"}
_OPENS = {"FlatMap", "Interleave", "LegacyParallelInterleave", "ParallelInterleave"}
_GATHERS = {"Batch", "GroupByReducer", "GroupByWindow", "MapAndBatch", "PaddedBatch", "ParallelBatch", "Rebatch", "Scan"}
_GATHERS |= {"SlidingWindow", "Window"}


class Sameness:
    """Of each stage and component: None where it is the same whenever its record comes, or what makes it differ.

    Args:
        graph: the dataset's.
        functions: the graph's.
    """

    def __init__(self, graph: Graph, functions: Functions) -> None:
        self._graph = graph
        self._functions = functions
        self._of: dict[Stage, list[str | None]] = {}
        for stage in graph.stages:
            self._of[stage] = self._components(stage)

    def __getitem__(self, stage: Stage) -> list[str | None]:
        return self._of[stage]

    def _components(self, stage: Stage) -> list[str | None]:
        count = len(stage.types)
        below = [self._of[one] for one in stage.inputs]
        first = below[0] if below else []
        if self.is_of_files(stage) and not self._draws(stage):
            return [None] * (count - 1) + ["it is the number of the pass"]
        if not below:
            return [self._source(stage)] * count
        if stage.kind in _UNCHANGED and len(first) == count:
            return list(first)
        if stage.kind == "Zip":
            return [reason for components in below for reason in components]
        if stage.kind == "Concatenate" and all(len(components) == count for components in below):
            return [next(filter(None, reasons), None) for reasons in zip(*below, strict=True)]
        if stage.kind == "DirectedInterleave" and all(len(components) == count for components in below[1:]):
            return [next(filter(None, reasons), None) for reasons in zip(*below[1:], strict=True)]
        if stage.kind in MAPS:
            return self._mapped(stage, first)
        if stage.kind in _OPENS:
            return [self._opened(stage) or next(filter(None, first), None)] * count
        if stage.kind in _GATHERS:
            return [f"{stage.call()} puts other records together in every pass"] * count
        if any(below):
            return [next((reason for one in below for reason in one if reason), f"{stage.call()} may change it")] * count
        return [f"{stage.call()} may change it"] * count

    def is_of_files(self, stage: Stage) -> bool:
        """Whether it is a step of files()."""
        return stage.kind in MAPS | _OPENS and PASS_LAST in stage.node.attr["f"].func.name

    def _draws(self, stage: Stage) -> bool:
        """Whether its function does something else each time it is given the same."""
        if stage.kind in _OPENS:
            return self._opened(stage) is not None
        return any(made.unsteady for made in self._functions.made(stage.node.attr["f"].func.name))

    def _source(self, stage: Stage) -> str | None:
        if stage.kind == "Random" or (stage.kind == "Range" and self._graph.count(stage) == ENDLESS):
            return f"{stage.call()} gives other numbers in every pass"
        return None

    def _mapped(self, stage: Stage, first: list[str | None]) -> list[str | None]:
        components: list[str | None] = []
        for made in self._functions.made(stage.node.attr["f"].func.name):
            reason = f"{stage.call()} uses {made.unsteady}" if made.unsteady else None
            # arguments beyond the element's components are what the function captured: the same on each call
            components.append(
                reason or next((first[one] for one in sorted(made.inputs) if one < len(first) and first[one]), None)
            )
        return components

    def _opened(self, stage: Stage) -> str | None:
        """A dataset that is made for each file: nothing random may be in it. Its shuffles only order whole elements."""
        operations = list(self._graph.operations_of(stage))
        used = {node.op for node in operations}
        shuffled = any("Shuffle" in op for op in used)
        if shuffled and any("Batch" in op or "Window" in op for op in used):
            return f"{stage.call()} puts other records together in every pass"
        for node in operations:
            if node.op.startswith("RandomDataset"):
                return f"{stage.call()} uses Dataset.random"
            if "Dataset" in node.op or node.op.endswith(("SeedGenerator", "MemoryCache", "SeedGeneratorHandle")):
                continue
            unsteady = self._functions.unsteady_node(node)
            if unsteady and "Dataset" not in unsteady and not unsteady.endswith(("SeedGenerator", "MemoryCache")):
                return f"{stage.call()} uses {unsteady}"
        return None
