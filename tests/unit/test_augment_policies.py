"""RandAugment and TrivialAugment: each transform against its reference, the draws, and that it all belongs to the sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from hetero_tfdata import errors
from hetero_tfdata.augment import Chain, policies
from hetero_tfdata.augment.draws import Draw, sample_seeds
from hetero_tfdata.augment.policies import RandAugment, TrivialAugment

COUNT = 112


def photo(height: int = 48, width: int = 56, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:height, 0:width]
    layers = [
        120 + 10 * c + 90 * np.sin(x / (4 + c)) * np.cos(y / (6 - c)) + rng.normal(0, 4, x.shape) for c in range(channels)
    ]
    return np.stack(layers, -1).clip(0, 255).astype(np.uint8)


def sampled(image: np.ndarray, transform: list[float], interpolation: str) -> np.ndarray:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(image[None], tf.float32),
        transforms=tf.constant([[*transform, 0.0, 0.0]], tf.float32),
        output_shape=image.shape[:2],
        fill_value=128.0,
        interpolation=interpolation.upper(),
        fill_mode="CONSTANT",
    )[0].numpy()


def rotation(angle: float, height: int, width: int) -> list[float]:
    c, s, x, y = math.cos(angle), math.sin(angle), (width - 1) / 2, (height - 1) / 2
    return [c, -s, x - c * x + s * y, s, c, y - s * x - c * y]


def possible(name: str, image: np.ndarray, level: float, interpolation: str) -> list[np.ndarray]:
    """What tf-models makes of the image with that transform, at magnitude 10 times the level: one or both sides."""
    height, width, _ = image.shape
    pil, factor = Image.fromarray(image), 1.8 * level + 0.1
    both = (-1.0, 1.0)
    affine = {
        "Rotate": lambda sign: rotation(sign * level * math.pi / 6, height, width),
        "ShearX": lambda sign: [1, sign * 0.3 * level, 0, 0, 1, 0],
        "ShearY": lambda sign: [1, 0, 0, sign * 0.3 * level, 1, 0],
        "TranslateX": lambda sign: [1, 0, sign * 0.45 * level * width, 0, 1, 0],
        "TranslateY": lambda sign: [1, 0, 0, 0, 1, sign * 0.45 * level * height],
    }
    if name in affine:
        return [sampled(image, affine[name](sign), interpolation) for sign in both]
    by_value = {
        "AutoContrast": lambda: ImageOps.autocontrast(pil),
        "Equalize": lambda: ImageOps.equalize(pil),
        "Invert": lambda: ImageOps.invert(pil),
        "Posterize": lambda: ImageOps.posterize(pil, int(level * 4)),
        "Solarize": lambda: ImageOps.solarize(pil, int(level * 256)),
        "Color": lambda: ImageEnhance.Color(pil).enhance(factor),
        "Contrast": lambda: ImageEnhance.Contrast(pil).enhance(factor),
        "Brightness": lambda: ImageEnhance.Brightness(pil).enhance(factor),
        "Sharpness": lambda: ImageEnhance.Sharpness(pil).enhance(factor),
    }
    return [np.asarray(by_value[name]())]


def choices(op, count: int = COUNT) -> np.ndarray:
    """The numbers of the transforms that a chain of this operation alone draws with seed 1 for keys 0 to count - 1."""
    seen = []
    original = policies._layer

    def spy(names, choice, **strength):
        seen.append(choice)
        return original(names, choice, **strength)

    policies._layer = spy
    try:
        op._layers(Draw(sample_seeds(count, seed=1, key=tf.range(count, dtype=tf.int64)), 0), 48, 56)
    finally:
        policies._layer = original
    return tf.stack(seen, 1).numpy()


def differs(first: np.ndarray, second: np.ndarray) -> float:
    """The share of values that are more than a grey level apart."""
    return float((np.abs(first.astype(float) - second.astype(float)) > 1.01).mean())


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("magnitude", [9.0, 5.0])
def test_each_transform_equals_its_reference(interpolation, magnitude):
    image = photo()
    op = RandAugment(operations=1, magnitude=magnitude, interpolation=interpolation)
    batch, keys = np.stack([image] * COUNT), tf.range(COUNT, dtype=tf.int64)
    results = Chain([op], seed=1, key=1)(batch, keys)[0].numpy()
    drawn = choices(op)[:, 0]
    assert set(drawn) == set(range(14)), "all of them are seen here"
    for number, name in enumerate(RandAugment.TRANSFORMS):
        references = possible(name, image, magnitude / 10, interpolation)
        met = set()
        for result in results[drawn == number]:
            # nearest: where a coordinate lies on the edge between two pixels either is right
            distances = [differs(result, reference) for reference in references]
            assert min(distances) < 0.01, name
            met.add(int(np.argmin(distances)))
        assert len(met) == len(references), f"{name}: both sides are drawn"


def test_two_operations_are_one_after_the_other():
    image = photo()
    op = RandAugment(operations=2)
    results = Chain([op], seed=1, key=1)(np.stack([image] * COUNT), tf.range(COUNT, dtype=tf.int64))[0].numpy()
    checked = 0
    affine = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}
    for result, drawn in zip(results, choices(op), strict=True):
        first, second = (RandAugment.TRANSFORMS[number] for number in drawn)
        if {first, second} & affine:
            continue
        step = possible(first, image, 0.9, "nearest")[0]
        expected = possible(second, step, 0.9, "nearest")[0]
        # a grey level's difference in the first can grow in the second
        assert np.abs(result.astype(float) - expected).mean() < 1.5, (first, second)
        checked += 1
    assert checked > 20


def test_trivial_augment_equals_torchvisions_ranges():
    op = TrivialAugment()
    layers = op._layers(Draw(sample_seeds(4096, seed=1, key=tf.range(4096, dtype=tf.int64)), 0), 48, 56)
    drawn = choices(op, 4096)[:, 0]
    transforms, tables, factors = layers[0].transforms.numpy(), layers[0].tables.numpy(), layers[0].factors.numpy()
    of = {name: drawn == number for number, name in enumerate(TrivialAugment.TRANSFORMS)}
    for name, column in (("ShearX", 1), ("ShearY", 3)):
        shears = transforms[of[name]][:, column]
        np.testing.assert_allclose([shears.min(), shears.max()], [-0.99, 0.99], atol=1e-6)
    shifts = transforms[of["TranslateX"]][:, 2]
    assert (shifts.min(), shifts.max()) == (-32, 32)
    assert len(np.unique(np.abs(shifts).round(3))) == 31
    angles = np.degrees(np.arctan2(transforms[of["Rotate"]][:, 3], transforms[of["Rotate"]][:, 0]))
    np.testing.assert_allclose([angles.min(), angles.max()], [-135, 135], atol=0.01)
    np.testing.assert_allclose([factors.min(), factors.max(), factors.mean()], [0.01, 1.99, 1.0], atol=0.02)
    kept = {len(np.unique(table)) for table in tables[of["Posterize"]]}
    assert kept == {4, 8, 16, 32, 64, 128, 256}
    thresholds = [int((table == np.arange(256)).argmin()) for table in tables[of["Solarize"]]]
    assert (min(thresholds), max(thresholds)) == (0, 255)
    unmoved = transforms[~(of["Rotate"] | of["ShearX"] | of["ShearY"] | of["TranslateX"] | of["TranslateY"])]
    assert (unmoved == [1, 0, 0, 0, 1, 0, 0, 0]).all()


@pytest.mark.parametrize("op", [RandAugment(), TrivialAugment()], ids=repr)
def test_transforms_are_drawn_alike_often(op):
    counts = np.bincount(choices(op, 4096)[:, 0], minlength=14)
    assert counts.shape == (14,)
    assert ((counts - 4096 / 14) ** 2 / (4096 / 14)).sum() < 40, "13 degrees of freedom: 1 in 10,000"


def test_layers_are_drawn_by_themselves():
    drawn = choices(RandAugment(operations=3), 4096)
    assert drawn.shape == (4096, 3)
    assert abs((drawn[:, 0] == drawn[:, 1]).mean() - 1 / 14) < 0.02
    assert abs((drawn[:, 1] == drawn[:, 2]).mean() - 1 / 14) < 0.02


@pytest.mark.parametrize("op", [RandAugment(), RandAugment(interpolation="bilinear"), TrivialAugment()], ids=repr)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_belong_to_the_sample(op, channels):
    batch = np.stack([photo(channels=channels)] * 24)
    chain, keys = Chain([op], seed=3, key=1), tf.range(24, dtype=tf.int64)
    whole = chain(batch, keys)[0].numpy()
    assert whole.shape == batch.shape
    np.testing.assert_array_equal(chain(batch[:5], keys[19:])[0], whole[19:], "another batch, the same pixels")
    np.testing.assert_array_equal(chain(batch[:1], keys[4:5])[0], whole[4:5], "a batch of one")
    assert len({image.tobytes() for image in whole}) > 8, "another key, other pixels"
    assert not np.array_equal(Chain([op], seed=4, key=1)(batch, keys)[0], whole), "another seed, other pixels"
    dataset = tf.data.Dataset.from_tensor_slices((batch, keys)).batch(10).map(chain)
    assert dataset.element_spec[0] == tf.TensorSpec([None, 48, 56, channels], tf.uint8)
    np.testing.assert_array_equal(np.concatenate([images.numpy() for images, _ in dataset]), whole)
    graph = tf.function(chain).get_concrete_function(tf.constant(batch), keys).graph.as_graph_def()
    assert "PyFunc" not in str(graph)


def test_boxes_and_masks_follow():
    pixels = np.full((64, 48, 56, 3), 128, np.uint8)
    pixels[:, 20:28, 24:34] = (250, 10, 60)
    masks = (pixels[..., :1] == 250).astype(np.uint8)
    boxes = tf.ragged.constant([[[20.0, 24.0, 28.0, 34.0]]] * 64, ragged_rank=1, dtype=tf.float32)
    element = {"images": tf.constant(pixels), "masks": tf.constant(masks), "boxes": boxes, "id": tf.range(64)}
    result = Chain([TrivialAugment()], seed=1, key="id")(element)
    assert result["masks"].shape == masks.shape
    moved = 0
    for image, mask, box in zip(result["images"].numpy(), result["masks"].numpy()[..., 0], result["boxes"], strict=True):
        rows, columns = np.nonzero(mask)
        whole = len(rows) and rows.min() > 0 and columns.min() > 0 and rows.max() < 47 and columns.max() < 55
        if not whole:
            continue  # what left the image is cut off the mask, but cut off the box around the moved corners
        assert box.shape == (1, 4)
        y0, x0, y1, x1 = box[0].numpy()
        np.testing.assert_allclose([y0, x0, y1, x1], [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], atol=2.0)
        outside = image[~mask.astype(bool)]
        assert np.abs(np.median(outside, 0) - outside).mean() < 12, "the mask covers the object"
        moved += rows.min() != 20 or columns.min() != 24
    assert moved > 12


def test_repr_round_trip():
    for op in (RandAugment(), RandAugment(operations=3, magnitude=5.0, fill_value=0), TrivialAugment(interpolation="bilinear")):
        assert eval(repr(op), vars(policies)) == op
    assert repr(RandAugment(magnitude=7)) == "RandAugment(magnitude=7)"


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (lambda: RandAugment(operations=0), "RandAugment: operations: expected a whole number of at least 1, got 0"),
        (lambda: RandAugment(operations=1.5), "RandAugment: operations: expected a whole number of at least 1, got 1.5"),
        (lambda: RandAugment(magnitude=11), "RandAugment: magnitude: expected a number from 0 to 10, got 11"),
        (lambda: RandAugment(translation=2), "RandAugment: translation: expected a number from 0 to 1, got 2"),
        (lambda: RandAugment(fill_value=-1), "RandAugment: fill_value: expected a number from 0 to 255, got -1"),
        (lambda: TrivialAugment(interpolation="cubic"), "TrivialAugment: interpolation: expected one of bilinear, nearest"),
    ],
)
def test_constructor_errors_name_operation_argument_expected_and_got(build, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        build()
