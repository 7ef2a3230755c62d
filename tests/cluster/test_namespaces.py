"""Hosts with namespaces of their own, as real process trees: as root, or where user namespaces are allowed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hetero_tfdata.emulate import Group, Job, Result, run
from hetero_tfdata.emulate.cgroups import Hierarchies
from hetero_tfdata.emulate.files import RunFolder
from hetero_tfdata.emulate.isolation import RunningHost
from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.emulate.namespaces import NamespaceIsolation
from hetero_tfdata.emulate.task import HostTask
from hetero_tfdata.errors import ConfigurationError
from support import clean_environment, wait_for

CPU, GPU = Group("data_group", "ml.c5.18xlarge", 2), Group("dnn_group", "ml.p4d.24xlarge", 1)
JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(autouse=True)
def is_root(namespaces_of_root: bool) -> bool:
    """Whether the hosts are root's."""
    return namespaces_of_root


@pytest.fixture
def limited(is_root: bool) -> None:
    """For tests that need control groups."""
    try:
        Hierarchies.find().require([Limits(cpus=1.0, memory_bytes=1 << 30)])
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Runs a source folder, or a script, as a job; its logs are shown when the test fails."""

    def start(source: Path | str, *groups: Group, entry_point: str = "train.py", **options: Any) -> Result:
        if isinstance(source, str):
            (tmp_path / "source").mkdir()
            (tmp_path / "source" / "train.py").write_text(source)
            source = tmp_path / "source"
        how = {name: options.pop(name) for name in ("scale", "memory_gib", "stream") if name in options}
        job = Job(groups or (CPU, GPU), source, entry_point, **options)
        state = tmp_path / "state.json"
        return run(job, output=tmp_path / "out", state=state, timeout_s=200, isolation="namespace", **how)

    yield start
    for log in sorted((tmp_path / "out").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')}")
    assert left_of(tmp_path / "state.json") == []


def state_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["hosts"]


def left_of(state: Path) -> list[str]:
    """What is still on this machine of the runs in a state file: processes, namespaces, mounts, control groups, folders."""
    found = []
    for host in state_of(state) if state.exists() else ():
        name = host["namespace"].removesuffix(f"-{host['name']}")
        found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
        found += [str(path) for path in Path("/run/netns").glob(f"{name}*")]
        found += [str(tree) for tree in Hierarchies.find().folders(name, [host["name"]]) if tree.exists()]
        found += [str(path) for path in Path("/run/hetero-tfdata").glob(f"{name}*")]
        with contextlib.suppress(psutil.NoSuchProcess):  # a dead one may wait for its new parent to take note
            if host["pid"] and psutil.Process(host["pid"]).status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {host['pid']}")
    return found


def codes(result: Result) -> list[int]:
    return [host.exit_code for host in result.hosts]


def output_data(result: Result, host: str, name: str) -> Any:
    return json.loads((result.output / host / "opt" / "ml" / "output" / "data" / name).read_text())


SEES = """
import glob, json, os, socket, stat, subprocess, time
config = json.load(open("/opt/ml/input/config/resourceconfig.json"))
here = socket.gethostname()
listener = socket.create_server(("0.0.0.0", 22))
open("/tmp/fixed-name", "x").close()
peers = {}
for host in config["hosts"]:
    while True:
        try:
            with socket.create_connection((host, 22), timeout=5) as connection:
                peers[host] = [connection.getpeername()[0], connection.getsockname()[0]]
                break
        except OSError:
            time.sleep(0.1)
for _ in config["hosts"]:
    listener.accept()
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json"), "w") as file:
    json.dump({
        "host": here, "config": config, "peers": peers, "parent": os.getppid(), "cwd": os.getcwd(),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "interfaces": sorted(os.listdir("/sys/class/net")), "opt": sorted(os.listdir("/opt")), "shm": os.listdir("/dev/shm"),
        "ours": [name for name in os.environ if name.startswith(("HETERO_TFDATA", "SAGEMAKER_BASE"))],
        "channel": os.environ["SM_CHANNEL_TRAIN"], "files": os.listdir(os.environ["SM_CHANNEL_TRAIN"]),
        "tmp": stat.S_IMODE(os.stat("/tmp").st_mode),
    }, file)
