from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError, DataError

SIZE = 32


@pytest.fixture
def make_dataset(resnet50: SimpleNamespace) -> Callable[..., tf.data.Dataset]:
    def make(folder: Path, *, training: bool = False, batch_size: int = 10, **options: object) -> tf.data.Dataset:
        return resnet50.dataset.make_dataset(folder, batch_size=batch_size, image_size=SIZE, training=training, **options)

    return make


def labels_of(dataset: tf.data.Dataset) -> list[int]:
    return [int(label) for _, labels in dataset for label in labels]


def offsets(data: bytes) -> list[int]:
    """Where each record of a TFRecord file starts."""
    found, at = [], 0
    while at < len(data):
        found.append(at)
        at += 16 + struct.unpack("<Q", data[at : at + 8])[0]
    return found


def rewrite(data: bytearray, broken: list[int], jpeg: Callable[[bytes], bytes]) -> bytes:
    """The same records, with other JPEG bytes in the broken ones and right checksums everywhere."""
    path = f"/tmp/rewritten-{os.getpid()}"
    Path(path).write_bytes(data)
    examples = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    with tf.io.TFRecordWriter(path) as writer:
        for number, serialized in enumerate(examples):
            example = tf.train.Example.FromString(serialized)
            if number in broken:
                value = example.features.feature["image/encoded"].bytes_list.value
                value[0] = jpeg(value[0])
            writer.write(example.SerializeToString())
    try:
        return Path(path).read_bytes()
    finally:
        os.unlink(path)


# --- good data ---


def test_training_gives_whole_batches_of_uint8_without_end(photographs: Path, make_dataset: Callable) -> None:
    dataset = make_dataset(photographs / "train", training=True)
    assert dataset.element_spec == (
        tf.TensorSpec([10, SIZE, SIZE, 3], tf.uint8),
        tf.TensorSpec([10], tf.int64),
    )
    labels = labels_of(dataset.take(30))  # 300 images of 72: several passes
    assert len(labels) == 300
    assert set(labels) == set(range(8))


def test_each_pass_of_training_sees_each_image_once(photographs: Path, make_dataset: Callable) -> None:
    labels = labels_of(make_dataset(photographs / "train", training=True).take(36))  # 5 passes of 72
    assert np.bincount(labels).tolist() == [45] * 8


def test_crops_differ_from_pass_to_pass_and_repeat_with_the_seed(photographs: Path, make_dataset: Callable) -> None:
    def sums(seed: int | None) -> list[float]:
        dataset = make_dataset(photographs / "train", training=True, batch_size=1, seed=seed)
        return [float(tf.reduce_mean(tf.cast(image, tf.float32))) for image, _ in dataset.take(144)]

    first = sums(7)
    assert sums(7) == first
    assert sums(8) != first
    assert len(set(first)) > 140


def test_evaluation_sees_each_image_once_in_order(photographs: Path, make_dataset: Callable) -> None:
    dataset = make_dataset(photographs / "validation")
    assert dataset.element_spec[0] == tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8)
    assert [len(labels) for _, labels in dataset] == [10, 10, 4]
    first, second = ([images.numpy() for images, _ in dataset] for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert sorted(labels_of(dataset)) == sorted(list(range(8)) * 3)


def test_images_are_the_photographs(photographs: Path, resnet50: SimpleNamespace) -> None:
    """Neither grey nor float-scaled nor black: the central crop is what Pillow makes of the same JPEG."""
    import io

    from PIL import Image

    file = resnet50.records.find_files(photographs / "validation")[0]
    example = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(file))).numpy())
    jpeg = example.features.feature["image/encoded"].bytes_list.value[0]
    picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
    side = round(0.875 * min(picture.size))
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    expected = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    got = resnet50.dataset.central_crop(tf.constant(jpeg), SIZE).numpy()
    assert np.abs(got.astype(int) - np.asarray(expected).astype(int)).mean() < 8
    assert got.std() > 20


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("on_bad_record", ["stop", "skip"])
def test_the_graph_holds_no_python_function(
    photographs: Path, make_dataset: Callable, training: bool, on_bad_record: str
) -> None:
    dataset = make_dataset(photographs / "train", training=training, on_bad_record=on_bad_record)
    graph = tf.compat.v1.GraphDef.FromString(tf.raw_ops.DatasetToGraphV2(input_dataset=dataset._variant_tensor).numpy())
    nodes = {node.op for node in graph.node}
    nodes |= {node.op for function in graph.library.function for node in function.node_def}
    assert {"TFRecordDataset", "DecodeAndCropJpeg"} <= {name.removesuffix("V2") for name in nodes}
    assert not [name for name in nodes if "PyFunc" in name or "GeneratorDataset" in name]


