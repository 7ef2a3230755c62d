"""TensorFlow Addons: any image function of `tfa.image` as an operation of a chain.

The functions of TensorFlow Addons 0.22 and 0.23, its last versions, stand in a table here, so a chain is checked when it is
built, and TensorFlow Addons is imported only when the chain is first traced.
"""

from __future__ import annotations

import ctypes
import dataclasses
import difflib
import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Batch, Op
from hetero_tfdata.errors import ConfigurationError, DatasetError

__all__ = ["Addons", "Integers", "Uniform"]

_INSTALL = "pip install 'hetero-tfdata[addons]' (TensorFlow < 2.16, Python < 3.12)"

Row = tuple[Any, ...]  # sizes; None: any


@dataclass(frozen=True)
class _Function:
    """What is known of a function of tfa.image.

    Attributes:
        arguments: their names in its order, without the image, `name` and `dtype`.
        required: how many of them have no default.
        rows: arguments that take one row for each image -> the shape of a row.
        scalars: arguments that take one value for all images but may be tensors: drawn ones need a call for each image.
        rank: of the images it takes: 4 [B, H, W, C], 3 [H, W, C], 2 [H, W].
        channels: that it takes.
        dtype: of the images it takes.
        moves: what else moves images, boxes and masks alike; empty: it leaves every pixel in its place.
    """

    arguments: tuple[str, ...] = ()
    required: int = 0
    rows: Mapping[str, Row] = field(default_factory=dict)
    scalars: tuple[str, ...] = ()
    rank: int = 4
    channels: tuple[int, ...] = (1, 3)
    dtype: tf.DType = tf.float32
    moves: str = ""


_SAMPLED = ("interpolation", "fill_mode", "fill_value")
_FILTERED = ("padding", "constant_values")
_HSV = ("delta_hue", "scale_saturation", "scale_value")
_POINTS = ("source_control_point_locations", "dest_control_point_locations")
_WARPS = "no operation moves boxes and masks so"

_FUNCTIONS: dict[str, _Function] = {
    "adjust_hsv_in_yiq": _Function(_HSV, scalars=_HSV, channels=(3,)),
    "connected_components": _Function(rank=2, channels=(1,)),
    "cutout": _Function(
        ("mask_size", "offset", "constant_values"), 1, {"offset": (2,)}, scalars=("mask_size", "constant_values")
    ),
    "dense_image_warp": _Function(("flow",), 1, {"flow": (None, None, 2)}, moves=_WARPS),
    "equalize": _Function(("bins",)),
    "euclidean_dist_transform": _Function(dtype=tf.uint8),
    "gaussian_filter2d": _Function(("filter_shape", "sigma", *_FILTERED)),
    "mean_filter2d": _Function(("filter_shape", *_FILTERED)),
    "median_filter2d": _Function(("filter_shape", *_FILTERED)),
    "resampler": _Function(("warp",), 1, {"warp": (None, None, 2)}, moves=_WARPS),
    "rotate": _Function(("angles", *_SAMPLED), 1, {"angles": ()}, ("fill_value",), moves="use RandomRotation"),
    "sharpness": _Function(("factor",), 1, scalars=("factor",)),
    "shear_x": _Function(("level", "replace"), 2, scalars=("level", "replace"), rank=3, channels=(3,), moves="use RandomShear"),
    "shear_y": _Function(("level", "replace"), 2, scalars=("level", "replace"), rank=3, channels=(3,), moves="use RandomShear"),
    "sparse_image_warp": _Function(
        (*_POINTS, "interpolation_order", "regularization_weight", "num_boundary_points"),
        2,
        dict.fromkeys(_POINTS, (None, 2)),
        moves=_WARPS,
    ),
    "transform": _Function(
        ("transforms", "interpolation", "fill_mode", "output_shape", "fill_value"),
        1,
        {"transforms": (8,)},
        ("fill_value",),
        moves=_WARPS,
    ),
    "translate": _Function(
        ("translations", *_SAMPLED), 1, {"translations": (2,)}, ("fill_value",), moves="use RandomTranslation"
    ),
    "translate_xy": _Function(
        ("translate_to", "replace"),
        2,
        scalars=("translate_to", "replace"),
        rank=3,
        channels=(3,),
        moves="use RandomTranslation",
    ),
}

_WHOLE = ("mask_size", "offset", "output_shape")
_SHAPES = {"mask_size": ((), (2,)), "output_shape": ((2,),), "replace": ((), (3,)), "translate_to": ((2,),)}
_CHOICES = {
    "interpolation": ("nearest", "bilinear"),
    "fill_mode": ("constant", "reflect", "wrap", "nearest"),
    "padding": ("REFLECT", "CONSTANT", "SYMMETRIC"),
}

_WITH_LIBRARY = ("adjust_hsv_in_yiq", "connected_components", "euclidean_dist_transform", "resampler")

