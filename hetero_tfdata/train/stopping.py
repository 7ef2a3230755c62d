"""A training that is stopped has SIGTERM and a grace time: 120 s before SageMaker kills it. This uses them for a checkpoint.

model.fit(..., callbacks=[..., CheckpointOnStop(save, leader=hvd.rank() == 0)])
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["CheckpointOnStop"]

EXIT_CODE = 128 + signal.SIGTERM


class CheckpointOnStop(tf.keras.callbacks.Callback):
    """At the end of the step in which SIGTERM comes: a checkpoint by the leader, then the script's end with exit code 143.

    Every rank gets the signal. The leader needs the others for its step, so they go on until it has left, and then end as
    ranks do whose leader is gone.

    Args:
        save: called with the number of whole epochs that are done; it must not ask other ranks for anything.
        leader: whether this rank writes checkpoints.
    """

    def __init__(self, save: Callable[[int], object], *, leader: bool = True) -> None:
        super().__init__()
        self._save = save
        self._leader = leader
        self._stopped = False
        self._epoch = 0
        self._before: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """From here on SIGTERM waits for the end of a step."""
        self._before = signal.signal(signal.SIGTERM, self._stop)

    def on_train_end(self, logs: Any = None) -> None:
        """From here on SIGTERM does what it did before."""
        signal.signal(signal.SIGTERM, self._before)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Epochs before this one are done."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves and ends, where the signal has come."""
        if self._stopped and self._leader:
            self._save(self._epoch)
            print(
                f"hetero_tfdata: stopped (SIGTERM) in epoch {self._epoch + 1}, after its step {batch + 1}: checkpoint written",
                flush=True,
            )
            raise SystemExit(EXIT_CODE)

    def _stop(self, *_: object) -> None:
        self._stopped = True
