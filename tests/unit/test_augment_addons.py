"""The adapter of TensorFlow Addons, and TensorFlow Addons as the oracle of the operations that it has too.

Equalize and Sharpness are compared with it in test_augment_color.py.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import pickle
import sys

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import augment, errors
from hetero_tfdata.augment import addons
from hetero_tfdata.augment.addons import Addons, Integers, Uniform
from hetero_tfdata.augment.draws import Draw, sample_seeds

RNG = np.random.default_rng(17)
HEIGHT, WIDTH = 20, 24
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
GRID = np.stack([X, Y], -1)
POINTS = np.array([[5.0, 6.0], [14.0, 17.0]])

needs_addons = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_addons") is None, reason="TensorFlow Addons is not installed (it ends at TF 2.15)"
)


@pytest.fixture
def tfa():
    return pytest.importorskip("tensorflow_addons", reason="TensorFlow Addons is not installed (it ends at TF 2.15)").image


def images(count: int = 4, channels: int = 3) -> np.ndarray:
    """Smooth, of every level, with some noise."""
    phase = RNG.uniform(0, 6, (count, 1, 1, channels))
    smooth = 128 + 110 * np.sin(X[..., None] / 5 + phase) * np.cos(Y[..., None] / 4 + phase)
    return (smooth + RNG.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)


def run(op, batch: np.ndarray) -> np.ndarray:
    """With the seeds of `draw_of`."""
    return augment.Chain([op], seed=1, key=1)(tf.constant(batch), tf.range(len(batch)))[0].numpy()


def draw_of(count: int) -> Draw:
    return Draw(sample_seeds(count, seed=1, key=tf.range(count)), 0)


def rounded(values) -> np.ndarray:
    return np.floor(np.clip(np.asarray(values, np.float32) + 0.5, 0, 255)).astype(np.uint8)


def worst(first, second) -> float:
    return float(np.abs(np.asarray(first, float) - np.asarray(second, float)).max())


def differing(first, second, more_than: float) -> float:
    """The part of the values that differ by more."""
    return float(np.mean(np.abs(np.asarray(first, float) - np.asarray(second, float)) > more_than))


def loads(op: Addons, channels: int = 3) -> None:
    """Skips where this TensorFlow can't load the library that the function needs."""
    try:
        run(op, images(1, channels))
    except errors.ConfigurationError as error:
        if "can load" not in str(error):
            raise
        pytest.skip(str(error))


CASES = (
    [
        Addons("adjust_hsv_in_yiq", delta_hue=Uniform(-0.5, 0.5), scale_saturation=1.2),
        Addons("adjust_hsv_in_yiq", delta_hue=0.5),
        Addons("connected_components"),
        Addons("cutout", mask_size=(6, 8), offset=Integers((0, 0), (HEIGHT - 1, WIDTH - 1))),
        Addons("cutout", mask_size=Integers(4, 8, step=2), offset=(9, 9), constant_values=Uniform(1, 255)),
        Addons("dense_image_warp", flow=Uniform(-2.0, 2.0, shape=(HEIGHT, WIDTH, 2))),
        Addons("equalize"),
        Addons("euclidean_dist_transform"),
        Addons("gaussian_filter2d", filter_shape=(3, 5), sigma=1.0),
        Addons("mean_filter2d", filter_shape=3, padding="CONSTANT", constant_values=9),
        Addons("median_filter2d"),
        Addons("resampler", warp=GRID * 0.9),
        Addons("resampler", warp=Uniform(GRID - 1, GRID + 1)),
        Addons("rotate", angles=Uniform(-0.3, 0.3), interpolation="bilinear"),
        Addons("rotate", angles=0.2, fill_value=Uniform(0, 255)),
        Addons("sharpness", factor=1.5),
        Addons("sharpness", factor=Uniform(0.0, 2.0)),
        Addons("shear_x", level=Uniform(-0.3, 0.3), replace=(1, 2, 3)),
        Addons("shear_y", level=0.3, replace=128),
        Addons(
            "sparse_image_warp",
            source_control_point_locations=POINTS,
            dest_control_point_locations=Uniform(POINTS - 2, POINTS + 2),
            num_boundary_points=1,
        ),
        Addons("transform", transforms=(1, 0, 2, 0, 1, 3, 0, 0)),
        Addons("transform", transforms=(2, 0, 0, 0, 2, 0, 0, 0), output_shape=(10, 12)),
        Addons("translate", translations=Uniform(-3.0, 3.0, shape=(2,))),
        Addons("translate", translations=Integers((-3, -3), (3, 3))),
        Addons("translate_xy", translate_to=Integers((-3, -3), (3, 3)), replace=7),
    ]
    if importlib.util.find_spec("tensorflow_addons")
    else []
)
EACH = pytest.mark.parametrize("op", CASES, ids=lambda op: "-".join([op.function, *dict(op.arguments)]))


