"""What distribute(cache=...) keeps, and that nothing else changes; tests/cluster/test_cache.py has real workers."""

from __future__ import annotations

import collections
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from hetero_tfdata import Cache, distribute, errors, files
from hetero_tfdata.service.cache_store import CacheStore
from hetero_tfdata.service.caching import cached

tf = pytest.importorskip("tensorflow")
Dataset = tf.data.Dataset


@pytest.fixture
def store(tmp_path):
    """Folders as a worker inherits them, in this process."""
    lines: list[str] = []
    for where in ("memory", "disk"):
        (tmp_path / where).mkdir()
    store = CacheStore(lines.append, {"memory": str(tmp_path / "memory"), "disk": str(tmp_path / "disk")}).open()
    store.lines = lines
    inherited = [tuple(map(int, pair.split(":"))) for pair in store.arguments[1].split(",")]
    for fd, number in inherited:
        os.dup2(fd, number)
    yield store
    for _, number in inherited:
        os.close(number)
    store.close()


def counts(store):
    store._take()
    return store.counts


def held_bytes(store, where: str = "memory") -> int:
    """What the results take on their disk, in whole blocks, without the store's own small files."""
    found = list(store.folders[where].glob("*-*/*"))
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in found)


def record(i):
    return tf.strings.as_string(i)


def decode(text):
    """Costly, as far as the search for what is worth keeping is concerned."""
    return tf.reshape(tf.io.decode_raw(tf.strings.join([text, "0123456789abcdef" * 64]), tf.uint8)[:1024], [1024])


def augment(image):
    return image + tf.cast(tf.random.uniform([], 0, 255, tf.int32), tf.uint8)


def records(count: int = 12):
    return Dataset.from_tensor_slices([f"record {number:04}" for number in range(count)])


def decode_and_augment(text):
    return augment(decode(text))


@tf.function
def compiled_decode(text):
    return decode(text)


def sometimes_random(text):
    return tf.cond(tf.strings.length(text) > 3, lambda: decode_and_augment(text), lambda: decode(text))


def with_label(text):
    return decode(text), tf.strings.length(text)


def with_time(text):
    return decode(text), tf.timestamp()


def written(text):
    tf.io.write_file("/nowhere", text)
    return decode(text)


def called_in_python(text):
    return tf.numpy_function(lambda one: one, [text], tf.string)


def widened(image):
    return tf.cast(image, tf.float32) / 255.0


generator = tf.random.Generator.from_seed(1)
variable = tf.Variable(1, dtype=tf.uint8)


def from_a_generator(text):
    return decode(text) + tf.cast(generator.uniform([], 0, 9, tf.int32), tf.uint8)


def counted(text):
    variable.assign_add(1)
    return decode(text) + variable


def seeded_by(text, seed):
    return decode(text) + tf.cast(tf.random.stateless_uniform([], tf.stack([seed, seed]), 0, 255, tf.int32), tf.uint8)


def seeded_by_itself(text):
    seed = tf.cast(tf.strings.to_hash_bucket_fast(text, 1000), tf.int32)
    return seeded_by(text, seed)


def seeds_beside(text, number):
    return decode(text), tf.stack([number, 7])


def opened_at_random(text):
    return Dataset.from_tensors(text).map(lambda one: tf.strings.join([one, record(tf.random.uniform([]))]))


