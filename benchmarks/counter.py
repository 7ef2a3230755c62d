"""What it costs a worker to count the batches it serves.

`distribute()` lets each worker append one byte a batch to a file that its supervisor reads. The peer is the same dataset
without the count. Runs are interleaved; the figure is the median of the paired differences.

    make bench-counter
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from hetero_tfdata.service.distribute import counted
from hetero_tfdata.service.servers import SERVED_COUNTER_FD

PAIRS = 9
BATCHES = 20_000


def seconds(dataset: tf.data.Dataset) -> float:
    """Wall seconds of one pass, without Python between the batches."""
    started = time.perf_counter()
    dataset.reduce(tf.constant(0, tf.int64), lambda count, batch: count + 1)
    return time.perf_counter() - started


def main() -> int:
    """Prints the table and writes out/bench/counter.json."""
    os.dup2(os.memfd_create("counter"), SERVED_COUNTER_FD)
    image = tf.zeros([8, 32, 32, 3], tf.uint8)
    plain = tf.data.Dataset.range(BATCHES).map(lambda i: (image, i))
    with_count = counted(tf, plain)
    seconds(plain), seconds(with_count)
    pairs = []
    for number in range(PAIRS):
        pairs.append((seconds(plain), seconds(with_count)))
        print(f"pair {number + 1} of {PAIRS}", end="\r", file=sys.stderr)
    microseconds = [(b - a) / BATCHES * 1e6 for a, b in pairs]
    served = os.fstat(SERVED_COUNTER_FD).st_size
    assert served == BATCHES * (PAIRS + 1), "every batch was counted"
    result = {
        "benchmark": "counter",
        "command": "make bench-counter",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        "tensorflow": tf.__version__,
        "batches_per_run": BATCHES,
        "pairs": PAIRS,
        "plain_us_per_batch": statistics.median(a for a, _ in pairs) / BATCHES * 1e6,
        "counted_us_per_batch": statistics.median(b for _, b in pairs) / BATCHES * 1e6,
        "cost_us_per_batch": {
            "median": statistics.median(microseconds),
            "min": min(microseconds),
            "max": max(microseconds),
        },
    }
    print(f"{'':<24}{'us a batch':>12}")
    print(f"{'plain':<24}{result['plain_us_per_batch']:>12.1f}")
    print(f"{'counted':<24}{result['counted_us_per_batch']:>12.1f}")
    print(f"{'cost, median of pairs':<24}{statistics.median(microseconds):>12.1f}")
    path = Path("out/bench/counter.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
