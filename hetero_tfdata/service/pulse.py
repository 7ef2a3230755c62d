"""What the iterators of a distributed dataset do in the trainer's process: which of them waits for the service, since when.

Nobody in Python sees it: `model.fit` and a `for` loop wait inside TensorFlow, and a step may wait for other reasons, or read
from a full buffer. So the dataset says it itself, in records on a file in memory, each with its iterator's number:

    b  a heartbeat, from the iterator's first element to its destruction, whatever it waits for
    a  it asks the service for an element
    g  it got it, and how many rows it has where it is a batch
    e  an iterator that asked got the end (no number: what comes after the last element doesn't know it)

An iterator waits if it asked for more than it got and its heart beats. A training that pauses fills its buffers and asks no
more. An iterator's elements are one pass of the dataset; a pass that was broken off has no end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing
from tensorflow.python.data.ops import map_op

from hetero_tfdata.service.rows import anew, rows_of

__all__ = ["BEAT_S", "Pass", "Pulse"]

BEAT_S = 2.0
_DEAD_AFTER_S = 4 * BEAT_S
# Heartbeats that nobody takes stay in a buffer of the iterator: 8 MB a day.
_BEATS = 10_000_000
_PAGE = os.sysconf("SC_PAGE_SIZE")
_KEEP_SIZE_PUNCH_HOLE = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, linux/falloc.h


@dataclass
class Pass:
    """What came in one pass.

    Attributes:
        elements: how many.
        rows: in all of them.
        state: "open"; "ended", it was read to its end; "left", its iterator is gone, or it can't be told which of several
            iterators got the end.
    """

    elements: int = 0
    rows: int = 0
    state: str = "open"


@dataclass
class _Iterator:
    last_beat: float
    reads: Pass
    asked_at: float | None = None


class Pulse:
    """The records of one dataset's iterators.

    Args:
        in_batches: an element is a batch of rows, by its first component; else a row.
    """

    def __init__(self, *, in_batches: bool = False) -> None:
        self._in_batches = in_batches
        self._lock = threading.Lock()
        self._passes: dict[bytes, Pass] = {}
        self._file = os.memfd_create("hetero-tfdata-pulse")
        self._read = 0
        self._freed = 0
        self._rest = b""
        self._iterators: dict[bytes, _Iterator] = {}

    def attach(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The dataset, its elements unchanged, with the records: about 20 us an element."""
        beats = _beats().map(lambda number: self._record("b", number)).prefetch(_BEATS)
        # the first beat is taken and repeated; the others go on behind it as long as the iterator lives
        asks = beats.flat_map(lambda number: tf.data.Dataset.from_tensors(number).repeat())
        asks = _map_in_place(asks, lambda number: self._record("a", number))

        @tf.autograph.experimental.do_not_convert
        def got(number: tf.Tensor, *element: Any) -> Any:
            rows = [" ", tf.strings.as_string(rows_of(element[0]))] if self._in_batches else []
            with tf.control_dependencies([self._record("g", number, *rows)]):
                return anew(element[0])

        nothing = dataset.take(0)

        def end(_: tf.Tensor) -> tf.data.Dataset:
            self._record("e", tf.constant(""))
            return nothing

        # only who reads to the end comes to it
        whole = dataset.concatenate(tf.data.Dataset.from_tensors(0).flat_map(end))
        # zip asks its inputs in order
        return _map_in_place(tf.data.Dataset.zip((asks, whole)), got)

    def waiting_s(self) -> dict[str, float]:
        """Iterators that wait for the service now: their numbers, and for how many seconds."""
        with self._lock:
            now = time.monotonic()
            self._take(now)
            for number in [n for n, iterator in self._iterators.items() if now - iterator.last_beat > _DEAD_AFTER_S]:
                self._leave(self._iterators.pop(number))
            return {
                number.decode(): now - iterator.asked_at
                for number, iterator in self._iterators.items()
                if iterator.asked_at is not None
            }

    def passes(self) -> list[Pass]:
        """What each pass gave so far, in the order in which they began."""
        with self._lock:
            self._take(time.monotonic())
            return [replace(one) for one in self._passes.values()]

    def _record(self, kind: str, number: tf.Tensor, *more: Any) -> tf.Tensor:
        line = tf.strings.join([kind, number, *more, "\n"])
        # the raw operation: tf.print would format its arguments anew for each element
        written = tf.raw_ops.PrintV2(input=line, output_stream=f"file:///proc/self/fd/{self._file}", end="")
        with tf.control_dependencies([written]):
            return tf.identity(number)

    def _take(self, now: float) -> None:
        size = os.fstat(self._file).st_size
        data = self._rest
        while self._read < size:
            part = os.pread(self._file, min(1 << 20, size - self._read), self._read)
            if not part:
                break
            self._read += len(part)
            data += part
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            kind, (number, _, rows) = line[:1], line[1:].partition(b" ")
            if kind == b"e":
                self._end()
                continue
            iterator = self._iterators.get(number)
            if iterator is None:
                # known already where its heart was late
                iterator = self._iterators[number] = _Iterator(now, self._passes.setdefault(number, Pass()))
            if iterator.reads.state == "left":
                iterator.reads.state = "open"
            if kind == b"b":
                iterator.last_beat = now
            elif kind == b"a":
                iterator.asked_at = now
            else:
                iterator.asked_at = None
                iterator.reads.elements += 1
                iterator.reads.rows += int(rows or 1)
        self._free()

    def _end(self) -> None:
        asking = [iterator for iterator in self._iterators.values() if iterator.asked_at is not None]
        for iterator in asking:
            if len(asking) == 1:
                iterator.reads.state = "ended"
                iterator.asked_at = None
            else:
                self._leave(iterator)

    @staticmethod
    def _leave(iterator: _Iterator) -> None:
        if iterator.reads.state == "open":
            iterator.reads.state = "left"

    def _free(self) -> None:
        """Gives the memory of what was read back to the system; the file keeps its size, so that no record is lost."""
        end = self._read // _PAGE * _PAGE
        if end - self._freed >= 1 << 20:
            with contextlib.suppress(AttributeError):
                fallocate = ctypes.CDLL(None).fallocate
                fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
                fallocate(self._file, _KEEP_SIZE_PUNCH_HOLE, self._freed, end - self._freed)
            self._freed = end


def _map_in_place(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """map() without a change of thread for each element, which costs more than the function (70 us against 20)."""
    return map_op._MapDataset(dataset, function, use_inter_op_parallelism=False)


def _beats() -> tf.data.Dataset:
    """The iterator's number, a string: at once, and then every 2 s.

    The sleeping dataset is one of the two that are chosen from, and not appended: what is made with the iterator, and not in
    its course, wakes up when the iterator is destroyed, and holds up nobody at the end of an epoch.
    """
    sleeping = tf.data.Dataset.from_tensors(0).repeat().apply(testing.sleep(int(BEAT_S * 1e6)))
    first, later = (tf.data.Dataset.from_tensors(tf.constant(which, tf.int64)) for which in (0, 1))
    ticks = tf.data.Dataset.choose_from_datasets([tf.data.Dataset.from_tensors(0), sleeping], first.concatenate(later.repeat()))

    def number(drawn: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = tf.cond(drawn > 0, lambda: drawn, lambda: tf.random.uniform([], 1, 2**31 - 1, tf.int32))
        return drawn, tf.strings.as_string(drawn)

    return ticks.scan(0, number)
