"""files(): the records of files that the data hosts have, each with its key and the number of its pass."""

from __future__ import annotations

import logging
import os
import posixpath
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hetero_tfdata.cluster import sagemaker
from hetero_tfdata.cluster.topology import Cluster, Role
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.service.custom_ops import is_installed
from hetero_tfdata.service.supervisor import usable_cpus, worker_count

if TYPE_CHECKING:
    import tensorflow as tf

    from hetero_tfdata.service.listing import Listing
    from hetero_tfdata.service.sights import Place

__all__ = ["files"]

_READERS = ("tfrecord", "text", "whole")
_COMPRESSIONS = ("", "GZIP", "ZLIB")
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what CreateTrainingJob accepts

# Files side by side in one worker, at most: enough that a worker needn't stop when a file ends and the next is opened, and that
# neighbours in the stream are of different files; each has records read ahead. On 2 busy cores 4 files gave 55,000 records of
# 1 kB a second, 16 files no more, one file 23,000; of 100 kB 6,000, as plain interleave does (2026-11-24, TF 2.15.1).
_MOST_SIDE_BY_SIDE = 4
# A worker that begins first takes as many files as it reads side by side: it must not be those that the others live on. With
# a quarter of its share at a time, a worker takes files in four rounds or more.
_ROUNDS = 4
_READ_AHEAD = 16  # records of each open file
# Where a file is one record, a piece of the source is a run of files: the dispatcher was asked for 7,800 pieces a second at
# most by two workers (TF 2.15.1, fault-tolerant, 2 cores), and several data hosts read more small files than that. 1,024
# pieces a pass are enough that all workers end a pass together.
_PIECES = 1024
_LONGEST_PIECE = 32

if TYPE_CHECKING:
    _Locator = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]

_log = logging.getLogger("hetero_tfdata")


