"""Decoding: the right pixels of every kind of file."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image, ImageFilter

from hetero_tfdata.augment import jpeg

# 400 wide, 280 high; smooth, so that sampling and averaging give nearly the same
PHOTO = Image.fromarray(skimage.data.chelsea()[:280, :400]).filter(ImageFilter.GaussianBlur(3))
SEEDS = tf.constant([3, 5, 8, 13], tf.uint64)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def middle(contents: bytes, height: int = 70, width: int = 100, **options: object) -> np.ndarray:
    return jpeg.central_crops(tf.constant([contents]), height, width, **options).images[0].numpy().astype(int)


def random_crop(contents: bytes, seed: tf.Tensor, side: int, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """The pixels and the window."""
    crops = jpeg.random_resized_crops(tf.constant([contents]), tf.reshape(seed, [1]), side, side, **options)
    return crops.images[0].numpy(), crops.windows[0].numpy()


def expected(image: Image.Image, height: int = 70, width: int = 100) -> np.ndarray:
    """The central 7/8 by another library, averaged over each pixel's area."""
    wide, high = image.size
    scale = min(wide / width, high / height) * 0.875
    box_width, box_height = round(scale * width), round(scale * height)
    left, top = (wide - box_width) // 2, (high - box_height) // 2
    part = image.convert("RGB").crop((left, top, left + box_width, top + box_height))
    return np.asarray(part.resize((width, height), Image.BOX)).astype(int)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize("dct", jpeg.DCT)
def test_central_crop_is_what_another_library_makes(dct):
    assert difference(middle(encoded(PHOTO), dct=dct), expected(PHOTO)) < 4


@pytest.mark.parametrize(
    "contents",
    [
        encoded(PHOTO, "PNG"),
        encoded(PHOTO.convert("RGBA"), "PNG"),
        encoded(PHOTO, "BMP"),
        encoded(PHOTO.convert("CMYK")),
        encoded(PHOTO, progressive=True),
    ],
    ids=["png", "png with alpha", "bmp", "cmyk", "progressive"],
)
def test_other_kinds_of_files_give_the_same_photograph(contents):
    assert difference(middle(contents), expected(PHOTO)) < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_files_give_three_equal_channels(kind):
    image = middle(encoded(PHOTO.convert("L"), kind))
    assert image.shape == (70, 100, 3)
    assert np.ptp(image, axis=-1).max() <= 1
    assert difference(image, expected(PHOTO.convert("L"))) < 4


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(orientation, order):
    """The file holds the photograph turned; what comes out stands upright, and the window is the same."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = PHOTO.transpose(turn[orientation]) if orientation > 1 else PHOTO
    entry = (0x0112).to_bytes(2, order) + (3).to_bytes(2, order) + (1).to_bytes(4, order) + orientation.to_bytes(2, order)
    mark = b"II*\x00" if order == "little" else b"MM\x00*"
    header = mark + (8).to_bytes(4, order) + (1).to_bytes(2, order) + entry + bytes(2) + bytes(4)
    contents = encoded(stored, exif=b"Exif\x00\x00" + header)
    assert difference(middle(contents), expected(PHOTO)) < 4
    windows = [random_crop(file, SEEDS[0], 64)[1] for file in (contents, encoded(PHOTO))]
    np.testing.assert_array_equal(*windows)


def test_large_windows_are_decoded_at_a_smaller_scale():
    """Half the scale is an average of 2x2 pixels: nearer to the area's average than sampling the whole would be."""
    large = PHOTO.resize((1600, 1120), Image.BICUBIC)
    for height, width in ((280, 400), (140, 200), (70, 100)):
        assert difference(middle(encoded(large), height, width), expected(large, height, width)) < 3


def test_random_windows_have_the_area_and_aspect_asked_for():
    contents, seeds = tf.constant([encoded(PHOTO)] * 150), tf.range(150, dtype=tf.int64)
    windows = jpeg.random_resized_crops(contents, tf.cast(seeds, tf.uint64), 8, 8, area=(0.1, 0.4)).windows.numpy()
    top, left, high, wide = windows.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + high <= 280).all()
    assert (left + wide <= 400).all()
    assert 0.095 < (high * wide / (280 * 400)).min() < 0.14
    assert 0.36 < (high * wide / (280 * 400)).max() < 0.405
    assert 0.73 < (wide / high).min() < 0.85
    assert 1.18 < (wide / high).max() < 1.36
    assert len({tuple(window) for window in windows}) > 140


def test_where_no_window_fits_the_largest_central_one_is_taken():
    thin = encoded(PHOTO.resize((400, 20)))
    _, window = random_crop(thin, SEEDS[0], 8, area=(1.0, 1.0))
    np.testing.assert_array_equal(window, [0, (400 - 26) // 2, 20, 26])  # 4/3 of 20


def test_same_seed_same_window_other_seed_other_window():
    contents = encoded(PHOTO)
    first, again = (random_crop(contents, SEEDS[0], 32)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, random_crop(contents, SEEDS[1], 32)[0])


def test_files_of_every_kind_in_one_batch_are_what_each_is_alone():
    files = [encoded(PHOTO), encoded(PHOTO, "PNG"), encoded(PHOTO.resize((1600, 1120))), encoded(PHOTO.convert("L"))]
    together = jpeg.random_resized_crops(tf.constant(files), SEEDS, 48, 32)
    assert together.files.numpy().tolist() == [0, 1, 2, 3]
    for number, contents in enumerate(files):
        alone = jpeg.random_resized_crops(tf.constant([contents]), SEEDS[number : number + 1], 48, 32)
        np.testing.assert_array_equal(alone.images[0], together.images[number])
        np.testing.assert_array_equal(alone.windows[0], together.windows[number])


def test_a_jpeg_that_was_cut_off_is_recovered():
    contents = encoded(PHOTO)
    whole = middle(contents)
    recovered = middle(contents[: len(contents) * 9 // 10])
    assert difference(recovered[:40], whole[:40]) < 1


def test_what_cannot_be_decoded_is_left_out():
    good, grey = encoded(PHOTO), encoded(PHOTO.convert("L"))
    no_tables = good[:20] + bytes(600) + good[620:]
    broken = [b"not an image, whatever its name says", b"", good[:200], no_tables, encoded(PHOTO, "PNG")[:300]]
    crops = jpeg.central_crops(tf.constant([*broken[:2], good, *broken[2:], grey]), 70, 100)
    assert crops.files.numpy().tolist() == [2, 6]
    np.testing.assert_array_equal(crops.images[0], middle(good))
    np.testing.assert_array_equal(crops.images[1], middle(grey))
    nothing = jpeg.central_crops(tf.constant(broken), 70, 100)
    assert nothing.images.shape == (0, 70, 100, 3)
    assert nothing.files.shape == nothing.windows.shape[:1] == (0,)
