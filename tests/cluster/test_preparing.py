"""launch --prepare: files are made in the job, by the hosts that read them, before anybody reads."""

from __future__ import annotations

import sys
import time

import pytest

GROUPS = {"data_group": ["algo-1"], "dnn_group": ["algo-2"]}
PREPARE = """
import os, sys
from hetero_tfdata import Cluster
folder = os.path.join(sys.argv[1], Cluster.discover().current_host)
if os.path.isdir(folder):
    sys.exit(print("found it done"))
os.makedirs(folder + ".partial")
for number in range(16):
    with open(f"{folder}.partial/{number:02}.txt", "w") as file:
        file.write(f"record {number}\\n")
os.rename(folder + ".partial", folder)
"""
READ = """
import os, sys
from hetero_tfdata import Cluster, distribute, files
cluster = Cluster.discover()
host = cluster.data_hosts[0].name if cluster.data_hosts else cluster.current_host
dataset = files(os.path.join(sys.argv[1], host), "*.txt", reader="text", shuffle=False, ready_timeout_s=120)
print("RECORDS", sorted(record.numpy().decode() for record, *_ in dataset.apply(distribute(ready_timeout_s=120)))[-1])
"""


def start(job, host, script, *words) -> None:
    job.start(host, sys.executable, "-m", "hetero_tfdata", "launch", *words[:-1], str(script), words[-1])


@pytest.fixture
def prepare(tmp_path):
    file = tmp_path / "prepare.py"
    file.write_text(PREPARE)
    return file


def test_the_data_host_prepares_and_the_training_waits(make_job, write_script, prepare, tmp_path):
    folder = tmp_path / "made here"
    script = write_script(READ)
    job = make_job(GROUPS)
    for host in job.hosts:
        start(job, host, script, "--prepare", f"{prepare} '{folder}'", folder)
    assert job.wait(120) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert "RECORDS record 9" in job.log("algo-2")
    assert [path.name for path in folder.iterdir()] == ["algo-1"], "the training host prepared nothing"
    assert "preparing: " in job.log("algo-1")


@pytest.mark.slow
def test_without_data_hosts_the_training_host_prepares(make_job, write_script, prepare, tmp_path):
    job = make_job({"dnn_group": ["algo-1"]})
    start(job, "algo-1", write_script(READ), "--prepare", f"{prepare} {tmp_path}/made", tmp_path / "made")
    assert job.wait(60) == {"algo-1": 0}, job.logs()
    assert "RECORDS record 9" in job.log("algo-1")


def test_a_preparing_script_that_fails_ends_every_host_with_the_reason(make_job, write_script, prepare, tmp_path):
    prepare.write_text("raise OSError('no room left')")
    job, began = make_job(GROUPS), time.monotonic()
    for host in job.hosts:
        start(job, host, write_script(READ), "--prepare", str(prepare), tmp_path / "made")
    codes = job.wait(60)
    assert all(codes.values()), job.logs()
    assert time.monotonic() - began < 30
    for host in job.hosts:
        assert "preparing on algo-1 failed" in job.failure(host), job.logs()
        assert "no room left" in job.failure(host)


@pytest.mark.slow
def test_a_training_that_ends_first_ends_the_preparing(make_job, write_script, prepare):
    prepare.write_text("import time; time.sleep(600)")
    job = make_job(GROUPS)
    for host in job.hosts:
        start(job, host, write_script("raise ValueError('no such layer')"), "--prepare", str(prepare), "unused")
    codes = job.wait(60)
    assert all(codes.values()), job.logs()
    assert "no such layer" in job.failure("algo-1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prepare", "nobody.py"], "prepare: expected a script, there is no file 'nobody.py'"),
        (["--prepare", "it's"], "--prepare: expected a script and its arguments"),
        (["--prepare", "launcher.py", "--local-workers", "auto"], "prepare: expected no local workers beside it"),
    ],
)
def test_a_mistake_is_one_line(make_job, write_script, words, said):
    job = make_job(GROUPS if "--local-workers" in words else {"dnn_group": ["algo-2"]})
    start(job, "algo-2", write_script("pass"), *words, "unused")
    assert job.wait(60)["algo-2"] == 2, job.logs()
    assert said in job.log("algo-2")
