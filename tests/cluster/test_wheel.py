"""The package as a wheel, in an environment that has TensorFlow and what that needs, and nothing else: as on SageMaker's
images, where a job without a network can download nothing."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from hetero_tfdata.sagemaker.source import wheel
from support import clean_environment

pytest.importorskip("tensorflow")

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys

import tensorflow as tf

import hetero_tfdata
from hetero_tfdata import distribute

assert hetero_tfdata.__file__.startswith(sys.prefix), hetero_tfdata.__file__
dataset = tf.data.Dataset.range(100).map(lambda i: i * i).batch(10).apply(distribute())
print("squares:", sorted(int(i) for batch in dataset for i in batch) == [i * i for i in range(100)], flush=True)
"""


def what_tensorflow_needs() -> dict[str, str]:
    """Its distributions by name and version, itself included, as their metadata name them."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    wanted = ["tensorflow-cpu", "tensorflow"]
    while wanted:
        name = wanted.pop()
        try:
            one = distribution(name)
        except PackageNotFoundError:  # one of the two; or one that another platform needs
            continue
        if one.metadata["Name"] in found:
            continue
        found[one.metadata["Name"]] = one.version
        requirements = map(Requirement, one.requires or ())
        wanted += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """Its interpreter: links to this environment's TensorFlow, without pip."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in what_tensorflow_needs():
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(distribution(name).locate_file(top)))
    return folder / "bin" / "python"


def test_it_installs_with_nothing_downloaded_and_runs_a_job(bare, tmp_path, make_job, write_script):
    install = [sys.executable, "-m", "pip", "--python", str(bare), "install", "--no-index", str(wheel(tmp_path))]
    done = subprocess.run(install, env=clean_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = (
        "import importlib.util as u; print([n for n in ('horovod', 'psutil', 'PIL', 'sagemaker', 'pytest') if u.find_spec(n)])"
    )
    there = subprocess.run([bare, "-c", seen], env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert there.stdout.strip() == "[]", there.stderr

    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    script = write_script(SCRIPT)
    for host in job.hosts:
        job.start(host, str(bare), "-m", "hetero_tfdata", "launch", str(script))
    codes = job.wait(90)
    assert codes == {"algo-1": 0, "algo-2": 0}, job.log("algo-1") + job.log("algo-2")
    assert "squares: True" in job.log("algo-2")


def test_the_uploaded_wheel_is_the_built_one(tmp_path):
    if not (ROOT / "hetero_tfdata").exists():
        pytest.skip("this is a copy of the checkout without the package")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "built")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = (tmp_path / "built").glob("*.whl")
    uploaded = wheel(tmp_path)
    assert built.name == uploaded.name

    def package(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name.startswith("hetero_tfdata/")}

    assert package(built) == package(uploaded)
