from __future__ import annotations

import json
from pathlib import Path

from hetero_tfdata.emulate import Group, HostResult, Job, Result
from hetero_tfdata.emulate.files import RunFolder
from hetero_tfdata.emulate.hosts import place
from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.emulate.summary import Observed, collect, render
from hetero_tfdata.emulate.timeline import Event, Sample, Step, Timeline
from hetero_tfdata.emulate.usage import Usage

TRAIN = {
    "model": "ResNet50",
    "ranks": 2,
    "steps": 36,
    "images_per_s": 1234.56,
    "step_ms": 200.0,
    "input_wait_ms": 25.0,
    "loss_first": 2.5,
    "loss_last": 0.75,
}

LOSSES = {
    "lost": [{"stream": "train", "pass": 1, "rows": 37, "of": 1000}],
    "restarted": {"worker 1 of algo-1": 2},
}
CACHE = {"hits": 2000, "misses": 1000, "kept": 900, "bytes_held": 12_345_678, "full": True, "saved_s": 3.21}


def test_reports_of_the_job_are_collected_into_one_file(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").touch()
    job = Job([Group("gpu", "ml.p4d.24xlarge", 3)], tmp_path / "source", "train.py")
    hosts = place(job)
    with RunFolder.claim(tmp_path / "out", job) as folder:
        reports = {}
        for host in hosts:
            reports[host.name] = folder.base_dir(host.name) / "output" / "data" / "hetero_tfdata"
            reports[host.name].mkdir(parents=True)
        (reports["algo-1"] / "algo-1.json").write_text(json.dumps({"batches_served": 7, "cache": CACHE}))
        (reports["algo-2"] / "algo-2.json").write_text('{"batches_served":')  # cut off
        (reports["algo-3"] / "losses.json").write_text(json.dumps(LOSSES))
        (reports["algo-3"] / "training.json").write_text(json.dumps(TRAIN))
        result = collect(folder, hosts, {"algo-1": 0, "algo-2": 0, "algo-3": 0}, None)
    assert result.succeeded
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [host["name"] for host in written["hosts"]] == ["algo-1", "algo-2", "algo-3"]
    assert {(host["group"], host["instance_type"], host["exit_code"]) for host in written["hosts"]} == {
        ("gpu", "ml.p4d.24xlarge", 0)
    }
    assert written["train"] == TRAIN
    assert written["served_by_host"] == {"algo-1": 7}
    assert written["losses"] == LOSSES
    assert written["cache_by_host"] == {"algo-1": CACHE}
    assert "worker 1 of algo-1 was started again, times: 2\ntrain, pass 1: 37 of 1000 rows did not come" in render(result)


def test_what_was_observed_stands_beside_each_host(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    job = Job([Group("cpu", "ml.c5.18xlarge", 1)], tmp_path, "train.py")
    samples = (Sample(100.0, Usage()), Sample(110.0, Usage(4.0, 50, 7)))
    limits = {"algo-1": Limits(cpus=0.5)}
    events = (Event(100.0, "algo-1", "started", "started"),)
    with RunFolder.claim(tmp_path / "out", job) as folder:
        steps = folder.base_dir("algo-1") / "output" / "data" / "hetero_tfdata" / "steps-0.csv"
        steps.parent.mkdir(parents=True)
        steps.write_text("105.5,0.25\n")
        observed = Observed(Timeline({"algo-1": samples}), events, limits, 0.125)
        result = collect(folder, place(job), {"algo-1": 0}, None, observed)
    (host,) = result.hosts
    assert (host.wall_s, host.cpu_s, host.mean_cores, host.quota_cores) == (10.0, 4.0, 0.4, 0.5)
    assert host.steps == (Step(105.5, 0.25),)
    assert result.timeline.cpu_s("algo-1", 100, 105) == 2.0
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["hosts"][0] | {"wall_s": 10.0, "cpu_s": 4.0, "mean_cores": 0.4, "quota_cores": 0.5} == written["hosts"][0]
    assert (written["hosts"][0]["sent_bytes"], written["hosts"][0]["received_bytes"]) == (50, 7)
    assert written["events"] == [{"time_s": 100.0, "host": "algo-1", "kind": "started", "text": "started", "fault": ""}]
    assert written["emulator_cpu_s"] == 0.125


def test_exit_codes(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    job = Job([Group("gpu", "ml.p4d.24xlarge", 1)], tmp_path, "train.py")
    hosts = place(job)
    with RunFolder.claim(tmp_path / "out", job) as folder:
        assert collect(folder, hosts, {"algo-1": 0}, None).exit_code == 0
        assert collect(folder, hosts, {"algo-1": 1}, None).exit_code == 1
        assert collect(folder, hosts, {"algo-1": 0}, "time limit").exit_code == 1
        assert collect(folder, hosts, {"algo-1": 143}, "SIGINT").exit_code == 130


def test_the_summary_of_a_success() -> None:
    hosts = (
        HostResult("algo-1", "data_group", "ml.c5.18xlarge", 0, None, wall_s=10.0, cpu_s=4.6, quota_cores=0.5),
        HostResult("algo-2", "dnn_group", "ml.p4d.24xlarge", 0, None),
    )
    result = Result(hosts, Path("/out"), train=TRAIN, served_by_host={"algo-1": 118})
    assert render(result).splitlines() == [
        "",
        "host    group       instance type    batches served   cores used  exit code",
        "------  ----------  ---------------  --------------  -----------  ---------",
        "algo-1  data_group  ml.c5.18xlarge              118  0.46 of 0.5          0",
        "algo-2  dnn_group   ml.p4d.24xlarge               -            -          0",
        "",
        "model     ranks  steps  images/s  step time                  input wait  first loss  last loss",
        "--------  -----  -----  --------  ---------  --------------------------  ----------  ---------",
        "ResNet50      2     36   1,234.6   200.0 ms  25.0 ms (12 % of the step)      2.5000     0.7500",
        "",
        "logs: /out/algo-*.log, /opt/ml of each host: /out/algo-*/opt/ml",
    ]


def test_the_summary_of_a_failure_says_which_log_to_read() -> None:
    hosts = (
        HostResult("algo-1", "cpu", "ml.c5.xlarge", 1, "JobError: the leader vanished\nmore"),
        HostResult("algo-2", "gpu", "ml.p4d.24xlarge", 137, None),
        HostResult("algo-3", "gpu", "ml.p4d.24xlarge", 143, None),
    )
    text = render(Result(hosts, Path("/out"), exit_code=1))
    assert "algo-1 (cpu) failed: JobError: the leader vanished\n  read /out/algo-1.log" in text
    assert "algo-2 (gpu) failed: killed by signal 9" in text
    assert "algo-3 (gpu) failed: stopped before it was done" in text


def test_what_the_caches_saved() -> None:
    text = render(Result((), Path("/out"), cache_by_host={"algo-10": {"hits": "?"}, "algo-2": CACHE}))
    assert (
        "cache     hits  misses     MB held  seconds saved\n"
        "-------  -----  ------  ----------  -------------\n"
        "algo-2   2,000   1,000  12.3, full            3.2\n"
        "algo-10      -       -           -              -\n"
    ) in text


def test_a_report_with_holes_is_shown_with_dashes() -> None:
    text = render(Result((), Path("/out"), train={"model": "tiny", "steps": 3, "step_ms": 0, "loss_last": "?"}))
    assert "tiny       -      3         -     0.0 ms           -           -          -" in text
