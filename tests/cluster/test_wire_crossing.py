"""What crosses the wire, through real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import Wire, distribute
from support import clean_environment, free_blocks

AS_WRITTEN = tf.autograph.experimental.do_not_convert
HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))


class Sample(NamedTuple):
    image: tf.Tensor
    number: tf.Tensor


def serve(workers: int) -> Iterator[str]:
    """A stock service in a process of its own."""
    (first,) = free_blocks(1)
    code = f"""
import tensorflow as tf
service = tf.data.experimental.service
dispatcher = service.DispatchServer(service.DispatcherConfig(port={first}))
workers = [service.WorkerServer(service.WorkerConfig(dispatcher_address="127.0.0.1:{first}",
           worker_address=f"127.0.0.1:{{port}}", port=port)) for port in range({first + 1}, {first + 1 + workers})]
print("up", flush=True)
dispatcher.join()
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=clean_environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "up"
    yield f"grpc://127.0.0.1:{first}"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def one_worker() -> Iterator[str]:
    yield from serve(1)


@pytest.fixture(scope="module")
def two_workers() -> Iterator[str]:
    yield from serve(2)


def images(count: int) -> tf.data.Dataset:
    """(float32 [6, 5, 3], int64 []), whole numbers that follow from the second."""

    @AS_WRITTEN
    def image(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.reshape(tf.cast(tf.range(90) + tf.cast(number, tf.int32), tf.float32), [6, 5, 3]), number

    return tf.data.Dataset.range(count).map(image)


def numbers(count: int, function: Callable[[tf.Tensor], Any]) -> tf.data.Dataset:
    return tf.data.Dataset.range(count).map(AS_WRITTEN(function))


def plain(element: Any) -> list[Any]:
    """Its components as Python values with their dtypes; equal for equal elements."""
    return [
        [str(part.dtype), part.shape.as_list(), part.numpy().tolist()]
        for part in tf.nest.flatten(element, expand_composites=True)
    ]


CUT = {
    "tuple": lambda: images(37).batch(8),
    "dict": lambda: images(37).map(AS_WRITTEN(lambda image, number: {"x": image, "rest": (number, {"y": number})})).batch(8),
    "named tuple": lambda: images(37).map(AS_WRITTEN(Sample)).batch(8),
    "one component": lambda: images(37).map(AS_WRITTEN(lambda image, number: (image,))).batch(8),
    "drop_remainder": lambda: images(37).batch(8, drop_remainder=True),
    "mapped": lambda: images(37).batch(8).map(AS_WRITTEN(lambda image, number: (tf.cast(image, tf.uint8), number))),
    "padded to a fixed size": lambda: numbers(20, tf.range).padded_batch(8, padded_shapes=[24]),
    "each row above a chunk": lambda: numbers(5, lambda number: tf.fill([500, 500], number)).batch(2),
    "bool and half": lambda: numbers(9, lambda number: (tf.fill([300], number > 4), tf.cast(number, tf.float16))).batch(4),
    "a prime batch": lambda: images(50).batch(23),
}

WHOLE = {
    "small batches of numbers": lambda: tf.data.Dataset.range(37).batch(8),
    "not batched": lambda: images(9),
    "scalars": lambda: tf.data.Dataset.range(9),
    "strings": lambda: numbers(20, lambda number: (tf.strings.as_string(number), number)).batch(8),
    "padded": lambda: numbers(20, tf.range).padded_batch(8),
    "ragged": lambda: numbers(20, tf.range).ragged_batch(8),
    "sparse": lambda: numbers(9, lambda number: tf.sparse.from_dense(tf.one_hot(number, 9))).batch(4),
    "a ragged entry of a dict": lambda: numbers(20, lambda number: {"a": tf.range(number), "b": number}).ragged_batch(8),
    "a mask": lambda: images(37).batch(8).map(AS_WRITTEN(lambda image, number: tf.boolean_mask(number, number % 3 > 0))),
}


@pytest.mark.parametrize("name", [*CUT, *WHOLE])
def test_every_kind_of_element_arrives_as_it_was(one_worker, monkeypatch, name):
    """One worker keeps the order, so equal means equal: elements, structure and spec."""
    dataset = (CUT | WHOLE)[name]()
    registered = spy(monkeypatch)
    wire = Wire(chunk_bytes=1000 if name == "a prime batch" else 60)
    over = dataset.apply(distribute(service=one_worker, wire=wire, processing_mode="off", ready_timeout_s=30))
    assert over.element_spec == dataset.element_spec
    ((packed, _),) = registered
    assert (len(list(packed)) > len(list(dataset))) == (name in CUT), "messages are parts of batches"
    before, after = list(dataset), list(over)
    for one in after:
        tf.nest.assert_same_structure(one, before[0])
    assert [plain(element) for element in after] == [plain(element) for element in before]


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tf.data.Dataset, str | None]]:
    """The datasets that are registered from now on, with their compression."""
    registered = []
    service = tf.data.experimental.service
    register = service.register_dataset

    def note(address: str, dataset: tf.data.Dataset, *, compression: str | None, **rest: Any) -> Any:
        registered.append((dataset, compression))
        return register(address, dataset, compression=compression, **rest)

    monkeypatch.setattr(service, "register_dataset", note)
    return registered