# --- the adapter ---


def test_the_table_is_what_tensorflow_addons_has(tfa):
    functions = {name: getattr(tfa, name) for name in dir(tfa) if callable(getattr(tfa, name)) and name[0] != "_"}
    assert set(functions) == set(addons._FUNCTIONS) | set(addons._REFUSED)
    for name, known in addons._FUNCTIONS.items():
        signature = inspect.signature(getattr(functions[name], "python_function", functions[name]))
        arguments = {key: value for key, value in list(signature.parameters.items())[1:] if key not in ("name", "dtype")}
        assert set(known.arguments) == set(arguments), name
        without_default = [key for key, value in arguments.items() if value.default is value.empty]
        assert list(known.arguments[: known.required]) == without_default, name
    assert {op.function for op in CASES} == set(addons._FUNCTIONS)


@needs_addons
@EACH
def test_eager_equals_map_and_each_sample_stands_alone(op):
    batch = images(5, op.channels[0])
    loads(op, op.channels[0])
    whole = run(op, batch)
    chain = augment.Chain([op], seed=1, key=1)
    dataset = tf.data.Dataset.from_tensor_slices((batch, range(5))).batch(2).map(chain)
    height, width = op.output_size(HEIGHT, WIDTH)
    assert dataset.element_spec[0] == tf.TensorSpec([None, height, width, op.channels[0]], tf.uint8)
    np.testing.assert_array_equal(np.concatenate([part.numpy() for part, _ in dataset]), whole)
    assert whole.shape != batch.shape or not np.array_equal(whole, batch)
    assert op.is_random == ("low=" in repr(op))
    other_keys = chain(batch, tf.range(5) + 100)[0].numpy()
    assert np.array_equal(other_keys, whole) != op.is_random
    assert len(augment.Chain([op]).deterministic().ops) == (0 if op.is_random else 1)


@needs_addons
@EACH
def test_repr_round_trip(op):
    written = eval(repr(op), vars(augment))
    assert written == op
    assert hash(written) == hash(op)
    assert pickle.loads(pickle.dumps(op)) == op


@needs_addons
def test_no_python_function_in_the_graph():
    for op in CASES:
        if op.function in ("cutout", "sharpness", "rotate"):
            function = tf.function(augment.Chain([op], seed=1, key=1), autograph=False)
            graph = function.get_concrete_function(tf.constant(images()), tf.range(4)).graph.as_graph_def()
            names = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
            assert not {name for name in names if "PyFunc" in name}


def test_drawn_rows_reach_the_function(tfa):
    batch = images()
    angles = draw_of(4).uniform(-0.3, 0.3)
    expected = tfa.rotate(batch.astype(np.float32), angles, interpolation="bilinear")
    np.testing.assert_array_equal(
        run(Addons("rotate", angles=Uniform(-0.3, 0.3), interpolation="bilinear"), batch), rounded(expected)
    )
    rows = draw_of(4).uniform(shape=(2,)).numpy()
    offset = (np.array([2, 3]) + np.floor(rows * [10, 14])).astype(np.int32)
    result = run(Addons("cutout", mask_size=6, offset=Integers((2, 3), (11, 16)), constant_values=9), batch)
    np.testing.assert_array_equal(result, tfa.cutout(batch, 6, offset, 9))