"""


def test_a_host_is_alone_with_its_names_addresses_and_folders(emulate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").touch()
    stream = io.StringIO()
    result = emulate(SEES, channels={"train": tmp_path / "photographs"}, stream=stream)
    assert codes(result) == [0, 0, 0]
    hosts = state_of(tmp_path / "state.json")
    addresses = {host["name"]: host["address"] for host in hosts}
    assert len(set(addresses.values())) == 3
    for host in hosts:
        name = host["name"]
        seen = output_data(result, name, "seen.json")
        assert seen["host"] == seen["config"]["current_host"] == name
        assert seen["config"]["network_interface_name"] == "eth0"
        assert seen["peers"] == {other: [address, addresses[name]] for other, address in addresses.items()}
        assert (seen["parent"], seen["cwd"]) == (1, "/opt/ml/code")
        assert seen["processes"] == 2  # PID 1 and the script
        assert seen["interfaces"] == ["eth0", "lo"]
        assert seen["opt"] == sorted({*os.listdir("/opt"), "ml"})
        assert (seen["shm"], seen["ours"], seen["tmp"]) == ([], [], 0o1777)
        assert (seen["channel"], seen["files"]) == ("/opt/ml/input/data/train", ["one.jpg"])
        assert re.fullmatch(rf"hetero-[0-9a-f]{{6}}-{name}", host["namespace"])
        assert host["exit_code"] == 0
    assert "3 hosts as processes in namespaces of their own on this machine" in stream.getvalue()
    assert "limits:" not in stream.getvalue()
    assert not Path("/opt/ml").exists() or "one.jpg" not in str(list(Path("/opt/ml").rglob("*")))


def test_a_job_with_its_own_launcher_fixed_ports_and_group_names(emulate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for number in range(4):
        lines = range(25 * number, 25 * number + 25)
        (tmp_path / "train" / f"{number}.txt").write_text("".join(f"{line}\n" for line in lines))
    result = emulate(
        JOBS / "own_launcher",
        entry_point="launcher.py",
        channels={"train": tmp_path / "train"},
        hyperparameters={"batch-size": 10},
    )
    assert codes(result) == [0, 0, 0]
    (trainer,) = (host.name for host in result.hosts if host.group == "dnn_group")
    model = json.loads((result.output / trainer / "opt" / "ml" / "model" / "model.json").read_text())
    assert model == {"rows": 100, "sum": 4950.0}


OURS = """
import sys
import tensorflow as tf
from hetero_tfdata import distribute
dataset = tf.data.Dataset.range(100).map(lambda x: x * 2).batch(10)
rows = sorted(int(x) for batch in dataset.apply(distribute()) for x in batch)
assert rows == list(range(0, 200, 2)), rows
"""


@pytest.mark.slow
def test_our_own_launch_needs_no_addresses(emulate: Callable[..., Result], tmp_path: Path) -> None:
    source = tmp_path / "ours"
    source.mkdir()
    (source / "train.py").write_text(OURS)
    shutil.copy(Path(__file__).parents[2] / "recipes" / "resnet50_imagenet" / "launcher.py", source)
    result = emulate(source, Group("data_group", "ml.c5.18xlarge", 1), GPU, entry_point="launcher.py")
    assert codes(result) == [0, 0]
    assert sum(result.served_by_host.values()) == 10


LIMITED = """
import glob, json, os
def first_line(*paths):
    return next(open(path).read().split() for path in paths if os.path.exists(path))
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "limits.json"), "w") as file:
    groups = "/sys/fs/cgroup"
    json.dump([
        first_line(f"{groups}/cpu.max", f"{groups}/cpu/cpu.cfs_quota_us", f"{groups}/cpu,cpuacct/cpu.cfs_quota_us")[0],
        first_line(f"{groups}/memory.max", f"{groups}/memory/memory.limit_in_bytes")[0],
    ], file)
