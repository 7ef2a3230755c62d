from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hetero_tfdata.emulate.timeline import Recorder, Sample, Step, Timeline, read_steps
from hetero_tfdata.emulate.usage import ProcessTable, Usage, link_bytes

# A tenth more than is asked for: the kernel cuts each of the four counters that are added up to whole ticks of 10 ms.
BUSY = "import time\nwhile time.process_time() < 0.6: pass\n"


def test_a_counter_grows_evenly_between_samples_and_stays_after_the_last() -> None:
    timeline = Timeline({"algo-1": (Sample(10, Usage()), Sample(12, Usage(1.0, 100, 10)), Sample(14, Usage(1.5, 500, 10)))})
    assert timeline.cpu_s("algo-1") == 1.5
    assert timeline.cpu_s("algo-1", 11, 13) == pytest.approx(0.75)
    assert timeline.cpu_s("algo-1", 12, 12) == 0.0
    assert timeline.cpu_s("algo-1", 0, 11) == 0.5
    assert timeline.cpu_s("algo-1", 14, 99) == 0.0
    assert timeline.sent_bytes("algo-1", 12, 13) == 200
    assert timeline.received_bytes("algo-1", 0, 99) == 10
    assert timeline.wall_s("algo-1") == 4
    assert timeline.cpu_s("algo-2") == timeline.wall_s("algo-2") == 0.0


def test_what_is_recorded_is_read_again_also_with_half_a_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "timeline.csv")
    recorder.sample("algo-1", Usage())
    recorder.sample("algo-2", Usage(0.25, 10, 20))
    recorder.sample("algo-1", Usage(0.5))
    written = Timeline.read(tmp_path / "timeline.csv")
    recorder.close()
    assert [one.usage for one in written.samples["algo-1"]] == [Usage(), Usage(0.5)]
    assert written.samples["algo-2"][0].usage == Usage(0.25, 10, 20)
    assert written.wall_s("algo-1") == pytest.approx(recorder.timeline.wall_s("algo-1"), abs=0.002)
    for half in ("1234.5,algo", "1234.5,algo-1,0.1,7"):
        (tmp_path / "half.csv").write_text((tmp_path / "timeline.csv").read_text() + half)
        assert Timeline.read(tmp_path / "half.csv") == written


def test_a_counter_never_falls_and_a_missing_one_stays(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "timeline.csv")
    for usage in (Usage(2.0, 7, 8), Usage(1.5), None):
        recorder.sample("algo-1", usage)
    recorder.close()
    assert {one.usage for one in recorder.timeline.samples["algo-1"]} == {Usage(2.0, 7, 8)}


def test_steps_of_all_ranks_are_one_sequence_without_broken_lines(tmp_path: Path) -> None:
    (tmp_path / "steps-0.csv").write_text("time_s,step_s\n10.0,0.5\n11.0,0.25\n12.0,nan\n13.0,-1\n14")
    (tmp_path / "steps-1.csv").write_text("10.5,0.75\n")
    assert read_steps(tmp_path) == (Step(10.0, 0.5), Step(10.5, 0.75), Step(11.0, 0.25))
    assert read_steps(tmp_path / "none") == ()


def test_the_cpu_time_of_a_tree_has_that_of_ended_children() -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}]); print('done', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.5 <= ProcessTable().cpu_s(process.pid) < 3.0
        process.kill()
    assert ProcessTable().cpu_s(process.pid) == 0.0


def test_the_bytes_of_an_interface_are_counted() -> None:
    before = link_bytes(os.getpid(), "lo")
    assert before is not None
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.sendto(bytes(20_000), receiver.getsockname())
        assert len(receiver.recv(30_000)) == 20_000
    after = link_bytes(os.getpid(), "lo")
    assert after is not None
    assert after[0] - before[0] >= 20_000
    assert after[1] - before[1] >= 20_000
    assert link_bytes(os.getpid(), "no-such0") is None
