"""The hosts' output as one stream: whole lines, the host's name in front, a colour per host on a terminal."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TextIO

from hetero_tfdata.emulate.hosts import Host

__all__ = ["Console", "LineSplitter"]

# cyan, yellow, green, magenta, blue, red: readable on dark and light backgrounds
_COLOURS = (36, 33, 32, 35, 34, 31)
_READ_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 16
_PROGRESS_INTERVAL_S = 1.0


class LineSplitter:
    r"""Bytes in, whole lines out.

    A progress bar rewrites its line with \r many times a second. Of a line, what stands after its last \r is kept, as a
    terminal would show it; while the line is open, at most one state a second comes out.
    """

    def __init__(self) -> None:
        self._open = b""
        self._shown: bytes | None = None  # the open line's state that came out last
        self._shown_at = float("-inf")

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete with this data, without their ends."""
        *complete, self._open = (self._open + data).split(b"\n")
        lines = []
        for line in complete:
            visible = _after_last_return(line.rstrip(b"\r"))
            if visible != self._shown:
                lines.append(visible)
            self._shown = None
        return lines + self._progress()

    def flush(self) -> list[bytes]:
        """The last line, if it has no end."""
        rest, self._open = _after_last_return(self._open.rstrip(b"\r")), b""
        return [rest] if rest and rest != self._shown else []

    def _progress(self) -> list[bytes]:
        if len(self._open) > _MAX_LINE_BYTES:
            return self.flush()
        head, returned, tail = self._open.rpartition(b"\r")
        if not returned:
            return []
        state = _after_last_return(head)
        self._open = state + b"\r" + tail
        now = time.monotonic()
        if not state or state == self._shown or now - self._shown_at < _PROGRESS_INTERVAL_S:
            return []
        self._shown, self._shown_at = state, now
        return [state]


class Console:
    """Shows the hosts' logs on a stream as they grow; silent without a stream."""

    def __init__(self, stream: TextIO | None, hosts: tuple[Host, ...], logs: dict[str, Path]) -> None:
        self._stream = stream
        labels = {host.name: f"{host.name} ({host.group})" for host in hosts}
        self._width = max((len(label) for label in labels.values()), default=0)
        coloured = stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")
        self._prefixes = {}
        for number, (name, label) in enumerate(labels.items()):
            prefix = f"{label:<{self._width}} | "
            self._prefixes[name] = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{prefix}\x1b[0m" if coloured else prefix
        self._logs = logs
        self._offsets = dict.fromkeys(labels, 0)
        self._splitters = {name: LineSplitter() for name in labels}

    def say(self, text: str) -> None:
        """A line of the emulator's own."""
        self._print([f"{'emulate':<{self._width}} | {text}" if self._width else text])

    def plain(self, text: str) -> None:
        """Text as it is."""
        self._print([text])

    def follow(self, host: str, *, ended: bool = False) -> None:
        """Shows what has come to the host's log since the last call; of a host that ended, its last words too."""
        try:
            with open(self._logs[host], "rb") as log:
                log.seek(self._offsets[host])
                while data := log.read(_READ_BYTES):
                    self._offsets[host] += len(data)
                    self._show(host, self._splitters[host].feed(data))
        except OSError:
            return  # a host may remove its own log
        if ended:
            self._show(host, self._splitters[host].flush())

    def _show(self, host: str, lines: list[bytes]) -> None:
        self._print([self._prefixes[host] + line.decode("utf-8", "replace") for line in lines])

    def _print(self, lines: list[str]) -> None:
        if self._stream is None or not lines:
            return
        text = "".join(f"{line}\n" for line in lines)
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except BrokenPipeError:
            # The reader went away (`| head`): the job goes on, its logs are files.
            if self._stream is sys.stdout:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
            self._stream = None


def _after_last_return(line: bytes) -> bytes:
    return line.rpartition(b"\r")[2]
