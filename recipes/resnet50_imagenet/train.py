"""Trains ResNet50 on TFRecords of JPEGs with Keras and Horovod: on this machine, or in any SageMaker training job.

    python prepare.py --output data
    python train.py --train data/train --validation data/validation
    horovodrun --gloo -np 2 -H localhost:2 python train.py --train data/train --validation data/validation

In a heterogeneous job the input runs on the data hosts. The one line that does so is marked below.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError

MOMENTUM = 0.9
CHECKPOINTS_KEPT = 3


def boolean(text: str) -> bool:
    """SageMaker passes every hyperparameter as a word: `--xla True`."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return words[text.lower()]


def epochs_list(text: str) -> list[int]:
    """Epochs between commas, such as 30,60,80."""
    try:
        return sorted(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected epochs between commas, such as 30,60,80, got {text!r}") from None


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; SageMaker's folders are the defaults."""
    environment = os.environ
    output = environment.get("SM_OUTPUT_DATA_DIR", "out/resnet50_imagenet")
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__.splitlines()[0], allow_abbrev=False)
    data = parser.add_argument_group("data and results")
    data.add_argument(
        "--train", default=environment.get("SM_CHANNEL_TRAIN"), metavar="DIR", help="TFRecords ($SM_CHANNEL_TRAIN)"
    )
    data.add_argument(
        "--validation",
        default=environment.get("SM_CHANNEL_VALIDATION"),
        metavar="DIR",
        help="TFRecords to evaluate on ($SM_CHANNEL_VALIDATION; none: no evaluation)",
    )
    data.add_argument("--output-data-dir", default=output, metavar="DIR", help="report and TensorBoard (%(default)s)")
    data.add_argument("--model-dir", default=environment.get("SM_MODEL_DIR"), metavar="DIR", help="the model ($SM_MODEL_DIR)")
    data.add_argument("--model_dir", dest="_", help="an s3:// address that SageMaker's TensorFlow estimator adds; unused")
    data.add_argument("--checkpoint-dir", metavar="DIR", help="/opt/ml/checkpoints where that exists, else beside the report")
    data.add_argument("--on-bad-record", choices=("stop", "skip"), default="stop", help="(%(default)s)")
    data.add_argument("--classes", type=int, metavar="N", help="for data without labels.txt")
    run = parser.add_argument_group("training")
    run.add_argument("--model", choices=("resnet50", "tiny"), default="resnet50", help="tiny is for trying out (%(default)s)")
    run.add_argument("--image-size", type=int, default=224, metavar="N", help="pixels a side (%(default)s)")
    run.add_argument("--batch-size", type=int, default=256, metavar="N", help="per rank (%(default)s)")
    run.add_argument("--epochs", type=int, default=90, metavar="N", help="(%(default)s)")
    run.add_argument("--steps-per-epoch", type=int, default=625, metavar="N", help="(%(default)s: ImageNet on 8 ranks)")
    run.add_argument(
        "--learning-rate", type=float, default=0.1, metavar="X", help="for one rank, times the ranks (%(default)s)"
    )
    run.add_argument("--warmup-epochs", type=float, default=5, metavar="N", help="from one rank's rate to all's (%(default)s)")
    run.add_argument("--decay-epochs", type=epochs_list, default=[], metavar="N,N", help="rate divided by 10 at each of these")
    run.add_argument("--seed", type=int, metavar="N", help="of the first weights, the order and the crops")
    machine = parser.add_argument_group("accelerator")
    for flag, text in (("--mixed-precision", "float16 with loss scaling"), ("--xla", "compile with XLA what it can compile")):
        machine.add_argument(flag, type=boolean, nargs="?", const=True, default=False, metavar="BOOL", help=text)
    machine.add_argument("--threads", type=int, default=0, metavar="N", help="of TensorFlow on the CPU; 0: as many as cores")
    options = parser.parse_args(argv)
    for name in ("image_size", "batch_size", "epochs", "steps_per_epoch"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(options, name)}")
    if options.train is None:
        raise ConfigurationError("--train: expected a folder of TFRecords, got none, and there is no $SM_CHANNEL_TRAIN either")
    for channel, folder in (("train", options.train), ("validation", options.validation)):
        if folder is not None and not os.path.isdir(folder):
            raise ConfigurationError(f"--{channel}: expected a folder of TFRecords, {folder!r} is none: prepare.py makes one")
    options.model_dir = options.model_dir or os.path.join(options.output_data_dir, "model")
    if options.checkpoint_dir is None:
        synchronised = os.path.join(environment.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "checkpoints")
        beside = os.path.join(options.output_data_dir, "checkpoints")
        options.checkpoint_dir = synchronised if os.path.isdir(synchronised) else beside
    return options


