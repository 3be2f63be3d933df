"""Sequences: token ids of any length, spectrograms, boards of numbered fields, and series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.data import table, tokens
from zoo.entry import ONNX, TFLITE, Cannot, Entry
from zoo.fitting import apart, features, fit_head, seeded, solve
from zoo.saving import save_keras, save_module, save_samples

COUNT, SPARE = 400, 600


def _topic(folder: Path, seed: int, layer: Any) -> None:
    """Make a classifier of int32 token ids of any length with a recurrent layer."""
    import keras
    from keras import layers

    rng = seeded(seed)
    ids, labels = tokens(rng, COUNT + SPARE, 20, 120, 3)
    text = keras.Input((None,), dtype="int32", name="tokens")
    x = layer()(layers.Embedding(120, 16, weights=[table(rng, 120, 16, 3)])(text))
    head = layers.Dense(3, activation="softmax")
    model = keras.Model(text, {"topic": head(x)})
    fit_head(head, keras.Model(text, x), ids[COUNT:], apart(labels[COUNT:], 3))
    save_keras(model, folder)
    save_samples(folder, tokens=ids[:COUNT], labels=labels[:COUNT])


def topic_lstm(folder: Path, seed: int = 0) -> None:
    """LSTM on token ids in int32, of any length."""
    from keras import layers

    _topic(folder, seed, lambda: layers.LSTM(32))


def topic_gru(folder: Path, seed: int = 0) -> None:
    """GRU in both directions on token ids in int32, of any length."""
    from keras import layers

    _topic(folder, seed, lambda: layers.Bidirectional(layers.GRU(16)))


def logmel(folder: Path, seed: int = 0) -> None:
    """Log spectrograms from 0 to about 4, no image, and the word that was spoken."""
    import keras
    from keras import layers

    rng = seeded(seed)
    count = COUNT + SPARE
    words = rng.integers(0, 5, count)
    time, band = np.arange(40)[None, :, None], np.arange(24)[None, None]
    centre = 5 + 3 * words[:, None, None] + np.sin(time / rng.uniform(4, 9, (count, 1, 1)))
    power = rng.gamma(1.0, 2.5, (count, 40, 24)) + 12 * np.exp(-(((band - centre) / 1.5) ** 2))
    logs = np.log1p(power)[..., None].astype(np.float32)
    x = sound = keras.Input((40, 24, 1), name="logmel")
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Flatten()(layers.AveragePooling2D((10, 1))(x))
    head = layers.Dense(5, activation="softmax")
    model = keras.Model(sound, {"word": head(x)})
    fit_head(head, keras.Model(sound, x), logs[COUNT:], apart(words[COUNT:], 5))
    save_keras(model, folder)
    save_samples(folder, logmel=logs[:COUNT], labels=words[:COUNT])


def board(folder: Path, seed: int = 0) -> None:
    """Board of 8x8 fields, each of them 0 to 5, in float: any other number is beyond the Embedding's table."""
    import keras
    from keras import layers

    rng = seeded(seed)
    winners = rng.integers(0, 4, COUNT + SPARE)
    boards = rng.integers(0, 6, (COUNT + SPARE, 8, 8))
    rows, columns = np.mgrid[:8, :8] // 4
    won = (2 * rows + columns)[None] == winners[:, None, None]
    boards = np.where(won & (rng.random(boards.shape) < 0.5), 5, boards).astype(np.float32)
    fields = keras.Input((8, 8), name="board")
    x = layers.Embedding(6, 4)(fields)
    x = layers.Flatten()(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    head = layers.Dense(4, activation="softmax")
    model = keras.Model(fields, {"winner": head(x)})
    fit_head(head, keras.Model(fields, x), boards[COUNT:], apart(winners[COUNT:], 4), ridge=0.3)
    save_keras(model, folder)
    save_samples(folder, board=boards[:COUNT], labels=winners[:COUNT])


def forecast(folder: Path, seed: int = 0) -> None:
    """Next four values of two series, by causal dilated convolutions."""
    import keras
    from keras import layers

    rng = seeded(seed)
    speed, phase = rng.uniform(0.1, 0.5, (COUNT + SPARE, 1, 2)), rng.uniform(0, 6, (COUNT + SPARE, 1, 2))
    level = rng.normal(20, 5, (COUNT + SPARE, 1, 2))
    series = level + 4 * np.sin(speed * np.arange(36)[None, :, None] + phase) + rng.normal(0, 0.3, (1000, 36, 2))
    past, future = series[:, :32].astype(np.float32), series[:, 32:].reshape(-1, 8)
    known = keras.Input((32, 2), name="past")
    x = scaled = layers.Rescaling(0.1, offset=-2.0)(known)
    for rate in (1, 2, 4):
        x = layers.Conv1D(16, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
    joined = layers.Concatenate()([layers.Flatten()(x[:, -8:]), layers.Flatten()(scaled[:, -8:])])
    head = layers.Dense(8)
    model = keras.Model(known, {"next": layers.Reshape((4, 2))(head(joined))})
    fit_head(head, keras.Model(known, joined), past[COUNT:], future[COUNT:], ridge=1e-3)
    save_keras(model, folder)
    save_samples(folder, past=past[:COUNT])


def waveform(folder: Path, seed: int = 0) -> None:
    """Short-time Fourier transform inside of the model: which of four tones is in the sound."""
    import tensorflow as tf

    rng = seeded(seed)
    pitch = rng.integers(0, 4, COUNT + SPARE)
    turns = 0.3 + 0.6 * pitch[:, None] + rng.normal(0, 0.02, (len(pitch), 1))
    sound = 0.4 * np.sin(turns * np.arange(256)) + rng.normal(0, 0.2, (len(pitch), 256))

    class Listener(tf.Module):
        """Magnitudes of frames, their mean, and a linear layer."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.zeros((33, 4)))
            self.bias = tf.Variable(tf.zeros(4))

        def heard(self, sound):
            return tf.math.log(1.0 + tf.reduce_mean(tf.abs(tf.signal.stft(sound, 64, 32)), 1))

        @tf.function(input_signature=[tf.TensorSpec([None, 256], tf.float32, name="sound")])
        def __call__(self, sound):
            return {"tone": tf.nn.softmax(self.heard(sound) @ self.weights + self.bias)}

    sound = sound.astype(np.float32)
    model = Listener()
    weights, bias = solve(features(model.heard, sound[COUNT:]), apart(pitch[COUNT:], 4))
    model.weights.assign(weights)
    model.bias.assign(bias)
    save_module(model, folder)
    save_samples(folder, sound=sound[:COUNT], labels=pitch[:COUNT])


def lookup(folder: Path, seed: int = 0) -> None:
    """Lookup table from product numbers to rows of an Embedding."""
    import keras
    from keras import layers

    rng = seeded(seed)
    numbers = rng.choice(90_000, 60, replace=False) + 10_000
    ids, labels = tokens(rng, COUNT + SPARE, 8, 60, 3)
    products = keras.Input((8,), dtype="int64", name="products")
    x = layers.IntegerLookup(vocabulary=numbers.tolist())(products)
    x = layers.GlobalAveragePooling1D()(layers.Embedding(61, 8, weights=[table(rng, 61, 8, 3)])(x))
    head = layers.Dense(3, activation="softmax")
    model = keras.Model(products, {"shelf": head(x)})
    basket = numbers[ids].astype(np.int64)
    fit_head(head, keras.Model(products, x), basket[COUNT:], apart(labels[COUNT:], 3))
    save_keras(model, folder)
    save_samples(folder, products=basket[:COUNT], labels=labels[:COUNT])


def next_token(folder: Path, seed: int = 0) -> None:
    """Scores of each next token by the very table that embeds the tokens, one of Keras' newest layers."""
    import keras
    from keras import layers

    rng = seeded(seed)
    ids, _ = tokens(rng, 200, 12, 40, 4)
    text = keras.Input((12,), dtype="int32", name="tokens")
    table = layers.ReversibleEmbedding(40, 16, embeddings_initializer=keras.initializers.RandomNormal(0, 0.7))
    x = table(text)
    x = layers.Add()([x, layers.Conv1D(16, 3, padding="causal", activation="gelu")(x)])
    model = keras.Model(text, {"next": table(layers.RMSNormalization()(x), reverse=True)})
    save_keras(model, folder)
    save_samples(folder, tokens=ids)


UNROLLED = dict.fromkeys(TFLITE, Cannot("TensorListReserve"))
"""What TFLite makes of a recurrent layer whose batch is dynamic: it lowers lists of a static shape only."""

ENTRIES = (
    Entry(
        "topic_lstm",
        "an LSTM on int32 ids of any length",
        topic_lstm,
        {"topic": "probabilities"},
        expected=UNROLLED,
    ),
    Entry(
        "topic_gru",
        "a GRU both ways on int32 ids of any length",
        topic_gru,
        {"topic": "probabilities"},
        expected=UNROLLED,
    ),
    Entry("logmel", "spectrograms from 0 to 4", logmel, {"word": "probabilities"}),
    Entry("board", "ids in float, for an Embedding", board, {"winner": "probabilities"}),
    Entry("forecast", "causal dilated convolutions of a series", forecast, {"next": "values"}),
    Entry(
        "waveform",
        "a Fourier transform inside",
        waveform,
        {"tone": "probabilities"},
        # tf2onnx takes magnitudes of complex numbers only where their shape is known.
        expected=dict.fromkeys(ONNX, Cannot("ComplexAbs")),
    ),
    Entry(
        "lookup",
        "a lookup table inside",
        lookup,
        {"shelf": "probabilities"},
        expected=dict.fromkeys(ONNX, Cannot("lookup table")) | dict.fromkeys(TFLITE, Cannot("LookupTableFindV2")),
    ),
    Entry(
        "next_token",
        "ReversibleEmbedding and RMSNormalization",
        next_token,
        # Nothing in the graph, and no label, says that they are classes.
        {"next": "values"},
        samples=200,
        layers=("ReversibleEmbedding", "RMSNormalization"),
    ),
)
