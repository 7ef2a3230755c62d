"""Ranks that sagemaker-training's own `train` starts by mpirun and ssh on emulated hosts, and our stand-in's beside them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hetero_tfdata.emulate import Group, Result
from told import OF_RANKS, OF_TRAIN, PROBE, differences, leave_few_variables, told

pytestmark = pytest.mark.toolkit

DATA = Group("data_group", "ml.c5.18xlarge", 1)
# Told to use EFA, which is not there.
DNN = Group("dnn_group", "ml.p4d.24xlarge", 2)
RECIPE = Path(__file__).parents[2] / "recipes" / "resnet50_imagenet"

WORLD = """
import os
if os.environ["SM_CURRENT_INSTANCE_GROUP"] == "dnn_group":
    from mpi4py import MPI
    world = MPI.COMM_WORLD
    names = world.allgather((world.Get_rank(), MPI.Get_processor_name(), os.uname().nodename, os.environ["HOSTNAME"]))
    assert world.Get_size() == 4, names
    assert [rank for rank, *_ in names] == [0, 1, 2, 3], names
    for rank, *seen in names:
        assert len(set(seen)) == 1, names
    assert len({seen for _, seen, *_ in names}) == 2, names
    print("the world is whole", flush=True)
"""


def of_group(result: Result, group: str) -> list[str]:
    return [host.name for host in result.hosts if host.group == group]


def log(result: Result, host: str) -> str:
    return (result.output / f"{host}.log").read_text(errors="replace")


@pytest.mark.timeout(600)
def test_mpirun_starts_ranks_on_several_hosts(emulate: Callable[..., Result]) -> None:
    result = emulate(WORLD, DATA, DNN, distribution="dnn_group", processes_per_host=2)
    assert [(host.exit_code, host.failure) for host in result.hosts] == [(0, None)] * 3
    first, second = of_group(result, "dnn_group")
    assert log(result, first).count("the world is whole") == 4
    assert "mpirun --host" in log(result, first)
    assert "MPI training job status file found. Exit gracefully" in log(result, second)


@pytest.mark.timeout(900)
def test_the_stand_in_tells_ranks_what_mpirun_tells_them(
    emulate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_few_variables(monkeypatch)
    pytest.importorskip("horovod", reason="starts the stand-in's ranks")
    (tmp_path / "photographs").mkdir()
    options = {"channels": {"train": tmp_path / "photographs"}, "hyperparameters": {"epochs": 3, "name": "a 'b' $c"}}
    results = [
        emulate(PROBE, DATA, DNN, toolkit=toolkit, distribution="dnn_group", processes_per_host=2, **options)
        for toolkit in (False, True)
    ]
    assert [result.exit_code for result in results] == [0, 0]
    hosts = of_group(results[0], "dnn_group")
    for rank in range(4):
        ours, theirs = (told(result, hosts[rank // 2], rank) for result in results)
        assert differences(ours, theirs, OF_RANKS) == {}
        assert theirs["variables"]["A_VARIABLE"] == "of the caller"
        assert (theirs["argv"][0], theirs["cwd"], theirs["name"]) == ("train.py", "/opt/ml/code", "__main__")
        assert ours["theirs"] == theirs["theirs"]
        # mpirun tells all ranks its own host's name; the files tell each its own
        assert ours["variables"]["SM_CURRENT_HOST"] == hosts[0]
        assert ours["config"]["resourceconfig.json"]["current_host"] == hosts[rank // 2]
        assert ours["variables"]["OMPI_COMM_WORLD_RANK"] == str(rank)
    (data_host,) = of_group(results[0], "data_group")
    assert differences(*(told(result, data_host) for result in results), OF_TRAIN) == {}


@pytest.mark.timeout(600)
def test_a_rank_that_raises_fails_the_host_that_runs_mpirun(emulate: Callable[..., Result]) -> None:
    script = """
import os, time
if os.environ["OMPI_COMM_WORLD_RANK"] == "1":
    raise ValueError("the disk is on fire")
time.sleep(200)
"""
    result = emulate(script, Group("dnn_group", "ml.p3.2xlarge", 1), distribution="dnn_group", processes_per_host=2)
    (host,) = result.hosts
    assert host.exit_code == 1
    assert host.failure is not None
    assert host.failure.startswith("ExecuteUserScriptError:\nExitCode 1\n")
    assert "mpirun --host" in host.failure
    assert "the disk is on fire" in log(result, host.name)


@pytest.mark.timeout(600)
def test_a_training_that_raises_ends_the_data_hosts(emulate: Callable[..., Result], tmp_path: Path) -> None:
    """`hetero-tfdata launch` on every host: the master's container fails, and the data host follows."""
    pytest.importorskip("tensorflow")
    (tmp_path / "launched").mkdir()
    shutil.copy(RECIPE / "launcher.py", tmp_path / "launched")
    (tmp_path / "launched" / "train.py").write_text("raise ValueError('the disk is on fire')")
    dnn = Group("dnn_group", "ml.p4d.24xlarge", 1)
    result = emulate(
        tmp_path / "launched", DATA, dnn, entry_point="launcher.py", distribution="dnn_group", processes_per_host=2
    )
    assert [host.exit_code for host in result.hosts] == [1, 1]
    for host in result.hosts:
        assert host.failure is not None
        assert "ValueError: the disk is on fire" in host.failure


