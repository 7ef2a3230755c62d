"""Trains ResNet50 on TFRecords of JPEGs with Keras and tf.distribute: for images that have no Horovod.

    python train_mirrored.py --train data/train --validation data/validation
    hetero-tfdata emulate --job job-mirrored.toml

One process on each training host, a replica on each of its GPUs. Options and data are those of train.py; batch sizes are per
replica. A checkpoint is written after each epoch. The one changed line is marked below.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hetero_tfdata.errors import HeteroTFDataError


def train(options: argparse.Namespace) -> None:
    """One host's part of the training."""
    from hetero_tfdata.train import mirrored

    strategy = mirrored.strategy()  # before any operation

    import tensorflow as tf

    from dataset import make_dataset, read_labels
    from hetero_tfdata import distribute
    from hetero_tfdata.train.step_timer import StepTimer, write_training_report
    from model import build_model
    from train import MOMENTUM, set_up_accelerator

    set_up_accelerator(options)
    leader, replicas = mirrored.is_leader(strategy), strategy.num_replicas_in_sync
    steps = os.path.join(options.output_data_dir, "hetero_tfdata", "steps-0.csv")
    timer = StepTimer(images_per_step=options.batch_size * replicas, quiet=not leader, log=steps, times_input=False)

    same_for_both = {name: getattr(options, name) for name in ("batch_size", "image_size", "on_bad_record")}
    training = make_dataset(options.train, training=True, seed=options.seed, **same_for_both)
    training = training.apply(distribute())  # the one changed line
    validation = None
    if options.validation:
        # a finite one is for Keras to divide: it knows what to do when some replicas have no batch left
        validation = make_dataset(options.validation, training=False, **same_for_both)
        validation = mirrored.unsharded(validation.apply(distribute()))

    classes = options.classes or len(read_labels(options.train))
    with strategy.scope():
        model = build_model(options.model, image_size=options.image_size, classes=classes)
        rate = learning_rate(options, replicas)
        model.compile(
            tf.keras.optimizers.SGD(rate, momentum=MOMENTUM), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
    epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
    # All processes write, as statistics of batch normalisation are added up over all of them; the leader's is kept.
    kept = tempfile.TemporaryDirectory()
    folder = options.checkpoint_dir if leader else kept.name
    model.optimizer.build(model.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=epoch)
    manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=3)
    newest = tf.train.latest_checkpoint(options.checkpoint_dir)
    if newest:
        checkpoint.restore(newest)
        print(f"train_mirrored.py: resuming after epoch {int(epoch)} from {newest}", flush=True)
    start = int(epoch)

    def save(index: int, logs: Any = None) -> None:
        epoch.assign(index + 1)
        manager.save()

    callbacks = [timer.keras_callback(), tf.keras.callbacks.LambdaCallback(on_epoch_end=save)]
    if leader:
        callbacks.append(tf.keras.callbacks.TensorBoard(os.path.join(options.output_data_dir, "tensorboard")))
    if start < options.epochs:
        model.fit(
            mirrored.per_replica(strategy, training),
            initial_epoch=start,
            epochs=options.epochs,
            steps_per_epoch=options.steps_per_epoch,
            validation_data=validation,
            callbacks=callbacks,
            verbose=2 if leader else 0,
        )
    tf.saved_model.save(model, os.path.join(options.model_dir, "1") if leader else os.path.join(kept.name, "model"))
    if leader and timer.epochs:
        write_training_report(options.output_data_dir, timer, model=options.model, ranks=replicas)
        print(
            f"train_mirrored.py: {replicas} replicas, {timer.summary()['steps']} steps, loss {timer.loss_first:.3f} -> "
            f"{timer.loss_last:.3f}, model in {options.model_dir}",
            flush=True,
        )


def learning_rate(options: argparse.Namespace, replicas: int) -> Any:
    """From one replica's rate up to all replicas', then a tenth after each of the epochs given: a schedule over steps."""
    import tensorflow as tf

    per_epoch = options.steps_per_epoch
    warm = int(options.warmup_epochs * per_epoch)
    whole = options.learning_rate * replicas
    boundaries = [epoch * per_epoch for epoch in options.decay_epochs]

    class Schedule(tf.keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            step = tf.cast(step, tf.float32)
            decayed = whole * 0.1 ** sum(tf.cast(step >= boundary, tf.float32) for boundary in boundaries)
            warming = options.learning_rate + (whole - options.learning_rate) * step / max(1, warm)
            return tf.where(step < warm, warming, decayed)

        def get_config(self) -> dict[str, Any]:
            return {}

    return Schedule()


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Its exit code."""
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hetero_tfdata").setLevel(logging.INFO)
    from train import parse

    try:
        train(parse(argv))
    except HeteroTFDataError as error:
        explained = error
    except Exception as error:
        from records import explain

        known = explain(error)
        if known is None:
            raise
        explained = known
    else:
        return 0
    print(f"train_mirrored.py: {explained}", file=sys.stderr, flush=True)
    return explained.exit_code


if __name__ == "__main__":
    sys.exit(main())
