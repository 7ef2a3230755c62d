"""hetero-tfdata status: whom it asks, what it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hetero_tfdata import cli
from hetero_tfdata.cluster import Cluster
from hetero_tfdata.launch.health import HealthServer, Phase
from hetero_tfdata.service.status import ServerStatus
from support import TestJob, clean_environment

DISPATCHER = ServerStatus("dispatcher", 18100, True, True, 1, 0, 4.5, 1.0)
WORKERS = [
    ServerStatus("worker 0", 18110, True, True, 1, 1200, 6.2, 2.5),
    ServerStatus("worker 1", 18111, False, False, 2, 34, 0.0, None),
]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Variables of algo-3, a training host; algo-1 serves, algo-2 does not answer."""
    job = TestJob(tmp_path, {"data_group": ["algo-1", "algo-2"], "dnn_group": ["algo-3"]})
    for name, value in job.environment("algo-3").items():
        monkeypatch.setenv(name, value)
    return job


def test_one_table_of_the_whole_cluster(job, capsys):
    cluster = Cluster.discover()
    with HealthServer(cluster.host("algo-1")) as data, HealthServer(cluster.host("algo-3")) as training:
        data.show(lambda: [DISPATCHER, *WORKERS])
        data.publish(Phase.SERVING)
        training.publish(Phase.TRAINING)
        assert cli.main(["status"]) == 1, "a host does not answer"
        lines = capsys.readouterr().out.splitlines()
        columns = [line.split() for line in lines]
        assert columns[0] == ["host", "group", "role", "state", "workers", "batches", "restarts", "CPUs", "TensorFlow"]
        assert columns[1][:9] == ["algo-1", "data_group", "data", "serving", "1", "of", "2", "1,234", "4"]
        assert columns[2] == ["algo-2", "data_group", "data", "no", "answer"]
        assert columns[3][:6] == ["algo-3", "dnn_group", "training", "training", "-", "-"]
        assert lines[4].startswith("algo-2: algo-2 (127.0.0.1:")
        assert "unavailable" in lines[4]

        cli.main(["status", "--json"])
        hosts = json.loads(capsys.readouterr().out)["hosts"]
        assert [(host["host"], host["phase"]) for host in hosts] == [
            ("algo-1", "serving"),
            ("algo-2", None),
            ("algo-3", "training"),
        ]
        assert [worker["batches_served"] for worker in hosts[0]["workers"]] == [1200, 34]

        training.publish(Phase.FAILED, "rank 0 on algo-3 failed: ValueError")
        assert cli.main(["status"]) == 1
        assert "algo-3: rank 0 on algo-3 failed: ValueError" in capsys.readouterr().out


def test_it_is_asked_as_a_host_of_an_emulation(job, tmp_path):
    """--state: with the variables of a running host, found by its first process."""
    cluster = Cluster.discover()
    host = subprocess.Popen(["sleep", "60"], env=job.environment("algo-3"))
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"hosts": [{"name": "algo-3", "pid": host.pid, "namespace": None, "exit_code": None}]}))
    try:
        with HealthServer(cluster.host("algo-1")):
            done = subprocess.run(
                [sys.executable, "-m", "hetero_tfdata", "status", "--json", "--state", str(state)],
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=60,
            )
    finally:
        host.kill()
        host.wait()
    first = json.loads(done.stdout)["hosts"][0]
    assert (first["host"], first["phase"]) == ("algo-1", "starting"), done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--watch", "0"], "--watch: expected seconds above 0, got 0"),
        (["--timeout-s", "-1"], "--timeout-s: expected seconds above 0, got -1"),
        (["--role", "data_group"], "--role: expected GROUP=ROLE"),
        (["--state", "/no/such/file"], "expected the file of a running emulation"),
    ],
)
def test_bad_input_is_one_line(job, capsys, words, told):
    assert cli.main(["status", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_an_emulation_that_has_ended_is_named(tmp_path, capsys):
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"hosts": [{"name": "algo-1", "pid": os.getpid(), "namespace": None, "exit_code": 0}]}))
    assert cli.main(["status", "--state", str(state)]) == 2
    assert "all its hosts have ended" in capsys.readouterr().err
