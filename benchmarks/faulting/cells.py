"""The fault matrix: what happens to a job, and what must follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CELLS", "Cell"]

_AT_S = 25  # from the start of the first host: three hosts on two CPUs read batches by then
_LATE_S = 60


@dataclass(frozen=True)
class Cell:
    """One fault and what must follow.

    Attributes:
        row: of the matrix.
        name: for --only.
        must: what must happen: "resume" (exit 0 everywhere, no row twice, the struck workers make batches again within the
            limit of their return), "go on" (exit 0, no row twice, no longer without a batch than the limit), "end" (every host
            that is left ends with another code than 0 within the limit of the fault and says why), "succeed" (every data host
            exits 0 within the limit of the training's end), "keep pace" (exit 0, and while garbage is sent steps a second are
            fewer by no more than that part).
        within_s: the limit.
        faults: on schedule; "{time}" is the usual one.
        told: what the failure files of all hosts that are left, or a log of "resume", "go on" and "succeed", must hold.
        arguments: of the job's launcher and script.
        ranks: training processes; 1: no MPI.
        gone: hosts ("data_group/2") that the fault takes away: nothing is asked of them.
        memory_gib: of each host.
        repeats: rows may come twice.
        token: the job has one.
        quick: `make test` has it too, with shorter times and without namespaces.
    """

    row: str
    name: str
    must: str
    within_s: float
    faults: tuple[str, ...] = ()
    told: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ranks: int = 1
    gone: tuple[str, ...] = ()
    memory_gib: float | None = None
    repeats: bool = False
    token: bool = False
    quick: bool = False

    def schedule(self, at_s: float = _AT_S, late_s: float = _LATE_S) -> tuple[str, ...]:
        """The faults with their times."""
        times = {"time": at_s, "later": at_s + 3, "again": at_s + 15, "late": late_s}
        return tuple(fault.format(**{name: f"{seconds:g}s" for name, seconds in times.items()}) for fault in self.faults)


_WORKER = "worker killed / frozen 20 s / out of memory"
_ALL = "all workers of a host killed at once; twice in a row"
_DISPATCHER = "dispatcher killed, killed again during recovery"
_CUT = "link of a data host cut 15 s, then back"
_GONE = "link cut for good; data host vanished"
_DISPATCHER_HOST = "dispatcher's host vanished"
_SCRIPT = "script raises; sys.exit(3); rank killed; all ranks killed"
_TRAINER = "training host vanished"
_PORT = "port taken on one host"
_DISK = "work_dir's disk full, read-only"
# Not of a host against tf.data service's ports alone: 20,000 descriptors, held for 120 s each (fence.py), are 166 a second.
_GARBAGE = "1,000 connections of garbage a second for 30 s"
_STRANGERS = "stop request without token; from a foreign address; garbage on every port"

_FIRST, _SECOND = "data_group", "data_group/2"
_KILL = "{time}:kill-worker:data_group/2"
_KILL_AGAIN = "{again}:kill-worker:data_group/2"
_ENDLESS = {"seconds": 600}  # of a job that the fault has to end
_ON = {"seconds": 60, "endless": 1}  # until well after a loss


def _restarts(count: int) -> dict[str, int]:
    """Of a job that reads until so many servers were started again and make batches."""
    return {"until-restarts": count}


CELLS = (
    Cell(_WORKER, "worker-killed", "resume", 10, (_KILL,), arguments=_restarts(1), quick=True),
    Cell(_WORKER, "worker-frozen", "resume", 10, ("{time}:freeze:20s:data_group/2",), arguments={"seconds": 60}),
    Cell(
        _WORKER,
        "worker-out-of-memory",
        "resume",
        10,
        told="was killed by signal 9",
        arguments={**_restarts(1), "hog-gib": 6},
        memory_gib=3,
    ),
    Cell(_ALL, "workers-killed", "resume", 10, (_KILL,) * 2, arguments={**_restarts(2), "workers": 2}, quick=True),
    Cell(
        _ALL,
        "workers-killed-twice",
        "resume",
        10,
        (_KILL, _KILL, _KILL_AGAIN, _KILL_AGAIN),
        arguments={**_restarts(4), "workers": 2},
    ),
    Cell(_DISPATCHER, "dispatcher-killed", "go on", 20, ("{time}:kill-dispatcher",), arguments=_restarts(1), quick=True),
    Cell(
        _DISPATCHER,
        "dispatcher-killed-again",
        "go on",
        20,
        ("{time}:kill-dispatcher", "{later}:kill-dispatcher"),
        arguments=_restarts(2),
    ),
    Cell(_CUT, "cut", "resume", 30, ("{time}:cut:15s:data_group/2",), arguments={"seconds": 75}),
    Cell(_GONE, "cut-for-good-endless", "go on", 20, ("{time}:cut:data_group/2",), "goes on with", _ON, gone=(_SECOND,)),
    Cell(
        _GONE,
        "data-host-vanished-endless",
        "go on",
        20,
        ("{time}:kill-host:data_group/2",),
        "goes on with",
        _ON,
        gone=(_SECOND,),
        quick=True,
    ),
    Cell(_GONE, "cut-for-good-finite", "end", 60, ("{time}:cut:data_group/2",), "algo-", _ENDLESS),
    Cell(_GONE, "data-host-vanished-finite", "end", 60, ("{time}:kill-host:data_group/2",), "algo-", _ENDLESS, gone=(_SECOND,)),
    Cell(
        _GONE,
        "all-data-hosts-vanished-local",
        "go on",
        60,
        ("{time}:kill-host:data_group", "{time}:kill-host:data_group/2"),
        "makes its batches itself",
        {"seconds": 60, "on-loss": "local"},
        gone=(_FIRST, _SECOND),
        repeats=True,
    ),
    Cell(
        _DISPATCHER_HOST,
        "dispatcher-host-vanished",
        "end",
        60,
        ("{time}:kill-host:data_group",),
        "algo-",
        _ENDLESS,
        gone=(_FIRST,),
        quick=True,
    ),
    Cell(_DISPATCHER_HOST, "data-launcher-killed", "end", 60, (), "algo-", {**_ENDLESS, "die": _FIRST}, gone=(_FIRST,)),
    Cell(_SCRIPT, "script-raises", "end", 30, (), "ValueError: no such layer: conv9", {"seconds": 3, "end": "raise"}),
    Cell(_SCRIPT, "exit-3", "end", 30, (), "exited with code 3", {"seconds": 3, "end": "3"}),
    Cell(_SCRIPT, "rank-killed", "end", 30, ("{time}:kill-rank:1",), "rank 1", _ENDLESS, ranks=2, quick=True),
    Cell(
        _SCRIPT,
        "rank-out-of-memory",
        "end",
        30,
        told="killed by signal 9",
        arguments={"seconds": 3, "end": "hog"},
        ranks=2,
        memory_gib=3,
    ),
    Cell(_SCRIPT, "all-ranks-killed", "end", 30, ("{time}:kill-rank:0", "{time}:kill-rank:1"), arguments=_ENDLESS, ranks=2),
    Cell(
        _TRAINER,
        "training-host-vanished",
        "end",
        60,
        ("{time}:kill-host:dnn_group",),
        "lost algo-",
        _ENDLESS,
        gone=("dnn_group",),
    ),
    Cell(
        _TRAINER,
        "training-launcher-killed",
        "end",
        60,
        (),
        "lost algo-",
        {**_ENDLESS, "die": "dnn_group"},
        gone=("dnn_group",),
        quick=True,
    ),
    Cell("training succeeded", "succeeded", "succeed", 10, arguments={"seconds": 5}, quick=True),
    Cell("training succeeded", "two-ranks-succeeded", "succeed", 10, arguments={"seconds": 5}, ranks=2),
    Cell(
        "one host never comes up",
        "never-up",
        "end",
        60,
        ("0s:kill-host:data_group/2",),
        "did not come up within",
        {**_ENDLESS, "first-contact-s": 45},
        gone=(_SECOND,),
        quick=True,
    ),
    Cell(
        "a host comes up 60 s late",
        "late",
        "resume",
        10,
        ("0s:freeze:{late}:data_group/2",),
        arguments={"until-all": 1},
        quick=True,
    ),
    Cell(
        _PORT,
        "health-port-taken",
        "end",
        60,
        told="is in use by process ",
        arguments={**_ENDLESS, "occupy": 1},
        quick=True,
    ),
    Cell(_PORT, "worker-port-taken", "go on", 20, arguments={"seconds": 5, "occupy": 10}),
    Cell(_DISK, "disk-full", "end", 60, ("{time}:disk-full:data_group",), "No space left on device", _ENDLESS),
    Cell(
        _DISK,
        "read-only",
        "end",
        60,
        told="no folder for the dispatcher's journal",
        arguments={**_ENDLESS, "read-only": 1},
        quick=True,
    ),
    Cell(
        _STRANGERS,
        "strangers-and-garbage",
        "go on",
        5,
        told="strangers were refused",
        arguments={"seconds": 40, "garbage": 100, "strangers": 1},
        token=True,
        quick=True,
    ),
    *(
        Cell(
            _GARBAGE,
            f"garbage-of-a-{whom}-{where}",
            "keep pace",
            0.05,
            arguments={"seconds": 70, "garbage": 1000, "garbage-to": where, "garbage-from": whom},
            token=True,
        )
        for whom, wheres in (("stranger", ("all", "dispatchers", "health", "workers")), ("host", ("all", "health")))
        for where in wheres
    ),
    Cell(
        "wrong TensorFlow on the data hosts",
        "another-tensorflow",
        "end",
        60,
        told="a graph may hold operations that the other version lacks",
        arguments={**_ENDLESS, "data-python": ""},
        quick=True,
    ),
)
