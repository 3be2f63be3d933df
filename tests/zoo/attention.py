"""Attention: masks of padding, a transformer of token ids, a matrix a head, and groups of queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data import spots, table, tokens
from zoo.entry import Entry, Fails
from zoo.fitting import apart, features, fit_head, seeded, solve
from zoo.saving import save_keras, save_module, save_samples

COUNT, SPARE = 400, 600


def padmask(folder: Path, seed: int = 0) -> None:
    """Pooling by attention, which leaves rows of zeros out by adding -1e9 before the softmax."""
    import tensorflow as tf

    rng = seeded(seed)
    labels = rng.integers(0, 4, COUNT + SPARE)
    rows = 0.8 * rng.normal(0, 1, (4, 6))[labels][:, None] + rng.normal(0, 1, (len(labels), 15, 6))
    rows[np.arange(15)[None] >= rng.integers(5, 16, len(labels))[:, None]] = 0
    rows = rows.astype(np.float32)

    class Pool(tf.Module):
        """Share of each row by a query, and a linear layer of their sum."""

        def __init__(self) -> None:
            super().__init__()
            self.query = tf.Variable(rng.normal(0, 0.3, (6, 1)).astype(np.float32))
            self.weights = tf.Variable(tf.zeros((6, 4)))
            self.bias = tf.Variable(tf.zeros(4))

        def pooled(self, rows):
            real = tf.sign(tf.reduce_sum(tf.abs(rows), -1, keepdims=True))
            share = tf.nn.softmax(rows @ self.query + (real - 1.0) * 1e9, axis=1)
            return tf.reduce_sum(share * rows, 1)

        @tf.function(input_signature=[tf.TensorSpec([None, 15, 6], tf.float32, name="rows")])
        def __call__(self, rows):
            return {"topic": tf.nn.softmax(self.pooled(rows) @ self.weights + self.bias)}

    pool = Pool()
    weights, bias = solve(features(pool.pooled, rows[COUNT:]), apart(labels[COUNT:], 4))
    pool.weights.assign(weights)
    pool.bias.assign(bias)
    save_module(pool, folder)
    save_samples(folder, rows=rows[:COUNT], labels=labels[:COUNT])


def transformer(folder: Path, seed: int = 0) -> None:
    """Block of a transformer on token ids, in which Keras' own mask leaves the padding out."""
    import keras
    from keras import layers

    rng = seeded(seed)
    ids, labels = tokens(rng, COUNT + SPARE, 16, 80, 4, padded=True)
    text = keras.Input((16,), dtype="int32", name="tokens")
    x = layers.Embedding(80, 24, mask_zero=True, weights=[table(rng, 80, 24, 4)])(text)
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 12)(x, x)]))
    y = layers.Dense(24)(layers.Dense(48, activation="gelu")(x))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(layers.Add()([x, y])))
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(text, {"topic": head(x)})
    fit_head(head, keras.Model(text, x), ids[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, tokens=ids[:COUNT], labels=labels[:COUNT])


def experts(folder: Path, seed: int = 0) -> None:
    """Product with one matrix a head: weights that are a batch of matrices."""
    import keras
    import tensorflow as tf
    from keras import layers

    class Experts(layers.Layer):
        """Multiplies each of four parts by a matrix of its own."""

        def build(self, _):
            self.matrices = self.add_weight(shape=(4, 8, 8), initializer="glorot_uniform")

        def call(self, x):
            return tf.reshape(tf.matmul(tf.reshape(x, (-1, 4, 1, 8)), self.matrices), (-1, 32))

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16, 3)
    photo = keras.Input((16, 16, 3), name="photo")
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(photo)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(layers.MaxPooling2D(2)(x)))
    x = layers.ReLU()(Experts()(x))
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(photo, {"place": head(x)})
    fit_head(head, keras.Model(photo, x), images[COUNT:], apart(labels[COUNT:], 4))
    save_keras(model, folder)
    save_samples(folder, photo=images[:COUNT], labels=labels[:COUNT])


def grouped_queries(folder: Path, seed: int = 0) -> None:
    """Patches of a picture under attention in which queries share keys: newer layers of Keras."""
    import keras
    from keras import layers

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 16, 3)
    photo = keras.Input((16, 16, 3), name="photo")
    patches = layers.Reshape((16, 24))(layers.Conv2D(24, 4, 4)(photo))
    x = layers.RMSNormalization()(patches)
    x = layers.Add()([patches, layers.GroupQueryAttention(12, 4, 2)(x, x)])
    x = layers.Flatten()(layers.RMSNormalization()(x))
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(photo, {"place": head(x)})
    fit_head(head, keras.Model(photo, x), images[COUNT:], apart(labels[COUNT:], 4), ridge=0.1)
    save_keras(model, folder)
    save_samples(folder, photo=images[:COUNT], labels=labels[:COUNT])


ENTRIES = (
    Entry(
        "padmask",
        "a mask of -1e9 before a softmax",
        padmask,
        {"topic": "probabilities"},
        expected={
            "tflite-int8": Fails("the one constant of -1e9 sets the step of the scores, in which they vanish", "kl"),
        },
        quick=True,
    ),
    Entry(
        "transformer",
        "a transformer with a padding mask",
        transformer,
        {"topic": "probabilities"},
    ),
    Entry(
        "experts",
        "a matrix a head",
        experts,
        {"place": "probabilities"},
    ),
    Entry(
        "grouped_queries",
        "GroupQueryAttention and RMSNormalization",
        grouped_queries,
        {"place": "probabilities"},
        layers=("GroupQueryAttention", "RMSNormalization"),
    ),
)
