from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.service.chunks import Passage, batch_rows, chunk_rows
from hetero_tfdata.service.distribute import counted, distribute
from hetero_tfdata.service.servers import SERVED_COUNTER_FD
from hetero_tfdata.service.wire import Wire

AS_WRITTEN = tf.autograph.experimental.do_not_convert


def images(count: int = 20) -> tf.data.Dataset:
    """(float32 [4, 4, 3], int64 []), each image full of its number."""

    @AS_WRITTEN
    def image(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.fill([4, 4, 3], tf.cast(number, tf.float32)), number

    return tf.data.Dataset.range(count).map(image)


# --- the value ---


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"chunk_bytes": 0}, r"Wire\.chunk_bytes: expected 1 to 1,000,000,000 bytes, got 0"),
        ({"chunk_bytes": 2e6}, r"Wire\.chunk_bytes: .* got 2000000\.0"),
        ({"chunk_bytes": True}, r"Wire\.chunk_bytes: .* got True"),
        ({"compression": None}, r"Wire\.compression: expected one of none, auto, snappy, got None"),
        ({"dtypes": "int8"}, r"Wire\.dtypes: expected bfloat16, float16, uint8 or None, .* got 'int8'"),
        ({"dtypes": tf.uint8}, r"Wire\.dtypes: .* by name, .* got tf\.uint8"),
        ({"dtypes": {"image": ("uint8", 3)}}, r"Wire\.dtypes: .* got 3"),
        ({"keep_batches": 1}, r"Wire\.keep_batches: expected True or False, got 1"),
        ({"workers_per_host": 0}, r"Wire\.workers_per_host: expected 1 to 90 processes, or None, got 0"),
        ({"workers_per_host": 91}, r"Wire\.workers_per_host: .* got 91"),
        ({"workers_per_host": 2.0}, r"Wire\.workers_per_host: .* got 2\.0"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        Wire(**wrong)


def test_compression_of_distribute_is_checked_too():
    with pytest.raises(ConfigurationError, match=r"Wire\.compression: .* got 'zip'"):
        distribute(compression="zip")


@pytest.mark.parametrize(
    ("batch", "row_bytes", "chunk_bytes", "rows"),
    [
        (256, 150_536, 2_000_000, 16),  # a divisor near 13.3
        (250, 150_536, 2_000_000, 10),
        (251, 150_536, 2_000_000, 13),  # a prime has none
        (64, 602_120, 2_000_000, 4),
        (8, 50_000_000, 2_000_000, 1),  # a row is larger than a chunk
        (256, 8, 2_000_000, 256),  # a batch is smaller
        (106, 150_536, 2_000_000, 106),  # and one of up to 16 MB
        (107, 150_536, 2_000_000, 13),
        (1, 150_536, 1, 1),
        (256, 0, 2_000_000, 256),
    ],
)
def test_rows_of_a_chunk(batch, row_bytes, chunk_bytes, rows):
    assert chunk_rows(batch, row_bytes, chunk_bytes) == rows


# --- which batches can be cut ---


@AS_WRITTEN
def nested(image, number):
    return {"image": image / 255.0, "rest": (number, tf.one_hot(number, 3))}


@AS_WRITTEN
def masked(image, number):
    return tf.boolean_mask(image, number > 3), tf.boolean_mask(number, number > 3)


@AS_WRITTEN
def flattened(image, number):
    return tf.reshape(image, [-1, 3]), tf.repeat(number, 16)


@AS_WRITTEN
def called(image, number):
    return tf.function(lambda values: tf.reverse(values, [1]))(image), tf.function(tf.negative, jit_compile=True)(number)


@AS_WRITTEN
def sparse(_, number):
    return tf.sparse.from_dense(number[:, tf.newaxis])


@AS_WRITTEN
def summed(rows):
    return tf.reduce_sum(rows, 1)


SIZED = {
    "batch": lambda: images().batch(7),
    "drop_remainder": lambda: images().batch(7, drop_remainder=True),
    "parallel": lambda: images().batch(7, num_parallel_calls=2),
    "rebatched": lambda: images().batch(3).rebatch(7),
    "unchanged behind it": lambda: images().batch(7).cache().shuffle(2).repeat().prefetch(1).with_options(tf.data.Options()),
    "mapped": lambda: images().batch(7).map(nested, num_parallel_calls=2),
    "through functions": lambda: images().batch(7).map(called),
    "the last of two": lambda: images().batch(2).unbatch().batch(7).map(nested),
    "padded": lambda: tf.data.Dataset.range(1, 5).map(AS_WRITTEN(tf.range)).padded_batch(7, padded_shapes=[9]),
    "TF 1": lambda: tf.compat.v1.data.Dataset.range(20).batch(7),
}

UNSIZED = {
    "not batched": lambda: images(),
    "an image alone": lambda: images().map(AS_WRITTEN(lambda image, number: image)),
    "no longer batched": lambda: images().batch(7).map(AS_WRITTEN(lambda image, number: image)).unbatch(),
    "masked": lambda: images().batch(7).map(masked),
    "flattened": lambda: images().batch(7).map(flattened),
    "sizes that differ": lambda: images().batch(3).rebatch([7, 2]),
    "ragged before": lambda: tf.data.Dataset.range(9).map(AS_WRITTEN(tf.range)).ragged_batch(7).map(summed),
    "ragged": lambda: tf.data.Dataset.range(9).map(AS_WRITTEN(tf.range)).ragged_batch(7).map(AS_WRITTEN(lambda rows: rows + 1)),
    "as many sparse rows as a sparse tensor has parts": lambda: (
        images().batch(3).map(sparse).map(AS_WRITTEN(lambda rows: rows))
    ),
    "one tensor": lambda: tf.data.Dataset.from_tensors(tf.zeros([7, 4])),
    "inside of interleave": lambda: tf.data.Dataset.range(2).interleave(
        AS_WRITTEN(lambda _: tf.data.Dataset.range(9).batch(7))
    ),
}


@pytest.mark.parametrize("name", SIZED)
def test_the_size_of_a_batch_is_read_from_the_datasets_steps(name):
    assert batch_rows(SIZED[name]()) == 7


@pytest.mark.parametrize("name", UNSIZED)
def test_where_the_size_is_in_doubt_nothing_is_cut(name):
    dataset = UNSIZED[name]()
    assert batch_rows(dataset) is None
    passage = Passage.plan(dataset, Wire(chunk_bytes=1))
    assert passage.batch is None
    assert passage.pack(dataset) is passage.unpack(dataset) is dataset


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: images().batch(7), "keep_batches"),
        (
            lambda: tf.data.Dataset.range(9).map(AS_WRITTEN(tf.strings.as_string)).batch(7),
            "dtype=tf.string.* has no fixed size",
        ),
        (lambda: tf.data.Dataset.range(9).map(AS_WRITTEN(tf.range)).ragged_batch(7), "RaggedTensorSpec.* has no fixed size"),
        (lambda: tf.data.Dataset.range(9).map(AS_WRITTEN(tf.range)).padded_batch(7), "not a batch of rows of a fixed size"),
        (lambda: images(), "not a batch of rows of a fixed size"),
    ],
)
def test_what_travels_whole_says_why(make, why):
    passage = Passage.plan(make(), Wire(chunk_bytes=1, keep_batches=why == "keep_batches"))
    assert passage.batch is None
    assert re.match(f"elements travel whole: .*{why}", str(passage))