def rows_by_consumer(dataset: tf.data.Dataset, service: str, name: str) -> list[list[list[int]]]:
    """Of each of two consumers of one stream its batches, of each batch its rows' numbers."""
    seen: list[list[list[int]]] = [[], []]
    over = distribute(service=service, job_name=name, wire=Wire(chunk_bytes=700), ready_timeout_s=30)
    streams = [iter(dataset.apply(over)) for _ in seen]

    def read(number: int) -> None:
        for image, rows in streams[number]:
            assert (image[:, 0, 0, 0].numpy() == rows.numpy()).all(), "a row's components stay together"
            seen[number].append(rows.numpy().tolist())

    threads = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return seen


def test_every_row_once_over_two_workers_and_two_consumers(two_workers):
    dataset = images(1003).batch(16)
    seen = rows_by_consumer(dataset, two_workers, "every-row")
    assert sorted(row for batches in seen for batch in batches for row in batch) == list(range(1003))
    for batches in seen:
        assert batches, "both were served"
        assert {len(batch) for batch in batches[:-1]} == {16}, "all but the last one of a consumer are full"


def test_with_drop_remainder_every_batch_is_full_and_no_row_comes_twice(two_workers):
    dataset = images(1003).batch(16, drop_remainder=True)
    batches = [batch for batches in rows_by_consumer(dataset, two_workers, "full-batches") for batch in batches]
    assert {len(batch) for batch in batches} == {16}
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    assert set(rows) <= set(range(1003))
    # at most 15 rows stay behind on each worker, and at most 15 with each consumer
    assert len(rows) >= 1003 - 4 * 15


def test_the_last_batches_of_the_workers_are_joined(two_workers):
    """100 rows that end on two workers: tf.data service gives two short batches, distribute() one."""
    dataset = images(50).batch(8)
    stock = dataset.apply(tf.data.experimental.service.distribute("parallel_epochs", two_workers))
    assert sorted(len(rows) for _, rows in stock) == [2, 2] + [8] * 12
    for chunk_bytes in (2_000_000, 300):
        wire = Wire(chunk_bytes=chunk_bytes)
        over = dataset.apply(distribute(service=two_workers, wire=wire, processing_mode="off", ready_timeout_s=30))
        assert [len(rows) for _, rows in over] == [8] * 12 + [4]


def test_keep_batches_leaves_them_as_the_workers_made_them(two_workers, monkeypatch):
    """And compression given to distribute itself wins without touching the rest of the wire."""
    registered = spy(monkeypatch)
    wire = Wire(chunk_bytes=300, compression="auto", keep_batches=True)
    over = (
        images(50)
        .batch(8)
        .apply(distribute(service=two_workers, wire=wire, compression="none", processing_mode="off", ready_timeout_s=30))
    )
    assert sorted(len(rows) for _, rows in over) == [2, 2] + [8] * 12
    assert [compression for _, compression in registered] == [None]


