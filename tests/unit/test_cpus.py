"""What processes may use, have used and leave of the CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from hetero_tfdata.service import cpus
from hetero_tfdata.service.cpus import cpu_seconds, idle_cpus, usable_cpus
from support import clean_environment, wait_for


def test_usable_cpus_follow_the_affinity():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_cpu_seconds_grow_with_work_and_count_ended_children():
    """A process whose child works: the child's seconds count once it has ended."""
    work = "import time; end = time.process_time() + 0.5\\nwhile time.process_time() < end: pass"
    code = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', '{work}']); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], env=clean_environment(), stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert 0.5 <= cpu_seconds(process.pid) < 5
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: cpu_seconds(process.pid) is None, 5, "the end of the process")


def test_a_busy_cpu_is_not_idle():
    """On one CPU that a child keeps busy; whatever else runs here makes it no idler."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"], env=clean_environment())
        try:
            assert idle_cpus(1.0, threading.Event()) < 0.3
        finally:
            busy.kill()
            busy.wait()
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("machine_idle_s", "group_used_s", "quota", "idle"),
    [
        (12.0, 16.0, 96, 12.0),  # others than this group use the machine
        (80.0, 6.0, 8, 2.0),  # the group's quota of 8 CPUs is nearly used up, the machine's 96 are not
        (80.0, 9.0, 8, 0.0),  # a little above its quota
        (24.0, None, 96, 24.0),  # no cgroup to be seen
    ],
)
def test_idle_is_what_the_machine_and_the_quota_leave(monkeypatch, machine_idle_s, group_used_s, quota, idle):
    """Counters that grow by as much within a window of one second."""
    started = time.monotonic()
    monkeypatch.setattr(cpus, "usable_cpus", lambda: quota)
    monkeypatch.setattr(cpus, "_machine_idle_s", lambda: machine_idle_s * (time.monotonic() - started))
    used = (lambda: None) if group_used_s is None else (lambda: group_used_s * (time.monotonic() - started))
    monkeypatch.setattr(cpus, "_group_used_s", used)
    assert idle_cpus(0.5, threading.Event()) == pytest.approx(idle, rel=0.1, abs=0.05)


def test_measuring_ends_with_the_training():
    stopped = threading.Event()
    stopped.set()
    started = time.monotonic()
    assert idle_cpus(30.0, stopped) is None
    assert time.monotonic() - started < 5


def test_this_machines_own_counters_can_be_read():
    assert cpus._machine_idle_s() > 0
    used = cpus._group_used_s()
    assert used is None or used > 0
