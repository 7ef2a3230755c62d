"""The preflight against real servers: what plain tf.data service falls into, distribute() names; what it runs, so do we."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from hetero_tfdata import distribute, errors
from support import clean_environment

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.peers

Dataset = tf.data.Dataset
SERVICE = tf.data.experimental.service
OFF, DYNAMIC = SERVICE.ShardingPolicy.OFF, SERVICE.ShardingPolicy.DYNAMIC

# Two workers, as any user of TensorFlow starts them, in a process that has seen nothing of the datasets.
WORKERS = """
import sys
import tensorflow as tf
service = tf.data.experimental.service
workers = [
    service.WorkerServer(service.WorkerConfig(dispatcher_address=sys.argv[1], heartbeat_interval_ms=100)) for _ in range(2)
]
print("READY", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def service():
    dispatcher = SERVICE.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    command = [sys.executable, "-c", WORKERS, address]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    workers = subprocess.Popen(command, env=clean_environment(), text=True, **pipes)
    assert workers.stdout.readline().strip() == "READY"
    yield dispatcher.target
    workers.kill()
    workers.wait()


def plain(dataset, service, mode=DYNAMIC):
    return dataset.apply(SERVICE.distribute(mode, service, compression=None))


def ours(dataset, service, mode="dynamic", **options):
    return dataset.apply(distribute(service=service, processing_mode=mode, ready_timeout_s=30, **options))


def numbers(count):
    """0, 1, 2, ..., slow enough that both workers get a share."""
    from tensorflow.python.data.experimental.ops import testing

    return Dataset.from_tensor_slices(np.arange(count)).apply(testing.sleep(5000))


def rows(dataset, limit=1000):
    return [tf.nest.map_structure(_plain_value, element) for element in dataset.take(limit)]


def _plain_value(value):
    if isinstance(value, tf.sparse.SparseTensor):
        value = tf.sparse.to_dense(value)
    if isinstance(value, tf.RaggedTensor):
        return value.to_list()
    value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else value


# --- what comes out wrong ---


def doubled(elements):
    return len(elements) == 20


WRONG = {
    "take-per-worker": (lambda: numbers(60).take(10), doubled),
    "random-per-worker": (lambda: Dataset.random(seed=1).take(10), lambda got: len(got) == 20 and len(set(got)) == 10),
    "skip-per-worker": (lambda: numbers(40).skip(4), lambda got: len(got) == 32),
    "shard-again": (lambda: numbers(60).shard(2, 0), lambda got: any(x % 2 for x in got)),
    "unique-per-worker": (
        lambda: numbers(40).map(lambda x: x // 20).unique(),
        lambda got: len(got) > 2 and set(got) == {0, 1},
    ),
    "scan-per-worker": (
        lambda: numbers(40).scan(np.int64(0), lambda state, x: (state + 1, state)),
        lambda got: len(got) == 40 and len(set(got)) < 40,
    ),
    "counter-per-worker": (lambda: numbers(60).enumerate(), lambda got: len(got) == 60 > len({i for i, _ in got})),
    "window-per-worker": (
        lambda: numbers(40).window(3, drop_remainder=True).flat_map(lambda window: window.batch(3)),
        lambda got: any(b - a != 1 for a, b, _ in got),
    ),
    # in one process one batch of all rows; each of two workers has too few
    "remainder-per-worker": (lambda: numbers(20).batch(20, drop_remainder=True), lambda got: got == []),
}


@pytest.mark.parametrize("code", WRONG)
def test_plain_service_gives_something_else_and_preflight_says_so(code, service, caplog):
    make, went_wrong = WRONG[code]
    # on a busy machine one worker may have done all of it before the other began
    assert any(went_wrong(rows(plain(make(), service))) for _ in range(4))
    with pytest.raises(errors.DatasetError, match=f"{code}: "):
        ours(make(), service, strict=True)
    with caplog.at_level(logging.WARNING, "hetero_tfdata"):
        ours(make(), service)
    assert [record.getMessage() for record in caplog.records if f"distribute(): {code}: " in record.getMessage()]


def test_zip_pairs_what_does_not_belong_together(service):
    def pairs():
        images, labels = (Dataset.from_tensor_slices(np.arange(300)) for _ in range(2))
        return Dataset.zip((images, labels.map(lambda x: x)))

    assert any(any(a != b for a, b in rows(plain(pairs(), service))) for _ in range(6))
    with pytest.raises(errors.DatasetError, match=r"zip-mispairs: zip\(\) of 2 sources"):
        ours(pairs(), service, strict=True)


def test_sequential_interleave_after_shuffle(service):
    """Undivided in newer TensorFlow: a different answer by version, and the preflight knows which."""
    dataset = Dataset.range(8).shuffle(8).interleave(Dataset.from_tensors)
    doubled = rows(dataset) * 2
    divides = tuple(map(int, tf.__version__.split(".")[:2])) < (2, 16)
    assert sorted(rows(plain(dataset, service))) == sorted(list(range(8)) if divides else doubled)
    parallel = Dataset.range(8).shuffle(8).interleave(Dataset.from_tensors, num_parallel_calls=2)
    assert sorted(rows(ours(parallel, service, strict=True))) == list(range(8))
    if divides:
        ours(dataset, service, strict=True)
    else:
        with pytest.raises(errors.DatasetError, match="interleave-doubles: "):
            ours(dataset, service, strict=True)


def test_with_sharding_off_a_seed_makes_copies(service):
    """Every worker and every epoch: the same order and the same augmentation."""

    def augmented():
        tf.random.set_seed(3)
        try:
            noise = Dataset.range(6).shuffle(6).map(lambda x: (x, tf.random.uniform([], maxval=10**6, dtype=tf.int32)))
        finally:
            tf.random.set_seed(None)
        return noise.batch(6)

    first, second = (rows(plain(augmented(), service, OFF)) for _ in range(2))
    assert first[0] == first[1] == second[0] == second[1]
    with pytest.raises(errors.DatasetError, match=r"fixed-seed: shuffle\(6, seed\), map\(lambda\) \(RandomUniformInt\): "):
        ours(augmented(), service, "off", strict=True)


def test_a_copied_generator_draws_the_same_on_every_worker(service):
    generator = tf.random.Generator.from_seed(1)
    drawn = Dataset.range(6).map(lambda x: generator.uniform([], maxval=10**6, dtype=tf.int32)).batch(6)
    local = rows(drawn)
    assert local != rows(drawn), "in one process the second epoch draws anew"
    first, second = (rows(plain(drawn, service, OFF)) for _ in range(2))
    assert first[0] == first[1] == second[0] == second[1]
    with pytest.raises(errors.DatasetError, match="copied-generator: "):
        ours(drawn, service, "off", strict=True)


def test_a_cache_begins_anew_with_each_pass(service):
    drawn = numbers(10).map(lambda x: tf.random.uniform([], maxval=10**6, dtype=tf.int32)).cache()
    assert rows(drawn) == rows(drawn), "in one process the second epoch comes from the cache"
    distributed = plain(drawn, service)
    assert sorted(rows(distributed)) != sorted(rows(distributed))
    with pytest.raises(errors.DatasetError, match=r"cache-per-epoch: cache\(\)"):
        ours(drawn, service, strict=True)


# --- what fails ---


def generate():
    yield 1


def python_step(x):
    return x


def _captured_iterator():
    iterator = iter(Dataset.range(5))
    return Dataset.range(3).map(lambda x: iterator.get_next())


def _captured_queue():
    queue = tf.queue.FIFOQueue(10, [tf.int64], shapes=[[]])
    return Dataset.range(3).map(lambda x: queue.dequeue())


def _captured_dense_table():
    table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, -2, -3)
    return Dataset.range(3).map(table.lookup)


def _numpy_function():
    return Dataset.range(3).map(lambda x: tf.numpy_function(python_step, [x], tf.int64))


def _py_function():
    return Dataset.range(3).map(lambda x: tf.py_function(python_step, [x], tf.int64))


def _loaded(folder):
    Dataset.range(3).save(str(folder / "saved"))
    return Dataset.load(str(folder / "saved"))


def _csv(folder):
    (folder / "a.csv").write_text("1,2\n3,4\n")
    return tf.data.experimental.CsvDataset(str(folder / "a.csv"), [tf.int32, tf.int32])


def _sql(folder):
    with sqlite3.connect(folder / "a.db") as connection:
        connection.execute("create table t(a integer)")
        connection.execute("insert into t values(3)")
    return tf.data.experimental.SqlDataset("sqlite", str(folder / "a.db"), "select a from t", (tf.int32,))


def _grouped():
    sums = tf.data.experimental.Reducer(lambda key: np.int64(0), lambda total, x: total + x, lambda total: total)
    return Dataset.range(9).apply(tf.data.experimental.group_by_reducer(lambda x: x % 2, sums))


FAILS = {
    "from_generator": (
        lambda folder: Dataset.from_generator(generate, output_signature=tf.TensorSpec([], tf.int64)),
        "Could not find callback",
        r"generator: from_generator\(generate, test_preflight_servers.py:\d+\)",
    ),
    "numpy_function": (
        lambda folder: _numpy_function(),
        "Could not find callback",
        r"python-function: numpy_function\(python_step, test_preflight_servers.py:\d+\) in map\(lambda\)",
    ),
    "py_function": (
        lambda folder: _py_function(),
        "Could not find callback",
        r"python-function: py_function\(python_step, test_preflight_servers.py:\d+\) in map\(lambda\)",
    ),
    "iterator": (lambda folder: _captured_iterator(), "does not exist", "captured-resource: .* an iterator of this process"),
    "queue": (lambda folder: _captured_queue(), "does not exist", "captured-resource: .* a queue of this process"),
    "dense table": (lambda folder: _captured_dense_table(), "does not exist", "captured-resource: .*DenseHashTable"),
    "snapshot": (
        lambda folder: numbers(9).snapshot(str(folder / "snapshot")),
        "Splitting is not implemented",
        r"unsplittable: snapshot\(\).*processing_mode=\"off\"",
    ),
    "load": (_loaded, "Cannot create split providers", r"unsplittable: Dataset\.load\(\)"),
    "csv": (_csv, "Cannot create split providers", r"unsplittable: CsvDataset\(\).*interleave"),
    "sql": (_sql, "Cannot create split providers", r"unsplittable: SqlDataset\(\)"),
    "group_by_reducer": (lambda folder: _grouped(), "Cannot create split providers", "unsplittable: group_by_reducer"),
}


@pytest.mark.parametrize("name", FAILS)
def test_plain_service_fails_at_the_first_element_and_preflight_refuses(name, service, tmp_path):
    make, phrase, refusal = FAILS[name]
    dataset = make(tmp_path)
    with pytest.raises(tf.errors.OpError, match=phrase):
        rows(plain(dataset, service))
    with pytest.raises(errors.DatasetError, match=refusal):
        ours(dataset, service)


@pytest.mark.parametrize("name", ["snapshot", "load", "csv", "sql", "group_by_reducer"])
def test_what_can_not_be_split_runs_whole(name, service, tmp_path):
    dataset = FAILS[name][0](tmp_path)
    assert sorted(rows(ours(dataset, service, "off"))) == sorted(rows(dataset) * 2), "once from each of the two workers"


def test_asserted_cardinality_fails_on_a_part(service):
    """What tensorflow_datasets puts into every dataset."""
    dataset = numbers(80).apply(tf.data.experimental.assert_cardinality(80))
    with pytest.raises(tf.errors.FailedPreconditionError, match="was expected to contain 80 elements"):
        rows(plain(dataset, service))
    # how many workers somebody else's service has isn't known: with one it would run
    with pytest.raises(errors.DatasetError, match=r"cardinality-per-worker: assert_cardinality\(80\).*tensorflow_datasets"):
        ours(dataset, service, strict=True)


def test_cache_file_of_two_workers(service, tmp_path):
    dataset = numbers(20).cache(str(tmp_path / "cache"))
    with pytest.raises(tf.errors.AlreadyExistsError, match="lockfile already exists"):
        rows(plain(dataset, service))
    with pytest.raises(errors.DatasetError, match="cache-file: "):
        ours(dataset, service, strict=True)


def test_custom_operations_that_workers_lack(service):
    """These stock workers load no libraries; ours load TensorFlow Addons where it is installed, others by --preload."""
    pytest.importorskip("tensorflow_addons")
    from hetero_tfdata.service import custom_ops, preflight

    custom_ops.load("tensorflow_addons", print)
    import tensorflow_addons as tfa

    images = Dataset.from_tensor_slices(tf.zeros([4, 6, 6, 3])).map(lambda image: tfa.image.adjust_hsv_in_yiq(image, 0.3))
    with pytest.raises(tf.errors.OpError, match="Op type not registered 'Addons>AdjustHsvInYiq'"):
        rows(plain(images, service))
    (finding,) = preflight.inspect(images, preflight.Job())
    assert str(finding).startswith(
        "custom-operations: Addons>AdjustHsvInYiq in map(lambda): a worker needs the library of tens"
    )


def test_distributed_twice_hangs_and_is_refused(tmp_path):
    """In a process of its own, which is ended: the dispatcher doesn't come back."""
    script = tmp_path / "twice.py"
    script.write_text("""
import os, threading
import tensorflow as tf
from hetero_tfdata import distribute, errors

service = tf.data.experimental.service
dispatcher = service.DispatchServer()
worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=dispatcher.target.partition("://")[2]))
once = tf.data.Dataset.range(6).apply(service.distribute(service.ShardingPolicy.DYNAMIC, dispatcher.target))
try:
    once.map(lambda x: x).apply(distribute(service=dispatcher.target))
except errors.DatasetError as error:
    print(error)
assert len(list(once.apply(distribute(service=dispatcher.target, processing_mode="off")))) == 6
seen = []
def read():
    for x in once.apply(service.distribute(service.ShardingPolicy.DYNAMIC, dispatcher.target)):
        seen.append(x)
    seen.append("end")
reader = threading.Thread(target=read, daemon=True)
reader.start()
reader.join(5)
print("HUNG" if reader.is_alive() and not seen else seen, flush=True)
os._exit(0)
""")
    done = subprocess.run([sys.executable, script], env=clean_environment(), capture_output=True, text=True, timeout=100)
    assert "distributed-twice: distribute()" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("HUNG\n")


# --- what runs: pipelines in the shape of other people's ---


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Four TFRecord files of Examples: a JPEG, a label, a sentence, boxes."""
    folder = tmp_path_factory.mktemp("records")
    generator = np.random.default_rng(0)
    for shard in range(4):
        with tf.io.TFRecordWriter(str(folder / f"train-{shard}.tfrecord")) as writer:
            for index in range(6):
                image = generator.integers(0, 255, (24 + index, 30, 3), np.uint8)
                feature = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[tf.io.encode_jpeg(image).numpy()])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[6 * shard + index])),
                    "words": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a", b"b", b"zebra"][: 1 + index % 3])),
                    "boxes": tf.train.Feature(float_list=tf.train.FloatList(value=[0.1, 0.2, 0.5, 0.6] * (1 + index % 2))),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return str(folder / "*.tfrecord")


def _examples(records):
    files = Dataset.list_files(records, shuffle=True)
    return files.interleave(tf.data.TFRecordDataset, cycle_length=2, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)


FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "words": tf.io.RaggedFeature(tf.string),
    "boxes": tf.io.VarLenFeature(tf.float32),
}


def _parsed(records):
    return _examples(records).map(lambda record: tf.io.parse_single_example(record, FEATURES), num_parallel_calls=2)


def classification_with_sampled_crops(records):
    """Model Garden's image classification: shuffled files, crop before decoding, flip, endless, fixed batches."""

    def preprocess(example):
        shape = tf.io.extract_jpeg_shape(example["image"])
        box = tf.zeros([1, 0, 4])
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape, box, area_range=[0.2, 1.0], use_image_if_no_bounding_boxes=True
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.random_flip_left_right(tf.io.decode_and_crop_jpeg(example["image"], window, channels=3))
        image = tf.image.resize(image, [16, 16]) - tf.constant([123.7, 116.3, 103.5])
        return tf.cast(image, tf.bfloat16), example["label"]

    data = _parsed(records).shuffle(64).repeat().map(preprocess, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(4, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def policies_chosen_at_random(records):
    """AutoAugment and RandAugment: one of several operations per image, transforms, histograms, cutout."""

    def posterize(image):
        return tf.bitwise.left_shift(tf.bitwise.right_shift(image, 4), 4)

    def rotate(image):
        angles = tf.random.uniform([1], -0.5, 0.5)
        zero = tf.zeros_like(angles)
        matrix = tf.stack([tf.cos(angles), -tf.sin(angles), zero, tf.sin(angles), tf.cos(angles), zero, zero, zero], axis=1)
        turned = tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None], transforms=matrix, output_shape=[16, 16], fill_value=0.0, interpolation="NEAREST"
        )
        return tf.ensure_shape(turned[0], [16, 16, 3])

    def equalize(image):
        histogram = tf.histogram_fixed_width(tf.cast(image, tf.int32), [0, 255], nbins=256)
        table = tf.cast(tf.cumsum(histogram) * 255 // tf.reduce_sum(histogram), tf.uint8)
        return tf.gather(table, tf.cast(image, tf.int32))

    def augment(example):
        image = tf.cast(tf.image.resize(tf.io.decode_jpeg(example["image"], channels=3), [16, 16]), tf.uint8)
        branches = [lambda one=one: one(image) for one in (posterize, rotate, equalize)]
        for _ in tf.range(2):
            image = tf.switch_case(tf.random.uniform([], 0, 3, tf.int32), branches)
        return image, tf.one_hot(example["label"], 24)

    return _parsed(records).map(augment).batch(4)


def stateless_by_example(records):
    """tf.image with seeds that follow from the label."""

    def augment(example):
        seed = tf.stack([example["label"], example["label"] + 1])
        image = tf.image.resize(tf.io.decode_image(example["image"], expand_animations=False), [20, 20])
        image = tf.image.stateless_random_crop(image, [16, 16, 3], seed)
        image = tf.image.stateless_random_brightness(tf.image.stateless_random_flip_left_right(image, seed), 0.2, seed)
        return tf.image.per_image_standardization(image), example["label"]

    return _parsed(records).map(augment).batch(4)


def keras_layers(records):
    """Preprocessing layers made outside of map, as KerasCV's are: they hold generators."""
    layers = tf.keras.Sequential(
        [
            tf.keras.layers.RandomFlip(),
            tf.keras.layers.RandomRotation(0.1),
            tf.keras.layers.RandomZoom(0.1),
            tf.keras.layers.RandomContrast(0.2),
            tf.keras.layers.CenterCrop(12, 12),
            tf.keras.layers.Rescaling(1 / 255),
        ]
    )
    normalize = tf.keras.layers.Normalization(axis=-1, mean=[0.4, 0.4, 0.4], variance=[0.1, 0.1, 0.1])
    images = stateless_by_example(records)
    return images.map(lambda image, label: (normalize(layers(image, training=True)), label))


def boxes_and_map_fn(records):
    """KerasCV's object detection: dictionaries with ragged boxes, per-image augmentation by map_fn, MixUp over the batch."""

    def with_boxes(example):
        image = tf.image.resize(tf.io.decode_jpeg(example["image"]), [16, 16])
        boxes = tf.reshape(tf.sparse.to_dense(example["boxes"]), [-1, 4])
        return {"images": image, "bounding_boxes": {"boxes": boxes, "classes": tf.zeros_like(boxes[:, 0])}}

    def mix(batch):
        images = tf.map_fn(lambda image: tf.image.random_hue(image / 255, 0.1), batch["images"])
        order = tf.random.shuffle(tf.range(tf.shape(images)[0]))
        share = tf.random.gamma([tf.shape(images)[0], 1, 1, 1], 0.2)
        mixed = share * images + (1 - share) * tf.gather(images, order)
        return {**batch, "images": tf.vectorized_map(lambda image: tf.clip_by_value(image, 0, 1), mixed)}

    return (
        _parsed(records)
        .map(with_boxes)
        .ragged_batch(4)
        .map(lambda batch: {**batch, "images": batch["images"].to_tensor(shape=[None, 16, 16, 3])})
        .map(mix)
    )


def mixup_of_two_streams(records):
    """Keras' MixUp example: any two samples may meet."""
    one, other = (stateless_by_example(records).unbatch().shuffle(24) for _ in range(2))
    return Dataset.zip((one, other)).map(lambda a, b: (0.7 * a[0] + 0.3 * b[0], a[1])).batch(4)


def text_with_tables(records):
    """Vocabulary tables, Keras' StringLookup and TextVectorization, hashing."""
    table = tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([0, 1], tf.int64)), 1)
    static = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [5, 6]), -1)
    lookup = tf.keras.layers.StringLookup(vocabulary=["a", "b"])
    vectorize = tf.keras.layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4)

    def encode(example):
        words = example["words"]
        ids = tf.strings.to_hash_bucket_fast(words, 100)
        return (
            table.lookup(words),
            static.lookup(words),
            lookup(words),
            ids,
            vectorize(tf.strings.reduce_join(words, separator=" ")),
        )

    return _parsed(records).map(encode).padded_batch(2)


