"""What the hosts that read files do before anything else: a script of the user's, such as one that makes their TFRecords."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hetero_tfdata.errors import ConfigurationError, DataError
from hetero_tfdata.launch.job import Job
from hetero_tfdata.launch.script import Script

__all__ = ["check", "prepare", "prepare_in_turn"]

_LOOK_S = 0.1
_END_S = 10.0


def check(job: Job) -> None:
    """Raises ConfigurationError: there is no such script, or others would read than those that prepare."""
    if job.prepare and job.local_workers != 0 and job.cluster.is_heterogeneous:
        raise ConfigurationError(
            "prepare: expected no local workers beside it: only the data hosts would have the files; leave one of them out"
        )
    if job.prepare and not Path(job.prepare[0]).is_file():
        raise ConfigurationError(f"prepare: expected a script, there is no file {job.prepare[0]!r} in {os.getcwd()}")


def prepare(job: Job, unless: Callable[[], bool] = lambda: False) -> None:
    """Runs the job's preparing script to its end.

    Args:
        job: its `prepare`.
        unless: asked again and again; true ends the script.

    Raises:
        DataError: the script failed; with its last words.
    """
    if not job.prepare:
        return
    began = time.monotonic()
    job.log(f"preparing: {' '.join(job.prepare)}")
    script = Script(job.prepare[0], job.prepare[1:], job.script_environment)
    while (code := script.poll()) is None:
        if unless():
            script.terminate(_END_S)
            script.wait()
            return
        time.sleep(_LOOK_S)
    if code:
        raise DataError(f"preparing on {job.cluster.current_host} failed: {script.failure(code)}")
    job.log(f"prepared in {time.monotonic() - began:.0f} s")


def prepare_in_turn(job: Job) -> None:
    """The same where every rank of a host is a launcher: one after the other, so that the later ones find it done.

    Raises:
        DataError: the script failed; with its last words.
    """
    if not job.prepare:
        return
    # the lock goes with its holder, however that ends
    with open(Path(tempfile.gettempdir()) / f"hetero-tfdata-prepare-{os.getuid()}-{job.cluster.here.first_port}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare(job)
