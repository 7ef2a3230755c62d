"""What SageMaker gives a job besides its hosts, and what may happen to it: emulated jobs as plain process trees."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hetero_tfdata.emulate import Channel, Group, Job, Result, Timeline, run
from hetero_tfdata.errors import ConfigurationError

ONE = Group("cpus", "ml.c5.xlarge", 1)
TWO = Group("cpus", "ml.c5.xlarge", 2)

PREAMBLE = """
import json, os, signal, subprocess, sys, time
host, group = os.environ["SM_CURRENT_HOST"], os.environ["SM_CURRENT_INSTANCE_GROUP"]
rank = os.environ.get("OMPI_COMM_WORLD_RANK")
base = os.environ["SAGEMAKER_BASE_DIR"]
def write(name, value):
    with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], name), "w") as file:
        json.dump(value, file)
"""


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Runs a script as a job, with the options of Job or of run; its logs are shown when the test fails."""

    def start(script: str, *groups: Group, **options: Any) -> Result:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        (source / "train.py").write_text(PREAMBLE + script)
        of_job = {name: options.pop(name) for name in list(options) if name in Job.__dataclass_fields__}
        job = Job(groups or (ONE,), source, "train.py", **of_job)
        return run(job, output=tmp_path / "out", timeout_s=options.pop("timeout_s", 90), **options)

    yield start
    for log in sorted((tmp_path / "out").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')}")


def output_data(result: Result, host: str, name: str) -> Any:
    return json.loads((result.output / host / "opt" / "ml" / "output" / "data" / name).read_text())


def codes(result: Result) -> list[int]:
    return [host.exit_code for host in result.hosts]


def test_channels_are_their_groups_and_gpus_the_instance_types(emulate: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("raw", "labels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").touch()
    script = """
channels = {name: os.listdir(value) for name, value in os.environ.items() if name.startswith("SM_CHANNEL_")}
config = json.load(open(os.path.join(base, "input", "config", "inputdataconfig.json")))
modes = {name: channel["TrainingInputMode"] for name, channel in config.items()}
data = os.path.join(base, "input", "data")
folders = {name: os.listdir(os.path.join(data, name)) for name in os.listdir(data)}
write("seen.json", [channels, json.loads(os.environ["SM_CHANNELS"]), modes, folders, int(os.environ["SM_NUM_GPUS"])])
"""
    result = emulate(
        script,
        ONE,
        Group("gpus", "ml.g5.12xlarge", 1),
        channels={
            "raw": Channel(tmp_path / "raw", ["cpus"], "FastFile"),
            "labels": Channel(tmp_path / "labels", ["cpus", "gpus"]),
        },
    )
    seen = {host.group: output_data(result, host.name, "seen.json") for host in result.hosts}
    labels = {"SM_CHANNEL_LABELS": ["labels.txt"]}
    assert seen["gpus"] == [labels, ["labels"], {"labels": "File"}, {"labels": ["labels.txt"]}, 4]
    assert seen["cpus"] == [
        labels | {"SM_CHANNEL_RAW": ["raw.txt"]},
        ["labels", "raw"],
        {"labels": "File", "raw": "FastFile"},
        {"labels": ["labels.txt"], "raw": ["raw.txt"]},
        0,
    ]


def test_checkpoints_survive_from_run_to_run(emulate: Callable[..., Result], tmp_path: Path) -> None:
    script = """
folder = os.path.join(base, "checkpoints")
write("before.json", sorted(os.listdir(folder)))
if rank is None:
    open(os.path.join(folder, f"{host}-{len(os.listdir(folder))}"), "w").close()
"""
    kept = tmp_path / "kept" / "checkpoints"
    first = emulate(script, checkpoints=kept)
    assert output_data(first, "algo-1", "before.json") == []
    second = emulate(script, checkpoints=kept)
    assert output_data(second, "algo-1", "before.json") == ["algo-1-0"]
    assert sorted(path.name for path in kept.iterdir()) == ["algo-1-0", "algo-1-1"]
    third = emulate(script)
    assert output_data(third, "algo-1", "before.json") == []


# --- requirements.txt


def wheel(folder: Path, name: str, version: str, code: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name}-command = {name}:main\n")
        archive.writestr(f"{info}/RECORD", "")


def test_requirements_are_the_runs_own(emulate: Callable[..., Result], tmp_path: Path) -> None:
    source = tmp_path / "source"
    wheel(source / "wheels", "tinyhetero", "1.5", "value = 7\ndef main(): print('from the command')\n")
    (source / "requirements.txt").write_text("--no-index\n--find-links wheels\ntinyhetero>=1\npsutil\n")
    script = """
import psutil, tinyhetero
said = subprocess.run(["tinyhetero-command"], stdout=subprocess.PIPE, text=True).stdout
write("seen.json", [tinyhetero.value, tinyhetero.__file__, psutil.__file__, said])
"""
    result = emulate(script, TWO)
    assert codes(result) == [0, 0]
    for host in ("algo-1", "algo-2"):
        value, own, others, said = output_data(result, host, "seen.json")
        assert (value, said) == (7, "from the command\n")
        assert own.startswith(str(result.output / "packages"))
        assert not others.startswith(str(result.output))  # satisfied already
    with pytest.raises(ImportError):
        __import__("tinyhetero")


def test_requirements_that_can_not_be_had_are_named_before_any_host_starts(
    emulate: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "requirements.txt").write_text("--no-index\nno-such-package-here\n")
    with pytest.raises(ConfigurationError, match=r"requirements\.txt can't be installed: ERROR: No matching"):
        emulate("write('ran.json', 1)")
    with pytest.raises(ConfigurationError, match=r"requirements\.txt was not installed in 0\.05 s"):
        emulate("write('ran.json', 1)", timeout_s=0.05)
    assert list((tmp_path / "out").rglob("ran.json")) == []


# --- stops and starts

STUBBORN = """
def told(*_):
    write("told.json", time.time())
    if host == "algo-1":
        time.sleep(1.5)
        sys.exit(0)
signal.signal(signal.SIGTERM, told)
while True:
    time.sleep(0.1)
"""


def test_a_stopped_job_has_its_grace_time(emulate: Callable[..., Result]) -> None:
    stream = io.StringIO()
    result = emulate(STUBBORN, TWO, stop_after_s=5, stop_grace_s=3, stream=stream)
    assert codes(result) == [0, 137]
    assert (result.ended_by, result.exit_code) == ("stop", 1)
    assert "stop after 5 s: ending the hosts that still run: algo-1 (cpus), algo-2 (cpus)" in stream.getvalue()
    ended = {event.host: event.time_s for event in result.events if event.kind == "exited"}
    assert ended["algo-2"] - output_data(result, "algo-2", "told.json") >= 2.5


def test_a_job_that_ends_well_when_its_time_is_over_has_succeeded(emulate: Callable[..., Result]) -> None:
    result = emulate(STUBBORN, max_runtime_s=5)
    assert (result.ended_by, result.exit_code, result.succeeded) == ("maximum runtime", 0, True)


def test_hosts_come_up_one_after_the_other(emulate: Callable[..., Result]) -> None:
    result = emulate("", Group("cpus", "ml.c5.xlarge", 3), stagger_s=1.5, seed=3)
    assert result.exit_code == 0
    started = [event for event in result.events if event.kind == "started"]
    assert sorted(str(event.host) for event in started) == ["algo-1", "algo-2", "algo-3"]
    assert [event.host for event in started] != ["algo-1", "algo-2", "algo-3"]
    apart = [later.time_s - earlier.time_s for earlier, later in pairwise(started)]
    assert min(apart) > 0.5


def test_a_host_that_was_to_come_does_not_come_after_the_stop(emulate: Callable[..., Result]) -> None:
    result = emulate("time.sleep(60)", TWO, stagger_s=30, stop_after_s=2)
    assert codes(result) == [143, 143]
    assert len([event for event in result.events if event.kind == "started"]) == 1


# --- faults

SERVERS = """
def server(kind):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", kind, "--port", "1"])
if rank is None:
    found = {kind: server(kind) for kind in ("worker", "dispatcher")}
    begin = last = time.time()
    longest = 0.0
    while (longest < 2.0 or any(process.poll() is None for process in found.values())) and time.time() - begin < 60:
        time.sleep(0.05)
        longest, last = max(longest, time.time() - last), time.time()
    write("codes.json", {kind: process.poll() for kind, process in found.items()})
    write("longest.json", longest)
else:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # has the rank's variables, too
    time.sleep(60)
"""


def test_faults_come_on_schedule_and_are_said(emulate: Callable[..., Result]) -> None:
    pytest.importorskip("horovod")
    stream = io.StringIO()
    faults = [
        "300s:kill-host:cpus",
        "0s:kill-worker:cpus",
        "100ms:kill-dispatcher",
        "3s:kill-rank:1",
        "5s:freeze:3s:cpus",
    ]
    gpus = Group("gpus", "ml.p4d.24xlarge", 1)
    result = emulate(SERVERS, ONE, gpus, distribution="gpus", processes_per_host=2, faults=faults, stream=stream)
    (server,) = (host.name for host in result.hosts if host.group == "cpus")
    (trainer,) = (host for host in result.hosts if host.group == "gpus")
    assert output_data(result, server, "codes.json") == {"worker": -9, "dispatcher": -9}
    assert output_data(result, server, "longest.json") >= 2.0
    assert (trainer.failure or "").startswith('ExecuteUserScriptError: rank 1: command "python train.py" was ended by SIGKILL')
    shown = stream.getvalue()
    for text in (
        rf"fault: kill-worker:{server}: SIGKILL for process \d+ on {server} \(cpus\)",
        rf"fault: kill-dispatcher: SIGKILL for process \d+ on {server} \(cpus\)",
        rf"fault: kill-rank:1: SIGKILL for process \d+ on {trainer.name} \(gpus\)",
        rf"fault: freeze:3s:{server}: SIGSTOP for every process of {server} \(cpus\) for 3 s",
        rf"fault: freeze:3s:{server} is over",
        rf"fault: kill-host:{server} did not happen: the run ended first",
    ):
        assert re.search(text, shown), text
    events = {(event.kind, event.fault): event for event in result.events if event.fault}
    assert events["fault", "kill-rank:1"].host == trainer.name
    frozen_s = events["restored", f"freeze:3s:{server}"].time_s - events["fault", f"freeze:3s:{server}"].time_s
    assert frozen_s > 2.5


def test_a_killed_host_is_a_fault_of_its_own_and_a_later_one_finds_nobody(emulate: Callable[..., Result]) -> None:
    stream = io.StringIO()
    faults = ["2s:kill-host:algo-1", "4s:kill-worker:algo-1"]
    result = emulate("time.sleep(6 if host == 'algo-2' else 60)", TWO, faults=faults, stream=stream)
    assert codes(result) == [137, 0]
    assert "fault: kill-host:algo-1: SIGKILL for every process of algo-1 (cpus)" in stream.getvalue()
    assert "fault: kill-worker:algo-1 does not happen: algo-1 has ended" in stream.getvalue()


# --- watching

BUSY = """
os.makedirs(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "hetero_tfdata"))
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "hetero_tfdata", "steps-0.csv"), "w") as file:
    file.write(f"{time.time()},0.125\\n")
time.sleep(2)
begin = time.time()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 1.5: pass"])
write("busy.json", [begin, time.time()])
time.sleep(2)
"""


def test_the_timeline_says_what_a_host_used_between_two_moments(emulate: Callable[..., Result]) -> None:
    stream = io.StringIO()
    result = emulate(BUSY, stream=stream)
    (host,) = result.hosts
    begin, end = output_data(result, "algo-1", "busy.json")
    # The samples are a second apart.
    assert 1.3 < result.timeline.cpu_s("algo-1", begin - 1.2, end + 1.2) < 2.5
    assert result.timeline.cpu_s("algo-1", end + 1.2) < 0.5
    assert 1.5 <= host.cpu_s < 3.0
    assert host.wall_s > 5
    assert host.mean_cores == pytest.approx(host.cpu_s / host.wall_s)
    assert (host.quota_cores, host.sent_bytes) == (None, None)
    assert [step.step_s for step in host.steps] == [0.125]
    read = Timeline.read(result.output / "timeline.csv")
    assert read.cpu_s("algo-1") == pytest.approx(host.cpu_s, abs=0.01)
    assert len(read.samples["algo-1"]) >= 5
    assert (result.output / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"algo-1  cpus +ml\.c5\.xlarge +- +0\.\d\d +0\n", stream.getvalue())


def test_without_pillow_the_run_is_as_it_is(emulate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    stream = io.StringIO()
    result = emulate("", stream=stream)
    assert result.exit_code == 0
    assert not (result.output / "timeline.png").exists()
    assert "no chart without Pillow: pip install 'hetero-tfdata[emulate]'" in stream.getvalue()
