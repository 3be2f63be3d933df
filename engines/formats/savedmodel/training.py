"""The bundled architecture, its training and its weights file (Keras 3, on whichever backend Keras is set to)."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import EngineError, SpecError
from engines.model.npz import load_npz
from engines.model.spec import ModelSpec, Training

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.samples import Samples

log = logging.getLogger(__name__)

STAGES = ((1, 2), (2, 2), (4, 3))
"""The VGG stages: kernels as a multiple of the width, and how many convolutions; each stage ends with a 2x2 pool."""


def build_network(spec: ModelSpec) -> Any:
    """Make the spec's architecture, untrained, as a functional Keras model from its input to ``{output name: …}``.

    Raises SpecError where the spec has no bundled architecture.
    """
    if spec.architecture is None:
        raise SpecError(f"{spec.source}: source.architecture is missing; only a bundled architecture can be trained")
    import keras
    from keras import layers

    source, target = spec.inputs[0], spec.outputs[0]
    dropout = spec.training.dropout if spec.training else 0.0
    x = first = keras.Input(tuple(source.shape[1:]), name=source.name)
    # Every layer that could otherwise take the output's name from Keras' counter is named here.
    for stage, (multiple, convolutions) in enumerate(STAGES):
        for i in range(convolutions):
            x = layers.Conv2D(
                spec.architecture.width * multiple,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"stage_{stage}_conv_{i}",
            )(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    x = layers.Dense(spec.architecture.dense, activation="relu", kernel_initializer="he_normal", name="hidden")(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(target.shape[1], activation="softmax", name=target.name)(x)
    return keras.Model(first, {target.name: x})


def _augmented(
    images: NDArray[np.float32], shift: int, flip: bool, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Move each image by up to ``shift`` pixels (zeros come in) and mirror half of them."""
    count, height, width, _ = images.shape
    if shift:
        padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
        top, left = generator.integers(0, 2 * shift + 1, (2, count))
        rows = top[:, None, None] + np.arange(height)[None, :, None]
        columns = left[:, None, None] + np.arange(width)[None, None, :]
        images = padded[np.arange(count)[:, None, None], rows, columns]
    if flip:
        images = np.where(generator.random((count, 1, 1, 1)) < 0.5, images[:, :, ::-1], images)
    return images


def train(spec: ModelSpec, samples: Samples, held_out: Samples, *, verbose: bool) -> tuple[Any, float]:
    """Train the spec's architecture with its fixed seed; ``verbose`` shows Keras' progress display.

    Returns the trained Keras model and its accuracy on ``held_out`` (the fraction of samples whose label is top-1).
    Raises EngineError where that accuracy is below ``training.accuracy``: a model that did not learn proves nothing.
    """
    # Its graph optimizer reports as errors what newer Keras writes and it ignores.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    if spec.training is None or samples.labels is None or held_out.labels is None:
        raise SpecError(f"{spec.source}: training needs a [training] table and labelled samples")
    plan: Training = spec.training
    source, target = spec.inputs[0].name, spec.outputs[0].name
    keras.utils.set_random_seed(plan.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    images, labels = samples.inputs[source], samples.labels
    generator = np.random.default_rng(plan.seed)
    one_hot = np.eye(int(spec.outputs[0].shape[1]), dtype=np.float32)
    steps = math.ceil(len(labels) / plan.batch)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """One shuffled, augmented pass over the training samples after another."""

        def __init__(self) -> None:
            super().__init__()
            self.order = generator.permutation(len(labels))

        def __len__(self) -> int:
            return steps

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            chosen = self.order[index * plan.batch : (index + 1) * plan.batch]
            return _augmented(images[chosen], plan.shift, plan.flip, generator), {target: one_hot[labels[chosen]]}

        def on_epoch_end(self) -> None:
            self.order = generator.permutation(len(labels))

    model = build_network(spec)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps * plan.epochs, warmup_target=plan.learning_rate, warmup_steps=steps
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=plan.weight_decay),
        loss={target: keras.losses.CategoricalCrossentropy(label_smoothing=plan.label_smoothing)},
        metrics={target: ["accuracy"]},
    )
    model.fit(Batches(), epochs=plan.epochs, verbose=(1 if verbose else 0))
    predicted = model.predict(held_out.inputs[source], batch_size=256, verbose=0)[target].argmax(axis=1)
    accuracy = float((predicted == held_out.labels).mean())
    if accuracy < plan.accuracy:
        raise EngineError(
            f"{spec.name}: trained to an accuracy of {accuracy:.4f} on {len(held_out)} held-out samples; "
            f"training.accuracy asks for {plan.accuracy} ({spec.source})"
        )
    return model, accuracy


def save_weights(model: Any, path: Path) -> str:
    """Write a model's weights in their order, uncompressed float32 arrays in an ``.npz``; returns its SHA-256."""
    arrays: dict[str, Any] = {f"{i:02d}": np.asarray(w) for i, w in enumerate(model.get_weights())}
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_weights(spec: ModelSpec) -> Any:
    """Make the spec's architecture with the weights of its file.

    Raises SpecError where the file is missing, is not the one that the spec names by its SHA-256, or does not fit.
    """
    if spec.weights is None:
        raise SpecError(f"{spec.source}: source.weights is missing")
    path = spec.weights.path
    if not path.is_file():
        raise SpecError(
            f"{spec.source}: source.weights.file is {str(path)!r}, which does not exist; "
            f"`python -m engines train {spec.name}` makes it again"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != spec.weights.sha256:
        raise SpecError(
            f"{path}: its SHA-256 is {found}; source.weights.sha256 in {spec.source} is {spec.weights.sha256}"
        )
    model = build_network(spec)
    read_weights(model, path)
    return model


def read_weights(model: Any, path: Path) -> None:
    """Put the weights of a file that :func:`save_weights` wrote into a model; SpecError where the shapes differ.

    Raises DataError for what is no ``.npz`` of plain arrays, or unpacks to more than fits into memory.
    """
    stored: Mapping[str, NDArray[np.float32]] = load_npz(path, str(path), "weights of this architecture are smaller")
    found, expected = [w.shape for w in stored.values()], [tuple(w.shape) for w in model.get_weights()]
    if found != expected:
        raise SpecError(f"{path}: holds arrays of shapes {found}; the architecture has {expected}")
    model.set_weights(list(stored.values()))


def backend() -> str:
    """Keras, its version and its backend with the devices it uses."""
    import keras

    name = keras.backend.backend()
    return f"Keras {keras.__version__} on {name} ({', '.join(keras.distribution.list_devices()) or 'cpu'})"
