"""plan: the model against published figures and its own limits, prices, recommendation, advice, and the command."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from hetero_tfdata.cli import main
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.advice import advise
from hetero_tfdata.plan.html import Box, flow_chart
from hetero_tfdata.plan.model import Assumptions, Job, predict
from hetero_tfdata.plan.options import best, data_types, options
from hetero_tfdata.plan.prices import PriceList, described
from hetero_tfdata.plan.profile import Profile
from support import clean_environment

P4D, C5, P3, C5_9 = map(described, ("ml.p4d.24xlarge", "ml.c5.18xlarge", "ml.p3.2xlarge", "ml.c5.9xlarge"))
PUBLISHED = PriceList.of("2022")


def cifar(floor_ms: float = 64.0) -> Job:
    """Workload A: 192 ms on 96 vCPUs, float32 on the wire."""
    return Job(8192, 192.0 * 96 / 8192, floor_ms, 32 * 32 * 3 * 4.0)


# --- against what was published


@pytest.mark.parametrize("floor_ms", [64.0, 86.0])
def test_the_published_cluster_of_eight_gpus(floor_ms):
    found = options(cifar(floor_ms), P4D, 1, C5, PUBLISHED, 3)
    assert found[0].prediction.step_ms == pytest.approx(192.0, rel=1e-12)
    assert found[2].prediction.step_ms == pytest.approx(86.0, rel=0.15)
    assert [one.usd_per_hour for one in found[:3]] == pytest.approx([37.688, 41.360, 45.032])
    assert found[0].usd_per_1000_steps == pytest.approx(2.01, rel=0.01)
    assert found[2].usd_per_1000_steps == pytest.approx(1.08, rel=0.15)


@pytest.mark.parametrize("floor_ms", [100.0, 184.0])
def test_the_published_cluster_of_one_gpu(floor_ms):
    job = Job(8192, 1193.0 * 8 / 8192, floor_ms, 28 * 28 * 4.0)
    found = options(job, P3, 1, C5_9, PUBLISHED, 1)
    assert found[0].prediction.step_ms == pytest.approx(1193.0)
    assert found[1].prediction.step_ms == pytest.approx(184.0, rel=0.25)
    assert [one.usd_per_hour for one in found] == pytest.approx([3.825, 5.661])


def test_the_published_arithmetic():
    """20 vCPUs for each GPU."""
    job = Job(8192, 160 * 100.0 / 8192, 100.0, 3072.0)
    found = options(job, P4D, 1, C5, PUBLISHED, 2)
    assert found[0].prediction.accelerator_utilisation == pytest.approx(0.6)
    assert predict(Job(16384, 160 * 100.0 / 8192, 100.0, 3072.0), P4D, 2, None, 0).accelerator_utilisation == pytest.approx(0.6)
    assert found[2].prediction.bottleneck == "accelerator"
    told = advise(job, found, best(found), PUBLISHED, Assumptions())[0]
    assert told.answer == "yes"
    assert "160 vCPUs, 20 for each of 8 accelerators," in told.told
    assert "96 are there: 64 are short (40%), and the accelerators are busy at most 60% of the time" in told.told
    assert "One more ml.p4d.24xlarge does not lift that: 60%" in told.told


# --- the model's limits


def test_a_link_that_is_too_thin_is_the_bottleneck():
    """An image of a megabyte that costs hardly anything: a c5.18xlarge sends 25 Gbit/s, 3,125 a second."""
    job = Job(3125, 0.001, 1.0, 1e6)
    alone = predict(job, P4D, 1, C5, 1, Assumptions(local_workers=False))
    assert alone.bottleneck == "network"
    assert alone.limit == "link of ml.c5.18xlarge"
    assert alone.step_ms == pytest.approx(1000.0)
    two = predict(job, P4D, 1, C5, 2, Assumptions(local_workers=False))
    assert two.step_ms == pytest.approx(500.0)


def test_the_training_hosts_link_takes_no_more_than_it_can():
    job = Job(1250, 0.001, 1.0, 1e6)  # a p3.2xlarge takes 10 Gbit/s
    found = predict(job, P3, 1, C5, 4, Assumptions(local_workers=False))
    assert found.limit == "link of ml.p3.2xlarge"
    assert found.step_ms == pytest.approx(1000.0)


def test_taking_in_batches_takes_cpus_of_the_training_host():
    job = Job(1000, 10.0, 1.0, 1e5)
    with_cost = predict(job, P4D, 1, C5, 2)
    without = predict(job, P4D, 1, C5, 2, Assumptions(send_ms_per_mb=0.0, receive_ms_per_mb=0.0))
    assert without.input_ms == pytest.approx(10.0 * 1000 / (96 + 144))
    assert with_cost.input_ms > without.input_ms
    assert 0.5 < with_cost.remote_share < 0.7, "three fifths of the CPUs, less what the wire takes"


def test_slower_data_hosts_deliver_less():
    equal, half = (predict(cifar(), P4D, 1, C5, 2, Assumptions(data_cpu_factor=factor)) for factor in (1.0, 0.5))
    assert half.input_ms > 1.3 * equal.input_ms


def test_without_local_workers_the_data_hosts_make_it_all():
    found = predict(cifar(), P4D, 1, C5, 2, Assumptions(local_workers=False, send_ms_per_mb=0.0))
    assert found.input_ms == pytest.approx(192.0 * 96 / 144)
    assert found.remote_share == 1.0


# --- prices, recommendation, advice


def test_more_data_hosts_are_tried_as_long_as_they_help():
    found = options(cifar(64.0), P4D, 1, C5, PUBLISHED)
    assert [one.prediction.data_instances for one in found] == [0, 1, 2, 3, 4]
    assert best(found).prediction.data_instances == 3
    assert best(found, "fastest").prediction.data_instances == 3
    assert best(found, "fastest", 42.0).prediction.data_instances == 1
    with pytest.raises(ConfigurationError, match=r"expected at least what the smallest cluster costs, 37\.688"):
        best(found, "fastest", 10.0)


def test_a_job_that_its_accelerators_bind_is_left_alone():
    found = options(Job(8192, 0.5, 64.0, 3072.0), P4D, 1, C5, PUBLISHED)
    assert best(found) is found[0]
    (told,) = advise(Job(8192, 0.5, 64.0, 3072.0), found, found[0], PUBLISHED, Assumptions())
    assert told.answer == "no"


def test_a_larger_size_is_looked_for_before_a_cluster():
    prices = PriceList.of("2026-09")
    job, train = Job(256, 10.0, 50.0, 150528.0), described("ml.g5.8xlarge")
    found = options(job, train, 1, described("ml.c5.9xlarge"), prices)
    larger = next(one for one in advise(job, found, best(found), prices, Assumptions()) if "larger size" in one.asked)
    assert larger.answer == "yes"
    assert "ml.g5.16xlarge: 50 ms a step" in larger.told
    assert "ml.g5.24xlarge" not in larger.told, "it has other accelerators"


def test_what_lighter_bytes_would_save_is_told():
    """Camera frames as float32: the data host's link decides, at a quarter of the bytes it does not."""
    frame = 3 * 480 * 640
    job = Job(512, 10.0, 30.0, 4.0 * frame)
    profile = Profile("a:b", "", 5.0, 1.0, 4.0 * frame, 1.0, 1.0, (), float32_bytes_per_sample=4.0 * frame)
    found = options(job, P4D, 1, C5, PUBLISHED, 2)
    told = advise(job, found, found[1], PUBLISHED, Assumptions(), profile)[1].told
    lighter = predict(Job(512, 10.0, 30.0, frame), P4D, 1, C5, 1)
    assert f"100% of a sample's {4 * frame:,} bytes are float32: as uint8, cast after distribute(), they are {frame:,}," in told
    assert f"takes {lighter.step_ms:.4g} ms instead of {found[1].prediction.step_ms:.4g}" in told
    assert lighter.step_ms < found[1].prediction.step_ms
    without = replace(profile, float32_bytes_per_sample=0.0)
    assert "No float32 is on the wire" in advise(job, found, found[1], PUBLISHED, Assumptions(), without)[1].told


