from __future__ import annotations

import math

import pytest

from hetero_tfdata.emulate.course import Course
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.errors import ConfigurationError

HOSTS = [Host(f"algo-{number}", "cpus", "ml.c5.xlarge", "127.0.0.1") for number in range(1, 9)]


def test_what_comes_first_ends_a_run() -> None:
    course = Course(100.0, stop_after_s=20.0, max_runtime_s=10.0)
    assert course.ended_by(9.9) is None
    assert course.ended_by(10.0) == "maximum runtime"
    assert course.ended_by(25.0) == "maximum runtime"
    assert Course(100.0, stop_after_s=20.0).ended_by(21) == "stop"
    assert Course(5.0, stop_after_s=20.0).ended_by(21) == "time limit"


def test_a_run_that_may_be_stopped_gives_sagemakers_grace_time() -> None:
    assert Course(100.0).grace_s == 20.0
    assert Course(100.0, stop_after_s=1.0).grace_s == Course(100.0, max_runtime_s=1.0).grace_s == 120.0
    assert Course(100.0, max_runtime_s=1.0, stop_grace_s=0).grace_s == 0


def test_hosts_come_up_apart_in_an_order_that_a_seed_repeats() -> None:
    assert Course(9.0).starts(HOSTS, None) == [(0.0, host) for host in HOSTS]
    staggered = Course(9.0, stagger_s=2.0)
    orders = {tuple(host.name for _, host in staggered.starts(HOSTS, seed)) for seed in range(10)}
    assert len(orders) == 10
    assert {tuple(sorted(order)) for order in orders} == {tuple(host.name for host in HOSTS)}
    assert [at_s for at_s, _ in staggered.starts(HOSTS, 1)] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert staggered.starts(HOSTS, 1) == staggered.starts(HOSTS, 1)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"timeout_s": 0}, "expected a time limit of more than 0 seconds, got 0"),
        ({"timeout_s": math.inf}, "expected a time limit of more than 0 seconds, got inf"),
        ({"timeout_s": 1, "stop_after_s": -1}, "expected a stop after of more than 0 seconds, got -1"),
        ({"timeout_s": 1, "max_runtime_s": 0}, "expected a maximum runtime of more than 0 seconds, got 0"),
        ({"timeout_s": 1, "stop_grace_s": -1}, "expected a grace time of 0 seconds or more, got -1"),
        ({"timeout_s": 1, "stagger_s": math.nan}, "expected a stagger of 0 seconds or more, got nan"),
    ],
)
def test_times_are_checked(options: dict[str, float], phrase: str) -> None:
    with pytest.raises(ConfigurationError, match=phrase):
        Course(**options)
