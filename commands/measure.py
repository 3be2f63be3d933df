"""Measure what a model's variants differ from the reference: ``python -m commands measure --help``.

What it prints is where the rows of the formats' tolerances.toml come from, and the rows that a model overrides.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commands.command import DONE, FAILED, Call, Command, add_own_model, chosen_chain
from conformance.compare import ANY, ANYTHING, FIGURES, Grid, Scale, compare
from conformance.measured import toml_rows
from conformance.tolerances import BATCHING
from engines.chain import SAMPLE_COUNT, Chain
from engines.errors import EngineError
from engines.formats.code import code_hash
from engines.formats.registry import unavailable
from engines.formats.savedmodel import packages as savedmodel_packages
from engines.model.samples import content_hash
from engines.model.written import written
from engines.outputs import taken
from engines.progress import live
from engines.store import Recipe
from engines.variant import REFERENCE, Variant
from trial import contrast, draws
from trial.judged import compared
from trial.outputs import Outputs
from trial.rows import table
from trial.scales import magnitude, output_kinds, output_scales

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.runner import Runner

DRAWN = 1000
BATCHES = (2, 7, 32, SAMPLE_COUNT)
"""The batch sizes that are compared with single samples."""


def stress_inputs(chain: Chain, examples: int) -> dict[str, NDArray[Any]]:
    """Put the contrast set and the samples of ``examples`` Hypothesis examples into one set of arrays."""
    patterns = contrast.contrast_set(chain.spec, chain.ranges)[1]
    drawn = draws.drawn_inputs(chain.spec, chain.ranges, examples)
    return {name: np.concatenate([array, drawn[name]]) for name, array in patterns.items()}


@dataclass(frozen=True)
class Set:
    """Inputs of one kind, the reference's outputs on them, and how many of them the tests compare at a time.

    ``groups`` are those whose averages the tests judge, where they judge a model's variant by averages alone.
    """

    kind: str
    inputs: Mapping[str, NDArray[Any]]
    reference: Mapping[str, NDArray[Any]]
    window: int
    labels: NDArray[np.int64] | None = None
    groups: tuple[slice, ...] = ()


@dataclass(frozen=True)
class Measured:
    """The worst of each figure by kind of input, by what batching moved an output, and accuracy and speed in words.

    ``without_row`` are the kinds of made-up input that the tests judge by the model's twin, or on average, and allow.
    """

    figures: Mapping[str, Mapping[str, float]]
    without_row: frozenset[str]
    moved: float
    note: str


def measured(chain: Chain, variant: Variant, sets: Sequence[Set]) -> Measured:
    """Run a variant on all inputs and compare it with the reference."""
    scales = output_scales(chain)
    figures, without_row, notes, beside = {}, set(), [], list[str]()
    with chain.runner(variant) as runner:
        for part in sets:
            with live(f"{variant}: {part.kind}"):
                start = time.perf_counter()
                actual = runner(part.inputs)
                seconds = time.perf_counter() - start
                figures[part.kind] = worst(runner, actual, part, scales)
                if part.groups and _sound_without_row(chain, runner, part, actual):
                    without_row.add(part.kind)
            output = chain.spec.probabilities
            if part.labels is not None and output:
                accuracy = np.mean(actual[output.name].argmax(axis=1) == part.labels)
                notes += [f"accuracy {accuracy:.4f}", f"{len(part.labels) / seconds:.0f} samples/s"]
            if part.kind == "samples":
                beside += _beside_the_twin(chain, runner, part, actual)
    with live(f"{variant}: {BATCHING}"):
        moved = moved_by_batching(chain, variant, scales)
    return Measured(figures, frozenset(without_row), moved, ", ".join([*(notes or ["no labels"]), *beside]))


def _beside_the_twin(chain: Chain, runner: Runner, part: Set, actual: Mapping[str, NDArray[Any]]) -> list[str]:
    """What was measured, beside what the model's twin tells that such engines differ by: a check of either."""
    rule, comparison = compared(chain, runner, part.kind, Outputs(part.inputs, actual, part.reference))
    if rule.noise is None:
        return []
    if comparison.passed:
        return [f"{comparison.usage:.2f} of what the model's twin allows"]
    failed = [f for o in comparison.outputs for f in o.figures if not f.passed]
    return [f"BEYOND the model's twin: {f.name} {f.needed:.1e}, {f.beside}" for f in failed]