def test_a_passage_tells_the_log_what_it_does():
    dataset = images().batch(16)
    assert str(Passage.plan(dataset, Wire())) == "batches of 16 travel as they are"
    narrow = Passage.plan(dataset, Wire(chunk_bytes=100, dtypes="uint8"))
    assert str(narrow) == "batches of 16 travel in chunks of 2 rows, float32 as uint8", "a row is 48 pixels and a number"
    assert str(Passage.plan(dataset, Wire(chunk_bytes=100))) == "batches of 16 travel in chunks of 1 rows"


# --- dtypes ---


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ("uint8", ("uint8", None, "uint8")),
        ({"image": "float16"}, ("float16", None, None)),
        ({"rest": (None, "bfloat16")}, (None, None, "bfloat16")),
        ({"rest": "bfloat16", "image": "uint8"}, ("uint8", None, "bfloat16")),
        (None, (None, None, None)),
    ],
)
def test_dtypes_name_components_by_structure(dtypes, expected):
    assert Passage.plan(images().batch(7).map(nested), Wire(dtypes=dtypes)).dtypes == expected


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        ({"picture": "uint8"}, r"entries \['picture'\] at the top: expected those of \['image', 'rest'\]"),
        ({"rest": {"a": "uint8"}}, r"entries \['a'\] at \['rest'\]: expected a dataset with .*TensorSpec.* there"),
        ({"rest": ("uint8",)}, r"1 parts at \['rest'\]: expected the dataset's structure, \(TensorSpec"),
        ({"rest": ("uint8", None)}, r"uint8 at \['rest'\]\[0\]: expected float32 to narrow, got TensorSpec.*int64"),
    ],
)
def test_dtypes_that_do_not_fit_are_named_with_their_place(dtypes, message):
    with pytest.raises(ConfigurationError, match=message):
        Passage.plan(images().batch(7).map(nested), Wire(dtypes=dtypes))


