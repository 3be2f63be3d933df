"""Tables and what goes with them: columns of other sizes, ids of two towers, switches, a picture, a ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data import spots
from zoo.entry import ONNX, Cannot, Entry, Fails, Wide
from zoo.fitting import apart, features, fit_head, seeded, solve
from zoo.saving import save_keras, save_module, save_samples

COUNT, SPARE = 400, 600


def price(folder: Path, seed: int = 0) -> None:
    """House prices of 300,000 by 25,000 from eight normalized columns: beyond what FP16 can say."""
    import keras
    from keras import layers

    rng = seeded(seed)
    columns = rng.normal(0, 1, (COUNT + SPARE, 8)).astype(np.float32)
    worth = columns @ rng.normal(0, 0.35, 8) + 0.2 * np.sin(2 * columns[:, 0])
    house = keras.Input((8,), name="features")
    x = layers.Dense(64, activation="relu")(layers.Dense(64, activation="relu")(house))
    head = layers.Dense(1)
    model = keras.Model(house, {"price": layers.Rescaling(25_000.0, offset=300_000.0)(head(x))})
    fit_head(head, keras.Model(house, x), columns[COUNT:], (worth / worth.std())[COUNT:, None])
    save_keras(model, folder)
    save_samples(folder, features=columns[:COUNT])


def listing(folder: Path, seed: int = 0) -> None:
    """Picture and raw columns, of 0 to 60,000, to a class and a value."""
    import keras
    from keras import layers

    rng = seeded(seed)
    count = COUNT + SPARE
    images, labels = spots(rng, count, 16, 3)
    columns = np.stack([rng.normal(50, 15, count), rng.normal(3e4, 1e4, count), rng.integers(0, 2, count)], 1)
    columns = columns.astype(np.float32)
    values = 2 * columns[:, 0] + columns[:, 1] / 1000 + 10 * labels
    image, table = keras.Input((16, 16, 3), name="image"), keras.Input((3,), name="columns")
    norm = layers.Normalization()
    norm.adapt(columns)
    x = layers.Conv2D(12, 3, 2, padding="same", activation="relu")(image)
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Concatenate()([x, layers.Dense(16, activation="relu")(norm(table))])
    first, second = layers.Dense(4, activation="softmax"), layers.Dense(1)
    model = keras.Model([image, table], {"sort": first(x), "value": second(x)})
    given = {"image": images[COUNT:], "columns": columns[COUNT:]}
    body = keras.Model({"image": image, "columns": table}, x)
    fit_head(first, body, given, apart(labels[COUNT:], 4))
    fit_head(second, body, given, values[COUNT:, None])
    save_keras(model, folder)
    save_samples(folder, image=images[:COUNT], columns=columns[:COUNT], labels=labels[:COUNT])


def visits(folder: Path, seed: int = 0) -> None:
    """Page counts from 0 to thousands, whose log1p the model takes itself."""
    import keras
    from keras import layers, ops

    class Logarithm(layers.Layer):
        """Logarithms of counts, of which some may be zero."""

        def call(self, counts):
            return ops.log1p(counts)

    rng = seeded(seed)
    labels = rng.integers(0, 3, COUNT + SPARE)
    habits = rng.normal(0, 1.2, (3, 6))[labels]
    counts = np.floor(np.exp(3 + habits + rng.normal(0, 1, habits.shape))).astype(np.float32)
    pages = keras.Input((6,), name="pages")
    x = layers.Dense(32, activation="relu")(Logarithm()(pages))
    head = layers.Dense(3, activation="softmax")
    model = keras.Model(pages, {"sort": head(x)})
    fit_head(head, keras.Model(pages, x), counts[COUNT:], apart(labels[COUNT:], 3))
    save_keras(model, folder)
    save_samples(folder, pages=counts[:COUNT], labels=labels[:COUNT])


def towers(folder: Path, seed: int = 0) -> None:
    """Tower for users and one for items: the cosine of what they make of two ids, as a sigmoid."""
    import keras
    from keras import layers

    rng = seeded(seed)
    user, item = keras.Input((), dtype="int32", name="user"), keras.Input((), dtype="int32", name="item")

    def tower(ids, size):
        table = layers.Embedding(size, 16, embeddings_initializer=keras.initializers.RandomNormal(0, 1))
        return layers.Dense(12)(layers.Dense(24, activation="relu")(table(ids)))

    cosine = layers.Dot(1, normalize=True)([tower(user, 50), tower(item, 80)])
    model = keras.Model([user, item], {"match": layers.Activation("sigmoid")(layers.Rescaling(5.0)(cosine))})
    save_keras(model, folder)
    users, items = rng.integers(0, 50, COUNT).astype(np.int32), rng.integers(0, 80, COUNT).astype(np.int32)
    save_samples(folder, user=users, item=items)


def switches(folder: Path, seed: int = 0) -> None:
    """Boolean switches and a load to a temperature: inputs of two types."""
    import tensorflow as tf

    rng = seeded(seed)
    weights = rng.normal(0, 4, (6, 1)).astype(np.float32)

    class Machine(tf.Module):
        """Sum over what is switched on."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(weights)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 6], tf.bool, name="on"),
                tf.TensorSpec([None, 1], tf.float32, name="load"),
            ]
        )
        def __call__(self, on, load):
            heat = tf.cast(on, tf.float32) @ self.weights + 8.0 * tf.nn.sigmoid(load)
            return {"heat": 20.0 + heat}

    save_module(Machine(), folder)
    save_samples(folder, on=rng.random((COUNT, 6)) < 0.5, load=rng.normal(0, 2, (COUNT, 1)).astype(np.float32))