def test_drawn_scalars_reach_the_function(tfa):
    batch = images()
    draw = draw_of(4)
    hue, saturation = draw.uniform(-0.5, 0.5), draw.uniform(0.5, 1.5)
    op = Addons("adjust_hsv_in_yiq", scale_saturation=Uniform(0.5, 1.5), delta_hue=Uniform(-0.5, 0.5))
    expected = [tfa.adjust_hsv_in_yiq(*one) for one in zip(batch.astype(np.float32), hue, saturation, strict=True)]
    assert worst(run(op, batch), rounded(np.stack(expected))) <= 1
    level = draw_of(4).uniform(-0.3, 0.3)
    expected = [tfa.shear_x(image, one, 128) for image, one in zip(batch, level, strict=True)]
    np.testing.assert_array_equal(run(Addons("shear_x", level=Uniform(-0.3, 0.3), replace=128), batch), np.stack(expected))


@needs_addons
def test_the_order_of_keywords_does_not_matter():
    one = Addons("rotate", angles=Uniform(0, 1), fill_value=Uniform(0, 9))
    assert one == Addons("rotate", fill_value=Uniform(0, 9), angles=Uniform(0, 1))
    assert repr(one) == "Addons('rotate', angles=Uniform(low=0, high=1), fill_value=Uniform(low=0, high=9))"


def test_results_are_rounded_and_clipped(tfa):
    batch = images()
    exact = batch.astype(float) * 1.7
    result = run(Addons("adjust_hsv_in_yiq", scale_value=1.7), batch)
    assert worst(result, rounded(exact)) <= 1
    assert result[exact > 256].min() == 255
    blurred = tfa.gaussian_filter2d(batch.astype(np.float32), 3)
    np.testing.assert_array_equal(run(Addons("gaussian_filter2d", filter_shape=3), batch), rounded(blurred))


@needs_addons
def test_functions_that_move_pixels_refuse_boxes_and_masks():
    boxes = tf.ragged.constant([[[1.0, 1.0, 5.0, 5.0]]], ragged_rank=1, dtype=tf.float32)
    masks = tf.ones([1, HEIGHT, WIDTH, 1], tf.uint8)
    element = {"images": tf.constant(images(1))}
    for more, name in (({"boxes": boxes}, "boxes"), ({"masks": masks}, "masks")):
        with pytest.raises(errors.DatasetError, match=rf"Addons: {name}: expected none, as tfa.image.rotate .*RandomRotation"):
            augment.Chain([Addons("rotate", angles=0.1)])({**element, **more})
        same = augment.Chain([Addons("mean_filter2d")])({**element, **more})
        assert same[name] is more[name]


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (
            lambda: Addons("rotat", angles=1),
            r"function: expected an image function of tfa.image \(did you mean rotate\?\), got",
        ),
        (lambda: Addons("tfa.image.rotate", angles=1), r"did you mean rotate\?"),
        (lambda: Addons("random_cutout", mask_size=2), "function: .*use RandomErasing, or cutout with Integers"),
        (lambda: Addons("random_hsv_in_yiq"), "function: .*adjust_hsv_in_yiq with Uniform"),
        (lambda: Addons("blend", factor=1), "it takes two images: use MixUp"),
        (lambda: Addons("rotate"), "angles: expected a value, which tfa.image.rotate requires, got none"),
        (lambda: Addons("rotate", angle=1), r"arguments: .*\(did you mean angles\?\), got angle"),
        (lambda: Addons("rotate", angles="0.1"), "angles: expected a number for an image, got '0.1'"),
        (lambda: Addons("rotate", angles=0.1, interpolation="cubic"), "interpolation: expected one of nearest, bilinear"),
        (lambda: Addons("translate", translations=Uniform(-1, 1)), r"translations: expected numbers of shape \(2,\)"),
        (lambda: Addons("dense_image_warp", flow=Uniform(-1, 1, shape=(8,))), r"shape \(..., ..., 2\) for an image"),
        (lambda: Addons("gaussian_filter2d", sigma=Uniform(1, 2)), r"sigma: expected a fixed value.*GaussianBlur\(size"),
        (lambda: Addons("gaussian_filter2d", padding="reflect"), "padding: expected one of REFLECT"),
        (lambda: Addons("gaussian_filter2d", sigma=tf.constant(1.0).dtype), "sigma: expected a number, a string or a tuple"),
        (lambda: Addons("cutout", mask_size=3), "mask_size: expected even numbers of pixels, got 3"),
        (lambda: Addons("cutout", mask_size=Integers(2, 5)), "mask_size: expected even numbers"),
        (lambda: Addons("cutout", mask_size=2, offset=Uniform((0, 0), (3, 3))), "offset: expected whole numbers"),
        (lambda: Addons("shear_x", level=0.1, replace=(1, 2)), r"replace: expected numbers of shape \(\) or \(3,\)"),
        (lambda: Uniform(2, 1), "Uniform: high: expected at least low, 2"),
        (lambda: Uniform((1, 2), (3, 4, 5)), "Uniform: high: .* in a shape that fits"),
        (lambda: Uniform("a", 1), "Uniform: low: expected a number or tuples of them, got 'a'"),
        (lambda: Uniform(0, 1, shape=3), "Uniform: shape: expected a tuple of sizes, got 3"),
        (lambda: Integers(1.5, 2), "Integers: low: expected a whole number"),
        (lambda: Integers(1, 2, step=0), "Integers: step: expected a whole number above 0, got 0"),
    ],
)
def test_what_is_wrong_is_said_when_built(build, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase) as caught:
        build()
    assert "\n" not in str(caught.value)