def test_uint8_rounds_and_clips():
    values = [-3.0, 0.4, 0.6, 254.5, 255.4, 300.0]
    dataset = tf.data.Dataset.from_tensors(values)
    passage = Passage.plan(dataset, Wire(dtypes="uint8"))
    packed = passage.pack(dataset)
    assert packed.element_spec == tf.TensorSpec([6], tf.uint8)
    (back,) = passage.unpack(packed)
    assert back.dtype == tf.float32
    assert back.numpy().tolist() == [0, 0, 1, 254, 255, 255]


# --- in one process: cut and joined is the dataset again ---


@pytest.mark.parametrize("name", SIZED)
def test_cut_and_joined_is_the_dataset_again(name):
    dataset = SIZED[name]()
    passage = Passage.plan(dataset, Wire(chunk_bytes=1))
    packed = passage.pack(dataset)
    assert all(part.shape[0] == 1 for element in packed.take(3) for part in tf.nest.flatten(element)), "cut"
    joined = passage.unpack(packed)
    assert joined.element_spec == dataset.element_spec
    if name == "unchanged behind it":
        return  # it is shuffled
    before, after = list(dataset), list(joined)
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        tf.nest.assert_same_structure(a, b)
        for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
            assert x.numpy().tolist() == y.numpy().tolist()


def test_batches_are_counted_before_they_are_cut():
    counter = os.memfd_create("counter")
    os.dup2(counter, SERVED_COUNTER_FD)
    try:
        dataset = images(20).batch(8)
        passage = Passage.plan(dataset, Wire(chunk_bytes=1))
        assert len(list(passage.pack(counted(tf, dataset)))) == 20
        assert os.fstat(counter).st_size == 3
    finally:
        os.close(counter)
        os.close(SERVED_COUNTER_FD)


def test_an_element_of_one_component_stays_a_tuple():
    dataset = images(4).batch(2).map(AS_WRITTEN(lambda image, number: (image,)))
    passage = Passage.plan(dataset, Wire(chunk_bytes=1, dtypes="uint8"))
    assert type(dataset.element_spec) is tuple
    assert passage.unpack(passage.pack(counted(tf, dataset))).element_spec == dataset.element_spec


# --- make bench-wire ---


def test_the_benchmarks_ratios_are_medians_of_each_rounds_own(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from wiring import contenders, rounds

    def turns(*wall_s: float) -> list[rounds.Turn]:
        return [rounds.Turn(images=1000, wall_s=seconds, client_cpu_s=seconds / 2, worker_cpu_s=0.1) for seconds in wall_s]

    found = rounds.ratio({"ours": turns(1.0, 1.0, 5.0), "theirs": turns(2.0, 3.0, 5.0)}, "ours", "theirs")
    # of medians it would be 3
    assert found == {"ours": "ours", "theirs": "theirs", "images_per_s": 2.0, "min": 1.0, "max": 3.0, "client_cpu": 0.5}
    way = next(one for one in contenders.CONTENDERS if one.dtype == "float32")
    figures = rounds.figures(way, turns(1.0, 2.0, 4.0))
    assert figures["images_per_s"] == 500
    assert figures["gb_per_s"] == pytest.approx(500 * 224 * 224 * 3 * 4 / 1e9)
    assert figures["client_us_per_image"] == pytest.approx(1000)
    assert figures["client_cpu_s_per_gb"] == pytest.approx(1e-3 / (224 * 224 * 3 * 4 / 1e9))