@pytest.mark.parametrize("compression", ["auto", "snappy"])
def test_compressed_chunks_are_the_same_rows(one_worker, monkeypatch, compression):
    registered = spy(monkeypatch)
    dataset = images(37).batch(8)
    over = dataset.apply(
        distribute(
            service=one_worker,
            wire=Wire(chunk_bytes=300),
            compression=compression,
            processing_mode="off",
            ready_timeout_s=30,
        )
    )
    assert [plain(element) for element in over] == [plain(element) for element in dataset]
    # TensorFlow up to 2.15 has one word for both
    assert [word for _, word in registered] in ([compression.upper()], ["AUTO"])


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [
        ("cut", "bfloat16", 2**-8),
        ("cut", "float16", 2**-11),
        ("cut", "uint8", 0.0),
        ("ragged", "bfloat16", 2**-8),
        ("sparse", "float16", 2**-11),
        ("not batched", "uint8", 0.0),
    ],
)
def test_narrowed_values_come_back_as_float32(one_worker, monkeypatch, kind, dtype, tolerance):
    datasets = {
        "cut": lambda: images(37).batch(8),
        "ragged": lambda: numbers(9, lambda number: (tf.range(tf.cast(number, tf.float32)), number)).ragged_batch(4),
        "sparse": lambda: numbers(
            9, lambda number: (tf.sparse.from_dense(tf.one_hot(number, 9) * 200.0), number)
        ).batch(4),
        "not batched": lambda: images(9),
    }  # fmt: skip
    dataset = datasets[kind]()
    registered = spy(monkeypatch)
    wire = Wire(chunk_bytes=60, dtypes=(dtype, None))
    over = dataset.apply(distribute(service=one_worker, wire=wire, processing_mode="off", ready_timeout_s=30))
    assert over.element_spec == dataset.element_spec
    ((packed, _),) = registered
    assert packed.element_spec[0].dtype == dtype
    assert packed.element_spec[1].dtype == tf.int64
    before, after = list(dataset), list(over)
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        parts = zip(*(tf.nest.flatten(one, expand_composites=True) for one in (a, b)), strict=True)
        for x, y in parts:
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=tolerance)


@pytest.mark.slow
def test_chunks_of_two_data_hosts_over_two_ranks(make_job, write_script, tmp_path):
    """Worker processes that `launch` started, and Horovod's ranks."""
    script = write_script("""
import json, logging, os, sys
import tensorflow as tf
from hetero_tfdata import Cluster, Wire, distribute

logging.basicConfig(level=logging.INFO)
dataset = tf.data.Dataset.range(600).map(lambda i: (tf.fill([64, 64, 3], tf.cast(i, tf.float32)), i)).batch(32)
dataset = dataset.apply(distribute(wire=Wire(chunk_bytes=90_000, dtypes=("float16", None)), ready_timeout_s=120))
batches = []
for image, rows in dataset:
    assert (image[:, 0, 0, 0].numpy() == rows.numpy()).all()
    batches.append(rows.numpy().tolist())
with open(os.path.join(sys.argv[1], f"rank-{Cluster.discover().ranks.rank}.json"), "w") as file:
    json.dump(batches, file)
""")
    job = make_job({"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]}, distribution=["dnn_group"])
    launch = [sys.executable, "-m", "hetero_tfdata", "launch", str(script), str(tmp_path)]
    job.start("algo-1", *launch)
    job.start("algo-3", *launch)
    job.start("algo-2", HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", *launch)
    assert set(job.wait(180).values()) == {0}, job.logs()
    seen = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert sorted(row for batches in seen for batch in batches for row in batch) == list(range(600))
    for batches in seen:
        assert {len(batch) for batch in batches[:-1]} <= {32}
    assert "batches of 32 travel in chunks of 4 rows, float32 as float16" in job.log("algo-2")
    served = [job.report(host)["batches_served"] for host in ("algo-1", "algo-3")]
    # batches before they were cut; each worker's last one may be smaller
    assert 19 <= sum(served) <= 20, served