KEPT = {
    "before the first random step": (lambda: records().map(decode).map(augment).batch(4), "map(decode)"),
    "at each place below shuffle and repeat": (
        lambda: records().map(decode).shuffle(9).repeat().map(tf.identity).prefetch(2).map(augment),
        "map(decode), map(identity)",
    ),
    "compiled": (lambda: records().map(compiled_decode).map(augment), "map(compiled_decode)"),
    "in parallel": (lambda: records().map(decode, num_parallel_calls=4).batch(2), "map(decode)"),
    "with the label": (lambda: records().map(with_label).map(lambda image, label: (augment(image), label)), "map(with_label)"),
    "of opened files": (
        lambda: records().interleave(lambda name: Dataset.from_tensors(name).repeat(2)).map(decode),
        "map(decode)",
    ),
    "before a cast that makes it larger": (lambda: records().map(decode).map(widened), "map(decode)"),
    "of two runs the one that decodes": (
        lambda: records().map(decode).filter(lambda image: image[0] > 0).map(lambda image: image + 1),
        "map(decode)",
    ),
    "of two sources, each": (
        lambda: Dataset.zip((records().map(decode), Dataset.random(seed=1))).map(lambda image, seed: (image, seed)),
        "map(decode)",
    ),
    "what is random by its own content": (lambda: records().map(seeded_by_itself), "map(seeded_by_itself)"),
    "beside a number that counts on": (lambda: records().repeat().enumerate().map(lambda i, text: (i, decode(text))), "map("),
    "beside a seed of such a number": (
        lambda: Dataset.zip((records(), Dataset.counter())).map(seeds_beside),
        "map(seeds_beside)",
    ),
}
NOTHING = {
    "decodes and augments": (lambda: records().map(decode_and_augment), r"uses RandomUniform.*map\(decode\).map\(augment\)"),
    "sometimes": (lambda: records().map(sometimes_random), "RandomUniform"),
    "batched first": (lambda: records().batch(4).map(tf.identity), "batch.* puts other records together.*before the batches"),
    "padded first": (lambda: records().padded_batch(4).map(tf.identity), "puts other records together"),
    "grouped": (
        lambda: records().group_by_window(lambda _: tf.constant(0, tf.int64), lambda _, d: d.batch(2), 2).map(tf.identity),
        "group_by_window.* together",
    ),
    "with a state": (lambda: records().scan(0, lambda s, text: (s + 1, text)).map(decode), "scan.* together"),
    "from a generator of numbers": (lambda: records().map(from_a_generator), r"map\(from_a_generator\) uses"),
    "Python": (lambda: records().map(called_in_python), "uses a Python function"),
    "the time, from the same record": (lambda: records().map(with_time), "Timestamp"),
    "an effect": (lambda: records().map(written), "no map"),
    "a variable that changes": (lambda: records().map(counted), "uses (AssignAdd|ReadVariableOp)"),
    "a random source": (lambda: Dataset.random(seed=3).map(record).map(decode), "Dataset.random"),
    "numbers of another source": (lambda: Dataset.zip((records(), Dataset.random())).map(seeded_by), "gives other numbers"),
    "a random dataset for each file": (
        lambda: records().interleave(opened_at_random).map(decode),
        "interleave.* uses RandomUniform",
    ),
    "no map at all": (lambda: records().shuffle(3).batch(2), "no map"),
}


@pytest.mark.parametrize(("make", "title"), KEPT.values(), ids=KEPT)
def test_kept(make, title):
    result = cached(make(), Cache())
    assert result.keeps
    assert result.summary.startswith(title)
    assert result.dataset.element_spec == make().element_spec


@pytest.mark.parametrize(("make", "why"), NOTHING.values(), ids=NOTHING)
def test_nothing_is_kept(make, why):
    dataset = make()
    result = cached(dataset, Cache())
    assert not result.keeps
    assert result.dataset is dataset
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(result.summary)


def test_decoded_once_and_augmented_in_every_pass(store, tmp_path):
    """With the passes inside, in another order each, and with passes that begin anew."""
    log = tmp_path / "decoded"

    def slow(text):
        tf.print(text, output_stream=f"file://{log}")
        return text, decode(text)

    dataset = records(20).map(slow).shuffle(20, reshuffle_each_iteration=True).repeat(2)
    dataset = dataset.map(lambda text, image: (text, image, augment(image)), num_parallel_calls=3).batch(7)
    result = cached(dataset, Cache("memory", 0.1))
    assert "map(slow) is computed once" in result.summary
    noise, orders = collections.defaultdict(set), set()
    for _ in range(2):
        rows = [row for batch in result.dataset.as_numpy_iterator() for row in zip(*batch, strict=True)]
        assert sorted(row[0] for row in rows) == sorted(2 * [f"record {n:04}".encode() for n in range(20)])
        orders |= {tuple(row[0] for row in half) for half in (rows[:20], rows[20:])}
        for text, image, noisy in rows:
            np.testing.assert_array_equal(image, decode(text))
            noise[text].add(int(noisy[0]))
    assert len(orders) == 4, "the shuffles are not kept"
    assert sum(map(len, noise.values())) > 40, "nor is what is random"
    # a record may be on its way twice where a pass begins before the other one has ended
    lines = log.read_text().splitlines()
    assert set(lines) == {f"record {n:04}" for n in range(20)}
    assert len(lines) <= 24
    assert counts(store).hits + counts(store).misses == 80
    assert counts(store).misses == len(lines)


