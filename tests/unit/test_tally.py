"""Shares of passes that are added up: what is told, when, and what is not told."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from hetero_tfdata.cluster import Host
from hetero_tfdata.cluster.topology import Ranks
from hetero_tfdata.launch.health import HealthServer
from hetero_tfdata.service.account import Account
from hetero_tfdata.service.pulse import Pass
from hetero_tfdata.service.rows import Extent
from hetero_tfdata.service.shares import Share, decode
from hetero_tfdata.service.status import ServerStatus
from hetero_tfdata.service.tally import Tally
from support import free_blocks

WORKER = ServerStatus("worker 1", 18111, True, True, 0, 60, 1.0, 1.0)
DISPATCHER = ServerStatus("dispatcher", 18100, True, True, 3, 0, 1.0, 1.0)


def share(rank: int, rows: int, state: str = "ended", **other) -> Share:
    return dataclasses.replace(Share("train", 1, rank, rows // 10, rows, state, 1000, False), **other)


class Job:
    """A tally of so many ranks, its log, and a data host whose worker can die."""

    def __init__(self, ranks: int) -> None:
        self.said: list[str] = []
        self.workers = [DISPATCHER, WORKER]
        self.tally = Tally(ranks, self.said.append, lambda: {"algo-1": self.workers})

    def worker_dies(self) -> None:
        self.workers = [DISPATCHER, dataclasses.replace(WORKER, restarts=self.workers[1].restarts + 1)]


@pytest.fixture
def two() -> Job:
    return Job(2)


def test_a_loss_is_told_once_when_all_ranks_have_read_to_the_end(two):
    two.tally.add(share(0, 300, "open"))
    two.worker_dies()
    two.tally.look()
    assert two.said == [
        "worker 1 of algo-1 was started again: the rows that it had in work do not come in this pass; they are counted at its "
        'end (at most once: README, "What is guaranteed")'
    ]
    two.tally.add(share(1, 463))
    two.tally.add(share(0, 500))
    two.tally.add(share(0, 500))
    two.tally.close()
    assert two.said[1:] == [
        "train, pass 1: 37 of 1,000 rows did not come: worker 1 of algo-1 was started again (at most once: README, "
        '"What is guaranteed")',
        "the workers made 60 batches and the ranks got 96: the others were lost, were joined with those of another worker, or "
        "nobody had asked for them yet",
    ]
    assert two.tally.report() == {
        "lost": [{"stream": "train", "pass": 1, "rows": 37, "of": 1000}],
        "restarted": {"worker 1 of algo-1": 1},
    }


def test_what_is_whole_or_can_not_be_known_is_not_told(two):
    two.worker_dies()
    two.tally.look()  # before anybody reads
    two.tally.add(share(0, 400))
    two.tally.add(share(1, 600))
    two.tally.add(share(0, 400, number=2))
    two.tally.add(share(1, 500, "left", number=2))  # broken off: nobody knows what its buffers held
    two.tally.add(share(0, 100, number=3, expected=None))
    two.tally.add(share(1, 100, number=3, expected=None))
    assert two.said == []
    assert two.tally.report() == {"lost": [], "restarted": {"worker 1 of algo-1": 1}}


def test_a_stream_of_the_leader_alone_is_judged_at_the_end_of_the_job(two):
    two.tally.add(share(0, 990, stream="validation"))
    assert two.said == []
    two.tally.close()
    assert two.said == [
        "validation, pass 1: 10 of 1,000 rows did not come: no worker is known to have died; look at the hosts' logs "
        '(at most once: README, "What is guaranteed")'
    ]


def test_a_dataset_that_does_not_show_its_rows():
    job = Job(1)
    job.tally.add(share(0, 10, "open", expected=None))
    job.worker_dies()
    job.tally.look()
    assert "how many is not known, as the dataset does not show its rows" in job.said[0]


def test_remainders_that_are_dropped_are_no_loss_by_themselves():
    job = Job(1)
    job.tally.add(share(0, 990, drops_remainder=True))
    assert job.said == []
    job.worker_dies()
    job.tally.add(share(0, 960, number=2, drops_remainder=True))
    assert job.said[-1].startswith(
        "train, pass 2: up to 40 of 1,000 rows did not come, the remainders that batches drop included: worker 1 of algo-1 was"
    )


def test_without_hosts_to_ask():
    said: list[str] = []
    Tally(1, said.append, dict).add(share(0, 990))
    assert "10 of 1,000 rows did not come: a worker must have died; nobody tells which one" in said[0]


class _Pulse:
    """Passes as they are told."""

    def __init__(self) -> None:
        self.seen: list[Pass] = []

    def passes(self) -> list[Pass]:
        return self.seen


def test_ranks_tell_the_leader_over_its_health_port():
    host = Host("algo-2", "127.0.0.1", free_blocks(1)[0])
    pulse = _Pulse()
    pulse.seen = [Pass(3, 30, "open")]
    account = Account("train", pulse, Extent(1000, True), Ranks(1, 2, 1, 2), host, None)
    account.look()  # nobody there yet
    taken: list[Share] = []
    with HealthServer(host) as health:
        health.take_shares(taken.append)
        for _ in range(50):
            account.look()
            if taken:
                break
            threading.Event().wait(0.2)
        pulse.seen = [Pass(4, 40, "open")]
        account.look()
        assert [one.rows for one in taken] == [30], "each state once"
        pulse.seen = [Pass(5, 45, "ended"), Pass(1, 10, "open")]
        account.look()
        account.close()
    assert taken[1:] == [
        Share("train", 1, 1, 5, 45, "ended", 1000, False),
        Share("train", 2, 1, 1, 10, "open", 1000, False),
        Share("train", 2, 1, 1, 10, "open", 1000, False),
    ]


def test_one_rank_by_itself_adds_up_here(caplog):
    pulse = _Pulse()
    pulse.seen = [Pass(5, 45, "ended")]
    Account("train", pulse, Extent(50, True), Ranks(), None, None).look()
    assert "train, pass 1: 5 of 50 rows did not come" in caplog.text


def test_ranks_that_nobody_adds_up_tell_no_number(caplog):
    pulse = _Pulse()
    pulse.seen = [Pass(5, 45, "ended")]
    account = Account("train", pulse, Extent(50, True), Ranks(0, 2, 0, 2), None, None)
    account.look()
    assert caplog.text == ""


@pytest.mark.parametrize("message", [b"", b"[]", b"{}", b'{"stream": 1}'])
def test_what_is_no_share(message):
    with pytest.raises((ValueError, TypeError)):
        decode(message)


def test_a_job_is_endless_while_all_its_open_passes_are(two):
    assert not two.tally.is_endless, "nobody reads yet"
    two.tally.add(share(0, 300, "open", endless=True))
    assert two.tally.is_endless
    two.tally.add(share(1, 300, "open", stream="validation", number=2))
    assert not two.tally.is_endless, "the validation would wait for a worker that is gone"
    two.tally.add(share(1, 300, "ended", stream="validation", number=2))
    assert two.tally.is_endless


def test_a_job_falls_back_while_all_its_open_passes_do(two):
    assert not two.tally.falls_back
    two.tally.add(share(0, 300, "open", falls_back=True))
    assert two.tally.falls_back
    two.tally.add(share(1, 300, "open", stream="validation", number=2))
    assert not two.tally.falls_back, "the validation would wait for the service"