from hetero_tfdata.service.cpus import cpu_quota, usable_cpus
print("usable CPUs:", usable_cpus(), "quota:", cpu_quota())
"""


@pytest.mark.usefixtures("limited")
def test_the_scale_limits_cpus_and_memory_where_a_container_looks_for_it(emulate: Callable[..., Result]) -> None:
    stream = io.StringIO()
    result = emulate(LIMITED, Group("cpus", "ml.c5.18xlarge", 1), scale=96, memory_gib=0.5, stream=stream)
    assert codes(result) == [0]
    assert output_data(result, "algo-1", "limits.json") == ["15000", str(1 << 29)]
    assert "limits: ml.c5.18xlarge 0.75 cores, 0.26 Gbit/s, 0.5 GiB" in stream.getvalue()
    assert "usable CPUs: 1 quota: 0.75\n" in stream.getvalue()


@pytest.mark.usefixtures("limited")
def test_a_process_beyond_the_memory_limit_is_killed(emulate: Callable[..., Result]) -> None:
    result = emulate("held = bytearray(400 << 20)", Group("cpus", "ml.c5.18xlarge", 1), memory_gib=0.125)
    assert codes(result) == [1]
    assert "was ended by SIGKILL" in (result.hosts[0].failure or "")


def test_a_host_that_can_not_be_furnished_says_why(emulate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetero_tfdata.emulate.namespaces._HOSTS_FILE", "/etc/no-such-folder/hosts")
    result = emulate("", Group("cpus", "ml.c5.18xlarge", 1))
    assert codes(result) == [1]
    assert (result.hosts[0].failure or "").startswith("InternalError: algo-1 can't be set up: mount /proc/self/fd/")


def test_an_error_in_set_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosts' folders can't be made when network and control groups are there already."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").touch()
    made: list[Path] = []

    def fail(*_: object) -> None:
        locks = [Path(os.readlink(f"/proc/self/fd/{name}")) for name in os.listdir("/proc/self/fd") if _is_open(name)]
        (own,) = [path.parent for path in locks if path.name == "lock" and path.parent.name.startswith("hetero-")]
        listed = json.loads((own / "made.json").read_text())
        made.extend([own, *(Path("/run/netns", name) for name in listed["namespaces"]), *map(Path, listed["control_groups"])])
        assert [path for path in made if not path.exists()] == []
        raise OSError("the disk is full")

    monkeypatch.setattr(RunFolder, "lay_out", fail)
    with pytest.raises(ConfigurationError, match="the disk is full"):
        run(Job([CPU], tmp_path / "source", "train.py"), output=tmp_path / "out", isolation="namespace")
    assert made
    assert [path for path in made if path.exists()] == []
    assert not (tmp_path / "out").exists()


def _is_open(descriptor: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def test_modules_below_a_folder_that_hosts_have_of_their_own_are_found(
    emulate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    # this project, its Python and the home may lie there themselves
    own = [Path(path).resolve() for path in (__file__, sys.prefix, sys.base_prefix, os.environ["HOME"])]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder, "handy.py").write_text("x = 1")
        Path(folder).chmod(0o755)
        monkeypatch.setenv("PYTHONPATH", folder)
        kept = sorted({path.parts[2] for path in (Path(folder), *own) if path.is_relative_to("/tmp")})
        script = f"import handy, os\nassert sorted(os.listdir('/tmp')) == {kept!r}, os.listdir('/tmp')"
        assert codes(emulate(script, Group("cpus", "ml.c5.18xlarge", 1))) == [0]


# --- ends of a run

ENDLESS = """
import os, signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, env={})
def told(*_):
    open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "told"), "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "runs"), "w").close()
