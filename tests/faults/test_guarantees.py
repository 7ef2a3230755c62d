"""What distribute() guarantees, by mode and fault: one test for each cell of the README's table.

The rows that are lost with a worker are counted here; their number depends on what it had in work, so it has only a bound.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing

from hetero_tfdata import distribute
from hetero_tfdata.errors import StalledError
from hetero_tfdata.service import stalls

PIECES, ROWS = 80, 50  # the workers divide the pieces
ALL = PIECES * ROWS


def rows(*, endless: bool = False) -> tf.data.Dataset:
    """Batches of 10 rows; a worker makes 100 batches a second, so that a fault comes in their midst."""
    pieces = tf.data.Dataset.range(PIECES)
    pieces = pieces.repeat() if endless else pieces
    numbers = pieces.flat_map(lambda piece: tf.data.Dataset.range(piece * ROWS, piece * ROWS + ROWS))
    return numbers.batch(10).apply(testing.sleep(10_000))


def read(service, dataset, mode: str, fault=lambda: None, *, batches: int | None = None) -> Counter[int]:
    """How often each row came, with the fault after 60 batches."""
    distributed = dataset.apply(
        distribute(processing_mode=mode, service=service.address, ready_timeout_s=60, stall_timeout_s=60)
    )
    seen: Counter[int] = Counter()
    for number, batch in enumerate(distributed if batches is None else distributed.take(batches)):
        seen.update(batch.numpy().tolist())
        if number == 60:
            fault()
    return seen


@pytest.fixture
def service(fragile_service):
    fragile_service.wait_until_both_serve()
    return fragile_service


def comes_back(service, number: int):
    def fault() -> None:
        service.kill(number)
        service.start_again(number)

    return fault


def test_dynamic_without_a_fault_is_exactly_once(service):
    assert read(service, rows(), "dynamic") == Counter(range(ALL))


def test_dynamic_with_a_worker_that_comes_back_is_at_most_once(service):
    seen = read(service, rows(), "dynamic", comes_back(service, 1))
    assert set(seen.values()) == {1}, "no row twice"
    lost = ALL - len(seen)
    print(f"{lost} of {ALL} rows were lost with the worker")
    assert lost <= ALL // 4, "at most what it had in work: pieces begun and batches in its buffer"


def test_dynamic_with_a_dispatcher_that_comes_back_is_exactly_once(service):
    assert read(service, rows(), "dynamic", comes_back(service, 0)) == Counter(range(ALL))


@pytest.mark.parametrize("mode", ["dynamic", "off"])
def test_an_epoch_whose_worker_stays_away_is_an_error(service, monkeypatch, mode):
    """In this process, whose main thread waits in Python: the reader is another thread."""
    monkeypatch.setattr(stalls, "_GRACE_S", 120.0)
    distributed = rows().apply(distribute(processing_mode=mode, service=service.address, ready_timeout_s=60, stall_timeout_s=5))
    seen: Counter[int] = Counter()

    def reader() -> None:
        for number, batch in enumerate(distributed):
            seen.update(batch.numpy().tolist())
            if number == 60:
                service.kill(1)

    thread = threading.Thread(target=reader, daemon=True)
    with pytest.raises(StalledError, match="unreachable: 1 of 2 workers take no connection"):
        _start_and_wait_in_python(thread)
    if mode == "dynamic":
        assert set(seen.values()) == {1}
    service.start_again(1)  # which ends the epoch, before the process is ended
    thread.join(60)
    assert not thread.is_alive()


def _start_and_wait_in_python(thread: threading.Thread) -> None:
    thread.start()
    for _ in range(1200):
        time.sleep(0.05)


def test_dynamic_without_an_end_gives_each_row_once_a_pass(service):
    seen = read(service, rows(endless=True), "dynamic", batches=3 * ALL // 10)
    _check_three_passes(seen, lost=0)


def test_dynamic_without_an_end_flows_past_a_lost_worker(service):
    seen = read(service, rows(endless=True), "dynamic", lambda: service.kill(1), batches=3 * ALL // 10)
    _check_three_passes(seen, lost=ALL // 4)


@pytest.mark.parametrize("number", [0, 1], ids=["dispatcher", "worker"])
def test_dynamic_without_an_end_goes_on_when_a_server_comes_back(service, number):
    seen = read(service, rows(endless=True), "dynamic", comes_back(service, number), batches=3 * ALL // 10)
    _check_three_passes(seen, lost=ALL // 4 if number else 0)


def _check_three_passes(seen: Counter[int], lost: int) -> None:
    """As many rows as three passes have. At the end workers are at work on pieces of two passes, so a row may be one time ahead
    or behind; and nothing begins again from the first pass, which would give the same rows much more often than others."""
    assert sum(seen.values()) == 3 * ALL
    assert len(seen) >= ALL - lost
    assert set(seen.values()) <= ({2, 3, 4} if not lost else {1, 2, 3, 4}), Counter(seen.values())


def test_off_gives_all_rows_once_for_each_worker(service):
    assert read(service, rows(), "off") == Counter(dict.fromkeys(range(ALL), 2))


def test_off_with_a_worker_that_comes_back_begins_its_part_again(service):
    seen = read(service, rows(), "off", comes_back(service, 1))
    assert set(seen) == set(range(ALL)), "every row at least from the other worker"
    assert set(seen.values()) <= {2, 3}, "and once or twice from the one that began again"
    assert 3 in seen.values()


def test_off_with_a_dispatcher_that_comes_back_goes_on(service):
    assert read(service, rows(), "off", comes_back(service, 0)) == Counter(dict.fromkeys(range(ALL), 2))
