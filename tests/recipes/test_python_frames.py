"""OpenCV and albumentations in the data hosts' workers: the recipe's frames and boxes are those of one process."""

from __future__ import annotations

import shutil

import pytest

from hetero_tfdata.emulate import Group, Job, run

FRAMES = """
import hashlib, os

from python_frames import make_dataset

from hetero_tfdata import distribute


def frames(dataset):
    for batch in dataset:
        for image, boxes in zip(batch["images"], batch["boxes"]):
            yield hashlib.sha256(image.numpy().tobytes() + boxes.numpy().tobytes()).hexdigest(), len(boxes)


dataset = make_dataset("train", 4, size=(96, 128), seed=1, passes=2)
remote = sorted(frames(dataset.apply(distribute())))
local = sorted(frames(make_dataset(os.environ["SM_CHANNEL_TRAIN"], 4, size=(96, 128), seed=1, passes=2)))
print("frames:", len(remote), "equal:", remote == local, "different:", len(set(local)), "boxes:", sum(n for _, n in local) > 0)
"""


def test_opencv_and_albumentations_on_the_emulators_data_hosts(driving, tmp_path):
    """Boxes included: every frame of two passes is the one that this machine makes by itself."""
    pytest.importorskip("cv2")
    pytest.importorskip("albumentations")
    data, source = tmp_path / "frames", tmp_path / "source"
    words = ["--frames", "24", "--width", "160", "--height", "120", "--shards", "8"]
    assert driving.prepare.main(["--output", str(data), *words]) == 0
    shutil.copytree(driving.folder, source, ignore=shutil.ignore_patterns("out", "data", "__pycache__"))
    (source / "train.py").write_text(FRAMES)
    job = Job(
        [Group("data_group", "ml.c5.18xlarge", 2), Group("dnn_group", "ml.p3.2xlarge", 1)],
        source_dir=source,
        entry_point="launcher.py",
        channels={"train": data / "train"},
    )
    result = run(job, output=tmp_path / "out", timeout_s=180)
    logs = "\n".join((tmp_path / "out" / f"{host.name}.log").read_text()[-2000:] for host in result.hosts)
    assert result.succeeded, logs
    assert "frames: 48 equal: True different: 48 boxes: True" in logs
