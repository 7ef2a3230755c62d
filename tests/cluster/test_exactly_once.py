"""Every row exactly once, counted over a million of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import Wire, distribute

pytestmark = pytest.mark.peers

ROWS, WORKERS, CONSUMERS = 1_000_000, 4, 4


@pytest.fixture(scope="module")
def service():
    """A dispatcher and four workers in this process."""
    servers = tf.data.experimental.service
    dispatcher = servers.DispatchServer(servers.DispatcherConfig(port=0, protocol="grpc"))
    address = dispatcher.target.partition("://")[2]
    workers = [
        servers.WorkerServer(servers.WorkerConfig(dispatcher_address=address, heartbeat_interval_ms=200))
        for _ in range(WORKERS)
    ]
    yield f"grpc://{address}"
    del workers, dispatcher


@pytest.mark.parametrize("wire", [Wire(), Wire(keep_batches=True), Wire(chunk_bytes=800)], ids=["whole", "kept", "chunks"])
def test_a_million_rows_over_four_workers_and_four_consumers(service, wire):
    """By pieces of 10,000 rows, which the workers divide among them; batches of 1,000, also cut into chunks of 100."""
    pieces = tf.data.Dataset.range(0, ROWS, 10_000)
    dataset = pieces.flat_map(lambda first: tf.data.Dataset.range(first, first + 10_000)).batch(1000)
    name = f"million-{wire.chunk_bytes}-{wire.keep_batches}"
    # one call for each consumer: two iterators of one dataset would be two passes
    consumers = [
        dataset.apply(distribute(service=service, job_name=name, wire=wire, ready_timeout_s=60)) for _ in range(CONSUMERS)
    ]
    got: list[list[np.ndarray]] = [[] for _ in consumers]

    def read(number: int) -> None:
        got[number] += [batch.numpy() for batch in consumers[number]]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(CONSUMERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
        assert not thread.is_alive()
    rows = np.concatenate([batch for batches in got for batch in batches])
    np.testing.assert_array_equal(np.sort(rows), np.arange(ROWS))
    assert sum(bool(batches) for batches in got) > 1, "more than one consumer got some"
    if wire.keep_batches:
        assert {len(batch) for batches in got for batch in batches} == {1000}
