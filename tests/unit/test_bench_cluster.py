"""The arithmetic of make bench-cluster: prices, gains, what the scale model is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from clustering import cases, tables

    import cluster

    return SimpleNamespace(cluster=cluster, cases=cases, tables=tables)


def workload(bench, name: str):
    return next(one for one in bench.cases.WORKLOADS if one.name == name)


def figures(step_ms: float) -> dict:
    return {(64.0, "sleep"): {"step_ms": step_ms, "input_wait_ms": step_ms - 64, "cpu_of_quota": {"dnn_group": 0.9}}}


def test_the_published_clusters_cost_what_was_published(bench):
    cifar, mnist = workload(bench, "cifar"), workload(bench, "mnist")
    assert [bench.cases.usd_per_hour(cifar, count, "2022") for count in (0, 2)] == pytest.approx([37.688, 45.032])
    assert [bench.cases.usd_per_hour(mnist, count, "2022") for count in (0, 1)] == pytest.approx([3.825, 5.661])
    # nobody publishes today's price of the ml.p3.2xlarge
    assert bench.cases.usd_per_hour(mnist, 1, "2026-09") is None


def test_the_published_rows_are_the_published_table(bench):
    homogeneous, heterogeneous = bench.tables.published_rows(workload(bench, "cifar"))
    assert homogeneous["usd_per_100_steps_2022"] == pytest.approx(0.201, abs=5e-4)
    assert heterogeneous["usd_per_100_steps_2022"] == pytest.approx(0.108, abs=5e-4)
    assert heterogeneous["gain_2022"] == pytest.approx(
        1 - heterogeneous["usd_per_100_steps_2022"] / homogeneous["usd_per_100_steps_2022"], abs=6e-3
    )


def test_gains_are_against_the_first_case_and_follow_from_steps_and_prices(bench):
    cifar = workload(bench, "cifar")
    measured = [figures(192.0), *(figures(86.0) for _ in cifar.cases[1:])]
    rows = bench.tables.rows(cifar, measured, 64.0, "sleep")
    assert rows[0]["gain_2022"] == 0
    two_hosts = next(row for row in rows if row["data_hosts"] == 2)
    assert two_hosts["gain_2022"] == pytest.approx(1 - 45.032 * 86 / (37.688 * 192))
    assert two_hosts["utilisation"] == pytest.approx(64 / 86)
    text = bench.tables.render(cifar, rows)
    assert "1 p4d, PUBLISHED" in text
    assert "1 p4d + 2 c5.18xlarge, published graph, tf.data service as published" in text


def test_medians_are_taken_phase_by_phase(bench):
    runs = [{**figures(step)} for step in (70.0, 90.0, 66.0)]
    merged = bench.cluster._medians(runs)[64.0, "sleep"]
    assert merged["step_ms"] == 70.0
    assert merged["step_ms_rounds"] == [70.0, 90.0, 66.0]
    assert merged["cpu_of_quota"] == {"dnn_group": 0.9}


def test_every_case_has_a_graph_of_the_job(bench):
    text = (BENCHMARKS / "clustering/job/graphs.py").read_text()
    for one in bench.cases.WORKLOADS:
        for case in one.cases:
            assert f"def {case.graph}(" in text


def test_the_command_line_takes_whole_workloads(bench, capsys):
    assert bench.cluster.parse([]).only == ("driving", "cifar", "mnist")
    with pytest.raises(SystemExit):
        bench.cluster.parse(["--rounds", "0"])
    assert "expected at least 1 round" in capsys.readouterr().err


def test_workloads_that_are_not_run_stay_in_the_file(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench.cluster, "OUT", tmp_path)
    for name, step_ms in (("mnist", 184.0), ("driving", 200.0), ("mnist", 190.0)):
        rows = [{"case": "one", "feed": "ours", "step_ms": step_ms}]
        part = {"floor_ms": 100.0, "work": "sleep", "rows": rows}
        bench.cluster.write(name, {"title": name, "published": [], "parts": [part]})
    written = json.loads((tmp_path / "cluster.json").read_text())["workloads"]
    assert {name: one["parts"][0]["rows"][0]["step_ms"] for name, one in written.items()} == {"driving": 200.0, "mnist": 190.0}
    assert list(written) == ["driving", "mnist"]
    assert (tmp_path / "cluster.png").stat().st_size > 0


def test_the_table_has_the_range_of_the_rounds_and_the_published_ratio(bench):
    cifar = workload(bench, "cifar")
    measured = [figures(192.0), *(figures(80.0) for _ in cifar.cases[1:])]
    measured[0][64.0, "sleep"]["step_ms_rounds"] = [190.0, 192.0, 195.0]
    text = bench.tables.render(cifar, bench.tables.rows(cifar, measured, 64.0, "sleep"))
    assert "192.0 (190.0 to 195.0)" in text
    assert "published graph and service: 2.40 (published: 2.23)" in text


def test_the_calibration_goes_on_until_it_is_near_the_published_step(bench, monkeypatch):
    options = bench.cluster.parse(["--rounds", "1"])
    model = bench.cluster.Model(workload(bench, "cifar"), options)
    asked = []

    def run(case, *, floors_ms, work):
        # each image costs less when there are fewer: the first guess is far off
        asked.append(model.batch)
        return {(floor, "sleep"): {"step_ms": model.batch * (1.0 + model.batch / 400)} for floor in floors_ms}

    monkeypatch.setattr(model, "_run", run)
    found = model.calibrate()
    assert 1 < len(asked) <= 4
    assert found["images_per_step"] * found["ms_per_image_homogeneous"] == pytest.approx(192, rel=0.04)


def test_pairs_are_compared_with_the_homogeneous_jobs_before_and_after(bench, monkeypatch):
    """Each calibrated by the one before it."""
    options = bench.cluster.parse(["--only", "cifar", "--pairs", "2"])
    model = bench.cluster.Model(workload(bench, "cifar"), options)
    image_ms = iter([1.0, 1.0, 2.0, 3.0] * 2)

    def run(case, *, floors_ms, work):
        step_ms = 90.0 if case.data_hosts else next(image_ms) * model.batch
        return {(floor, "sleep"): {"step_ms": step_ms} for floor in floors_ms}

    monkeypatch.setattr(model, "_run", run)
    found = [one for one in model.pairs(2) if one["floor_ms"] == 86.0]
    # 192 images of 1 and 2 ms, then 96 of 2 and 3
    assert [one["homogeneous_ms"] for one in found] == pytest.approx([288.0, 240.0])
    assert [one["ratio"] for one in found] == pytest.approx([3.2, 240 / 90])


def test_nothing_is_published_of_camera_frames(bench, capsys):
    with pytest.raises(SystemExit):
        bench.cluster.parse(["--only", "driving", "--pairs", "1"])
    assert "nothing is published but of cifar, mnist" in capsys.readouterr().err
