"""Crops, padding, resizing, erasing; boxes and masks with them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import augment, errors

RNG = np.random.default_rng(11)


def images(count: int = 3, height: int = 21, width: int = 30, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def scene() -> dict[str, object]:
    """One image with a bright block, its mask and its box."""
    pixels = np.zeros((1, 40, 60, 3), np.uint8)
    pixels[0, 10:30, 20:50] = 200
    boxes = tf.ragged.constant([[[10.0, 20.0, 30.0, 50.0]]], ragged_rank=1, dtype=tf.float32)
    return {"images": tf.constant(pixels), "masks": tf.constant(pixels[..., :1] // 200), "boxes": boxes}


def box_of_mask(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask[..., 0])
    return [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def test_center_crop_cuts_as_keras_does():
    batch = images()
    cropped = augment.Chain([augment.CenterCrop(10, 15)])(batch)
    np.testing.assert_array_equal(cropped, tf.keras.layers.CenterCrop(10, 15)(batch).numpy().astype(np.uint8))


@pytest.mark.parametrize(("mode", "numpy_mode"), [("constant", "constant"), ("reflect", "reflect"), ("symmetric", "symmetric")])
def test_pad(mode, numpy_mode):
    batch = images()
    more = {"constant_values": 9} if mode == "constant" else {}
    expected = np.pad(batch, [(0, 0), (4, 4), (4, 4), (0, 0)], mode=numpy_mode, **more)
    np.testing.assert_array_equal(augment.Chain([augment.Pad(4, mode, value=9)])(batch), expected)


@pytest.mark.parametrize("size", [(42, 60), (10, 15), (21, 30), (13, 50)])
def test_resize_equals_tensorflows(size):
    batch = images()
    expected = tf.image.resize(batch, size).numpy()
    assert np.abs(augment.Chain([augment.Resize(*size)])(batch).numpy() - expected).max() <= 0.51


def test_random_resized_crop_keeps_to_its_area_and_aspect():
    ramp = np.zeros((2048, 20, 20, 3), np.uint8)
    ramp[..., 0] = np.arange(20)[:, None] * 12
    ramp[..., 1] = np.arange(20)[None, :] * 12
    chain = augment.Chain([augment.RandomResizedCrop(20, 20, area=(0.25, 0.81), aspect=(1.0, 1.0))], seed=1, key=1)
    cropped = chain(tf.constant(ramp), tf.range(2048))[0].numpy().astype(float)
    # a crop of s pixels a side shows a ramp s / 20 times as steep
    steepness = (cropped[:, 15, 10, 0] - cropped[:, 5, 10, 0]) / 120
    assert 0.5 - 0.03 <= steepness.min() < 0.53
    assert 0.87 < steepness.max() <= 0.9 + 0.03
    areas = steepness**2
    assert abs(areas.mean() - (0.25 + 0.81) / 2) < 0.02, "the area is drawn evenly"
    sideways = (cropped[:, 10, 15, 1] - cropped[:, 10, 5, 1]) / 120
    np.testing.assert_allclose(steepness, sideways, atol=0.03)


def test_a_whole_crop_is_the_image():
    batch = images()
    chain = augment.Chain([augment.RandomResizedCrop(21, 30, area=(1.0, 1.0), aspect=(30 / 21, 30 / 21))])
    np.testing.assert_array_equal(chain(batch), batch)


@pytest.mark.parametrize(
    "op",
    [
        augment.CenterCrop(24, 36),
        augment.Pad(6),
        augment.Resize(20, 90),
        augment.RandomResizedCrop(40, 60, area=(0.5, 0.9)),
        augment.RandomFlip("horizontal_and_vertical"),
        augment.RandomTranslation(0.2, 0.2),
        augment.RandomZoom(0.3),
        augment.RandomRotation((0.25, 0.25)),
    ],
    ids=repr,
)
def test_boxes_go_where_the_masks_go(op):
    element = scene()
    result = augment.Chain([op], seed=8, key="id")({**element, "id": tf.constant([5])})
    np.testing.assert_allclose(result["boxes"].to_list()[0][0], box_of_mask(result["masks"].numpy()[0]), atol=1.5)
    assert result["images"].shape[1:3] == result["masks"].shape[1:3]


def test_boxes_without_any_pass():
    element = {"images": tf.constant(images(2)), "boxes": tf.RaggedTensor.from_row_lengths(tf.zeros([0, 4]), [0, 0])}
    result = augment.Chain([augment.RandomRotation(0.1)])(element)
    assert result["boxes"].to_list() == [[], []]


def test_erasing_paints_its_share():
    batch = np.full((512, 40, 40, 1), 255, np.uint8)
    op = augment.RandomErasing(area=(0.1, 0.1), aspect=(1.0, 1.0), probability=0.5)
    painted = augment.Chain([op], seed=1, key=1)(tf.constant(batch), tf.range(512))[0].numpy()
    share = (painted == 0).mean(axis=(1, 2, 3))
    assert 0.4 < (share > 0).mean() < 0.6
    assert share.max() <= 0.11
    whole = share[share > 0.09]
    assert len(whole) > 50, "squares that lie inside have their whole area"
    assert set(np.unique(painted)) == {0, 255}


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (lambda: augment.Resize(0, 4), "Resize: height: expected a whole number of pixels above 0, got 0"),
        (lambda: augment.Pad(-1), "Pad: pixels: expected a whole number from 0, got -1"),
        (lambda: augment.Pad(1, "wrap"), "Pad: mode: expected one of constant, reflect, symmetric, got 'wrap'"),
        (lambda: augment.RandomResizedCrop(4, 4, area=(0.5, 0.1)), "RandomResizedCrop: area: expected two parts"),
        (lambda: augment.RandomErasing(probability=2), "RandomErasing: probability: expected a probability from 0 to 1, got 2"),
    ],
)
def test_constructor_errors(build, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        build()


def test_a_crop_larger_than_the_image_is_named_when_traced():
    with pytest.raises(errors.DatasetError, match="CenterCrop: height, width: expected at most the images' 21x30, got 22x10"):
        augment.Chain([augment.CenterCrop(22, 10)])(images())
