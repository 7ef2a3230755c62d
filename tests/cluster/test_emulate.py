"""Emulated jobs as real process trees. Only the last test imports TensorFlow."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest

from hetero_tfdata.emulate import Group, Job, Result, run
from hetero_tfdata.emulate.task import HostTask
from support import clean_environment, wait_for

CPU, GPU = Group("data_group", "ml.c5.18xlarge", 2), Group("dnn_group", "ml.p4d.24xlarge", 1)

# Every process of a job says what it is and writes what it sees.
PREAMBLE = """
import json, os, signal, subprocess, sys, time
host, group = os.environ["SM_CURRENT_HOST"], os.environ["SM_CURRENT_INSTANCE_GROUP"]
rank = os.environ.get("OMPI_COMM_WORLD_RANK")
def write(name, value):
    with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], name), "w") as file:
        json.dump(value, file)
"""


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Runs a script as a job; its logs are shown when the test fails."""

    def start(script: str, *groups: Group, timeout_s: float = 60, **options: Any) -> Result:
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "train.py").write_text(PREAMBLE + script)
        how = {name: options.pop(name) for name in ("stream", "isolation") if name in options}
        job = Job(groups or (CPU, GPU), tmp_path / "source", "train.py", **options)
        return run(job, output=tmp_path / "out", state=tmp_path / "state.json", timeout_s=timeout_s, **how)

    yield start
    for log in sorted((tmp_path / "out").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')}")
    assert processes_of(tmp_path) == []


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process on this machine that belongs to a job below the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            texts = [process.environ().get("SAGEMAKER_BASE_DIR", ""), process.cwd(), *process.cmdline()]
        except psutil.Error:
            continue
        if any(str(folder) in text for text in texts) and process.pid != os.getpid():
            found.append(process)
    return found


def exit_codes(result: Result) -> dict[str, list[int]]:
    codes: dict[str, list[int]] = {}
    for host in result.hosts:
        codes.setdefault(host.group, []).append(host.exit_code)
    return codes


def output_data(result: Result, host: str, name: str) -> Any:
    return json.loads((result.output / host / "opt" / "ml" / "output" / "data" / name).read_text())


def of_group(result: Result, group: str) -> list[str]:
    return [host.name for host in result.hosts if host.group == group]


def log(result: Result, host: str) -> str:
    return (result.output / f"{host}.log").read_text(errors="replace")


def test_data_hosts_and_ranks_run_to_their_end(emulate: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("horovod")
    script = """
ompi = {name: value for name, value in os.environ.items() if name.startswith("OMPI_")}
write(f"seen-{rank}.json", {"ompi": ompi, "cwd": os.getcwd(), "arguments": sys.argv[1:], "path": sys.path})
print("rank", rank, "on", host)
sys.stdout.flush()
sys.stdout.buffer.write(b"not \\xff UTF-8, no end")
os.makedirs(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "hetero_tfdata"))if rank != "1" else None
if rank == "0":
    write("hetero_tfdata/training.json", {"model": "tiny", "steps": 2})
elif rank is None:
    write(f"hetero_tfdata/{host}.json", {"batches_served": 5})
"""
    stream = io.StringIO()
    (tmp_path / "photographs").mkdir()
    result = emulate(
        script,
        distribution="dnn_group",
        processes_per_host=2,
        channels={"train": tmp_path / "photographs"},
        hyperparameters={"x": 1, "lr": 0.5},
        stream=stream,
    )
    assert exit_codes(result) == {"data_group": [0, 0], "dnn_group": [0]}
    assert result.exit_code == 0
    (leader,) = of_group(result, "dnn_group")
    for number in ("0", "1"):
        seen = output_data(result, leader, f"seen-{number}.json")
        assert {name: value for name, value in seen["ompi"].items() if name.startswith("OMPI_COMM_WORLD_")} == {
            "OMPI_COMM_WORLD_RANK": number,
            "OMPI_COMM_WORLD_SIZE": "2",
            "OMPI_COMM_WORLD_LOCAL_RANK": number,
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            "OMPI_COMM_WORLD_NODE_RANK": number,
        }
    assert f"rank 1 | rank 1 on {leader}" in log(result, leader)
    for host in of_group(result, "data_group"):
        seen = output_data(result, host, "seen-None.json")
        code = str(result.output / host / "opt" / "ml" / "code")
        assert seen["cwd"] == code
        assert code in seen["path"]
        assert seen["ompi"] == {}
        assert seen["arguments"] == ["--lr", "0.5", "-x", "1"]
        assert (result.output / host / "opt" / "ml" / "output" / "success").exists()

    summary = json.loads((result.output / "summary.json").read_text())
    assert summary["train"] == {"model": "tiny", "steps": 2}
    assert summary["served_by_host"] == dict.fromkeys(of_group(result, "data_group"), 5)
    assert [host["exit_code"] for host in summary["hosts"]] == [0, 0, 0]

    state = json.loads((tmp_path / "state.json").read_text())["hosts"]
    assert [host["name"] for host in state] == ["algo-1", "algo-2", "algo-3"]
    for host in state:
        assert list(host) == ["name", "group", "instance_type", "address", "pid", "namespace", "exit_code", "failure"]
        assert (host["address"], host["namespace"], host["exit_code"], host["failure"]) == ("127.0.0.1", None, 0, None)

    shown = stream.getvalue()
    assert "3 hosts as processes on this machine, no GPU is used" in shown
    assert re.search(rf"{leader} \(dnn_group\) +\| rank 0 \| rank 0 on {leader}\n", shown)
    assert "not \N{REPLACEMENT CHARACTER} UTF-8, no end\n" in shown
    assert re.search(r"algo-\d  data_group  ml\.c5\.18xlarge +5 +\d\.\d\d +0\n", shown)


def test_the_variables_are_the_toolkits(emulate: Callable[..., Result], tmp_path: Path, isolation: str) -> None:
    """Our stand-in's variables against sagemaker-training's own, in the process that sees both."""
    pytest.importorskip("horovod")
    pytest.importorskip("sagemaker_training")
    script = """
ours = dict(os.environ)
from sagemaker_training import environment, params
theirs = environment.Environment()
write(f"seen-{rank}.json", {"ours": ours, "theirs": theirs.to_env_vars(), "arguments": theirs.to_cmd_args(), "argv": sys.argv})
"""
    (tmp_path / "photographs").mkdir()
    hyperparameters = {"epochs": 3, "name": "a b", "on": True, "none": None, "list": [1, "x"], "map": {"b": 1, "a": 2}}
    result = emulate(
        script,
        Group("data_group", "ml.c5.18xlarge", 1),
        Group("dnn_group", "ml.p4d.24xlarge", 2),
        distribution="dnn_group",
        channels={"train": tmp_path / "photographs", "val-2": tmp_path / "photographs"},
        hyperparameters=hyperparameters,
        isolation=isolation,
    )
    assert result.exit_code == 0
    (data_host,) = of_group(result, "data_group")
    first, second = of_group(result, "dnn_group")
    seen = {rank: output_data(result, host, f"seen-{rank}.json") for rank, host in ((None, data_host), (0, first), (1, second))}
    # mpirun tells the ranks of all hosts what its own host was told
    of_first, of_second = (
        {name: text for name, text in seen[rank]["ours"].items() if name.startswith("SM_")} for rank in (0, 1)
    )
    folders = [str(result.output / host / "opt" / "ml") for host in (first, second)]
    assert of_second == {name: text.replace(*folders) for name, text in of_first.items()}
    for rank, gpus in ((None, 0), (0, 8)):
        ours, theirs = seen[rank]["ours"], seen[rank]["theirs"]
        assert seen[rank]["argv"][1:] == seen[rank]["arguments"]
        assert ours["SM_NUM_GPUS"] == str(gpus)
        ours_env, theirs_env = (json.loads(told.pop("SM_TRAINING_ENV")) for told in (ours, theirs))
        if isolation == "process":
            # On purpose the same folder on every host, where the toolkit says the host's own link to it.
            channels = {name: theirs.pop(name) for name in ("SM_CHANNEL_TRAIN", "SM_CHANNEL_VAL-2")}
            assert {Path(path).resolve() for path in channels.values()} == {tmp_path / "photographs"}
            assert {ours.pop(name) for name in channels} == {str(tmp_path / "photographs")}
            assert ours_env.pop("channel_input_dirs") != theirs_env.pop("channel_input_dirs")
        else:
            assert ours["SM_CHANNEL_VAL-2"] == "/opt/ml/input/data/val-2"
        if int(metadata.version("sagemaker-training").split(".")[0]) < 5:
            assert ours_env.pop("topology") == [], "of 5.x"
        assert {name: value for name, value in ours.items() if name.startswith("SM_")} == theirs
        assert ours_env == theirs_env


def test_a_host_that_fails_ends_no_other(emulate: Callable[..., Result]) -> None:
    script = """
if host == "algo-1":
    print("the disk is on fire", flush=True)
    sys.exit(3)
time.sleep(2)
write("done.json", True)
"""
    result = emulate(script, Group("cpus", "ml.c5.xlarge", 3))
    assert [host.exit_code for host in result.hosts] == [1, 0, 0]
    assert result.exit_code == 1
    assert output_data(result, "algo-3", "done.json")
    assert result.hosts[0].failure == ('ExecuteUserScriptError: command "python train.py" exited with 3\nthe disk is on fire')
    assert not (result.output / "algo-1" / "opt" / "ml" / "output" / "success").exists()


def test_the_scripts_own_failure_is_kept(emulate: Callable[..., Result]) -> None:
    script = """
with open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w") as file:
    file.write("JobError: the leader vanished")
os.kill(os.getpid(), signal.SIGKILL)
"""
    stream = io.StringIO()
    result = emulate(script, Group("cpus", "ml.c5.xlarge", 1), stream=stream)
    assert result.hosts[0].exit_code == 1
    assert result.hosts[0].failure == "JobError: the leader vanished"
    assert 'command "python train.py" was ended by SIGKILL' in log(result, "algo-1")
    assert f"algo-1 (cpus) failed: JobError: the leader vanished\n  read {result.output}/algo-1.log" in stream.getvalue()


def test_a_failed_rank_ends_the_ranks_but_no_data_host(emulate: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("horovod")
    script = """
if rank is None:
    time.sleep(4)
else:
    started = os.environ["SM_CHANNEL_STARTED"]
    open(os.path.join(started, rank), "w").close()
    while rank == "2" and len(os.listdir(started)) < 4:  # horovodrun starts no rank after one has failed
        time.sleep(0.1)
    sys.exit("rank 2 has had enough") if rank == "2" else time.sleep(50)
"""
    (tmp_path / "started").mkdir()
    result = emulate(
        script,
        Group("data_group", "ml.c5.18xlarge", 1),
        Group("dnn_group", "ml.p4d.24xlarge", 2),
        distribution="dnn_group",
        processes_per_host=2,
        channels={"started": tmp_path / "started"},
    )
    assert exit_codes(result) == {"data_group": [0], "dnn_group": [1, 1]}
    by_group = {host.name: host.failure or "" for host in result.hosts}
    first, second = (by_group[name] for name in of_group(result, "dnn_group"))
    assert first.startswith("ExecuteUserScriptError: a rank on another host failed")
    assert second == ('ExecuteUserScriptError: rank 2: command "python train.py" exited with 1\nrank 2 | rank 2 has had enough')


def test_the_time_limit_names_the_hosts_that_still_run(emulate: Callable[..., Result]) -> None:
    script = """
if host == "algo-1":
    sys.exit(0)
if host == "algo-2":
    signal.signal(signal.SIGTERM, lambda *_: (write("told.json", True), sys.exit(0)))
time.sleep(60)
"""
    stream = io.StringIO()
    result = emulate(script, Group("cpus", "ml.c5.xlarge", 3), timeout_s=6, stream=stream)
    assert [host.exit_code for host in result.hosts] == [0, 0, 143]
    assert (result.ended_by, result.exit_code) == ("time limit", 1)
    assert output_data(result, "algo-2", "told.json")
    assert "ending the hosts that still run: algo-2 (cpus), algo-3 (cpus)" in stream.getvalue()


def test_what_the_entry_point_leaves_running_ends_with_it(emulate: Callable[..., Result]) -> None:
    script = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True, env={})
write("child.json", child.pid)
"""
    result = emulate(script, Group("cpus", "ml.c5.xlarge", 1))
    assert result.exit_code == 0
    assert not psutil.pid_exists(output_data(result, "algo-1", "child.json"))


def test_a_killed_host_leaves_nothing_and_ends_no_other(emulate: Callable[..., Result]) -> None:
    script = """
if host == "algo-1":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    write("child.json", child.pid)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
time.sleep(2)
"""
    result = emulate(script, Group("cpus", "ml.c5.xlarge", 2))
    assert [host.exit_code for host in result.hosts] == [137, 0]
    assert not psutil.pid_exists(output_data(result, "algo-1", "child.json"))


@pytest.fixture
def lonely_host(tmp_path: Path, short_tmp: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A training host whose fellow never comes up."""
    started: list[subprocess.Popen[bytes]] = []

    def start(host: str, start_timeout_s: float) -> subprocess.Popen[bytes]:
        (tmp_path / "output").mkdir()
        (tmp_path / "log").touch()
        hosts = ["algo-1", "algo-2"]
        task = HostTask(
            host,
            [sys.executable, "-c", ""],
            str(tmp_path),
            str(tmp_path / "output"),
            str(tmp_path / "log"),
            os.getpid(),
            hosts,
            sockets=str(short_tmp),
        )
        task.write(tmp_path / "task.json")
        impatient = f"from hetero_tfdata.emulate import host; host.START_TIMEOUT_S = {start_timeout_s}; "
        command = [sys.executable, "-c", impatient + f"raise SystemExit(host.main([{str(tmp_path / 'task.json')!r}]))"]
        started.append(subprocess.Popen(command, env=clean_environment(), start_new_session=True))
        wait_for((short_tmp / f"{host}.sock").exists, 20, "the host")
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("host", "reason"),
    [("algo-1", "algo-2 did not come up in 0.01 minutes"), ("algo-2", "algo-1 started no rank here in 0.01 minutes")],
)
def test_a_training_host_does_not_wait_forever(lonely_host: Any, tmp_path: Path, host: str, reason: str) -> None:
    assert lonely_host(host, start_timeout_s=0.6).wait(timeout=20) == 1
    assert reason in (tmp_path / "output" / "failure").read_text()


@pytest.mark.parametrize("host", ["algo-1", "algo-2"])
def test_a_training_host_that_waits_can_be_stopped(lonely_host: Any, tmp_path: Path, host: str) -> None:
    process = lonely_host(host, start_timeout_s=60)
    process.terminate()
    assert process.wait(timeout=10) == 143
    assert list((tmp_path / "output").iterdir()) == []


ENDLESS = """
if rank is not None:
    signal.signal(signal.SIGTERM, lambda *_: (write(f"told-{rank}.json", True), sys.exit(0)))
if rank is None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
write(f"runs-{rank}.json", True)
time.sleep(600)
"""


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder with a short name for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def endless(tmp_path: Path, short_tmp: Path) -> Iterator[subprocess.Popen[str]]:
    """`hetero-tfdata emulate` with a job of a data host and 2 training hosts x 1 rank that never ends."""
    pytest.importorskip("horovod")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").write_text(PREAMBLE + ENDLESS)
    command = [sys.executable, "-m", "hetero_tfdata", "emulate", "--group", "data_group=ml.c5.18xlarge:1"]
    command += ["--group", "dnn_group=ml.p4d.24xlarge:2", "--distribution", "dnn_group", "--output", str(tmp_path / "out")]
    command += ["--source-dir", str(tmp_path / "source"), "--state", str(tmp_path / "state.json"), "train.py"]
    emulator = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment(TMPDIR=str(short_tmp))
    )
    try:
        wait_for(lambda: len(list(tmp_path.glob("out/*/opt/ml/output/data/runs-*.json"))) == 3, 60, "3 running hosts")
        yield emulator
    finally:
        if emulator.poll() is None:
            emulator.kill()
        emulator.communicate()
        wait_for(lambda: not processes_of(tmp_path), 30, "the end of all processes")