@needs_addons
def test_what_is_wrong_is_said_when_traced():
    with pytest.raises(errors.DatasetError, match="Addons: images: expected 3 channels, got 1"):
        run(Addons("shear_x", level=0.1, replace=0), images(1, 1))
    with pytest.raises(errors.ConfigurationError, match=r"Addons: arguments: expected what tfa\.image\.median_filter2d takes"):
        run(Addons("median_filter2d", filter_shape=0), images())
    dataset = tf.data.Dataset.from_tensors(images())
    with pytest.raises(errors.ConfigurationError, match=r"expected what tfa\.image\.dense_image_warp takes, got Addons"):
        dataset.map(augment.Chain([Addons("dense_image_warp", flow=Uniform(0, 1, shape=(3, 4, 2)))]))


def test_without_tensorflow_addons_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'hetero-tfdata\[addons\]'"):
        Addons("equalize")
    assert run(augment.Equalize(), images()).shape == (4, HEIGHT, WIDTH, 3)


def test_tensorflow_addons_that_cannot_be_imported(monkeypatch, tfa):
    op = Addons("equalize")
    addons._converted.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    with pytest.raises(errors.ConfigurationError, match=r"to be importable, got .*pip install 'hetero-tfdata\[addons\]'"):
        run(op, images())


def test_uniform_and_integers_cover_their_range():
    draw = draw_of(4096)
    values = Uniform((0.0, -1.0), 2.0).values(draw).numpy()
    assert values.shape == (4096, 2)
    np.testing.assert_allclose(values.min(0), [0, -1], atol=0.01)
    np.testing.assert_allclose(values.max(0), [2, 2], atol=0.01)
    np.testing.assert_allclose(values.mean(0), [1, 0.5], atol=0.06)
    counts = np.bincount(Integers(8, 17, step=3).values(draw).numpy())
    assert counts[[8, 11, 14, 17]].sum() == 4096
    assert counts[[8, 11, 14, 17]].min() > 900
    pairs = Integers((0, 5), (3, 5)).values(draw).numpy()
    assert pairs.dtype == np.int32
    assert sorted({tuple(pair) for pair in pairs.tolist()}) == [(0, 5), (1, 5), (2, 5), (3, 5)]


LIBRARIES = {
    "adjust_hsv_in_yiq": "Addons>AdjustHsvInYiq",
    "connected_components": "Addons>ImageConnectedComponents",
    "euclidean_dist_transform": "Addons>EuclideanDistanceTransform",
    "resampler": "Addons>Resampler",
}


