"""What Horovod leaves to a Keras training script, the same in every script.

hvd = horovod.init()                       # one GPU per rank; works without a launcher too, as one rank
horovod.broadcast(model)                   # every rank starts as rank 0 does
model.fit(..., callbacks=[
    hvd.callbacks.MetricAverageCallback(),
    horovod.AverageMovingStatistics(),     # or each rank keeps batch-norm statistics of its own
    horovod.LeaderEvaluation(validation),
])
horovod.check_equal_weights(model)
"""

from __future__ import annotations

import hashlib
from types import ModuleType
from typing import Any

import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError, JobError

__all__ = [
    "AverageMovingStatistics",
    "LeaderEvaluation",
    "broadcast",
    "broadcast_value",
    "check_equal_weights",
    "init",
    "load_horovod",
    "peer_failure",
    "weights_fingerprint",
]


def init() -> ModuleType:
    """`horovod.tensorflow.keras`, initialised, with one GPU for this rank where the host has any.

    Started by mpirun or horovodrun, there are as many ranks as they started; started by hand, one.
    """
    load_horovod().init()
    import horovod.tensorflow.keras as hvd

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if hvd.local_rank() >= len(gpus):
            raise ConfigurationError(
                f"{hvd.local_size()} ranks on this host but {len(gpus)} GPUs: start one process per GPU (processes_per_host)"
            )
        gpu = gpus[hvd.local_rank()]
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
    return hvd


def broadcast(model: tf.keras.Model, root_rank: int = 0) -> None:
    """Give every rank the weights and the optimizer's state of one rank, before the first step.

    Horovod's BroadcastGlobalVariablesCallback does so after the first step, which then mixes the gradients of ranks that
    started, or resumed, from different weights.
    """
    hvd = load_horovod()
    hvd.broadcast_variables(model.variables, root_rank)
    optimizer = model.optimizer
    if hasattr(optimizer, "build"):  # Keras's legacy optimizers make their variables in the first step
        optimizer.build(model.trainable_variables)
        hvd.broadcast_variables(_variables(optimizer), root_rank)


def broadcast_value(value: Any, root_rank: int = 0) -> Any:
    """One rank's value, on every rank: the epoch to resume from, say."""
    return load_horovod().broadcast_object(value, root_rank)


def _variables(optimizer: Any) -> list[tf.Variable]:
    variables = optimizer.variables
    return list(variables() if callable(variables) else variables)


class AverageMovingStatistics(tf.keras.callbacks.Callback):
    """Averages what batch normalisation learned of its inputs over the ranks, after every epoch.

    Horovod averages gradients only: without this each rank evaluates and saves the statistics of its own share of the data.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Average every float weight that isn't trained."""
        hvd = load_horovod()
        variables = [variable for variable in self.model.non_trainable_variables if variable.dtype.is_floating]
        if not variables or hvd.size() == 1:
            return
        # One message for all: ResNet50 has 106 of them.
        flat = tf.concat([tf.reshape(tf.cast(variable, tf.float32), [-1]) for variable in variables], 0)
        flat = hvd.allreduce(flat, name="moving_statistics")
        parts = tf.split(flat, [variable.shape.num_elements() for variable in variables])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(tf.cast(tf.reshape(part, variable.shape), variable.dtype))


class LeaderEvaluation(tf.keras.callbacks.Callback):
    """Evaluates on rank 0 after every epoch and adds `val_...` to its logs; the other ranks wait in their next step.

    Put it after MetricAverageCallback, which would wait for ever for metrics that one rank only has.
    """

    def __init__(self, dataset: tf.data.Dataset | None) -> None:
        super().__init__()
        self.dataset = dataset

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluate, on rank 0 if it has a dataset."""
        if load_horovod().rank() != 0 or self.dataset is None:
            return
        results = self.model.evaluate(self.dataset, verbose=0, return_dict=True)
        if logs is not None:
            logs.update({f"val_{name}": float(value) for name, value in results.items()})


def weights_fingerprint(model: tf.keras.Model) -> str:
    """SHA-256 over all weights' bytes, in the model's order: equal if and only if the weights are."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.dtype} {weight.shape} ".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def check_equal_weights(model: tf.keras.Model) -> str:
    """The fingerprint of the weights that all ranks hold; raises `JobError` if they don't hold the same. All ranks call it."""
    fingerprints = load_horovod().allgather_object(weights_fingerprint(model), name="weights_fingerprint")
    differing = [rank for rank, fingerprint in enumerate(fingerprints) if fingerprint != fingerprints[0]]
    if differing:
        ranks = ", ".join(map(str, differing[:8])) + (", ..." if len(differing) > 8 else "")
        raise JobError(
            f"{len(differing)} of {len(fingerprints)} ranks hold other weights than rank 0 (ranks {ranks}): expected equal "
            "ones; broadcast(model) before training, wrap the optimizer in hvd.DistributedOptimizer, use "
            "AverageMovingStatistics"
        )
    return str(fingerprints[0])


def peer_failure(error: Exception) -> JobError | None:
    """The one-line error of a rank that stopped because another one did; None where `error` has a cause of its own."""
    if "Horovod has been shut down" not in str(error):
        return None
    return JobError(
        "another rank ended in the middle of the training: expected it to go on; its own last lines say why it ended"
    )


def load_horovod() -> ModuleType:
    """`horovod.tensorflow`; raises ConfigurationError where it can't be loaded."""
    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        raise ConfigurationError(f"Horovod can't be loaded ({error}): pip install 'hetero-tfdata[horovod]'") from None
    return hvd