def test_every_kind_of_component(store):
    def parse(i):
        return {
            "ragged": tf.RaggedTensor.from_row_lengths(tf.range(i + 2), [i, 2]),
            "sparse": tf.sparse.from_dense([[i, 0, 2]]),
            "text": (tf.strings.as_string([i, i + 1]), i),
            "empty": tf.zeros([0, 3]),
            "half": tf.cast(i, tf.bfloat16),
            "flag": i > 2,
        }

    dataset = Dataset.range(5).map(lambda i: tf.cast(i, tf.int32)).map(parse)
    kept = cached(dataset, Cache("disk", 0.01)).dataset
    for _ in range(2):
        for expected, got in zip(dataset, kept, strict=True):
            tf.nest.assert_same_structure(expected, got)
            for one, other in zip(*(tf.nest.flatten(x, expand_composites=True) for x in (expected, got)), strict=True):
                np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert (counts(store).hits, counts(store).misses) == (5, 5)


def test_captured_values_and_tables_belong_to_the_result(store):
    def with_table(values, offset):
        keys = tf.constant(["record 0000", "record 0001"])
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, tf.constant(values)), -1)
        offset = tf.constant(offset)

        def look_up(text):
            return table.lookup(text) + offset

        return records(3).map(look_up)

    for values, offset in (([1, 2], 10), ([1, 2], 10), ([3, 4], 10), ([1, 2], 20)):
        dataset = with_table(values, offset)
        result = cached(dataset, Cache("memory", 0.01))
        assert result.keeps
        expected = [value + offset for value in (*values, -1)]
        assert list(result.dataset.as_numpy_iterator()) == expected
    assert (counts(store).hits, counts(store).misses) == (3, 9), "only the second one is the same as another"


def test_a_variable_belongs_to_the_result_as_it_is(store):
    added = tf.Variable(1, dtype=tf.uint8)

    def decode_and_add(text):
        return decode(text) + added

    for value in (1, 2, 1):
        added.assign(value)
        result = cached(records(3).map(decode_and_add), Cache("memory", 0.01))
        for image in result.dataset.as_numpy_iterator():
            assert image[0] == ord("r") + value
    assert result.keeps


def test_files_without_end_are_found_again_and_keep_their_pass(store, tmp_path):
    """The passes are in the source there: the number of the pass is no part of what is looked up."""
    (tmp_path / "train").mkdir()
    for file in range(3):
        with tf.io.TFRecordWriter(str(tmp_path / "train" / f"{file}.tfrecord")) as writer:
            for number in range(4):
                writer.write(f"{file} {number}".encode())

    def decoded(text, key, epoch):
        return decode(text), key, epoch, tf.stack([tf.strings.to_hash_bucket_fast(key, 99), epoch])

    for reader in ("tfrecord", "whole"):
        dataset = files(tmp_path / "train", "*.tfrecord", passes=3, seed=1, reader=reader).map(decoded)
        result = cached(dataset, Cache("memory", 0.01))
        assert "map(decoded) is computed once" in result.summary
        assert "component 3 (it is the number of the pass)" in result.summary
        rows = list(result.dataset.as_numpy_iterator())
        seen = collections.Counter((key, epoch) for _, key, epoch, _ in rows)
        assert set(seen.values()) == {1}
        assert {epoch for _, epoch in seen} == {0, 1, 2}
        assert all(seed[1] == epoch for _, _, epoch, seed in rows)
    assert counts(store).misses == 12 + 3
    assert counts(store).hits == 2 * (12 + 3)


