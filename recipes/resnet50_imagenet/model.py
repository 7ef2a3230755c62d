"""The models: uint8 images in, class probabilities out."""

from __future__ import annotations

import tensorflow as tf

NAMES = ("resnet50", "tiny")

# Of ImageNet's training images, as every published ResNet50 uses them.
_MEAN = (123.675, 116.28, 103.53)
_DEVIATION = (58.395, 57.12, 57.375)

# "Accurate, Large Minibatch SGD" (2017), 5.1: blocks start as the identity, and statistics over tens of batches; Keras's 0.99
# needs hundreds before an evaluation means anything.
_NORM_MOMENTUM = 0.9


def build_model(name: str, *, image_size: int, classes: int) -> tf.keras.Model:
    """uint8 [B, image_size, image_size, 3] in [0, 255] -> float32 [B, classes], each row adding up to 1.

    `resnet50` is tf.keras.applications' without weights; `tiny`, two convolutions, is there to try things out in seconds.
    """
    inputs = tf.keras.Input([image_size, image_size, 3], dtype=tf.uint8, name="images")
    # Cast and normalised here, on the accelerator: as float32 a batch would be four times as large on its way to it.
    scale, offset = [1 / d for d in _DEVIATION], [-m / d for m, d in zip(_MEAN, _DEVIATION, strict=True)]
    x = tf.keras.layers.Rescaling(scale, offset, dtype=tf.float32, name="normalize")(inputs)
    if name == "resnet50":
        body = tf.keras.applications.ResNet50(
            weights=None, input_shape=(image_size, image_size, 3), classes=classes, classifier_activation=None
        )
        for layer in body.layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.momentum = _NORM_MOMENTUM
                if layer.name.endswith("_3_bn"):  # the last one of a residual block
                    layer.gamma.assign(tf.zeros_like(layer.gamma))
        x = body(x)
    else:
        for number, filters in enumerate((16, 32), 1):
            x = tf.keras.layers.Conv2D(filters, 3, strides=2, use_bias=False, name=f"conv{number}")(x)
            x = tf.keras.layers.BatchNormalization(momentum=_NORM_MOMENTUM, name=f"norm{number}")(x)
            x = tf.keras.layers.ReLU(name=f"relu{number}")(x)
        x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = tf.keras.layers.Dense(classes, name="logits")(x)
    # In float32 whatever the policy: float16 would round small probabilities to nothing.
    x = tf.keras.layers.Activation("softmax", dtype=tf.float32, name="probabilities")(x)
    return tf.keras.Model(inputs, x, name=name)
