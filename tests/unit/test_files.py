"""files() where this host has the files; tests/cluster/test_files_of_data_hosts.py asks data hosts."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hetero_tfdata import Cluster, distribute, errors, files
from hetero_tfdata.cluster import sagemaker
from hetero_tfdata.service import preflight
from hetero_tfdata.service.preflight import Job
from support import clean_environment

tf = pytest.importorskip("tensorflow")
home = importlib.import_module("hetero_tfdata.service.files")
FILES, RECORDS = 6, 5


def write_records(folder: Path, names: list[str], records: int = RECORDS, compression: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with tf.io.TFRecordWriter(str(folder / name), compression) as writer:
            for number in range(records):
                writer.write(f"{name} {number}".encode())


@pytest.fixture
def folder(tmp_path):
    write_records(tmp_path / "train", [f"part-{number}.tfrecord" for number in range(FILES)])
    return tmp_path / "train"


def seen(dataset) -> list[tuple[str, str, int]]:
    return [(record.decode(), key.decode(), int(epoch)) for record, key, epoch in dataset.as_numpy_iterator()]


def order(dataset) -> list[str]:
    return [key for _, key, _ in seen(dataset)]


def test_each_record_once_in_each_pass_with_its_key(folder):
    dataset = files(folder, "*.tfrecord", passes=2, seed=1)
    scalar = tf.TensorSpec([], tf.string)
    assert dataset.element_spec == (scalar, scalar, tf.TensorSpec([], tf.int64))
    got = seen(dataset)
    expected = [
        (f"part-{file}.tfrecord:{number}", epoch) for file in range(FILES) for number in range(RECORDS) for epoch in (0, 1)
    ]
    assert sorted((key, epoch) for _, key, epoch in got) == sorted(expected)
    assert all(record == key.replace(":", " ") for record, key, _ in got)


def test_the_order_of_files_follows_from_seed_and_pass(folder):
    first, second = (order(files(folder, passes=2, seed=seed)) for seed in (1, 2))
    assert order(files(folder, passes=2, seed=1)) == first != second
    assert order(files(folder, passes=3, seed=1))[: len(first)] == first
    assert first[: len(first) // 2] != first[len(first) // 2 :]
    assert order(files(folder, passes=2, seed=2**80 + 1)), "any whole number"
    assert order(files(folder, seed=-1)) != sorted(order(files(folder, seed=-1)))
    assert len({tuple(order(files(folder))) for _ in range(4)}) > 1, "without a seed another order in every run"
    assert order(files(folder, passes=2, shuffle=False)) == 2 * sorted(first[: len(first) // 2])


@pytest.mark.parametrize("reader", ["tfrecord", "whole"])
def test_a_resumed_job_goes_on_with_the_passes_that_are_left(reader, folder):
    whole, resumed = (
        [
            (key, int(epoch))
            for _, key, epoch in files(folder, passes=n, first_pass=5 - n, seed=1, reader=reader).as_numpy_iterator()
        ]
        for n in (5, 3)
    )
    assert {epoch for _, epoch in resumed} == {2, 3, 4}
    assert resumed == whole[-len(resumed) :], "the orders and the numbers that they would have had"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1000])
def test_an_order_holds_every_file_once(count, tmp_path):
    """index_shuffle() gives one place of a permutation at a time."""
    for number in range(count):
        (tmp_path / f"{number}.txt").write_text("x")
    for seed in (0, 2**62 - 1):
        keys = order(files(tmp_path, passes=2, seed=seed, reader="whole"))
        assert len(set(keys[:count])) == len(set(keys[count:])) == count


def test_files_side_by_side(folder):
    one = order(files(folder, shuffle=False, cycle_length=1))
    two = order(files(folder, shuffle=False, cycle_length=2))
    assert one == sorted(two)
    assert two[:4] == ["part-0.tfrecord:0", "part-1.tfrecord:0", "part-0.tfrecord:1", "part-1.tfrecord:1"]


@pytest.mark.parametrize(("workers", "side_by_side"), [(1, 4), (2, 3), (4, 1), (100, 1)])
def test_by_default_a_worker_takes_a_quarter_of_its_share_at_a_time(workers, side_by_side, folder, monkeypatch):
    write_records(folder, [f"more-{number:02}.tfrecord" for number in range(24 - FILES)])
    monkeypatch.setattr(home, "worker_count", lambda cpus: workers)
    monkeypatch.setattr(Cluster, "serving_hosts", property(lambda self: self.hosts))  # as with several ranks
    begun = order(files(folder, shuffle=False))[: side_by_side + 1]
    assert len({key.partition(":")[0] for key in begun}) == side_by_side


def test_readers(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("three\n")
    text = seen(files(tmp_path, reader="text", shuffle=False))
    assert text == [("one", "a.txt:0", 0), ("two", "a.txt:1", 0), ("three", "b.txt:0", 0)]
    whole = seen(files(tmp_path, reader="whole", shuffle=False, passes=2))
    assert whole == [("one\ntwo\n", "a.txt:0", e) if n == 0 else ("three\n", "b.txt:0", e) for e in (0, 1) for n in (0, 1)]

    def numbers(name):
        count = tf.constant(1, tf.int64)
        if tf.strings.regex_full_match(name, ".*a.txt"):  # Python's if on a tensor, as in any function of tf.data
            count += 1
        return tf.data.Dataset.range(count).map(lambda number: {"number": number, "name": name})

    own = list(files(tmp_path, reader=numbers, shuffle=False).as_numpy_iterator())
    assert [(record["number"], key) for record, key, _ in own] == [(0, b"a.txt:0"), (1, b"a.txt:1"), (0, b"b.txt:0")]


def test_compressed_records(tmp_path):
    write_records(tmp_path / "gzip", ["a.gz"], compression="GZIP")
    assert len(seen(files(tmp_path / "gzip", compression_type="GZIP"))) == RECORDS
    with pytest.raises(tf.errors.DataLossError):
        seen(files(tmp_path / "gzip"))


def test_whole_files_in_pieces(tmp_path, monkeypatch):
    """Many files are handed out in runs; what comes is the same."""
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_text(str(number))
    single = seen(files(tmp_path, reader="whole", passes=3, seed=4))
    monkeypatch.setattr(home, "_PIECES", 3)
    assert home._piece_length(10) == 3, "30 files of 3 passes are 10 runs, one of them over the end of a pass"
    assert seen(files(tmp_path, reader="whole", passes=3, seed=4)) == single
    assert seen(files(tmp_path, reader="whole", passes=None, seed=4).take(30)) == single
    assert home._piece_length(2_000_000) == 32


@pytest.mark.parametrize("reader", ["tfrecord", "whole"])
def test_passes_without_end(reader, folder):
    count = FILES * (RECORDS if reader == "tfrecord" else 1)
    passes = Counter(int(epoch) for _, _, epoch in files(folder, passes=None, reader=reader, cycle_length=1).take(3 * count))
    assert passes == {0: count, 1: count, 2: count}


# --- which files ---


def test_folders_and_hidden_files_are_left_out(tmp_path):
    write_records(tmp_path / "odd [1]*", ["a.rec", "b.rec", ".hidden.rec"])
    write_records(tmp_path / "odd [1]*" / "dogs", ["a.rec"])
    write_records(tmp_path / "odd [1]*" / ".cache", ["a.rec"])
    write_records(tmp_path / "odd 1", ["other.rec"])
    folder = tmp_path / "odd [1]*"

    def names(*pattern):
        return sorted({key.rpartition(":")[0] for key in order(files(folder, *pattern))})

    assert names() == names("*.rec") == ["a.rec", "b.rec"]
    assert names("[b-z].rec") == ["b.rec"]
    assert names("*/*.rec") == ["dogs/a.rec"]
    assert names(".*.rec") == [".hidden.rec"]
    assert order(files(f"{folder}/", "a.rec")) == [f"a.rec:{number}" for number in range(RECORDS)]


def test_a_name_that_is_no_unicode_or_holds_a_colon(tmp_path):
    with open(os.fsencode(tmp_path) + b"/a:\xff", "wb") as file:
        file.write(b"x")
    ((_, key, _),) = files(tmp_path, reader="whole").as_numpy_iterator()
    assert key == b"a:\xff:0"


def test_where_a_channel_is():
    assert sagemaker.channel_dir({}, "train") == Path("/opt/ml/input/data/train")
    assert sagemaker.channel_dir({"SAGEMAKER_BASE_DIR": "/x"}, "train") == Path("/x/input/data/train")
    assert sagemaker.channel_dir({"SM_CHANNEL_VAL-2": "/y", "SAGEMAKER_BASE_DIR": "/x"}, "val-2") == Path("/y")


def test_a_channel_by_name(folder, monkeypatch):
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(folder))
    assert len(order(files("train", "*.tfrecord"))) == FILES * RECORDS


RELATIVE = "pattern: expected one relative to the folder, such as"
CHANNEL = "channel: expected a channel's name such as 'train', an absolute path or a URL"


@pytest.mark.parametrize(
    ("channel", "pattern", "kind", "phrase"),
    [
        (
            "train",
            "*",
            "ConfigurationError",
            r"files\('train'\): expected the folder .*/data/train on this host, it is not there",
        ),
        (
            "train",
            "*",
            "ConfigurationError",
            r"\(beside it are test, val\)\. Give the absolute path .* or set SM_CHANNEL_TRAIN",
        ),
        ("/no/such", "*", "ConfigurationError", "the folder /no/such on this host.*nor the folder that it would be in"),
        (
            "val",
            "*.jpg",
            "DataError",
            r"no file matches '\*.jpg' in .*/data/val on this host \(there are 0.rec, .*4.rec and more\)",
        ),
        ("test", "*", "DataError", r"no file matches '\*' in .*/data/test on this host \(the folder is empty\)"),
        ("a/b", "*", "ConfigurationError", f"{CHANNEL}.*got 'a/b'"),
        ("..", "*", "ConfigurationError", f"{CHANNEL}.*got '..'"),
        (3, "*", "ConfigurationError", f"{CHANNEL}.*got 3"),
        ("gs://", "*", "ConfigurationError", f"{CHANNEL}.*got 'gs://'"),
        ("nonesuch://a/b", "*", "ConfigurationError", "expected a TensorFlow that reads nonesuch://.*FastFile"),
        ("val", "../test/*", "ConfigurationError", f"{RELATIVE}.*got '../test/"),
        ("val", "/etc/*", "ConfigurationError", RELATIVE),
        ("val", "**/*.jpg", "ConfigurationError", rf"{RELATIVE}.*no '\*\*'"),
        ("val", "", "ConfigurationError", f"{RELATIVE}.*got ''"),
        ("val", None, "ConfigurationError", f"{RELATIVE}.*got None"),
    ],
)
def test_what_is_not_there(channel, pattern, kind, phrase, tmp_path, monkeypatch):
    data = tmp_path / "input" / "data"
    write_records(data / "val", [f"{number}.rec" for number in range(7)])
    (data / "test").mkdir()
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(data / "train"))
    monkeypatch.setenv("SM_CHANNEL_TEST", str(data / "test"))
    monkeypatch.setenv("SM_CHANNEL_VAL", str(data / "val"))
    with pytest.raises(getattr(errors, kind), match=phrase) as raised:
        files(channel, pattern)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ({"first_pass": -1}, "first_pass: expected a whole number from 0, got -1"),
        ({"passes": 0}, "passes: expected a whole number from 1, or None for a dataset without end, got 0"),
        ({"passes": 1.5}, "passes: expected a whole number from 1"),
        ({"passes": True}, "passes: expected a whole number from 1"),
        ({"cycle_length": 0}, "cycle_length: expected a whole number from 1, or None for the default, got 0"),
        ({"seed": "1"}, "seed: expected a whole number, or None for another order in every run, got '1'"),
        ({"reader": "json"}, "reader: expected one of tfrecord, text, whole, or a function .* got 'json'"),
        ({"reader": tf.io.read_file}, "reader: expected a function that returns a tf.data.Dataset, it returned a tensor"),
        ({"reader": lambda name: None}, "reader: expected a function that returns a tf.data.Dataset, it returned None"),
        ({"compression_type": "zip"}, "compression_type: expected GZIP or ZLIB, got 'zip'"),
        (
            {"compression_type": "GZIP", "reader": "whole"},
            "expected it with reader='tfrecord' or 'text', got 'GZIP' with 'whole'",
        ),
        ({"ready_timeout_s": 0}, "ready_timeout_s: expected seconds above 0, got 0"),
        ({"service": "localhost:1"}, "service: expected an address like grpc://host:port, got 'localhost:1'"),
    ],
)
def test_wrong_arguments(arguments, phrase, folder):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        files(folder, **arguments)


def test_s3_only_with_tensorflow_io(monkeypatch):
    monkeypatch.setattr(home, "is_installed", lambda module: module != "tensorflow_io")
    with pytest.raises(
        errors.ConfigurationError, match=r"reads s3:// only with tensorflow-io.*FastFile mode, files\('train', "
    ):
        files("s3://bucket/train", "*.tfrecord")


def test_not_on_a_data_host(folder, tmp_path):
    config = {
        "current_host": "algo-1",
        "hosts": ["algo-1", "algo-2"],
        "instance_groups": [
            {"instance_group_name": "data_group", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
            {"instance_group_name": "dnn_group", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-2"]},
        ],
    }
    cluster = Cluster.discover(environ={"SM_RESOURCE_CONFIG": json.dumps(config), "SAGEMAKER_BASE_DIR": ""})
    with pytest.raises(errors.ConfigurationError, match=r"files\(\) was called on algo-1 of group 'data_group'"):
        files(folder, cluster=cluster)


def test_without_tensorflow():
    code = """
import sys
sys.modules['tensorflow'] = None
from hetero_tfdata import files, errors
try:
    files('train')
except errors.ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert "pip install 'hetero-tfdata[tensorflow]'" in done.stdout, done.stderr


# --- what the preflight says of it ---


@pytest.mark.parametrize("reader", ["tfrecord", "whole"])
def test_the_preflight_has_nothing_to_say(reader, folder):
    for passes in (1, None):
        batches = files(folder, passes=passes, reader=reader, seed=1).shuffle(9).batch(4, drop_remainder=passes is None)
        assert preflight.inspect(batches, Job(workers=4)) == []


@pytest.mark.parametrize("reader", ["tfrecord", "whole"])
def test_the_preflight_counts_the_files(reader, folder):
    (finding,) = preflight.inspect(files(folder, reader=reader), Job(workers=8))
    assert finding.code == "few-sources"
    assert finding.operation == "Dataset.range() of 6 elements"
    assert preflight.inspect(files(folder, reader=reader, passes=2), Job(workers=8)) == [], "the others are on the next pass"


def test_one_process_without_data_hosts_is_left_as_it_is(folder):
    dataset = files(folder, "*.tfrecord")
    assert dataset.apply(distribute()) is dataset
