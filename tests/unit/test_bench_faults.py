"""What make bench-faults makes of a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from hetero_tfdata.emulate.faults import Fault
from hetero_tfdata.emulate.summary import HostResult, Result
from hetero_tfdata.emulate.timeline import Event

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HOSTS = {"algo-1": "data_group", "algo-2": "data_group", "algo-3": "dnn_group"}


@pytest.fixture
def bench(monkeypatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from faulting import cells, runs

    import faults

    return SimpleNamespace(cells=cells, runs=runs, faults=faults)


def result(tmp_path: Path, codes=(0, 0, 0), failure: str | None = None, events=(), report=None, **options) -> Result:
    hosts = [
        HostResult(name, group, "ml.c5.xlarge", code, failure if code else None)
        for (name, group), code in zip(HOSTS.items(), codes, strict=True)
    ]
    ends = [Event(100.0 + number, name, "exited", "") for number, name in enumerate(HOSTS)]
    if report is not None:
        folder = tmp_path / "algo-3/opt/ml/output/data"
        folder.mkdir(parents=True)
        (folder / "report-0.json").write_text(json.dumps(report))
    return Result(tuple(hosts), tmp_path, events=(*events, *ends), **options)


def test_every_cell_can_be_run(bench):
    assert len({cell.name for cell in bench.cells.CELLS}) == len(bench.cells.CELLS)
    for cell in bench.cells.CELLS:
        for fault in cell.schedule():
            assert Fault.parse(fault).at_s >= 0
        assert cell.must in ("resume", "go on", "end", "succeed", "keep pace")


def test_hosts_have_to_end_in_time_and_to_say_why(bench, tmp_path):
    cell = bench.cells.Cell("row", "name", "end", 30, told="ValueError")
    fault = Event(90.0, "algo-1", "fault", "", "kill-worker:algo-1")
    assert bench.runs.judge(cell, result(tmp_path, (1, 1, 1), "ValueError: x", [fault])) == bench.runs.Finding(True, 12.0)
    late = bench.runs.judge(cell, result(tmp_path, (1, 1, 1), "ValueError: x", [Event(50.0, None, "fault", "", "kill-rank:1")]))
    assert (late.passed, late.text) == (False, "52.0 s after the fault, expected 30 s")
    assert "got 0 of algo-2" in bench.runs.judge(cell, result(tmp_path, (1, 0, 1), "ValueError: x", [fault])).text
    assert "algo-1 has: nothing" in bench.runs.judge(cell, result(tmp_path, (1, 1, 1), None, [fault])).text
    hung = bench.runs.judge(cell, result(tmp_path, (143, 0, 143), "ValueError", [fault], ended_by="time limit"))
    assert (hung.passed, hung.text) == (False, "hung until the time limit: algo-1, algo-3")


def test_nothing_is_asked_of_a_host_that_the_fault_takes_away(bench, tmp_path):
    cell = bench.cells.Cell("row", "name", "end", 60, told="lost", gone=("data_group/2",))
    fault = Event(90.0, "algo-2", "fault", "", "kill-host:algo-2")
    found = result(tmp_path, (1, 0, 1), "lost algo-2", [fault])
    assert bench.runs.judge(cell, found) == bench.runs.Finding(True, 12.0)


def test_batches_have_to_resume_from_the_struck_host_and_none_twice(bench, tmp_path):
    cell = bench.cells.Cell("row", "name", "resume", 10)
    fault = Event(50.0, "algo-2", "fault", "", "kill-worker:algo-2")
    samples = [
        [49.0, "algo-2", True, 0, 100],
        [50.5, "algo-2", True, 0, 101],  # not noticed yet
        [51.0, "algo-2", False, 1, 101],
        [55.0, "algo-2", True, 1, 101],
        [57.5, "algo-1", True, 0, 999],
        [58.0, "algo-2", True, 1, 105],
    ]
    report = {"rows": 9, "twice": 0, "times": [40.0, 60.0], "samples": samples}
    assert bench.runs.judge(cell, result(tmp_path / "a", events=[fault], report=report)) == bench.runs.Finding(True, 3.0)
    never = {**report, "samples": samples[:-1]}
    assert bench.runs.judge(cell, result(tmp_path / "b", events=[fault], report=never)).text == "batches did not resume"
    twice = {**report, "twice": 2}
    assert "rows came twice" in bench.runs.judge(cell, result(tmp_path / "c", events=[fault], report=twice)).text
    frozen = [Event(45.0, "algo-2", "fault", "", "freeze:9s:algo-2"), Event(54.0, "algo-2", "restored", "", "freeze:9s:algo-2")]
    assert bench.runs.judge(cell, result(tmp_path / "d", events=frozen, report=report)) == bench.runs.Finding(True, 4.0)


def test_a_fault_that_did_not_happen_is_no_success(bench, tmp_path):
    cell = bench.cells.Cell("row", "name", "go on", 10)
    missed = Event(90.0, None, "missed", "kill-dispatcher did not happen: the run ended first", "kill-dispatcher")
    assert not bench.runs.judge(cell, result(tmp_path, events=[missed], report={"twice": 0, "times": [1.0]})).passed


def test_the_command_line(bench, capsys):
    assert len(bench.faults.parse([]).only) == len(bench.cells.CELLS)
    with pytest.raises(SystemExit):
        bench.faults.parse(["--rounds", "0"])
    assert "expected at least 1" in capsys.readouterr().err
