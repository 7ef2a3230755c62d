"""sagemaker-training's own `train` on emulated hosts, without MPI; tests/toolkit has the rest, which needs Open MPI."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hetero_tfdata.emulate import Group, Job, Result, run
from hetero_tfdata.emulate.mpirun import toolkit_variables
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.emulate.toolkit import Toolkit
from hetero_tfdata.errors import ConfigurationError
from told import OF_TRAIN, PROBE, differences, is_version_4, leave_few_variables, told

pytest.importorskip("sagemaker_training")

GROUPS = (Group("data_group", "ml.c5.18xlarge", 1), Group("dnn_group", "ml.p3.2xlarge", 1))
# Every kind of value that JSON has, and what a shell would break.
HYPERPARAMETERS = {
    "epochs": 3,
    "name": "a 'b' $c",
    "on": True,
    "none": None,
    "list": [1, "x"],
    "map": {"b": 1, "a": 2},
    "x": 0.5,
}


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """Skips where nobody may make namespaces."""
    try:
        with Privileges.acquire():
            pass
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture
def emulate(tmp_path: Path) -> Callable[..., Result]:
    """Runs a script as a job whose hosts and name are the same in every run."""

    def start(script: str, toolkit: bool, *, groups: tuple[Group, ...] = GROUPS, **options: Any) -> Result:
        source = tmp_path / "source"
        (source / "package").mkdir(parents=True, exist_ok=True)
        (source / "train.py").write_text(script)
        (source / "package" / "data.txt").touch()
        job = Job(groups, source, "train.py", name="job", **options)
        output = tmp_path / ("toolkit" if toolkit else "stand-in")
        result = run(job, output=output, timeout_s=200, seed=3, isolation="namespace", toolkit=toolkit)
        for log in sorted(output.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')}")
        return result

    return start


def test_the_stand_in_tells_a_script_what_train_tells_it(
    emulate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_few_variables(monkeypatch)
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").touch()
    channels = {"train": tmp_path / "photographs", "val-2": tmp_path / "photographs"}
    results = [emulate(PROBE, toolkit, channels=channels, hyperparameters=HYPERPARAMETERS) for toolkit in (False, True)]
    for host in ("algo-1", "algo-2"):
        ours, theirs = (told(result, host) for result in results)
        assert differences(ours, theirs, OF_TRAIN) == {}
        assert theirs["variables"]["A_VARIABLE"] == "of the caller"
        assert theirs["argv"] == ["train.py", *theirs["theirs"]["arguments"]]
        assert theirs["cwd"] == "/opt/ml/code"
        assert "input/data/train/one.jpg" in theirs["files"]
        # and so `from sagemaker_training import environment` says the same of both
        assert ours["theirs"] == theirs["theirs"]
    assert [result.exit_code for result in results] == [0, 0]
    assert [host.failure for host in results[1].hosts] == [None, None]
    assert (results[1].output / "algo-1" / "opt" / "ml" / "output" / "success").read_text() == ""


def test_a_raising_script_ends_as_train_ends_it(emulate: Callable[..., Result]) -> None:
    result = emulate("raise ValueError('the disk is on fire')", True, groups=GROUPS[:1])
    assert (result.exit_code, result.hosts[0].exit_code) == (1, 1)
    failure = result.hosts[0].failure
    assert failure is not None
    assert failure.startswith("ExecuteUserScriptError:\nExitCode 1\n")
    assert "train.py" in failure
    assert not (result.output / "algo-1" / "opt" / "ml" / "output" / "success").exists()
    assert "ValueError: the disk is on fire" in (result.output / "algo-1.log").read_text()


def test_without_the_commands_of_mpi_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").touch()
    job = Job(GROUPS, tmp_path, "train.py", "dnn_group")
    monkeypatch.setattr(shutil, "which", lambda command: None if command in ("mpirun", "/usr/sbin/sshd") else command)
    with pytest.raises(ConfigurationError, match="apt install openmpi-bin openssh-server, or leave --toolkit out"):
        Toolkit.find(job)
    Toolkit.find(Job(GROUPS, tmp_path, "train.py"))  # without ranks nothing of it is needed


def test_the_stand_ins_ranks_are_told_what_is_on_the_toolkits_command_line(emulate: Callable[..., Result]) -> None:
    """Without Open MPI: the command is only looked at."""
    script = """
import json
import sagemaker_training
from sagemaker_training.mpi import MasterRunner
hosts = ["algo-1", "algo-2"]
kinds = ["ml.p3.2xlarge", *sagemaker_training.SM_EFA_NCCL_INSTANCES, *sagemaker_training.SM_EFA_RDMA_INSTANCES]
runners = {kind: MasterRunner("train.py", [], {}, 2, hosts[0], hosts, "", "eth0", instance_type=kind) for kind in kinds}
with open("/opt/ml/output/data/commands.json", "w") as file:
    json.dump({kind: runner._create_command() for kind, runner in runners.items()}, file)
"""
    result = emulate(script, False, groups=GROUPS[:1])
    assert result.exit_code == 0
    commands = json.loads((result.output / "algo-1" / "opt" / "ml" / "output" / "data" / "commands.json").read_text())
    assert len(commands) > 5
    if is_version_4():
        commands.pop("ml.p5.48xlarge")  # told of EFA's RDMA since 5
    for kind, command in commands.items():
        given = [value for option, value in itertools.pairwise(command) if option == "-x" and "=" in value]
        expected = dict(text.split("=", 1) for text in given if not text.startswith("LD_PRELOAD="))
        assert toolkit_variables(kind, "eth0") == expected, kind
        assert command[-3:] == ["-m", "mpi4py", "train.py"]


def test_the_toolkit_needs_namespaces(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    with pytest.raises(ConfigurationError, match="--toolkit needs --isolation namespace"):
        run(Job(GROUPS, tmp_path, "train.py"), output=tmp_path / "out", toolkit=True)
    assert not (tmp_path / "out").exists()


def test_the_toolkit_is_that_of_this_python() -> None:
    assert Toolkit.find(Job(GROUPS, Path(__file__).parent, Path(__file__).name)).train.parent == Path(sys.executable).parent


def test_requirements_are_installed_for_the_host_alone(emulate: Callable[..., Result], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    info = "oneoff_package-1.0.dist-info"
    with zipfile.ZipFile(source / "oneoff_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("oneoff_package.py", "answer = 42")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: oneoff-package\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (source / "requirements.txt").write_text("./oneoff_package-1.0-py3-none-any.whl\n")
    result = emulate("import oneoff_package; print('the answer is', oneoff_package.answer)", True, groups=GROUPS[:1])
    assert result.exit_code == 0
    assert "the answer is 42" in (result.output / "algo-1.log").read_text()
    assert importlib.util.find_spec("oneoff_package") is None
