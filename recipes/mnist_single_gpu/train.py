"""A small convolutional net on one GPU that its CPUs can't feed: one training process, no MPI, and a data group beside it.

    python train.py --batch-size 64 --epochs 1 --steps-per-epoch 10
    hetero-tfdata emulate --job . -p batch-size=64 -p epochs=1 -p steps-per-epoch=10

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
    output = os.environ.get("SM_OUTPUT_DATA_DIR", "out/mnist_single_gpu")
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--graph", choices=("ours", "published"), default="ours", help="of the preprocessing (%(default)s)")
    add("--batch-size", type=int, default=8192, metavar="N", help="(%(default)s)")
    add("--epochs", type=int, default=10, metavar="N", help="(%(default)s)")
    add("--steps-per-epoch", type=int, default=100, metavar="N", help="(%(default)s)")
    add("--learning-rate", type=float, default=1.0, metavar="X", help="of Adadelta (%(default)s)")
    add("--images", type=int, default=60_000, metavar="N", help="(%(default)s)")
    add("--seed", type=int, metavar="N", help="of weights and blur")
    add("--output-data-dir", default=output, metavar="DIR", help="report and TensorBoard (%(default)s)")
    add("--model-dir", default=os.environ.get("SM_MODEL_DIR"), metavar="DIR", help="the model ($SM_MODEL_DIR)")
    options = parser.parse_args(argv)
    for name in ("batch_size", "epochs", "steps_per_epoch", "images"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(options, name)}")
    options.model_dir = options.model_dir or os.path.join(options.output_data_dir, "model")
    return options


def train(options: argparse.Namespace) -> None:
    """The training process."""
    import tensorflow as tf

    from dataset import CLASSES, make_dataset
    from hetero_tfdata import distribute
    from hetero_tfdata.train.step_timer import StepTimer, write_training_report

    if options.seed is not None:
        tf.keras.utils.set_random_seed(options.seed)
    steps = os.path.join(options.output_data_dir, "hetero_tfdata", "steps-0.csv")
    timer = StepTimer(images_per_step=options.batch_size, log=steps)
    dataset = make_dataset(options.graph, options.batch_size, images=options.images, seed=options.seed)
    dataset = dataset.apply(distribute())  # the one changed line
    dataset = dataset.apply(timer.watch())

    model = build_model(options.graph, CLASSES)
    model.compile(
        tf.keras.optimizers.Adadelta(options.learning_rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        dataset,
        epochs=options.epochs,
        steps_per_epoch=options.steps_per_epoch,
        callbacks=[
            timer.keras_callback(),
            tf.keras.callbacks.TensorBoard(os.path.join(options.output_data_dir, "tensorboard")),
        ],
        verbose=2,
    )
    model.save(os.path.join(options.model_dir, "1"), include_optimizer=False)
    write_training_report(options.output_data_dir, timer, model="mnist", ranks=1)


def build_model(graph: str, classes: int):
    """Images [B, 28, 28, 1] -> probabilities [B, classes]: two convolutions, two dense layers, dropout between them."""
    import tensorflow as tf

    from dataset import DEVIATION, MEAN

    layers = tf.keras.layers
    inputs = tf.keras.Input([28, 28, 1], dtype=tf.uint8 if graph == "ours" else tf.float32, name="images")
    # the published graph normalises on the CPUs; here it is done on the accelerator, so that bytes travel
    scale, offset = (1 / 255 / DEVIATION, -MEAN / DEVIATION) if graph == "ours" else (1.0, 0.0)
    x = layers.Rescaling(scale, offset, dtype=tf.float32, name="normalize")(inputs)
    x = layers.Conv2D(32, 3, activation="relu", name="conv1")(x)
    x = layers.Conv2D(64, 3, activation="relu", name="conv2")(x)
    x = layers.Dropout(0.25)(layers.MaxPool2D(2)(x))
    x = layers.Dense(128, activation="relu", name="dense")(layers.Flatten()(x))
    x = layers.Dense(classes, activation="softmax", name="probabilities")(layers.Dropout(0.5)(x))
    return tf.keras.Model(inputs, x, name="mnist")


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
