"""What a TFLite file made elsewhere is: whether it is the model's, and the precision that it is judged as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engines.formats.tflite.layers import layers
from engines.formats.tflite.runner import TFLiteRunner
from engines.precision import precision_of
from engines.runner import probe
from engines.variant import Variant

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


def inspect(path: Path, spec: ModelSpec) -> str:
    """Check a TFLite file that was made elsewhere; gives the precision that it is judged as: int8, fp16 or fp32.

    Raises RunnerError where LiteRT cannot load it or its signature is not the spec's.
    """
    with TFLiteRunner(spec, Variant("tflite", "fp32"), path) as runner:
        probe(runner)
    return precision_of(layers(path))


def run(path: Path, spec: ModelSpec, precision: str, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Run a file on samples by LiteRT's default delegate and by its built-in kernels; raises RunnerError as they do."""
    for built_in in (False, True):
        with TFLiteRunner(spec, Variant("tflite", precision), path, built_in=built_in) as runner:
            runner(inputs)