@needs_addons
@pytest.mark.parametrize("op", [op for op in CASES if op.function in LIBRARIES], ids=lambda op: op.function)
def test_which_functions_use_the_addons_own_kernels(op):
    loads(Addons("euclidean_dist_transform"))
    function = tf.function(augment.Chain([op], seed=1, key=1), autograph=False)
    graph = function.get_concrete_function(tf.constant(images(2, op.channels[0])), tf.range(2)).graph.as_graph_def()
    names = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    assert {name for name in names if name.startswith("Addons>")} == {LIBRARIES[op.function]}


@needs_addons
def test_custom_operations_pass_through_a_real_worker_process(make_job, write_script):
    """Nothing loads the addons' libraries in this script: the launcher's servers do it by themselves."""
    loads(Addons("euclidean_dist_transform"))
    chosen = [op for op in CASES if op.function in (*LIBRARIES, "sharpness", "dense_image_warp", "cutout")]
    script = write_script(f"""
import numpy as np
import tensorflow as tf
from hetero_tfdata import distribute
from hetero_tfdata.augment import Addons, Chain, Integers, Uniform

different = []
for op in [{", ".join(map(repr, chosen))}]:
    images = np.random.default_rng(5).integers(0, 256, (6, {HEIGHT}, {WIDTH}, op.channels[0]), dtype=np.uint8)
    source = tf.data.Dataset.from_tensor_slices((images // 3 * 3, np.arange(6))).batch(6)
    mapped = source.map(Chain([op], seed=1, key=1))
    here = next(iter(mapped))[0].numpy()
    there = next(iter(mapped.apply(distribute(processing_mode="off", ready_timeout_s=120))))[0].numpy()
    if not np.array_equal(here, there):
        different.append(op.function)
print("DIFFERENT", different)
assert not different
""")
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    for host in job.hosts:
        job.launch(host, script)
    assert job.wait(200) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert "DIFFERENT []" in job.log("algo-2")


# --- TensorFlow Addons as the oracle ---

PADDINGS = pytest.mark.parametrize("padding", ["reflect", "constant"])


@PADDINGS
@pytest.mark.parametrize(("size", "sigma"), [(3, 1.0), (11, 0.8), (11, 2.0), (5, (1.3, 1.3))])
def test_gaussian_blur(tfa, size, sigma, padding):
    batch = images()
    fixed = sigma[0] if isinstance(sigma, tuple) else sigma
    result = run(augment.GaussianBlur(size, sigma=sigma, padding=padding), batch)
    assert worst(result, tfa.gaussian_filter2d(batch.astype(np.float32), size, fixed, padding.upper())) <= 0.51
    assert worst(result, tfa.gaussian_filter2d(batch, size, fixed, padding.upper())) <= 1, "which drops the fraction"


@PADDINGS
@pytest.mark.parametrize("size", [3, 7])
def test_mean_blur(tfa, size, padding):
    batch = images()
    result = run(augment.MeanBlur(size, padding=padding), batch)
    assert worst(result, tfa.mean_filter2d(batch.astype(np.float32), size, padding.upper())) <= 0.51


@pytest.mark.parametrize("fill_mode", ["constant", "reflect", "nearest"])
@pytest.mark.parametrize("turn", [0.03, -0.1, 0.4])
def test_rotation(tfa, turn, fill_mode):
    batch = images()
    options = {"fill_mode": fill_mode, "fill_value": 77}
    expected = tfa.rotate(batch.astype(np.float32), 2 * math.pi * turn, "bilinear", **options)
    assert worst(run(augment.RandomRotation((turn, turn), **options), batch), expected) <= 1
    nearest = run(augment.RandomRotation((turn, turn), interpolation="nearest", **options), batch)
    # of two pixels equally near either may come: float32 coordinates decide
    assert differing(nearest, tfa.rotate(batch, 2 * math.pi * turn, "nearest", **options), 0) < 0.005


def test_rotation_draws_the_angles_that_it_is_given(tfa):
    batch = images()
    angles = draw_of(4).uniform(-0.2 * math.pi, 0.2 * math.pi)
    expected = tfa.rotate(batch.astype(np.float32), angles, "bilinear")
    assert worst(run(augment.RandomRotation(0.1), batch), expected) <= 1


