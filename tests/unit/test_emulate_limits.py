from __future__ import annotations

import pytest

from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.errors import ConfigurationError


def test_the_scale_divides_the_instance_types_cpus_and_link() -> None:
    limits = Limits.of("ml.c5.18xlarge", 72)
    assert (limits.cpus, limits.link_gbps, limits.memory_bytes) == (1.0, 25 / 72, None)
    assert str(limits) == "1 core, 0.347 Gbit/s"
    assert Limits.of("ml.c5.18xlarge", 72, link_scale=25) == Limits(1.0, 1.0)
    assert str(Limits.of("ml.p4d.24xlarge", 72, 1.5)) == "1.33 cores, 5.56 Gbit/s, 1.5 GiB"


def test_without_a_scale_nothing_but_memory_is_limited_whatever_the_type() -> None:
    assert Limits.of("ml.made-up.large", 0) == Limits()
    assert Limits.of("ml.made-up.large", 0, 2) == Limits(memory_bytes=2 << 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ml.c5.18xlarge", -1.0), "expected a scale of 0"),
        (("ml.c5.18xlarge", float("nan")), "expected a scale of 0"),
        (("ml.c5.18xlarge", 0.0, 0.0), "expected a memory limit of more than 0 GiB, got 0"),
        (("ml.made-up.large", 8.0), "needs the vCPUs and the link of ml.made-up.large, which are not known"),
        (("ml.c5.2xlarge", 1000.0), r"leaves ml.c5.2xlarge \(8 vCPUs\) 0.008 cores; .* a scale of at most 160"),
        (("ml.c5.18xlarge", 72.0, None, 0.0), "expected a link scale of more than 0 beside a scale, got 0 and 72"),
        (("ml.c5.18xlarge", 0.0, None, 10.0), "expected a link scale of more than 0 beside a scale, got 10 and 0"),
    ],
)
def test_limits_that_can_not_be(arguments: tuple, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Limits.of(*arguments)
