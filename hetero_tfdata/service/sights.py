"""What one process sees of a folder: the graph that looks, on whichever host it runs, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import ConfigurationError, DataError

__all__ = ["Place", "Sight", "check", "look", "names_of", "sight_of", "unreadable"]

_SHOWN = 5  # names in a message
_REPLICATED = (
    "Any worker may read any file: make the channel FullyReplicated (ShardedByS3Key gives each host other files), and give it "
    "to every group that has workers"
)


@dataclass(frozen=True)
class Place:
    """Where to look.

    Attributes:
        folder: an absolute path, without a slash at its end.
        pattern: relative to the folder; `*`, `?` and `[...]` stand for parts of one name.
        title: the call: "files('train')".
        advice: what to do where the folder is missing.
    """

    folder: str
    pattern: str
    title: str
    advice: str


@dataclass(frozen=True)
class Sight:
    """What one process sees of a place; `beside` is what is there if nothing matches, or beside the folder if that is
    missing."""

    who: str
    has_folder: bool
    count: int
    fingerprint: int
    first: bytes
    beside: tuple[bytes, ...]

    @property
    def what(self) -> tuple[bool, int, int]:
        """Equal for those who see the same files."""
        return self.has_folder, self.count, self.fingerprint

    def __str__(self) -> str:
        if not self.has_folder:
            return "no such folder"
        if not self.count:
            return "no file"
        return f"1 file, {_text(self.first)}" if self.count == 1 else f"{self.count} files, the first is {_text(self.first)}"


# --- inside the graph ---


def names_of(pattern: tf.Tensor) -> tf.Tensor:
    """string [n]: names relative to the folder, of files alone; hidden ones only where the pattern asks for them."""
    folder = _folder(pattern)
    matched = tf.io.matching_files(tf.strings.join([_escaped(folder), pattern[1]]))
    # what has something in it is a folder; an empty one can't be told from a file
    inside = tf.io.matching_files(tf.strings.join([_escaped(folder), pattern[1], "/*"]))
    matched = tf.raw_ops.ListDiff(x=matched, y=tf.strings.regex_replace(inside, r"/[^/]*$", "")).out
    names = _below(folder, matched)
    return tf.boolean_mask(names, _is_hidden(pattern[1]) | ~_is_hidden(names))


def look(pattern: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The components of a `Sight`."""
    folder, names = _folder(pattern), names_of(pattern)
    bare = tf.strings.regex_replace(folder, "(.)/$", r"\1")
    has_folder = tf.size(tf.io.matching_files(_escaped(bare))) + tf.size(names) > 0
    parent = tf.strings.regex_replace(bare, "[^/]*$", "")

    def beside() -> tf.Tensor:
        where = tf.where(has_folder, folder, parent)
        there = _below(where, tf.io.matching_files(tf.strings.join([_escaped(where), "*"])))
        return tf.boolean_mask(there, ~_is_hidden(there))[: _SHOWN + 1]

    none = tf.constant([], tf.string)
    nothing = tf.equal(tf.size(names), 0)
    first = tf.cond(nothing, lambda: tf.constant(""), lambda: names[0])
    # a sum, so that the order doesn't matter
    fingerprint = tf.reduce_sum(tf.bitcast(tf.fingerprint(names), tf.int64))
    return _who(), has_folder, tf.size(names), fingerprint, first, tf.cond(nothing, beside, lambda: none)


def _who() -> tf.Tensor:
    """The address that a worker of ours advertises, from its own command line; else the name of the host. Empty where the
    system has no /proc."""
    command = _content("/proc/self/cmdline")
    address = tf.strings.regex_replace(command, r"(?s)^.*\x00--advertise\x00([^\x00]*)\x00.*$", r"\1")
    return tf.where(tf.equal(address, command), tf.strings.join(["host ", _content("/proc/sys/kernel/hostname")]), address)


def _content(file: str) -> tf.Tensor:
    # not tf.io.read_file: the files of /proc say that they have 0 bytes
    return tf.data.TextLineDataset(tf.io.matching_files(file)).reduce(tf.constant(""), lambda text, line: text + line)


def _folder(pattern: tf.Tensor) -> tf.Tensor:
    """With the slash that stands between it and the names."""
    return tf.strings.regex_replace(pattern[0], "/?$", "/")


def _is_hidden(names: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_full_match(names, r"(.*/)?\..*")


def _below(folder: tf.Tensor, paths: tf.Tensor) -> tf.Tensor:
    start = tf.fill(tf.shape(paths), tf.strings.length(folder))
    return tf.strings.substr(paths, start, tf.fill(tf.shape(paths), tf.int32.max))


def _escaped(folder: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_replace(folder, r"([*?\[\]\\])", r"\\\1")


# --- what came of it, in words ---


def sight_of(element: Sequence[Any], hosts: Sequence[Host]) -> Sight:
    """The components that `look` gave, as numpy has them; a worker of these hosts is called by its host's name."""
    who, has_folder, count, fingerprint, first, beside = element
    address = _text(who)
    name = next((host.name for host in hosts if host.owns_worker(address)), address)
    return Sight(name, bool(has_folder), int(count), int(fingerprint), first, tuple(np.ravel(beside)))


def check(place: Place, sights: dict[str, Sight]) -> None:
    """Whether all see the same files, and any at all.

    Raises:
        ConfigurationError: they differ, or the folder is missing.
        DataError: no file matches.
    """
    seen: dict[tuple[bool, int, int], list[str]] = {}
    for who, sight in sorted(sights.items()):
        seen.setdefault(sight.what, []).append(who)
    everybody = _listed(sorted(sights))
    if len(seen) > 1:
        different = "; ".join(f"{_listed(who)}: {sights[who[0]]}" for who in seen.values())
        raise ConfigurationError(
            f"{place.title}: expected the same files on all hosts with workers, got for {place.pattern!r} in {place.folder}: "
            f"{different}. {_REPLICATED}"
        )
    sight = next(iter(sights.values()))
    if not sight.has_folder:
        there = _shown("beside it are", sight) if sight.beside else "nor the folder that it would be in"
        raise ConfigurationError(
            f"{place.title}: expected the folder {place.folder} on {everybody}, it is not there ({there}). {place.advice}"
        )
    if not sight.count:
        raise DataError(
            f"{place.title}: no file matches {place.pattern!r} in {place.folder} on {everybody} "
            f"({_shown('there are', sight) if sight.beside else 'the folder is empty'})"
        )


def unreadable(place: Place, error: tf.errors.OpError) -> Exception:
    """The error in place of TensorFlow's own, where the folder can't be listed."""
    scheme = place.folder.partition("://")[0]
    message = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message.splitlines()[0])
    if isinstance(error, tf.errors.UnimplementedError) and "://" in place.folder:
        return ConfigurationError(
            f"{place.title}: expected a TensorFlow that reads {scheme}://, got: {message}. Start every host with "
            "`hetero-tfdata launch --preload tensorflow_io`, or make it a FastFile channel, which is a plain folder"
        )
    return DataError(f"{place.title}: can't list {place.folder}: {message}")


def _shown(lead: str, sight: Sight) -> str:
    more = " and more" if len(sight.beside) > _SHOWN else ""
    return f"{lead} {', '.join(map(_text, sight.beside[:_SHOWN]))}{more}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