def train(options: argparse.Namespace) -> None:
    """One rank's part of the training."""
    import tensorflow as tf

    from dataset import make_dataset, read_labels
    from hetero_tfdata import distribute
    from hetero_tfdata.train import horovod
    from hetero_tfdata.train.step_timer import StepTimer
    from hetero_tfdata.train.stopping import CheckpointOnStop
    from model import build_model

    hvd = horovod.init()
    set_up_accelerator(options)
    leader = hvd.rank() == 0
    global_batch = options.batch_size * hvd.size()
    steps = os.path.join(options.output_data_dir, "hetero_tfdata", f"steps-{hvd.rank()}.csv")
    timer = StepTimer(images_per_step=global_batch, quiet=not leader, log=steps if hvd.local_rank() == 0 else None)

    same_for_both = {name: getattr(options, name) for name in ("batch_size", "image_size", "on_bad_record")}
    training = make_dataset(options.train, training=True, seed=options.seed, **same_for_both)
    training = training.apply(distribute())  # the one changed line
    training = training.apply(timer.watch())
    validation = None
    if options.validation and leader:
        validation = make_dataset(options.validation, training=False, **same_for_both)
        validation = validation.apply(distribute())

    classes = options.classes or len(read_labels(options.train))
    model = build_model(options.model, image_size=options.image_size, classes=classes)
    rate = options.learning_rate * hvd.size()
    optimizer = hvd.DistributedOptimizer(tf.keras.optimizers.SGD(rate, momentum=MOMENTUM))
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    # The leader alone has the checkpoints; all others take over what it holds.
    checkpoints = Checkpoints(options.checkpoint_dir, model)
    start = horovod.broadcast_value(checkpoints.restore() if leader else 0)
    horovod.broadcast(model)
    if start >= options.epochs and leader:
        print(f"train.py: all {options.epochs} epochs are in {options.checkpoint_dir!r} already: nothing to train", flush=True)

    callbacks = [
        hvd.callbacks.MetricAverageCallback(),
        horovod.AverageMovingStatistics(),
        *learning_rate_callbacks(hvd, options, rate),
        timer.keras_callback(),
        horovod.LeaderEvaluation(validation),
        CheckpointOnStop(checkpoints.save, leader=leader),
    ]
    if leader:
        callbacks.append(tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda index, logs: checkpoints.save(index + 1)))
        callbacks.append(tf.keras.callbacks.TensorBoard(os.path.join(options.output_data_dir, "tensorboard")))
    if start < options.epochs:
        model.fit(
            training,
            initial_epoch=start,
            epochs=options.epochs,
            steps_per_epoch=options.steps_per_epoch,
            callbacks=callbacks,
            verbose=2 if leader else 0,
        )
    fingerprint = horovod.check_equal_weights(model)
    if leader:
        # Without the optimizer, whose allreduce nobody without Horovod could load. TensorFlow Serving wants a version number.
        model.save(os.path.join(options.model_dir, "1"), include_optimizer=False)
        if timer.epochs:
            report(options, timer, hvd.size(), global_batch, fingerprint)


def set_up_accelerator(options: argparse.Namespace) -> None:
    """What has to stand before the first operation."""
    import tensorflow as tf

    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    if options.seed is not None:
        tf.keras.utils.set_random_seed(options.seed)
    if options.mixed_precision:
        # Horovod averages the scaled gradients before they are looked at, so all ranks skip the same steps.
        tf.keras.mixed_precision.set_global_policy("mixed_float16")
    if options.xla:
        # Clusters of operations, not jit_compile: XLA can't compile Horovod's allreduce and leaves it out of them.
        tf.config.optimizer.set_jit(True)


def learning_rate_callbacks(hvd: Any, options: argparse.Namespace, rate: float) -> list[Any]:
    """From one rank's rate up to all ranks', then a tenth after each of the epochs given."""
    # Momentum correction doesn't know Keras's optimizers since TensorFlow 2.11, whose momentum is a plain number.
    schedule = hvd.callbacks.LearningRateScheduleCallback(
        rate,
        multiplier=lambda epoch: 0.1 ** sum(epoch >= decay for decay in options.decay_epochs),
        start_epoch=options.warmup_epochs,
        momentum_correction=False,
    )
    if options.warmup_epochs <= 0:
        return [schedule]
    warmup = hvd.callbacks.LearningRateWarmupCallback(rate, warmup_epochs=options.warmup_epochs, momentum_correction=False)
    return [warmup, schedule]


class Checkpoints:
    """Weights, the optimizer's state and the epoch, after each epoch."""

    def __init__(self, folder: str, model: Any) -> None:
        import tensorflow as tf

        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        model.optimizer.build(model.trainable_variables)  # or there would be no state yet to restore
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=self._epoch)
        self._manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=CHECKPOINTS_KEPT)

    def restore(self) -> int:
        """Take over the newest checkpoint, if there is one; the number of epochs that are done."""
        if self._manager.restore_or_initialize():
            print(f"train.py: resuming after epoch {int(self._epoch)} from {self._manager.latest_checkpoint}", flush=True)
        return int(self._epoch)

    def save(self, epochs_done: int) -> None:
        """Write a checkpoint and drop the oldest."""
        self._epoch.assign(epochs_done)
        self._manager.save()


def report(options: argparse.Namespace, timer: Any, ranks: int, global_batch: int, fingerprint: str) -> None:
    """What the run came to, as a file and as one line."""
    from hetero_tfdata.train.step_timer import write_training_report

    weights = {"sha256": fingerprint, "equal_on_ranks": ranks}
    write_training_report(options.output_data_dir, timer, model=options.model, ranks=ranks, weights=weights)
    who = "1 rank" if ranks == 1 else f"{ranks} ranks with equal weights"
    print(
        f"train.py: {who}, {timer.summary()['steps']} steps of {global_batch} images, "
        f"loss {timer.loss_first:.3f} -> {timer.loss_last:.3f}, model in {options.model_dir}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Its exit code."""
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Where the input runs, and what its workers say: which bad records they skipped, for one.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hetero_tfdata").setLevel(logging.INFO)
    try:
        train(parse(argv))
    except HeteroTFDataError as error:
        explained = error
    except Exception as error:
        from hetero_tfdata.train.horovod import peer_failure
        from records import explain

        known = explain(error) or peer_failure(error)
        if known is None:
            raise
        explained = known
    else:
        return 0
    print(f"train.py: {explained}", file=sys.stderr, flush=True)
    return explained.exit_code


if __name__ == "__main__":
    sys.exit(main())
