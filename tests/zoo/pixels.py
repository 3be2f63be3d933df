"""Images to something else than one class: pictures, a class for each pixel, embeddings, counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.data import spots
from zoo.entry import TFLITE, VARIANTS, Cannot, Entry, Fails
from zoo.fitting import apart, features, fit_head, seeded, solve
from zoo.saving import save_keras, save_samples

COUNT, SPARE = 400, 200


def restorer(folder: Path, seed: int = 0) -> None:
    """Noisy picture made clean: dilated, depthwise, strided and transposed convolutions."""
    import keras
    from keras import layers

    rng = seeded(seed)
    clean, _ = spots(rng, COUNT + SPARE, 16)
    noisy = (clean + rng.normal(0, 0.1, clean.shape)).astype(np.float32)
    picture = keras.Input((16, 16, 1), name="noisy")
    x = layers.Conv2D(8, 3, padding="same", dilation_rate=2, activation="relu")(picture)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.SeparableConv2D(12, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(8, 3, 2, padding="same", activation="relu")(x)
    x = layers.Concatenate()([x, picture])
    last = layers.Conv2D(1, 1)
    model = keras.Model(picture, {"clean": last(x)})
    pixels = features(keras.Model(picture, x), noisy[COUNT:]).reshape(-1, 9)
    weights, bias = solve(pixels, clean[COUNT:].reshape(-1, 1))
    last.set_weights([weights[None, None], bias])
    save_keras(model, folder)
    save_samples(folder, noisy=noisy[:COUNT])


def _unet(folder: Path, seed: int, enlarge: Any) -> None:
    """Make a small U-Net that takes any height and width: which pixel is spot, its rim, or background."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, _ = spots(rng, 160 + 80, 24)
    shades = np.digitize(images[..., 0], (0.3, 0.5))
    image = keras.Input((None, None, 1), name="image")
    fine = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    coarse = layers.Conv2D(12, 3, padding="same", activation="relu")(layers.MaxPooling2D(2)(fine))
    deep = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D(2)(coarse))
    up = layers.Concatenate()([layers.Conv2DTranspose(12, 2, 2)(deep), coarse])
    up = layers.Conv2D(8, 3, padding="same", activation="relu")(up)
    up = layers.Concatenate()([enlarge()(up), fine])
    last = layers.Conv2D(3, 1)
    model = keras.Model(image, {"shade": layers.Softmax()(last(up))})
    pixels = features(keras.Model(image, up), images[160:]).reshape(-1, 16)
    weights, bias = solve(pixels, apart(shades[160:].ravel(), 3))
    last.set_weights([weights[None, None], bias])
    save_keras(model, folder)
    save_samples(folder, image=images[:160])


def unet(folder: Path, seed: int = 0) -> None:
    """U-Net that grows by transposed convolutions."""
    from keras import layers

    _unet(folder, seed, lambda: layers.Conv2DTranspose(8, 2, 2))


def unet_nearest(folder: Path, seed: int = 0) -> None:
    """U-Net that grows by UpSampling2D, after which a dynamic size leaves no shape known, the channels' neither."""
    from keras import layers

    _unet(folder, seed, lambda: layers.UpSampling2D(2))


