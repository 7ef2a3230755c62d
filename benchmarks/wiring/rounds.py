"""Turns of all contenders in paired rounds, and what becomes of them: medians, and medians of each round's ratio."""

from __future__ import annotations

import contextlib
import json
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentation.measure import START_S, TURN_S, WARM_UP_TURNS, Contender, Process

from wiring.contenders import Way

__all__ = ["Fleet", "Receiver", "Turn", "figures", "fleet", "ratio", "run"]


@dataclass(frozen=True)
class Turn:
    """What a number of images cost on the way: wall seconds, CPU seconds of the receiving and of the sending process."""

    images: int
    wall_s: float
    client_cpu_s: float
    worker_cpu_s: float

    @property
    def images_per_s(self) -> float:
        """Per wall second."""
        return self.images / self.wall_s

    @property
    def client_us_per_image(self) -> float:
        """CPU microseconds of the receiving process."""
        return self.client_cpu_s / self.images * 1e6


class Receiver(Process):
    """A contender's receiving process, stopped but during its turns; its sender then has nobody to send to."""

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its reply to one request."""
        assert self._child.stdin is not None
        self._child.send_signal(signal.SIGCONT)
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._failed("ended") from None
        reply = self._reply(TURN_S)
        self._stop()
        return reply

    def take(self, batches: int) -> Turn:
        """Has it receive that many batches."""
        return Turn(**self.ask(batches=batches))


class Fleet(Process):
    """A process of servers, which is never stopped."""

    def places(self) -> dict[str, Any]:
        """Where they are, once they serve."""
        return self._reply(START_S)


@contextlib.contextmanager
def fleet(name: str, logs: Path, *arguments: str) -> Iterator[tuple[Fleet, dict[str, Any], Receiver]]:
    """A fleet, its places, and the process that receives from it; both ended on the way out.

    Args:
        name: of the log files.
        logs: their folder.
        arguments: of wiring.fleet.
    """
    with contextlib.ExitStack() as stack:
        sides: list[Any] = []
        for kind, side, *words in ((Fleet, "fleet", *arguments), (Receiver, "consumers")):
            contender = Contender(f"{name}-{side}", f"{name}, {side}", 0, ("-m", f"wiring.{side}", *words))
            sides.append(kind(contender, Path(sys.executable), logs / f"{contender.name}.log"))
            stack.callback(sides[-1].end)
        servers, receiver = sides
        places = servers.places()
        receiver.wait_ready()
        yield servers, places, receiver


def run(
    ways: Sequence[Way], batch: int, rounds: int, file: Path, logs: Path, say: Callable[[str], None]
) -> dict[str, list[Turn]]:
    """The turns of each contender by name, one a round; every second round in the opposite order."""
    turns: dict[str, list[Turn]] = {way.name: [] for way in ways}
    with contextlib.ExitStack() as stack:
        receivers: list[tuple[Way, Receiver]] = []
        for way in ways:
            command = ("-m", "wiring.child", way.name, str(file), str(batch))
            contender = Contender(way.name, way.label, way.images // batch, command)
            receivers.append((way, Receiver(contender, Path(sys.executable), logs / f"wire-{way.name}-{batch}.log")))
            stack.callback(receivers[-1][1].end)
        for _, receiver in receivers:
            receiver.wait_ready()
        for way, receiver in receivers:
            say(f"batches of {batch}: warming up {way.name}")
            for _ in range(WARM_UP_TURNS):
                receiver.take(way.images // batch)
        for number in range(rounds):
            for way, receiver in receivers if number % 2 == 0 else reversed(receivers):
                turn = receiver.take(way.images // batch)
                turns[way.name].append(turn)
                say(f"batches of {batch}: round {number + 1} of {rounds}, {way.name}: {turn.images_per_s:,.0f} images/s")
    return turns


def figures(way: Way, turns: Sequence[Turn]) -> dict[str, Any]:
    """Medians over the rounds, and the extremes of the rate. A GB is of the dtype that travels."""
    rates = [turn.images_per_s for turn in turns]
    image_gb = way.image_bytes / 1e9
    return {
        "label": way.label,
        "dtype": way.dtype,
        "images_per_s": statistics.median(rates),
        "images_per_s_min": min(rates),
        "images_per_s_max": max(rates),
        "gb_per_s": statistics.median(rates) * image_gb,
        "client_cpu_s_per_gb": statistics.median(turn.client_cpu_s / turn.images for turn in turns) / image_gb,
        "worker_cpu_s_per_gb": statistics.median(turn.worker_cpu_s / turn.images for turn in turns) / image_gb,
        "client_us_per_image": statistics.median(turn.client_us_per_image for turn in turns),
        "turns": [vars(turn) for turn in turns],
    }


def ratio(turns: Mapping[str, Sequence[Turn]], ours: str, theirs: str) -> dict[str, Any]:
    """Ours over theirs, round by round: the median of images/s with its extremes, and of the client's CPU per image."""
    pairs = list(zip(turns[ours], turns[theirs], strict=True))
    rates = [a.images_per_s / b.images_per_s for a, b in pairs]
    return {
        "ours": ours,
        "theirs": theirs,
        "images_per_s": statistics.median(rates),
        "min": min(rates),
        "max": max(rates),
        "client_cpu": statistics.median(a.client_us_per_image / b.client_us_per_image for a, b in pairs),
    }
