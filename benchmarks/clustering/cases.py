"""What is compared: workloads of WORKLOADS.md, and for each the clusters, graphs and ways to feed the accelerators."""

from __future__ import annotations

from dataclasses import dataclass

from hetero_tfdata.cluster.instances import instance

__all__ = ["DRIVING", "PRICES", "WORKLOADS", "Case", "Published", "Workload", "usd_per_hour"]

PRICES = ("2022", "2026-09")


@dataclass(frozen=True)
class Published:
    """The published result: step times in ms, and by how much a step was cheaper."""

    homogeneous_ms: float
    heterogeneous_ms: float
    data_hosts: int
    gain: float


@dataclass(frozen=True)
class Case:
    """A job.

    Attributes:
        graph: of job/graphs.py.
        feed: "plain" (no tf.data service), "published" (tf.data service with the published job's settings), "tuned" (with
            those that its best user would choose) or "ours".
        data_hosts: 0 is the homogeneous job.
    """

    graph: str
    feed: str
    data_hosts: int

    @property
    def is_ours(self) -> bool:
        """Whether the package feeds it, or made its graph."""
        return self.feed == "ours"


@dataclass(frozen=True)
class Workload:
    """A workload at a scale that fits this machine.

    Attributes:
        name: for --only.
        title: for tables.
        train_type: of the one training host.
        data_type: of the data hosts.
        scale: vCPUs of an instance per core here.
        global_batch: images of a real step.
        floors_ms: what the accelerators alone need for a step; empty: follows from `vcpus`.
        vcpus: how many vCPUs of the training host's type the package's own graph needs to keep the accelerators busy.
        calibration: the graph whose homogeneous step is the published one.
        published: None where nothing is.
        cases: in the order of the table; the first is what gains are counted against.
    """

    name: str
    title: str
    train_type: str
    data_type: str
    scale: float
    global_batch: int
    cases: tuple[Case, ...]
    calibration: str
    floors_ms: tuple[float, ...] = ()
    vcpus: int | None = None
    published: Published | None = None


def usd_per_hour(workload: Workload, data_hosts: int, prices: str) -> float | None:
    """Of the whole cluster; None where a price is not known (instances.tsv)."""
    total = 0.0
    for name, count in ((workload.train_type, 1), (workload.data_type, data_hosts)):
        facts = instance(name)
        price = facts.usd_per_hour.get(prices) if facts else None
        if count and price is None:
            return None
        total += count * (price or 0.0)
    return total


_CIFAR = ("cifar_published", "cifar_ours")
_MNIST = ("mnist_published", "mnist_ours")
_DRIVING = "driving_ours"

DRIVING = Workload(
    name="driving",
    title="D: camera frames, 20 vCPUs per GPU with the batch-wise graph",
    train_type="ml.p4d.24xlarge",
    data_type="ml.c5.18xlarge",
    scale=160.0,
    global_batch=0,
    cases=(
        Case(_DRIVING, "plain", 0),
        Case(_DRIVING, "ours", 1),
        Case(_DRIVING, "ours", 2),
        Case(_DRIVING, "tuned", 1),
        Case(_DRIVING, "tuned", 2),
    ),
    calibration=_DRIVING,
    vcpus=160,
)

WORKLOADS = (
    DRIVING,
    Workload(
        name="cifar",
        title="A: small images with heavy augmentation",
        train_type="ml.p4d.24xlarge",
        data_type="ml.c5.18xlarge",
        scale=200.0,
        global_batch=8192,
        floors_ms=(64.0, 86.0),
        cases=(
            Case(_CIFAR[0], "plain", 0),
            *(Case(_CIFAR[0], feed, count) for feed in ("published", "ours") for count in (2, 3)),
            Case(_CIFAR[1], "ours", 0),
            *(Case(_CIFAR[1], feed, count) for feed in ("published", "ours") for count in (2, 3)),
        ),
        calibration=_CIFAR[0],
        published=Published(192.0, 86.0, 2, 0.46),
    ),
    Workload(
        name="mnist",
        title="B: one GPU, a blur of random sigma",
        train_type="ml.p3.2xlarge",
        data_type="ml.c5.9xlarge",
        scale=30.0,
        global_batch=8192,
        floors_ms=(100.0, 184.0),
        cases=(
            Case(_MNIST[0], "plain", 0),
            *(Case(_MNIST[0], feed, 1) for feed in ("published", "ours")),
            *(Case(_MNIST[1], "ours", count) for count in (0, 1)),
        ),
        calibration=_MNIST[0],
        published=Published(1193.0, 184.0, 1, 0.77),
    ),
)
