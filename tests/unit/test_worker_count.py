"""How many worker processes a host gets."""

from __future__ import annotations

import pytest

from hetero_tfdata.cluster import instances
from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.service.worker_count import worker_count


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (2, 1), (16, 2), (72, 8), (192, 8)])
def test_worker_count(cpus, workers):
    assert worker_count(cpus) == workers


@pytest.mark.parametrize(
    ("name", "workers", "why"),
    [
        ("ml.c5.18xlarge", 8, "25 Gbit/s are 5 flows; the CPUs give more"),
        ("ml.c6i.32xlarge", 10, "50 Gbit/s are 10 flows"),
        ("ml.c5n.18xlarge", 18, "100 Gbit/s are 20 flows, which 72 CPUs don't fill"),
        ("ml.c5.9xlarge", 4, "12 Gbit/s are 3 flows"),
        ("ml.m5.large", 1, "never none"),
        ("ml.p5.48xlarge", 48, "3,200 Gbit/s are 640 flows"),
    ],
)
def test_worker_count_of_an_instance_type(name, workers, why):
    kind = instance(name)
    assert worker_count(kind.vcpu, kind.baseline_gbps) == workers, why


def test_a_fast_link_on_a_small_machine_adds_nothing():
    """An emulated ml.c5n.18xlarge: the type's link, this machine's CPUs."""
    assert worker_count(2, 100.0) == worker_count(2)


def test_every_instance_type_has_memory_for_its_workers():
    """What worker_count's bound relies on: 8 GiB for each process."""
    for kind in instances.instances().values():
        processes = worker_count(kind.vcpu, kind.baseline_gbps)
        assert processes * 8 <= kind.memory_gib or processes == 1, kind
