"""What crosses the network between workers and trainers, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hetero_tfdata.errors import ConfigurationError

__all__ = ["NARROW", "Wire"]

NARROW = ("bfloat16", "float16", "uint8")

_COMPRESSIONS = ("none", "auto", "snappy")
_MOST_BYTES = 1_000_000_000  # a message has to stay below 2 GB, and a batch's last chunk is larger by up to a half

_MOST_WORKERS = 90  # a host's ports for them


@dataclass(frozen=True)
class Wire:
    """How batches travel.

    Batches whose components are all dense, of a fixed size per row, and share their first axis are cut into chunks of rows on
    the worker and joined on the trainer to the dataset's own batch size. All other elements (ragged, sparse or strings, padded
    to no fixed size, not batched, or of a graph that doesn't show the batch size) travel whole. Either way the trainer gets
    the dataset's element_spec.

    The unit of exactly-once is the row, and what is joined are the rows that reach one rank, from whichever worker:

    - n rows in batches of B, read by one rank, are ceil(n / B) batches, the last one smaller, also where the rows end unevenly
      on the workers. With several ranks each may have a last smaller batch.
    - A dataset that drops its remainder drops twice: each worker what is left of its own rows, as in tf.data service, and
      each rank what is left of those it got, up to B - 1 rows.
    - An endless dataset has no last batch.
    - With several workers or ranks, rows share a batch that did not on the worker; with keep_batches they don't.

    Attributes:
        chunk_bytes: about the size of a chunk: from half to one and a half times as many, and at least one row. Batches of up
            to eight times as many are one message. 2 MB: between 0.3 and 5 MB made no difference here that showed in the
            noise (batches of 256 photographs, 5,400 to 7,300 images/s; TF 2.15.1, loopback, 2 CPUs, measured 2026-11-24), and
            on a network the time of a request is spread over more bytes.
        compression: "none", "auto" (tf.data service's own default) or "snappy". None by default: inside a data centre it
            costs the trainer more CPU than it saves (client CPU-seconds per GB of decoded photographs, auto against none:
            float32 4.27 -> 1.63, uint8 1.60 -> 1.10; TF 2.15.1, measured 2026-11-23).
        dtypes: float32 components that travel as "bfloat16", "float16" or "uint8" and are float32 again on the trainer; what
            that loses is lost. A name alone: all float32 components; or the dataset's structure, or part of it:
            `{"image": "uint8"}`, `("bfloat16", None)`. "uint8" rounds to whole numbers and clips to 0-255: for images in
            [0, 255], not in [0, 1].
        keep_batches: True: nothing is cut or joined, the trainer gets the workers' batches as they are.
        workers_per_host: worker processes on each host that serves, at least: each is one more flow and one more request under
            way, with its own shuffle buffers and caches. None: what the host has chosen for its CPUs and its link
            (worker_count.py), or `launch --workers`. A host with fewer starts the others before the dataset is registered;
            one with more keeps them, for streams wait for ever for a worker that has gone.
    """

    chunk_bytes: int = 2_000_000
    compression: str = "none"
    dtypes: Any = None
    keep_batches: bool = False
    workers_per_host: int | None = None

    def __post_init__(self) -> None:
        if not _is_whole(self.chunk_bytes) or not 1 <= self.chunk_bytes <= _MOST_BYTES:
            raise ConfigurationError(f"Wire.chunk_bytes: expected 1 to {_MOST_BYTES:,} bytes, got {self.chunk_bytes!r}")
        if self.compression not in _COMPRESSIONS:
            raise ConfigurationError(f"Wire.compression: expected one of {', '.join(_COMPRESSIONS)}, got {self.compression!r}")
        if not isinstance(self.keep_batches, bool):
            raise ConfigurationError(f"Wire.keep_batches: expected True or False, got {self.keep_batches!r}")
        workers = self.workers_per_host
        if workers is not None and not (_is_whole(workers) and 1 <= workers <= _MOST_WORKERS):
            raise ConfigurationError(
                f"Wire.workers_per_host: expected 1 to {_MOST_WORKERS} processes, or None, got {self.workers_per_host!r}"
            )
        _require_narrow(self.dtypes)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_narrow(dtypes: Any) -> None:
    if isinstance(dtypes, Mapping):
        for part in dtypes.values():
            _require_narrow(part)
    elif isinstance(dtypes, tuple | list):
        for part in dtypes:
            _require_narrow(part)
    elif dtypes is not None and not (isinstance(dtypes, str) and dtypes in NARROW):  # a tf.DType equals its name
        raise ConfigurationError(
            f"Wire.dtypes: expected {', '.join(NARROW)} or None, by name, or a dict or tuple of them, got {dtypes!r}"
        )