@pytest.mark.parametrize("level", [0.23, -0.4])
@pytest.mark.parametrize("function", ["shear_x", "shear_y"])
def test_shear(tfa, function, level):
    """tfa.image slants around the top left pixel, RandomShear around the centre: the same after a shift."""
    batch = images()
    options = {"interpolation": "nearest", "fill_value": 128}
    if function == "shear_x":
        shift = augment.RandomTranslation(0.0, (-level * (HEIGHT - 1) / 2 / WIDTH,) * 2, **options)
        shear = augment.RandomShear(x_factor=(level, level), **options)
    else:
        shift = augment.RandomTranslation((-level * (WIDTH - 1) / 2 / HEIGHT,) * 2, 0.0, **options)
        shear = augment.RandomShear(y_factor=(level, level), **options)
    chain = augment.Chain([shear, shift])
    assert len(chain.ops) == 1, "one sampling"
    expected = np.stack([getattr(tfa, function)(image, level, 128) for image in batch])
    assert differing(chain(tf.constant(batch)), expected, 0) < 0.005, "ties of nearest pixels"
    assert differing(run(shear, batch), expected, 1) > 0.2, "without the shift"


@pytest.mark.parametrize("fill_mode", ["constant", "reflect", "nearest"])
@pytest.mark.parametrize(("right", "down"), [(3.0, -5.0), (-2.3, 0.6)])
def test_translation(tfa, right, down, fill_mode):
    batch = images()
    op = augment.RandomTranslation((down / HEIGHT,) * 2, (right / WIDTH,) * 2, fill_mode=fill_mode)
    expected = tfa.translate(batch.astype(np.float32), [right, down], "bilinear", fill_mode)
    assert worst(run(op, batch), expected) <= 1


def test_cutout(tfa):
    """A square of 8 pixels: the rectangles that RandomErasing draws are those of tfa.image.cutout, clipped alike."""
    batch = np.maximum(images(64), 1)
    result = run(augment.RandomErasing(area=(64 / (HEIGHT * WIDTH),) * 2, aspect=(1.0, 1.0)), batch)
    offsets = []
    for image in result:
        erased = (image == 0).all(-1)
        lines = [np.flatnonzero(erased.any(axis)) for axis in (1, 0)]
        offsets.append([line[-1] + 1 - 4 if line[0] == 0 else line[0] + 4 for line in lines])
    np.testing.assert_array_equal(result, tfa.cutout(batch, (8, 8), np.array(offsets, np.int32)))
    cut_off = [((image == 0).all(-1)).sum() < 64 for image in result]
    assert any(cut_off)
    assert not all(cut_off)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.6])
def test_saturation_and_value_of_yiq(tfa, factor):
    batch = images()
    # tfa's matrices have three digits: half a grey level; ours rounds the grey first
    assert (
        worst(run(augment.Saturation(factor), batch), rounded(tfa.adjust_hsv_in_yiq(batch.astype(np.float32), 0, factor))) <= 1
    )
    value = rounded(tfa.adjust_hsv_in_yiq(batch.astype(np.float32), scale_value=factor))
    assert worst(run(augment.Brightness(factor), batch), value) <= 1


def test_hue_is_another_than_that_of_yiq(tfa):
    """Hue turns through HSV, as tf.image and PIL do, and keeps the greatest and least channel; tfa.image.adjust_hsv_in_yiq
    turns around the grey axis of YIQ and keeps the luma. They agree on grey only; `Addons` gives the other."""
    batch = images()
    ours, theirs = run(augment.Hue(0.1), batch), tfa.adjust_hsv_in_yiq(batch.astype(np.float32), 0.2 * math.pi).numpy()
    assert differing(ours, theirs, 20) > 0.3
    assert worst(ours.max(-1), batch.max(-1)) <= 1
    assert worst(ours.min(-1), batch.min(-1)) <= 1
    assert worst(theirs @ [0.299, 0.587, 0.114], batch @ [0.299, 0.587, 0.114]) < 1
    grey = np.repeat(images(channels=1), 3, -1)
    np.testing.assert_array_equal(run(augment.Hue(0.1), grey), grey)
    assert worst(tfa.adjust_hsv_in_yiq(grey.astype(np.float32), 0.2 * math.pi), grey) < 1