def _sound_without_row(chain: Chain, runner: Runner, part: Set, actual: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the tests judge a variant on these inputs by no row of its own, and allow what it answers."""
    whole = Outputs(part.inputs, actual, part.reference)
    for group in part.groups:
        rule, comparison = compared(chain, runner, part.kind, whole.part(group))
        by_row = chain.spec.bundled or (rule.noise is None and rule.tolerance.max < ANY)
        if by_row or not comparison.passed:
            return False
    return True


def worst(
    runner: Runner, actual: Mapping[str, NDArray[Any]], part: Set, scales: Mapping[str, Scale]
) -> dict[str, float]:
    """The worst of every figure over windows of the set's samples, each a quarter further on; see ``compare``."""
    result: list[dict[str, float]] = []
    grids = {name: Grid(*found) for name, found in runner.grids.items()}
    last = max(_count(runner.spec, part.reference) - part.window, 0)
    for start in sorted({*range(0, last, max(part.window // 4, 1)), last}):
        few = slice(start, start + part.window)
        comparison = compare(
            taken(runner.spec, actual, few),
            taken(runner.spec, part.reference, few),
            ANYTHING,
            output_kinds(runner.spec),
            scales=scales,
            grids=grids,
        )
        if comparison.problems:
            raise EngineError("; ".join(comparison.problems))
        result += [{f.name: f.needed for f in output.figures} for output in comparison.outputs]
    return worst_of(result)


def _count(spec: ModelSpec, outputs: Mapping[str, NDArray[Any]]) -> int:
    """How many samples outputs are of; one without a batch axis tells nothing of it."""
    return max((len(array) for name, array in outputs.items() if name not in spec.constants), default=1)


def worst_of(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The largest of each figure, where any has it."""
    return {n: max(figures.get(n, 0.0) for figures in several) for n in FIGURES if any(n in f for f in several)}


def reference_sets(
    chain: Chain, samples: Mapping[str, NDArray[Any]], drawn: int, command: str
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The SavedModel's outputs on the samples, the stress inputs, and its outputs on those.

    They are stored with the model's artifacts, for environments without TensorFlow: those cannot compute the outputs.
    Nor would another version of Hypothesis surely draw the same inputs. ``command`` stores them there.
    """

    def build(folder: Path) -> None:
        stress = stress_inputs(chain, drawn)
        with chain.runner(REFERENCE) as runner:
            # One by one, so that the reference's own variant shows what batching does.
            runner.batch_size = 1
            parts = {"samples": runner(samples), "inputs": stress, "stress": runner(stress)}
        arrays: dict[str, Any] = {f"{part}/{name}": a for part, named in parts.items() for name, a in named.items()}
        np.savez_compressed(folder / "sets.npz", **arrays)

    made_from = {"savedmodel": chain.artifact(REFERENCE).sha256, "samples": content_hash(samples)}
    made_from["ranges"] = content_hash({name: np.stack(ends) for name, ends in chain.ranges.items()})
    made_from |= {module.__name__: code_hash(Path(str(module.__file__))) for module in (contrast, draws)}
    reason = savedmodel_packages.unavailable()
    artifact = chain.store.get(
        chain.spec.name,
        f"measure-{drawn}",
        Recipe(made_from, {"drawn": drawn}, {"tensorflow": savedmodel_packages.version()}),
        None if reason else build,
        hint=f"run `{command}` where TensorFlow is installed",
    )
    with np.load(artifact.file("sets.npz")) as archive:
        found = dict(archive)

    def part(which: str) -> dict[str, NDArray[Any]]:
        return {key.split("/", 1)[1]: array for key, array in found.items() if key.split("/", 1)[0] == which}

    return part("samples"), part("inputs"), part("stress")


def moved_by_batching(chain: Chain, variant: Variant, scales: Mapping[str, Scale]) -> float:
    """Largest difference between a test sample in a batch and the same sample alone, as the tests take it."""
    inputs = chain.samples.inputs
    with chain.runner(variant, None if variant.profile else max(BATCHES)) as runner:
        alone = runner.in_batches(inputs, 1)
        batched = [runner.in_batches(inputs, size) for size in BATCHES]
    return max(
        float(np.abs(found[name].astype(np.float64) - expected).max()) / magnitude(scales, name)
        for found in batched
        for name, expected in alone.items()
    )


def _options(parser: argparse.ArgumentParser) -> None:
    add_own_model(parser)
    parser.add_argument("--count", type=int, metavar="N", help="how many test samples (default: all there are)")
    parser.add_argument(
        "--drawn", type=int, default=DRAWN, metavar="N", help="Hypothesis examples (default: %(default)s)"
    )


def _work(options: argparse.Namespace, call: Call) -> int:
    try:
        _measure(options, call)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    return DONE


def _measure(options: argparse.Namespace, call: Call) -> None:
    chain = chosen_chain(options, call)
    samples = chain.dataset.test(options.count)
    expected, stress, expected_of_stress = reference_sets(chain, samples.inputs, options.drawn, call.line)
    patterns = len(contrast.contrast_set(chain.spec, chain.ranges)[0])
    sets = (
        Set("samples", samples.inputs, expected, SAMPLE_COUNT, samples.labels),
        Set("stress", stress, expected_of_stress, 1, groups=(slice(patterns), slice(patterns, None))),
    )
    made_up = len(next(iter(stress.values())))
    print(f"# {chain.spec.name} on {chain.dataset.source}: {len(samples)} samples, {SAMPLE_COUNT} in a row;")
    print(f"# {made_up} contrast and drawn inputs, each by itself. Figures are [allowed, seen].\n")
    if options.saved_model:
        print(written(chain.spec))
    chosen = [v for v in chain.variants if options.format in {None, v.format}]
    failed, kinds = [], set(output_kinds(chain.spec).values())
    for name in dict.fromkeys(v.row_name for v in chosen):
        found = []
        for variant in (v for v in chosen if v.row_name == name):
            if reason := unavailable(variant):
                print(f"# {variant}: not measured: {reason}")
                continue
            try:
                found.append(measured(chain, variant, sets))
            except EngineError as error:
                failed.append(f"{variant}: {error}")
                print(f"# {variant}: not measured: it failed")
            else:
                print(f"# {variant}: {found[-1].note}", flush=True)
        if found:
            # Batch profiles share the rows of their precision.
            seen = {s.kind: worst_of([f.figures[s.kind] for f in found]) for s in sets}
            for kind in frozenset.intersection(*(f.without_row for f in found)):
                print(f"# {name}: {kind} inputs are judged without a row of their own, and are within what is allowed")
                del seen[kind]
            print(f"{toml_rows(table(), name, seen, max(f.moved for f in found), kinds)}\n", flush=True)
    if failed:
        raise EngineError("\n".join(failed))


COMMAND = Command(
    "measure",
    "measure what a model's variants differ by",
    "Measure how far every variant of a model differs from the reference, and print what its own tolerances may be, "
    "as TOML.",
    _options,
    _work,
)
