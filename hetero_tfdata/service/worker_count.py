"""How many worker processes a host gets."""

from __future__ import annotations

import math

__all__ = ["worker_count"]

# EC2's cap on one TCP flow between two hosts outside a placement group (FACTS: 5 Gbit/s), as tf.data service uses one flow and
# one request at a time per consumer and worker process.
_GBPS_PER_FLOW = 5.0
# A process with fewer CPUs can't fill its flow: 5 Gbit/s are 4,150 uint8 images of 224x224x3 a second, at 670 us each for the
# decoded crop 2.8 CPUs, and 0.3 for the wire (0.49 s per GB, make bench-wire). It also bounds memory: 4 vCPUs come with 8 GiB
# or more on every type of instances.tsv, for a process of 183 MiB and its own shuffle buffers and caches.
_CPUS_TO_FILL_A_FLOW = 4
# Where the link asks for no more, processes for the sake of requests in flight alone (23.6 elements/s over a 40 ms link from
# one worker, 95 from four). One for every 8 CPUs and at most 8 are a choice, not a measurement: 2 CPUs are at hand here.
_CPUS_PER_WORKER = 8
_MOST_BY_CPUS = 8
_MOST = 64  # a host has 90 ports for workers


def worker_count(cpus: int, baseline_gbps: float | None = None) -> int:
    """Worker processes for a host: one for every 8 usable CPUs, from 1 to 8; more where the link needs more flows to be full
    (one for every 5 Gbit/s), but then at most one for every 4 CPUs, and 64.

    On a small or emulated machine the CPUs decide. An ml.c5.18xlarge (72 vCPUs, 25 Gbit/s) gets 8, an ml.c6i.32xlarge (128,
    50) 10, an ml.c5n.18xlarge (72, 100) 18, an ml.m5.2xlarge (8, 2.5) 1.

    Args:
        cpus: CPUs that the workers may really use.
        baseline_gbps: what the host's link sustains, in Gbit/s; None: not known, or not what the batches cross.
    """
    by_cpus = min(_MOST_BY_CPUS, max(1, cpus // _CPUS_PER_WORKER))
    if baseline_gbps is None:
        return by_cpus
    flows = math.ceil(baseline_gbps / _GBPS_PER_FLOW)
    return max(by_cpus, min(flows, cpus // _CPUS_TO_FILL_A_FLOW, _MOST))
