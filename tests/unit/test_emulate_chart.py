from __future__ import annotations

from pathlib import Path

import pytest

from hetero_tfdata.emulate import HostResult, Result
from hetero_tfdata.emulate.chart import draw
from hetero_tfdata.emulate.rows import Fault, rows
from hetero_tfdata.emulate.timeline import Event, Sample, Step, Timeline
from hetero_tfdata.emulate.usage import Usage

DATA = (
    Sample(100.0, Usage()),
    Sample(101.0, Usage(0.25, 1_000_000, 0)),
    Sample(102.0, Usage(0.75, 3_000_000, 0)),
    Sample(102.1, Usage(0.80, 3_000_000, 0)),  # at its end
)
GPU = (Sample(100.5, Usage()), Sample(104.5, Usage(0.4, 0, 3_000_000)))
EVENTS = (
    Event(100.0, "algo-1", "started", "started"),
    Event(100.5, "algo-1", "fault", "down", "cut:1s:algo-1"),
    Event(101.5, "algo-1", "restored", "over", "cut:1s:algo-1"),
    Event(102.0, "algo-1", "fault", "killed", "kill-host:algo-1"),
    Event(103.0, "algo-2", "fault", "slower", "slow:0.5:algo-2"),
    Event(104.0, None, "stopped", "stop after 4 s"),
)


@pytest.fixture
def result(tmp_path: Path) -> Result:
    steps = tuple(Step(101.0 + 0.1 * number, 0.1) for number in range(30))
    hosts = (
        HostResult("algo-1", "data", "ml.c5.18xlarge", 137, None, 2.1, 0.8, 0.5, 0.25, 3_000_000, 0),
        HostResult("algo-2", "dnn", "ml.p4d.24xlarge", 0, None, 4.0, 0.4, 1.0, None, 0, 3_000_000, steps),
    )
    timeline = Timeline({"algo-1": DATA, "algo-2": GPU})
    return Result(hosts, tmp_path, ended_by="stop", exit_code=1, timeline=timeline, events=EVENTS)


def test_a_row_has_the_rates_between_samples(result: Result) -> None:
    data, trainer = rows(result)
    cpu, link = data.strips
    ((_, rates),) = cpu.curves
    assert rates == ((0.0, 1.0, 0.25), (1.0, pytest.approx(2.1), pytest.approx(0.5)))
    assert (cpu.most, cpu.limit) == (0.5, 0.5)
    assert cpu.text[0] == "0.38 of 0.5 cores (76 %)"
    (_, sent), (_, received) = link.curves
    assert [value for _, _, value in sent] == [pytest.approx(1.0), pytest.approx(2 / 1.1)]
    assert {value for _, _, value in received} == {0.0}
    assert (link.limit, link.most) == (31.25, 2.0)
    assert [strip.name for strip in trainer.strips] == ["CPU", "link", "step"]
    assert trainer.strips[0].curves[0][1] == ((0.5, 4.5, 0.1),)
    assert trainer.strips[2].text == ("median 100.0 ms", "30 steps")
    assert trainer.strips[2].dots[0] == (1.0, 100.0)


def test_faults_last_from_their_event_to_their_end(result: Result) -> None:
    data, trainer = rows(result)
    assert data.faults == (Fault("cut", 0.5, 1.5), Fault("kill-host", 2.0, 2.0))
    assert trainer.faults == (Fault("slow 0.5", 3.0, 4.5),)


def test_the_chart_is_an_image_with_a_row_for_each_host(result: Result, tmp_path: Path) -> None:
    from PIL import Image

    draw(tmp_path / "one.png", result)
    with Image.open(tmp_path / "one.png") as image:
        image.load()
        assert (image.format, image.width) == ("PNG", 1240)
        assert image.height > 300
        colours = {colour for _, colour in image.getcolors(1 << 20)}
    assert {(0x8F, 0xBC, 0xCB), (0xF3, 0xC9, 0xC4)} <= colours  # CPU used, a fault that lasted


def test_hosts_that_never_started_give_no_chart(tmp_path: Path) -> None:
    draw(tmp_path / "none.png", Result((HostResult("algo-1", "data", "ml.c5.xlarge", 143, None),), tmp_path))
    assert not (tmp_path / "none.png").exists()
