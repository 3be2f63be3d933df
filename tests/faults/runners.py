"""Faults of a program that runs an engine: what it feeds, how it cuts batches, and what it hands back.

As a plugin (``-p tests.faults.runners``) it plants the one that ``PLANTED`` names into the runners of ONNX, TFLite
and TensorRT, in the process of the command. The reference is asked in another way, and is none of its concern.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]
    Run = Callable[[Any, Arrays], Arrays]


def feeding(change: Callable[[Any], Any]) -> Callable[[Run], Run]:
    """Fault of a program that feeds its inputs changed."""

    def planted(run: Run) -> Run:
        def changed(self: Any, inputs: Arrays) -> Arrays:
            fed = {n: np.ascontiguousarray(change(a.copy()).astype(a.dtype)) for n, a in inputs.items()}
            return run(self, fed)

        return changed

    return planted


def answering(change: Callable[[Any], Any]) -> Callable[[Run], Run]:
    """Fault of a program that hands back its outputs changed."""

    def planted(run: Run) -> Run:
        return lambda self, inputs: {n: change(a.copy()) for n, a in run(self, inputs).items()}

    return planted


def _times(factor: float, constant: float = 0.0) -> Callable[[Any], Any]:
    return lambda a: a * factor + constant


def _nchw(a: Any) -> Any:
    return a.transpose(0, 3, 1, 2).reshape(a.shape)


def _shifted_values(a: Any) -> Any:
    return np.roll(a.reshape(len(a), -1), 1, axis=1).reshape(a.shape)


def _late(a: Any) -> Any:
    return np.concatenate([a[:1], a[:-1]])


def _last_lost(a: Any) -> Any:
    """The last row of a full batch as memory that was never written."""
    if len(a) >= 32:
        a[-1] = 0
    return a


def _not_a_number(a: Any) -> Any:
    if len(a) >= 32:
        a[-1] = np.nan
    return a


def _first_again(a: Any) -> Any:
    if len(a) > 1:
        a[-1] = a[0]
    return a


def _above_100(a: Any) -> Any:
    """Rows beyond the hundredth are those of the first."""
    if len(a) > 100:
        a[100:] = a[: len(a) - 100][: len(a[100:])]
    return a


def _float16(a: Any) -> Any:
    return a.astype(np.float16).astype(a.dtype)


def _hundredths(a: Any) -> Any:
    return np.round(a, 2)


def previous(run: Run) -> Run:
    """The answers of the batch before, where it had the same size."""
    kept: dict[Any, Arrays] = {}

    def changed(self: Any, inputs: Arrays) -> Arrays:
        now = run(self, inputs)
        key = (id(self), len(next(iter(inputs.values()))))
        before = kept.get(key, now)
        kept[key] = {n: a.copy() for n, a in now.items()}
        return before

    return changed


def remembered(run: Run) -> Run:
    """The answers that were given once to inputs of the same first value."""
    kept: dict[Any, Arrays] = {}

    def changed(self: Any, inputs: Arrays) -> Arrays:
        first = next(iter(inputs.values()))
        key = (id(self), first.shape, first.reshape(-1)[0].item())
        return {n: a.copy() for n, a in kept.setdefault(key, run(self, inputs)).items()}

    return changed


def one_buffer(run: Run) -> Run:
    """All batches in the same memory, so that the last one is what is read."""
    kept: dict[Any, Arrays] = {}

    def changed(self: Any, inputs: Arrays) -> Arrays:
        now = run(self, inputs)
        key = (id(self), len(next(iter(inputs.values()))))
        held = kept.setdefault(key, {n: a.copy() for n, a in now.items()})
        for name, array in now.items():
            held[name][...] = array
        return held

    return changed


def written_into(run: Run) -> Run:
    """Inputs set to zero when they were read, in the caller's own memory."""

    def changed(self: Any, inputs: Arrays) -> Arrays:
        result = run(self, inputs)
        for array in inputs.values():
            array[...] = 0
        return result

    return changed