_REFUSED = {
    "random_cutout": "its random numbers have no seed of a sample: use RandomErasing, or cutout with Integers for its offset",
    "random_hsv_in_yiq": "its random numbers have no seed of a sample: use adjust_hsv_in_yiq with Uniform for its arguments",
    "blend": "it takes two images: use MixUp",
    "interpolate_bilinear": "it makes no image: use resampler",
    "interpolate_spline": "it makes no image: use sparse_image_warp",
    "angles_to_projective_transforms": "it makes no image: use rotate",
    "compose_transforms": "it makes no image: use transform",
    "translations_to_projective_transforms": "it makes no image: use translate",
}


@dataclass(frozen=True, repr=False)
class _Drawn:
    """An argument drawn for each sample, from the seed of that sample."""

    low: Any
    high: Any

    @property
    def row(self) -> Row:
        """The shape of what one sample gets."""
        return np.broadcast_shapes(np.shape(self.low), np.shape(self.high))

    def values(self, draw: Draw) -> tf.Tensor:
        """[B, *row]."""
        raise NotImplementedError

    def _check(self, *arguments: str, whole: bool = False) -> None:
        name = type(self).__name__
        for argument in arguments:
            value = _plain(getattr(self, argument))
            object.__setattr__(self, argument, value)
            kinds = "iu" if whole else "iuf"
            if _kind(value) not in kinds:
                numbers = f"a {'whole ' if whole else ''}number or tuples of them"
                raise ConfigurationError(f"{name}: {argument}: expected {numbers}, got {value!r}")
        try:
            ordered = bool(np.all(np.asarray(self.low) <= np.asarray(self.high)))
        except ValueError:
            ordered = False
        if not ordered:
            expected = f"at least low, {self.low!r}, in a shape that fits"
            raise ConfigurationError(f"{name}: high: expected {expected}, got {self.high!r}")

    def __repr__(self) -> str:
        shown = [(one.name, getattr(self, one.name), one.default) for one in dataclasses.fields(self)]
        given = [f"{name}={value!r}" for name, value, default in shown if value != default]
        return f"{type(self).__name__}({', '.join(given)})"


@dataclass(frozen=True, repr=False)
class Uniform(_Drawn):
    """A number from low up to high for each sample, float32.

    Attributes:
        low: a number, or tuples of numbers for an argument that is a vector or a field.
        high: likewise.
        shape: of what one sample gets, where low and high don't say it: `Uniform(-3.0, 3.0, shape=(2,))`.
    """

    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check("low", "high")
        if not (isinstance(self.shape, (tuple, list)) and all(isinstance(size, int) and size > 0 for size in self.shape)):
            raise ConfigurationError(f"Uniform: shape: expected a tuple of sizes, got {self.shape!r}")
        object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def row(self) -> Row:
        """The shape of what one sample gets."""
        return np.broadcast_shapes(np.shape(self.low), np.shape(self.high), self.shape)

    def values(self, draw: Draw) -> tf.Tensor:
        """float32 [B, *row]."""
        low, high = (tf.constant(end, tf.float32) for end in (self.low, self.high))
        return draw.uniform(low, high, self.row)


@dataclass(frozen=True, repr=False)
class Integers(_Drawn):
    """A whole number from low to high, both included, for each sample: int32.

    Attributes:
        low: a whole number, or tuples of them for an argument that is a vector.
        high: likewise.
        step: from one possible number to the next, counted from low: `Integers(8, 16, step=2)` is even.
    """

    step: int = 1

    def __post_init__(self) -> None:
        self._check("low", "high", whole=True)
        if not (isinstance(self.step, int) and self.step > 0):
            raise ConfigurationError(f"Integers: step: expected a whole number above 0, got {self.step!r}")

    def values(self, draw: Draw) -> tf.Tensor:
        """int32 [B, *row]."""
        count = (np.asarray(self.high) - np.asarray(self.low)) // self.step + 1
        place = tf.cast(draw.uniform(shape=self.row) * tf.constant(count, tf.float32), tf.int32)
        return tf.constant(self.low, tf.int32) + self.step * tf.minimum(place, tf.constant(count - 1, tf.int32))


