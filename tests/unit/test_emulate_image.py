"""What the toolkit's hosts have of their own; tests/toolkit has them beside a real sshd."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hetero_tfdata.emulate import Group, Job
from hetero_tfdata.emulate.gpus import make_folder
from hetero_tfdata.emulate.image import Image
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.errors import ConfigurationError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").touch()
    return tmp_path / "source"


def make(source: Path, distribution: str | None = None, privileges: Privileges | None = None) -> Image:
    job = Job([Group("gpus", "ml.p4d.24xlarge", 2)], source, "train.py", distribution)
    return Image.make(source.parent / "image", ["algo-1", "algo-2"], job, privileges or Privileges())


def test_a_job_without_ranks_has_no_ssh(source: Path) -> None:
    image = make(source)
    assert (image.variables, image.folders(()), image.layers) == ({}, (), ())
    assert image.binds("algo-1") == ()


def test_nvidia_smi_lists_the_instance_types_gpus(tmp_path: Path) -> None:
    for gpus in (0, 8):
        command = make_folder(tmp_path / str(gpus), gpus) / "nvidia-smi"
        listed = subprocess.run([command, "--list-gpus"], capture_output=True, check=True, text=True).stdout
        assert [line.split(":")[0] for line in listed.splitlines()] == [f"GPU {number}" for number in range(gpus)]
        done = subprocess.run([command], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (9, "emulated: there is no GPU\n")


def test_a_job_with_requirements_may_change_its_python(source: Path) -> None:
    (source / "requirements.txt").touch()
    assert make(source).layers == (sys.prefix,)


def test_sshd_needs_root(source: Path) -> None:
    with pytest.raises(ConfigurationError, match="sshd, which needs root"):
        make(source, "gpus", Privileges(prefix=("nsenter",)))
