"""Networks that Keras ships, with seeded weights: their normalization is set by what they meet, so that none fades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.data import textures
from zoo.entry import Entry, Fails
from zoo.fitting import apart, fit_head, seeded
from zoo.saving import save_keras, save_samples

COUNT, SPARE, CLASSES = 64, 192, 6


MARGIN = 1.5
"""The logits are to be small: those of pictures that the last layer was not solved for are far larger."""

BRANCH_ENDS = ("_3_bn", "project_bn", "project/bn")
"""How the names of the normalizations end that close a residual branch, in the networks here."""


def _settle(body: Any, images: Any) -> None:
    """Set the statistics of every BatchNormalization to those of ``images``, as they come through the network.

    Residual branches are made weak: a deep network of random branches sends like pictures far apart.
    """
    from keras import layers

    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            # The average of what was, and of the batch: all of it the batch.
            layer.momentum = 0.0
            if layer.name.endswith(BRANCH_ENDS):
                layer.gamma.assign(0.3 * layer.gamma)
        elif isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    body(images, training=True)


def _application(folder: Path, seed: int, network: Any, side: int, preprocess: Any = None) -> None:
    """Make a classifier of textures by one of Keras' applications, for images in [0, 255]."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = textures(rng, COUNT + SPARE, side, CLASSES)
    body = network(weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3))
    image = keras.Input((side, side, 3), name="image")
    inner = body(preprocess()(image) if preprocess else image)
    # By all images: few of a small size make statistics that others of their kind leave.
    _settle(body, preprocess()(images) if preprocess else images)
    head = layers.Dense(CLASSES, activation="softmax")
    model = keras.Model(image, {"texture": head(inner)})
    fit_head(head, keras.Model(image, inner), images[COUNT:], apart(labels[COUNT:], CLASSES, MARGIN), ridge=0.1)
    save_keras(model, folder)
    save_samples(folder, image=images[:COUNT], labels=labels[:COUNT])


def resnet50(folder: Path, seed: int = 0) -> None:
    """ResNet50 for images of 64x64."""
    import keras
    from keras import layers

    _application(folder, seed, keras.applications.ResNet50, 64, lambda: layers.Rescaling(1 / 64, offset=-2.0))


def mobilenet_v3_small(folder: Path, seed: int = 0) -> None:
    """MobileNetV3-Small for images of 64x64."""
    import keras

    _application(folder, seed, keras.applications.MobileNetV3Small, 64)


def efficientnet_b0(folder: Path, seed: int = 0) -> None:
    """EfficientNetB0 for images of 64x64."""
    import keras

    _application(folder, seed, keras.applications.EfficientNetB0, 64)


ENTRIES = (
    Entry(
        "resnet50",
        "ResNet50",
        resnet50,
        {"texture": "probabilities"},
        samples=COUNT,
        heavy=True,
    ),
    Entry(
        "mobilenet_v3_small",
        "MobileNetV3-Small",
        mobilenet_v3_small,
        {"texture": "probabilities"},
        samples=COUNT,
        heavy=True,
    ),
    Entry(
        "efficientnet_b0",
        "EfficientNetB0",
        efficientnet_b0,
        {"texture": "probabilities"},
        samples=COUNT,
        # Its random branches send pictures far apart that are alike: a few of FP32's steps are a hundredth of a class.
        expected=dict.fromkeys(
            ("onnx-int8", "tflite-int8"),
            Fails("two samples of five change class: swish and gates have no 8 bits", "flips"),
        ),
        heavy=True,
    ),
)
