"""The step of a cluster, predicted: it takes as long as the slowest of what it needs.

A sample is made either on a data host, and crosses the network, or on a training host. Data hosts deliver what the smaller of
their CPUs and their links allows. Training hosts make the rest with the CPUs that the training script and taking in the others'
samples leave, as tf.data service does it: each worker makes as much as it can, and the consumers take what is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hetero_tfdata.cluster.instances import Instance
from hetero_tfdata.service.worker_count import worker_count

__all__ = ["Assumptions", "Job", "Prediction", "predict"]

# EC2's cap on one TCP flow outside a placement group (docs.aws.amazon.com/AWSEC2, "network bandwidth").
GBPS_PER_FLOW = 5.0


@dataclass(frozen=True)
class Job:
    """What a step needs.

    Attributes:
        global_batch_size: samples of a step, over all ranks.
        cpu_ms_per_sample: vCPU-milliseconds of the input graph on the training instance type, all of whose vCPUs are busy.
        accelerator_ms_per_step: what a step takes when its batch is there already.
        wire_bytes_per_sample: what a sample weighs on the network.
        train_cpu_ms_per_step: vCPU-milliseconds that the training script itself takes for a step, on all training hosts.
    """

    global_batch_size: int
    cpu_ms_per_sample: float
    accelerator_ms_per_step: float
    wire_bytes_per_sample: float
    train_cpu_ms_per_step: float = 0.0


@dataclass(frozen=True)
class Assumptions:
    """What is not measured on the user's own hosts.

    Attributes:
        local_workers: the training hosts make samples too.
        data_cpu_factor: speed of a data host's vCPU against a training host's, 1 where nobody measured it.
        send_ms_per_mb: vCPU-ms that a worker takes to hand on a million bytes (`make bench-wire`, 2026-11-24: 0.39 s per GB).
        receive_ms_per_mb: likewise of the training host (73 us for an image of 150,528 bytes).
    """

    local_workers: bool = True
    data_cpu_factor: float = 1.0
    send_ms_per_mb: float = 0.39
    receive_ms_per_mb: float = 0.485


@dataclass(frozen=True)
class Prediction:
    """A cluster's step.

    Attributes:
        data_instances: how many data hosts.
        step_ms: the longest of accelerator_ms and input_ms.
        accelerator_ms: the accelerators' own time.
        input_ms: what all hosts together need to make and move a step's batch.
        bottleneck: "accelerator", "cpu" or "network".
        limit: the bottleneck in words, such as "link of ml.c5.18xlarge".
        remote_share: of the samples, the part that data hosts make.
        assumptions: under which.
    """

    data_instances: int
    step_ms: float
    accelerator_ms: float
    input_ms: float
    bottleneck: str
    limit: str
    remote_share: float
    assumptions: Assumptions = field(repr=False, default=Assumptions())

    @property
    def accelerator_utilisation(self) -> float:
        """The part of a step in which the accelerators work."""
        return self.accelerator_ms / self.step_ms if self.step_ms else 1.0


def predict(
    job: Job,
    train: Instance,
    train_count: int,
    data: Instance | None,
    data_count: int,
    assumptions: Assumptions | None = None,
) -> Prediction:
    """The step of `train_count` training hosts with `data_count` data hosts.

    Without data hosts, and with a script that needs no CPU, it is exactly batch x cpu / vCPUs, or the accelerators' own time if
    that is longer.
    """
    assumptions = assumptions or Assumptions()
    assert train.vcpu is not None
    train_cpu_per_s = train_count * train.vcpu * 1000.0  # vCPU-ms a second
    if data is None or data_count == 0:
        rate = _per_s(train_cpu_per_s, job.cpu_ms_per_sample)
        made = job.global_batch_size + _displaced(job, job.cpu_ms_per_sample)
        return _prediction(job, 0, made, rate, 0.0, "cpu", f"CPUs of {train.name}", assumptions)
    assert data.vcpu is not None
    megabytes = job.wire_bytes_per_sample / 1e6
    receive_ms = megabytes * assumptions.receive_ms_per_mb
    make_ms = job.cpu_ms_per_sample / assumptions.data_cpu_factor + megabytes * assumptions.send_ms_per_mb
    consumers = train_count * max(1, train.accelerators or 0)
    flows = worker_count(data.vcpu, data.baseline_gbps) * consumers
    from_data = [
        (data_count * _per_s(data.vcpu * 1000.0, make_ms), "cpu", f"CPUs of {data.name}"),
        (data_count * _link_per_s(job, data, flows), "network", f"link of {data.name}"),
        (
            train_count * _link_per_s(job, train, data_count * flows / train_count),
            "network",
            f"link of {train.name}",
        ),
        (_per_s(train_cpu_per_s, receive_ms), "cpu", f"CPUs of {train.name}, which take in the batches"),
    ]
    remote, bottleneck, limit = min(from_data)
    local, made = 0.0, float(job.global_batch_size)
    if assumptions.local_workers:
        local_ms = job.cpu_ms_per_sample + megabytes * (assumptions.send_ms_per_mb + assumptions.receive_ms_per_mb)
        local = _per_s(max(0.0, train_cpu_per_s - remote * receive_ms), local_ms)
        made += _displaced(job, local_ms)
        limit = f"CPUs of {train.name} and {data.name}" if bottleneck == "cpu" else f"{limit}, with all CPUs of {train.name}"
    share = 1.0 if math.isinf(remote) else remote / (remote + local)
    return _prediction(job, data_count, made, remote + local, share, bottleneck, limit, assumptions)


def _displaced(job: Job, sample_ms: float) -> float:
    """Samples that the training hosts could make in the time that the training script takes from their CPUs."""
    return job.train_cpu_ms_per_step / sample_ms if sample_ms else 0.0


def _prediction(
    job: Job,
    data_count: int,
    samples: float,
    rate: float,
    remote_share: float,
    bottleneck: str,
    limit: str,
    assumptions: Assumptions,
) -> Prediction:
    input_ms = samples / rate * 1000.0
    accelerator_ms = job.accelerator_ms_per_step
    if accelerator_ms >= input_ms:
        bottleneck, limit = "accelerator", "the accelerators"
    step_ms = max(accelerator_ms, input_ms)
    return Prediction(data_count, step_ms, accelerator_ms, input_ms, bottleneck, limit, remote_share, assumptions)


def _per_s(ms_per_s: float, ms: float) -> float:
    return ms_per_s / ms if ms else math.inf


def _link_per_s(job: Job, instance: Instance, flows: float) -> float:
    """Samples a second over one host's link; a link that nobody described has no limit but its flows'."""
    gbps = min(instance.baseline_gbps or math.inf, flows * GBPS_PER_FLOW)
    return gbps * 1e9 / 8 / job.wire_bytes_per_sample if job.wire_bytes_per_sample else math.inf
