"""SavedModels without Keras: a plain module with two signatures, and one that TensorFlow 1 wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data import spots
from zoo.entry import Entry
from zoo.fitting import apart, features, seeded, solve
from zoo.saving import MODEL, save_module, save_samples

COUNT, SPARE = 400, 400


def signatures(folder: Path, seed: int = 0) -> None:
    """Plain module with two signatures, the place of a spot and its code; the second is under test."""
    import tensorflow as tf

    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 12)

    class Coder(tf.Module):
        """Convolution to a code, and a linear layer of it."""

        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(0, 0.4, (3, 3, 1, 4)).astype(np.float32))
            self.project = tf.Variable(rng.normal(0, 0.15, (144, 24)).astype(np.float32))
            self.weights = tf.Variable(tf.zeros((24, 4)))
            self.bias = tf.Variable(tf.zeros(4))

        def coded(self, image):
            x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME"))
            return tf.nn.tanh(tf.reshape(x, (-1, 144)) @ self.project)

        @tf.function(input_signature=[tf.TensorSpec([None, 12, 12, 1], tf.float32, name="image")])
        def classify(self, image):
            return {"place": tf.nn.softmax(self.coded(image) @ self.weights + self.bias)}

        @tf.function(input_signature=[tf.TensorSpec([None, 12, 12, 1], tf.float32, name="image")])
        def encode(self, image):
            return {"code": self.coded(image)}

    coder = Coder()
    weights, bias = solve(features(coder.coded, images[COUNT:]), apart(labels[COUNT:], 4))
    coder.weights.assign(weights)
    coder.bias.assign(bias)
    save_module(coder, folder, serving_default=coder.classify, encode=coder.encode)
    save_samples(folder, image=images[:COUNT])


def tensorflow1(folder: Path, seed: int = 0) -> None:
    """Graph and a session, saved by TensorFlow 1's builder: variables of the old kind, and names of tensors."""
    import tensorflow as tf

    v1 = tf.compat.v1
    rng = seeded(seed)
    images, labels = spots(rng, COUNT + SPARE, 12)
    kernel = rng.normal(0, 0.4, (3, 3, 1, 6)).astype(np.float32)

    def hidden(image):
        return tf.reshape(tf.nn.relu(tf.nn.conv2d(image, kernel_of(image), 2, "SAME")), (-1, 216))

    def kernel_of(image):
        return kernel if tf.executing_eagerly() else v1.get_variable("kernel", initializer=kernel)

    weights, bias = solve(features(hidden, images[COUNT:]), apart(labels[COUNT:], 4))
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, (None, 12, 12, 1), "image")
        last, shift = v1.get_variable("weights", initializer=weights), v1.get_variable("bias", initializer=bias)
        place = tf.nn.softmax(hidden(image) @ last + shift, name="place")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder / MODEL))
        signature = v1.saved_model.predict_signature_def({"image": image}, {"place": place})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    save_samples(folder, image=images[:COUNT], labels=labels[:COUNT])


ENTRIES = (
    Entry("signatures", "two signatures, the second chosen", signatures, {"code": "values"}, signature="encode"),
    Entry("tensorflow1", "a SavedModel of TensorFlow 1", tensorflow1, {"place": "probabilities"}),
)
