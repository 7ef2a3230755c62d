from __future__ import annotations

import io
from pathlib import Path

import pytest

from hetero_tfdata.emulate import console
from hetero_tfdata.emulate.console import Console, LineSplitter
from hetero_tfdata.emulate.hosts import Host

HOSTS = (Host("algo-1", "cpu", "ml.c5.xlarge", "127.0.0.1", 20000), Host("algo-10", "gpu", "ml.c5.xlarge", "127.0.0.1", 20100))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fed(*pieces: bytes) -> list[bytes]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.flush()


def test_lines_come_whole_however_the_bytes_come() -> None:
    assert fed(b"a", b"b\nc", b"\n\nd") == [b"ab", b"c", b"", b"d"]
    assert fed(b"windows\r", b"\nnext\r\n") == [b"windows", b"next"]
    assert fed(b"x" * 70000, b"y\n") == [b"x" * 70000, b"y"]


def test_a_progress_bar_shows_at_most_one_state_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    splitter = LineSplitter()
    assert splitter.feed(b"10 %\r20 %\r25") == [b"20 %"]
    assert splitter.feed(b" %\r30 %\r") == []
    now[0] += 1.1
    assert splitter.feed(b"40 %\r50") == [b"40 %"]
    assert splitter.feed(b" %\r100 %\nnext\n") == [b"100 %", b"next"]


def test_a_state_already_shown_is_not_repeated_at_the_lines_end() -> None:
    assert fed(b"100 %\r", b"\n") == [b"100 %"]


def test_the_host_stands_in_front_and_bad_bytes_break_nothing(tmp_path: Path) -> None:
    logs = {host.name: tmp_path / host.name for host in HOSTS}
    logs["algo-1"].write_bytes(b"good\nb\xffd\npart")
    stream = io.StringIO()
    shown = Console(stream, HOSTS, logs)
    shown.follow("algo-1")
    shown.follow("algo-10")  # has no log yet
    with open(logs["algo-1"], "ab") as log:
        log.write("ial é".encode())
    shown.follow("algo-1", ended=True)
    shown.say("done")
    assert stream.getvalue().splitlines() == [
        "algo-1 (cpu)  | good",
        "algo-1 (cpu)  | b\N{REPLACEMENT CHARACTER}d",
        "algo-1 (cpu)  | partial é",
        "emulate       | done",
    ]


def test_colours_only_on_a_terminal_that_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = {host.name: tmp_path / host.name for host in HOSTS}
    for log in logs.values():
        log.write_text("text\n")

    def shown() -> str:
        stream = Terminal()
        Console(stream, HOSTS, logs).follow("algo-10")
        return stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert shown() == "\x1b[33malgo-10 (gpu) | \x1b[0mtext\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown() == "algo-10 (gpu) | text\n"


def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    tried = []

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise BrokenPipeError

    shown = Console(Closed(), HOSTS, {})
    shown.say("nobody")
    shown.say("listens")
    assert tried, "it was written to, and the error went no further"
