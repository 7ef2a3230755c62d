"""SageMaker's TensorFlow training images: what is in them, and what this package needs of them.

From the images' release notes and the sagemaker SDK 2.257.7's own table (image_uri_config/tensorflow.json), 2026-11.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from hetero_tfdata.errors import ConfigurationError

__all__ = ["IMAGES", "Image", "image"]


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes:
        version: of TensorFlow, as framework_version takes it.
        python: as py_version takes it.
        horovod: its version; None: it has none.
    """

    version: str
    python: str
    horovod: str | None


# The newest that has Horovod is the default. None has TensorFlow Addons.
IMAGES = {
    one.version: one
    for one in (
        Image("2.12", "py310", "0.27.0"),
        Image("2.13", "py310", None),
        Image("2.14", "py310", None),
        Image("2.16", "py310", None),
        Image("2.18", "py310", None),
        Image("2.19", "py312", None),
    )
}


def image(framework_version: str, *, needs_horovod: bool) -> Image:
    """The image of that TensorFlow version, "2.12" or "2.12.0".

    Raises:
        ConfigurationError: there is none, or it lacks Horovod.
    """
    found = IMAGES.get(".".join(framework_version.split(".")[:2]))
    if found is None:
        near = difflib.get_close_matches(framework_version, IMAGES, 1)
        raise ConfigurationError(
            f"framework_version {framework_version}: SageMaker has no such TensorFlow training image that this package runs on "
            f"(there are {', '.join(IMAGES)})" + (f"; did you mean {near[0]}?" if near else "")
        )
    if needs_horovod and found.horovod is None:
        with_it = [one.version for one in IMAGES.values() if one.horovod]
        raise ConfigurationError(
            f"framework_version {framework_version}: this image has no Horovod, which a distribution by MPI needs (it is in "
            f"{', '.join(with_it)}); take that, leave the distribution out (tf.distribute), or name an image_uri of your own"
        )
    return found
