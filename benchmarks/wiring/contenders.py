"""Who is compared: the same photographs to the same batches in another process, on the ways that there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wiring.pixels import ROW_BYTES, SIDE

if TYPE_CHECKING:
    import tensorflow as tf

TUNED_ROWS = 16  # a message of 2.4 MB

__all__ = ["CONTENDERS", "TUNED_ROWS", "Way", "receive", "tiny"]


@dataclass(frozen=True)
class Way:
    """One contender.

    Attributes:
        name: for the command line and the JSON; ours begins with "ours".
        label: for tables.
        dtype: of what travels and of what is received.
        images: of a turn, about two seconds' worth.
    """

    name: str
    label: str
    dtype: str
    images: int

    @property
    def image_bytes(self) -> int:
        """On the wire, and received."""
        return ROW_BYTES * {"float32": 4, "uint8": 1}[self.dtype]


CONTENDERS = (
    Way("stock-float32", "stock, its defaults (float32)", "float32", 768),
    Way("stock-uint8-auto", "stock, uint8, compression AUTO", "uint8", 2560),
    Way("stock-uint8-none", "stock, uint8, no compression", "uint8", 5120),
    Way("horovod", "Horovod's compute service, uint8", "uint8", 2560),
    Way("tuned", "stock tuned by hand, uint8", "uint8", 10240),
    Way("ours", "distribute(), uint8", "uint8", 10240),
    Way("tcp", "raw TCP, uint8", "uint8", 20480),
)


def receive(name: str, address: str, file: Path, batch: int) -> tf.data.Dataset:
    """The endless dataset of a contender on TensorFlow: (images [batch, SIDE, SIDE, 3], labels [batch]).

    `address`: of the service; for Horovod's, the file that says where it is.
    """
    import tensorflow as tf

    from hetero_tfdata import distribute

    stock = tf.data.experimental.service.distribute
    if name == "stock-float32":
        return _source(file, batch, tf.float32).apply(stock("parallel_epochs", address)).prefetch(tf.data.AUTOTUNE)
    if name.startswith("stock-uint8"):
        compression = "AUTO" if name.endswith("auto") else None
        over = stock("parallel_epochs", address, compression=compression)
        return _source(file, batch, tf.uint8).apply(over).prefetch(tf.data.AUTOTUNE)
    if name == "horovod":
        from horovod.tensorflow.data import compute_service

        config = compute_service.TfDataServiceConfig.read(address)
        source = _source(file, batch, tf.uint8)
        over = compute_service.send_to_data_service(source, config, rank=0, size=1, processing_mode="parallel_epochs")
        return over.prefetch(tf.data.AUTOTUNE)
    if name == "tuned":
        over = stock("parallel_epochs", address, compression=None)
        messages = _source(file, batch, tf.uint8, TUNED_ROWS).apply(over)
        return messages.rebatch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    # The path of a user's dataset: it ends with `batch`. Both keep what they send in memory, batches or messages of it.
    return _source(file, batch, tf.uint8).apply(distribute(service=address, processing_mode="off"))


def tiny(way: str, service: str, name: str, sleep_us: int) -> tf.data.Dataset:
    """An endless dataset of batches of eight numbers, each of which takes a worker `sleep_us`.

    Who uses the same `name` shares one stream. `way`: "ours", "stock" (its defaults) or "stock-none" (no compression).
    """
    import tensorflow as tf
    from tensorflow.python.data.experimental.ops.testing import sleep

    from hetero_tfdata import distribute

    dataset = tf.data.Dataset.range(80).batch(8, drop_remainder=True).repeat()
    if sleep_us:
        dataset = dataset.apply(sleep(sleep_us))
    if way == "ours":
        return dataset.apply(distribute(service=service, job_name=name, processing_mode="off"))
    over = tf.data.experimental.service
    compression = None if way == "stock-none" else "AUTO"
    over.register_dataset(service, dataset, compression=compression, dataset_id=name)
    shared = over.from_dataset_id("parallel_epochs", service, name, dataset.element_spec, job_name=name)
    return shared.prefetch(tf.data.AUTOTUNE)


def _source(file: Path, batch: int, dtype: Any, rows: int | None = None) -> tf.data.Dataset:
    """From memory, batched; `rows`: in messages of so many."""
    import tensorflow as tf

    rows = rows or batch

    @tf.autograph.experimental.do_not_convert
    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.reshape(tf.io.decode_raw(record, tf.uint8), [SIDE, SIDE, 3])
        return (image if dtype == tf.uint8 else tf.cast(image, dtype) / 255), tf.constant(0, tf.int64)

    images = tf.data.FixedLengthRecordDataset(str(file), ROW_BYTES).map(parse)
    # Batched after the cache, the worker would copy every image once more, as no preset that decodes into batches does.
    return images.batch(rows, drop_remainder=True).cache().repeat()