def test_ctrl_c_ends_every_process(endless: subprocess.Popen[str], tmp_path: Path) -> None:
    hosts = json.loads((tmp_path / "state.json").read_text())["hosts"]
    assert all(host["exit_code"] is None and psutil.pid_exists(host["pid"]) for host in hosts)
    running = processes_of(tmp_path)
    assert len(running) > 8  # hosts, entry points, a grandchild, horovodrun and its processes
    endless.send_signal(signal.SIGINT)
    shown, _ = endless.communicate(timeout=30)
    assert endless.returncode == 130, shown
    assert "SIGINT: ending the hosts that still run: algo-1" in shown
    assert [process for process in running if process.is_running()] == []
    assert len(list(tmp_path.glob("out/*/opt/ml/output/data/told-*.json"))) == 2, shown
    assert all(host["exit_code"] in (0, 143) for host in json.loads((tmp_path / "state.json").read_text())["hosts"])


def test_a_killed_emulator_leaves_no_process(endless: subprocess.Popen[str], tmp_path: Path, short_tmp: Path) -> None:
    endless.kill()
    wait_for(lambda: not processes_of(tmp_path), 20, "the end of all processes")
    assert list(short_tmp.iterdir()) == []


def test_ranks_on_several_hosts_reduce_over_horovod(emulate: Callable[..., Result], isolation: str) -> None:
    pytest.importorskip("horovod.tensorflow")
    script = """
import tensorflow as tf
import horovod.tensorflow as hvd
hvd.init()
assert (hvd.rank(), hvd.local_rank()) == (int(rank), int(os.environ["OMPI_COMM_WORLD_LOCAL_RANK"]))
total = hvd.allreduce(tf.constant(float(hvd.rank())), op=hvd.Sum).numpy()
write(f"sum-{rank}.json", [float(total), hvd.size(), hvd.local_size(), hvd.cross_rank(), hvd.cross_size()])
"""
    result = emulate(
        script,
        Group("dnn_group", "ml.p4d.24xlarge", 2),
        distribution="dnn_group",
        processes_per_host=2,
        timeout_s=240,
        isolation=isolation,
    )
    assert result.exit_code == 0
    for rank, host in enumerate(("algo-1", "algo-1", "algo-2", "algo-2")):
        assert output_data(result, host, f"sum-{rank}.json") == [6.0, 4, 2, rank // 2, 2]
