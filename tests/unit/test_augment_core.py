"""Draws, sampling, fusion: what every operation stands on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import augment, errors
from hetero_tfdata.augment import filters
from hetero_tfdata.augment.draws import Draw, mix, sample_seeds
from hetero_tfdata.augment.op import look_up
from hetero_tfdata.augment.sampling import FILL_MODES, INTERPOLATIONS, compose, resample

RNG = np.random.default_rng(7)


def images(count: int = 4, height: int = 20, width: int = 24, channels: int = 3) -> tf.Tensor:
    return tf.constant(RNG.integers(0, 256, (count, height, width, channels), dtype=np.uint8))


def rotation(angles: list[float], height: int, width: int) -> tf.Tensor:
    rows = []
    for angle in angles:
        c, s, x, y = math.cos(angle), math.sin(angle), (width - 1) / 2, (height - 1) / 2
        rows.append([c, -s, x - c * x + s * y, s, c, y - s * x - c * y, 0, 0])
    return tf.constant(rows, tf.float32)


# --- draws ---


def test_uniform_draws_look_uniform_and_independent():
    seeds = sample_seeds(8192, seed=1, key=tf.range(8192, dtype=tf.int64))
    draw = Draw(seeds, 0)
    first, second = draw.uniform().numpy(), draw.uniform().numpy()
    for values in (first, second, draw.uniform(shape=(4,)).numpy()[:, 2]):
        assert values.min() >= 0
        assert values.max() < 1
        histogram = np.histogram(values, 16, (0, 1))[0]
        chi_square = ((histogram - 512) ** 2 / 512).sum()
        assert chi_square < 45, "15 degrees of freedom: 1 in 10,000"
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    neighbours = np.corrcoef(first[:-1], first[1:])[0, 1]
    assert abs(neighbours) < 0.05, "consecutive keys give unrelated numbers"


def test_a_sample_draws_the_same_in_any_batch():
    keys = tf.constant([5, 9, 11, 2], tf.int64)
    whole = Draw(sample_seeds(4, seed=3, key=keys), 1).normal((5,)).numpy()
    alone = Draw(sample_seeds(1, seed=3, key=keys[2:3]), 1).normal((5,)).numpy()
    np.testing.assert_array_equal(whole[2:3], alone)


def test_seed_epoch_key_operation_and_call_all_matter():
    def value(seed: int = 1, epoch: int = 0, key: int = 4, salt: int = 0, call: int = 0) -> float:
        draw = Draw(sample_seeds(1, seed=seed, key=tf.constant([key], tf.int64), epoch=epoch), salt)
        for _ in range(call):
            draw.uniform()
        return float(draw.uniform()[0])

    values = {value(), value(seed=2), value(epoch=1), value(key=5), value(salt=1), value(call=1), value(seed=-1)}
    assert len(values) == 7
    assert value() == value()


def test_string_keys():
    seeds = sample_seeds(3, seed=1, key=tf.constant(["a.tfrecord:1", "a.tfrecord:2", "a.tfrecord:1"])).numpy()
    assert seeds[0] == seeds[2] != seeds[1]


def test_without_a_seed_every_call_differs():
    first, second = sample_seeds(4, seed=None), sample_seeds(4, seed=None)
    assert not np.array_equal(first, second)
    assert len(set(first.numpy().tolist())) == 4


def test_draws_are_the_same_compiled():
    seeds = sample_seeds(64, seed=1, key=tf.range(64, dtype=tf.int64))
    compiled = tf.function(lambda s: Draw(s, 2).uniform(shape=(3,)), jit_compile=True)
    np.testing.assert_array_equal(compiled(seeds), Draw(seeds, 2).uniform(shape=(3,)))


def test_mix_is_the_published_function():
    """SplitMix64 with seed 0: the first outputs of its authors' generator."""
    assert int(mix(0)) == 0xE220A8397B1DCDAF
    assert int(mix(0x9E3779B97F4A7C15)) == 0x6E789E6AA1B965F4