def test_a_reader_that_draws_random_numbers_is_not_kept(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\n")
    dataset = files(tmp_path, "*.txt", reader=opened_at_random).map(lambda text, key, epoch: (decode(text), key))
    assert "uses RandomUniform" in cached(dataset, Cache()).summary


def test_the_number_of_a_pass_made_into_an_image_is_not_kept(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\n")

    def of_the_pass(text, key, epoch):
        return seeded_by(text, tf.cast(epoch, tf.int32)), key

    dataset = files(tmp_path, "*.txt", reader="text", passes=None).map(of_the_pass)
    assert "it is the number of the pass" in cached(dataset, Cache()).summary


@pytest.mark.parametrize(("mib", "records_held"), [(0.2, 25), (0.004, 0), (4, 40)])
def test_the_budget_is_never_exceeded(store, mib, records_held):
    """A result of 1 kB takes 8 kB: its file and the file's index, each in whole blocks."""
    dataset = records(40).map(decode, num_parallel_calls=8)
    kept = cached(dataset, Cache("disk", mib / 1024)).dataset
    for _ in range(3):
        assert len(list(kept)) == 40
        assert held_bytes(store, "disk") <= mib * 2**20
    found = counts(store)
    assert records_held - 8 <= found.kept <= records_held, "as many as fit, but for those that asked at the same time"
    assert found.kept == len(list(store.folders["disk"].glob("*-*/*.index")))
    assert held_bytes(store, "disk") <= found.bytes_held <= mib * 2**20
    assert found.full == (records_held < 40)
    assert sum("the budget is used up" in line for line in store.lines) == found.full


def test_a_host_gives_less_than_asked_for(store):
    """What is free at its start counts, also against a number of the user's."""
    store._allow(store.folders["memory"], 0, 500_000)
    kept = cached(records(40).map(decode), Cache("memory", 1)).dataset
    assert len(list(kept)) == 40
    assert 0 < held_bytes(store) <= 500_000
    store._allow(store.folders["memory"], 0, 0)
    before = counts(store).kept
    assert len(list(cached(records(40).map(decode), Cache("memory")).dataset)) == 40
    assert counts(store).kept == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:50],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:-3] + b"abc",
        lambda data: b"x" * 100,
    ],
)
def test_a_damaged_file_is_a_miss(store, damage):
    kept = cached(records(4).map(decode), Cache("disk", 0.01)).dataset
    expected = [image.tobytes() for image in kept.as_numpy_iterator()]
    paths = sorted(store.folders["disk"].glob("*-*/*.data-*"))
    assert len(paths) == 4
    paths[0].write_bytes(damage(paths[0].read_bytes()))
    assert [image.tobytes() for image in kept.as_numpy_iterator()] == expected
    assert (counts(store).hits, counts(store).misses) == (3, 5)
    assert [image.tobytes() for image in kept.as_numpy_iterator()] == expected
    assert (counts(store).hits, counts(store).misses) == (7, 5), "it was written anew"


def test_what_cannot_be_written_is_no_error(store):
    dataset = records(4).map(lambda text: tf.repeat(decode(text), 100))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # as a disk that is full
    try:
        assert len(list(cached(dataset, Cache("disk", 0.01)).dataset)) == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (counts(store).misses, counts(store).kept, counts(store).full) == (4, 0, False)


def test_without_the_folders_everything_is_computed():
    assert len(list(cached(records(4).map(decode), Cache()).dataset)) == 4


def test_an_error_of_the_users_function_comes_through(store):
    dataset = records(4).map(lambda text: tf.io.decode_jpeg(text))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Unknown image file format|Expected image"):
        list(cached(dataset, Cache()).dataset)


def test_assertions_and_prints_stay_with_what_is_computed(store, tmp_path):
    def checked(text):
        tf.debugging.assert_less(tf.strings.length(text), 11, message="too long")
        return decode(text)

    with pytest.raises(tf.errors.InvalidArgumentError, match="too long"):
        list(cached(records(4).map(checked), Cache("memory", 0.01)).dataset)


def test_a_graph_that_carries_data_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr("hetero_tfdata.service.caching.LARGEST_GRAPH_BYTES", 1000)
    dataset = records(100).map(decode)
    result = cached(dataset, Cache())
    assert "the dataset's graph carries" in result.summary
    assert result.dataset is dataset


