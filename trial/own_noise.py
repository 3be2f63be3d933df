"""What a precision does to a model under test, told by its twin, and what a variant needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conformance.compare import Figure, Grid, compare
from conformance.noise import Noise, noise_of, runs_needed
from engines.formats.onnx.runner import OnnxRunner
from trial.rounding import FP32
from trial.rules import output_kinds, output_scales, output_thresholds
from trial.twin import Twin, TwinError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.runner import Runner
    from engines.variant import Variant

    Arrays = Mapping[str, NDArray[Any]]

TWINS: Mapping[tuple[str, str], str] = {
    ("onnx", "fp32"): "fp32",
    ("onnx", "fp16"): "fp16-weights",
    ("onnx", "int8"): "int8-symmetric",
    ("tflite", "fp32"): "fp32",
    ("tflite", "fp16"): "fp16-weights",
    ("tflite", "int8"): "int8-asymmetric",
    ("tensorrt", "fp32"): "fp32",
    ("tensorrt", "fp16"): "fp16",
}
"""The twin's precision by a variant's format and precision: those whose arithmetic is known (docs/noise.md)."""

JUDGED = ("probabilities", "scores", "logits", "values")
"""The kinds of outputs whose noise has a rule."""

SEED = 0
"""All runs of all twins start here: the same model and samples have the same limits again."""


class OwnNoise:
    """Limits of a model's variants on some inputs, made once a precision, from runs of its twin.

    ``inputs`` and ``reference`` are arrays (N, …) by name. ``outputs`` are those that have a rule: of floating point,
    a row for each sample.
    """

    def __init__(self, chain: Chain, inputs: Arrays, reference: Arrays) -> None:
        self.chain, self.inputs = chain, inputs
        self.kinds = {name: kind for name, kind in output_kinds(chain.spec).items() if kind in JUDGED}
        self.reference = {name: reference[name] for name in self.kinds}
        self.scales, self.thresholds = output_scales(chain), output_thresholds(chain.spec)
        self._found: dict[str, Noise] = {}

    def of(self, variant: Variant) -> Noise:
        """Noise of a variant's precision.

        Raises TwinError where the format's arithmetic is not known, no output has a rule, or the model has no twin.
        """
        precision = TWINS.get((variant.format, variant.precision))
        if precision is None:
            raise TwinError(f"{variant}: its arithmetic is not known to the twin (docs/noise.md)")
        if not self.kinds:
            raise TwinError(f"{self.chain.spec.name}: no output holds {', '.join(JUDGED)}")
        if precision not in self._found:
            self._found[precision] = self._made(precision)
        return self._found[precision]

    def _made(self, precision: str) -> Noise:
        import onnx

        # The twin is the model's own: a file that was brought is what is judged, and no yardstick.
        own = replace(self.chain, brought={})
        path = own.file(FP32)
        runner = OnnxRunner(own.spec, FP32, path)
        with runner:
            calibration, inputs = (runner.feeds(a) for a in (own.calibration.inputs, self.inputs))
            graph_names = runner.output_names
        twin = Twin.of(onnx.load(str(path)), precision, calibration)
        runs = [
            {name: run[graph_names[name]] for name in self.kinds} for run in twin.runs(inputs, runs_needed() + 1, SEED)
        ]
        try:
            return noise_of(self.reference, runs, self.kinds, precision, scales=self.scales, thresholds=self.thresholds)
        except ValueError as error:
            raise TwinError(f"{self.chain.spec.name} in {precision}: {error}") from error

    def needed(self, runner: Runner, actual: Arrays) -> tuple[dict[str, tuple[Figure, ...]], list[str]]:
        """Figures by output of a variant's answers on the inputs, each with what is allowed; and problems in words.

        A problem is what no figure tells: a missing output, another shape, an answer that is not finite.
        """
        noise = self.of(runner.variant)
        figures: dict[str, tuple[Figure, ...]] = {}
        problems: list[str] = []
        grids = {name: Grid(*found) for name, found in runner.grids.items()}
        for name, kind in self.kinds.items():
            comparison = compare(
                {name: actual[name]} if name in actual else {},
                {name: self.reference[name]},
                noise.tolerance(name),
                {name: kind},
                scales=self.scales,
                grids=grids,
                thresholds=self.thresholds,
            )
            problems += comparison.problems
            if not comparison.problems:
                limited = noise.limits[name]
                plain = [f for o in comparison.outputs for f in o.figures if f.name in limited and f.name != "margin"]
                figures[name] = (*plain, *noise.paired(name, actual[name]))
        return figures, problems


def beyond(noise: Noise, figures: Mapping[str, tuple[Figure, ...]]) -> list[str]:
    """Clauses on the figures that are beyond what is allowed, the worst of each output first."""
    found = []
    for output, several in figures.items():
        failed = [f for f in several if not f.passed]
        for figure in sorted(failed, key=share, reverse=True):
            found.append(f"{output}: {noise.limits[output][figure.name].describe(figure.needed)}")
    return found


def share(figure: Figure) -> float:
    """How much of what is allowed a figure needs; infinite where nothing is allowed and something needed."""
    if figure.allowed:
        return figure.needed / figure.allowed
    return float("inf") if figure.needed else 0.0
