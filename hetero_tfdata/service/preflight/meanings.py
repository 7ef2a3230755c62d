"""What means something else when several workers share the dataset."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from hetero_tfdata.service.preflight.finding import Finding, Job
from hetero_tfdata.service.preflight.graph import ENDLESS, Graph
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["assigned_state", "few_sources", "fixed_seeds", "per_worker", "remainders", "zipped"]

_DIVIDES = [["2", str(minor)] for minor in range(12, 16)]
_MEANT = "per_worker"  # in the name of a scan's function, by who wants it so
_PASSES_ON = {"Map", "ParallelMap", "Prefetch", "Options", "Take", "Skip"}
_EXPANDS = {"FlatMap", "Interleave", "ParallelInterleave", "Unbatch"}
# rejection_resample is made of scans, zips and choices of its own, which come out right (probed: 20 of 20, each with its class)
_RESAMPLING = ("update_estimate_and_tile", "maybe_warn_on_large_rejection", "gather_and_copy", "select_dataset_varying_logits")


def per_worker(graph: Graph, job: Job) -> Iterator[Finding]:
    """Stages that count, compare or choose over the whole dataset, of which each worker has only a part."""
    if not job.is_split:
        return
    for stage in graph.stages:
        if stage.chooses or _resamples(graph, stage):
            continue
        if stage.kind == "Take" and (number := graph.value(stage, "count")) != -1:
            yield Finding(
                "take-per-worker",
                stage.call(number),
                f"{job.crowd} takes {number} of its own part: up to {number} times the number of workers come",
                "take after distribute(); or choose the files, before the dataset is made",
            )
        elif stage.kind == "Skip" and (number := graph.value(stage, "count")) != 0:
            yield Finding(
                "skip-per-worker",
                stage.call(number),
                f"{job.crowd} leaves out {number} of its own part, and nobody knows which",
                "skip after distribute(); or choose the files, before the dataset is made",
            )
        elif stage.kind == "TakeWhile":
            yield Finding(
                "take-while-per-worker",
                stage.call(),
                f"{job.crowd} ends by what is in its own part; the others go on",
                "take_while after distribute(), or filter()",
            )
        elif stage.kind == "Shard":
            number, index = graph.value(stage, "num_shards"), graph.value(stage, "index")
            yield Finding(
                "shard-again",
                stage.call(number, index),
                f"{job.crowd} has only a part and keeps every {number}th element of it, in no fixed order: wrong elements",
                "leave it out, distribute() gives each element to one rank; or choose the files, before the dataset is made",
            )
        elif stage.kind == "Unique":
            yield Finding(
                "unique-per-worker",
                stage.call(),
                "what two workers both have comes twice",
                "unique() after distribute(), or before the data is stored",
            )
        elif stage.kind == "Scan" and not _is_counter(graph, stage) and not _is_meant(stage):
            yield Finding(
                "scan-per-worker",
                stage.call(),
                f"{job.crowd} has a state of its own and sees only its part",
                "scan after distribute(), or derive from the element what the state is for; where a state for each worker is "
                f"what you want, say so in the function's name: ..._{_MEANT}",
            )
        elif stage.kind == "Interleave" and _doubles(stage):
            yield Finding(
                "interleave-doubles",
                stage.call(),
                f"TensorFlow {tf.__version__} doesn't divide it after shuffle(): every element comes from {job.crowd}",
                "interleave(..., num_parallel_calls=tf.data.AUTOTUNE), which is divided",
            )
        elif stage.kind == "Window":
            yield Finding(
                "window-per-worker",
                stage.call(graph.value(stage, "size")),
                "a window holds what one worker got, which are not neighbours of the source",
                "store the windows as elements; or window each file inside interleave(), a file is whole on one worker",
            )
        elif stage.kind == "Random" and not _feeds_zip(stage):
            yield Finding(
                "random-per-worker",
                stage.call(),
                f"{job.crowd} draws numbers of its own; with a seed all draw the same",
                "draw inside map() with stateless operations from a key of the sample",
            )
        elif stage.kind == "DirectedInterleave" and _chosen_by_order(graph, stage):
            yield Finding(
                "choice-per-worker",
                "choose_from_datasets()",
                "the choices are divided among the workers like the data: each follows a part of them, in no fixed order",
                "sample_from_datasets(), or choose after distribute()",
            )


def zipped(graph: Graph, job: Job) -> Iterator[Finding]:
    """Counters, which each worker starts anew, and pairs of sources, which are divided independently of each other."""
    if not job.is_split:
        return
    for stage in graph.stages:
        if stage.kind != "Zip" or stage.chooses or _resamples(graph, stage):
            continue
        if any(_resamples(graph, reader) or reader.kind == "Snapshot" for reader in stage.readers):
            continue
        counters = [one for one in stage.inputs if _is_counter(graph, one)]
        sources = [one for one in stage.inputs if one not in counters and not _only_random(one)]
        if counters and sources:
            enumerated = len(stage.inputs) == 2 and counters[0] is stage.inputs[0] and counters[0].kind == "Range"
            yield Finding(
                "counter-per-worker",
                "enumerate()" if enumerated else "zip() with a counter",
                f"{job.crowd} counts its own part: the same numbers come more than once (30 different ones for 60 records on "
                "two workers), and another record has them each time",
                "a number, key or seed that is stored with the record or follows from (file, position in the file); or "
                "enumerate() inside interleave(), file by file",
            )
        if len(sources) > 1:
            yield Finding(
                "zip-mispairs",
                f"zip() of {len(sources)} sources",
                "each source is divided independently of the others: elements meet that don't belong together, and some find "
                "no partner and are lost",
                "from_tensor_slices((x, y)), records that hold both, or zip() file by file inside interleave(); where any two "
                "may meet (mixup), repeat() each before zip()",
            )


def fixed_seeds(graph: Graph, job: Job) -> Iterator[Finding]:
    """Random operations that start from the same state on every worker, and again in every epoch."""
    # each worker shuffles its own part, so in a pass that never ends a seeded order is as good as another
    orders_matter = not job.is_split or not graph.is_endless(graph.result)
    seeded, copied = [], []
    for stage in graph.all_stages:
        if stage.chooses or _resamples(graph, stage):
            continue
        if stage.kind in ("Shuffle", "ShuffleAndRepeat") and orders_matter and _is_seeded(graph, stage):
            seeded.append(stage.call(graph.value(stage, "buffer_size"), "seed"))
        if stage.kind == "Random" and _is_seeded(graph, stage):
            seeded.append(stage.call("seed"))
        nodes = list(graph.operations_of(stage))
        # only operations with a state have both; stateless ones take their seed as a tensor
        drawn = sorted({node.op for node in nodes if "seed2" in node.attr and (node.attr["seed"].i or node.attr["seed2"].i)})
        if drawn:
            seeded.append(f"{stage.call()} ({', '.join(drawn[:3])})")
        if _draws_from_a_copy({node.op for node in nodes}):
            copied.append(stage.call())
    if job.is_split:
        meaning = f"{job.crowd} draws the same numbers, each for its own part"
    else:
        meaning = f"{job.crowd} delivers the same elements in the same order with the same augmentation"
    if not graph.is_endless(graph.result):
        meaning += ", and every pass that begins anew at distribute() draws them again"
    keyed = "stateless operations with a seed made of the sample's key (hetero_tfdata.augment does that)"
    if seeded:
        yield Finding(
            "fixed-seed",
            ", ".join(dict.fromkeys(seeded)),
            meaning,
            f"no seed (also no tf.random.set_seed before the dataset is made), or {keyed}",
        )
    if copied:
        yield Finding(
            "copied-generator",
            ", ".join(dict.fromkeys(copied)),
            f"its tf.random.Generator (Keras preprocessing layers have their like) is copied as it is now: {meaning}",
            f"tf.random.uniform and the like without a seed, or {keyed}",
        )


def assigned_state(graph: Graph, job: Job) -> Iterator[Finding]:
    """Variables and tables that functions read or change: workers have copies."""
    for stage in graph.all_stages:
        used = {node.op for node in graph.operations_of(stage)}
        if _draws_from_a_copy(used):
            pass  # said among the seeds
        elif _assigns(used):
            yield Finding(
                "variable-per-worker",
                stage.call(),
                f"it changes a variable, of which {job.crowd} has a copy; this process sees nothing of it",
                "count or collect after distribute()",
            )
        elif "ReadVariableOp" in used:
            yield Finding(
                "variable-copied",
                stage.call(),
                "the workers have the variable as it is now; what is assigned later doesn't reach them",
                "apply after distribute() what changes during training",
            )
        if used & {"LookupTableInsertV2", "LookupTableRemoveV2"}:
            yield Finding(
                "table-per-worker",
                stage.call(),
                f"it changes a table, of which {job.crowd} has a copy",
                "fill the table before distribute(), or change it after",
            )


def remainders(graph: Graph, job: Job) -> Iterator[Finding]:
    """Batches that drop their remainder, which each worker does for itself."""
    if not job.is_split:
        return
    for stage in graph.stages:
        if stage.kind not in ("Batch", "ParallelBatch", "PaddedBatch") or not graph.value(stage, "drop_remainder"):
            continue
        if not graph.is_endless(stage.inputs[0]):
            size = graph.value(stage, "batch_size")
            yield Finding(
                "remainder-per-worker",
                stage.call(size, "drop_remainder=True"),
                f"{job.crowd} drops its own last rows, up to {size - 1 if size else 'a batch less one'} in each pass",
                "repeat() before batch() for training; drop_remainder=False for evaluation, where each sample counts",
            )


def few_sources(graph: Graph, job: Job) -> Iterator[Finding]:
    """Sources of fewer pieces than there are workers: files, as a rule."""
    if not job.is_split:
        return
    wanted = max(2, job.workers or 0)
    for stage in graph.stages:
        if stage.inputs or stage.chooses or stage.kind not in ("TensorSlice", "List", "Range"):
            continue
        pieces = graph.count(stage)
        after = list(stage.downstream())
        if any(one.kind == "Repeat" for one in after):
            continue  # then the others are on the next pass already
        if pieces and pieces != ENDLESS and pieces < wanted and any(one.kind in _EXPANDS for one in after):
            working = "one worker gets" if pieces == 1 else f"{pieces} workers get"
            others = f"{wanted - pieces} of {job.workers}" if job.workers and job.workers > 1 else "any others"
            yield Finding(
                "few-sources",
                f"{stage.method}() of {pieces} {'element' if pieces == 1 else 'elements'}",
                f"the source is divided by its elements (files, as a rule): {working} all the work, {others} none",
                "more files, several for each worker",
            )


def _assigns(operations: set[str]) -> bool:
    return any(operation.startswith("Assign") and operation.endswith("VariableOp") for operation in operations)


def _draws_from_a_copy(operations: set[str]) -> bool:
    """tf.random.Generator, or what Keras 3 has in its place: a seed in a variable that moves on with each draw."""
    if any(operation.startswith("Rng") for operation in operations):
        return True
    return _assigns(operations) and any(operation.startswith("StatelessRandom") for operation in operations)


def _doubles(stage: Stage) -> bool:
    """Probed: all elements twice on two workers with TensorFlow 2.21.0, once with 2.12.1 and 2.15.1; parallel ones once."""
    return tf.__version__.split(".")[:2] not in _DIVIDES and any(one.kind == "Shuffle" for one in stage.upstream())


def _is_meant(stage: Stage) -> bool:
    return any(_MEANT in function for function in stage.functions)


def _resamples(graph: Graph, stage: Stage) -> bool:
    return any(name in function for function in stage.functions for name in _RESAMPLING)


def _is_seeded(graph: Graph, stage: Stage) -> bool:
    return any(graph.value(stage, name) for name in ("seed", "seed2"))


def _is_counter(graph: Graph, stage: Stage) -> bool:
    """Whether it does nothing but count: Dataset.range without end, Dataset.counter(), maps and zips of those."""
    if stage.kind == "Range":
        return graph.count(stage) == ENDLESS
    if stage.kind == "Scan":
        below = stage.inputs[0]
        return below.kind == "Repeat" and below.inputs[0].kind == "Tensor"
    if stage.kind in _PASSES_ON:
        return _is_counter(graph, stage.inputs[0])
    return stage.kind == "Zip" and all(_is_counter(graph, one) for one in stage.inputs)


def _only_random(stage: Stage) -> bool:
    roots = [one for one in (stage, *stage.upstream()) if not one.inputs]
    return all(root.kind == "Random" for root in roots)


def _feeds_zip(stage: Stage) -> bool:
    return any(one.kind == "Zip" for one in stage.downstream())


def _chosen_by_order(graph: Graph, stage: Stage) -> bool:
    selector = stage.inputs[0]
    return not _resamples(graph, stage) and not _only_random(selector) and not _resamples(graph, selector)