def batches_of_examples(records):
    """parse_example over whole batches: sparse and ragged features, dictionaries."""
    return (
        _examples(records)
        .batch(3)
        .map(lambda batch: tf.io.parse_example(batch, FEATURES))
        .map(lambda parsed: (parsed.pop("label"), parsed))
    )


def buckets(records):
    data = _parsed(records).map(lambda example: (example["words"], example["label"]))
    return data.bucket_by_sequence_length(lambda words, label: tf.size(words), [2, 3], [2, 2, 2])


def weighted_mixture(records):
    one, other = _parsed(records), _parsed(records).map(lambda example: {**example, "label": -example["label"]})
    mixture = Dataset.sample_from_datasets([one.repeat(), other.repeat()], [0.3, 0.7], seed=5)
    return mixture.map(lambda example: example["label"]).batch(4)


def resampled(records):
    labels = _parsed(records).map(lambda example: tf.cast(example["label"] % 2, tf.int32))
    return labels.rejection_resample(lambda label: label, [0.5, 0.5])


def per_file_operations(records):
    """take, skip, enumerate, window and zip inside interleave: a file is whole on one worker."""

    def of_file(file):
        numbered = tf.data.TFRecordDataset(file).enumerate().skip(1).take(4)
        windows = numbered.map(lambda index, _: index).window(2, drop_remainder=True).flat_map(lambda window: window.batch(2))
        return Dataset.zip((windows, Dataset.random(seed=1).take(9).map(lambda _: file)))

    return Dataset.list_files(records).interleave(of_file, num_parallel_calls=2)