def test_the_search_has_only_types_with_a_price():
    prices = PriceList.of("2026-09")
    found = data_types(prices)
    assert C5 in found
    assert all(one.accelerators == 0 and one.name in prices for one in found)
    assert described("ml.c5n.18xlarge") not in found


def test_prices_of_ones_own_go_first(tmp_path):
    file = tmp_path / "eu.tsv"
    file.write_text("# eu-west-1, negotiated\ninstance_type\tusd_per_hour\nml.c5n.18xlarge\t4.5\nml.c5.18xlarge\t4.0\n")
    prices = PriceList.of(str(file))
    assert (prices.usd("ml.c5n.18xlarge"), prices.usd("ml.c5.18xlarge")) == (4.5, 4.0)
    assert prices.usd("ml.p4d.24xlarge") == 25.2513


def test_a_region_without_the_type(tmp_path):
    file = tmp_path / "eu.tsv"
    file.write_text("instance_type\tusd_per_hour\nml.p4d.24xlarge\t-\n")
    with pytest.raises(ConfigurationError, match=r"ml.p4d.24xlarge: its price is not known in .*eu.tsv"):
        PriceList.of(str(file)).usd("ml.p4d.24xlarge")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("type\tprice\n", "expected the column names instance_type and usd_per_hour"),
        (
            "instance_type\tusd_per_hour\nml.c5.18xlarge\tcheap\n",
            "line 2: expected dollars per hour above 0, or -, got 'cheap'",
        ),
        ("instance_type\tusd_per_hour\nml.c5.18xlarge\t-1\n", "got '-1'"),
        ("instance_type\tusd_per_hour\nml.c5.18xlarge\n", "line 2: expected an instance type, once, and dollars per hour"),
    ],
)
def test_a_price_file_that_is_wrong_is_named(tmp_path, text, said):
    file = tmp_path / "prices.tsv"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        PriceList.of(str(file))