@dataclass(frozen=True, repr=False, init=False)
class Addons(Op):
    """A function of `tfa.image`, by its name: `Addons("rotate", angles=Uniform(-0.3, 0.3), interpolation="bilinear")`.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype; `transform` makes images of its `output_shape`, `resampler` of the
    size of its `warp`. The function works on float32 in [0, 255] (`euclidean_dist_transform` on uint8); the result is rounded
    to the nearest and clipped, where the function on uint8 drops the fraction.

    Boxes and masks stay as they are; a function that moves pixels refuses them. An argument that is one value for all images
    can be drawn too where it may be a tensor: then there is a call for each image, as for functions that take one image.

    `connected_components`, `euclidean_dist_transform` and `resampler` need TensorFlow Addons' own libraries, and
    `adjust_hsv_in_yiq` uses them where they load. The servers of the tf.data service load them wherever TensorFlow Addons is
    installed. TensorFlow 2.12 can't load those of TensorFlow Addons 0.22.0 (probed: other symbols of Abseil).

    Attributes:
        function: a name in tfa.image, without the module.
        arguments: (name, value) in the function's order; written as keyword arguments. A value is a number, a string, a tuple
            of them, or drawn for each sample: `Uniform`, `Integers`.

    Raises:
        ConfigurationError: (when built) no such function or argument, an argument is missing, or of a wrong shape, or can't
            be drawn; TensorFlow Addons is not installed. (When traced) it can't be imported, its library can't be loaded, or
            it refuses the arguments.
        DatasetError: (when traced) boxes or masks with a function that moves pixels; images of a wrong number of channels;
            the result has another shape.
    """

    function: str
    arguments: tuple[tuple[str, Any], ...]

    def __init__(self, function: str, /, **arguments: Any) -> None:
        self.require(function in _FUNCTIONS, "function", f"an image function of tfa.image{_why_not(function)}", repr(function))
        known = _FUNCTIONS[function]
        for name in arguments:
            expected = f"those of tfa.image.{function}: {', '.join(known.arguments) or 'none'}{_close(name, known.arguments)}"
            self.require(name in known.arguments, "arguments", expected, name)
        for name in known.arguments[: known.required]:
            self.require(name in arguments, name, f"a value, which tfa.image.{function} requires", "none")
        ordered = tuple((name, _plain(arguments[name])) for name in known.arguments if name in arguments)
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "arguments", ordered)
        for name, value in ordered:
            self._check_argument(known, name, value)
        self.require(
            importlib.util.find_spec("tensorflow_addons") is not None,
            "function",
            "TensorFlow Addons to be installed",
            f"none; {_INSTALL}",
        )

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether an argument is drawn."""
        return any(isinstance(value, _Drawn) for _, value in self.arguments)

    @property
    def channels(self) -> tuple[int, ...]:  # type: ignore[override]
        """The function's."""
        return _FUNCTIONS[self.function].channels

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The images', but for `resampler` and for `transform` with an `output_shape`."""
        arguments = dict(self.arguments)
        if self.function == "resampler":
            return _row(arguments["warp"])[:2]
        return arguments.get("output_shape", (height, width))

    @tf.autograph.experimental.do_not_convert
    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One call for the batch, or one for each image."""
        known = _FUNCTIONS[self.function]
        for name in ("boxes", "masks"):
            stay = not known.moves or getattr(batch, name) is None
            expected = f"none, as tfa.image.{self.function} moves pixels only ({known.moves})"
            self.require(stay, name, expected, name, error=DatasetError)
        images = tf.cast(batch.images, known.dtype)
        samples = tf.shape(images)[0]
        tensors, fixed = {}, []
        for name, value in self.arguments:
            if isinstance(value, _Drawn):
                tensors[name] = value.values(draw)
            elif name in known.rows:
                tensors[name] = tf.repeat(tf.constant(value)[tf.newaxis], samples, 0)
            else:
                fixed.append((name, value))
            if name in known.rows:
                tensors[name] = tf.cast(tensors[name], tf.int32 if name in _WHOLE else tf.float32)
        size = (*self.output_size(batch.height, batch.width), batch.images.shape[3])
        one_by_one = known.rank < 4 or any(name in known.scalars for name in tensors)
        call = self._call_each if one_by_one else self._call
        return batch.replace(images=_to_uint8(call(images, tensors, tuple(fixed), size)))

    def _call(self, images: tf.Tensor, tensors: dict[str, tf.Tensor], fixed: tuple[Any, ...], size: Row) -> tf.Tensor:
        """Images of the function's rank, with an argument's rows for as many images -> the same rank, of that size."""
        try:
            result = _converted(self.function, fixed)(images, tensors)
        except ImportError as error:
            got = f"{_first_line(error)}; {_INSTALL}"
            raise ConfigurationError(f"Addons: function: expected TensorFlow Addons to be importable, got {got}") from error
        except tf.errors.NotFoundError as error:
            needs = (
                "a library of TensorFlow Addons that this TensorFlow can load (tensorflow-cpu: with nvidia-cuda-runtime-cu12)"
            )
            raise ConfigurationError(f"Addons: function: expected {needs}, got {_first_line(error)}") from error
        except (ValueError, TypeError, AttributeError, AssertionError, tf.errors.InvalidArgumentError) as error:
            got = f"{self!r}: {_first_line(error)}"
            raise ConfigurationError(f"Addons: arguments: expected what tfa.image.{self.function} takes, got {got}") from error
        expected = [None, *size][-images.shape.rank :]
        fits = result.shape.is_compatible_with(expected)
        self.require(fits, "arguments", f"a result of shape {expected}", f"{result.shape} of {self!r}", error=DatasetError)
        return tf.ensure_shape(result, expected)

    def _call_each(self, images: tf.Tensor, tensors: dict[str, tf.Tensor], fixed: tuple[Any, ...], size: Row) -> tf.Tensor:
        known = _FUNCTIONS[self.function]

        def one_image(sample: tuple[tf.Tensor, dict[str, tf.Tensor]]) -> tf.Tensor:
            image, values = sample
            values = {name: value[tf.newaxis] if name in known.rows else value for name, value in values.items()}
            if known.rank == 4:
                image = image[tf.newaxis]
            elif known.rank == 2:
                image = image[..., 0]
            result = self._call(image, values, fixed, size[:-1] if known.rank == 2 else size)
            return _to_uint8(tf.reshape(result, size))

        return tf.map_fn(one_image, (images, tensors), fn_output_signature=tf.TensorSpec(size, tf.uint8))

    def _check_argument(self, known: _Function, name: str, value: Any) -> None:
        drawn = isinstance(value, _Drawn)
        if drawn:
            instead = "; GaussianBlur(size, sigma=(low, high)) draws one" if name == "sigma" else ""
            may_be = name in known.rows or name in known.scalars
            self.require(may_be, name, f"a fixed value, for it can't be a tensor{instead}", repr(value))
        if name in known.rows or name in known.scalars or name in _SHAPES:
            shapes = (known.rows[name],) if name in known.rows else _SHAPES.get(name, ((),))
            kind = ("i" if isinstance(value, Integers) else "f") if drawn else _kind(value)
            right_kind = kind in ("iu" if name in _WHOLE else "iuf")
            fits = right_kind and any(tf.TensorShape(shape).is_compatible_with(_row(value)) for shape in shapes)
            described = " or ".join(str(shape).replace("None", "...") for shape in shapes)
            expected = "a number" if shapes == ((),) else f"{'whole ' if name in _WHOLE else ''}numbers of shape {described}"
            self.require(fits, name, f"{expected} for an image", repr(value))
        elif name in _CHOICES:
            self.require(value in _CHOICES[name], name, f"one of {', '.join(_CHOICES[name])}", repr(value))
        else:
            self.require(_kind(value) in "biufU", name, "a number, a string or a tuple of them", repr(value))
        if name == "mask_size":
            low, step = (value.low, value.step) if isinstance(value, Integers) else (value, 2)
            self.require(not np.any(np.asarray(low) % 2) and step % 2 == 0, name, "even numbers of pixels", repr(value))

    def __repr__(self) -> str:
        return f"Addons({', '.join([repr(self.function), *(f'{name}={value!r}' for name, value in self.arguments)])})"


@functools.cache
def _converted(function: str, fixed: tuple[Any, ...]) -> Callable[..., tf.Tensor]:
    """The function converted by autograph: some of tfa.image branch on tensors without being a tf.function."""
    with tf.init_scope():
        addons = importlib.import_module("tensorflow_addons")
        if function in _WITH_LIBRARY:
            _load_cuda_runtime()

    def call(images: tf.Tensor, tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        result = getattr(addons.image, function)(images, **tensors, **dict(fixed))
        return result[0] if function == "sparse_image_warp" else result

    return tf.autograph.to_graph(call)


def _load_cuda_runtime() -> None:
    """The addons' libraries name symbols of it, which TensorFlow's CPU build lacks; see service/custom_ops.py."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in sorted((Path(folder) / "cuda_runtime" / "lib").glob("libcudart.so.*")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Rounded to the nearest, clipped to [0, 255]."""
    if values.dtype == tf.uint8:
        return values
    return tf.cast(tf.clip_by_value(tf.cast(values, tf.float32) + 0.5, 0.0, 255.0), tf.uint8)


def _plain(value: Any) -> Any:
    """Lists and arrays as tuples, so that the operation can be hashed and printed."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _row(value: Any) -> Row:
    """The shape of what one image gets."""
    return value.row if isinstance(value, _Drawn) else np.shape(value)


def _kind(value: Any) -> str:
    """NumPy's letter of what the value is made of: i and u whole numbers, f others, b, U strings; O anything else."""
    try:
        return "O" if value is None else np.asarray(value).dtype.kind
    except ValueError:
        return "O"


def _why_not(function: Any) -> str:
    if function in _REFUSED:
        return f" ({_REFUSED[function]})"
    return _close(str(function).rpartition(".")[2], tuple(_FUNCTIONS))


def _close(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _first_line(error: Exception) -> str:
    """What happened, without the trace that autograph puts before it."""
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
