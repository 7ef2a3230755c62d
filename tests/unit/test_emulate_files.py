from __future__ import annotations

import json
from pathlib import Path

import pytest

from hetero_tfdata.emulate import Group, Job
from hetero_tfdata.emulate.files import MARK, RunFolder, default_output
from hetero_tfdata.emulate.hosts import place
from hetero_tfdata.emulate.variables import Variables
from hetero_tfdata.emulate.view import HostView
from hetero_tfdata.errors import ConfigurationError


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = tmp_path / "source"
    (source / "package" / "__pycache__").mkdir(parents=True)
    (source / "package" / "__pycache__" / "x.pyc").touch()
    (source / "package" / "module.py").write_text("x = 1")
    (source / "train.py").touch()
    (tmp_path / "photographs").mkdir()
    return Job([Group("gpu", "ml.p4d.24xlarge", 1)], source, "train.py", channels={"train": tmp_path / "photographs"})


def test_a_host_has_sagemakers_folders(job: Job, tmp_path: Path) -> None:
    hosts = place(job)
    with RunFolder.claim(tmp_path / "out", job) as folder:
        base = folder.base_dir("algo-1")
        folder.lay_out(Variables(job, hosts, hosts[0], HostView(base)))
    assert base == tmp_path / "out" / "algo-1" / "opt" / "ml"
    config = {path.name: json.loads(path.read_text()) for path in (base / "input" / "config").iterdir()}
    assert config["resourceconfig.json"]["current_host"] == "algo-1"
    assert config["inputdataconfig.json"] == {
        "train": {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    assert json.loads(config["hyperparameters.json"]["sagemaker_program"]) == "train.py"
    assert (base / "input" / "data" / "train").resolve() == tmp_path / "photographs"
    assert all((base / name).is_dir() for name in ("model", "output/data", "checkpoints"))
    code = sorted(str(path.relative_to(base / "code")) for path in (base / "code").rglob("*"))
    assert code == ["package", "package/module.py", "train.py"]


def test_an_output_below_the_source_folder_is_not_copied_into_itself(job: Job) -> None:
    hosts = place(job)
    source = Path(job.source_dir)
    (source / "out" / "earlier").mkdir(parents=True)
    (source / "out" / "earlier" / MARK).touch()
    with RunFolder.claim(source / "out" / "run", job) as folder:
        folder.lay_out(Variables(job, hosts, hosts[0], HostView(folder.base_dir("algo-1"))))
        assert list((folder.base_dir("algo-1") / "code" / "out").iterdir()) == []


def test_an_earlier_runs_folder_is_replaced_and_another_one_is_refused(job: Job, tmp_path: Path) -> None:
    with RunFolder.claim(tmp_path / "out", job) as folder:
        (folder.path / "algo-1").mkdir()
        (folder.path / "algo-1" / "old").touch()
    with RunFolder.claim(tmp_path / "out", job) as folder:
        assert [path.name for path in folder.path.iterdir()] == [MARK]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    with pytest.raises(ConfigurationError, match="one of an earlier emulator run; it holds thesis"):
        RunFolder.claim(tmp_path / "mine", job).__enter__()


def test_two_runs_can_not_share_a_folder(job: Job, tmp_path: Path) -> None:
    with RunFolder.claim(tmp_path / "out", job) as folder:
        (folder.path / "kept").touch()
        with pytest.raises(ConfigurationError, match="in use by another emulator run"):
            RunFolder.claim(tmp_path / "out", job).__enter__()
        assert (folder.path / "kept").exists()


def test_a_failure_is_cut_as_sagemaker_cuts_it(job: Job, tmp_path: Path) -> None:
    with RunFolder.claim(tmp_path / "out", job) as folder:
        assert folder.failure("algo-1") is None
        output = folder.base_dir("algo-1") / "output"
        output.mkdir(parents=True)
        (output / "failure").write_bytes(b"\xff" + b"x" * 2000)
        assert folder.failure("algo-1") == "\N{REPLACEMENT CHARACTER}" + "x" * 1023


def test_the_default_output_is_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "2026-11-23")
    first = default_output()
    first.mkdir(parents=True)
    assert first == tmp_path / "out" / "emulate" / "2026-11-23"
    assert default_output() == tmp_path / "out" / "emulate" / "2026-11-23-2"
