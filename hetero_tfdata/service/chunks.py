"""How the elements of one dataset travel: cut into chunks on the worker, joined on the trainer, or whole.

A batch is joined to the size that it had, so that size has to be known, on every rank, without running anything. It is read
from the dataset's last batching step. What follows that step may change the number of rows (a mask, a reshape), so the shapes
of each function are inferred anew with the batch size put in; where they don't say that as many rows come out, nothing is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.service.wire import Wire

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["BATCHING", "Passage", "batch_rows", "chunk_rows", "has_batches"]

# Chunks have to be joined, which is one more copy of everything on the trainer. What they save is memory that is taken from
# the system and given back for every batch: glibc does that from 32 MB on. Stock uint8 photographs without compression against
# the same in 2.4 MB and joined, images/s and CPU microseconds an image on the trainer: 9.6 MB 8,070 and 68, 7,180 and 89;
# 19 MB 7,040 and 72, 7,050 and 75; 38.5 MB 3,390 and 148, 6,190 and 83 (TF 2.15.1, 2 CPUs, 2026-11-24).
_CUT_FROM = 8  # times chunk_bytes


@dataclass(frozen=True)
class Passage:
    """How the elements of one dataset travel.

    Attributes:
        element_spec: the dataset's.
        batch: rows of a batch that is cut and joined; None: elements travel whole.
        chunk: rows of a chunk; `batch` where a batch is one message.
        dtypes: of each component (`tf.nest.flatten`) the name under which it travels, None: its own.
        why_whole: why nothing is cut, for the log; empty otherwise.
    """

    element_spec: Any
    batch: int | None
    chunk: int | None
    dtypes: tuple[str | None, ...]
    why_whole: str = ""

    @classmethod
    def plan(cls, dataset: tf.data.Dataset, wire: Wire) -> Passage:
        """Raises ConfigurationError: the wire's dtypes don't fit the dataset."""
        import tensorflow as tf

        spec = dataset.element_spec
        dtypes = tuple(_narrowed(spec, wire.dtypes, ""))
        why, batch = _cuttable(dataset, wire)
        if batch is None:
            return cls(spec, None, None, dtypes, why)
        row_bytes = 0
        for component, dtype in zip(tf.nest.flatten(spec), dtypes, strict=True):
            size = tf.as_dtype(dtype or component.dtype).size
            row_bytes += size * component.shape[1:].num_elements()
        return cls(spec, batch, chunk_rows(batch, row_bytes, wire.chunk_bytes), dtypes)

    def __str__(self) -> str:
        if self.batch is None:
            how = f"elements travel whole: {self.why_whole}"
        elif self.chunk == self.batch:
            how = f"batches of {self.batch} travel as they are"
        else:
            how = f"batches of {self.batch} travel in chunks of {self.chunk} rows"
        narrowed = sorted({dtype for dtype in self.dtypes if dtype})
        return how + (f", float32 as {', '.join(narrowed)}" if narrowed else "")

    def pack(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """What the workers run: the dataset, narrowed and cut."""
        if any(self.dtypes):
            dataset = dataset.map(self._over_components(self._narrow))
        if self.batch is not None and self.chunk != self.batch:
            dataset = dataset.rebatch(self.chunk)
        return dataset

    def unpack(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """On the trainer: back to batches of the dataset's own spec."""
        if self.batch is not None:
            dataset = dataset.rebatch(self.batch, drop_remainder=self._is_static())
        if any(self.dtypes):
            import tensorflow as tf

            dataset = dataset.map(self._over_components(self._widen), num_parallel_calls=tf.data.AUTOTUNE)
        return dataset

    def _over_components(self, function: Callable[[int, Any], Any]) -> Callable[..., Any]:
        """A function for `Dataset.map` that gives each component with its number to `function` and keeps the structure."""
        import tensorflow as tf

        @tf.autograph.experimental.do_not_convert
        def over(*element: Any) -> Any:
            # map takes a tuple apart, also one of one component
            whole = element if type(self.element_spec) is tuple else element[0]
            parts = [function(number, part) for number, part in enumerate(tf.nest.flatten(whole))]
            return tf.nest.pack_sequence_as(whole, parts)

        return over

    def _is_static(self) -> bool:
        import tensorflow as tf

        return tf.nest.flatten(self.element_spec)[0].shape[0] is not None

    def _narrow(self, number: int, component: Any) -> Any:
        import tensorflow as tf

        dtype = self.dtypes[number]
        if dtype is None:
            return component

        def cast(values: tf.Tensor) -> tf.Tensor:
            # half to even, as every rounding of TensorFlow; saturate_cast alone would cut the fraction off
            return tf.saturate_cast(tf.round(values), tf.uint8) if dtype == "uint8" else tf.cast(values, dtype)

        return _over_values(cast, component)

    def _widen(self, number: int, component: Any) -> Any:
        import tensorflow as tf

        return component if self.dtypes[number] is None else tf.cast(component, tf.float32)