def drawn(run: Run) -> Run:
    """Noise of a thousandth in each call."""
    generator = np.random.default_rng()

    def changed(self: Any, inputs: Arrays) -> Arrays:
        return {
            n: (a + 1e-3 * generator.standard_normal(a.shape)).astype(a.dtype) for n, a in run(self, inputs).items()
        }

    return changed


def by_the_batch(run: Run) -> Run:
    """Inputs scaled by the largest of their batch."""

    def changed(self: Any, inputs: Arrays) -> Arrays:
        fed = {n: (a / max(float(np.abs(a).max()), 1e-6)).astype(a.dtype) for n, a in inputs.items()}
        return run(self, fed)

    return changed


RUNNERS: dict[str, tuple[Callable[[Run], Run], tuple[str, ...]]] = {
    "inputs fed 255 times as large": (feeding(_times(255)), ("255 times", "255] instead", "[0, 255]")),
    "inputs fed from -1 to 1": (feeding(_times(2, -1)), ("[-1, 1]",)),
    "channels fed first": (feeding(_nchw), ("NCHW",)),
    "images fed mirrored": (feeding(lambda a: a[:, :, ::-1]), ("mirrored",)),
    "values fed one place on": (feeding(_shifted_values), ("one place",)),
    "samples fed one place late": (feeding(_late), ("shifted", "order", "sample k")),
    "the mean not taken off": (feeding(_times(1, 0.5)), ("mean", "too large", "shifted by")),
    "the deviation not divided by": (
        feeding(_times(3)),
        ("times as large", "times as small", "deviation", "times what it should be"),
    ),
    "rows of a batch reversed": (answering(lambda a: a[::-1].copy()), ("order", "one by one")),
    "the last answer of a full batch never written": (answering(_last_lost), ("batch", "never written")),
    "the last answer of a full batch NaN": (answering(_not_a_number), ("NaN", "does not write all")),
    "the first answer given again for the last": (answering(_first_again), ("batch", "one by one")),
    "wrong only in batches above 100": (answering(_above_100), ("batch", "on the whole call")),
    "answers rounded to FP16": (answering(_float16), ("lower precision", "converted wrongly")),
    "answers rounded to hundredths": (answering(_hundredths), ("lower precision", "rounded")),
    "the previous batch's answers": (previous, ("run to run", "once more", "order", "shifted", "calls before")),
    "answers remembered by the first value": (remembered, ("order", "sample", "batch")),
    "one buffer for all batches": (one_buffer, ("batch", "run to run", "order")),
    "inputs written into": (written_into, ("batch", "whole call")),
    "noise in each call": (drawn, ("run to run", "each time")),
    "inputs scaled by their batch": (by_the_batch, ("batch",)),
    "classes counted from one": (answering(lambda a: np.roll(a, 1, axis=-1)), ("classes are permuted",)),
}
"""Each fault of a program, and words of which a right cause holds one."""

BATCHES = "the remainder dropped"
"""A fault of how samples are cut into batches, not of how one is run."""


def pytest_configure() -> None:
    """Plant the fault that is named."""
    from engines.formats.onnx.runner import OnnxRunner
    from engines.formats.tensorrt.runner import TensorRTRunner
    from engines.formats.tflite.runner import TFLiteRunner

    name = os.environ["PLANTED"]
    for kind in (OnnxRunner, TFLiteRunner):
        if name == BATCHES:
            batches = kind._batches
            kind._batches = lambda self, inputs, count, cut=batches: cut(self, inputs, max(1, count // 32) * 32)
        else:
            kind._run = RUNNERS[name][0](kind._run)
    if name != BATCHES:
        # Cuts its batches itself, on the GPU: what is planted is in its whole call.
        TensorRTRunner.__call__ = RUNNERS[name][0](TensorRTRunner.__call__)
