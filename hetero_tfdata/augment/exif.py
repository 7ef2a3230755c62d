"""The orientation that a camera wrote into a JPEG: Exchangeable image file format 2.3 (CIPA DC-008-2012), chapter 4.6.

Orientation 1 is upright; 2 to 8 say how the stored image has to be mirrored and turned to stand upright.
"""

from __future__ import annotations

import tensorflow as tf

__all__ = ["has_exif", "orientation", "stored_window", "upright_image"]

_MARK = b"Exif\x00\x00"
_PLACES = (6, 24)  # right after the start of the file, or after JFIF's own segment
_TAG = 0x0112


def has_exif(contents: tf.Tensor) -> tf.Tensor:
    """Strings, the bytes of JPEGs -> bool, the same shape: whether there is an EXIF segment at one of its usual places."""
    return _start(contents) > 0


def orientation(contents: tf.Tensor) -> tf.Tensor:
    """int32 []: 1 to 8, of one JPEG; 1 where the file says nothing."""
    start = _start(contents)
    return tf.cond(start > 0, lambda: _orientation_at(contents, start), lambda: tf.constant(1))


def stored_window(window: tf.Tensor, upright: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A window of the upright image, int32 [4] (top, left, height, width), as a window of the stored one.

    Args:
        window: in the upright image.
        upright: int32 [2], height and width of the upright image.
        orientation: int32 [].
    """
    begin, extent = window[:2], window[2:]
    begin = tf.where(tf.stack(_mirrors(orientation)), upright - begin - extent, begin)
    swap = orientation >= 5
    return tf.concat([tf.where(swap, begin[::-1], begin), tf.where(swap, extent[::-1], extent)], 0)


def upright_image(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """uint8 [h, w, C] as stored -> as it should be seen."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    vertical, horizontal = _mirrors(orientation)
    image = tf.cond(vertical, lambda: tf.reverse(image, [0]), lambda: image)
    return tf.cond(horizontal, lambda: tf.reverse(image, [1]), lambda: image)


def _start(contents: tf.Tensor) -> tf.Tensor:
    """int32, the shape of `contents`: where the segment's own bytes begin; 0 where there is none."""
    start = tf.zeros_like(contents, tf.int32)
    length = tf.strings.length(contents)
    for place in _PLACES:
        known = length > place + len(_MARK)
        found = tf.strings.substr(contents, tf.where(known, place, 0), tf.fill(tf.shape(contents), len(_MARK))) == _MARK
        start = tf.where(found & known, place + len(_MARK), start)
    return start


def _orientation_at(contents: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, start, 65536), tf.uint8), tf.int32)
    header = tf.concat([header, tf.zeros([16], tf.int32)], 0)
    size = tf.size(header) - 16
    little = header[0] == ord("I")

    def number(at: tf.Tensor) -> tf.Tensor:
        first, second = header[at], header[at + 1]
        return tf.where(little, first + 256 * second, 256 * first + second)

    directory = tf.where(little, number(tf.constant(4)), number(tf.constant(6)))  # within 64 kB: the other half is 0
    directory = tf.minimum(directory, size)
    count = tf.minimum(number(directory), (size - directory) // 12)
    entries = tf.reshape(header[directory + 2 : directory + 2 + 12 * count], [-1, 12])
    low, high = entries[:, 0::2], entries[:, 1::2]
    words = tf.where(little, low + 256 * high, 256 * low + high)  # [n, 6]: tag, type, count (2), value (2)
    values = tf.where(words[:, 0] == _TAG, words[:, 4], 0)
    value = tf.reduce_max(tf.concat([values, [0]], 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _mirrors(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether the stored image, transposed for 5 to 8, must be turned upside down, and left to right, to stand upright."""
    return tf.reduce_any(orientation == [3, 4, 7, 8]), tf.reduce_any(orientation == [2, 3, 6, 7])
