"""Faults of hosts with namespaces of their own, and what only these have: a link, a disk, channels that can't be written."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hetero_tfdata.emulate import Channel, Group, Job, Result, run
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.errors import ConfigurationError


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    try:
        with Privileges.acquire():
            return
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[..., Result]]:
    def start(script: str, *groups: Group, stream: Any = None, faults: tuple[str, ...] = (), **options: Any) -> Result:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        (source / "train.py").write_text(script)
        job = Job(groups, source, "train.py", **options)
        return run(job, output=tmp_path / "out", timeout_s=150, isolation="namespace", faults=faults, stream=stream)

    yield start
    for log in sorted((tmp_path / "out").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')}")


def output_data(result: Result, host: str, name: str) -> Any:
    return json.loads((result.output / host / "opt" / "ml" / "output" / "data" / name).read_text())


DISK = """
import errno, json, os, time
def room(folder, number):
    try:
        with open(f"{folder}/{number}", "w") as file:
            file.write("x" * 10_000)
        return True
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        return False
def until(folder, wanted, seconds=60):
    end, number = time.time() + seconds, 0
    while room(folder, f"{wanted}-{number}") != wanted:
        assert time.time() < end, (folder, wanted)
        time.sleep(0.05)
        number += 1
assert room("/opt/ml/checkpoints", "first")
until("/tmp", False)
full = [room(folder, "full") for folder in ("/opt/ml/model", "/opt/ml/output/data", "/opt/ml/checkpoints", "/tmp")]
until("/tmp", True)
until("/opt/ml/model", True, 1)
with open("/opt/ml/output/data/seen.json", "w") as file:
    json.dump(full, file)
"""


def test_a_full_disk_takes_nothing_until_it_is_over_and_what_was_written_stays(
    emulate: Callable[..., Result], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    stream = io.StringIO()
    group = Group("cpus", "ml.c5.xlarge", 1)
    result = emulate(DISK, group, faults=("1s:disk-full:3s:cpus",), checkpoints=kept, stream=stream)
    assert result.exit_code == 0
    assert output_data(result, "algo-1", "seen.json") == [False, False, False, False]
    assert (kept / "first").stat().st_size == 10_000
    assert [path.stat().st_size for path in (result.output / "algo-1/opt/ml/model").glob("True-0")] == [10_000]
    assert "fault: disk-full:3s:algo-1: no more room on the disk of algo-1 (cpus) for 3 s" in stream.getvalue()


LINK = """
import json, os, socket, sys, time
config = json.load(open("/opt/ml/input/config/resourceconfig.json"))
peer = next(host for host in config["hosts"] if host != config["current_host"])
channel = os.environ["SM_CHANNEL_TRAIN"]
try:
    open(channel + "/mine", "w").close()
    raise SystemExit("a FastFile channel could be written")
except OSError as error:
    writing = error.strerror
deaf = 0.0
if config["current_group_name"] == "server":
    with socket.create_server(("0.0.0.0", 9000)) as listener:
        connection, _ = listener.accept()
        for _ in range(600):
            connection.sendall(bytes(20_000))
            time.sleep(0.01)
        connection.close()
else:
    while True:
        try:
            connection = socket.create_connection((peer, 9000), timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    connection.settimeout(60)
    last = time.time()
    while connection.recv(1 << 16):
        deaf, last = max(deaf, time.time() - last), time.time()
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json"), "w") as file:
    json.dump([os.listdir(channel), writing, deaf], file)
"""


def test_a_cut_link_carries_nothing_and_its_bytes_are_counted(emulate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "one").touch()
    server, client = Group("server", "ml.c5.xlarge", 1), Group("client", "ml.c5.xlarge", 1)
    channel = Channel(tmp_path / "train", mode="FastFile")
    stream = io.StringIO()
    result = emulate(
        LINK, server, client, faults=("2s:cut:2s:client", "3s:slow-cpu:0.5:server"), channels={"train": channel}, stream=stream
    )
    assert result.exit_code == 0
    by_group = {host.group: host for host in result.hosts}
    seen = {group: output_data(result, host.name, "seen.json") for group, host in by_group.items()}
    assert {group: one[:2] for group, one in seen.items()} == {key: [["one"], "Read-only file system"] for key in by_group}
    assert seen["client"][2] >= 1.5
    assert 12_000_000 * 0.5 < (by_group["server"].sent_bytes or 0) < 12_000_000 * 1.5
    assert (by_group["client"].received_bytes or 0) > 12_000_000 * 0.5
    name = by_group["client"].name
    cut = {event.kind: event.time_s for event in result.events if event.fault == f"cut:2s:{name}"}
    assert result.timeline.received_bytes(name, cut["fault"] + 1.1, cut["restored"]) < 100_000
    assert f"CPUs of {by_group['server'].name} (server) at 0.5 of what they were" in stream.getvalue()