def chunk_rows(batch: int, row_bytes: int, chunk_bytes: int) -> int:
    """Rows of a chunk: near `chunk_bytes`, a divisor of `batch` if there is one from half to one and a half times of it.

    All of them where the batch has no more than eight times as many bytes: cutting would cost more than it saves. Chunks that
    don't cross the end of a batch are parts of the worker's memory; one that does is copied there.
    """
    if batch * row_bytes <= _CUT_FROM * chunk_bytes:
        return batch
    wanted = chunk_bytes / row_bytes
    divisors = [rows for rows in range(1, batch + 1) if batch % rows == 0 and wanted / 2 <= rows <= wanted * 1.5]
    return min(divisors, key=lambda rows: abs(rows - wanted)) if divisors else max(1, round(wanted))


def batch_rows(dataset: tf.data.Dataset) -> int | None:
    """Rows of each full batch, where the dataset's steps show it; None where they don't, or where there are no batches."""
    maps = []
    while True:
        name = type(dataset).__name__
        if name in BATCHING:
            rows = _constant(getattr(dataset, BATCHING[name]))
            break
        if name in ("_MapDataset", "_ParallelMapDataset"):
            maps.append(dataset)
        elif not _passes_batches_on(dataset):
            return None
        dataset = getattr(dataset, "_dataset" if name == "DatasetV1Adapter" else "_input_dataset", None)
        if dataset is None:
            return None
    if rows is None or not all(_keeps_rows(one, rows) for one in maps):
        return None
    return rows


def has_batches(dataset: tf.data.Dataset) -> bool:
    """Whether the elements are batches that batch() made, whatever functions have made of their rows since."""
    import tensorflow as tf

    if any(getattr(spec, "shape", tf.TensorShape(None)).rank == 0 for spec in tf.nest.flatten(dataset.element_spec)):
        return False
    while type(dataset).__name__ not in BATCHING:
        is_map = type(dataset).__name__ in ("_MapDataset", "_ParallelMapDataset")
        if not (is_map or _passes_batches_on(dataset)):
            return False
        dataset = dataset._inputs()[0]
    return True


# The attribute that holds the size, by the class of the step (TensorFlow 2.12 to 2.21).
BATCHING = {
    "_BatchDataset": "_batch_size",
    "_ParallelBatchDataset": "_batch_size",
    "_PaddedBatchDataset": "_batch_size",
    "_RebatchDataset": "_batch_sizes",
}


def _passes_batches_on(dataset: Any) -> bool:
    """Prefetch, repeat, shuffle, cache, filter, options...: no element is changed."""
    from tensorflow.python.data.ops import dataset_ops

    return isinstance(dataset, dataset_ops.UnaryUnchangedStructureDataset | dataset_ops.DatasetV1Adapter)


def _constant(tensor: Any) -> int | None:
    import tensorflow as tf

    value = tf.get_static_value(tensor)
    if value is None or value.size == 0 or (value != value.flat[0]).any() or value.flat[0] < 1:
        return None
    return int(value.flat[0])