# --- the command

ARGUMENTS = [
    *("plan", "--train-instance", "ml.p4d.24xlarge", "--data-instance", "ml.c5.18xlarge", "--global-batch-size", "8192"),
    *("--cpu-ms-per-sample", "2.25", "--accelerator-ms-per-step", "64", "--wire-bytes-per-sample", "12288", "--prices", "2022"),
]


def test_json_for_programs(capsys):
    assert main([*ARGUMENTS, "--json", "--max-data-instances", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["data_instances"] for one in told["options"]] == [0, 1, 2]
    assert told["options"][0]["step_ms"] == pytest.approx(192.0)
    assert told["recommended"] == told["options"][2]
    assert {one["bottleneck"] for one in told["options"]} == {"cpu"}
    assert "Does a heterogeneous cluster pay? yes" in told["advice"]
    assert any("the published article" in one for one in told["assumptions"])


def test_text_for_people(capsys):
    assert main(ARGUMENTS) == 0
    said = capsys.readouterr().out
    assert "> 1 ml.p4d.24xlarge + 3 ml.c5.18xlarge" in said
    assert "One data host more: 64.0 ms a step instead of 64.0" in said
    assert "One data host less: 77.2 ms a step instead of 64.0" in said


def test_a_page_to_look_at(tmp_path, capsys):
    file = tmp_path / "plan.html"
    assert main([*ARGUMENTS, "--report", str(file)]) == 0
    html = file.read_text()
    parsed = _Page()
    parsed.feed(html)
    assert parsed.open == [], "every element is closed"
    assert parsed.count["svg"] == 3
    assert parsed.count["rect"] == 2 * 5 + 2 * 5, "two charts of five clusters, five questions with their ways out"
    assert not any(word in html.replace("http://www.w3.org/2000/svg", "") for word in ("http", "<script", "<link"))
    assert "Recommended: 1 ml.p4d.24xlarge + 3 ml.c5.18xlarge" in html
    assert "57% cheaper a step than 1 ml.p4d.24xlarge" in html
    assert "the published article" in html
    assert main([*ARGUMENTS, "--report", str(tmp_path / "no" / "plan.html")]) == 2
    assert "can't be written: No such file or directory" in capsys.readouterr().err


def test_the_chart_shows_the_way_that_was_taken():
    taken = [
        Box("bound?", "no", "leave it", "yes"),
        Box("pays?", "yes", "data hosts", "yes"),
        Box("last?", "yes", "decode", None),
    ]
    drawn = flow_chart(taken)
    green, grey = drawn.count('stroke="#2f7d4f"'), drawn.count('stroke="#bbb"')
    # two questions, the way between them, the second one's way out with its arrow; the rest is not reached
    assert (green, grey) == (5, 6)
    assert drawn.count("<text") == 3 * 3 + 2


def test_a_script_that_takes_cpus_leaves_fewer_for_the_input():
    job = cifar()
    busy = replace(job, train_cpu_ms_per_step=0.5 * job.global_batch_size * job.cpu_ms_per_sample)
    assert predict(busy, P4D, 1, None, 0).step_ms == pytest.approx(1.5 * 192.0)
    assert predict(busy, P4D, 1, C5, 2).input_ms > 1.1 * predict(job, P4D, 1, C5, 2).input_ms
    # the data hosts alone make what they make
    only = Assumptions(local_workers=False)
    assert predict(busy, P4D, 1, C5, 2, only).input_ms == predict(job, P4D, 1, C5, 2, only).input_ms


class _Page(HTMLParser):
    """What is open, and how many of each element there are."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: collections.Counter[str] = collections.Counter()

    def handle_starttag(self, tag, attrs) -> None:
        self.count[tag] += 1
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.count[tag] += 1

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_the_search_ranks_types(capsys):
    arguments = [word for word in ARGUMENTS if word not in ("--data-instance", "ml.c5.18xlarge", "--prices", "2022")]
    assert main([*arguments, "--search", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len({one["data_instance"] for one in told["options"]}) > 5
    assert told["recommended"]["usd_per_1000_steps"] == min(one["usd_per_1000_steps"] for one in told["options"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--train-instance": "ml.p4d.24xlage"}, "did you mean ml.p4d.24xlarge"),
        ({"--train-instance": "p3.16xlarge"}, "ml.p3.16xlarge: its price is not known in 2022; give your own: --prices FILE"),
        ({"--train-instance": "ml.p5.48xlarge"}, "--prices 2026-09 has one, or give your own"),
        ({"--cpu-ms-per-sample": "-1"}, "--cpu-ms-per-sample: expected a number above 0, got -1"),
        ({"--global-batch-size": "0"}, "--global-batch-size: expected a number above 0, got 0"),
        ({"--accelerator-ms-per-step": "nan"}, "--accelerator-ms-per-step: expected a number above 0, got nan"),
        ({"--prices": "2019"}, "--prices 2019: expected 2022, 2026-09 or a file"),
        ({"--objective": "best"}, "--objective: expected cheapest or fastest, got 'best'"),
        ({"--search": None}, "expected either --data-instance TYPE or --search"),
        ({"--max-data-instances": "-2"}, "--max-data-instances: expected 0 to 1000, got -2"),
    ],
)
def test_what_can_not_be_right_is_one_line(capsys, change, said):
    arguments = list(ARGUMENTS)
    for name, value in change.items():
        if name in arguments:
            arguments[arguments.index(name) + 1] = value
        else:
            arguments += [name] if value is None else [name, value]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_it_needs_no_tensorflow_and_answers_at_once():
    loaded = "print('tensorflow' in sys.modules, 'grpc' in sys.modules)"
    code = f"import sys; from hetero_tfdata.cli import main; main({ARGUMENTS!r}); {loaded}"
    began = time.monotonic()
    said = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "False False"
    assert time.monotonic() - began < 5, "half a second on a machine at rest"