def test_files_are_named_so_that_any_process_finds_them(
    photographs: Path, resnet50: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers have another working directory."""
    monkeypatch.chdir(photographs)
    files = resnet50.records.find_files("train")
    assert files == [str(photographs / "train" / f"train-{number:05}-of-00004.tfrecord") for number in range(4)]


# --- folders that can't be right ---


def test_folder_without_files_names_folder_and_pattern(tmp_path: Path, make_dataset: Callable) -> None:
    (tmp_path / "notes.txt").write_text("no record")
    with pytest.raises(DataError, match=rf"no TFRecord file in '{tmp_path}'.*'\*-of-\*'"):
        make_dataset(tmp_path)


def test_missing_folder_says_how_to_make_one(tmp_path: Path, make_dataset: Callable) -> None:
    with pytest.raises(ConfigurationError, match=r"nope' is not one: make it with prepare\.py"):
        make_dataset(tmp_path / "nope")


def test_empty_files_are_refused(tmp_path: Path, make_dataset: Callable) -> None:
    (tmp_path / "train-00000-of-00001").write_bytes(b"")
    with pytest.raises(DataError, match=r"all 1 files in .* are empty"):
        make_dataset(tmp_path, training=True)


def test_labels_file_is_asked_for_by_name(tmp_path: Path, resnet50: SimpleNamespace) -> None:
    with pytest.raises(DataError, match=r"labels\.txt.*--classes"):
        resnet50.dataset.read_labels(tmp_path)


def test_on_bad_record_must_be_known(photographs: Path, make_dataset: Callable) -> None:
    with pytest.raises(ConfigurationError, match="expected one of stop, skip, got 'ignore'"):
        make_dataset(photographs / "train", on_bad_record="ignore")


# --- bad records ---


@pytest.mark.parametrize("training", [True, False])
def test_truncated_record_stops_with_file_and_offset(
    damaged: Callable, make_dataset: Callable, resnet50: SimpleNamespace, photographs: Path, training: bool
) -> None:
    data = (photographs / "train" / "train-00002-of-00004.tfrecord").read_bytes()
    folder = damaged("train", 2, lambda data: data[: len(data) - 100])
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        labels_of(make_dataset(folder, training=training).take(100))
    explained = str(resnet50.records.explain(caught.value))
    where = f"{folder}/train-00002-of-00004.tfrecord at byte {offsets(data)[-1]}"
    assert f"bad record: {where} (cut off or damaged: nothing after it can be read)" in explained
    assert "--on-bad-record skip" in explained
    assert "\n" not in explained


def test_truncated_record_is_skipped_named_and_counted(
    damaged: Callable, make_dataset: Callable, photographs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = (photographs / "validation" / "validation-00001-of-00004.tfrecord").read_bytes()
    folder = damaged("validation", 1, lambda data: data[: len(data) - 100])
    assert len(labels_of(make_dataset(folder, on_bad_record="skip"))) == 23
    err = capfd.readouterr().err
    place = f"{folder}/validation-00001-of-00004.tfrecord at byte {offsets(data)[-1]}"
    assert f"hetero_tfdata: skipped 1 so far, now bad record: {place} (cut off or damaged" in err


def test_damaged_length_is_named_where_it_stands(
    damaged: Callable, make_dataset: Callable, photographs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    start = offsets((photographs / "validation" / "validation-00000-of-00004.tfrecord").read_bytes())[2]

    def change(data: bytearray) -> bytearray:
        data[start] ^= 1
        return data

    folder = damaged("validation", 0, change)
    assert len(labels_of(make_dataset(folder, on_bad_record="skip"))) == 20  # 2 of that file's 6
    assert f"validation-00000-of-00004.tfrecord at byte {start} (cut off or damaged" in capfd.readouterr().err


@pytest.mark.parametrize(
    "jpeg",
    [lambda jpeg: b"no JPEG", lambda jpeg: jpeg[:300], lambda jpeg: jpeg[: len(jpeg) // 2], lambda jpeg: b""],
    ids=["not a JPEG", "header only", "half", "empty"],
)
def test_undecodable_jpeg_stops_with_file_and_offset(
    damaged: Callable, make_dataset: Callable, resnet50: SimpleNamespace, jpeg: Callable[[bytes], bytes]
) -> None:
    folder = damaged("validation", 3, lambda data: rewrite(data, [4], jpeg))
    file = folder / "validation-00003-of-00004.tfrecord"
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        labels_of(make_dataset(folder))
    place = f"bad record: {file} at byte {offsets(file.read_bytes())[4]} (does not decode)"
    assert place in str(resnet50.records.explain(caught.value))


@pytest.mark.parametrize("training", [True, False])
def test_nobody_else_is_blamed_for_a_bad_record(
    damaged: Callable, make_dataset: Callable, resnet50: SimpleNamespace, training: bool
) -> None:
    """Of several ranks that share a stream one gets the error; another one may ask once more."""
    folder = damaged("validation", 3, lambda data: rewrite(data, [1, 4], lambda jpeg: b"no JPEG"))
    starts = offsets((folder / "validation-00003-of-00004.tfrecord").read_bytes())
    batches = iter(make_dataset(folder, training=training, batch_size=1))
    named: set[tuple[str, str]] = set()
    for _ in range(40):  # more than one pass
        try:
            next(batches, None)
        except tf.errors.InvalidArgumentError as error:
            named.update(re.findall(r"-0000(\d)-of-00004\.tfrecord at byte (\d+) ", str(resnet50.records.explain(error))))
    assert named == {("3", str(starts[record])) for record in (1, 4)}


@pytest.mark.parametrize("broken", [[0], [5], [2, 3], [0, 1, 2, 3, 4, 5]], ids=str)
def test_undecodable_jpegs_are_skipped_named_and_counted(
    damaged: Callable, make_dataset: Callable, capfd: pytest.CaptureFixture[str], broken: list[int]
) -> None:
    """The last records of the last file included, after which nothing good comes any more."""
    folder = damaged("validation", 3, lambda data: rewrite(data, broken, lambda jpeg: b"no JPEG"))
    file = folder / "validation-00003-of-00004.tfrecord"
    assert len(labels_of(make_dataset(folder, on_bad_record="skip"))) == 24 - len(broken)
    err = capfd.readouterr().err
    starts = offsets(file.read_bytes())
    for record in broken:
        assert f"bad record: {file} at byte {starts[record]} (does not decode)" in err
    assert f"skipped {len(broken)} so far" in err


def test_file_that_is_gone_on_the_reading_host_is_named(
    damaged: Callable, make_dataset: Callable, resnet50: SimpleNamespace
) -> None:
    """Left to itself, TFRecordDataset under ignore_errors would try for ever."""
    folder = damaged("validation", 0, bytes)
    dataset = make_dataset(folder)
    (folder / "validation-00002-of-00004.tfrecord").unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"validation-00002-of-00004\.tfrecord at byte 0 \(cut off"):
        labels_of(dataset)


def test_folder_and_file_names_are_not_patterns(
    photographs: Path, make_dataset: Callable, tmp_path: Path, resnet50: SimpleNamespace
) -> None:
    folder = tmp_path / "odd [1]* name"
    folder.mkdir()
    for file in (photographs / "validation").glob("*.tfrecord"):
        (folder / file.name).write_bytes(file.read_bytes())
    assert len(labels_of(make_dataset(folder))) == 24


@pytest.mark.parametrize(
    ("on_bad_record", "advice"),
    [
        ("stop", "pass --on-bad-record skip"),
        ("skip", r"1\d\d of \d+ records are bad, the last: bad record: .*files you meant\?"),
    ],
    ids=["stop", "skip"],
)
def test_nothing_but_bad_records_is_an_error_and_no_endless_search(
    damaged: Callable, make_dataset: Callable, resnet50: SimpleNamespace, tmp_path: Path, on_bad_record: str, advice: str
) -> None:
    damaged("validation", 0, bytes)
    for number in range(4):
        file = tmp_path / f"validation-{number:05}-of-00004.tfrecord"
        file.write_bytes(rewrite(bytearray(file.read_bytes()), list(range(6)), lambda jpeg: b"\x89PNG"))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        labels_of(make_dataset(tmp_path, training=True, on_bad_record=on_bad_record).take(1))
    assert re.search(advice, str(resnet50.records.explain(caught.value)))


def test_errors_of_another_kind_are_left_alone(resnet50: SimpleNamespace) -> None:
    assert resnet50.records.explain(ValueError("something else")) is None
