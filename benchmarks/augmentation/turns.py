"""The contender's side of the pipe: pulls batches when asked and says what that cost. Standard library only.

A line in, `{"batches": n}`; a line out, `{"images": ..., "cpu_s": ..., "wall_s": ..., "peak_kib": ...}`. CPU seconds are
user + system of all threads of this process, the peak is its largest resident size during the turn.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

__all__ = ["serve", "take_pipe"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def take_pipe() -> TextIO:
    """Where replies go: what was standard output. Whatever a library prints there goes to standard error from now on.

    The kernel kills this process with its parent, which may leave it stopped between two turns.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return replies


def serve(replies: TextIO, pull: Callable[[], int], **facts: Any) -> None:
    """Says that it is ready, with `facts`, then takes turns until the pipe closes. `pull` makes a batch, returns its images."""
    print(json.dumps({"ready": True, **facts}), file=replies)
    for line in sys.stdin:
        batches = json.loads(line)["batches"]
        _forget_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        images = sum(pull() for _ in range(batches))
        cost = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        print(json.dumps({"images": images, **cost, "peak_kib": _peak_kib()}), file=replies)


def _forget_peak() -> None:
    # Linux: resets VmHWM to the present size, so that what building the graph took does not hide what running it takes.
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")


def _peak_kib() -> int:
    """The largest resident size since then, VmHWM."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