def test_a_graph_that_cannot_be_read_again_is_left_as_it_is(monkeypatch):
    def refuse(graph_def):
        raise tf.errors.InvalidArgumentError(None, None, "no such node\nmore")

    monkeypatch.setattr(tf.raw_ops, "DatasetFromGraph", refuse)
    dataset = records().map(decode)
    result = cached(dataset, Cache())
    assert result.summary == "nothing is kept: TensorFlow can't read the dataset's graph: no such node"
    assert result.dataset is dataset


# --- the folders ---


def test_folders_of_killed_jobs_are_removed_and_others_are_not(tmp_path):
    first = CacheStore(print, {"disk": str(tmp_path)}).open()
    left = tmp_path / "hetero-tfdata-cache-left"
    left.mkdir()
    (left / "big").write_bytes(bytes(1000))
    second = CacheStore(print, {"disk": str(tmp_path)}).open()
    assert not left.exists()
    assert all(store.folders["disk"].is_dir() for store in (first, second))
    for store in (first, second):
        store.close()
        store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gets_full_is_left_alone(store, monkeypatch):
    assert len(list(cached(records(4).map(decode), Cache("disk")).dataset)) == 4
    store.poll()
    real = os.statvfs(store.folders["disk"])
    full = os.statvfs_result([*real[:4], real.f_blocks // 100, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    store._polled = 0.0
    store.poll()
    assert any("nearly full" in line for line in store.lines)
    monkeypatch.undo()
    assert len(list(cached(records(8).map(decode), Cache("disk")).dataset)) == 8
    assert counts(store).kept == 4


def test_a_folder_that_cannot_be_made_is_left_out(tmp_path):
    store = CacheStore(print, {"memory": str(tmp_path / "missing"), "disk": str(tmp_path)}).open()
    assert list(store.folders) == ["disk"]
    store.close()


def test_what_a_store_reports(store):
    assert store.report() is None
    kept = cached(records(4).map(decode), Cache("memory", 0.01)).dataset
    for _ in range(3):
        list(kept)
    counts(store)
    report = store.report()
    assert (report["hits"], report["misses"], report["kept"]) == (8, 4, 4)
    assert report["computing_s"] > 0
    assert report["reading_s"] > 0
    assert report["saved_s"] == pytest.approx(8 * report["computing_s"] / 4 - report["reading_s"], abs=1e-3)
    folder = store.folders["memory"]
    store.close()
    assert not folder.exists()
    assert any(line.startswith("cache: 8 hits, 4 misses") for line in store.lines)


# --- arguments ---


@pytest.mark.parametrize(
    "wrong", [{"where": "gpu"}, {"gib": 0}, {"gib": -1.0}, {"gib": True}, {"gib": "1"}, {"gib": float("nan")}]
)
def test_a_cache_is_checked_when_built(wrong):
    with pytest.raises(errors.ConfigurationError, match=r"Cache\.(where|gib): expected"):
        Cache(**wrong)


def test_what_distribute_takes():
    for cache in ("memory", "disk", Cache("disk", gib=20), None):
        distribute(cache=cache)
    with pytest.raises(errors.ConfigurationError, match="cache: expected 'memory', 'disk'"):
        distribute(cache="ram")
    with pytest.raises(errors.ConfigurationError, match="expected None with service="):
        distribute(cache="memory", service="grpc://127.0.0.1:1")


def test_one_process_gets_its_dataset_as_it_is():
    dataset = records()
    assert dataset.apply(distribute(cache="memory")) is dataset


def test_the_budget_is_named():
    text = cached(records(1000).map(decode), Cache("disk", gib=0.0001)).summary
    assert "disk, 107 kB a host" in text
    assert "all of it is 1.02 MB, 1.02 kB a record: on one host it doesn't fit" in text
    endless = cached(records(10).repeat().map(decode), Cache("memory", gib=1)).summary
    assert "1.02 kB a record, 1,048,576 of them fit" in endless


def test_no_path_of_this_machine_is_in_the_graph(tmp_path):
    """The same graph is for every host."""
    graph = cached(records(4).map(decode), Cache("disk")).dataset._as_serialized_graph().numpy()
    assert b"/proc/self/fd/902/" in graph
    assert str(Path.home()).encode() not in graph
