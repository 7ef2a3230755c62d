"""How fast this machine is just now: CPU-milliseconds of an image of a graph, all CPUs busy.

python pace.py GRAPH BATCH
"""

import os
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from graphs import GRAPHS

WARM_UP_S, MEASURED_S = 2.0, 5.0


def main() -> None:
    """Prints it."""
    graph, batch = sys.argv[1], int(sys.argv[2])
    batches = iter(GRAPHS[graph](batch))
    read(batches, WARM_UP_S)
    before = used_s()
    count = read(batches, MEASURED_S)
    print(1e3 * (used_s() - before) / (count * batch))


def read(batches, seconds: float) -> int:
    """Reads for that long; how many batches came."""
    count, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        next(batches)
        count += 1
    return count


def used_s() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
