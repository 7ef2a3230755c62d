"""What came of the rows of each pass, over all ranks: how many did not come, and which worker they were lost with.

tf.data service says nothing of it. A worker that dies takes along what it had in work: elements that it had made and nobody had
fetched, and the rest of the source that it was reading. Where the dataset shows how many rows a pass has, the loss is counted
when every rank has read to the end; else it is only said that there is one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hetero_tfdata.service.shares import Share
from hetero_tfdata.service.status import ServerStatus

__all__ = ["Tally"]

_SEE = 'at most once: README, "What is guaranteed"'
# A death belongs to a pass that begins no later than this after it: hosts and ranks are looked at in turns.
_SLACK_S = 10.0


class Tally:
    """Adds up the shares of a job's ranks. May be used from any thread.

    Args:
        ranks: how many there are.
        log: takes a line for each loss.
        ask: the servers of each host as they are now, as far as they answer.
    """

    def __init__(self, ranks: int, log: Callable[[str], None], ask: Callable[[], Mapping[str, Sequence[ServerStatus]]]) -> None:
        self._ranks = ranks
        self._log = log
        self._ask = ask
        self._lock = threading.RLock()
        self._shares: dict[tuple[str, int], dict[int, Share]] = {}
        self._began: dict[tuple[str, int], float] = {}
        self._lost: dict[tuple[str, int], int] = {}
        self._restarts: dict[tuple[str, str], int] = {}
        self._deaths: list[tuple[float, str]] = []
        self._made: dict[str, int] = {}

    def add(self, share: Share) -> bool:
        """Takes a rank's share, which replaces its earlier ones of that pass; True."""
        with self._lock:
            key = (share.stream, share.number)
            self._began.setdefault(key, time.monotonic())
            shares = self._shares.setdefault(key, {})
            shares[share.rank] = share
            if len(shares) == self._ranks:
                self._judge(key)
        return True

    def look(self) -> None:
        """Asks the hosts how their workers are, and tells of one that was started again while a pass was open."""
        told = self._ask()
        with self._lock:
            for host, servers in told.items():
                workers = [server for server in servers if server.name != "dispatcher"]
                self._made[host] = sum(worker.batches_served for worker in workers)
                for worker in workers:
                    before = self._restarts.get((host, worker.name), 0)
                    self._restarts[host, worker.name] = worker.restarts
                    if worker.restarts > before:
                        self._mourn(f"{worker.name} of {host}")

    def close(self) -> None:
        """The end of the job: passes that only some ranks read are judged as well."""
        self.look()
        with self._lock:
            for key in self._shares:
                self._judge(key)
            shares = [share for shares in self._shares.values() for share in shares.values()]
            if self._deaths and self._made and shares:
                got = sum(share.elements for share in shares)
                self._log(
                    f"the workers made {sum(self._made.values()):,} batches and the ranks got {got:,}: the others were lost, "
                    "were joined with those of another worker, or nobody had asked for them yet"
                )

    @property
    def is_endless(self) -> bool:
        """Whether passes are open, and none of them has an end that would wait for a worker that is gone."""
        return self._open(lambda share: share.endless)

    @property
    def falls_back(self) -> bool:
        """Whether passes are open, and all of them go on without any worker."""
        return self._open(lambda share: share.falls_back)

    def _open(self, meets: Callable[[Share], bool]) -> bool:
        with self._lock:
            open_ = [share for shares in self._shares.values() for share in shares.values() if share.state == "open"]
            return bool(open_) and all(meets(share) for share in open_)

    def report(self) -> dict[str, Any]:
        """For a file: the passes that lost rows, and the workers that were started again."""
        with self._lock:
            return {
                "lost": [
                    {"stream": stream, "pass": number, "rows": rows, "of": self._expected(stream, number)}
                    for (stream, number), rows in self._lost.items()
                ],
                "restarted": {f"{worker} of {host}": n for (host, worker), n in self._restarts.items() if n},
            }

    def _mourn(self, who: str) -> None:
        self._deaths.append((time.monotonic(), who))
        open_ = [key for key, shares in self._shares.items() if any(share.state == "open" for share in shares.values())]
        if not open_:
            return
        counted = all(self._expected(*key) is not None for key in open_)
        how_many = "they are counted at its end" if counted else "how many is not known, as the dataset does not show its rows"
        self._log(f"{who} was started again: the rows that it had in work do not come in this pass; {how_many} ({_SEE})")

    def _judge(self, key: tuple[str, int]) -> None:
        """Counts, once, what did not come, if everybody who began the pass has read to its end."""
        shares, expected = self._shares[key].values(), self._expected(*key)
        if key in self._lost or expected is None or any(share.state != "ended" for share in shares):
            return
        lost = expected - sum(share.rows for share in shares)
        if lost <= 0:
            return
        self.look()
        died = dict.fromkeys(who for when, who in self._deaths if when > self._began[key] - _SLACK_S)
        dropped = any(share.drops_remainder for share in shares)
        if dropped and not died:
            return
        self._lost[key] = lost
        number = f"up to {lost:,}" if dropped else f"{lost:,}"
        note = ", the remainders that batches drop included" if dropped else ""
        if died:
            cause = f"{', '.join(died)} was started again"
        elif self._restarts:
            cause = "no worker is known to have died; look at the hosts' logs"
        else:
            cause = "a worker must have died; nobody tells which one"
        self._log(f"{key[0]}, pass {key[1]}: {number} of {expected:,} rows did not come{note}: {cause} ({_SEE})")

    def _expected(self, stream: str, number: int) -> int | None:
        return next((share.expected for share in self._shares[stream, number].values() if share.expected is not None), None)