def test_integers_and_happens():
    draw = Draw(sample_seeds(4096, seed=1, key=tf.range(4096, dtype=tf.int64)), 0)
    counts = np.bincount(draw.integers(14).numpy(), minlength=14)
    assert counts.min() > 4096 / 14 * 0.75
    assert counts.shape == (14,)
    assert abs(float(tf.reduce_mean(tf.cast(draw.happens(0.3), tf.float32))) - 0.3) < 0.04
    assert not draw.happens(0.0).numpy().any()
    assert draw.happens(1.0).numpy().all()


# --- sampling ---


@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resample_equals_tensorflows_kernel(fill_mode, interpolation, channels):
    batch = images(channels=channels)
    transforms = rotation([0.0, 0.4, -1.1, 2.5], 20, 24)
    shift = tf.constant([[0, 0, 7.3, 0, 0, -31.6, 1e-3, -2e-3]], tf.float32)
    transforms = transforms + shift * tf.constant([[0.0], [0.0], [1.0], [1.0]])
    sampled = tf.function(lambda x, t: resample(x, t, fill_mode=fill_mode, interpolation=interpolation), jit_compile=True)(
        batch, transforms
    )
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(batch, tf.float32),
        transforms=transforms,
        output_shape=[20, 24],
        fill_value=0.0,
        interpolation=interpolation.upper(),
        fill_mode=fill_mode.upper(),
    )
    difference = np.abs(sampled.numpy().astype(float) - expected.numpy())
    # at a tie (x.5) one of two neighbours is as good as the other; there are next to none among random coordinates
    assert np.mean(difference > (0.51 if interpolation == "bilinear" else 0)) < 0.002
    assert sampled.shape == batch.shape


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 9, 1), (2, 9, 1, 4), (1, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_images_of_a_row_or_a_column_are_sampled_as_well(shape, fill_mode, interpolation):
    batch = images(*shape)
    identity = tf.tile([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]], [shape[0], 1])
    np.testing.assert_array_equal(resample(batch, identity, fill_mode=fill_mode, interpolation=interpolation), batch)


def test_resample_to_another_size_and_fill():
    identity = tf.constant([[1, 0, 0, 0, 1, 0, 0, 0]], tf.float32)
    batch = images(1, 4, 5)
    bigger = resample(batch, identity, size=(6, 7), fill_value=9).numpy()
    np.testing.assert_array_equal(bigger[:, :4, :5], batch)
    assert (bigger[:, 4:] == 9).all()
    assert (bigger[:, :, 5:] == 9).all()


