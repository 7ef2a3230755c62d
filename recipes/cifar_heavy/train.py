"""ResNet50 on small images with heavy CPU augmentation, 8 GPUs: the job of the published heterogeneous-cluster result.

    python train.py --model tiny --batch-size 32 --epochs 1 --steps-per-epoch 10
    hetero-tfdata emulate --job . --processes-per-host 2 -p model=tiny -p batch-size=32 -p epochs=1 -p steps-per-epoch=10

The one changed line is marked below.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; the defaults are the published job's."""
    output = os.environ.get("SM_OUTPUT_DATA_DIR", "out/cifar_heavy")
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--graph", choices=("ours", "published"), default="ours", help="of the augmentation (%(default)s)")
    add("--model", choices=("resnet50", "tiny"), default="resnet50", help="tiny is for trying out (%(default)s)")
    add("--batch-size", type=int, default=1024, metavar="N", help="per rank (%(default)s)")
    add("--epochs", type=int, default=10, metavar="N", help="(%(default)s)")
    add("--steps-per-epoch", type=int, default=500, metavar="N", help="(%(default)s)")
    add("--learning-rate", type=float, default=0.001, metavar="X", help="for one rank, times the ranks (%(default)s)")
    add("--warmup-epochs", type=int, default=3, metavar="N", help="(%(default)s)")
    add("--images", type=int, default=32_000, metavar="N", help="(%(default)s)")
    add("--seed", type=int, metavar="N", help="of weights and augmentation")
    add("--output-data-dir", default=output, metavar="DIR", help="report and TensorBoard (%(default)s)")
    add("--model-dir", default=os.environ.get("SM_MODEL_DIR"), metavar="DIR", help="the model ($SM_MODEL_DIR)")
    options = parser.parse_args(argv)
    for name in ("batch_size", "epochs", "steps_per_epoch", "images"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(options, name)}")
    options.model_dir = options.model_dir or os.path.join(options.output_data_dir, "model")
    return options


def train(options: argparse.Namespace) -> None:
    """One rank's part."""
    import tensorflow as tf

    from dataset import CLASSES, make_dataset
    from hetero_tfdata import distribute
    from hetero_tfdata.train import horovod
    from hetero_tfdata.train.step_timer import StepTimer, write_training_report

    hvd = horovod.init()
    leader = hvd.rank() == 0
    if options.seed is not None:
        tf.keras.utils.set_random_seed(options.seed)
    steps = os.path.join(options.output_data_dir, "hetero_tfdata", f"steps-{hvd.rank()}.csv")
    timer = StepTimer(
        images_per_step=options.batch_size * hvd.size(), quiet=not leader, log=steps if hvd.local_rank() == 0 else None
    )
    dataset = make_dataset(options.graph, options.batch_size, images=options.images, seed=options.seed)
    dataset = dataset.apply(distribute())  # the one changed line
    dataset = dataset.apply(timer.watch())

    model = build_model(options.model, options.graph, CLASSES)
    rate = options.learning_rate * hvd.size()
    model.compile(
        hvd.DistributedOptimizer(tf.keras.optimizers.Adam(rate)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    horovod.broadcast(model)
    callbacks = [
        hvd.callbacks.MetricAverageCallback(),
        horovod.AverageMovingStatistics(),
        hvd.callbacks.LearningRateWarmupCallback(rate, warmup_epochs=options.warmup_epochs, momentum_correction=False),
        timer.keras_callback(),
    ]
    if leader:
        callbacks.append(tf.keras.callbacks.TensorBoard(os.path.join(options.output_data_dir, "tensorboard")))
    model.fit(
        dataset,
        epochs=options.epochs,
        steps_per_epoch=options.steps_per_epoch,
        callbacks=callbacks,
        verbose=2 if leader else 0,
    )
    fingerprint = horovod.check_equal_weights(model)
    if leader:
        model.save(os.path.join(options.model_dir, "1"), include_optimizer=False)
        weights = {"sha256": fingerprint, "equal_on_ranks": hvd.size()}
        write_training_report(options.output_data_dir, timer, model=options.model, ranks=hvd.size(), weights=weights)


def build_model(name: str, graph: str, classes: int):
    """Images [B, 32, 32, 3], uint8 in [0, 255] from our graph, float32 in [0, 1] from the published one -> [B, classes]."""
    import tensorflow as tf

    layers = tf.keras.layers
    scale = 1 / 255 if graph == "ours" else 1.0
    inputs = tf.keras.Input([32, 32, 3], dtype=tf.uint8 if graph == "ours" else tf.float32, name="images")
    # cast and scaled here, on the accelerator: as float32 a batch would be four times as large on its way to it
    x = layers.Rescaling(scale, dtype=tf.float32, name="scale")(inputs)
    if name == "resnet50":
        x = tf.keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=classes)(x)
    else:
        x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return tf.keras.Model(inputs, x, name=name)


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
