"""Whole jobs: from a dataset of single samples to batches of augmented uint8 images, ready for distribute().

What they share. `seed`, `key` and `epoch` mean what they mean to a chain (chain.py): what becomes of a sample follows from
(seed, epoch, key); without a key, from the bytes of its image; without a seed, it differs from run to run and worker to worker.
Key and epoch are numbered components of the element, (image, label, key, epoch) for key=2 and epoch=3, or entries of the dict;
they end here: batches are (images, labels), which Keras' fit takes. With `training=False` only deterministic operations run.
The last batch of a finite dataset may be smaller; `repeat()` before the preset fills every batch.

A batch is made in slices, which are joined at the end: what is at work at any time is a few slices, not a few batches with all
their intermediate results, and it stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from hetero_tfdata.augment import jpeg
from hetero_tfdata.augment.boxes import as_ragged, crop_boxes
from hetero_tfdata.augment.chain import Chain
from hetero_tfdata.augment.color import ColorJitter
from hetero_tfdata.augment.corrupt import CorruptFiles
from hetero_tfdata.augment.draws import Draw, sample_seeds
from hetero_tfdata.augment.filters import Dilation, GaussianBlur
from hetero_tfdata.augment.geometry import RandomFlip, RandomRotation, RandomZoom
from hetero_tfdata.errors import ConfigurationError, DatasetError

__all__ = ["cifar_heavy", "driving_train", "imagenet_eval", "imagenet_train", "mnist_heavy"]

_SEED = "sample_seed"  # the entry of a driving sample that carries its seed to the chain
# Of the images of a slice: half of it costs a tenth more, all of a batch at once a tenth less. A camera frame is a slice of its
# own: a fifth less CPU than four at once.
_PIXELS_BYTES = 1_000_000
_FILES_BYTES = 4_000_000  # the same for small images to decode, where each slice costs more to begin (32 images of 224x224)


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
    on_corrupt: str = "raise",
) -> tf.data.Dataset:
    """A random-resized crop of each image file, flipped half of the time.

    Args:
        dataset: (string [], label): the bytes of a file that jpeg.py takes; more components for key and epoch.
        batch_size: samples a batch.
        image_size: pixels of the result's side.
        seed: see the module.
        key: number of the component that names the sample, also in messages about corrupt files.
        epoch: number of the component that says the pass.
        dct: "fast" or "exact"; see jpeg.py.
        on_corrupt: "raise", "skip" or "replace"; see corrupt.py.

    Returns:
        (uint8 [B, S, S, 3], labels [B]).
    """
    _require_file_arguments("imagenet_train", batch_size, image_size, dct)
    _require_files("imagenet_train", dataset)
    corrupt = CorruptFiles("imagenet_train", on_corrupt)

    @tf.autograph.experimental.do_not_convert
    def crop(*element: Any) -> Any:
        contents, label = element[:2]
        names, seeds = _named(contents, seed, key, epoch, element)
        mirrored = Draw(seeds, 1).happens(0.5)
        crops = jpeg.random_resized_crops(contents, seeds, image_size, image_size, dct=dct, mirrored=mirrored)
        finding = corrupt.find(contents, names, crops.files)
        crops, label = corrupt.pick(crops, label, finding)
        return finding, (crops.images, label)

    slices = dataset.batch(_at_once(batch_size, image_size * image_size * 3, _FILES_BYTES))
    return corrupt.settle(slices.map(crop, num_parallel_calls=tf.data.AUTOTUNE)).rebatch(batch_size).prefetch(1)


def imagenet_eval(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    image_size: int = 224,
    key: int | None = None,
    dct: str = "fast",
    on_corrupt: str = "raise",
) -> tf.data.Dataset:
    """The central 7/8 of each image file's shorter side, resized: 224 of 256.

    Args:
        dataset: (string [], label): the bytes of a file that jpeg.py takes.
        batch_size: samples a batch.
        image_size: pixels of the result's side.
        key: number of the component that names the sample in messages about corrupt files.
        dct: "fast" or "exact"; see jpeg.py.
        on_corrupt: "raise", "skip" or "replace"; see corrupt.py.

    Returns:
        (uint8 [B, S, S, 3], labels [B]), in order.
    """
    _require_file_arguments("imagenet_eval", batch_size, image_size, dct)
    _require_files("imagenet_eval", dataset)
    corrupt = CorruptFiles("imagenet_eval", on_corrupt)

    @tf.autograph.experimental.do_not_convert
    def crop(*element: Any) -> Any:
        contents, label = element[:2]
        crops = jpeg.central_crops(contents, image_size, image_size, dct=dct)
        finding = corrupt.find(contents, None if key is None else element[key], crops.files)
        crops, label = corrupt.pick(crops, label, finding)
        return finding, (crops.images, label)

    slices = dataset.batch(_at_once(batch_size, image_size * image_size * 3, _FILES_BYTES))
    return corrupt.settle(slices.map(crop, num_parallel_calls=tf.data.AUTOTUNE)).rebatch(batch_size).prefetch(1)


def driving_train(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    size: tuple[int, int] = (480, 640),
    seed: int | None = None,
    key: str | None = None,
    epoch: str | None = None,
    dct: str = "fast",
    on_corrupt: str = "raise",
) -> tf.data.Dataset:
    """Camera frames with boxes: random-resized crop, flip, rotation by up to 5 degrees, colour jitter, blur of random sigma.

    Args:
        dataset: dict of `image` (string [], the bytes of a file) and `boxes` (float32 [n, 4]: y_min, x_min, y_max, x_max in
            pixels of the upright image); other entries pass through.
        batch_size: samples a batch.
        size: height and width of the result.
        seed: see the module.
        key: the entry that names the sample, also in messages about corrupt files.
        epoch: the entry that says the pass.
        dct: "fast" or "exact"; see jpeg.py.
        on_corrupt: "raise", "skip" or "replace"; see corrupt.py.

    Returns:
        dict of `images` (uint8 [B, H, W, 3]) and `boxes` (float32 [B, (n), 4], ragged): clipped to the image, dropped where
        less than a pixel is left.
    """
    height, width = size
    for side in size:
        _require_file_arguments("driving_train", batch_size, side, dct)
    spec = dataset.element_spec
    if not isinstance(spec, Mapping) or not {"image", "boxes"} <= set(spec):
        raise DatasetError(
            f"driving_train: dataset: expected a dict with image (string []) and boxes (float32 [n, 4]), got {spec}"
        )
    corrupt = CorruptFiles("driving_train", on_corrupt)
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

    @tf.autograph.experimental.do_not_convert
    def augment(entries: Mapping[str, Any]) -> Any:
        contents = entries["image"]
        names, seeds = _named(contents, seed, key, epoch, entries)
        crops = jpeg.random_resized_crops(contents, seeds, height, width, dct=dct)
        rest = {name: value for name, value in entries.items() if name not in ("image", key, epoch)}
        finding = corrupt.find(contents, names, crops.files)
        crops, rest = corrupt.pick(crops, {**rest, _SEED: seeds}, finding)
        boxes = crop_boxes(as_ragged(rest["boxes"]), crops.windows, height, width)
        result = chain({**rest, "images": crops.images, "boxes": boxes})
        return finding, {name: value for name, value in result.items() if name != _SEED}

    slices = dataset.ragged_batch(_at_once(batch_size, height * width * 3, _PIXELS_BYTES))
    samples = corrupt.settle(slices.map(augment, num_parallel_calls=tf.data.AUTOTUNE)).unbatch()
    return samples.ragged_batch(batch_size).prefetch(1)


def _batches(name: str, dataset: tf.data.Dataset, batch_size: int, chain: Chain, training: bool) -> tf.data.Dataset:
    _require_whole(name, "batch_size", batch_size)
    chain = chain if training else chain.deterministic()
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2:
        raise DatasetError(f"{name}: dataset: expected elements (image, label), got {spec}")
    pixels = spec[0].shape.num_elements() if isinstance(spec[0], tf.TensorSpec) else None

    def run(*element: Any) -> Any:
        return chain(*element)[:2]

    slices = dataset.batch(_at_once(batch_size, pixels or 1, _PIXELS_BYTES))
    return slices.map(run, num_parallel_calls=tf.data.AUTOTUNE).rebatch(batch_size).prefetch(1)


def _at_once(batch_size: int, sample_bytes: int, slice_bytes: int) -> int:
    """Samples of a slice of a batch."""
    return max(1, min(batch_size, slice_bytes // sample_bytes))


def _named(contents: tf.Tensor, seed: int | None, key: Any, epoch: Any, element: Any) -> tuple[tf.Tensor | None, tf.Tensor]:
    """What names the samples of a slice, or None, and their seeds, uint64 [n]."""
    names = None if key is None else element[key]
    passes = 0 if epoch is None else element[epoch]
    return names, sample_seeds(tf.size(contents), seed=seed, key=contents if names is None else names, epoch=passes)


def _require_files(name: str, dataset: tf.data.Dataset) -> None:
    spec = dataset.element_spec
    fine = isinstance(spec, tuple) and len(spec) >= 2 and isinstance(spec[0], tf.TensorSpec) and spec[0].dtype == tf.string
    if not fine or spec[0].shape.rank not in (0, None):
        raise DatasetError(f"{name}: dataset: expected elements (string [] of a file's bytes, label), got {spec}")


def _require_file_arguments(name: str, batch_size: Any, side: Any, dct: str) -> None:
    _require_whole(name, "batch_size", batch_size)
    _require_whole(name, "size" if name == "driving_train" else "image_size", side)
    jpeg.require_dct(name, dct)


def _require_whole(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name}: {argument}: expected a whole number above 0, got {value!r}")
