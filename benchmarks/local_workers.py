"""Workers on a training host's idle CPUs: beside the training, or inside its process?

A data host and a training host, each one CPU of this machine. A step waits for its batch, does its own work on the CPU (Python
and TensorFlow, as training loops do) and sleeps as long as an accelerator would compute. A batch costs a worker more than the
data host's CPU can give, so the training host's worker helps; what it takes from the step's own work is the price.

Contenders: no worker there; a process at the lowest priority (`hetero-tfdata launch --local-workers 1`); the same at normal
priority; a tf.data service worker inside the training process. Runs are interleaved, each on servers of its own. A figure is
the best of the rounds: what else runs on this machine only makes it worse.

    make bench-local_workers
"""

from __future__ import annotations

import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from hetero_tfdata.cluster import Cluster, Host, InstanceGroup, Role
from hetero_tfdata.service.readiness import DispatcherClient
from hetero_tfdata.service.supervisor import Supervisor

ROUNDS = 4
WARM_UP_STEPS = 40
MEASURED_S = 6.0
ACCELERATOR_S = 0.02
NICENESS = {"beside, lowest priority": 19, "beside, normal priority": 0}
CONTENDERS = ("none", *NICENESS, "inside the training process")


def main() -> int:
    """Prints the table and writes out/bench/local_workers.json; as a child, one run of one contender."""
    if sys.argv[1:]:
        print(json.dumps(train(sys.argv[1], int(sys.argv[2]))))
        return 0
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(ROUNDS):
        order = random.Random(number).sample(CONTENDERS, len(CONTENDERS))
        rounds.append({name: run(name) for name in order})
        print(f"round {number + 1} of {ROUNDS}", end="\r", file=sys.stderr)
    best = {name: best_of([one[name] for one in rounds]) for name in CONTENDERS}
    results = {
        name: {
            **figures,
            "steps_ratio": figures["steps_per_s"] / best["none"]["steps_per_s"],
            "own_ratio": figures["own_ms"] / best["none"]["own_ms"],
            "rounds": [one[name] for one in rounds],
        }
        for name, figures in best.items()
    }
    print(f"{'worker on the training host':<30}{'steps/s':>10}{'against none':>14}{'own work, ms':>14}{'against none':>14}")
    for name, row in results.items():
        print(
            f"{name:<30}{row['steps_per_s']:>10.1f}{row['steps_ratio']:>14.2f}{row['own_ms']:>14.1f}{row['own_ratio']:>14.2f}"
        )
    write({"rounds": ROUNDS, "measured_s": MEASURED_S, "accelerator_ms": ACCELERATOR_S * 1e3, "contenders": results})
    return 0


def best_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """The most steps a second, and the shortest own work."""
    return {"steps_per_s": max(run["steps_per_s"] for run in runs), "own_ms": min(run["own_ms"] for run in runs)}


def run(contender: str) -> dict[str, float]:
    """One run: the data host on one CPU, the training as a child on the other."""
    first_port = free_block()
    with ExitStack() as stack:
        with pinned(0):  # its processes stay there
            servers = stack.enter_context(Supervisor.for_host(cluster(first_port, "algo-1"), log=ignore, workers=1))
        servers.wait_until_ready(120)
        done = subprocess.run(
            [sys.executable, __file__, contender, str(first_port)], stdout=subprocess.PIPE, text=True, check=True, timeout=300
        )
    servers.close()
    return json.loads(done.stdout.splitlines()[-1])


def train(contender: str, first_port: int) -> dict[str, float]:
    """The training host: its worker as the contender has it, then steps."""
    with pinned(1):
        import tensorflow as tf

        from hetero_tfdata import distribute

        here = cluster(first_port, "algo-2")
        dispatcher = here.dispatcher_host
        service = f"{dispatcher.address}:{dispatcher.dispatcher_port}"
        with worker(tf, contender, here, service):
            dataset = tf.data.Dataset.range(1000).repeat().map(decode, num_parallel_calls=tf.data.AUTOTUNE)
            batches = iter(dataset.apply(distribute(service=f"grpc://{service}", cluster=here)))
            for _ in range(WARM_UP_STEPS):
                own_work(tf, next(batches))
            own_s, steps, started = [], 0, time.perf_counter()
            while time.perf_counter() - started < MEASURED_S:
                batch = next(batches)
                before = time.perf_counter()
                own_work(tf, batch)
                own_s.append(time.perf_counter() - before)
                time.sleep(ACCELERATOR_S)
                steps += 1
            elapsed_s = time.perf_counter() - started
            result = {"steps_per_s": steps / elapsed_s, "own_ms": statistics.median(own_s) * 1e3}
    print(json.dumps(result), flush=True)
    os._exit(0)  # the worker inside would wait for its clients


def decode(index: Any) -> Any:
    """About 60 ms of one CPU."""
    import tensorflow as tf

    x = tf.random.stateless_uniform([1_000_000], seed=tf.stack([index, 1]))
    for _ in range(75):
        x = tf.sin(x)
    return x[:50_000]


def own_work(tf: Any, batch: Any) -> None:
    """About 5 ms of the training's own: Python, and TensorFlow's thread pool."""
    sum(range(200_000))
    square = tf.reshape(tf.tile(batch, [6])[: 512 * 512], [512, 512])
    tf.linalg.matmul(square, square).numpy()


@contextmanager
def worker(tf: Any, contender: str, here: Cluster, dispatcher: str) -> Iterator[None]:
    """The training host's worker, registered."""
    if contender == "none":
        yield
        return
    port = here.here.worker_ports[0]
    if contender in NICENESS:
        with Supervisor.for_host(here, log=ignore, workers=1, niceness=NICENESS[contender]) as servers:
            servers.wait_until_ready(120)
            yield
        return
    config = tf.data.experimental.service.WorkerConfig(
        dispatcher_address=dispatcher, worker_address=f"{here.here.address}:{port}", port=port, heartbeat_interval_ms=1000
    )
    server = tf.data.experimental.service.WorkerServer(config)
    with DispatcherClient(f"grpc://{dispatcher}") as client:
        assert len(client.workers()) == 2
    yield
    del server


def cluster(first_port: int, here: str) -> Cluster:
    """A data host and a training host on this machine."""
    groups = (
        InstanceGroup("data_group", "", ("algo-1",), Role.DATA),
        InstanceGroup("dnn_group", "", ("algo-2",), Role.TRAINING),
    )
    hosts = (Host("algo-1", "127.0.0.1", first_port), Host("algo-2", "127.0.0.1", first_port + 100))
    return Cluster(groups, hosts, here)


@contextmanager
def pinned(index: int) -> Iterator[None]:
    """This thread and all it starts on one CPU."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[index]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def free_block() -> int:
    """The first of 200 ports of which those used here are free."""
    while True:
        first = random.SystemRandom().randrange(20000, 31000, 200)
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for probe, port in ((one, first), (two, first + 10), (three, first + 110)):
                    probe.bind(("0.0.0.0", port))
                return first
            except OSError:
                continue


def ignore(line: str) -> None:
    """Takes the servers' output."""


def write(result: dict[str, Any]) -> None:
    """Adds where it was measured, and writes the file."""
    import tensorflow as tf

    result = {
        "benchmark": "local_workers",
        "command": "make bench-local_workers",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        "tensorflow": tf.__version__,
        **result,
    }
    path = Path("out/bench/local_workers.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    sys.exit(main())
