"""The training script as a child process: its exit code and its last words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from hetero_tfdata.service.last_words import last_words

__all__ = ["Script", "exit_code_of"]

_TAIL_BYTES = 16 * 1024


def exit_code_of(returncode: int) -> int:
    """The shell's way to say it: 128 + n for a process that signal n killed."""
    return 128 - returncode if returncode < 0 else returncode


class Script:
    """A running training script.

    Its standard error passes through this process, so that the end of it can be told as the reason of a failure.
    """

    def __init__(self, path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.path = path
        self._tail = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hetero_tfdata.launch.child", path, *arguments],
            env={**os.environ, **environment, "HETERO_TFDATA_PARENT": str(os.getpid())},
            stderr=subprocess.PIPE,
        )
        self._copier = threading.Thread(target=self._copy_stderr, daemon=True)
        self._copier.start()

    def wait(self) -> int:
        """Waits for the end; the exit code, or 128 + n after signal n."""
        code = self._process.wait()
        self._copier.join(timeout=2.0)  # a grandchild may hold the pipe open
        return exit_code_of(code)

    def poll(self) -> int | None:
        """The exit code as `wait` returns it; None while it runs."""
        return None if self._process.poll() is None else self.wait()

    def terminate(self, grace_s: float) -> None:
        """Sends SIGTERM, and SIGKILL if it still runs after the grace time; returns at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            killer = threading.Timer(grace_s, self.kill)
            killer.daemon = True
            killer.start()

    def kill(self) -> None:
        """Kills it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()

    def failure(self, code: int) -> str:
        """One sentence on why it ended with that code."""
        how = f"was killed by signal {code - 128} ({_signal_name(code - 128)})" if code > 128 else f"exited with code {code}"
        last = last_words(self._tail.decode(errors="replace"))
        return f"{self.path} {how}" + (f": {last}" if last else "")

    def _copy_stderr(self) -> None:
        assert self._process.stderr is not None
        descriptor = self._process.stderr.fileno()
        while chunk := os.read(descriptor, 65536):
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
            sys.stderr.buffer.write(chunk)
            sys.stderr.buffer.flush()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