def ranking(folder: Path, seed: int = 0) -> None:
    """Five best of thirty items and their scores: a list in the order of the scores."""
    import tensorflow as tf

    rng = seeded(seed)
    taste = rng.normal(0, 1, (COUNT + SPARE, 10)).astype(np.float32)
    items = rng.normal(0, 1, (30, 10))

    class Shop(tf.Module):
        """Scores of all items, and the best of them."""

        def __init__(self) -> None:
            super().__init__()
            self.first = tf.Variable(rng.normal(0, 0.3, (10, 40)).astype(np.float32))
            self.second = tf.Variable(tf.zeros((40, 30)))
            self.bias = tf.Variable(tf.zeros(30))

        def hidden(self, taste):
            return tf.nn.relu(taste @ self.first)

        @tf.function(input_signature=[tf.TensorSpec([None, 10], tf.float32, name="taste")])
        def __call__(self, taste):
            best = tf.math.top_k(tf.nn.sigmoid(self.hidden(taste) @ self.second + self.bias), 5)
            return {"scores": best.values, "items": best.indices}

    shop = Shop()
    weights, bias = solve(features(shop.hidden, taste[COUNT:]), taste[COUNT:] @ items.T / 2)
    shop.second.assign(weights)
    shop.bias.assign(bias)
    save_module(shop, folder)
    save_samples(folder, taste=taste[:COUNT])


ENTRIES = (
    Entry(
        "price",
        "prices of 300,000 by 25,000",
        price,
        {"price": "values"},
        expected=dict.fromkeys(("onnx-fp16", "tflite-fp16"), Cannot("65504")),
        quick=True,
    ),
    Entry(
        "listing",
        "image and columns to a class and a value",
        listing,
        {"sort": "probabilities", "value": "values"},
        expected={
            "tflite-int8": Fails("the columns share one input step of about 230, in which two of them vanish", "spread")
        },
    ),
    Entry(
        "visits",
        "log1p of counts",
        visits,
        {"sort": "probabilities"},
        # tf2onnx does not know the operator.
        expected=dict.fromkeys(ONNX, Cannot("Log1p"))
        | {"tflite-int8": Fails("counts of up to thousands share one input step: small ones are alike", "kl")},
    ),
    Entry("towers", "two towers of ids", towers, {"match": "scores"}),
    Entry(
        "switches",
        "boolean inputs",
        switches,
        {"heat": "values"},
        # TensorFlow's optimizer, which tf2onnx asks, adds the constant first, and TFLite last. The sum of the others is
        # less in one sample of 400 than in all that INT8 was calibrated with, and saturates: 17.53 becomes 18.23. The
        # twin is made of the ONNX, which has no such sum.
        expected={"tflite-int8": Wide("a sum that the ONNX does not have saturates in one sample of 400", "max")},
    ),
    Entry("ranking", "the best five and their scores", ranking, {"scores": "ranked", "items": "ranked"}),
)
