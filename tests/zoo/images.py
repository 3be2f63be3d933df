"""Classifiers of images: one an operator, a pair of heads or an input type that converters trip over."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data import spots
from zoo.entry import Entry, Fails
from zoo.fitting import apart, features, fit_head, seeded, solve
from zoo.saving import save_keras, save_module, save_samples

COUNT, SPARE = 400, 400
"""How many samples an entry has, and how many more its last layer is solved for on."""

DARK = 0.3125
"""A threshold that FP16 holds exactly: no pixel changes sides because the constant was rounded."""


def marks(folder: Path, seed: int = 0) -> None:
    """Six sigmoids: each of six marks may be on a sheet, or not, so that several are near one or all near zero."""
    import keras
    from keras import layers

    rng = seeded(seed)
    there = rng.random((COUNT + SPARE, 6)) < 0.4
    sheets = rng.normal(0.25, 0.04, (COUNT + SPARE, 24, 24, 1))
    for k in range(6):
        top, left = 12 * (k // 3), 8 * (k % 3)
        sheets[:, top : top + 12, left : left + 8] += 0.5 * there[:, k, None, None, None]
    sheets = np.clip(sheets, 0, 1).astype(np.float32)
    x = sheet = keras.Input((24, 24, 1), name="sheet")
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    head = layers.Dense(6, activation="sigmoid")
    model = keras.Model(sheet, {"marks": head(x)})
    fit_head(head, keras.Model(sheet, x), sheets[COUNT:], np.where(there[COUNT:], 4.0, -4.0))
    save_keras(model, folder)
    save_samples(folder, sheet=sheets[:COUNT])


def scan(folder: Path, seed: int = 0) -> None:
    """Mask of bright pixels, a comparison cast to float in the graph, between two layers."""
    import tensorflow as tf

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 12)

    class Masked(tf.Module):
        """Convolution under a mask, and a linear layer."""

        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(0, 0.5, (3, 3, 1, 6)).astype(np.float32))
            self.weights = tf.Variable(tf.zeros((6 * 36, 4)))
            self.bias = tf.Variable(tf.zeros(4))

        def masked(self, scan):
            h = tf.nn.relu(tf.nn.conv2d(scan, self.kernel, 1, "SAME")) * tf.cast(scan > DARK, tf.float32)
            return tf.reshape(tf.nn.max_pool2d(h, 2, 2, "VALID"), (-1, 6 * 36))

        @tf.function(input_signature=[tf.TensorSpec([None, 12, 12, 1], tf.float32, name="scan")])
        def __call__(self, scan):
            return {"place": tf.nn.softmax(self.masked(scan) @ self.weights + self.bias)}

    model = Masked()
    weights, bias = solve(features(model.masked, images[COUNT:]), apart(labels[COUNT:], 4))
    model.weights.assign(weights)
    model.bias.assign(bias)
    save_module(model, folder)
    save_samples(folder, scan=images[:COUNT], labels=labels[:COUNT])


def _stem(x, filters=(8, 8)):
    """Add convolutions and a pooling, as most of the classifiers here begin."""
    from keras import layers

    for count in filters:
        x = layers.Conv2D(count, 3, padding="same", activation="relu")(x)
    return layers.Flatten()(layers.MaxPooling2D(4)(x))


def thresholds(folder: Path, seed: int = 0) -> None:
    """Choice by tf.where between a value and a part of it."""
    import keras
    import tensorflow as tf
    from keras import layers

    class Thresholded(layers.Layer):
        """Weakens what is below 0.1."""

        def call(self, x):
            return tf.where(x > 0.1, x, 0.2 * x)

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16, 3)
    photo = keras.Input((16, 16, 3), name="photo")
    x = Thresholded()(layers.Dense(32)(_stem(photo)))
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(photo, {"place": head(x)})
    fit_head(head, keras.Model(photo, x), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, photo=images[:COUNT], labels=labels[:COUNT])


def two_heads(folder: Path, seed: int = 0) -> None:
    """Logits and their probabilities: the softmax reads what is an output itself, and a Cast stands before both."""
    import keras
    from keras import layers, ops

    class Bright(layers.Layer):
        """Leaves dark pixels out, by a comparison cast to float; of each value alone it would be a ThresholdedRelu."""

        def call(self, x):
            return x * ops.cast(ops.max(x, -1, keepdims=True) > DARK, "float32")

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 12, 3)
    chip = keras.Input((12, 12, 3), name="chip")
    x = layers.Flatten()(layers.Conv2D(6, 3, 2, activation="relu")(Bright()(chip)))
    head = layers.Dense(4)
    logits = head(x)
    model = keras.Model(chip, {"logits": logits, "probabilities": layers.Softmax()(logits)})
    fit_head(head, keras.Model(chip, x), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, chip=images[:COUNT], labels=labels[:COUNT])


def coarse_to_fine(folder: Path, seed: int = 0) -> None:
    """Half of the picture, and a quarter of it that the second head finds with the first one's answer."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16, 3)
    photo = keras.Input((16, 16, 3), name="photo")
    x = layers.Dense(32, activation="relu")(_stem(photo))
    first, second = layers.Dense(2, activation="softmax"), layers.Dense(4, activation="softmax")
    half = first(x)
    joined = layers.Concatenate()([x, half])
    model = keras.Model(photo, {"half": half, "quarter": second(joined)})
    fit_head(first, keras.Model(photo, x), images[COUNT:], apart(labels[COUNT:] // 2, 2))
    fit_head(second, keras.Model(photo, joined), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    # No labels: two outputs are probabilities, and a label is for one.
    save_samples(folder, photo=images[:COUNT])


def grouped(folder: Path, seed: int = 0) -> None:
    """Convolution in groups, which Keras calls in a function of its own."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16, 4)
    bands = keras.Input((16, 16, 4), name="bands")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(bands)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", groups=2)(x)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(layers.MaxPooling2D(4)(x)))
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(bands, {"place": head(x)})
    fit_head(head, keras.Model(bands, x), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, bands=images[:COUNT], labels=labels[:COUNT])


def digits(folder: Path, seed: int = 0) -> None:
    """Pictures in uint8, and the Rescaling inside of the model."""
    import keras
    from keras import layers
    from sklearn.datasets import load_digits

    rng = seeded(seed)
    known = load_digits()
    chosen = rng.permutation(len(known.target))
    images = np.kron(known.images[chosen], np.ones((1, 3, 3)))[..., None]
    images, labels = (images * 15.9).astype(np.uint8), known.target[chosen].astype(np.int64)
    image = keras.Input((24, 24, 1), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255)(image)
    for filters in (12, 24):
        x = layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    head = layers.Dense(10, activation="softmax")
    model = keras.Model(image, {"digit": head(x)})
    fit_head(head, keras.Model(image, x), images[COUNT:], apart(labels[COUNT:], 10))
    save_keras(model, folder)
    save_samples(folder, image=images[:COUNT], labels=labels[:COUNT])


def norms(folder: Path, seed: int = 0) -> None:
    """Blocks of newer networks: a depthwise convolution, LayerNorm or GroupNorm, and the exact GELU."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16, 3)
    photo = keras.Input((16, 16, 3), name="photo")
    x = layers.Conv2D(16, 4, 4)(photo)
    for norm in (layers.LayerNormalization(epsilon=1e-6), layers.GroupNormalization(4)):
        y = norm(layers.DepthwiseConv2D(3, padding="same")(x))
        y = layers.Dense(16)(layers.Activation(keras.activations.gelu)(layers.Dense(32)(y)))
        x = layers.Add()([x, y])
    x = layers.Flatten()(x)
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(photo, {"place": head(x)})
    fit_head(head, keras.Model(photo, x), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, photo=images[:COUNT], labels=labels[:COUNT])


def certain(folder: Path, seed: int = 0) -> None:
    """Steep classifier, trained until it is certain of everything: its logits are far apart."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16)
    photo = keras.Input((16, 16, 1), name="photo")
    x = layers.Dense(48, activation="relu")(_stem(photo, (8, 16)))
    model = keras.Model(photo, {"place": layers.Dense(4, activation="softmax")(x)})
    model.compile(keras.optimizers.Adam(1e-2), {"place": "sparse_categorical_crossentropy"}, jit_compile=False)
    model.fit(images[COUNT:], {"place": labels[COUNT:]}, epochs=10, batch_size=50, verbose=0)
    save_keras(model, folder)
    save_samples(folder, photo=images[:COUNT], labels=labels[:COUNT])


ENTRIES = (
    Entry("marks", "six sigmoids of a sheet", marks, {"marks": "scores"}),
    Entry("scan", "a comparison cast to float", scan, {"place": "probabilities"}),
    Entry(
        "thresholds",
        "tf.where inside",
        thresholds,
        {"place": "probabilities"},
        # TFLite wants the inputs and the output of a SELECT on one grid, and takes the output's. What goes in reaches
        # from -0.59, what comes out from -0.12: 27 % of the values are clipped before a fifth of them is taken.
        expected={"tflite-int8": Fails("what tf.where chooses from is clipped to the range of its result", "shift")},
    ),
    Entry(
        "two_heads",
        "logits and their probabilities, behind a Cast",
        two_heads,
        {"logits": "logits", "probabilities": "probabilities"},
    ),
    Entry(
        "coarse_to_fine",
        "an output that another head reads",
        coarse_to_fine,
        {"half": "probabilities", "quarter": "probabilities"},
    ),
    Entry(
        "grouped",
        "a grouped convolution",
        grouped,
        {"place": "probabilities"},
    ),
    Entry("digits", "uint8 images, Rescaling inside", digits, {"digit": "probabilities"}),
    Entry(
        "norms",
        "GroupNorm, LayerNorm and the exact GELU",
        norms,
        {"place": "probabilities"},
    ),
    Entry(
        "certain",
        "a steep classifier, trained to certainty",
        certain,
        {"place": "probabilities"},
    ),
)
