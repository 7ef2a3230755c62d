"""distribute(on_service_loss="local"): a training whose service is gone goes on with the same graph on its own CPUs.

A read from a service that is gone waits inside TensorFlow for an hour, and a dataset that waits can be left for another one
only by destroying its iterator, which waits too (interleave, TF 2.15.1). So a thread of this process reads the service, with a
read that can be cancelled, and the dataset of the training asks that thread for the next element, none of whose bytes are
copied. After the loss another thread reads this rank's share of the dataset itself.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.data.ops import from_generator_op
from tensorflow.python.eager import cancellation

from hetero_tfdata.cluster.topology import Ranks
from hetero_tfdata.service.preflight.graph import Graph
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["Fallback", "fallback_of", "share_of"]

# What a question for the next element waits for it: an iterator that is destroyed waits for the question.
_ASK_S = 0.2
_NOTHING_YET, _ELEMENT, _END = 0, 1, 2
_READING = "hetero-tfdata-read"  # the name of the reading threads
_JOIN_S = 20.0


class Fallback:
    """What the streams of one service have in common: whether it is lost."""

    def __init__(self) -> None:
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._numbers = iter(range(1, 2**62))
        self._readers: dict[int, _Reader] = {}
        self._asked = threading.Condition()
        self._asking = 0
        # Nothing of Python may run in TensorFlow's threads while the interpreter goes: that would abort the process. So the
        # graph itself looks whether there still is an interpreter to ask.
        with tf.init_scope(), tf.device("/cpu:0"):
            self._can_ask = tf.Variable(True, trainable=False, name="hetero_tfdata_can_ask")
        atexit.register(self._end)

    @property
    def is_lost(self) -> bool:
        """Whether `lose` was called."""
        return self._lost.is_set()

    def lose(self) -> None:
        """From now on every stream of this service is local: those that are being read, and those that begin."""
        self._lost.set()

    def attach(self, remote: tf.data.Dataset, local: tf.data.Dataset) -> tf.data.Dataset:
        """The elements of `remote`, and from the loss on those of `local`, from its beginning.

        Args:
            remote: of the service.
            local: of the same structure; nothing of it runs before the loss.
        """
        spec = remote.element_spec
        parts = tf.nest.flatten(spec, expand_composites=True)
        kinds = [tf.int64, *(part.dtype for part in parts)]

        def begin() -> int:
            number = next(self._numbers)
            self._readers[number] = _Reader(remote, local, self._lost)
            return number

        def ask(number: tf.Tensor) -> list[Any]:
            with self._question() as ended:
                state, element = (_END, None) if ended else self._readers[int(number)].ask()
            return [state, *(_empty(parts) if element is None else element)]

        def end(number: tf.Tensor) -> int:
            reader = self._readers.pop(int(number), None)
            if reader is not None:
                reader.close()
            return 0

        with tf.device("/cpu:0"):
            asked = from_generator_op._GeneratorDataset(
                0,
                lambda _: tf.py_function(begin, [], tf.int64),
                lambda number: self._if_it_can(
                    lambda: tuple(tf.py_function(ask, [number], kinds)),
                    lambda: (tf.constant(_END, tf.int64), *_empty(parts)),
                ),
                lambda number: self._if_it_can(
                    lambda: tf.py_function(end, [number], tf.int64), lambda: tf.constant(0, tf.int64)
                ),
                tuple(tf.TensorSpec(None, kind) for kind in kinds),
            )
        answered = asked.filter(lambda state, *_: state != _NOTHING_YET).take_while(lambda state, *_: state == _ELEMENT)

        def shaped(_: tf.Tensor, *flat: tf.Tensor) -> Any:
            for tensor, part in zip(flat, parts):  # noqa: B905 - the autograph of TF 2.12 knows no strict
                tensor.set_shape(part.shape)
            return tf.nest.map_structure(_shaped, tf.nest.pack_sequence_as(spec, flat, expand_composites=True), spec)

        return answered.map(shaped).with_options(remote.options())

    def _if_it_can(self, ask: Callable[[], Any], instead: Callable[[], Any]) -> Any:
        return tf.cond(self._can_ask, ask, instead)

    @contextlib.contextmanager
    def _question(self) -> Iterator[bool]:
        """Whether the process ends, which waits for the questions that are being asked."""
        with self._asked:
            self._asking += 1
        try:
            yield self._ended.is_set()
        finally:
            with self._asked:
                self._asking -= 1
                self._asked.notify_all()

    def _end(self) -> None:
        self._ended.set()
        self._can_ask.assign(False)
        time.sleep(_ASK_S)  # for questions that are on their way
        with self._asked:
            self._asked.wait_for(lambda: not self._asking, timeout=10 * _ASK_S)
        for reader in list(self._readers.values()):
            reader.close()
        for thread in threading.enumerate():
            if thread.name == _READING:
                thread.join(_JOIN_S)


class _Reader:
    """One pass: reads the service, and after the loss the local dataset."""

    def __init__(self, remote: tf.data.Dataset, local: tf.data.Dataset, lost: threading.Event) -> None:
        self._local = local
        self._lost = lost
        self._is_local = lost.is_set()
        self._reading = _Reading(local if self._is_local else remote)

    def ask(self) -> tuple[int, list[tf.Tensor] | None]:
        """(_ELEMENT, its tensors), or (_NOTHING_YET, None), or (_END, None)."""
        if self._lost.is_set() and not self._is_local:
            self._is_local = True
            self._reading.close()
            self._reading = _Reading(self._local)
        return self._reading.ask()

    def close(self) -> None:
        self._reading.close()


class _Reading:
    """A dataset that a thread reads one element ahead."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self._elements: queue.Queue[list[tf.Tensor] | Exception | None] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        self._cancellation = cancellation.CancellationManager()
        threading.Thread(target=self._run, args=(dataset,), name=_READING, daemon=True).start()

    def ask(self) -> tuple[int, list[tf.Tensor] | None]:
        try:
            element = self._elements.get(timeout=_ASK_S)
        except queue.Empty:
            return _NOTHING_YET, None
        if isinstance(element, Exception):
            raise element
        return (_END, None) if element is None else (_ELEMENT, element)

    def close(self) -> None:
        self._closed.set()
        self._cancellation.start_cancel()
        with contextlib.suppress(queue.Empty):
            self._elements.get_nowait()

    def _run(self, dataset: tf.data.Dataset) -> None:
        try:
            with tf.device("/cpu:0"):
                elements = iter(dataset)
                get_next = self._cancelable(lambda: tf.nest.flatten(elements.get_next(), expand_composites=True))
                while self._put(get_next()):
                    pass
        except tf.errors.OutOfRangeError:
            self._put(None)
        except Exception as error:  # whatever it is belongs to who asks
            self._put(error)

    def _cancelable(self, function: Callable[[], Any]) -> Callable[[], Any]:
        concrete = tf.function(function, autograph=False).get_concrete_function()
        cancelable: Callable[[], Any] = self._cancellation.get_cancelable_function(concrete)
        return cancelable

    def _put(self, element: list[tf.Tensor] | Exception | None) -> bool:
        """False: nobody wants it any more."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._elements.put(element, timeout=_ASK_S)
                return True
        return False


def _shaped(value: Any, spec: tf.TypeSpec) -> Any:
    """TensorFlow 2.12 knows no shape of a sparse tensor whose shape is not a constant."""
    if isinstance(value, tf.SparseTensor) and spec.shape.is_fully_defined():
        return tf.SparseTensor(value.indices, value.values, spec.shape.as_list())
    return value


def _empty(parts: list[tf.TypeSpec]) -> list[tf.Tensor]:
    return [tf.zeros([0], part.dtype) for part in parts]


def share_of(dataset: tf.data.Dataset, ranks: Ranks) -> tf.data.Dataset:
    """One rank's share of the dataset: every source gives it the elements whose number is its own modulo the number of ranks.
    All of the dataset where there is one rank, or where a source is known to have fewer elements than there are ranks."""
    if ranks.size == 1:
        return dataset
    graph = Graph(dataset)
    # one that only chooses among the others must give every rank the same choices
    sources = [stage for stage in graph.stages if not stage.inputs and not stage.chooses]
    counts = [graph.count(source) for source in sources]
    if not sources or any(count is not None and 0 <= count < ranks.size for count in counts):
        return dataset
    definition = graph_pb2.GraphDef()
    definition.CopyFrom(graph.definition)
    for source in sources:
        _shard(definition, source, ranks)
    variant = tf.raw_ops.DatasetFromGraph(graph_def=definition.SerializeToString())
    return tf.data.experimental.from_variant(variant, dataset.element_spec).with_options(dataset.options())


def _shard(definition: graph_pb2.GraphDef, source: Stage, ranks: Ranks) -> None:
    """Puts shard() behind a source, under the source's name."""
    name = source.node.name
    (node,) = (node for node in definition.node if node.name == name)
    whole = f"{name}/whole"
    shard = definition.node.add()
    shard.name, shard.op = name, "ShardDataset"
    shard.input.extend([whole, f"{name}/shards", f"{name}/index"])
    shard.attr["output_types"].list.type.extend(source.types)
    shard.attr["output_shapes"].CopyFrom(node.attr["output_shapes"])
    node.name = whole
    for part, number in (("shards", ranks.size), ("index", ranks.rank)):
        constant = definition.node.add()
        constant.name, constant.op = f"{name}/{part}", "Const"
        constant.attr["dtype"].type = tf.int64.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(number, tf.int64))


_fallbacks: dict[str, Fallback] = {}
_lock = threading.Lock()


def fallback_of(service: str) -> Fallback:
    """The one of a service in this process."""
    with _lock:
        return _fallbacks.setdefault(service, Fallback())