def other_sources(records):
    """TextLine, fixed-length records, CSV by file, concatenation, a captured dataset, reduce inside map."""
    inner = Dataset.range(2)
    files = Dataset.list_files(records)
    sizes = files.map(lambda file: tf.strings.length(tf.io.read_file(file)))
    lines = sizes.interleave(Dataset.from_tensors, num_parallel_calls=2)
    fixed = (
        Dataset.list_files(records).flat_map(lambda f: tf.data.FixedLengthRecordDataset(f, 1).take(1)).map(tf.strings.length)
    )
    both = lines.concatenate(fixed).flat_map(lambda size: inner.map(lambda x: tf.cast(x, tf.int32) + size))
    return both.map(lambda x: inner.reduce(x, lambda total, y: total + tf.cast(y, tf.int32))).filter(lambda x: x > 0).batch(3)


def compiled_and_checked(records):
    """XLA, autograph loops, assertions and prints inside map; Dataset options; sparse results."""

    @tf.function(jit_compile=True)
    def compiled(x):
        return tf.reduce_sum(tf.cast(x, tf.float32) ** 2, keepdims=True)

    def step(example):
        tf.debugging.assert_greater(example["label"], tf.constant(-1, tf.int64))
        total = tf.zeros([], tf.int64)
        for index in tf.range(example["label"]):
            total += index
        return compiled(tf.stack([total, example["label"]])), example["boxes"]

    options = tf.data.Options()
    options.deterministic = False
    options.threading.private_threadpool_size = 2
    return _parsed(records).map(step, num_parallel_calls=2).with_options(options)