MPIRUN_DIES = """
import os, signal, time
from pathlib import Path
if os.environ["OMPI_COMM_WORLD_RANK"] == "0":
    time.sleep(5)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (folder / "comm").read_text() == "mpirun\\n":
            os.kill(int(folder.name), signal.SIGKILL)
time.sleep(200)
"""


@pytest.mark.timeout(600)
def test_an_mpirun_that_is_killed_ends_the_data_hosts(emulate: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    source = tmp_path / "launched"
    source.mkdir()
    shutil.copy(RECIPE / "launcher.py", source)
    (source / "train.py").write_text(MPIRUN_DIES)
    dnn = Group("dnn_group", "ml.p4d.24xlarge", 1)
    result = emulate(
        source, DATA, dnn, entry_point="launcher.py", distribution="dnn_group", processes_per_host=2, timeout_s=150
    )
    assert result.ended_by is None
    assert all(host.exit_code != 0 and host.failure for host in result.hosts)


@pytest.mark.timeout(600)
def test_a_stopped_run_leaves_nothing_of_mpirun_and_ssh(emulate: Callable[..., Result]) -> None:
    seen: dict[str, set[psutil.Process]] = {"sshd": set(), "mpirun": set(), "orted": set()}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    seen.get(process.name(), set()).add(process)

    script = """
import time
print("up", flush=True)
time.sleep(300)
"""
    watcher = threading.Thread(target=watch)
    watcher.start()
    dnn = Group("dnn_group", "ml.p3.2xlarge", 2)
    try:
        result = emulate(script, dnn, distribution="dnn_group", processes_per_host=2, timeout_s=45)
    finally:
        ended.set()
        watcher.join()
    assert result.ended_by == "time limit"
    assert [host.exit_code for host in result.hosts] == [143, 143]
    assert log(result, "algo-1").count("<stdout>:up") == 4
    for name, processes in seen.items():
        assert processes, f"{name} was not seen"
        assert not [process for process in processes if process.is_running()]


HOROVOD = """
import os
if os.environ["SM_CURRENT_INSTANCE_GROUP"] == "dnn_group":
    import horovod.tensorflow as hvd
    import tensorflow as tf
    hvd.init()
    assert hvd.mpi_enabled() and not hvd.gloo_enabled()
    assert (hvd.rank(), hvd.size()) == (int(os.environ["OMPI_COMM_WORLD_RANK"]), 2)
    assert float(hvd.allreduce(tf.constant(float(hvd.rank())), op=hvd.Sum)) == 1.0
    print("reduced by MPI", flush=True)
"""


@pytest.mark.timeout(600)
def test_horovod_reduces_by_mpi(emulate: Callable[..., Result]) -> None:
    pytest.importorskip("horovod")
    result = emulate(HOROVOD, Group("dnn_group", "ml.p4d.24xlarge", 1), distribution="dnn_group", processes_per_host=2)
    assert result.exit_code == 0
    assert log(result, "algo-1").count("reduced by MPI") == 2


@pytest.mark.timeout(1500)
def test_the_recipe_trains_on_two_hosts_of_two_ranks(emulate: Callable[..., Result], tmp_path: Path) -> None:
    """ResNet50 with Horovod over MPI, fed by data hosts through hetero-tfdata."""
    pytest.importorskip("horovod")
    prepare = [sys.executable, str(RECIPE / "prepare.py"), "--output", str(tmp_path / "data"), "--images", "192"]
    subprocess.run([*prepare, "--image-size", "64"], check=True)
    settings = {"epochs": 1, "steps-per-epoch": 3, "batch-size": 8, "image-size": 32, "warmup-epochs": 0}
    result = emulate(
        RECIPE,
        DATA,
        DNN,
        entry_point="launcher.py",
        distribution="dnn_group",
        processes_per_host=2,
        channels={name: tmp_path / "data" / name for name in ("train", "validation")},
        hyperparameters=settings,
        timeout_s=1200,
    )
    assert [(host.exit_code, host.failure) for host in result.hosts] == [(0, None)] * 3
    assert result.train is not None
    print(json.dumps(result.train, indent=1))
    assert (result.train["ranks"], result.train["steps"]) == (4, 3)
    (data_host,) = of_group(result, "data_group")
    assert result.served_by_host[data_host] >= 12
