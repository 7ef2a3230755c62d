"""What the watchdog finds, and when it speaks, waits on and ends. Real dispatchers and sockets; jobs are in tests/cluster."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from hetero_tfdata.errors import StalledError
from hetero_tfdata.service import stalls
from hetero_tfdata.service.stalls import Diagnosis, Stall, Stream, diagnose
from support import clean_environment, free_blocks


@pytest.fixture
def dispatcher():
    service = tf.data.experimental.service
    return service.DispatchServer(service.DispatcherConfig(port=0, protocol="grpc"))


def address(dispatcher) -> str:
    return "grpc://127.0.0.1:" + dispatcher.target.rpartition(":")[2]


def test_a_dispatcher_that_is_not_there():
    (port,) = free_blocks(1)
    found = diagnose(f"grpc://127.0.0.1:{port}", ())
    assert found.stall is Stall.UNREACHABLE
    assert f"the dispatcher at 127.0.0.1:{port} does not answer (unavailable" in found.found


def test_a_dispatcher_without_workers(dispatcher):
    found = diagnose(address(dispatcher), ())
    assert found.stall is Stall.NO_WORKERS


def test_a_worker_that_nobody_reaches(dispatcher):
    service = tf.data.experimental.service
    (port,) = free_blocks(1)
    workers = [
        service.WorkerServer(service.WorkerConfig(dispatcher_address=address(dispatcher)[7:], worker_address=worker_address))
        for worker_address in (None, f"127.0.0.1:{port}")
    ]
    found = diagnose(address(dispatcher), ())
    assert found.stall is Stall.UNREACHABLE
    assert f"1 of 2 workers take no connection: 127.0.0.1:{port} (" in found.found
    del workers


def test_workers_of_a_service_that_nobody_tells_about(dispatcher):
    service = tf.data.experimental.service
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address(dispatcher)[7:]))
    assert diagnose(address(dispatcher), ()).stall is Stall.UNKNOWN
    del worker


class _Waits:
    """A pulse of one iterator that has waited as long as it is told."""

    def __init__(self) -> None:
        self.seconds: float | None = 0.0

    def waiting_s(self) -> dict[str, float]:
        return {} if self.seconds is None else {"7": self.seconds}


@pytest.fixture
def stream(monkeypatch):
    """A stream whose iterator waits, and what is found: set `found.stall`."""
    pulse = _Waits()
    made = Stream("train", pulse, "grpc://127.0.0.1:1", (), 60.0, "A note")
    made.stall = Stall.STARVED
    monkeypatch.setattr(stalls, "diagnose", lambda *_: Diagnosis(made.stall, "workers idle", "Look at the files"))

    def look_at(seconds: float | None) -> StalledError | None:
        pulse.seconds = seconds
        return made.look()

    made.at = look_at
    return made


def test_the_log_tells_after_ten_seconds_and_then_every_thirty(stream, caplog):
    with caplog.at_level(logging.WARNING, "hetero_tfdata"):
        for seconds in range(59):
            assert stream.at(seconds) is None
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "train: waiting for an element for 10 s: starved source: workers idle. Look at the files. A note"
    assert [text.split(" for ")[2].split(" s")[0] for text in told] == ["10", "40"]


def test_the_deadline_ends_all_but_slow_workers(stream):
    assert stream.at(59) is None
    error = stream.at(60)
    assert isinstance(error, StalledError)
    assert str(error).startswith("train: no element for 60 s: starved source: workers idle. Look at the files")


def test_slow_workers_are_waited_for_and_the_deadline_counts_from_their_last_work(stream):
    stream.stall = Stall.SLOW
    for seconds in range(0, 200, 5):
        assert stream.at(seconds) is None
    stream.stall = Stall.UNREACHABLE
    ended_at = next(seconds for seconds in range(200, 400) if stream.at(seconds))
    assert 190 <= ended_at - 60 <= 190 + stalls.NEXT_WORD_S, "they worked last after 190 s"


def test_an_element_ends_the_wait(stream):
    assert stream.at(59) is None
    assert stream.at(None) is None
    assert stream.at(5) is None, "another wait, from its beginning"
    assert stream.at(59) is None


def test_the_error_is_raised_in_the_main_thread_where_python_has_control():
    """Here the main thread waits in Python, for a reader in another thread."""
    pulse = _Waits()
    ending = threading.Thread(target=lambda: stalls._end(StalledError("train: no element"), pulse), daemon=True)
    with pytest.raises(StalledError, match=r"^train: no element$"):
        _run_and_wait(ending)
    pulse.seconds = None  # the script has ended its reading, or has caught the error and gone on
    ending.join(5)
    assert not ending.is_alive()


def _run_and_wait(thread: threading.Thread) -> None:
    thread.start()
    for _ in range(500):
        time.sleep(0.01)


STANDS = """
import threading, time
import tensorflow as tf
from hetero_tfdata.service.blocked import Blocked
go = tf.Variable(False)
held_up = tf.function(lambda: tf.while_loop(lambda n: ~go.read_value(), lambda n: (n,), (0,)))
blocked = Blocked()
waiting = threading.Thread(target=held_up, daemon=True)
assert blocked.look() == 0.0
waiting.start()
for _ in range(100):
    time.sleep(0.2)
    blocked_s = blocked.look()
    if blocked_s > 1:
        break
assert blocked_s > 1
blocked.forget()
assert blocked.look() == 0.0, "from now on"
go.assign(True)
waiting.join(60)
for _ in range(3):
    time.sleep(0.2)
    assert blocked.look() == 0.0, "this thread stands in Python"
print("AS IT SHOULD")
"""


def test_somebody_waits_who_stands_in_one_call_of_tensorflow():
    """In a process of its own: every thread counts, also those that other tests have left here."""
    done = subprocess.run([sys.executable, "-c", STANDS], capture_output=True, text=True, timeout=120, env=clean_environment())
    assert (done.returncode, done.stdout) == (0, "AS IT SHOULD\n"), done.stderr


def test_a_buffer_that_asks_for_itself_is_no_wait(stream):
    assert stream.at(59) is None
    stream.pulse.seconds = 400
    assert stream.look(0.0) is None
    assert stream.look(9.0) is None, "the deadline counts from when somebody waits"
    assert isinstance(stream.look(60.0), StalledError)


def test_the_watch_has_ended_when_the_process_ends():
    """In the midst of a call of gRPC, or with the last hold on an iterator, its thread would take the whole process along."""
    script = """
import time
from types import SimpleNamespace
from hetero_tfdata.service import stalls
stream = stalls.Stream("quiet", SimpleNamespace(waiting_s=dict), "grpc://127.0.0.1:1", (), 60.0)
stream.beside = lambda: time.sleep(0.5)
stream.at_end = lambda: print("ALIVE", stalls._thread.is_alive())
stalls.watch(stream)
time.sleep(1.2)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=clean_environment())
    assert (done.returncode, done.stdout) == (0, "ALIVE False\n"), done.stderr