def state_that_travels(records):
    """Variables, tables that can grow and what they hold are copied into the graph."""
    variable = tf.Variable(3, dtype=tf.int64)
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)
    table.insert(tf.constant([1], tf.int64), tf.constant([5], tf.int64))
    return _parsed(records).map(lambda example: (example["label"] * variable, table.lookup(example["label"])))


def cached_and_shuffled(records):
    return _parsed(records).map(lambda example: example["label"]).cache().shuffle(24).repeat(2).batch(4).rebatch(8).unbatch()


PIPELINES = [
    classification_with_sampled_crops,
    policies_chosen_at_random,
    stateless_by_example,
    keras_layers,
    boxes_and_map_fn,
    mixup_of_two_streams,
    text_with_tables,
    batches_of_examples,
    buckets,
    weighted_mixture,
    resampled,
    per_file_operations,
    other_sources,
    compiled_and_checked,
    state_that_travels,
    cached_and_shuffled,
]
WARNED = {
    keras_layers: {"copied-generator"},
    mixup_of_two_streams: {"zip-mispairs"},
    weighted_mixture: set(),
    state_that_travels: {"variable-copied"},
}
# no random draws: the workers' rows, in any order, are the local ones
EXACT = {
    stateless_by_example,
    per_file_operations,
    other_sources,
    compiled_and_checked,
    state_that_travels,
    cached_and_shuffled,
}


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.__name__)
def test_what_plain_service_runs_is_not_refused(pipeline, service, records, caplog):
    dataset = pipeline(records)
    with caplog.at_level(logging.WARNING, "hetero_tfdata"):
        distributed = ours(dataset, service)
    codes = {message.split(": ")[1] for record in caplog.records if (message := record.getMessage()).startswith("distribute(")}
    assert codes == WARNED.get(pipeline, set())
    assert distributed.element_spec == dataset.element_spec
    if pipeline not in EXACT:
        # of two streams, one worker may get all of one and the other all of the other: zip() then gives nothing
        assert rows(distributed, 3) or pipeline is mixup_of_two_streams
        return
    flat = [str(row) for row in rows(_single(dataset))]
    assert sorted(str(row) for row in rows(_single(distributed))) == sorted(flat)


def _single(dataset):
    """Row by row, for batches are cut elsewhere when the data is divided."""
    return dataset.unbatch() if dataset.element_spec and _is_batched(dataset) else dataset


def _is_batched(dataset):
    specs = tf.nest.flatten(dataset.element_spec)
    return all(getattr(spec, "shape", tf.TensorShape([])).rank and spec.shape[0] is None for spec in specs)
