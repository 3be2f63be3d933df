"""SavedModels that cannot be a reference: what they answer depends on more than the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.entry import Entry
from zoo.fitting import seeded
from zoo.saving import save_module, save_samples

COUNT = 400


def _sensor(folder: Path, seed: int, adjust: Any, state: bool = False) -> None:
    """Make a classifier of five readings, which ``adjust(module, readings)`` changes before they are weighted."""
    import tensorflow as tf

    rng = seeded(seed)

    class Sensor(tf.Module):
        """Linear layer of adjusted readings, and a softmax."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(rng.normal(0, 1, (5, 3)).astype(np.float32))
            self.mean = tf.Variable(tf.zeros(5)) if state else None

        @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, name="readings")])
        def __call__(self, readings):
            return {"state": tf.nn.softmax(adjust(self, readings) @ self.weights)}

    save_module(Sensor(), folder)
    save_samples(folder, readings=rng.normal(2, 1, (COUNT, 5)).astype(np.float32))


def tracker(folder: Path, seed: int = 0) -> None:
    """State: the mean of all that was given before."""
    import tensorflow as tf

    def adjust(module, readings):
        module.mean.assign(0.9 * module.mean + 0.1 * tf.reduce_mean(readings, 0))
        return readings - module.mean

    _sensor(folder, seed, adjust, state=True)


def restless(folder: Path, seed: int = 0) -> None:
    """Dropout that was left on when the model was exported."""
    import tensorflow as tf

    _sensor(folder, seed, lambda _, readings: tf.nn.dropout(readings, 0.3))


def crowd(folder: Path, seed: int = 0) -> None:
    """BatchNormalization that was left in training: a sample's answer depends on the others."""
    import tensorflow as tf

    def adjust(_, readings):
        mean, variance = tf.nn.moments(readings, 0)
        return (readings - mean) / tf.sqrt(variance + 1e-3)

    _sensor(folder, seed, adjust)


ENTRIES = (
    Entry("tracker", "state", tracker, {"state": "probabilities"}, refused="call to call", quick=True),
    Entry("restless", "a dropout left on", restless, {"state": "probabilities"}, refused="call to call", quick=True),
    Entry("crowd", "a sample depends on its batch", crowd, {"state": "probabilities"}, refused="batch", quick=True),
)
