"""What a dataset's iterators say of themselves: who waits, and that nothing else changes."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata.service.pulse import BEAT_S, Pass, Pulse
from support import wait_for

SPECIMENS = {
    "a tensor": np.int64(3),
    "a pair": (np.float32(1), np.int64(2)),
    "a tuple of one": (np.int64(1),),
    "a pair in a pair": ((np.int64(1), np.int64(2)), {"a": np.int64(3)}),
    "a ragged tensor": tf.ragged.constant([[1], [2, 3]]),
    "a dict with a sparse tensor": {"x": tf.sparse.from_dense([1, 0, 2]), "y": b"text"},
}


def held_up() -> tuple[tf.data.Dataset, tf.Variable]:
    """Two elements; the second one comes when the variable is set."""
    go = tf.Variable(False)

    def wait(number: tf.Tensor) -> tf.Tensor:
        tf.while_loop(lambda: (number > 0) & ~go.read_value(), lambda: (), ())
        return number

    return tf.data.Dataset.range(2).map(wait), go


def without_reading_ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


@pytest.mark.parametrize("name", SPECIMENS)
def test_elements_and_their_spec_stay_what_they_are(name):
    dataset = tf.data.Dataset.from_tensors(SPECIMENS[name]).repeat(3)
    attached = Pulse().attach(dataset)
    assert attached.element_spec == dataset.element_spec
    seen, expected = list(attached), list(dataset)
    assert len(seen) == 3
    for one, other in zip(tf.nest.flatten(seen, True), tf.nest.flatten(expected, True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_iterator_waits_from_its_asking_to_its_getting():
    dataset, go = held_up()
    pulse = Pulse()
    elements = iter(without_reading_ahead(pulse.attach(dataset)))
    assert int(next(elements)) == 0
    assert pulse.waiting_s() == {}, "it got what it asked for, and asked no more"
    got = []
    reader = threading.Thread(target=lambda: got.append(int(next(elements))), daemon=True)
    reader.start()
    try:
        (number,) = wait_for(pulse.waiting_s, 5, "its asking")
        time.sleep(4 * BEAT_S + 1)
        assert pulse.waiting_s()[number] > 4 * BEAT_S, "its heart beats while it waits"
    finally:
        go.assign(True)
        reader.join(10)
    assert got == [1]
    assert pulse.waiting_s() == {}


def test_a_full_buffer_is_no_waiting():
    pulse = Pulse()
    elements = iter(pulse.attach(tf.data.Dataset.range(100)).prefetch(4))
    assert int(next(elements)) == 0
    time.sleep(1.0)
    assert pulse.waiting_s() == {}
    assert [int(one) for one in elements] == list(range(1, 100))


def test_an_iterator_that_is_gone_waits_no_more():
    dataset, go = held_up()
    pulse = Pulse()
    elements = iter(pulse.attach(dataset).prefetch(2))
    assert int(next(elements)) == 0
    try:
        wait_for(pulse.waiting_s, 5, "the buffer's asking")
    finally:
        go.assign(True)
    del elements
    wait_for(lambda: not pulse.waiting_s(), 10 * BEAT_S, "its heart to stop")


def test_the_end_of_an_epoch_does_not_wait_for_the_next_beat():
    attached = Pulse().attach(tf.data.Dataset.range(3))
    began = time.monotonic()
    for _ in range(4):
        assert len(list(attached)) == 3
    assert time.monotonic() - began < 2 * BEAT_S


def test_memory_of_what_was_read_is_given_back():
    pulse = Pulse()
    for element in pulse.attach(tf.data.Dataset.range(100_000)):
        if int(element) % 20_000 == 0:
            pulse.waiting_s()
    pulse.waiting_s()
    told = os.fstat(pulse._file)
    assert told.st_size > 1_500_000
    assert told.st_blocks * 512 < told.st_size / 2


def test_a_pass_that_was_read_to_its_end_tells_its_rows():
    pulse = Pulse(in_batches=True)
    attached = pulse.attach(tf.data.Dataset.range(25).batch(10)).prefetch(2)
    for number in (1, 2):
        assert len(list(attached)) == 3
        assert pulse.passes() == [Pass(elements=3, rows=25, state="ended")] * number
    assert list(pulse.waiting_s()) == [], "it asks no more"


def test_elements_that_are_no_batches_count_one_row_each():
    pulse = Pulse()
    assert len(list(pulse.attach(tf.data.Dataset.from_tensors(np.zeros([7, 2])).repeat(3)))) == 3
    assert pulse.passes() == [Pass(elements=3, rows=3, state="ended")]


def test_rows_of_a_ragged_batch():
    pulse = Pulse(in_batches=True)
    rows = tf.ragged.constant([[1], [2, 3], [4]])
    list(pulse.attach(tf.data.Dataset.from_tensors({"x": rows})))
    assert pulse.passes() == [Pass(elements=1, rows=3, state="ended")]


def test_a_pass_that_was_broken_off_has_no_end():
    pulse = Pulse()
    elements = iter(pulse.attach(tf.data.Dataset.range(1000)).prefetch(2))
    next(elements)
    wait_for(lambda: pulse.passes()[0].elements == 3, 10, "the buffer")
    assert pulse.passes()[0].state == "open"
    del elements
    wait_for(lambda: not pulse.waiting_s() and pulse.passes()[0].state == "left", 10 * BEAT_S, "its heart to stop")


def test_of_two_that_wait_it_is_not_told_which_one_got_the_end():
    pulse = Pulse()

    def record(*lines: str) -> list[str]:
        os.write(pulse._file, "".join(line + "\n" for line in lines).encode())
        return [one.state for one in pulse.passes()]

    assert record("b1", "a1", "g1 5", "a1", "b2", "a2", "e") == ["left", "left"]
    assert record("g2 5", "a2") == ["left", "open"], "it was not the second one"
    assert record("e") == ["left", "left"], "the first one still seems to ask"
    assert record("b3", "a3", "g3 5") == ["left", "left", "open"]
