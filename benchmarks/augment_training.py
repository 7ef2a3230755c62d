"""Whether a small model learns as well from imagenet_train's images as from the common graph's.

    make bench-augment_training

The same network, initial weights, order of images and schedule, three seeds each, on the photographs of `make demo`; only what
turns JPEGs into batches differs. What is compared is the loss on fixed random crops of the validation images, which the common
graph decoded for both. The difference is within the noise if it is smaller than what a t test at 95 % would ask for between the
two sets of seeds. Writes out/bench/augment_training.json. About four minutes on two CPUs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from augmentation import report
from augmentation.imagenet import DEVIATION, MEAN, common_image
from augmentation.photographs import ROOT

SIZE = 64
BATCH = 64
DATA = ROOT / ".cache/photographs"  # as `make demo` fills it
PREPARE = ("--images", "768", "--image-size", "160")
CROPS = 8  # of each validation image
LEARNING_RATE = 2e-3
# Two-sided 95 % points of Student's t by degrees of freedom.
_T_95 = {2: 4.303, 4: 2.776, 6: 2.447, 8: 2.306, 10: 2.228}


def read(split: str) -> tuple[list[bytes], np.ndarray]:
    """The JPEGs and labels int64 [n] of "train" or "validation", in the files' order."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    records = tf.data.TFRecordDataset(sorted(map(str, (DATA / split).glob("*.tfrecord"))))
    examples = list(records.map(lambda record: tf.io.parse_single_example(record, features)).as_numpy_iterator())
    labels = np.array([example["image/class/label"] for example in examples], np.int64)
    return [example["image/encoded"] for example in examples], labels


def with_common_graph(dataset: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """(JPEG bytes, label) -> batches (float32 in [0, 255], labels)."""
    mapped = dataset.map(lambda jpeg, label: (common_image(jpeg, SIZE), label), num_parallel_calls=tf.data.AUTOTUNE)
    return mapped.batch(BATCH, drop_remainder=True)


def with_preset(dataset: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """(JPEG bytes, label) -> batches (uint8, labels)."""
    from hetero_tfdata.augment import presets

    # No seed: with one, and no key that changes, every pass over these images would show the same crops.
    return presets.imagenet_train(dataset, BATCH, image_size=SIZE)


GRAPHS: dict[str, Callable[[tf.data.Dataset, int], tf.data.Dataset]] = {
    "common graph": with_common_graph,
    "imagenet_train": with_preset,
}


def network(classes: int) -> tf.keras.Model:
    """Four convolutions on [B, 64, 64, 3] in [0, 255]; 98,000 weights."""
    layers = tf.keras.layers
    images = layers.Input([SIZE, SIZE, 3])
    values = layers.Rescaling([1 / one for one in DEVIATION], [-mean / one for mean, one in zip(MEAN, DEVIATION, strict=True)])(
        images
    )
    for filters in (16, 32, 64, 128):
        values = layers.Conv2D(filters, 3, padding="same", activation="relu")(values)
        values = layers.MaxPooling2D()(values)
    return tf.keras.Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(values)))


def validation_images(jpegs: Sequence[bytes]) -> tf.Tensor:
    """float32 [CROPS * n, 64, 64, 3]: random crops, always the same; whole images all get classified right."""
    tf.keras.utils.set_random_seed(1)
    return tf.stack([common_image(jpeg, SIZE) for _ in range(CROPS) for jpeg in jpegs])


def train(name: str, seed: int, steps: int) -> dict[str, float]:
    """Trains once: the last validation loss and accuracy, and the mean training loss of the last tenth of the steps."""
    tf.keras.utils.set_random_seed(seed)
    jpegs, labels = read("train")
    classes = int(labels.max()) + 1
    model = network(classes)
    source = tf.data.Dataset.from_tensor_slices((jpegs, labels)).shuffle(len(jpegs), seed=seed).repeat()
    batches = iter(GRAPHS[name](source, seed).prefetch(tf.data.AUTOTUNE))
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(tf.cast(images, tf.float32), training=True))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    losses = []
    for number in range(steps):
        losses.append(step(*next(batches)))
        if (number + 1) % 100 == 0:
            print(f"{name}, seed {seed}: step {number + 1} of {steps}, loss {losses[-1]:.3f}", file=sys.stderr, flush=True)
    jpegs, labels = read("validation")
    logits, labels = model(validation_images(jpegs)), np.tile(labels, CROPS)
    accuracy = float(np.mean(np.argmax(logits, 1) == labels))
    last = float(np.mean(losses[-max(1, steps // 10) :]))
    return {"validation_loss": float(loss_of(labels, logits)), "validation_accuracy": accuracy, "training_loss": last}


def noise(first: Sequence[float], second: Sequence[float]) -> float:
    """How far the means of two equally many runs may lie apart by chance: Student's t at 95 %, common deviation."""
    variance = (statistics.variance(first) + statistics.variance(second)) / 2
    return _T_95[2 * len(first) - 2] * math.sqrt(2 * variance / len(first))


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and writes out/bench/augment_training.json."""
    parser = argparse.ArgumentParser(prog="augment_training.py", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="of each training (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, choices=range(2, 7), help="trainings of each graph (%(default)s)")
    options = parser.parse_args(argv)
    prepare = [sys.executable, str(ROOT / "recipes/resnet50_imagenet/prepare.py"), "--output", str(DATA), *PREPARE]
    subprocess.run(prepare, check=True, stdout=sys.stderr)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in GRAPHS}
    for seed in range(options.seeds):
        for name in GRAPHS:
            runs[name].append(train(name, seed, options.steps))
            print(f"{name}, seed {seed}: validation loss {runs[name][-1]['validation_loss']:.3f}", file=sys.stderr, flush=True)
    losses = {name: [run["validation_loss"] for run in one] for name, one in runs.items()}
    rows = []
    for name, one in runs.items():
        row = [f"{statistics.mean(losses[name]):.3f}", f"{statistics.stdev(losses[name]):.3f}"]
        row += [" ".join(f"{loss:.3f}" for loss in losses[name])]
        row += [f"{statistics.mean(run[key] for run in one):.3f}" for key in ("validation_accuracy", "training_loss")]
        rows.append([name, *row])
    print(report.table(["", "validation loss", "deviation", "of each seed", "accuracy", "training loss"], rows))
    theirs, ours = losses.values()
    difference, allowed = statistics.mean(ours) - statistics.mean(theirs), noise(ours, theirs)
    within = abs(difference) <= allowed
    verdict = "within" if within else "outside"
    print(
        f"imagenet_train - common graph: {difference:+.3f}, {verdict} the noise of {options.seeds} seeds each (+-{allowed:.3f})"
    )
    arguments = sys.argv[1:] if argv is None else list(argv)
    result: dict[str, Any] = {
        "benchmark": "augment_training",
        "command": shlex.join(["python", "benchmarks/augment_training.py", *arguments])
        if arguments
        else "make bench-augment_training",
        "date": time.strftime("%Y-%m-%d"),
        "machine": report.machine(),
        "steps": options.steps,
        "batch": BATCH,
        "image_size": SIZE,
        "runs": runs,
        "difference": difference,
        "noise": allowed,
        "within_noise": within,
    }
    path = ROOT / "out/bench/augment_training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
