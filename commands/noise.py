"""Tell what sound conversions of a model differ by, from the model itself: ``python -m commands noise --help``."""

from __future__ import annotations

import argparse

from commands.command import DONE, FAILED, Call, Command, add_own_model, chosen_chain, told
from engines.errors import EngineError
from engines.formats.registry import unavailable
from engines.progress import live
from engines.variant import REFERENCE
from trial.own_noise import OwnNoise, beyond, share
from trial.twin import TwinError

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
    own = OwnNoise(chain, samples.inputs, chain.reference(name, samples.inputs))
    print(f"{chain.spec.name} on {len(samples)} samples of {chain.dataset.source}")
    sound, judged = True, 0
    for variant in (v for v in chain.variants if v != REFERENCE and options.format in {None, v.format}):
        if reason := unavailable(variant):
            print(f"{variant}: not run: {reason}")
            continue
        try:
            with live(f"{variant}: runs of the twin"):
                noise = own.of(variant)
        except TwinError as error:
            print(f"{variant}: not judged: {error}")
            continue
        with live(f"{variant}: run"), chain.runner(variant) as runner:
            figures, problems = own.needed(runner, runner(samples.inputs))
        judged += 1
        wrong = [*problems, *beyond(noise, figures)]
        sound = sound and not wrong
        print(f"{variant}: {'beyond its noise' if wrong else 'within its noise'} ({noise.precision})")
        for output, several in figures.items():
            worst = max(several, key=share)
            print(f"  {output}: needs {share(worst):.2f} of what is allowed, most of {worst.name}")
        for line in wrong:
            print(f"  {line}")
    if not judged:
        raise EngineError(f"{chain.spec.name}: no variant was judged; the lines above say why")
    return sound


COMMAND = Command(
    "noise",
    "tell a model's own noise, and which variants go beyond it",
    "Run the model's own FP32 graph several times with its roundings replaced by random ones of each precision, and "
    "compare every variant with what these runs differ by (docs/noise.md). It is a second opinion: the tests judge by "
    "the rows of their tables. Exit code 1 where a variant is beyond it.",
    _options,
    told(_noise),
)
