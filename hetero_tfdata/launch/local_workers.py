"""Workers on the training hosts of a heterogeneous job, beside the training, on the CPUs that it leaves idle.

They are processes of their own, at the lowest priority: they helped as much as a worker inside the training process (1.75 and
1.77 times the steps a second of a training that waits for its input) and left the training's own work on the CPU as it was
(0.98 of its time), where the one inside, which shares its priority and its thread pools, made it 1.73 times as long (`make
bench-local_workers`, 2 CPUs, TF 2.15.1, 2026-11-24). tf.data service gives a worker that
registers in the midst of an epoch its share of what is left. The other way is closed: a worker that has served and goes away
holds up a finite epoch, so it is started again on its port as often as it takes, and stays until no rank reads any more.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator

from hetero_tfdata.errors import HeteroTFDataError, JobError
from hetero_tfdata.launch.health import HealthServer
from hetero_tfdata.launch.job import Job
from hetero_tfdata.launch.outcome import write_served
from hetero_tfdata.service.cpus import idle_cpus, usable_cpus
from hetero_tfdata.service.demand import Demand
from hetero_tfdata.service.functions import Functions
from hetero_tfdata.service.status import ask_status
from hetero_tfdata.service.supervisor import RestartPolicy, Supervisor
from hetero_tfdata.service.worker_count import worker_count

__all__ = ["local_workers", "wanted"]

# The training wins: beside a thread of niceness 0 one of 19 gets 15 / 1024 of a CPU (sched(7), the kernel's weights).
_NICENESS = 19
# A worker that never served has no part of an epoch yet: nothing waits for it.
_POLICY = RestartPolicy(max_restarts=sys.maxsize, max_failed_starts=2)
_ASK_S = 2.0
_JOIN_S = 5.0


def wanted(job: Job) -> bool:
    """Whether this process is to start workers beside the training: the first rank of each training host, if asked."""
    return job.local_workers != 0 and job.cluster.is_heterogeneous and job.cluster.ranks.local_rank == 0


@contextlib.contextmanager
def local_workers(job: Job, health: HealthServer) -> Iterator[Callable[[], None]]:
    """Workers beside the training on this host, as many as the job says, or as fit into what is idle once batches flow.

    Nothing waits for them, and no failure of theirs is one of the training: it is logged.

    Yields:
        A function that ends them, and writes what they served into the host's report; leaving the context calls it as well.
    """
    if not wanted(job):
        if job.local_workers != 0 and not job.cluster.is_heterogeneous:
            job.log("--local-workers: this job has no data hosts, so it changes nothing")
        yield lambda: None
        return
    stopped = threading.Event()
    runner = threading.Thread(target=_run, args=(job, health, stopped), daemon=True)
    runner.start()

    def end() -> None:
        stopped.set()
        runner.join(timeout=_JOIN_S)

    try:
        yield end
    finally:
        end()


def _run(job: Job, health: HealthServer, stopped: threading.Event) -> None:
    count = _fitting(job, stopped) if job.local_workers is None else job.local_workers
    if not count or stopped.is_set():
        return

    def give_up(error: HeteroTFDataError) -> None:
        job.log(f"a local worker is given up, the training goes on: {error}")

    modules, functions = _demanded(job)
    try:
        supervisor = Supervisor.for_host(
            job.cluster,
            log=lambda line: job.log(f"local {line}"),
            preload=[*job.preload, *modules],
            functions=functions,
            modules_in=job.script_folder,
            workers=count,
            on_failure=give_up,
            policy=_POLICY,
            niceness=_NICENESS,
        )
    except HeteroTFDataError as error:
        job.log(f"no local workers, the training goes on: {error}")
        return
    try:
        with supervisor:
            health.show(supervisor.status)
            health.take_demands(supervisor.meet)
            _catch_up(job, supervisor, stopped)
            stopped.wait()
    finally:
        write_served(job.cluster, supervisor)
        supervisor.close()


def _demanded(job: Job) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modules and Python functions of the datasets that these workers will get parts of, as the dispatcher remembers them."""
    assert job.cluster.dispatcher_host is not None
    with contextlib.suppress(JobError):
        dispatcher = ask_status(job.cluster.dispatcher_host, _ASK_S).dispatcher
        if dispatcher is not None:
            return dispatcher.modules, dispatcher.functions
    return (), ()


def _catch_up(job: Job, supervisor: Supervisor, stopped: threading.Event) -> None:
    """Imports what was demanded while the workers started: the leader asks those hosts whose workers have registered."""
    try:
        supervisor.wait_until_ready(job.deadlines.servers_s, unless=stopped.is_set)
        if not stopped.is_set():
            modules, functions = _demanded(job)
            demands = [
                Demand(dict.fromkeys(modules, ())),
                *(Demand(functions=Functions.of(json.loads(one))) for one in functions),
            ]
            for demand in demands:
                supervisor.meet(demand, job.deadlines.servers_s)
    except HeteroTFDataError as error:
        if error is not supervisor.failure:  # which give_up has told
            job.log(f"local workers: {error}")


def _fitting(job: Job, stopped: threading.Event) -> int:
    """As many workers as the idle CPUs allow, measured while the training reads batches; 0 if it ended first.

    The first window in which batches flowed is the start of the training, with imports and compilations. The second counts.
    """
    window_s = job.deadlines.idle_window_s
    served, windows = _batches_served(job), 0
    while True:
        idle = idle_cpus(window_s, stopped)
        if idle is None:
            return 0
        before, served = served, max(served, _batches_served(job))
        windows += served > before
        if windows == 2:
            count = worker_count(int(idle)) if idle >= 1 else 0
            how_many = f"{count or 'no'} local worker{'' if count == 1 else 's'}"
            job.log(f"{how_many}: {idle:.3g} of {usable_cpus()} CPUs idle over {window_s:g} s")
            return count


def _batches_served(job: Job) -> int:
    """Batches that the data hosts have served so far, as far as they answer."""
    total = 0
    for host in job.cluster.data_hosts:
        with contextlib.suppress(JobError):
            total += sum(worker.batches_served for worker in ask_status(host, _ASK_S).workers)
    return total
