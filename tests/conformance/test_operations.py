"""What holds for every operation, walked through the catalogue."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import augment
from hetero_tfdata.augment.catalogue import CATALOGUE, Entry
from hetero_tfdata.augment.op import Op

SIDE = 33
RNG = np.random.default_rng(3)
ENTRIES = pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: repr(entry.make(2)))


def pixels(count: int, entry: Entry) -> tf.Tensor:
    """Smooth images with some noise: neither flat nor white."""
    coarse = RNG.integers(0, 256, (count, 5, 5, entry.channels)).astype(np.float32)
    smooth = tf.image.resize(coarse, [SIDE, SIDE], "bicubic").numpy() + RNG.normal(0, 6, (count, SIDE, SIDE, entry.channels))
    return tf.constant(np.clip(smooth, 0, 255).astype(np.uint8))


def labels(count: int) -> tf.Tensor:
    return tf.one_hot(tf.range(count) % 10, 10)


def chain_of(entry: Entry, **options: object) -> augment.Chain:
    return augment.Chain([entry.make(2)], **({"seed": 1, "key": 2} | options))


def run(chain: augment.Chain, images: tf.Tensor, keys: tf.Tensor) -> np.ndarray:
    return chain(images, labels(images.shape[0]), keys)[0].numpy()


def is_mixing(entry: Entry) -> bool:
    """A mixed sample shows its neighbour in the batch too: only its parameters are its own."""
    return entry.labels


def test_every_public_operation_is_in_the_catalogue():
    public = {
        name for name in augment.__all__ if inspect.isclass(getattr(augment, name)) and issubclass(getattr(augment, name), Op)
    }
    made_by_chains, needs_addons = {"OneSampling", "OneTable"}, {"Addons"}
    assert public - made_by_chains - needs_addons == {entry.name for entry in CATALOGUE}


@ENTRIES
def test_spec_dtype_and_size(entry):
    op = entry.make(2)
    images = pixels(5, entry)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels(5), tf.range(5))).batch(2).map(chain_of(entry))
    spec = dataset.element_spec[0]
    height, width = op.output_size(SIDE, SIDE)
    assert spec.dtype == op.output_dtype
    assert spec.shape.as_list() == [None, height, width, entry.channels]
    for batch, _, _ in dataset:
        assert spec.is_compatible_with(batch), "ragged last batch included"
        assert batch.dtype == op.output_dtype


@ENTRIES
def test_uint8_stays_uint8(entry):
    """All but the one that is there to end it."""
    assert (entry.make(2).output_dtype == tf.uint8) == (entry.name != "Normalize")


@ENTRIES
def test_inside_map_equals_eager(entry):
    images, keys = pixels(4, entry), tf.range(4)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels(4), keys)).batch(4).map(chain_of(entry))
    mapped = next(iter(dataset))[0].numpy()
    np.testing.assert_array_equal(mapped, run(chain_of(entry), images, keys))


@ENTRIES
def test_batch_of_one_and_any_batch_give_the_same_pixels(entry):
    images, keys = pixels(4, entry), tf.range(4)
    whole = run(chain_of(entry), images, keys)
    if is_mixing(entry):
        np.testing.assert_array_equal(run(chain_of(entry), images[:1], keys[:1]).shape, whole[:1].shape)
        return
    np.testing.assert_array_equal(run(chain_of(entry), images[2:3], keys[2:3]), whole[2:3])


@ENTRIES
def test_same_seed_same_pixels_other_key_other_pixels(entry):
    images = tf.repeat(pixels(1, entry), 16, 0) if not is_mixing(entry) else pixels(16, entry)
    keys = tf.range(16)
    first = run(chain_of(entry), images, keys)
    np.testing.assert_array_equal(first, run(chain_of(entry), images, keys))
    other_keys = run(chain_of(entry), images, keys + 100)
    other_seed = run(chain_of(entry, seed=2), images, keys)
    if entry.make(2).is_random:
        assert not np.array_equal(first, other_keys)
        assert not np.array_equal(first, other_seed)
        if not is_mixing(entry):
            assert len({image.tobytes() for image in first}) > 1, "samples of one batch differ"
    else:
        np.testing.assert_array_equal(first, other_keys)
        np.testing.assert_array_equal(first, other_seed)


@ENTRIES
def test_it_does_something(entry):
    images = pixels(16, entry)
    result = run(chain_of(entry), images, tf.range(16))
    assert result.shape != images.shape or not np.array_equal(result, images)


@ENTRIES
def test_without_a_seed_a_random_operation_differs_from_call_to_call(entry):
    images = pixels(16, entry)
    first, second = (run(chain_of(entry, seed=None, key=None), images, tf.range(16)) for _ in range(2))
    assert np.array_equal(first, second) != entry.make(2).is_random


@ENTRIES
def test_no_python_function_in_the_graph(entry):
    images = pixels(2, entry)
    graph = tf.function(chain_of(entry)).get_concrete_function(images, labels(2), tf.range(2)).graph.as_graph_def()
    operations = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    assert not {name for name in operations if "PyFunc" in name}


@ENTRIES
def test_repr_round_trip(entry):
    for strength in (1, 2, 3):
        op = entry.make(strength)
        assert eval(repr(op), vars(augment)) == op
        assert hash(op) == hash(eval(repr(op), vars(augment)))


@ENTRIES
def test_documented(entry):
    documentation = inspect.getdoc(type(entry.make(2)))
    assert "uint8 [B, H, W, C]" in documentation or "uint8 [B, H, W, 3]" in documentation


def test_passage_through_a_real_worker_process_keeps_the_pixels(make_job, write_script):
    """The whole catalogue, in one dataset each, on a worker of another process: pixel for pixel what this process makes."""
    script = write_script("""
import numpy as np
import tensorflow as tf
from hetero_tfdata import augment, distribute
from hetero_tfdata.augment.catalogue import CATALOGUE

rng = np.random.default_rng(5)
different = []
for entry in CATALOGUE:
    images = rng.integers(0, 256, (6, 33, 33, entry.channels), dtype=np.uint8)
    source = tf.data.Dataset.from_tensor_slices((images, np.eye(10, dtype=np.float32)[:6], np.arange(6))).batch(6)
    mapped = source.map(augment.Chain([entry.make(2)], seed=1, key=2))
    here = next(iter(mapped))
    there = next(iter(mapped.apply(distribute(processing_mode="off", ready_timeout_s=120))))
    if not all(np.array_equal(a, b) for a, b in zip(here, there)):
        different.append(repr(entry.make(2)))
print("DIFFERENT", different, "OF", len(CATALOGUE))
assert not different
""")
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    for host in job.hosts:
        job.launch(host, script)
    assert job.wait(280) == {"algo-1": 0, "algo-2": 0}, job.logs()
