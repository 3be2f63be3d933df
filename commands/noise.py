"""Tell what sound conversions of a model differ by, from the model itself: ``python -m commands noise --help``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from commands.command import DONE, FAILED, Call, Command, add_own_model, chosen_chain
from commands.command import told as or_told
from engines.errors import EngineError
from engines.formats.registry import unavailable
from engines.progress import live
from engines.variant import REFERENCE
from trial.judged import compared
from trial.outputs import Outputs
from trial.own_noise import own_noise
from trial.twin import TwinError

if TYPE_CHECKING:
    from conformance.compare import Comparison, Figure

COUNT = 100
"""Samples that are compared where no other number is asked for."""


def _options(parser: argparse.ArgumentParser) -> None:
    add_own_model(parser)
    parser.add_argument(
        "--count", type=int, default=COUNT, metavar="N", help="how many samples, at most (default: %(default)s)"
    )


def _noise(options: argparse.Namespace, call: Call) -> int:
    if options.count < 1:
        call.parser.error(f"--count={options.count}; allowed: 1 or more")
    return DONE if _judged(options, call) else FAILED


def _judged(options: argparse.Namespace, call: Call) -> bool:
    """Print every variant's figures beside the model's own noise; returns whether all that were judged are within."""
    chain = chosen_chain(options, call)
    samples = chain.dataset.test(min(options.count, chain.dataset.test_count))
    # The tests' own samples have stored answers.
    name = "samples" if len(samples) == len(chain.samples) else f"noise-{len(samples)}"
    reference = chain.reference(name, samples.inputs)
    print(f"{chain.spec.name} on {len(samples)} samples of {chain.dataset.source}")
    sound, judged = True, 0
    for variant in (v for v in chain.variants if v != REFERENCE and options.format in {None, v.format}):
        if reason := unavailable(variant):
            print(f"{variant}: not run: {reason}")
            continue
        try:
            with live(f"{variant}: runs of the twin"):
                noise = own_noise(chain, variant, "samples")
        except TwinError as error:
            print(f"{variant}: not judged: {error}")
            continue
        with live(f"{variant}: run"), chain.runner(variant) as runner:
            given = Outputs(samples.inputs, runner(samples.inputs), reference)
            _, comparison = compared(chain, runner, "samples", given)
        judged += 1
        sound = sound and comparison.passed
        within = "within" if comparison.passed else "beyond"
        print(f"{variant}: {within} its noise ({noise.precision}, {len(noise.runs)} runs on {noise.samples} samples)")
        for line in told(comparison):
            print(f"  {line}")
    if not judged:
        raise EngineError(f"{chain.spec.name}: no variant was judged; the lines above say why")
    return sound


def told(comparison: Comparison) -> list[str]:
    """Lines on what is wrong, and on the figure of each output that comes closest to what is allowed."""
    lines = list(comparison.problems)
    for output in comparison.outputs:
        worst = max((f for f in output.figures if f.judged), key=_share)
        lines.append(f"{output.output}: needs {_share(worst):.2f} of what is allowed, most of {worst.name}")
        wrong = sorted((f for f in output.figures if not f.passed), key=_share, reverse=True)
        lines += [f"{output.output}: {f.name} {f.needed:.1e}, {f.beside or f'{f.allowed:.1e} allowed'}" for f in wrong]
    return lines


def _share(figure: Figure) -> float:
    """How much of what is allowed a figure needs; infinite where nothing is allowed and something needed."""
    if figure.allowed:
        return figure.needed / figure.allowed
    return float("inf") if figure.needed else 0.0


COMMAND = Command(
    "noise",
    "tell a model's own noise, and which variants go beyond it",
    "Run the model's own FP32 graph several times with its roundings replaced by random ones of each precision, and "
    "compare every variant with what these runs differ by (docs/verdict.md), as the tests do. Exit code 1 where a "
    "variant is beyond it.",
    _options,
    or_told(_noise),
)
