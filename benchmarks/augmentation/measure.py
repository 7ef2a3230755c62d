"""The measuring side: contenders in processes of their own, asked in turn; figures are medians over paired rounds.

Between its turns a process is stopped (SIGSTOP), so that what it prefetches neither runs in another's turn nor comes for free
in its own next one: a turn starts and ends with the same buffers.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
START_S = 120.0  # for a contender to import its library and build its graph
TURN_S = 120.0
WARM_UP_TURNS = 2  # trace, XLA's compilation, AUTOTUNE's first steps

__all__ = ["Contender", "Process", "ProcessFailed", "Turn", "rates", "ratio", "run_module", "run_rounds", "say"]


class ProcessFailed(Exception):
    """A contender that ended or kept silent; the message names it and quotes its last line."""


@dataclass(frozen=True)
class Contender:
    """One graph of one workload.

    Attributes:
        name: unique in its workload.
        label: for tables.
        batches: of a turn; about a CPU-second's worth, so that a clock's granularity and one batch more or less don't matter.
        command: what follows the interpreter.
        dali: whether it runs in DALI's environment.
    """

    name: str
    label: str
    batches: int
    command: tuple[str, ...]
    dali: bool = False

    @classmethod
    def tensorflow(cls, name: str, label: str, batches: int, module: str, function: str, **arguments: Any) -> Contender:
        """A dataset made by a function of a module beside this one."""
        return cls(name, label, batches, ("-m", "augmentation.child", module, function, json.dumps(arguments)))


@dataclass(frozen=True)
class Turn:
    """What a number of images cost: CPU seconds (user + system, all threads), wall seconds, largest resident size meanwhile."""

    images: int
    cpu_s: float
    wall_s: float
    peak_kib: int

    @property
    def images_per_cpu_s(self) -> float:
        """Images per CPU-second."""
        return self.images / self.cpu_s

    @property
    def images_per_s(self) -> float:
        """Images per wall second."""
        return self.images / self.wall_s


class Process:
    """A contender's process, stopped but during its turns."""

    def __init__(self, contender: Contender, interpreter: Path, log: Path) -> None:
        self.contender = contender
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self._child = subprocess.Popen(
                [str(interpreter), *contender.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                bufsize=0,
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def wait_ready(self) -> dict[str, Any]:
        """What it says about itself once its graph is built."""
        facts = self._reply(START_S)
        self._stop()
        return facts

    def turn(self, batches: int) -> Turn:
        """Has it make that many batches."""
        assert self._child.stdin is not None
        self._child.send_signal(signal.SIGCONT)
        try:
            self._child.stdin.write(json.dumps({"batches": batches}).encode() + b"\n")
        except BrokenPipeError:
            raise self._failed("ended") from None
        reply = self._reply(TURN_S)
        self._stop()
        return Turn(**reply)

    def end(self) -> None:
        """Kills it, stopped or not."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def _stop(self) -> None:
        self._child.send_signal(signal.SIGSTOP)
        # until it stands still; WNOWAIT leaves a process that ended to whoever asks for its exit status
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        assert self._child.stdout is not None
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self._child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise self._failed(f"said nothing for {timeout_s:g} s")
            part = self._child.stdout.read(4096)
            if not part:
                raise self._failed("ended")
            line += part
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _failed(self, how: str) -> ProcessFailed:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
        return ProcessFailed(f"{self.contender.name} {how}; the last line of its log {os.path.relpath(self._log)}: {lines[-1]}")


@contextlib.contextmanager
def _processes(contenders: Sequence[Contender], interpreters: Mapping[bool, Path], logs: Path) -> Iterator[list[Process]]:
    started: list[Process] = []
    try:
        for contender in contenders:
            started.append(Process(contender, interpreters[contender.dali], logs / f"{contender.name}.log"))
        yield started
    finally:
        for process in started:
            process.end()


def run_rounds(
    workload: str, contenders: Sequence[Contender], rounds: int, *, dali: Path | None, logs: Path
) -> tuple[dict[str, list[Turn]], dict[str, dict[str, Any]]]:
    """The turns of each contender by name, one a round, and what each said about itself.

    Every second round runs in the opposite order, so that nobody always comes after the same neighbour.
    """
    interpreters = {False: Path(sys.executable)} | ({True: dali} if dali else {})
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in contenders}
    with _processes(contenders, interpreters, logs) as processes:
        facts = {process.contender.name: process.wait_ready() for process in processes}
        for process in processes:
            say(f"{workload}: warming up {process.contender.name}")
            for _ in range(WARM_UP_TURNS):
                process.turn(process.contender.batches)
        for number in range(rounds):
            for process in processes if number % 2 == 0 else reversed(processes):
                turn = process.turn(process.contender.batches)
                turns[process.contender.name].append(turn)
                figure = f"{turn.images_per_cpu_s:,.0f} images per CPU-second"
                say(f"{workload}: round {number + 1} of {rounds}, {process.contender.name}: {figure}")
    return turns, facts


def rates(turns: Sequence[Turn]) -> dict[str, float]:
    """Medians over the rounds, and the extremes of what matters."""
    per_cpu = [turn.images_per_cpu_s for turn in turns]
    return {
        "images_per_cpu_s": statistics.median(per_cpu),
        "images_per_cpu_s_min": min(per_cpu),
        "images_per_cpu_s_max": max(per_cpu),
        "images_per_s": statistics.median(turn.images_per_s for turn in turns),
    }


def ratio(ours: Sequence[Turn], theirs: Sequence[Turn]) -> dict[str, float]:
    """Ours over theirs in images per CPU-second (and per wall second), round by round: the median, and the extremes."""
    pairs = list(zip(ours, theirs, strict=True))
    per_cpu = [a.images_per_cpu_s / b.images_per_cpu_s for a, b in pairs]
    wall = statistics.median(a.images_per_s / b.images_per_s for a, b in pairs)
    return {"per_cpu_s": statistics.median(per_cpu), "min": min(per_cpu), "max": max(per_cpu), "per_s": wall}


def run_module(python: Path, *arguments: str, timeout_s: float = 180.0) -> str:
    """Standard output of `python -m ...`, with the modules beside this one at hand."""
    command = [str(python), "-m", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=_environment())
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"{arguments[0]} took more than {timeout_s:g} s") from None
    if done.returncode:
        raise ProcessFailed(f"{arguments[0]} ended: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return done.stdout


def _environment() -> dict[str, str]:
    paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def say(line: str) -> None:
    """A line of progress, on standard error."""
    print(f"bench-augment: {line}", file=sys.stderr, flush=True)
