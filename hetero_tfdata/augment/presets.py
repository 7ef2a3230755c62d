"""Whole jobs: from a dataset of single samples to batches of augmented uint8 images, ready for distribute().

What they share. `seed`, `key` and `epoch` mean what they mean to a chain (chain.py): what becomes of a sample follows from
(seed, epoch, key); without a key, from the bytes of its image; without a seed, it differs from run to run and worker to worker.
Key and epoch are numbered components of the element, (image, label, key, epoch) for key=2 and epoch=3, or entries of the dict;
they end here: batches are (images, labels), which Keras' fit takes. With `training=False` only deterministic operations run.
The last batch of a finite dataset may be smaller; `repeat()` before the preset fills every batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from hetero_tfdata.augment import jpeg
from hetero_tfdata.augment.chain import Chain
from hetero_tfdata.augment.color import ColorJitter
from hetero_tfdata.augment.draws import Draw, sample_seeds
from hetero_tfdata.augment.filters import Dilation, GaussianBlur
from hetero_tfdata.augment.geometry import RandomFlip, RandomRotation, RandomZoom
from hetero_tfdata.augment.op import Batch
from hetero_tfdata.errors import ConfigurationError, DatasetError

__all__ = ["cifar_heavy", "driving_train", "imagenet_eval", "imagenet_train", "mnist_heavy"]

_SEED = "sample_seed"  # the entry of a driving sample that carries its seed to the chain


def cifar_heavy(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    seed: int | None = None,
    key: int | None = None,
    epoch: int | None = None,
    training: bool = True,
) -> tf.data.Dataset:
    """The published job's augmentation of small images: dilation, Gaussian blur, flip, rotation, zoom.

    Flip, rotation and zoom are one sampling of the pixels, which is sharper than the published three; what the image does not
    cover is filled by reflection, as Keras' layers do.

    Args:
        dataset: (uint8 [32, 32, 3], label), or any other static size; more components for key and epoch.
        batch_size: samples a batch.
        seed: see the module.
        key: number of the component that names the sample.
        epoch: number of the component that says the pass.
        training: False: dilation and blur only.

    Returns:
        (uint8 [B, 32, 32, 3], labels [B]); the published graph divides by 255 on the CPU: `normalize` does it behind the wire.
    """
    chain = Chain(
        [
            Dilation(3),
            GaussianBlur(11, sigma=0.8),
            RandomFlip("horizontal"),
            RandomRotation(0.1, fill_mode="reflect"),
            RandomZoom(0.1, fill_mode="reflect"),
        ],
        seed=seed,
        key=key,
        epoch=epoch,
    )
    return _batches("cifar_heavy", dataset, batch_size, chain, training)


def mnist_heavy(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    seed: int | None = None,
    key: int | None = None,
    epoch: int | None = None,
    training: bool = True,
) -> tf.data.Dataset:
    """The published single-GPU job's augmentation: a Gaussian blur 11x11 with a sigma drawn from 0.1 to 2 for each image.

    Args:
        dataset: (uint8 [28, 28, 1], label), or any other static size; more components for key and epoch.
        batch_size: samples a batch.
        seed: see the module.
        key: number of the component that names the sample.
        epoch: number of the component that says the pass.
        training: False: nothing but batching.

    Returns:
        (uint8 [B, 28, 28, 1], labels [B]); `normalize(images, mean=0.1307, deviation=0.3081)` behind the wire.
    """
    chain = Chain([GaussianBlur(11, sigma=(0.1, 2.0))], seed=seed, key=key, epoch=epoch)
    return _batches("mnist_heavy", dataset, batch_size, chain, training)


def imagenet_train(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    image_size: int = 224,
    seed: int | None = None,
    key: int | None = None,
    epoch: int | None = None,
    dct: str = "fast",
) -> tf.data.Dataset:
    """A random-resized crop of each image file, flipped half of the time.

    Args:
        dataset: (string [], label): the bytes of a file that jpeg.py takes; more components for key and epoch.
        batch_size: samples a batch.
        image_size: pixels of the result's side.
        seed: see the module.
        key: number of the component that names the sample.
        epoch: number of the component that says the pass.
        dct: "fast" or "exact"; see jpeg.py.

    Returns:
        (uint8 [B, S, S, 3], labels [B]).
    """
    jpeg.require_dct("imagenet_train", dct)
    _require_size("imagenet_train", "image_size", image_size)
    _require_files("imagenet_train", dataset)

    def crop(*element: Any) -> Any:
        sample = _sample_seed(element[0], seed, key, epoch, element)
        image, _ = jpeg.random_resized_crop(element[0], sample, image_size, image_size, dct=dct)
        return image, element[1], sample

    def flip(images: tf.Tensor, labels: Any, seeds: tf.Tensor) -> Any:
        return RandomFlip("horizontal").apply(Batch(images, seeds), Draw(seeds, 1)).images, labels

    crops = dataset.map(crop, num_parallel_calls=tf.data.AUTOTUNE).batch(_size("imagenet_train", batch_size))
    return crops.map(flip).prefetch(1)


def imagenet_eval(dataset: tf.data.Dataset, batch_size: int, *, image_size: int = 224, dct: str = "fast") -> tf.data.Dataset:
    """The central 7/8 of each image file's shorter side, resized: 224 of 256.

    Args:
        dataset: (string [], label): the bytes of a file that jpeg.py takes.
        batch_size: samples a batch.
        image_size: pixels of the result's side.
        dct: "fast" or "exact"; see jpeg.py.

    Returns:
        (uint8 [B, S, S, 3], labels [B]), in order.
    """
    jpeg.require_dct("imagenet_eval", dct)
    _require_size("imagenet_eval", "image_size", image_size)
    _require_files("imagenet_eval", dataset)

    def crop(*element: Any) -> Any:
        return jpeg.central_crop(element[0], image_size, image_size, dct=dct)[0], element[1]

    return dataset.map(crop, num_parallel_calls=tf.data.AUTOTUNE).batch(_size("imagenet_eval", batch_size)).prefetch(1)


def driving_train(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    size: tuple[int, int] = (480, 640),
    seed: int | None = None,
    key: str | None = None,
    epoch: str | None = None,
    dct: str = "fast",
) -> tf.data.Dataset:
    """Camera frames with boxes: random-resized crop, flip, rotation by up to 5 degrees, colour jitter, blur of random sigma.

    Args:
        dataset: dict of `image` (string [], the bytes of a file) and `boxes` (float32 [n, 4]: y_min, x_min, y_max, x_max in
            pixels of the upright image); other entries pass through.
        batch_size: samples a batch.
        size: height and width of the result.
        seed: see the module.
        key: the entry that names the sample.
        epoch: the entry that says the pass.
        dct: "fast" or "exact"; see jpeg.py.

    Returns:
        dict of `images` (uint8 [B, H, W, 3]) and `boxes` (float32 [B, (n), 4], ragged): clipped to the image, dropped where
        less than a pixel is left.
    """
    jpeg.require_dct("driving_train", dct)
    height, width = size
    _require_size("driving_train", "size", height)
    _require_size("driving_train", "size", width)
    spec = dataset.element_spec
    if not isinstance(spec, Mapping) or not {"image", "boxes"} <= set(spec):
        raise DatasetError(
            f"driving_train: dataset: expected a dict with image (string []) and boxes (float32 [n, 4]), got {spec}"
        )

    def crop(entries: Mapping[str, Any]) -> Any:
        sample = _sample_seed(entries["image"], seed, key, epoch, entries)
        image, window = jpeg.random_resized_crop(entries["image"], sample, height, width, dct=dct)
        rest = {name: value for name, value in entries.items() if name not in ("image", "boxes", key, epoch)}
        return {**rest, "images": image, "boxes": _cropped_boxes(entries["boxes"], window, height, width), _SEED: sample}

    chain = Chain(
        [
            RandomFlip("horizontal"),
            RandomRotation(5 / 360),
            ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            GaussianBlur(11, sigma=(0.1, 2.0)),
        ],
        seed=seed,
        key=None if seed is None else _SEED,
    )

    def augment(entries: Mapping[str, Any]) -> Any:
        return {name: value for name, value in chain(entries).items() if name != _SEED}

    crops = dataset.map(crop, num_parallel_calls=tf.data.AUTOTUNE)
    batches = crops.apply(tf.data.experimental.dense_to_ragged_batch(_size("driving_train", batch_size)))
    return batches.map(augment, num_parallel_calls=2).prefetch(1)


def _batches(name: str, dataset: tf.data.Dataset, batch_size: int, chain: Chain, training: bool) -> tf.data.Dataset:
    chain = chain if training else chain.deterministic()
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2:
        raise DatasetError(f"{name}: dataset: expected elements (image, label), got {spec}")

    def run(*element: Any) -> Any:
        return chain(*element)[:2]

    return dataset.batch(_size(name, batch_size)).map(run, num_parallel_calls=tf.data.AUTOTUNE).prefetch(1)


def _sample_seed(contents: tf.Tensor, seed: int | None, key: Any, epoch: Any, element: Any) -> tf.Tensor:
    """uint64 []: of one sample."""
    names = contents if key is None else element[key]
    passes = 0 if epoch is None else element[epoch]
    return sample_seeds(1, seed=seed, key=tf.reshape(names, [1]), epoch=passes)[0]


def _cropped_boxes(boxes: tf.Tensor, window: tf.Tensor, height: int, width: int) -> tf.Tensor:
    top, left, high, wide = tf.unstack(tf.cast(window, tf.float32))
    down, right = height / high, width / wide
    moved = (boxes - tf.stack([top, left, top, left])) * tf.stack([down, right, down, right])
    moved = tf.clip_by_value(moved, 0.0, tf.constant([height, width, height, width], tf.float32))
    visible = tf.reduce_all(moved[:, 2:] - moved[:, :2] >= 1.0, 1)
    return tf.ensure_shape(tf.boolean_mask(moved, visible), [None, 4])


def _require_files(name: str, dataset: tf.data.Dataset) -> None:
    spec = dataset.element_spec
    fine = isinstance(spec, tuple) and len(spec) >= 2 and isinstance(spec[0], tf.TensorSpec) and spec[0].dtype == tf.string
    if not fine or spec[0].shape.rank not in (0, None):
        raise DatasetError(f"{name}: dataset: expected elements (string [] of a file's bytes, label), got {spec}")


def _require_size(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name}: {argument}: expected a whole number of pixels above 0, got {value!r}")


def _size(name: str, batch_size: Any) -> int:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ConfigurationError(f"{name}: batch_size: expected a whole number above 0, got {batch_size!r}")
    return batch_size
