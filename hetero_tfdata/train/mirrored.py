"""tf.distribute where there is no Horovod: one process on each training host, a replica on each of its accelerators.

strategy = mirrored.strategy()                                    # before any other operation of TensorFlow
dataset = make_dataset(batch_size=256).apply(distribute())        # batches of one replica
batches = mirrored.per_replica(strategy, dataset)
with strategy.scope():
    model = ...
model.fit(batches, steps_per_epoch=100)

SageMaker starts the script once on each training host, and says nothing of TF_CONFIG: it is made of the instance groups, so
that processes are counted as `distribute()` counts them.
"""

from __future__ import annotations

import json
import os

import tensorflow as tf

from hetero_tfdata.cluster.topology import Cluster
from hetero_tfdata.errors import ConfigurationError

__all__ = ["is_leader", "per_replica", "strategy", "unsharded"]


def strategy(cluster: Cluster | None = None) -> tf.distribute.Strategy:
    """MirroredStrategy on one training host, MultiWorkerMirroredStrategy on several, over all GPUs of each (else its CPU).

    Sets TF_CONFIG where several hosts train and nobody has set it.

    Args:
        cluster: None: `Cluster.discover()`.

    Raises:
        ConfigurationError: mpirun or horovodrun started several processes on this host: theirs are Horovod's.
    """
    cluster = cluster or Cluster.discover()
    ranks = cluster.ranks
    if ranks.launcher in ("mpirun", "horovodrun") and ranks.size > 1:
        raise ConfigurationError(
            f"mirrored.strategy: expected one process on each training host, {ranks.launcher} started {ranks.size}; leave the "
            "distribution out of the job, or train with Horovod"
        )
    if ranks.size == 1:
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
        devices = devices or [device.name for device in tf.config.list_logical_devices("CPU")]
        return tf.distribute.MirroredStrategy(devices)
    if "TF_CONFIG" not in os.environ:
        places = [f"{host.address}:{host.strategy_port}" for host in cluster.training_hosts]
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": places}, "task": {"type": "worker", "index": ranks.rank}})
    return tf.distribute.MultiWorkerMirroredStrategy()


def per_replica(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> tf.distribute.DistributedDataset:
    """The dataset for `fit` or a custom loop: each replica takes whole batches of it, in turn.

    Nothing is sharded and no batch is divided: behind `distribute()` every process gets rows of its own already, and
    TensorFlow's auto-sharding would look for files to divide, and on another machine find none.

    Args:
        strategy: as `strategy()` returns it.
        dataset: batches of one replica; endless, or `steps_per_epoch` ends an epoch while all replicas have batches.
    """
    return strategy.distribute_datasets_from_function(lambda context: unsharded(dataset))


def unsharded(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without auto-sharding, for `validation_data` and `evaluate`: a finite one, whose end comes unevenly.

    Keras divides each of its batches among all replicas.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def is_leader(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes reports and checkpoints."""
    return bool(strategy.extended.should_checkpoint)
