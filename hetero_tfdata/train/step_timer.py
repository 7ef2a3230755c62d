"""How long a step waits for its batch, and how long it computes.

    timer = StepTimer(images_per_step=256 * hvd.size())
    dataset = dataset.apply(distribute()).apply(timer.watch())     # watch() comes last
    model.fit(dataset, callbacks=[timer.keras_callback(), tf.keras.callbacks.TensorBoard(folder)])
    # hetero_tfdata: epoch 1: 12 steps, 431.0 ms/step, input wait 12.3 ms/step, input-bound 2.9 %, 594.0 images/s

Keras takes its batches inside a compiled function, so the waiting can't be timed around `next()`: the clock stands in the
dataset. All figures are means. The first step of a run traces and compiles: it is counted, but left out of the times.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError

__all__ = ["EpochTiming", "StepTimer", "write_training_report"]

_LOSS_STEPS = 3  # steps whose mean is the first and the last loss


@dataclass(frozen=True)
class EpochTiming:
    """Means over the steps of an epoch, seen by this process; without the very first step of the run."""

    epoch: int
    """From 1."""
    steps: int
    """All of them, the first included."""
    step_ms: float
    """Wall time from the end of one step to the end of the next."""
    input_wait_ms: float | None
    """What of it went by until the batch was there; None where that was not timed."""
    images_per_s: float | None
    """Of all ranks together; None where the number of images a step is unknown."""

    @property
    def input_bound_percent(self) -> float | None:
        """The share of the time spent waiting for input; None where that was not timed."""
        if self.input_wait_ms is None:
            return None
        return 100 * min(1.0, self.input_wait_ms / self.step_ms) if self.step_ms > 0 else 0.0

    def __str__(self) -> str:
        rate = "" if self.images_per_s is None else f", {self.images_per_s:.1f} images/s"
        wait = ""
        if self.input_wait_ms is not None:
            wait = f", input wait {self.input_wait_ms:.1f} ms/step, input-bound {self.input_bound_percent:.1f} %"
        return f"hetero_tfdata: epoch {self.epoch}: {self.steps} steps, {self.step_ms:.1f} ms/step{wait}{rate}"


@dataclass
class _Sums:
    steps: int = 0
    timed_steps: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0


class StepTimer:
    """Separates input wait from compute, for Keras `fit` and for custom loops.

    Keras: `keras_callback()`. Custom loop: `start_epoch()`, `step_end()` after each step, `end_epoch()`.

    `images_per_step` counts all ranks: batch size per rank x ranks. `quiet` prints nothing (ranks other than the leader).
    `log` names a file that gets a line `time_s,step_s` for each step: when it ended (`time.time()`) and how long it took.
    `hetero-tfdata emulate` draws those of output/data/hetero_tfdata/steps*.csv.
    One dataset and one training process per accelerator; strategies that copy batches ahead to several devices of one
    process (MirroredStrategy) hide the wait and are refused, unless `times_input` is False: then only steps are timed, and
    there is nothing to watch.
    """

    def __init__(
        self,
        *,
        images_per_step: int | None = None,
        quiet: bool = False,
        log: str | os.PathLike[str] | None = None,
        times_input: bool = True,
    ) -> None:
        self.images_per_step = images_per_step
        self.quiet = quiet
        self.times_input = times_input
        self._log = None if log is None else _opened(Path(log))
        # tf.data's functions run on the CPU and can't reach a variable on a GPU.
        with tf.device("/CPU:0"):
            self._waited_s = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="input_wait_s")
            self._taken = tf.Variable(0, dtype=tf.int64, trainable=False, name="batches_taken")
        self._epochs: list[EpochTiming] = []
        self._run = _Sums()
        self._epoch = _Sums()
        self._untimed = _Sums()  # the run's first step, in case there is no other
        self._number = 0
        self._last_s = self._last_wait_s = 0.0
        self._first_batch = 0
        self._losses: deque[tuple[int, float]] = deque()
        self._first_losses: list[tuple[int, float]] = []

    # --- in the dataset ---

    def watch(self) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
        """The transformation that times how long each batch is waited for: the dataset's last, on the trainer's side.

        The elements, their spec and the cardinality stay as they are. Batches are prefetched before the clock, so that
        only the waiting counts that the step really does.
        """

        def transform(dataset: tf.data.Dataset) -> tf.data.Dataset:
            ticks = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())

            def record(asked_s: tf.Tensor, element: Any) -> Any:
                self._waited_s.assign_add(tf.timestamp() - asked_s)
                self._taken.assign_add(1)
                return element

            # zip asks its inputs in order: the tick is the moment at which the step asked for a batch.
            watched = tf.data.Dataset.zip((ticks, dataset.prefetch(tf.data.AUTOTUNE))).map(record)
            options = tf.data.Options()
            # TensorFlow >= 2.13 appends a prefetch of its own, behind which the clock would time nobody's waiting.
            options.experimental_optimization.inject_prefetch = False
            return watched.with_options(options)

        return transform

    # --- around the steps ---

    def start_epoch(self) -> None:
        """Start the clock: right before the first step of an epoch."""
        self._number += 1
        self._epoch = _Sums()
        self._first_batch = int(self._taken.numpy())
        self._last_s, self._last_wait_s = time.perf_counter(), float(self._waited_s.numpy())

    def step_end(self, loss: float | None = None, *, steps: int = 1) -> None:
        """Note the end of a step, or of `steps` steps run in one call; `loss` is their mean loss."""
        now_s, wait_s = time.perf_counter(), float(self._waited_s.numpy())
        seconds, waited_s = now_s - self._last_s, wait_s - self._last_wait_s
        first_of_run = self._run.steps == 0
        if self._log is not None:
            self._log.write(f"{time.time():.3f},{seconds / steps:.6f}\n")
        for sums in (self._epoch, self._run):
            sums.steps += steps
            if not first_of_run:
                sums.timed_steps += steps
                sums.seconds += seconds
                sums.wait_s += waited_s
        if first_of_run:
            self._untimed = _Sums(steps, steps, seconds, waited_s)
        self._check_watch()
        if loss is not None:
            self._add_loss(steps, float(loss))
        self._last_s, self._last_wait_s = time.perf_counter(), wait_s

    def end_epoch(self) -> EpochTiming:
        """The epoch's figures; prints them unless quiet."""
        timing = self._timing(self._number, self._epoch)
        self._epochs.append(timing)
        if not self.quiet:
            print(timing, flush=True)
        return timing

    def keras_callback(self) -> tf.keras.callbacks.Callback:
        """The same for `fit`. Adds `step_ms`, `input_wait_ms` and `input_bound_percent` to the logs of each epoch.

        Callbacks after it see them: put TensorBoard there, and Horovod's MetricAverageCallback before it where the figures
        should stay this rank's own. It reads the loss, so each call of the training function is waited for. With
        `steps_per_execution=n` a call runs n steps: the figures are those of the call divided by n, and the whole first call
        is left out.
        """
        return _KerasCallback(self)

    # --- afterwards ---

    @property
    def epochs(self) -> tuple[EpochTiming, ...]:
        """The epochs that ended."""
        return tuple(self._epochs)

    @property
    def loss_first(self) -> float | None:
        """Mean loss of the first 3 steps, as far as losses were given."""
        return _mean(self._first_losses)

    @property
    def loss_last(self) -> float | None:
        """Mean loss of the last 3 steps, as far as losses were given."""
        return _mean(self._losses)

    def summary(self) -> dict[str, float | int | None]:
        """The whole run: steps, step_ms, input_wait_ms, input_bound_percent, images_per_s (of all ranks)."""
        timing = self._timing(0, self._run)
        return {
            "steps": timing.steps,
            "images_per_s": timing.images_per_s,
            "step_ms": timing.step_ms,
            "input_wait_ms": timing.input_wait_ms,
            "input_bound_percent": timing.input_bound_percent,
        }

    def _timing(self, number: int, sums: _Sums) -> EpochTiming:
        timed = sums if sums.timed_steps else self._untimed
        steps = max(1, timed.timed_steps)
        step_s = timed.seconds / steps
        rate = self.images_per_step / step_s if self.images_per_step and step_s > 0 else None
        wait_ms = 1000 * timed.wait_s / steps if self.times_input else None
        return EpochTiming(number, sums.steps, 1000 * step_s, wait_ms, rate)

    def _check_watch(self) -> None:
        if not self.times_input:
            return
        taken = int(self._taken.numpy()) - self._first_batch
        if taken == 0:
            raise ConfigurationError(
                "StepTimer saw no batch: give fit the dataset that dataset.apply(timer.watch()) returned, watch() applied last"
            )
        if taken > self._epoch.steps:
            raise ConfigurationError(
                f"StepTimer saw {taken} batches taken in {self._epoch.steps} steps: something behind watch() reads ahead and "
                "hides the wait; apply watch() last, after any prefetch, and train one process per accelerator"
            )

    def _add_loss(self, steps: int, loss: float) -> None:
        if sum(count for count, _ in self._first_losses) < _LOSS_STEPS:
            self._first_losses.append((steps, loss))
        self._losses.append((steps, loss))
        while sum(count for count, _ in self._losses) - self._losses[0][0] >= _LOSS_STEPS:
            self._losses.popleft()


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a", buffering=1)


