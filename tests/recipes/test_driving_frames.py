"""The recipe of camera frames: its files, its graph with boxes, its detector."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

SIZE = (96, 128)


@pytest.fixture(scope="module")
def frames(driving, tmp_path_factory):
    """24 small frames in 3 files; not to be changed."""
    folder = tmp_path_factory.mktemp("frames")
    words = ["--frames", "24", "--width", "160", "--height", "120", "--shards", "3"]
    assert driving.prepare.main(["--output", str(folder), *words]) == 0
    return folder


def test_a_frame_and_the_boxes_of_its_vehicles(driving):
    jpeg, boxes = driving.prepare.make_frame(3, 320, 240)
    assert Image.open(io.BytesIO(jpeg)).size == (320, 240)
    assert boxes.dtype == np.float32
    assert 0 < len(boxes) <= driving.prepare.MOST_VEHICLES
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert driving.prepare.make_frame(3, 320, 240)[0] == jpeg
    assert driving.prepare.make_frame(4, 320, 240)[0] != jpeg


def test_finished_files_stay_and_others_are_not_mixed_with_them(driving, frames, capsys):
    files = sorted((frames / "train").iterdir())
    before = [file.stat().st_mtime_ns for file in files]
    same = ["--output", str(frames), "--width", "160", "--height", "120", "--shards", "3"]
    assert driving.prepare.main([*same, "--frames", "24"]) == 0
    assert [file.stat().st_mtime_ns for file in files] == before
    assert [file.name for file in sorted((frames / "train").iterdir())] == [file.name for file in files]
    assert driving.prepare.main(["--output", str(frames), "--width", "9", "--height", "120"]) == 2
    assert "--width: expected at least 64, got 9" in capsys.readouterr().err


def test_boxes_come_out_of_the_graph_with_their_frames(driving, frames):
    dataset = driving.dataset.make_dataset(str(frames / "train"), 8, size=SIZE, seed=1)
    batch = next(iter(dataset))
    assert batch["images"].shape == (8, *SIZE, 3)
    assert batch["images"].dtype == tf.uint8
    assert batch["boxes"].row_lengths().shape == (8,)
    corners = batch["boxes"].values.numpy()
    assert len(corners)
    assert (corners >= 0).all()
    assert (corners <= [*SIZE, *SIZE]).all()
    _images, boxes = driving.train.dense(batch)
    assert boxes.shape == (8, driving.train.MOST_BOXES, 4)
    assert int(tf.reduce_sum(tf.cast(boxes[..., 2] > 0, tf.int32))) == len(corners)


def test_what_the_net_should_say_is_what_detect_reads(driving):
    boxes = tf.constant([[[10.0, 20.0, 40.0, 70.0], [60.0, 64.0, 90.0, 120.0], [0.0] * 4], [[0.0] * 4] * 3])
    cells, wanted = driving.detector._targets(boxes, tf.zeros([2, 6, 8, 5]))
    assert cells.numpy().tolist() == [[0, 1, 2], [0, 4, 5]]
    offsets = wanted[:, :2]
    said = tf.concat([tf.fill([2, 1], 9.0), tf.math.log(offsets / (1 - offsets)), wanted[:, 2:]], 1)
    perfect = tf.tensor_scatter_nd_update(tf.fill([2, 6, 8, 5], -9.0), cells, said)
    found, _scores, counts = driving.detector.detect(perfect)
    assert counts.numpy().tolist() == [2, 0]
    assert sorted(found[0, :2].numpy().round(2).tolist()) == boxes[0, :2].numpy().tolist()
    assert float(driving.detector.mean_iou(boxes, perfect)) == pytest.approx(1.0, abs=1e-4)
    assert float(driving.detector.detection_loss(boxes, perfect)) < 1e-3
    assert float(driving.detector.mean_iou(boxes[1:], perfect[1:])) == 0


@pytest.mark.slow
def test_the_detector_learns(driving, frames):
    tf.keras.utils.set_random_seed(1)
    dataset = driving.dataset.make_dataset(str(frames / "train"), 8, size=SIZE, seed=1).map(driving.train.dense)
    model = driving.detector.build_detector(SIZE, 4)
    model.compile(tf.keras.optimizers.Adam(0.01), loss=driving.detector.detection_loss, metrics=[driving.detector.mean_iou])
    history = model.fit(dataset, epochs=3, steps_per_epoch=10, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["mean_iou"][-1] > history["mean_iou"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--height", "100"], "--height: expected a multiple of 16, got 100"),
        (["--epochs", "0"], "--epochs: expected at least 1"),
    ],
)
def test_a_mistake_is_one_line(driving, capsys, words, said):
    assert driving.train.main(words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