time.sleep(600)
"""


class Endless:
    """`hetero-tfdata emulate --isolation namespace` with a job of 2 hosts that never ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state.json"
        (folder / "source").mkdir(parents=True)
        (folder / "source" / "train.py").write_text(ENDLESS)
        command = [sys.executable, "-m", "hetero_tfdata", "emulate", "--group", "data_group=ml.c5.18xlarge:2"]
        command += ["--isolation", "namespace", "--output", str(folder / "out"), "--state", str(self.state)]
        command += ["--source-dir", str(folder / "source"), "train.py"]
        self.log = open(folder / "shown", "w")  # noqa: SIM115 (closed by `end`)
        self.emulator = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=clean_environment())

    def until_it_runs(self) -> None:
        wait_for(lambda: len(list(self.folder.glob("out/*/opt/ml/output/data/runs"))) == 2, 60, self.shown() or "2 hosts")
        wait_for(lambda: all(host["pid"] for host in state_of(self.state)), 20, "process ids")

    def shown(self) -> str:
        return (self.folder / "shown").read_text()

    def processes(self) -> list[psutil.Process]:
        """The emulator and all below it."""
        return [emulator := psutil.Process(self.emulator.pid), *emulator.children(recursive=True)]

    def end(self) -> None:
        if self.emulator.poll() is None:
            self.emulator.kill()
        self.emulator.wait()
        self.log.close()


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Callable[[str], Endless]]:
    started: list[Endless] = []

    def start(name: str = "endless") -> Endless:
        started.append(Endless(tmp_path / name))
        started[-1].until_it_runs()
        return started[-1]

    yield start
    for job in started:
        job.end()
    if any(left_of(job.state) for job in started):  # a killed one's: what the next start does
        _short_run(tmp_path / "last")


def _short_run(folder: Path) -> None:
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "train.py").touch()
    assert run(Job([GPU], folder / "source", "train.py"), output=folder / "out", isolation="namespace").exit_code == 0


def _gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_ctrl_c_tells_every_host_and_leaves_nothing(endless: Callable[..., Endless]) -> None:
    job = endless()
    processes = job.processes()
    assert len(processes) >= 1 + 2 * 4  # the emulator; of each host its waiting parent, PID 1, the script and its child
    job.emulator.send_signal(signal.SIGINT)
    assert job.emulator.wait(timeout=60) == 130, job.shown()
    assert len(list(job.folder.glob("out/*/opt/ml/output/data/told"))) == 2
    assert [host["exit_code"] for host in state_of(job.state)] == [0, 0]
    assert _gone(processes)
    assert left_of(job.state) == []


def test_the_next_start_clears_up_after_a_killed_emulator_and_spares_the_living(
    endless: Callable[..., Endless], tmp_path: Path, is_root: bool
) -> None:
    killed, living = endless("killed"), endless("living")
    processes = killed.processes()
    before = left_of(living.state)
    killed.emulator.kill()
    wait_for(lambda: _gone(processes), 30, "the end of the killed emulator's processes")
    assert bool(left_of(killed.state)) == is_root  # of a user namespace nothing stays but a folder
    _short_run(tmp_path / "next")
    assert left_of(killed.state) == []
    assert left_of(living.state) == before
    assert living.emulator.poll() is None
    assert all(psutil.pid_exists(host["pid"]) for host in state_of(living.state))


def test_a_killed_first_process_is_a_host_whose_power_went(endless: Callable[..., Endless]) -> None:
    job = endless()
    first, second = state_of(job.state)
    below = [psutil.Process(first["pid"]), *psutil.Process(first["pid"]).children(recursive=True)]
    os.kill(first["pid"], signal.SIGKILL)
    wait_for(lambda: state_of(job.state)[0]["exit_code"] == 137, 30, "the host's end")
    assert _gone(below)
    assert len(below) == 3
    assert psutil.pid_exists(second["pid"])
    assert state_of(job.state)[1]["exit_code"] is None


def test_the_state_files_names_open_a_host_to_others(endless: Callable[..., Endless], is_root: bool) -> None:
    if not is_root:
        pytest.skip("in a user namespace the names are that namespace's")
    for host in state_of(endless().state):
        shown = subprocess.run(
            ["ip", "netns", "exec", host["namespace"], "ip", "-json", "address", "show", "eth0"],
            capture_output=True,
            text=True,
            check=True,
        )
        (interface,) = json.loads(shown.stdout)
        assert host["address"] in [address["local"] for address in interface["addr_info"]]
        assert Path(f"/proc/{host['pid']}/root/opt/ml/input/config/resourceconfig.json").exists()


