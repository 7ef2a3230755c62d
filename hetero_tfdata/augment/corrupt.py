"""What becomes of image files that can't be decoded: `on_corrupt` of the presets.

    "raise"     the stream ends with an error that names them
    "skip"      they are left out; the batches are filled with what comes next
    "replace"   a neighbour in the same batch stands in, with its label: as many samples as files

Skipped and replaced files are named and counted on the log of the process that reads them, a worker's as a rule. When most
files are corrupt it is an error after all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from hetero_tfdata.augment.jpeg import Crops
from hetero_tfdata.errors import ConfigurationError

__all__ = ["POLICIES", "CorruptFiles", "Finding"]

POLICIES = ("raise", "skip", "replace")

_as_it_stands = tf.autograph.experimental.do_not_convert  # which takes longer than tracing what is written in TensorFlow
_PRINTED = 20  # lines that a process prints about corrupt files, then one in _PRINTED
_TOLERATED = 100  # corrupt files that "skip" and "replace" take in any case; beyond, at most as many as good ones


class Finding(NamedTuple):
    """What was found in some files.

    Attributes:
        files: int64 [], how many there were.
        corrupt: int64 [], how many of them can't be decoded.
        names: string [], those; empty if there are none.
    """

    files: tf.Tensor
    corrupt: tf.Tensor
    names: tf.Tensor


@dataclass(frozen=True)
class CorruptFiles:
    """A policy.

    Attributes:
        preset: for messages.
        policy: one of POLICIES.

    Raises:
        ConfigurationError: (when built) there is no such policy.
    """

    preset: str
    policy: str

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigurationError(f"{self.preset}: on_corrupt: expected one of {', '.join(POLICIES)}, got {self.policy!r}")

    def find(self, contents: tf.Tensor, key: tf.Tensor | None, good: tf.Tensor) -> Finding:
        """Names the files that are missing in `good`: by their keys, or else by size and fingerprint.

        Args:
            contents: string [n].
            key: [n] integers or strings, or None.
            good: int64 [k], which of the files could be decoded, rising.
        """
        count = tf.size(contents, out_type=tf.int64)
        corrupt = count - tf.size(good, out_type=tf.int64)

        def names() -> tf.Tensor:
            every = tf.ones([count], tf.bool)
            is_bad = tf.tensor_scatter_nd_update(every, good[:, tf.newaxis], tf.zeros_like(good, tf.bool))
            files = tf.boolean_mask(contents, is_bad)
            size = tf.strings.as_string(tf.strings.length(files))
            if key is None:
                prints = tf.strings.as_string(tf.bitcast(tf.fingerprint(files), tf.int64))
                lines = tf.strings.join(["the file of ", size, " bytes with tf.fingerprint ", prints])
            else:
                chosen = tf.boolean_mask(key, is_bad)
                chosen = chosen if chosen.dtype == tf.string else tf.strings.as_string(chosen)
                lines = tf.strings.join(["sample ", chosen, " (", size, " bytes)"])
            return tf.strings.reduce_join(lines, separator=", ")

        return Finding(count, corrupt, tf.cond(corrupt > 0, names, lambda: tf.constant("")))

    def pick(self, crops: Crops, rest: Any, finding: Finding) -> tuple[Crops, Any]:
        """What makes the batch in the end: of the crops, and of everything that came with the n files ([n, ...], nested)."""
        good = crops.files
        if self.policy == "replace":
            before = tf.searchsorted(good, tf.range(finding.files), side="right", out_type=tf.int64) - 1
            places = tf.maximum(before, 0)[: tf.where(tf.size(good) > 0, finding.files, 0)]  # at the start the one after
            crops = tf.cond(finding.corrupt > 0, lambda: Crops(*(tf.gather(part, places) for part in crops)), lambda: crops)
        return crops, tf.nest.map_structure(lambda part: tf.gather(part, crops.files), rest)

    def settle(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """(Finding, batch) -> batch, without empty ones; an error, or lines on the log, if anything was found."""

        @_as_it_stands
        def count_per_worker(state: Any, element: tuple[Finding, Any]) -> Any:
            finding, batch = element
            files, corrupt = state[0] + finding.files, state[1] + finding.corrupt
            error = tf.cond(finding.corrupt > 0, lambda: self._report(finding, files, corrupt), lambda: tf.constant(""))
            return (files, corrupt), (error, finding.corrupt < finding.files, batch)

        @_as_it_stands
        def stop(error: tf.Tensor, is_any: tf.Tensor, batch: Any) -> Any:
            # not in the scan: a scan that fails keeps its state, and the next error would count wrong
            with tf.control_dependencies([tf.raw_ops.Assert(condition=tf.equal(error, ""), data=[error])]):
                return tf.identity(is_any), batch

        zero = tf.constant(0, tf.int64)
        counted = batches.scan((zero, zero), count_per_worker).map(stop)
        return counted.filter(lambda is_any, _: is_any).map(lambda _, batch: batch)

    def _report(self, finding: Finding, files: tf.Tensor, corrupt: tf.Tensor) -> tf.Tensor:
        """The error, or an empty string after a line on the log."""
        so_far = tf.strings.join([tf.strings.as_string(corrupt), " of ", tf.strings.as_string(files), " files"])
        if self.policy == "raise":
            way_out = "; repair or remove them, or pass on_corrupt=skip or replace"
            return tf.strings.join([f"{self.preset}: cannot be decoded: ", finding.names, way_out])
        done = "skipped" if self.policy == "skip" else "replaced"
        line = tf.strings.join([f"hetero_tfdata: {self.preset}: {done} ", so_far, " so far, now ", finding.names])
        loud = (corrupt <= _PRINTED) | (corrupt % _PRINTED == 0)
        with tf.control_dependencies([tf.cond(loud, lambda: tf.print(line), tf.no_op)]):
            most_are_good = (corrupt <= _TOLERATED) | (2 * corrupt <= files)
            why = ["; expected good ones for the most part: are these image files? The last: ", finding.names]
            too_many = tf.strings.join([f"{self.preset}: ", so_far, " cannot be decoded", *why])
            return tf.where(most_are_good, "", too_many)
