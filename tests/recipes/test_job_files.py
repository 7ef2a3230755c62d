"""Every recipe trains on the emulator from the job file that is submitted, with and without its data group."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hetero_tfdata.sagemaker import read
from support import clean_environment

RECIPES = Path(__file__).parents[2] / "recipes"
# smaller in what takes time: the ranks, the images, the net
SMALLER = {
    "cifar_heavy": ["model=tiny", "batch-size=64", "images=1000"],
    "cifar_heavy published": ["graph=published", "model=tiny", "batch-size=64", "images=1000"],
    "driving_frames": ["batch-size=4", "height=96", "width=128", "channels=4"],
    "mnist_single_gpu": ["batch-size=64", "images=1000"],
    "resnet50_imagenet": ["model=tiny", "batch-size=8", "image-size=32"],
    "resnet50_imagenet mirrored": ["model=tiny", "batch-size=8", "image-size=32"],
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def channels(driving, photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    words = ["--frames", "24", "--width", "160", "--height", "120", "--shards", "8"]
    assert driving.prepare.main(["--output", str(folder), *words]) == 0
    return {
        "driving_frames": {"train": folder / "train"},
        "resnet50_imagenet": {"train": photographs / "train", "validation": photographs / "validation"},
    }


@pytest.mark.parametrize("homogeneous", [False, True], ids=["heterogeneous", "homogeneous"])
@pytest.mark.parametrize("name", SMALLER)
def test_a_recipe_trains_from_its_job_file(name, homogeneous, channels, tmp_path):
    recipe, _, variant = name.partition(" ")
    job = RECIPES / recipe / ("job-mirrored.toml" if variant == "mirrored" else "job.toml")
    command = [sys.executable, "-m", "hetero_tfdata", "emulate", "--job", str(job)]
    command += [word for pair in ("epochs=2", "steps-per-epoch=3", *SMALLER[name]) for word in ("-p", pair)]
    command += [word for channel, folder in channels.get(recipe, {}).items() for word in ("--channel", f"{channel}={folder}")]
    command += ["--isolation", "process", "--timeout-s", "300", "--output", str(tmp_path / "out")]
    command += ["--processes-per-host", "2"] if read(job).distribution else []
    command += ["--homogeneous"] if homogeneous else []
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["train"]["steps"] == 6
    data_hosts = [host["name"] for host in summary["hosts"] if host["group"] == "data_group"]
    assert bool(data_hosts) != homogeneous
    assert all(summary["served_by_host"][host] > 0 for host in data_hosts)