def _keeps_rows(mapped: Any, rows: int) -> bool:
    """Whether the function makes `rows` rows in each component of batches of `rows` rows, by the inference of shapes."""
    import tensorflow as tf

    traced = mapped._map_func.function.graph
    if any(output.dtype == tf.variant for output in traced.outputs):
        return False  # ragged and sparse tensors travel in them
    shapes = {}
    # one placeholder for each component, also for a ragged or sparse one; then what the function captured
    for placeholder, component in zip(traced.inputs, tf.nest.flatten(mapped._input_dataset.element_spec), strict=False):
        if isinstance(component, tf.TensorSpec) and component.shape.rank:
            shapes[placeholder.op.name] = [rows, *component.shape[1:].as_list()]
    graph = traced.as_graph_def()
    for node in graph.node:
        # what was inferred with an unknown size
        node.attr.pop("_output_shapes", None)
        if node.name in shapes:
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(shapes[node.name]).as_proto())
    for function in graph.library.function:
        function.attr.pop("_input_shapes", None)
        for part in (*function.node_def, *function.arg_attr.values()):
            part.attr.pop("_output_shapes", None)
    with tf.Graph().as_default() as again:
        tf.import_graph_def(graph, name="")
        outputs = [again.get_tensor_by_name(output.name).shape for output in traced.outputs]
    return all(shape.rank and shape[0] == rows for shape in outputs)


def _cuttable(dataset: tf.data.Dataset, wire: Wire) -> tuple[str, int | None]:
    """Why not, or the rows of a batch."""
    import tensorflow as tf

    if wire.keep_batches:
        return "keep_batches", None
    components = tf.nest.flatten(dataset.element_spec)
    for component in components:
        if type(component) is not tf.TensorSpec or component.dtype.size == 0 or component.dtype in (tf.variant, tf.resource):
            return f"{component} has no fixed size", None
        if not component.shape.rank or not component.shape[1:].is_fully_defined():
            return f"{component} is not a batch of rows of a fixed size", None
    rows = batch_rows(dataset)
    if rows is None:
        return "its steps don't show the size of a batch", None
    if len({component.shape[0] for component in components} | {None, rows}) > 2 or not components:
        return f"its components don't share batches of {rows}", None
    if len({component.shape[0] for component in components}) > 1:
        return "some components drop the remainder and some don't", None
    return "", rows


def _narrowed(spec: Any, dtypes: Any, place: str) -> list[str | None]:
    """The dtype names for the components of a spec."""
    import tensorflow as tf

    if dtypes is None or isinstance(dtypes, str):
        components = tf.nest.flatten(spec)
        names = [dtypes if getattr(component, "dtype", None) == tf.float32 else None for component in components]
        if dtypes and not any(names):
            raise ConfigurationError(
                f"Wire.dtypes: {dtypes} at {place or 'all components'}: expected float32 to narrow, got {_shown(components)}"
            )
        return names
    if isinstance(dtypes, Mapping):
        if not isinstance(spec, Mapping) or not set(dtypes) <= set(spec):
            got = f"those of {sorted(spec)}" if isinstance(spec, Mapping) else f"a dataset with {_shown([spec])} there"
            raise ConfigurationError(f"Wire.dtypes: entries {sorted(dtypes)} at {place or 'the top'}: expected {got}")
        # sorted, as tf.nest flattens a dict
        return [name for key in sorted(spec) for name in _narrowed(spec[key], dtypes.get(key), f"{place}[{key!r}]")]
    if not isinstance(spec, tuple) or len(spec) != len(dtypes):
        raise ConfigurationError(
            f"Wire.dtypes: {len(dtypes)} parts at {place or 'the top'}: expected the dataset's structure, {_shown([spec])}"
        )
    parts = zip(spec, dtypes, strict=True)
    return [name for number, (one, part) in enumerate(parts) for name in _narrowed(one, part, f"{place}[{number}]")]


def _shown(specs: list[Any]) -> str:
    return ", ".join(str(spec) for spec in specs)


def _over_values(function: Callable[[Any], Any], component: Any) -> Any:
    """Of a tensor, or of the values of a ragged or sparse one."""
    import tensorflow as tf

    if isinstance(component, tf.RaggedTensor):
        return component.with_flat_values(function(component.flat_values))
    if isinstance(component, tf.SparseTensor):
        return tf.SparseTensor(component.indices, function(component.values), component.dense_shape)
    return function(component)
