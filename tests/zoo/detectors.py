"""Detectors: raw offsets with the anchors that they refer to, boxes of every cell, and boxes after suppression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.data import spots
from zoo.entry import TFLITE, Cannot, Entry
from zoo.fitting import features, seeded, solve
from zoo.saving import save_module, save_samples

COUNT, SPARE, SIDE, GRID = 400, 200, 16, 4


def _anchors() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the corners (16, 4) of a box in each cell, in parts of the picture."""
    centres = (np.stack(np.mgrid[:GRID, :GRID], -1).reshape(-1, 2) + 0.5) / GRID
    return np.concatenate([centres - 0.15, centres + 0.15], 1).astype(np.float32)


def _detector(rng: np.random.Generator, call: Any) -> tuple[Any, Any]:
    """Return a detector that answers by ``call(offsets, logits, anchors)``, fitted to find spots, and its frames."""
    import tensorflow as tf

    class Detector(tf.Module):
        """Two convolutions to a grid of cells; four offsets and one logit of each cell."""

        def __init__(self) -> None:
            super().__init__()
            self.first = tf.Variable(rng.normal(0, 0.4, (3, 3, 1, 12)).astype(np.float32))
            self.second = tf.Variable(rng.normal(0, 0.2, (3, 3, 12, 24)).astype(np.float32))
            self.last = tf.Variable(tf.zeros((24, 5)))
            self.bias = tf.Variable(tf.zeros(5))
            self.anchors = tf.Variable(_anchors())

        def cells(self, frame):
            x = tf.nn.relu(tf.nn.conv2d(frame, self.first, 2, "SAME"))
            return tf.nn.relu(tf.nn.conv2d(x, self.second, 2, "SAME"))

        @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 1], tf.float32, name="frame")])
        def __call__(self, frame):
            found = tf.reshape(self.cells(frame), (-1, GRID * GRID, 24)) @ self.last + self.bias
            return call(0.1 * tf.tanh(found[..., :4]), found[..., 4], self.anchors)

    frames, _ = spots(rng, COUNT + SPARE, SIDE, 1, 12)
    detector = Detector()
    seen = features(detector.cells, frames[COUNT:]).reshape(-1, 24)
    bright = frames[COUNT:].reshape(SPARE, GRID, 4, GRID, 4).mean((2, 4)).reshape(-1)
    targets = np.concatenate([rng.normal(0, 1, (len(seen), 4)), 20 * (bright[:, None] - 0.28)], 1)
    weights, bias = solve(seen, targets)
    weights[:, :4] = rng.normal(0, 0.5, (24, 4))
    detector.last.assign(weights)
    detector.bias.assign(bias)
    return detector, frames[:COUNT]


def anchors(folder: Path, seed: int = 0) -> None:
    """Offsets of each sample, and the boxes that they refer to: an output without a batch axis."""
    import tensorflow as tf

    rng = seeded(seed)
    detector, frames = _detector(rng, lambda offsets, _, boxes: {"offsets": offsets, "anchors": tf.identity(boxes)})
    save_module(detector, folder)
    save_samples(folder, frame=frames)


def cells(folder: Path, seed: int = 0) -> None:
    """Box and a score of every cell: coordinates and sigmoids, no list yet."""
    import tensorflow as tf

    rng = seeded(seed)
    detector, frames = _detector(
        rng, lambda offsets, logits, boxes: {"boxes": boxes + offsets, "scores": tf.nn.sigmoid(logits)}
    )
    save_module(detector, folder)
    save_samples(folder, frame=frames)


def suppressed(folder: Path, seed: int = 0) -> None:
    """Boxes that suppression leaves over, at most four, and their scores and number."""
    import tensorflow as tf

    def best(offsets, logits, boxes):
        boxes, scores = (boxes + offsets)[:, :, None], tf.nn.sigmoid(logits)[..., None]
        left = tf.image.combined_non_max_suppression(boxes, scores, 4, 4, 0.3, 0.2, clip_boxes=False)
        return {"boxes": left.nmsed_boxes, "scores": left.nmsed_scores, "count": left.valid_detections}

    rng = seeded(seed)
    detector, frames = _detector(rng, best)
    save_module(detector, folder)
    save_samples(folder, frame=frames)


ENTRIES = (
    Entry("anchors", "an output without a batch axis", anchors, {"offsets": "values", "anchors": "constant"}),
    Entry("cells", "a detector without suppression", cells, {"boxes": "values", "scores": "scores"}),
    Entry(
        "suppressed",
        "a detector with suppression",
        suppressed,
        {"boxes": "ranked", "scores": "ranked", "count": "integers"},
        expected=dict.fromkeys(TFLITE, Cannot("CombinedNonMaxSuppression")),
        quick=True,
    ),
)
