"""distribute(): the one changed line of a training script."""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hetero_tfdata.cluster.topology import Cluster, Host, Role
from hetero_tfdata.errors import ConfigurationError, DatasetError
from hetero_tfdata.service import preflight
from hetero_tfdata.service.cache import Cache
from hetero_tfdata.service.demand import DATASET_FN
from hetero_tfdata.service.own_servers import own_servers, serve_from_here
from hetero_tfdata.service.servers import SERVED_COUNTER_FD
from hetero_tfdata.service.wire import Wire

if TYPE_CHECKING:
    import tensorflow as tf

    from hetero_tfdata.service.fallback import Fallback
    from hetero_tfdata.service.rows import Extent

__all__ = ["LAUNCHED_VARIABLE", "counted", "distribute"]

# Set for the training script by `launch`, which then owns this host's servers.
LAUNCHED_VARIABLE = "HETERO_TFDATA_LAUNCHED"

_PROCESSING_MODES = ("dynamic", "off")
_ON_SERVICE_LOSS = ("fail", "local")

_log = logging.getLogger("hetero_tfdata")


def distribute(
    *,
    processing_mode: str = "dynamic",
    job_name: str | None = None,
    compression: str | None = None,
    wire: Wire | None = None,
    service: str | None = None,
    cluster: Cluster | None = None,
    ready_timeout_s: float = 1200.0,
    stall_timeout_s: float = 300.0,
    on_service_loss: str = "fail",
    coordinated: bool = False,
    cache: Cache | str | None = None,
    dataset_fn: str | None = None,
    strict: bool = False,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Runs a dataset where the job's CPUs are, for `Dataset.apply`.

    In a heterogeneous job the dataset runs on the data hosts. With several ranks and no data hosts it runs in workers on the
    ranks' own hosts. In both cases all ranks share one stream: each row goes to exactly one rank, whichever asks first, so
    an epoch is one pass over the data for all ranks together. In one process without data hosts (a laptop, a notebook, a
    one-GPU job) the dataset is returned as it is.

    Every rank has to make the same calls in the same order of lines; a call on the leader alone (validation) is fine. Put
    `shuffle`, `repeat` and `batch` before this line; what depends on one place (`take`, `skip`, `enumerate`) after it.
    `repeat` after it gives the same rows, but each pass begins anew: about a second, and the workers' caches are empty again.

    A worker that dies takes along the rows that it had in work. That is logged, with their number where the dataset shows how
    many rows a pass has (rows.py).

    Args:
        processing_mode: "dynamic": the workers split the source files or elements among them, each is seen once per pass;
            "off": each worker runs the whole dataset.
        job_name: shares one stream among all processes that use the same name on the same service; they must pass the same
            dataset and wire. By default a name that is unique to this run and to the line that calls.
        compression: "none", "auto" or "snappy"; wins over the wire's.
        wire: how batches travel, what becomes of the last one, and how many worker processes make them.
        service: "grpc://host:port" of a dispatcher; nothing is then discovered or started, and its servers are told nothing:
            they have to have loaded what custom operations the dataset needs.
        cluster: instead of `Cluster.discover()`.
        ready_timeout_s: seconds to wait for the dispatcher, a worker on every serving host, and rank 0's registration. The
            default is for hosts of one SageMaker job that come up 20 minutes apart.
        stall_timeout_s: seconds that this process may wait for an element, once it reads, while the workers do nothing or can't
            be reached; then it ends with a StalledError. The log says what is the matter after 10 s. Workers that are slow,
            but work, are waited for. The default leaves a worker and a dispatcher time to come back one after the other.
        on_service_loss: "fail": a host that is lost ends the job, unless the dataset has no end and other data hosts are left.
            "local": after 30 s without an element from a service that can't be reached, this process makes the batches itself
            with the same graph, on its own CPUs, to the end of its run: slower, but the job goes on. Each rank reads its share
            of the source, from its beginning: rows of a pass that was interrupted may come once more. The training hosts need
            the data's channels then.
        coordinated: each step's batches come from one worker, one for each rank: with batches sorted by length, all ranks
            work on the same length. The dataset has to be endless and to give as many successive batches of one length as
            there are ranks: `repeat()`, then `bucket_by_sequence_length(..., drop_remainder=True)`, then
            `group_by_window(length, lambda _, batches: batches, window_size=ranks)`. A rank that doesn't read holds up all,
            which ends as a stall does. Batches travel whole.
        cache: "memory", "disk" or a `Cache` with a budget: the results of the deterministic map() steps are kept on the hosts
            that run the workers, so that decoding is paid once and not in every pass. Random operations, and what follows them,
            run in every pass as without it. For this write map(decode), of single records and with nothing random in it,
            before map(augment) and before batch(). The log says what is kept; at the end, and in the host's report, what
            that saved. In one process without data hosts it changes nothing: there `Dataset.cache()` does it.
        dataset_fn: "package.module:make_dataset", a function without arguments that makes the dataset, or another with the
            same Python functions. Needed where numpy_function or py_function call one that can't be imported by its name: one
            that is defined in a function, or has closed over something. The workers import the module from the job's own
            source folder, call it once for its Python functions, and compare each one's name, source, closed-over values, and
            the versions of what its module imports with what is here: anything else is refused. Functions of a module beside
            the script need no `dataset_fn`. They run in the worker processes, each of which has an interpreter of its own.
        strict: raise also for what is otherwise only warned of: what means something else on several workers, or takes much
            of their memory, or a cache that has nothing to keep (`hetero-tfdata check` lists it without running anything).

    Returns:
        A function from dataset to dataset with the same element_spec; the order of elements is not kept, and the cardinality
        is unknown.

    Raises:
        ConfigurationError: an argument, or the cluster's configuration, can't be right; or TensorFlow is missing; or (when
            applied) a host can't load a library of operations that the dataset needs, or has other Python functions.
        DatasetError: (when applied) the dataset can't run on other hosts; names each operation and the way out.
        NotReadyError: (when applied) somebody is missing at the deadline; says who, at what address.
        PortInUseError: (when applied, several ranks without `hetero-tfdata launch`) no port for a server.
    """
    if processing_mode not in _PROCESSING_MODES:
        raise ConfigurationError(
            f"processing_mode: expected one of {', '.join(_PROCESSING_MODES)}, got {processing_mode!r}. The static modes of "
            "tf.data service need a fixed list of workers that read their own files; they do not fit data hosts"
        )
    if on_service_loss not in _ON_SERVICE_LOSS:
        raise ConfigurationError(f"on_service_loss: expected one of {', '.join(_ON_SERVICE_LOSS)}, got {on_service_loss!r}")
    if on_service_loss == "local" and coordinated:
        raise ConfigurationError(
            'on_service_loss="local": expected coordinated=False, got True: ranks that make their batches agree on no length'
        )
    for name, seconds in (("ready_timeout_s", ready_timeout_s), ("stall_timeout_s", stall_timeout_s)):
        if not seconds > 0:
            raise ConfigurationError(f"{name}: expected seconds above 0, got {seconds!r}")
    kept = Cache.of(cache)
    if kept and service is not None:
        raise ConfigurationError(
            "cache: expected None with service=..., whose workers have no folder for it, got both; let distribute() find the "
            "job's own workers, or use Dataset.cache()"
        )
    if dataset_fn is not None and not DATASET_FN.fullmatch(dataset_fn):
        raise ConfigurationError(f'dataset_fn: expected "package.module:function", got {dataset_fn!r}')
    if dataset_fn is not None and service is not None:
        raise ConfigurationError(
            "dataset_fn: expected None with service=..., whose workers are told nothing, got both; let distribute() find the "
            "job's own workers"
        )
    wire = Wire() if wire is None else wire
    if service is not None and wire.workers_per_host is not None:
        raise ConfigurationError(
            f"Wire.workers_per_host={wire.workers_per_host}: the servers at {service} are not this job's own; start "
            "the workers there, and leave it None"
        )
    if compression is not None:
        wire = dataclasses.replace(wire, compression=compression)
    if coordinated:
        wire = dataclasses.replace(wire, keep_batches=True)
    call_name = _call_name()

    def transformation(dataset: tf.data.Dataset) -> tf.data.Dataset:
        here = cluster if cluster is not None else Cluster.discover()
        if here.role is not Role.TRAINING:
            raise ConfigurationError(
                f"distribute() was called on {here.current_host} of group {here.group.name!r}, which has the role "
                f"{here.role.value}: start the script on every host with `hetero-tfdata launch`, which runs it on the "
                "training hosts only"
            )
        if service is None and here.dispatcher_host is None:
            return dataset
        _tensorflow()  # or the error that says what to install
        # on every rank, so that none waits for a leader that refused
        job = preflight.Job.of(
            here,
            processing_mode,
            own_workers=service is None,
            coordinated=coordinated,
            workers_per_host=wire.workers_per_host,
            dataset_fn=dataset_fn,
        )
        # An explicit name is a promise of the caller that all who use it pass the same dataset: the first one registers it.
        registers = here.is_leader or job_name is not None
        needs = preflight.check(dataset, job, strict=strict, quiet=not registers)
        order = _Order(
            processing_mode,
            job_name,
            call_name,
            wire,
            service,
            ready_timeout_s,
            stall_timeout_s,
            on_service_loss == "local",
            coordinated,
            kept,
            strict,
            registers,
            needs,
        )
        return _distributed(dataset, here, order)

    return transformation


@dataclasses.dataclass(frozen=True)
class _Order:
    """What `distribute` was given, the name of its call, whether this rank registers the dataset, and what that needs."""

    processing_mode: str
    job_name: str | None
    call_name: str
    wire: Wire
    service: str | None
    ready_timeout_s: float
    stall_timeout_s: float
    falls_back: bool
    coordinated: bool
    cache: Cache | None
    strict: bool
    registers: bool
    needs: preflight.Needs


def _distributed(dataset: tf.data.Dataset, cluster: Cluster, order: _Order) -> tf.data.Dataset:
    tf = _tensorflow()
    # only now: `import hetero_tfdata` and the unchanged path need no gRPC
    from hetero_tfdata.service.chunks import Passage
    from hetero_tfdata.service.readiness import DispatcherClient, wait_for_dataset, wait_for_workers
    from hetero_tfdata.service.rows import Extent
    from hetero_tfdata.service.splits import in_blocks

    deadline = time.monotonic() + order.ready_timeout_s
    service = order.service
    own_workers = service is None
    # whose health port tells how they are; where a rank owns the servers, that port is its lifeline's
    tellers: tuple[Host, ...] = ()
    if own_workers:
        if cluster.is_heterogeneous or os.environ.get(LAUNCHED_VARIABLE):
            tellers = cluster.serving_hosts
        else:
            serve_from_here(cluster, order.ready_timeout_s, _log.info)
        dispatcher = cluster.dispatcher_host
        assert dispatcher is not None
        service = f"grpc://{dispatcher.address}:{dispatcher.dispatcher_port}"
    assert service is not None
    fallback = _fallback(service) if order.falls_back else None
    if fallback is not None and fallback.is_lost:
        return _local(dataset, cluster, order).prefetch(tf.data.AUTOTUNE)
    # the dispatcher keeps the dataset in a file of that name
    stream = re.sub(r"[^\w.:-]", "_", order.job_name or f"{cluster.run_id}-{order.call_name}")
    passage = Passage.plan(dataset, order.wire)
    # the count stands before the cut: a batch that was served is one of the dataset's, however it travels
    runs = _cached(dataset, order) if order.registers and order.cache else dataset
    if order.registers and order.processing_mode == "dynamic":
        runs = in_blocks(runs)
    packed = passage.pack(counted(tf, runs) if own_workers else runs)
    with DispatcherClient(service) as client:
        if order.registers:
            serving = cluster.serving_hosts if own_workers else ()
            workers = wait_for_workers(client, serving, deadline - time.monotonic(), _log.warning)
            if own_workers and _demand(cluster, order, workers, deadline):
                workers = wait_for_workers(client, serving, deadline - time.monotonic(), _log.warning)
            _require_one_version(tf.__version__, tellers)
            _register(tf, service, packed, stream, order.wire.compression)
            if cluster.is_leader:
                _log.info("%s runs on %d workers: %s; %s", stream, len(workers), ", ".join(workers), passage)
        else:
            wait_for_dataset(client, stream, deadline - time.monotonic(), _log.warning)
    seat = {"consumer_index": cluster.ranks.rank, "num_consumers": cluster.ranks.size} if order.coordinated else {}
    distributed = tf.data.experimental.service.from_dataset_id(
        processing_mode=_sharding_policy(tf, order.processing_mode),
        service=service,
        dataset_id=stream,
        element_spec=packed.element_spec,
        job_name=stream,
        **seat,
    )
    options = tf.data.Options()
    # Every element goes to one rank already; Keras and tf.distribute would otherwise try to shard it once more.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    unpacked = passage.unpack(distributed).with_options(options)
    if fallback is not None:
        unpacked = fallback.attach(unpacked, _local(dataset, cluster, order))
    extent = Extent.of(dataset)
    return _watched(unpacked, order, cluster, stream, service, tellers, extent, fallback).prefetch(tf.data.AUTOTUNE)


def _fallback(service: str) -> Fallback:
    from hetero_tfdata.service.fallback import fallback_of

    return fallback_of(service)


def _local(dataset: tf.data.Dataset, cluster: Cluster, order: _Order) -> tf.data.Dataset:
    """What this rank reads without the service."""
    from hetero_tfdata.service.fallback import share_of

    return share_of(dataset, cluster.ranks) if order.processing_mode == "dynamic" else dataset


def _demand(cluster: Cluster, order: _Order, workers: Sequence[str], deadline_s: float) -> bool:
    """Has the hosts do what the dataset needs; whether it needs anything. Also hosts of the training may have workers
    (`launch --local-workers`), whose number is not the wire's."""
    from hetero_tfdata.service import demand

    demands = []
    for host in cluster.hosts:
        if host in cluster.serving_hosts:
            demands.append((host, demand.Demand(order.needs.libraries, order.wire.workers_per_host, order.needs.functions)))
        elif any(host.owns_worker(address) for address in workers):
            demands.append((host, demand.Demand(order.needs.libraries, functions=order.needs.functions)))
    demands = [(host, what) for host, what in demands if what]
    if demands:
        demand.make(demands, max(0.0, deadline_s - time.monotonic()), _log.warning)
    return bool(demands)


def _cached(dataset: tf.data.Dataset, order: _Order) -> tf.data.Dataset:
    from hetero_tfdata.service.caching import cached

    assert order.cache is not None
    result = cached(dataset, order.cache)
    if not result.keeps and order.strict:
        raise DatasetError(f"cache: {result.summary}")
    _log.log(logging.INFO if result.keeps else logging.WARNING, "distribute(cache=...): %s", result.summary)
    return result.dataset


def _watched(
    dataset: tf.data.Dataset,
    order: _Order,
    cluster: Cluster,
    name: str,
    service: str,
    hosts: Sequence[Host],
    extent: Extent,
    fallback: Fallback | None,
) -> tf.data.Dataset:
    from hetero_tfdata.service.account import Account
    from hetero_tfdata.service.pulse import Pulse
    from hetero_tfdata.service.stalls import Stream, watch

    pulse = Pulse(in_batches=extent.in_batches)
    note = (
        f"Reads are coordinated: one of {cluster.ranks.size} ranks that does not read holds up all" if order.coordinated else ""
    )
    stream = Stream(name, pulse, service, hosts, order.stall_timeout_s, note, fallback)
    if order.processing_mode == "dynamic":  # "off" repeats and loses nothing
        if order.job_name is not None:  # others may read as well
            extent = dataclasses.replace(extent, rows=None)
        launched = bool(os.environ.get(LAUNCHED_VARIABLE)) and cluster.dispatcher_host is not None
        leader = cluster.leader_host if launched else None
        account = Account(name, pulse, extent, cluster.ranks, leader, own_servers(), falls_back=fallback is not None)
        stream.beside, stream.at_end = account.look, account.close
    watch(stream)
    return pulse.attach(dataset)


def _require_one_version(here: str, hosts: Sequence[Host]) -> None:
    from hetero_tfdata.service.versions import other_tensorflows

    others = other_tensorflows(here, hosts)
    if others:
        there = ", ".join(f"{version} on {name}" for name, version in others.items())
        raise ConfigurationError(
            f"TensorFlow {here} here, {there}: a graph may hold operations that the other version lacks or runs differently. "
            "Instead: one image for all hosts, and no TensorFlow in requirements.txt"
        )


def _register(tf: Any, service: str, dataset: tf.data.Dataset, dataset_id: str, compression: str) -> None:
    options = tf.data.Options()
    # Shuffles and random operations have state that tf.data can't carry to a checkpoint; it would warn of each.
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    tf.data.experimental.service.register_dataset(
        service,
        dataset.with_options(options),
        compression=_compression(compression),
        dataset_id=dataset_id,
    )


def _compression(name: str) -> str | None:
    """TensorFlow's word for it."""
    from tensorflow.python.data.experimental.ops import data_service_ops

    # Up to 2.15 "AUTO" is snappy and the only compression; where it isn't, there is a word of its own.
    snappy = getattr(data_service_ops, "COMPRESSION_SNAPPY", "AUTO")
    return {"none": None, "auto": "AUTO", "snappy": snappy}[name]


def counted(tf: Any, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with its last stage counted in each worker process: it appends one byte a batch to a file that the
    supervisor gave the worker, which costs about 20 us a batch (make bench-counter) and no Python."""
    from hetero_tfdata.service.rows import anew

    counter = f"file:///proc/self/fd/{SERVED_COUNTER_FD}"

    def count(*element: Any) -> Any:
        with tf.control_dependencies([tf.print(end="x", output_stream=counter)]):
            counted = anew(element)
        # map takes a tuple apart, also one of one component
        return counted if type(dataset.element_spec) is tuple else counted[0]

    return dataset.map(count)


def _sharding_policy(tf: Any, processing_mode: str) -> Any:
    policies = tf.data.experimental.service.ShardingPolicy
    return {"dynamic": policies.DYNAMIC, "off": policies.OFF}[processing_mode]


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError:
        raise ConfigurationError(
            "distribute() needs TensorFlow, which is not installed: pip install 'hetero-tfdata[tensorflow]'"
        ) from None
    return tensorflow


# --- names: the same in every rank, different for every call ---

_calls: collections.Counter[str] = collections.Counter()


def _call_name() -> str:
    """The calling line and how often it has called: ranks that run the same script agree on it without talking, also when
    the leader alone makes further calls elsewhere."""
    frame = sys._getframe(2)
    place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
    number = _calls[place]
    _calls[place] += 1
    return f"{place}.{number}"