def likeness(folder: Path, seed: int = 0) -> None:
    """Embeddings of length one, without a bias anywhere: a black picture has none, and TensorFlow gives zeros."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 32, 3, 6)
    x = image = keras.Input((32, 32, 3), name="image")
    for filters in (8, 16, 32):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Flatten()(x)
    head = layers.Dense(64, use_bias=False)
    model = keras.Model(image, {"embedding": layers.UnitNormalization()(head(x))})
    centres = rng.normal(0, 1, (6, 64))
    weights, _ = solve(features(keras.Model(image, x), images[COUNT:]), centres[labels[COUNT:]])
    head.set_weights([weights])
    save_keras(model, folder)
    save_samples(folder, image=images[:COUNT])


def _reading(folder: Path, seed: int, argmax: Any) -> None:
    """Make a model of integers only: the class that an argmax finds, and the number of bright pixels."""
    import keras
    from keras import layers, ops

    class Decide(layers.Layer):
        """Class of the largest logit."""

        def call(self, logits):
            return argmax(logits)

    class Bright(layers.Layer):
        """Number of pixels above one half."""

        def call(self, image):
            return ops.sum(ops.cast(image > 0.5, "int32"), axis=(1, 2, 3))

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16, 1, 5)
    dial = keras.Input((16, 16, 1), name="dial")
    x = layers.Flatten()(layers.Conv2D(12, 3, 2, activation="relu")(dial))
    head = layers.Dense(5)
    model = keras.Model(dial, {"place": Decide()(head(x)), "bright": Bright()(dial)})
    fit_head(head, keras.Model(dial, x), images[COUNT:], apart(labels[COUNT:], 5))
    save_keras(model, folder)
    save_samples(folder, dial=images[:COUNT])


def reading(folder: Path, seed: int = 0) -> None:
    """Class id of TensorFlow's argmax, in int64, and a count in int32."""
    import tensorflow as tf

    _reading(folder, seed, lambda logits: tf.argmax(logits, -1))


def reading_by_keras(folder: Path, seed: int = 0) -> None:
    """Class id of Keras' argmax, which tells -0 from 0 by the bits of the number."""
    from keras import ops

    _reading(folder, seed, lambda logits: ops.argmax(logits, -1))


def contrast(folder: Path, seed: int = 0) -> None:
    """Picture divided by its own spread: an even one, black or white, has none, and the SavedModel gives NaN."""
    import keras
    from keras import layers, ops

    class Standard(layers.Layer):
        """Subtracts the picture's mean and divides by its deviation."""

        def call(self, image):
            centred = image - ops.mean(image, axis=(1, 2, 3), keepdims=True)
            return centred / ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True))

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16)
    image = keras.Input((16, 16, 1), name="image")
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(Standard()(image))
    x = layers.Flatten()(x)
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(image, {"place": head(x)})
    fit_head(head, keras.Model(image, x), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, image=images[:COUNT], labels=labels[:COUNT])


def adaptive(folder: Path, seed: int = 0) -> None:
    """Pooling to a fixed grid whatever the picture's size, one of Keras' newest layers."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 20, 3)
    photo = keras.Input((20, 20, 3), name="photo")
    x = layers.Conv2D(8, 3, activation="relu")(photo)
    x = layers.Flatten()(layers.AdaptiveAveragePooling2D(4)(x))
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(photo, {"place": head(x)})
    fit_head(head, keras.Model(photo, x), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, photo=images[:COUNT], labels=labels[:COUNT])


ENTRIES = (
    Entry("restorer", "dilated, depthwise and transposed convolutions", restorer, {"clean": "values"}),
    Entry(
        "unet",
        "a U-Net of any height and width",
        unet,
        {"shade": "probabilities"},
        samples=160,
    ),
    Entry(
        "unet_nearest",
        "a U-Net with UpSampling2D",
        unet_nearest,
        {"shade": "probabilities"},
        samples=160,
        # TFLite has no convolution of an unknown number of channels.
        expected=dict.fromkeys(TFLITE, Cannot("Conv2D")),
    ),
    Entry(
        "likeness",
        "an embedding of length one",
        likeness,
        {"embedding": "values"},
        expected=dict.fromkeys(
            ("tflite-fp32", "tflite-fp16"), Fails("XNNPACK gives NaN on a black picture, TensorFlow zeros", "NaN")
        ),
    ),
    Entry("reading", "a class id and a count", reading, {"place": "integers", "bright": "integers"}),
    Entry(
        "reading_by_keras",
        "an argmax of Keras",
        reading_by_keras,
        {"place": "integers", "bright": "integers"},
        expected=dict.fromkeys(VARIANTS, Cannot("BitwiseAnd")),
    ),
    Entry(
        "contrast",
        "NaN on an even picture",
        contrast,
        {"place": "probabilities"},
        unsound={"tflite-int8": "the centred picture gets the range of what it is divided to: one step for nine"},
    ),
    Entry(
        "adaptive",
        "AdaptiveAveragePooling2D",
        adaptive,
        {"place": "probabilities"},
        layers=("AdaptiveAveragePooling2D",),
    ),
)