# --- what may happen to a host

ECHO = """
import os, socket
with socket.create_server(("0.0.0.0", 7)) as listener:
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"+")
        connection.close()
"""
ASK = """
import os, socket, time
count = 0
while True:
    try:
        with socket.create_connection(("algo-1", 7), timeout=0.5) as connection:
            count += len(connection.recv(1))
    except OSError:
        pass
    with open("/opt/ml/output/data/.count", "w") as file:
        file.write(str(count))
    os.replace("/opt/ml/output/data/.count", "/opt/ml/output/data/count")
    time.sleep(0.02)
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[dict[str, RunningHost], Callable[[], int]]]:
    """algo-1 answers, algo-2 asks it again and again; the running hosts, and how many answers have come."""
    (tmp_path / "train.py").touch()
    job = Job([Group("cpus", "ml.c5.18xlarge", 2)], tmp_path, "train.py")
    isolation = NamespaceIsolation()
    hosts = isolation.place(job, seed=None)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunFolder.claim(tmp_path / "out", job))
        site = stack.enter_context(isolation.prepared(job, hosts, folder))
        running = {}
        for host, script in zip(hosts, (ECHO, ASK), strict=True):
            for name in ("code", "output/data"):
                (folder.base_dir(host.name) / name).mkdir(parents=True)
            command = [sys.executable, "-c", script]
            task = HostTask(host.name, command, "/opt/ml/code", "/opt/ml/output", "/proc/1/fd/1", 0)
            running[host.name] = site.start(host, task, clean_environment())
        count = folder.base_dir("algo-2") / "output" / "data" / "count"

        def answers() -> int:
            return int(count.read_text()) if count.exists() else 0

        wait_for(lambda: answers() > 2, 60, "answers")
        try:
            yield running, answers
        finally:
            for host in running.values():
                host.kill()
            wait_for(lambda: all(host.poll() is not None for host in running.values()), 30, "the hosts' end")


def test_a_host_that_is_cut_off_hears_nothing_until_it_is_restored(pair: Any) -> None:
    hosts, answers = pair
    hosts["algo-1"].cut()
    wait_for(lambda: not _changes(answers, 1.5), 30, "silence")
    hosts["algo-1"].restore()
    wait_for(lambda: _changes(answers, 1.5), 30, "answers")


def test_a_frozen_host_stands_still_until_it_is_restored(pair: Any) -> None:
    hosts, answers = pair
    hosts["algo-2"].freeze()
    first = psutil.Process(hosts["algo-2"].pid)
    assert {process.status() for process in [first, *first.children(recursive=True)]} == {psutil.STATUS_STOPPED}
    assert not _changes(answers, 1.0)
    hosts["algo-2"].restore()
    wait_for(lambda: _changes(answers, 1.5), 30, "answers")


def test_a_slowed_host_has_limits_until_it_is_restored(pair: Any, is_root: bool) -> None:
    hosts, answers = pair
    host = hosts["algo-2"]
    host.slow(0.1)
    assert "rate 2500Mbit" in _queues(host)
    if is_root and host._group is not None and host._group.controllers >= {"cpu"}:
        assert _quota(host) == round(20_000 * os.cpu_count() * 0.1)
    host.restore()
    assert "rate" not in _queues(host)
    if is_root and host._group is not None and host._group.controllers >= {"cpu"}:
        assert _quota(host) is None
    assert wait_for(lambda: _changes(answers, 1.5), 30, "answers")
    with pytest.raises(ConfigurationError, match="expected a factor of more than 0 and at most 1, got 2"):
        host.slow(2)


def test_a_killed_host_is_gone_frozen_or_not(pair: Any) -> None:
    hosts, _ = pair
    below = psutil.Process(hosts["algo-2"].pid).children(recursive=True)
    hosts["algo-2"].freeze()
    hosts["algo-2"].kill()
    assert wait_for(hosts["algo-2"].poll, 30, "the host's end") == 137
    assert _gone(below)
    for method in ("kill", "freeze", "cut", "restore", "terminate"):
        getattr(hosts["algo-2"], method)()  # of an ended host: nothing happens
    assert hosts["algo-1"].poll() is None


def _changes(value: Callable[[], int], within_s: float) -> bool:
    before = value()
    time.sleep(within_s)
    return value() != before


def _queues(host: Any) -> str:
    return host._network.privileges.run(["tc", "-n", host.namespace, "qdisc", "show", "dev", "eth0"])


def _quota(host: Any) -> int | None:
    folder = Path(host._group._folders["cpu"][1])
    text = next(path for path in (folder / "cpu.max", folder / "cpu.cfs_quota_us") if path.exists()).read_text()
    return None if text.split()[0] in ("max", "-1") else int(text.split()[0])


# --- without root


def _emulate_without_root(tmp_path: Path, *bounding: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").write_text(SEES.replace('os.environ["SM_CHANNEL_TRAIN"]', '"/"'))
    command = ["setpriv", "--inh-caps=-all", *bounding, sys.executable, "-m", "hetero_tfdata", "emulate"]
    command += ["--group", "cpus=ml.c5.18xlarge:2", "--isolation", "namespace", "--output", str(tmp_path / "out"), *options]
    command += ["--state", str(tmp_path / "state.json"), "--source-dir", str(tmp_path / "source"), "train.py"]
    environment = clean_environment(XDG_RUNTIME_DIR=str(tmp_path))
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def droppable(is_root: bool) -> None:
    if not is_root or shutil.which("setpriv") is None:
        pytest.skip("takes root's capabilities away, which needs root and setpriv")


@pytest.mark.usefixtures("droppable")
def test_without_root_a_user_namespace_does(tmp_path: Path) -> None:
    # CAP_SETFCAP: only with it may user 0 be mapped into a user namespace; any other user needs none
    done = _emulate_without_root(tmp_path, "--bounding-set=-all,+setfcap")
    if "user namespaces, which this machine refuses" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not as root: in a user namespace of this user's" in done.stdout
    hosts = state_of(tmp_path / "state.json")
    for host in hosts:
        seen = json.loads((tmp_path / "out" / host["name"] / "opt/ml/output/data/seen.json").read_text())
        assert (seen["host"], seen["parent"]) == (host["name"], 1)
        assert set(seen["peers"]) == {"algo-1", "algo-2"}
    assert left_of(tmp_path / "state.json") == []
    assert [path.name for path in (tmp_path / "hetero-tfdata").iterdir()] == ["lock"]


@pytest.mark.usefixtures("droppable")
def test_without_root_and_user_namespaces_process_isolation_is_offered(tmp_path: Path) -> None:
    done = _emulate_without_root(tmp_path, "--bounding-set=-all")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--isolation namespace needs root, or user namespaces, which this machine refuses" in done.stderr
    assert "or use --isolation process" in done.stderr
    assert not (tmp_path / "out").exists()


# --- many hosts


SIXTEEN = """
import tensorflow as tf
from hetero_tfdata import distribute
dataset = tf.data.Dataset.range(50).batch(10).apply(distribute(processing_mode="off"))  # each worker gives all of it
rows = [int(x) for batch in dataset for x in batch]
assert sorted(rows) == sorted(15 * list(range(50))), len(rows)
"""


@pytest.mark.large
def test_sixteen_hosts_start_register_serve_and_end(emulate: Callable[..., Result], tmp_path: Path) -> None:
    source = tmp_path / "ours"
    source.mkdir()
    (source / "train.py").write_text(SIXTEEN)
    shutil.copy(Path(__file__).parents[2] / "recipes" / "resnet50_imagenet" / "launcher.py", source)
    result = emulate(source, Group("data_group", "ml.c5.18xlarge", 15), GPU, entry_point="launcher.py")
    assert codes(result) == [0] * 16
    assert len(result.served_by_host) == 15
    assert min(result.served_by_host.values()) == 5