def files(
    channel: str | os.PathLike[str],
    pattern: str = "*",
    *,
    passes: int | None = 1,
    first_pass: int = 0,
    seed: int | None = None,
    shuffle: bool = True,
    reader: str | Callable[[tf.Tensor], tf.data.Dataset] = "tfrecord",
    compression_type: str | None = None,
    cycle_length: int | None = None,
    service: str | None = None,
    cluster: Cluster | None = None,
    ready_timeout_s: float = 1200.0,
) -> tf.data.Dataset:
    """The records of a channel's files, which this host need not have.

    In a heterogeneous job the pattern is resolved on the data hosts, and `distribute()` reads the files there; every host with
    workers must have all files (a FullyReplicated channel, File or FastFile mode), also training hosts under
    `--local-workers`. Without data hosts this host lists its own.

    Every rank makes the same call. The files are the unit that workers divide among them; every worker reads
    `cycle_length` of them side by side. No pass waits for the end of the one before. Each pass has an order of files of its
    own, which follows from (seed, pass); the records of a file keep theirs, so add `shuffle(n)` before `batch`. Reading the
    dataset once more begins with pass 0 again: for training give `passes`, not several loops.

    (seed, epoch, key) give a sample the same random numbers whichever worker makes it: with the element made
    (image, label, key, epoch), `Chain(..., seed=1, key=2, epoch=3)`; likewise the presets.

    Args:
        channel: a channel's name, such as "train": the folder SM_CHANNEL_TRAIN of this process, or where SageMaker puts it,
            the same path on all hosts. Or an absolute path, or a URL: s3:// needs tensorflow-io here and on the workers.
        pattern: relative to that folder: `*`, `?` and `[...]` stand for parts of one name, "*/*.jpg" goes one folder down.
            Folders and hidden files are left out.
        passes: how often all files are read; None: without end.
        first_pass: number of the first of them: what a resumed job had completed, so that it goes on with a new order and other
            random numbers rather than with those of the first epochs again.
        seed: of the order of files; None: another one in every run. Rank 0's counts.
        shuffle: False: the files come in the order of their names, in every pass.
        reader: "tfrecord"; "text": lines; "whole": each file is one record (a folder of JPEGs); or a function from a file
            name (string []) to the dataset of its records, of any structure. It runs on the workers.
        compression_type: "GZIP" or "ZLIB", of "tfrecord" and "text".
        cycle_length: files that each worker reads side by side. By default up to 4, fewer where there are fewer than 16 files
            for each worker; for "whole" what tf.data finds best.
        service: "grpc://host:port" of a dispatcher, as in `distribute`: its workers are asked.
        cluster: instead of `Cluster.discover()`.
        ready_timeout_s: seconds to wait for the dispatcher, for a worker on every data host, and for their lists.

    Returns:
        A dataset of (record string [], key string [], epoch int64 []). The key is "NAME:NUMBER": the file's name relative to
        the folder, and the record's number in it from 0. The epoch is the number of the pass, from
        `first_pass`.

    Raises:
        ConfigurationError: an argument can't be right; the folder is missing; the data hosts have different files.
        DataError: no file matches (names the hosts and what there is instead), or the folder can't be read.
        NotReadyError: somebody is missing at the deadline; says who, at what address.
    """
    _check_arguments(passes, first_pass, seed, reader, compression_type, cycle_length, ready_timeout_s)
    here = cluster if cluster is not None else Cluster.discover()
    if here.role is not Role.TRAINING:
        raise ConfigurationError(
            f"files() was called on {here.current_host} of group {here.group.name!r}, which has the role {here.role.value}: "
            "start the script on every host with `hetero-tfdata launch`, which runs it on the training hosts only"
        )
    _tensorflow()
    place = _place(channel, pattern, remote=service is not None or here.is_heterogeneous)
    listing = _listing(place, here, service, ready_timeout_s)
    if here.is_leader:
        _log.info("%s: %r in %s: %d files", place.title, pattern, place.folder, len(listing.names))
    if seed is None:
        seed = random.SystemRandom().getrandbits(62)
    locate = _locator(listing, first_pass, seed % 2**62 if shuffle else None)
    if reader == "whole":
        return _whole_files(listing, passes, locate, cycle_length)
    if cycle_length is None:
        cycle_length = min(_MOST_SIDE_BY_SIDE, max(1, len(listing.names) // (_ROUNDS * listing.workers)))
    return _records(listing, passes, locate, _opener(reader, compression_type), cycle_length)


# --- arguments ---


def _check_arguments(
    passes: Any, first_pass: Any, seed: Any, reader: Any, compression_type: Any, cycle_length: Any, ready_timeout_s: Any
) -> None:
    for name, value, instead in (
        ("passes", passes, "None for a dataset without end"),
        ("cycle_length", cycle_length, "None for the default"),
    ):
        if value is not None and not (_is_integer(value) and value >= 1):
            raise ConfigurationError(f"{name}: expected a whole number from 1, or {instead}, got {value!r}")
    if not (_is_integer(first_pass) and first_pass >= 0):
        raise ConfigurationError(f"first_pass: expected a whole number from 0, got {first_pass!r}")
    if seed is not None and not _is_integer(seed):
        raise ConfigurationError(f"seed: expected a whole number, or None for another order in every run, got {seed!r}")
    if not callable(reader) and reader not in _READERS:
        raise ConfigurationError(
            f"reader: expected one of {', '.join(_READERS)}, or a function from a file name to a dataset, got {reader!r}"
        )
    if compression_type not in (None, *_COMPRESSIONS):
        raise ConfigurationError(f"compression_type: expected GZIP or ZLIB, got {compression_type!r}")
    if compression_type and (callable(reader) or reader == "whole"):
        raise ConfigurationError(
            f"compression_type: expected it with reader='tfrecord' or 'text', got {compression_type!r} with "
            f"{'a function' if callable(reader) else repr(reader)}: decompress in the function, or tf.io.decode_compressed "
            "in map()"
        )
    if not ready_timeout_s > 0:
        raise ConfigurationError(f"ready_timeout_s: expected seconds above 0, got {ready_timeout_s!r}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _place(channel: Any, pattern: Any, *, remote: bool) -> Place:
    from hetero_tfdata.service.sights import Place

    parts = pattern.split("/") if isinstance(pattern, str) else [""]
    if any(part in ("", ".", "..", "**") for part in parts):
        raise ConfigurationError(
            f"pattern: expected one relative to the folder, such as '*.tfrecord' or '*/*.jpg' (no '**'), got {pattern!r}"
        )
    try:
        name = os.fspath(channel)
    except TypeError:
        name = ""
    scheme, is_url, path = name.partition("://") if isinstance(name, str) else ("", "", "")
    if is_url and scheme and path.strip("/"):
        if scheme == "s3" and not is_installed("tensorflow_io"):
            raise ConfigurationError(
                f"channel: {name!r}: TensorFlow reads s3:// only with tensorflow-io, which is not installed here. Make it a "
                "channel in FastFile mode, files('train', ...): a plain folder whose files come from S3 as they are read; or "
                "pip install tensorflow-io and start every host with `hetero-tfdata launch --preload tensorflow_io`"
            )
        folder, advice = f"{scheme}://{path.rstrip('/')}", "Give the URL of a folder that is there"
    elif isinstance(name, str) and posixpath.isabs(name):
        folder = posixpath.normpath(name)
        advice = f"Give the path of a folder that is there{', the same on all data hosts' if remote else ''}"
    elif isinstance(name, str) and _CHANNEL.fullmatch(name) and name not in (".", ".."):
        folder = str(sagemaker.channel_dir(os.environ, name))
        advice = (
            "Is the channel assigned to the data group (TrainingInput(..., instance_groups=[...]))?"
            if remote
            else f"Give the absolute path of a folder, or set SM_CHANNEL_{name.upper()}"
        )
    else:
        raise ConfigurationError(
            f"channel: expected a channel's name such as 'train', an absolute path or a URL such as s3://bucket/folder, got "
            f"{channel!r}"
        )
    return Place(folder, pattern, f"files({name!r})", advice)


def _tensorflow() -> None:
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "files() needs TensorFlow, which is not installed: pip install 'hetero-tfdata[tensorflow]'"
        ) from None


# --- the files ---


def _listing(place: Place, cluster: Cluster, service: str | None, ready_timeout_s: float) -> Listing:
    from hetero_tfdata.service import listing

    if place.folder.startswith("s3://"):
        import tensorflow_io  # noqa: F401  (registers the file system)
    if service is None and not cluster.is_heterogeneous:
        # with several ranks the workers will be on the ranks' own hosts
        return listing.on_this_host(place, workers=max(1, len(cluster.serving_hosts) * worker_count(usable_cpus())))
    hosts = cluster.serving_hosts if service is None else ()
    if service is None:
        dispatcher = cluster.dispatcher_host
        assert dispatcher is not None
        service = f"grpc://{dispatcher.address}:{dispatcher.dispatcher_port}"
    return listing.on_workers(
        place, service, hosts, ready_timeout_s, _log.warning, known=cluster.hosts, compare=cluster.is_leader
    )


# --- the dataset ---


def _opener(reader: Any, compression_type: str | None) -> Callable[[tf.Tensor], tf.data.Dataset]:
    import tensorflow as tf

    if callable(reader):
        return reader
    kind = {"tfrecord": tf.data.TFRecordDataset, "text": tf.data.TextLineDataset}[reader]
    return lambda name: kind(name, compression_type=compression_type)


def _records(
    listing: Listing, passes: int | None, locate: _Locator, reader: Callable[[Any], Any], cycle_length: int
) -> tf.data.Dataset:
    import tensorflow as tf

    wrong: list[str] = []

    def open_file_pass_last(path: tf.Tensor, name: tf.Tensor, epoch: tf.Tensor) -> tf.data.Dataset:
        records = reader(path)
        if not isinstance(records, tf.data.Dataset):
            wrong.append(
                "a tensor" if tf.is_tensor(records) else repr(records)
            )  # an error raised in here gets the lines of TensorFlow's own around it
            records = tf.data.TFRecordDataset(path)

        def with_key(number: tf.Tensor, record: Any) -> tuple[Any, tf.Tensor, tf.Tensor]:
            return record, tf.strings.join([name, ":", tf.strings.as_string(number)]), epoch

        # A dataset made inside a function is whole on its worker, so that the numbers count in the file. Each file has its
        # own thread; interleave's parallel calls would open files ahead, which other workers could read.
        return records.enumerate().map(with_key).prefetch(_READ_AHEAD)

    sources = tf.data.Dataset.range(_total(listing, passes)).map(locate)
    dataset = sources.interleave(open_file_pass_last, cycle_length=cycle_length, num_parallel_calls=None)
    if wrong:
        raise ConfigurationError(f"reader: expected a function that returns a tf.data.Dataset, it returned {wrong[0]}")
    return dataset


def _whole_files(listing: Listing, passes: int | None, locate: _Locator, cycle_length: int | None) -> tf.data.Dataset:
    import tensorflow as tf

    length = _piece_length(len(listing.names))
    total = _total(listing, passes)
    # without end it stays so in the preflight's eyes
    pieces = total if passes is None else -(-total // length)

    def piece(number: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(number * length, tf.minimum((number + 1) * length, total))

    def read(path: tf.Tensor, name: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.io.read_file(path), tf.strings.join([name, ":0"]), epoch

    numbers = tf.data.Dataset.range(pieces).flat_map(piece)
    return numbers.map(locate).map(read, num_parallel_calls=cycle_length or tf.data.AUTOTUNE)


def _piece_length(count: int) -> int:
    """Files of one piece."""
    return min(_LONGEST_PIECE, max(1, count // _PIECES))


def _total(listing: Listing, passes: int | None) -> int:
    """Files in all passes; the last int64 if there is no end, which the preflight takes as such."""
    import tensorflow as tf

    return tf.int64.max if passes is None else min(tf.int64.max, passes * len(listing.names))


def _locator(listing: Listing, first_pass: int, order: int | None) -> _Locator:
    """From the place in the stream of all passes to (path, name, pass)."""
    import tensorflow as tf

    count = len(listing.names)
    names = tf.constant(listing.names)
    folder = listing.place.folder.rstrip("/") + "/"

    def locate_pass_last(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        epoch, position = number // count + first_pass, number % count
        if order is not None:
            # one place of a permutation, which takes as long for a million files as for ten
            position = tf.random.experimental.index_shuffle(
                position, tf.stack([tf.constant(order, tf.int64), epoch]), tf.constant(count - 1, tf.int64)
            )
        name = tf.gather(names, position)
        return tf.strings.join([folder, name]), name, epoch

    return locate_pass_last
