from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hetero_tfdata.emulate import Group, Job
from hetero_tfdata.emulate.faults import Fault, located
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.emulate.striking import Striker
from hetero_tfdata.errors import ConfigurationError
from support import children_of, wait_for

HOSTS = (
    Host("algo-1", "dnn_group", "ml.p4d.24xlarge", "127.0.0.1"),
    Host("algo-2", "data_group", "ml.c5.18xlarge", "127.0.0.1"),
    Host("algo-3", "data_group", "ml.c5.18xlarge", "127.0.0.1"),
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "train.py").touch()
    groups = [Group("dnn_group", "ml.p4d.24xlarge", 1), Group("data_group", "ml.c5.18xlarge", 2)]
    return Job(groups, tmp_path, "train.py", distribution="dnn_group", processes_per_host=2)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("20s:kill-worker:algo-2", Fault(20, "kill-worker", "algo-2")),
        ("1.5m:kill-dispatcher", Fault(90, "kill-dispatcher")),
        ("500ms:kill-dispatcher:data_group", Fault(0.5, "kill-dispatcher", "data_group")),
        ("0s:kill-rank:3", Fault(0, "kill-rank", rank=3)),
        ("1h:kill-host:data_group/2", Fault(3600, "kill-host", "data_group/2")),
        ("20s:freeze:10s:algo-1", Fault(20, "freeze", "algo-1", duration_s=10)),
        ("20s:freeze:algo-1", Fault(20, "freeze", "algo-1")),
        ("20s:cut:15s:algo-1", Fault(20, "cut", "algo-1", duration_s=15)),
        ("20s:slow:0.1:algo-1", Fault(20, "slow", "algo-1", factor=0.1)),
        ("20s:slow-link:0.1:2m:algo-1", Fault(20, "slow-link", "algo-1", factor=0.1, duration_s=120)),
        ("20s:disk-full:algo-1", Fault(20, "disk-full", "algo-1")),
    ],
)
def test_a_fault_is_parsed_and_written(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault
    assert Fault.parse(f"{fault.at_s:g}s:{fault}") == fault


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("kill-worker:algo-2", "expected a time such as 20s, 500ms or 1.5m first, got 'kill-worker'"),
        ("20:kill-worker:algo-2", "expected a time such as 20s, 500ms or 1.5m first, got '20'"),
        ("20s", "expected TIME:KIND[:ARGUMENT][:DURATION]:HOST"),
        ("20s:kill-wroker:algo-2", "did you mean kill-worker?"),
        ("20s:kill-worker", "expected the host, such as kill-worker:algo-2, got none"),
        ("20s:freeze:10s", "expected the host, such as freeze:algo-2, got none"),
        ("20s:kill-worker:10s:algo-2", "fault kill-worker is over at once: it takes no duration"),
        ("20s:kill-rank:algo-2", "expected the rank's number, such as 20s:kill-rank:3"),
        ("20s:kill-rank:1:algo-2", "ranks are told by their number alone, got host 'algo-2'"),
        ("20s:slow:algo-2", "expected what is left of it, such as 20s:slow:0.1:algo-2"),
        ("20s:slow:1.5:algo-2", "expected a factor of more than 0 and at most 1, got 1.5"),
        ("20s:slow:nan:algo-2", "expected a factor of more than 0 and at most 1, got nan"),
        ("20s:cut:15s:algo-2:algo-3", "got 'algo-2:algo-3' where one host should be"),
    ],
)
def test_a_bad_fault_is_refused_in_one_line(text: str, phrase: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Fault.parse(text)
    assert str(caught.value).startswith(f"--fault {text!r}: ")
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_stands_for_its_first_host_and_faults_are_in_order_of_time(job: Job) -> None:
    texts = ["9s:kill-host:data_group/2", "3s:freeze:data_group", "5s:kill-worker:algo-3", "4s:kill-rank:1"]
    found = located([*texts, Fault(1, "kill-dispatcher")], job, HOSTS, isolation="process")
    assert [(fault.at_s, fault.host) for fault in found] == [(1, None), (3, "algo-2"), (4, None), (5, "algo-3"), (9, "algo-3")]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("1s:kill-host:algo-9", "'algo-9' is not in this job (hosts: algo-1 to algo-3; groups: dnn_group, data_group)"),
        ("1s:kill-host:data_group/3", "'data_group/3' is not in this job"),
        ("1s:kill-rank:2", "this job has ranks 0 to 1"),
        ("1s:cut:algo-1", "a plain process has no link and limits of its own; it needs --isolation namespace"),
        ("1s:slow:0.5:algo-1", "needs --isolation namespace"),
        ("1s:disk-full:algo-1", "a plain process has no disk of its own; it needs --isolation namespace"),
    ],
)
def test_what_the_job_or_its_isolation_does_not_have_is_refused(job: Job, text: str, phrase: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        located([text], job, HOSTS, isolation="process")
    assert phrase in str(caught.value)


def test_a_rank_needs_a_distribution(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    job = Job([Group("data_group", "ml.c5.18xlarge", 1)], tmp_path, "train.py")
    with pytest.raises(ConfigurationError, match="this job has no ranks"):
        located(["1s:kill-rank:0"], job, HOSTS, isolation="process")


TWO_WORKERS = """
import subprocess, sys
sleeping = [sys.executable, "-c", "import time; time.sleep(60)", "worker"]
workers = [subprocess.Popen(sleeping) for _ in range(2)]
print("up", flush=True)
sys.stdin.read()
for worker in workers:
    worker.kill()
    worker.wait()
"""


def test_a_process_that_takes_its_time_to_die_is_not_killed_again(monkeypatch):
    """Two faults at once are for two workers, also while the first one's memory is still given back."""
    struck: list[int] = []
    monkeypatch.setattr("hetero_tfdata.emulate.striking._killed", lambda process: struck.append(process.pid) or True)
    said: list[str] = []
    parent = subprocess.Popen([sys.executable, "-c", TWO_WORKERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout.readline() == b"up\n"
        # a process has no command line yet for a moment after its exec (fs/exec.c)
        wait_for(lambda: sum("worker" in words for words in children_of(parent.pid).values()) == 2, 10, "both command lines")
        host = SimpleNamespace(process=parent, host=SimpleNamespace(name="algo-1", group="cpus"))
        striker = Striker([Fault.parse("0s:kill-worker:algo-1")] * 3, lambda kind, *_: said.append(kind))
        striker.act(1.0, {"algo-1": host}, ())
        parent.stdin.close()
    assert len(set(struck)) == len(struck) == 2
    assert said == ["fault", "fault", "waiting"]
