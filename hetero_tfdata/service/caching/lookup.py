"""Looks a result up in a host's folder, or computes and keeps it, in TensorFlow operations alone.

A result is a file, named by two 63-bit fingerprints of what it is made from, in a folder for the functions that make it:

    FOLDER/default, FOLDER/most              bytes that the host gives, see cache_store.py
    FOLDER/FUNCTIONS-NNN/A-B.data-...        the result: its length, its fingerprint, serialised tensors
    FOLDER/FUNCTIONS.BUDGET.NN               a ledger

A file that is cut short or damaged is a miss. It is written as a checkpoint of one tensor of bytes, because that operation
alone renames what it has written, so that no reader sees a part and two writers don't harm each other. That costs about 0.7 ms,
once a result (150 kB; a plain write 0.1 ms).

A ledger's length is what is held, in units of at least 4 kB. Whoever wants to keep a result first appends as many bytes, in one
write, reads the length again, and writes only if that is within the ledger's part of the budget. So the budget holds for all
threads and processes of a host, and for those that come after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hetero_tfdata.service.cache_store import CACHE_FDS, NEWS_FD

__all__ = ["Place", "remember"]

_LARGEST = 2**63 - 1
_HEADER = 38  # 19 digits of the length, 19 of the fingerprint
_BLOCK = 4096
_MOST_UNITS = 1024  # of one result
# The only operation that appends has the file's name as an attribute: each ledger is a branch of the graph. 300 GB in units of
# 16 kB are 16 ledgers of 1.2 MB, read for each result that is kept.
_LEDGERS = 16
_LEDGER_BYTES = 2**26  # with less a ledger would not be filled evenly
_NEWS = f"/proc/self/fd/{NEWS_FD}"


def remember(
    key: Sequence[tf.Tensor],
    compute: Callable[[], Sequence[tf.Tensor]],
    dtypes: Sequence[tf.DType],
    place: Place,
) -> list[tf.Tensor]:
    """What `compute` gives, from the folder if it is there.

    Args:
        key: tensors of any type and shape that decide what it gives.
        compute: what is looked up; deterministic.
        dtypes: of what it gives.
        place: where it is kept.
    """
    started = tf.timestamp()
    with tf.control_dependencies([started]):
        first, second = _fingerprints(key)
        parts = [
            f"{place.folder}{place.functions}-",
            _digits(first % 1000, 3),
            "/",
            _digits(first, 19),
            "-",
            _digits(second, 19),
        ]
        prefix = tf.strings.join(parts)
        path = tf.strings.join([prefix, ".data-00000-of-00001"])
        payload = tf.cond(_exists(path), lambda: _read(path), lambda: tf.constant(""))

    def found() -> list[tf.Tensor]:
        values = _unpack(payload, dtypes)
        with tf.control_dependencies(values):
            told = _tell("h", _microseconds(tf.timestamp() - started))
        return _after(told, values)

    def missing() -> list[tf.Tensor]:
        began = tf.timestamp()
        with tf.control_dependencies([began]):
            values = list(compute())
        packed = _pack(values)
        # not after the values themselves: of a function that is inlined only the effects are waited for
        with tf.control_dependencies([tf.strings.length(packed)]):
            took = _microseconds(tf.timestamp() - began)
        kept = _keep(place, prefix, second, packed)
        return _after(_tell("m", took, kept), values)

    return tf.cond(tf.strings.length(payload) > 0, found, missing)


@dataclass(frozen=True)
class Place:
    """Where results are kept.

    Attributes:
        where: "memory" or "disk".
        functions: a name for what computes them, of letters and digits.
        budget_bytes: of all that is kept under that name on a host; None: what the host gives by default.
        record_bytes: about what one result takes, for the unit of the ledgers; None where it isn't known.
    """

    where: str
    functions: str
    budget_bytes: int | None
    record_bytes: int | None = None

    @property
    def folder(self) -> str:
        """The same on every host: a descriptor that its workers inherit."""
        return f"/proc/self/fd/{CACHE_FDS[self.where]}/"

    @property
    def allowance(self) -> str:
        """The file that says what the host gives."""
        return self.folder + ("most" if self.budget_bytes else "default")

    @property
    def ledgers(self) -> list[str]:
        """Their files."""
        count = min(_LEDGERS, max(1, self.budget_bytes // _LEDGER_BYTES)) if self.budget_bytes else _LEDGERS
        return [f"{self.folder}{self.functions}.{self.budget_bytes or 'default'}.{number:02}" for number in range(count)]

    @property
    def unit_bytes(self) -> int:
        """What a byte of a ledger stands for: about a tenth of a result."""
        unit = _BLOCK
        while unit < 2**20 and unit * 10 < (self.record_bytes or 150_000):
            unit *= 2
        return unit


def _keep(place: Place, prefix: tf.Tensor, number: tf.Tensor, packed: tf.Tensor) -> tf.Tensor:
    """Bytes that it takes, as text; "0": no room; "-1": it could not be written, or this host has no folder."""

    def ask() -> tf.Tensor:
        budget = tf.strings.to_number(tf.io.read_file(place.allowance), tf.int64)
        if place.budget_bytes:
            budget = tf.minimum(budget, tf.constant(place.budget_bytes, tf.int64))
        which = tf.cast(number % len(place.ledgers), tf.int32)
        ledger = tf.gather(tf.constant(place.ledgers), which)
        most = budget // len(place.ledgers) // place.unit_bytes
        # whole blocks, and one for the checkpoint's index
        size = (tf.cast(tf.strings.length(packed), tf.int64) + 2 * _BLOCK - 1) // _BLOCK * _BLOCK
        units = -(-size // place.unit_bytes)
        held = tf.cond(_exists(ledger), lambda: _length(ledger), lambda: tf.constant(0, tf.int64))

        def enter() -> tf.Tensor:
            line = tf.strings.substr(tf.constant("x" * _MOST_UNITS), 0, tf.cast(units, tf.int32))
            appended = tf.switch_case(which, [_Append(path, line) for path in place.ledgers])
            with tf.control_dependencies([appended]):
                fits = _length(ledger) <= most
            return tf.cond(fits, lambda: _attempt(write, packed, otherwise="-1"), lambda: tf.constant("0"))

        def write(packed: tf.Tensor) -> tf.Tensor:
            # as numbers, which a checkpoint has as they are; strings it would put in a form of its own
            tensor = tf.io.decode_raw(packed, tf.uint8)
            saved = tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["x"], shape_and_slices=[""], tensors=[tensor])
            with tf.control_dependencies([saved]):
                return tf.strings.as_string(size)

        return tf.cond((held + units <= most) & (units <= _MOST_UNITS), enter, lambda: tf.constant("0"))

    return tf.cond(_exists(place.allowance), ask, lambda: tf.constant("-1"))


def _length(path: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(tf.io.read_file(path)), tf.int64)


class _Append:
    """Appends a line to a file in one write, for `tf.switch_case`."""

    def __init__(self, path: str, line: tf.Tensor) -> None:
        self._path = path
        self._line = line

    def __call__(self) -> tf.Tensor:
        with tf.control_dependencies([tf.raw_ops.PrintV2(input=self._line, output_stream=f"file://{self._path}", end="")]):
            return tf.constant(True)


def _fingerprints(key: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Two, of 63 bits each: among a billion records two share both with a probability of 1e-20."""
    if len(key) == 1 and key[0].dtype == tf.string and key[0].shape.rank == 0:
        text = key[0]
    else:
        parts = [tf.io.serialize_tensor(one) for one in key]
        lengths = [_digits(tf.cast(tf.strings.length(part), tf.int64), 19) for part in parts]
        text = tf.strings.join([*lengths, *parts])
    # the second of the same bytes one place further on, which the function mixes otherwise
    return tf.strings.to_hash_bucket_fast(text, _LARGEST), tf.strings.to_hash_bucket_fast(
        tf.strings.join(["+", text]), _LARGEST
    )


