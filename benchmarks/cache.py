"""What a data host's worker spends on an image, pass by pass, with distribute(cache=...) and without.

Photographs of 500x375 in TFRecord files are decoded and resized to 224x224 in one map(), flipped at random in the next one, and
batched by 64; three passes, each of which begins anew at distribute(). The data host has one worker process, whose CPU seconds
are read between the passes; the training is a process of its own that only reads. Contenders take turns, each on servers of its
own; a figure is the median of the rounds.

    make bench-cache
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
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from augmentation import photographs

from hetero_tfdata.cluster import Cluster, Host, InstanceGroup, Role
from hetero_tfdata.service.cpus import cpu_seconds
from hetero_tfdata.service.supervisor import Supervisor

ROUNDS = 3
IMAGES = 768
COPIES = 2  # a pass reads each photograph so many times, each as a record of its own
PASSES = 3
FILES = 8
CONTENDERS = ("none", "memory", "disk")
DATA = photographs.ROOT / ".cache" / "bench-cache"


def main() -> int:
    """Prints the table and writes out/bench/cache.json; as a child, the training of one contender."""
    if sys.argv[1:]:
        train(sys.argv[1], int(sys.argv[2]))
        return 0
    facts = prepare()
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(ROUNDS):
        order = random.Random(number).sample(CONTENDERS, len(CONTENDERS))
        rounds.append({name: run(name) for name in order})
        print(f"round {number + 1} of {ROUNDS}", end="\r", file=sys.stderr)
    results = {}
    for name in CONTENDERS:
        per_pass = zip(*(one[name]["us_per_image"] for one in rounds), strict=True)
        results[name] = {
            "us_per_image": [round(statistics.median(figures), 1) for figures in per_pass],
            "cache": rounds[-1][name]["cache"],
            "rounds": [one[name]["us_per_image"] for one in rounds],
        }
    print(
        f"{'worker CPU, us an image':<26}"
        + "".join(f"{f'pass {number}':>10}" for number in range(1, PASSES + 1))
        + "  last/none"
    )
    for name, row in results.items():
        row["against_none"] = row["us_per_image"][-1] / results["none"]["us_per_image"][-1]
        figures = "".join(f"{figure:>10,.0f}" for figure in row["us_per_image"])
        print(f"{'cache=' + name:<26}{figures}{row['against_none']:>11.2f}")
    write({"rounds": ROUNDS, "images_per_pass": IMAGES * COPIES, "mean_kb": facts["mean_kb"], "contenders": results})
    return 0


def prepare() -> dict[str, float]:
    """Writes the records, once."""
    import tensorflow as tf

    facts = photographs.make(DATA / "jpeg", IMAGES)
    mark = DATA / "records" / f"{IMAGES}-{COPIES}"
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        jpegs = [path.read_bytes() for path in photographs.files(DATA / "jpeg")]
        for file in range(FILES):
            with tf.io.TFRecordWriter(str(mark.parent / f"{file}.tfrecord")) as writer:
                for copy in range(COPIES):
                    for jpeg in jpegs[file::FILES]:
                        writer.write(jpeg + bytes([copy]))  # what follows a JPEG's end is nothing to its decoder
        mark.touch()
    return facts


def run(contender: str) -> dict[str, Any]:
    """One run: CPU microseconds an image in each pass, and what the cache reports."""
    first_port = free_block()
    with Supervisor.for_host(cluster(first_port, "algo-1"), log=lambda line: None, workers=1) as servers:
        servers.wait_until_ready(120)
        worker = next(server.process for server in servers.servers if server.kind == "worker")
        assert worker is not None
        command = [sys.executable, __file__, contender, str(first_port)]
        figures: list[float] = []
        before = 0.0
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("pass"):
                    images = int(line.split()[1])
                    after = cpu_seconds(worker.pid) or 0.0
                    if images:
                        figures.append((after - before) / images * 1e6)
                    before = cpu_seconds(worker.pid) or 0.0
                    child.stdin.write("go on\n")
                    child.stdin.flush()
        assert child.returncode == 0
    report = servers.cache_report()
    servers.close()
    assert len(figures) == PASSES
    return {"us_per_image": figures, "cache": report}


def train(contender: str, first_port: int) -> None:
    """Reads the passes, and waits after each of them."""
    import tensorflow as tf

    from hetero_tfdata import distribute

    def decode(record: Any) -> Any:
        image = tf.image.resize(tf.io.decode_jpeg(record, channels=3), [224, 224])
        return tf.cast(image, tf.uint8)

    def read(files: list[str]) -> tf.data.Dataset:
        records = tf.data.Dataset.from_tensor_slices(files).interleave(tf.data.TFRecordDataset, cycle_length=4)
        images = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        images = images.map(tf.image.random_flip_left_right, num_parallel_calls=tf.data.AUTOTUNE).batch(64)
        here = cluster(first_port, "algo-2")
        return images.apply(distribute(cluster=here, cache=None if contender == "none" else contender))

    files = sorted(str(path) for path in (DATA / "records").glob("*.tfrecord"))
    dataset = read(files)
    for number in range(PASSES + 1):
        images = sum(int(batch.shape[0]) for batch in dataset) if number else 0
        print("pass", images, flush=True)
        sys.stdin.readline()
    os._exit(0)


def cluster(first_port: int, here: str) -> Cluster:
    """A data host and a training host on this machine."""
    groups = (
        InstanceGroup("data_group", "", ("algo-1",), Role.DATA),
        InstanceGroup("dnn_group", "", ("algo-2",), Role.TRAINING),
    )
    hosts = (Host("algo-1", "127.0.0.1", first_port), Host("algo-2", "127.0.0.1", first_port + 100))
    return Cluster(groups, hosts, here)


def free_block() -> int:
    """The first of 200 ports of which those used here are free."""
    while True:
        first = random.SystemRandom().randrange(20000, 31000, 200)
        with socket.socket() as one, socket.socket() as two:
            try:
                for probe, port in ((one, first), (two, first + 10)):
                    probe.bind(("0.0.0.0", port))
                return first
            except OSError:
                continue


def write(result: dict[str, Any]) -> None:
    """Adds where it was measured, and writes the file."""
    import tensorflow as tf

    result = {
        "benchmark": "cache",
        "command": "make bench-cache",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        "tensorflow": tf.__version__,
        **result,
    }
    path = Path("out/bench/cache.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    sys.exit(main())
