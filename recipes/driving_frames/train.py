"""Trains a small detector on camera frames with Keras and Horovod: on this machine, or in any SageMaker training job.

    python prepare.py --output data --frames 64
    python train.py --train data/train --batch-size 8 --epochs 1 --steps-per-epoch 10
    hetero-tfdata emulate --job . -p batch-size=4 -p epochs=1 -p steps-per-epoch=10

The one changed line is marked below: boxes go through the data hosts as images do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError

MOST_BOXES = 32  # of a frame, with those that a detector of one class can tell apart


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; SageMaker's folders are the defaults."""
    output = os.environ.get("SM_OUTPUT_DATA_DIR", "out/driving_frames")
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--train", default="train", metavar="CHANNEL|DIR", help="TFRecords (the channel train, which the data hosts have)")
    add("--graph", choices=("tensorflow", "python"), default="tensorflow", help="python: OpenCV, albumentations (%(default)s)")
    add("--height", type=int, default=480, metavar="N", help="of the frames that are trained on (%(default)s)")
    add("--width", type=int, default=640, metavar="N", help="likewise (%(default)s)")
    add("--channels", type=int, default=32, metavar="N", help="of the net's first layer (%(default)s)")
    add("--batch-size", type=int, default=32, metavar="N", help="per rank (%(default)s)")
    add("--epochs", type=int, default=30, metavar="N", help="(%(default)s)")
    add("--steps-per-epoch", type=int, default=500, metavar="N", help="(%(default)s)")
    add("--learning-rate", type=float, default=0.001, metavar="X", help="of Adam (%(default)s)")
    add("--seed", type=int, metavar="N", help="of weights, order and augmentation")
    add("--output-data-dir", default=output, metavar="DIR", help="report and TensorBoard (%(default)s)")
    add("--model-dir", default=os.environ.get("SM_MODEL_DIR"), metavar="DIR", help="the model ($SM_MODEL_DIR)")
    add("--checkpoint-dir", metavar="DIR", help="/opt/ml/checkpoints where that exists, else beside the report")
    options = parser.parse_args(argv)
    for name in ("channels", "batch_size", "epochs", "steps_per_epoch"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(options, name)}")
    for name in ("height", "width"):
        if getattr(options, name) < 16 or getattr(options, name) % 16:
            raise ConfigurationError(f"--{name}: expected a multiple of 16, got {getattr(options, name)}")
    options.model_dir = options.model_dir or os.path.join(options.output_data_dir, "model")
    if options.checkpoint_dir is None:
        synchronised = os.path.join(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "checkpoints")
        beside = os.path.join(options.output_data_dir, "checkpoints")
        options.checkpoint_dir = synchronised if os.path.isdir(synchronised) else beside
    return options


def train(options: argparse.Namespace) -> None:
    """One rank's part."""
    import tensorflow as tf
    from detector import build_detector, detection_loss, mean_iou

    from hetero_tfdata import distribute
    from hetero_tfdata.train import horovod
    from hetero_tfdata.train.step_timer import StepTimer, write_training_report
    from hetero_tfdata.train.stopping import CheckpointOnStop

    hvd = horovod.init()
    leader = hvd.rank() == 0
    if options.seed is not None:
        tf.keras.utils.set_random_seed(options.seed)
    steps = os.path.join(options.output_data_dir, "hetero_tfdata", f"steps-{hvd.rank()}.csv")
    timer = StepTimer(
        images_per_step=options.batch_size * hvd.size(), quiet=not leader, log=steps if hvd.local_rank() == 0 else None
    )
    if options.graph == "python":
        from python_frames import make_dataset
    else:
        from dataset import make_dataset
    size = (options.height, options.width)
    dataset = make_dataset(options.train, options.batch_size, size=size, seed=options.seed)
    dataset = dataset.apply(distribute())  # the one changed line
    dataset = dataset.map(dense, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    dataset = dataset.apply(timer.watch())

    model = build_detector(size, options.channels)
    rate = options.learning_rate * hvd.size()
    model.compile(hvd.DistributedOptimizer(tf.keras.optimizers.Adam(rate)), loss=detection_loss, metrics=[mean_iou])
    checkpoints = Checkpoints(options.checkpoint_dir, model)
    start = horovod.broadcast_value(checkpoints.restore() if leader else 0)
    horovod.broadcast(model)
    callbacks = [
        hvd.callbacks.MetricAverageCallback(),
        horovod.AverageMovingStatistics(),
        timer.keras_callback(),
        CheckpointOnStop(checkpoints.save, leader=leader),
    ]
    if leader:
        callbacks.append(tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda index, logs: checkpoints.save(index + 1)))
        callbacks.append(tf.keras.callbacks.TensorBoard(os.path.join(options.output_data_dir, "tensorboard")))
    if start < options.epochs:
        model.fit(
            dataset,
            initial_epoch=start,
            epochs=options.epochs,
            steps_per_epoch=options.steps_per_epoch,
            callbacks=callbacks,
            verbose=2 if leader else 0,
        )
    fingerprint = horovod.check_equal_weights(model)
    if leader:
        model.save(os.path.join(options.model_dir, "1"), include_optimizer=False)
        if timer.epochs:
            weights = {"sha256": fingerprint, "equal_on_ranks": hvd.size()}
            write_training_report(options.output_data_dir, timer, model="detector", ranks=hvd.size(), weights=weights)


def dense(batch: dict[str, Any]) -> tuple[Any, Any]:
    """Frames, and as many boxes for each, float32 [B, 32, 4]; rows of zeros are none."""
    return batch["images"], batch["boxes"].to_tensor(shape=[None, MOST_BOXES, 4])


class Checkpoints:
    """Weights, the optimizer's state and the epoch, after each epoch."""

    def __init__(self, folder: str, model: Any) -> None:
        import tensorflow as tf

        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        model.optimizer.build(model.trainable_variables)  # or there would be no state yet to restore
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=self._epoch)
        self._manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=3)

    def restore(self) -> int:
        """Take over the newest checkpoint, if there is one; the number of epochs that are done."""
        if self._manager.restore_or_initialize():
            print(f"train.py: resuming after epoch {int(self._epoch)} from {self._manager.latest_checkpoint}", flush=True)
        return int(self._epoch)

    def save(self, epochs_done: int) -> None:
        """Write a checkpoint and drop the oldest."""
        self._epoch.assign(epochs_done)
        self._manager.save()


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Its exit code."""
    try:
        train(parse(argv))
    except HeteroTFDataError as error:
        print(f"train.py: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