def _pack(values: Sequence[tf.Tensor]) -> tf.Tensor:
    parts = [tf.io.serialize_tensor(value) for value in values]
    payload = parts[0] if len(parts) == 1 else tf.io.serialize_tensor(tf.stack(parts))
    return tf.strings.join([_header(payload), payload])


def _unpack(payload: tf.Tensor, dtypes: Sequence[tf.DType]) -> list[tf.Tensor]:
    if len(dtypes) == 1:
        return [tf.io.parse_tensor(payload, dtypes[0])]
    parts = tf.io.parse_tensor(payload, tf.string)
    return [tf.io.parse_tensor(parts[number], dtype) for number, dtype in enumerate(dtypes)]


def _header(payload: tf.Tensor) -> tf.Tensor:
    length = _digits(tf.cast(tf.strings.length(payload), tf.int64), 19)
    return tf.strings.join([length, _digits(tf.strings.to_hash_bucket_fast(payload, _LARGEST), 19)])


def _read(path: tf.Tensor) -> tf.Tensor:
    """What follows the header; nothing where that does not fit, as of a file that is being written."""
    content = tf.io.read_file(path)
    start = tf.minimum(_HEADER, tf.strings.length(content))
    payload = tf.strings.substr(content, start, 2**31 - 1)
    header = tf.strings.substr(content, 0, start)
    return tf.where(header == _header(payload), payload, "")


def _attempt(function: Callable[[tf.Tensor], tf.Tensor], text: tf.Tensor, *, otherwise: str) -> tf.Tensor:
    """What the function gives, or `otherwise` where an operation of it ends with an error, as on a full disk. About 200 us."""
    one = tf.data.Dataset.from_tensors(text).map(function).ignore_errors()
    return one.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()


def _exists(path: Any) -> tf.Tensor:
    # of a path without wildcards TensorFlow asks only whether it is there
    return tf.size(tf.io.matching_files(path)) > 0


def _digits(number: tf.Tensor, width: int) -> tf.Tensor:
    return tf.strings.as_string(number, width=width, fill="0")


def _microseconds(seconds: tf.Tensor) -> tf.Tensor:
    return tf.cast(seconds * 1e6, tf.int64)


def _tell(kind: str, took: tf.Tensor, *more: tf.Tensor) -> tf.Tensor:
    """One line for the supervisor, where there is one."""
    words = tf.strings.join([tf.constant(kind), tf.strings.as_string(took), *more], separator=" ")
    return tf.cond(_exists(_NEWS), _Append(_NEWS, tf.strings.join([words, "\n"])), lambda: tf.constant(False))


def _after(told: Any, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    with tf.control_dependencies([told]):
        return [tf.identity(value) for value in values]