def float64_bilinear(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """A single bilinear sampling with zeros outside, in float64: the oracle of fusion."""
    height, width, _ = image.shape
    result = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            x = transform[0] * column + transform[1] * row + transform[2]
            y = transform[3] * column + transform[4] * row + transform[5]
            x0, y0 = math.floor(x), math.floor(y)
            for dy in (0, 1):
                for dx in (0, 1):
                    if 0 <= x0 + dx < width and 0 <= y0 + dy < height:
                        weight = (1 - abs(x - x0 - dx)) * (1 - abs(y - y0 - dy))
                        result[row, column] += weight * image[y0 + dy, x0 + dx]
    return result


def test_fused_chain_is_one_sampling_at_the_composed_coordinates():
    ops = [augment.RandomFlip("horizontal"), augment.RandomRotation(0.2), augment.RandomZoom(0.2), augment.RandomShear(0.2)]
    chain = augment.Chain(ops, seed=5, key=1)
    assert len(chain.ops) == 1
    batch, keys = images(3, 12, 10), tf.constant([1, 2, 3], tf.int64)
    sampled = chain(batch, keys)[0].numpy()
    seeds = sample_seeds(3, seed=5, key=keys)
    transforms = None
    for number, op in enumerate(chain.ops[0].ops):
        one = op.transforms(Draw(seeds, number), 12, 10)
        transforms = one if transforms is None else compose(transforms, one)
    for number in range(3):
        expected = float64_bilinear(batch[number].numpy().astype(float), transforms[number].numpy().astype(float))
        assert np.abs(sampled[number] - expected).max() <= 1.0


def test_compose_is_sampling_twice_in_coordinates():
    first, second = rotation([0.3], 8, 8), tf.constant([[1, 0, 2, 0, 1, -1, 0, 0]], tf.float32)
    x, y = 3.0, 5.0
    x1, y1 = x + 2, y - 1  # the second sampling reads the first's result there
    a = first[0].numpy()
    expected = (a[0] * x1 + a[1] * y1 + a[2], a[3] * x1 + a[4] * y1 + a[5])
    c = compose(first, second)[0].numpy()
    np.testing.assert_allclose((c[0] * x + c[1] * y + c[2], c[3] * x + c[4] * y + c[5]), expected, rtol=1e-5)


@pytest.mark.parametrize("per_sample", [False, True])
def test_look_up(per_sample):
    batch = images()
    table = RNG.integers(0, 256, (4 if per_sample else 1, 256), dtype=np.uint8)
    expected = np.stack([table[number if per_sample else 0][batch[number].numpy()] for number in range(4)])
    np.testing.assert_array_equal(look_up(batch, tf.constant(table)), expected)


# --- chains ---


def test_elements_of_every_form_pass():
    chain = augment.Chain([augment.RandomFlip()], seed=1)
    batch, labels = images(), tf.range(4)
    alone = chain(batch).numpy()
    with_labels = chain(batch, labels)
    np.testing.assert_array_equal(with_labels[0], alone)
    np.testing.assert_array_equal(with_labels[1], labels)
    as_dict = chain({"images": batch, "name": tf.constant(["a", "b", "c", "d"])}, labels)
    np.testing.assert_array_equal(as_dict[0]["images"], alone)
    assert set(as_dict[0]) == {"images", "name"}


def test_inside_map_equals_eager_and_needs_no_python_function():
    chain = augment.Chain([augment.RandomRotation(0.1), augment.GaussianBlur(5, sigma=1.0)], seed=1, key=1)
    batch, keys = images(6), tf.range(6, dtype=tf.int64)
    dataset = tf.data.Dataset.from_tensor_slices((batch, keys)).batch(4).map(chain)
    assert dataset.element_spec[0] == tf.TensorSpec([None, 20, 24, 3], tf.uint8)
    mapped = np.concatenate([x.numpy() for x, _ in dataset])
    np.testing.assert_array_equal(mapped, chain(batch, keys)[0])
    graph = tf.function(lambda x, k: chain(x, k)).get_concrete_function(batch, keys).graph.as_graph_def()
    assert "PyFunc" not in str(graph)


def test_without_a_key_equal_samples_are_augmented_equally():
    chain = augment.Chain([augment.RandomRotation(0.3)], seed=1)
    one = images(1)
    result = chain(tf.concat([one, images(2), one], 0)).numpy()
    np.testing.assert_array_equal(result[0], result[3])


def test_epoch_component_changes_the_pixels():
    chain = augment.Chain([augment.RandomRotation(0.3)], seed=1, key=1, epoch=2)
    batch, keys = images(), tf.range(4)
    first, again, second = (chain(batch, keys, tf.constant(e, tf.int64))[0].numpy() for e in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_repr_round_trip_and_equality():
    ops = [augment.Dilation(), augment.RandomFlip("vertical"), augment.RandomZoom((-0.1, 0.2)), augment.MeanBlur(5)]
    chain = augment.Chain(ops, seed=3, key="id")
    assert repr(chain) == (
        "Chain([Dilation(), OneSampling(ops=[RandomFlip(mode='vertical'), RandomZoom(factor=(-0.1, 0.2))]), "
        "MeanBlur(size=5)], seed=3, key='id')"
    )
    assert eval(repr(chain), vars(augment)) == chain
    assert augment.Chain(ops, seed=4) != chain


def test_other_fill_is_not_fused():
    chain = augment.Chain([augment.RandomRotation(0.1, fill_mode="reflect"), augment.RandomZoom(0.1)])
    assert len(chain.ops) == 2


def test_deterministic_leaves_random_operations_out():
    chain = augment.Chain([augment.Dilation(), augment.RandomFlip(), augment.GaussianBlur(3, sigma=(0.1, 2.0))])
    assert chain.deterministic() == augment.Chain([augment.Dilation()])


def test_a_sample_draws_the_same_whether_fused_or_not_and_wherever_its_operation_was_moved():
    batch, keys = images(), tf.range(4)
    ops = [augment.Dilation(), augment.RandomFlip(), augment.RandomTranslation(0.3, 0.3, interpolation="nearest")]
    written = augment.Chain(ops, seed=1, key=1)
    moved = augment.Chain([ops[1], ops[0], ops[2]], seed=1, key=1, positions=[1, 0, 2])
    np.testing.assert_array_equal(written(batch, keys)[0], moved(batch, keys)[0]), "a flip and a dilation commute"
    assert eval(repr(moved), vars(augment)) == moved != written
    with pytest.raises(errors.ConfigurationError, match="Chain: positions: expected 3, one an operation, got 2"):
        augment.Chain(ops, positions=[0, 1])


def test_boxes_and_masks_follow():
    """A single bright pixel, its box and its mask go where the image goes."""
    pixels = np.zeros((1, 21, 31, 3), np.uint8)
    pixels[0, 4:7, 20:25] = 255
    element = {
        "images": tf.constant(pixels),
        "masks": tf.constant((pixels[..., :1] > 0).astype(np.uint8) * 7),
        "boxes": tf.ragged.constant([[[4.0, 20.0, 7.0, 25.0], [0.0, 0.0, 2.0, 2.0]]], ragged_rank=1, dtype=tf.float32),
    }
    flipped = augment.Chain([augment.RandomFlip("horizontal", probability=1.0)])(element)
    assert (flipped["images"].numpy()[0, 4:7, 6:11] == 255).all()
    assert (flipped["masks"].numpy()[0, 4:7, 6:11] == 7).all()
    np.testing.assert_allclose(flipped["boxes"][0, 0], [4.0, 6.0, 7.0, 11.0], atol=1e-3)
    assert int(flipped["masks"].numpy().sum()) == 7 * 15
    moved = augment.Chain([augment.RandomTranslation((0.0, 0.0), (20 / 31, 20 / 31))])(element)
    boxes = moved["boxes"].to_list()[0]
    np.testing.assert_allclose(boxes, [[0.0, 20.0, 2.0, 22.0]], atol=1e-2), "the other one left the image"


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (lambda: augment.RandomFlip("diagonal"), "RandomFlip: mode: expected one of horizontal, vertical, .* got 'diagonal'"),
        (lambda: augment.RandomFlip(probability=1.5), "RandomFlip: probability: expected a probability from 0 to 1, got 1.5"),
        (lambda: augment.GaussianBlur(4), "GaussianBlur: size: expected an odd number of pixels, got 4"),
        (lambda: augment.GaussianBlur(3, sigma=0), "GaussianBlur: sigma: expected a number above 0"),
        (lambda: augment.GaussianBlur(3, padding="wrap"), "GaussianBlur: padding: expected one of"),
        (lambda: augment.RandomRotation(2.0), "RandomRotation: factor: expected parts of a turn from -1 to 1, got 2.0"),
        (lambda: augment.RandomZoom(1.0), "RandomZoom: factor: expected a change of size above -1"),
        (lambda: augment.RandomRotation(0.1, fill_mode="wrap"), "RandomRotation: fill_mode: expected one of"),
        (lambda: augment.RandomRotation(0.1, fill_value=300), "RandomRotation: fill_value: expected a number from 0 to 255"),
        (lambda: augment.Chain([tf.identity]), "Chain: ops: expected operations such as"),
    ],
)
def test_constructor_errors_name_operation_argument_expected_and_got(build, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        build()


@pytest.mark.parametrize(
    ("element", "phrase"),
    [
        (tf.zeros([2, 4, 4, 3]), r"Dilation: images: expected uint8 \[B, H, W, C\], got float32"),
        (tf.zeros([4, 4, 3], tf.uint8), "Dilation: images: expected uint8 .* static H, W and C, got shape"),
        (tf.zeros([2, 4, 4, 2], tf.uint8), "Dilation: images: expected 1 or 3 channels, got 2"),
    ],
)
def test_wrong_images_are_named_when_traced(element, phrase):
    with pytest.raises(errors.DatasetError, match=phrase):
        augment.Chain([augment.Dilation()])(element)


def test_missing_key_component_is_named():
    with pytest.raises(errors.DatasetError, match=r"Chain: key: expected a component of the element .*, got 'id'"):
        augment.Chain([augment.RandomFlip()], seed=1, key="id")(images(), tf.range(4))


# --- filters ---


def shifted_extreme(batch: np.ndarray, size: int, pick) -> np.ndarray:
    outside = 0 if pick is np.maximum else 255
    radius = size // 2
    padded = np.pad(batch, [(0, 0), (radius, radius), (radius, radius), (0, 0)], constant_values=outside)
    result = batch
    for dy in range(size):
        for dx in range(size):
            result = pick(result, padded[:, dy : dy + batch.shape[1], dx : dx + batch.shape[2]])
    return result


@pytest.mark.parametrize("size", [1, 3, 5])
def test_dilation_and_erosion(size):
    batch = images()
    dilated = augment.Chain([augment.Dilation(size)])(batch).numpy()
    np.testing.assert_array_equal(dilated, shifted_extreme(batch.numpy(), size, np.maximum))
    np.testing.assert_array_equal(
        augment.Chain([augment.Erosion(size)])(batch), shifted_extreme(batch.numpy(), size, np.minimum)
    )
    kernel = tf.zeros([size, size, 3])
    stock = tf.nn.dilation2d(tf.cast(batch, tf.float32), kernel, [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1])
    np.testing.assert_array_equal(dilated, stock)


@pytest.mark.parametrize("padding", ["reflect", "constant", "nearest"])
@pytest.mark.parametrize(("size", "sigma"), [(17, 4.0), (11, 0.8), (5, 2.0), (3, 0.1)])
@pytest.mark.parametrize("shape", [(16, 20), (240, 320)], ids=["a small image", "one that is cut into bands"])
def test_gaussian_blur_equals_a_float64_convolution(size, sigma, padding, shape):
    batch = images(2, *shape).numpy().astype(float)
    offsets = np.arange(-(size // 2), size // 2 + 1)
    bell = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = bell / bell.sum()
    radius = size // 2
    mode = {"reflect": "reflect", "constant": "constant", "nearest": "edge"}[padding]
    padded = np.pad(batch, [(0, 0), (radius, radius), (radius, radius), (0, 0)], mode=mode)
    expected = sum(
        weights[i] * weights[j] * padded[:, i : i + batch.shape[1], j : j + batch.shape[2]]
        for i in range(size)
        for j in range(size)
    )
    blurred = augment.Chain([augment.GaussianBlur(size, sigma=sigma, padding=padding)])(tf.cast(batch, tf.uint8))
    assert np.abs(blurred.numpy() - expected).max() <= 0.51
    each = filters._blurred(tf.cast(batch, tf.uint8), tf.constant([weights, weights[::-1]], tf.float32), padding)
    assert np.abs(each.numpy() - expected).max() <= 0.51


def test_drawn_sigma_lies_in_its_range_and_belongs_to_the_sample():
    batch = tf.concat([images(1)] * 16, 0)
    op = augment.GaussianBlur(11, sigma=(0.1, 2.0))
    assert op.is_random
    blurred = augment.Chain([op], seed=1, key=1)(batch, tf.range(16))[0].numpy().astype(float)
    deviations = blurred.std(axis=(1, 2, 3))
    sharpest = augment.Chain([augment.GaussianBlur(11, sigma=0.1)])(batch[:1]).numpy().std()
    softest = augment.Chain([augment.GaussianBlur(11, sigma=2.0)])(batch[:1]).numpy().std()
    assert softest - 0.5 <= deviations.min() < deviations.max() <= sharpest + 0.5
    assert len(set(deviations.round(3))) > 8


def test_a_large_image_cut_into_bands_is_blurred_as_a_whole_one(monkeypatch):
    batch, chain = images(3, 240, 320), augment.Chain([augment.GaussianBlur(11, sigma=(0.1, 2.0))], seed=1, key=1)
    in_bands = chain(batch, tf.range(3))[0]
    monkeypatch.setattr("hetero_tfdata.augment.filters.band_count", lambda _: 1)
    whole = chain(batch, tf.range(3))[0]
    np.testing.assert_array_equal(in_bands, whole)
    assert len(set(whole.numpy().std(axis=(1, 2, 3)).round(1))) == 3  # each with a sigma of its own


def test_mean_blur():
    batch = images(1, 6, 6, 1).numpy()
    padded = np.pad(batch.astype(float), [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    expected = sum(padded[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)) / 9
    assert np.abs(augment.Chain([augment.MeanBlur(3)])(batch).numpy() - expected).max() <= 0.51


# --- geometry ---


def drawn_transforms(op, count: int = 4096) -> np.ndarray:
    seeds = sample_seeds(count, seed=1, key=tf.range(count, dtype=tf.int64))
    return op.transforms(Draw(seeds, 0), 32, 32).numpy()


def test_distributions_of_the_drawn_parameters():
    angles = [math.atan2(t[3], t[0]) / (2 * math.pi) for t in drawn_transforms(augment.RandomRotation(0.1))]
    assert -0.1 <= min(angles) < -0.099
    assert 0.099 < max(angles) <= 0.1
    assert abs(np.mean(angles)) < 0.003
    zooms = drawn_transforms(augment.RandomZoom(0.1))[:, 0]
    assert 0.9 <= zooms.min() < 0.901
    assert 1.099 < zooms.max() <= 1.1
    both = drawn_transforms(augment.RandomZoom(0.1, keep_aspect=False))
    assert abs(np.corrcoef(both[:, 0], both[:, 4])[0, 1]) < 0.05
    flips = drawn_transforms(augment.RandomFlip("horizontal"))[:, 0] < 0
    assert abs(flips.mean() - 0.5) < 0.03
    shifts = drawn_transforms(augment.RandomTranslation(0.25, (0.0, 0.5)))
    assert -8 <= shifts[:, 5].min() < -7.9
    assert -16 <= shifts[:, 2].min() < shifts[:, 2].max() <= 0


def test_rotation_turns_as_keras_does():
    batch = images(1, 33, 33).numpy().astype(np.float32)
    layer = tf.keras.layers.RandomRotation((0.25, 0.25), fill_mode="constant", interpolation="nearest")
    ours = augment.Chain([augment.RandomRotation((0.25, 0.25), interpolation="nearest")])(tf.cast(batch, tf.uint8))
    assert np.mean(ours.numpy() != layer(batch, training=True).numpy()) < 0.05


def test_certain_flips_are_exact():
    batch = images()
    for mode, axes in (("horizontal", [2]), ("vertical", [1]), ("horizontal_and_vertical", [1, 2])):
        flipped = augment.Chain([augment.RandomFlip(mode, probability=1.0)])(batch)
        np.testing.assert_array_equal(flipped, tf.reverse(batch, axes))
