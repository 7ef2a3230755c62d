"""Where plain tf.data service waits for ever without a word, distribute() says who is missing, and ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import clean_environment, free_blocks, wait_for

PATIENCE_S = 20.0

PLAIN = """
import tensorflow as tf
service = {service!r}
dataset = tf.data.Dataset.range(20_000).batch(10)
for number, batch in enumerate(dataset.apply(tf.data.experimental.service.distribute("distributed_epoch", service))):
    if number == 50:
        print("READING", flush=True)
        input()
print("DONE", flush=True)
"""
OURS = """
import tensorflow as tf
from hetero_tfdata import distribute
dataset = tf.data.Dataset.range(20_000).batch(10)
for number, batch in enumerate(dataset.apply(distribute(service={service!r}, ready_timeout_s=12, stall_timeout_s=12))):
    if number == 50:
        print("READING", flush=True)
        input()
print("DONE", flush=True)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    """Starts a program whose output goes to a file: (process, what it has said so far)."""
    processes = []

    def run(name: str, code: str, *arguments: str):
        said = tmp_path / f"{name}.log"
        with said.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        processes.append(process)
        return process, said.read_text

    yield run
    for process in reversed(processes):
        process.kill()
        process.communicate()


SERVERS = """
import sys
import tensorflow as tf
service = tf.data.experimental.service
dispatcher = service.DispatchServer(service.DispatcherConfig(port=int(sys.argv[1])))
if len(sys.argv) > 2:
    target = f"127.0.0.1:{sys.argv[1]}"
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=target, worker_address=sys.argv[2]))
print("UP", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("what", "phrase"),
    [
        ("no dispatcher", "the dispatcher at 127.0.0.1:{port} (unavailable"),
        ("no worker", "any worker registered with the dispatcher at 127.0.0.1:{port}"),
        ("a worker that says a wrong address", "a connection to the worker at 127.0.0.1:9 ("),
    ],
)
def test_before_the_first_element(what, phrase, start):
    (port,) = free_blocks(1)
    if what != "no dispatcher":
        _, said = start("servers", SERVERS, str(port), *(["127.0.0.1:9"] if "worker that" in what else []))
        wait_for(lambda: "UP" in said(), 60, "the servers")
    plain, said_by_plain = start("plain", PLAIN.format(service=f"grpc://127.0.0.1:{port}"))
    ours, said_by_us = start("ours", OURS.format(service=f"grpc://127.0.0.1:{port}"))
    assert ours.wait(90) == 1, said_by_us()
    assert "NotReadyError: waited 1" in said_by_us()
    assert phrase.format(port=port) in said_by_us()
    time.sleep(PATIENCE_S)
    assert plain.poll() is None, said_by_plain()
    assert "READING" not in said_by_plain()


def test_a_worker_that_dies_in_mid_epoch_and_stays_away(fragile_service, start):
    plain, said_by_plain = start("plain", PLAIN.format(service=fragile_service.address))
    ours, said_by_us = start("ours", OURS.format(service=fragile_service.address))
    for said in (said_by_plain, said_by_us):
        wait_for(lambda said=said: "READING" in said(), 90, "both to read")
    fragile_service.kill(1)
    for process in (plain, ours):
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert ours.wait(120) == 1, said_by_us()
    assert "StalledError: " in said_by_us()
    assert "unreachable: 1 of 2 workers take no connection" in said_by_us()
    time.sleep(PATIENCE_S)
    assert plain.poll() is None, said_by_plain()
    assert "DONE" not in said_by_plain()