def _mean(losses: list[tuple[int, float]] | deque[tuple[int, float]]) -> float | None:
    steps = sum(count for count, _ in losses)
    return sum(count * loss for count, loss in losses) / steps if steps else None


class _KerasCallback(tf.keras.callbacks.Callback):
    def __init__(self, timer: StepTimer) -> None:
        super().__init__()
        self.timer = timer
        self._steps = 0
        self._loss_sum = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._steps, self._loss_sum = 0, 0.0
        self.timer._number = epoch  # a resumed run goes on counting where it stopped
        self.timer.start_epoch()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        # `batch` is the last one of the call, and Keras's loss the mean over the epoch so far.
        steps = batch + 1 - self._steps
        self._steps = batch + 1
        loss = None
        if logs and "loss" in logs:
            loss_sum = float(logs["loss"]) * self._steps
            loss = (loss_sum - self._loss_sum) / steps
            self._loss_sum = loss_sum
        self.timer.step_end(loss, steps=steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        timing = self.timer.end_epoch()
        if logs is not None:
            logs["step_ms"] = timing.step_ms
            if timing.input_wait_ms is not None and timing.input_bound_percent is not None:
                logs["input_wait_ms"] = timing.input_wait_ms
                logs["input_bound_percent"] = timing.input_bound_percent


def write_training_report(
    output_data_dir: str | os.PathLike[str], timer: StepTimer, *, model: str, ranks: int, **more: Any
) -> Path:
    """Write what a run did to hetero_tfdata/training.json in SageMaker's output data folder; the file's path.

    Holds model, ranks, `timer.summary()`, loss_first, loss_last (of this rank), each epoch, and whatever else is given. It
    appears whole or not at all. One process calls this, the leader.
    """
    path = Path(output_data_dir) / "hetero_tfdata" / "training.json"
    report = {
        "model": model,
        "ranks": ranks,
        **timer.summary(),
        "loss_first": timer.loss_first,
        "loss_last": timer.loss_last,
        "epochs": [asdict(timing) | {"input_bound_percent": timing.input_bound_percent} for timing in timer.epochs],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path
