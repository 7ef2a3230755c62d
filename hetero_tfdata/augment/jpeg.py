"""From the bytes of image files to the part of each that is wanted, at the size that is wanted.

Decoding is most of what an image costs, so only what the result needs is decoded:

    window          drawn from the size in the file's header; the decoder skips the rest (fused decode-and-crop)
    scale           a window at least 2, 4 or 8 times the target is decoded at a half, a quarter or an eighth
    dct             "fast": the fast inverse DCT, colour planes enlarged by repetition; "exact": the accurate DCT, smoothed

and what is not decoding is done for many files at once: windows, scales and random numbers of a whole batch are computed
together, and a dataset inside the graph decodes its files one after the other.

Takes what TensorFlow decodes: JPEG (also grey and CMYK), PNG, BMP, the first picture of a GIF. EXIF's orientation is obeyed.
A JPEG that was cut off is recovered as far as it goes and grey below. A file that can't be decoded is left out of the result,
which says so; see corrupt.py for what becomes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from hetero_tfdata.augment import exif
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.errors import ConfigurationError

__all__ = ["DCT", "Crops", "central_crops", "random_resized_crops", "require_dct"]

DCT = ("fast", "exact")

_SCALES = (1, 2, 4, 8)
_TRIES = 10  # windows drawn before the largest central one is taken, as torchvision does
_JPEG = b"\xff\xd8\xff"


class Crops(NamedTuple):
    """Parts of images.

    Attributes:
        images: uint8 [k, height, width, 3] in [0, 255].
        windows: int32 [k, 4]: top, left, height and width in the upright image.
        files: int64 [k]: which of the n files they come from, rising; k < n where some could not be decoded.
    """

    images: tf.Tensor
    windows: tf.Tensor
    files: tf.Tensor


def random_resized_crops(
    contents: tf.Tensor,
    seeds: tf.Tensor,
    height: int,
    width: int,
    *,
    dct: str = "fast",
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    mirrored: tf.Tensor | None = None,
) -> Crops:
    """A random part of each image, resized: the crop of "Going deeper with convolutions" (2014), as torchvision draws it.

    Args:
        contents: string [n], the bytes of files.
        seeds: uint64 [n], each sample's own; see draws.py.
        height: pixels of the result.
        width: pixels of the result.
        dct: "fast" or "exact".
        area: smallest and largest part of the image.
        aspect: smallest and largest width / height of the part, drawn evenly in the logarithm.
        mirrored: bool [n], which of the results to mirror, left to right; here it costs a quarter of what RandomFlip costs.
    """

    def choose(files: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        return _random_windows(tf.gather(seeds, files), sizes, area, aspect)

    return _crops(contents, choose, height, width, dct, mirrored)


def central_crops(contents: tf.Tensor, height: int, width: int, *, dct: str = "fast", part: float = 0.875) -> Crops:
    """The largest central window of the result's proportions, times `part`, resized: the usual evaluation (224 of 256).

    Args as random_resized_crops has them.
    """

    def choose(files: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        target = tf.constant([height, width], tf.float32)
        scale = tf.reduce_min(tf.cast(sizes, tf.float32) / target, 1, keepdims=True) * part
        extents = tf.maximum(tf.cast(tf.round(scale * target), tf.int32), 1)
        return tf.concat([(sizes - extents) // 2, extents], 1)

    return _crops(contents, choose, height, width, dct)


def require_dct(name: str, dct: str) -> None:
    """Raises ConfigurationError unless `dct` is one of DCT."""
    if dct not in DCT:
        raise ConfigurationError(f"{name}: dct: expected one of {', '.join(DCT)}, got {dct!r}")


def _crops(
    contents: tf.Tensor,
    choose: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    height: int,
    width: int,
    dct: str,
    mirrored: tf.Tensor | None = None,
) -> Crops:
    is_jpeg = tf.strings.substr(contents, 0, len(_JPEG)) == _JPEG
    is_plain = is_jpeg & ~exif.has_exif(contents)  # nearly every file; the rest takes the longer way

    def headers() -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        return _each(tf.size(contents), lambda file: _header(contents[file], is_jpeg[file]), ([2], tf.int32), ([], tf.int32))

    def plain_headers() -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        return _each(
            tf.size(contents), lambda file: (_jpeg_size(contents[file]), tf.constant(1)), ([2], tf.int32), ([], tf.int32)
        )

    # a choice for the batch: one for each file costs more than reading the header, 50 to 70 us
    files, (sizes, orientations) = tf.cond(tf.reduce_all(is_plain), plain_headers, headers)
    windows = choose(files, sizes)
    scaled, scale_numbers = _scaled(windows, sizes, height, width)
    is_upright = orientations == 1

    def crop(place: tf.Tensor) -> tuple[tf.Tensor]:
        file = files[place]
        one = contents[file]

        def other() -> tf.Tensor:
            return _unusual(one, is_jpeg[file], windows[place], sizes[place], orientations[place], (height, width), dct)

        ways = [*(_decoder(one, scaled[place], scale, dct) for scale in _SCALES), other]
        plain = is_jpeg[file] & is_upright[place]
        image = tf.switch_case(tf.where(plain, scale_numbers[place], len(_SCALES)), ways)
        resized = tf.image.resize(tf.ensure_shape(image, [None, None, 3]), [height, width])
        result = tf.cast(resized + 0.5, tf.uint8)
        if mirrored is not None:
            result = tf.cond(mirrored[file], lambda: tf.reverse(result, [1]), lambda: result)
        return (result,)

    places, (images,) = _each(tf.size(files), crop, ([height, width, 3], tf.uint8))
    return Crops(images, tf.gather(windows, places), tf.gather(files, places))


def _each(
    count: tf.Tensor, function: Callable[[tf.Tensor], tuple[tf.Tensor, ...]], *specs: tuple[Any, tf.DType]
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """The function of each number below count, one after the other, without those where it fails.

    Returns:
        int64 [k], the numbers where it did not fail, rising; and of each result, whose shape and dtype specs tell, [k, ...].
    """

    @tf.autograph.experimental.do_not_convert
    def numbered(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return number, *function(number)

    results = tf.data.Dataset.range(tf.cast(count, tf.int64)).map(numbered).ignore_errors()
    # where all of them fail there is no batch, and this one stands in
    none = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int64), *(tf.zeros([0, *shape], dtype) for shape, dtype in specs)))
    whole = results.batch(tf.cast(tf.maximum(count, 1), tf.int64)).concatenate(none).take(1)
    kept, *values = whole.get_single_element()
    return kept, tuple(values)


def _random_windows(seeds: tf.Tensor, sizes: tf.Tensor, area: tuple[float, float], aspect: tuple[float, float]) -> tf.Tensor:
    """int32 [n, 4]: top, left, height, width. The first of ten that fits, else the largest central one of an allowed aspect."""
    draw = Draw(seeds, 0)
    whole = tf.cast(sizes, tf.float32)
    high, wide = whole[:, :1], whole[:, 1:]
    areas = draw.uniform(*area, shape=[_TRIES]) * high * wide
    aspects = tf.exp(draw.uniform(math.log(aspect[0]), math.log(aspect[1]), shape=[_TRIES]))
    tries = tf.round(tf.stack([tf.sqrt(areas / aspects), tf.sqrt(areas * aspects)], 2))
    fits = tf.reduce_all((tries <= whole[:, tf.newaxis]) & (tries >= 1.0), 2)
    largest = tf.maximum(tf.floor(tf.concat([tf.minimum(high, wide / aspect[0]), tf.minimum(wide, high * aspect[1])], 1)), 1.0)
    found = tf.reduce_any(fits, 1, keepdims=True)
    first = tf.gather(tries, tf.argmax(tf.cast(fits, tf.int32), 1), batch_dims=1)
    extents = tf.where(found, first, largest)
    room = whole - extents
    begins = tf.where(found, tf.floor(draw.uniform(shape=[2]) * (room + 1.0)), tf.floor(room / 2.0))
    return tf.cast(tf.concat([tf.minimum(begins, room), extents], 1), tf.int32)


def _scaled(windows: tf.Tensor, sizes: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Windows at the smallest of _SCALES at which they are no smaller than the target, and which of _SCALES that is.

    Args:
        windows: int32 [n, 4], of the stored images.
        sizes: int32 [n, 2], of the stored images.
        height: of the target, in the stored image's orientation.
        width: likewise.
    """
    times = tf.reduce_min(windows[:, 2:] // [height, width], 1, keepdims=True)
    numbers = tf.reduce_sum(tf.cast(times >= _SCALES[1:], tf.int32), 1)
    scales = tf.gather(_SCALES, numbers)[:, tf.newaxis]
    limits = (sizes + (scales - 1)) // scales
    # to the nearest pixel of that scale: at most half a pixel of the result beside the window
    begins = tf.minimum((windows[:, :2] + scales // 2) // scales, limits - 1)
    extents = tf.clip_by_value((windows[:, 2:] + scales // 2) // scales, 1, limits - begins)
    return tf.concat([begins, extents], 1), numbers


def _decoder(contents: tf.Tensor, window: tf.Tensor, scale: int, dct: str) -> Callable[[], tf.Tensor]:
    def decode() -> tf.Tensor:
        return tf.io.decode_and_crop_jpeg(
            contents,
            window,
            channels=3,
            ratio=scale,
            fancy_upscaling=dct == "exact",
            try_recover_truncated=True,
            dct_method="INTEGER_FAST" if dct == "fast" else "INTEGER_ACCURATE",
        )

    return decode


# --- files that are no JPEG, or none that stands upright ---


def _jpeg_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.io.extract_jpeg_shape(contents)[:2], [2])


def _header(contents: tf.Tensor, is_jpeg: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of the upright image, int32 [2], and its orientation in the file, int32 []."""

    def jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        stored, turned = _jpeg_size(contents), exif.orientation(contents)
        return tf.where(turned >= 5, stored[::-1], stored), turned

    return tf.cond(is_jpeg, jpeg, lambda: (tf.shape(_decode_any(contents))[:2], tf.constant(1)))


def _unusual(
    contents: tf.Tensor,
    is_jpeg: tf.Tensor,
    window: tf.Tensor,
    upright: tf.Tensor,
    orientation: tf.Tensor,
    target: tuple[int, int],
    dct: str,
) -> tf.Tensor:
    """uint8 [h, w, 3]: the window of one image of any kind, upright."""

    def jpeg() -> tf.Tensor:
        swap = orientation >= 5
        in_file = exif.stored_window(window, upright, orientation)
        stored = tf.where(swap, upright[::-1], upright)
        straight = _scaled(in_file[tf.newaxis], stored[tf.newaxis], *target)
        turned = _scaled(in_file[tf.newaxis], stored[tf.newaxis], *target[::-1])
        scaled, number = (tf.where(swap, pair[0][0], pair[1][0]) for pair in zip(turned, straight, strict=True))
        image = tf.switch_case(number, [_decoder(contents, scaled, scale, dct) for scale in _SCALES])
        return exif.upright_image(image, orientation)

    def other() -> tf.Tensor:
        return _decode_any(contents)[window[0] : window[0] + window[2], window[1] : window[1] + window[3]]

    return tf.cond(is_jpeg, jpeg, other)


def _decode_any(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(contents, channels=3, expand_animations=False)
