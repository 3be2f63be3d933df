"""What a precision does to a model under test, told by its twin: made once a precision, and kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.bounds import CONFIDENCE
from conformance.noise import Noise, noise_of
from engines.errors import EngineError, StoreUnusableError
from engines.formats import registry
from engines.formats.code import code
from engines.formats.onnx import left_in_fp32, packages
from engines.model.samples import content_hash
from engines.outputs import taken
from engines.store import Artifact, Recipe
from engines.tools import installed_version
from engines.variant import Variant
from trial.bearable import bearable
from trial.contrast import contrast_set
from trial.scales import output_kinds, output_scales, output_thresholds
from trial.textures import drawn
from trial.twin import PRECISIONS, Twin, TwinError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from trial.outputs import Outputs

    Arrays = Mapping[str, NDArray[Any]]

FP32 = Variant("onnx", "fp32")

JUDGED: Mapping[str, Collection[str]] = {
    "samples": ("probabilities", "scores", "logits", "values", "integers"),
    "stress": ("probabilities", "scores", "logits", "values"),
}
"""The kinds of outputs whose noise has a rule, by the kind of input: any made-up input may have other integers."""

RUNS = 8
"""Runs of a twin: each is judged by the others where figures are ratios to a spread, and those are to be enough.

So it is :func:`conformance.bounds.runs_needed` and one more; working that out takes as long as importing all of this.
"""

DOUBTED_RUNS = 64
"""The runs of a twin at few inputs that would fail a variant by themselves: those that decide are to be many."""

MADE_UP, LEAST_DRAWN = 32, 8
"""Made-up inputs that a twin is run on: the contrast set, and textures up to so many; and the fewest of those."""

SEED = 0
"""All runs of all twins start here: the same model and samples have the same limits again."""

ANSWERS, REFUSED = "runs.npz", "refused.txt"
"""The files of a twin's artifact: the answers of its runs and the reference, or why there are none."""

MOST_BYTES = 1 << 26
"""Runs at the inputs where an engine is furthest off are kept up to so much: they differ from engine to engine."""

CODE = tuple(sorted(Path(__file__).with_name("twin").glob("*.py")))
"""The code that makes a twin and runs it."""


def own_noise(chain: Chain, variant: Variant, kind: str) -> Noise:
    """Noise of a variant's precision on inputs of a kind, ``samples`` or ``stress``.

    Raises TwinError, which says why in one line, where the variant's arithmetic is not known, no output has a rule, or
    the model has no twin here.
    """
    precision = _arithmetic(chain, variant)
    if precision not in PRECISIONS:
        what = "this file" if chain.brought_file(variant) else "it"
        raise TwinError(f"{variant}: how {what} computes has no twin; those are {', '.join(PRECISIONS)}")
    return noise_in(chain, precision, kind)


def precisions(chain: Chain) -> tuple[str, ...]:
    """The twin's precisions that tell what the chain's variants may differ by, those that cannot run here among them.

    An environment with the reference makes these twins; one that has the device, and no TensorFlow, reads them.
    """
    found = dict.fromkeys(_arithmetic(chain, variant) for variant in chain.variants if variant != chain.spec.reference)
    return tuple(precision for precision in found if precision in PRECISIONS)


def _arithmetic(chain: Chain, variant: Variant) -> str:
    """How a variant computes, by the twin's name of it; empty where nobody knows."""
    return registry.find(variant.format).arithmetic(variant, chain.spec, chain.brought_file(variant)) or ""


def noise_in(chain: Chain, precision: str, kind: str) -> Noise:
    """Noise of a precision of the twin's on inputs of a kind; raises TwinError as :func:`own_noise` does."""
    key = (precision, kind, chain.spec.outputs, id(chain.dataset))
    if key not in chain.known:
        try:
            chain.known[key] = _found(chain, precision, kind)
        except TwinError as error:
            chain.known[key] = error
    found = chain.known[key]
    if isinstance(found, TwinError):
        raise found
    assert isinstance(found, Noise)
    return found


def _found(chain: Chain, precision: str, kind: str) -> Noise:
    kinds = {name: found for name, found in output_kinds(chain.spec).items() if found in JUDGED[kind]}
    if not kinds:
        raise TwinError(f"{chain.spec.name}: no output holds {', '.join(JUDGED[kind])}")
    try:
        stored = _arrays(_artifact(chain, precision, kind))
    except (StoreUnusableError, TwinError):
        raise
    except EngineError as error:
        raise TwinError(f"{chain.spec.name}: no twin: {str(error).splitlines()[0]}") from error
    reference = {name: stored[f"reference/{name}"] for name in kinds}
    noise = _noise(chain, precision, kinds, reference, stored, single=kind == "stress")
    if noise.single and noise.spared.all():
        raise TwinError(
            f"{chain.spec.name} in {precision}: the twin is unstable, it moves every made-up input's answer"
        )
    return noise


def _noise(
    chain: Chain,
    precision: str,
    kinds: Mapping[str, str],
    reference: Arrays,
    runs: Arrays,
    *,
    single: bool,
    count: int = RUNS,
    confidence: float = CONFIDENCE,
) -> Noise:
    """Noise of runs by ``run/output``; raises TwinError where they tell nothing."""
    each = [{name: runs[f"{run}/{name}"] for name in kinds} for run in range(count)]
    options: dict[str, Any] = {"scales": output_scales(chain), "thresholds": output_thresholds(chain.spec)}
    try:
        return noise_of(reference, each, kinds, precision, single=single, confidence=confidence, **options)
    except ValueError as error:
        raise TwinError(f"{chain.spec.name} in {precision}: {error}") from error


def noise_at(
    chain: Chain, noise: Noise, given: Outputs, place: str = "", runs: int = RUNS, confidence: float = CONFIDENCE
) -> Noise:
    """Noise of the same precision at some inputs (few): those where an engine is furthest off, or was drawn anew.

    ``place`` names where in a run they are asked for: an engine that has not changed is furthest off at the same ones
    there again, so the runs are kept until others are asked for. Without it they are not. ``confidence`` is that of the
    limits of made-up inputs. Raises TwinError where the twin cannot be run on them.
    """
    own = replace(chain, brought={})
    reference = {name: given.reference[name] for name in noise.kinds}

    def run() -> dict[str, NDArray[Any]]:
        twin, feeds, called = twin_of(own, noise.precision, given.inputs, {})
        return _runs(twin, feeds, {name: called[name] for name in noise.kinds}, SEED + 1, runs)

    if not place or runs * sum(array.nbytes for array in reference.values()) > MOST_BYTES:
        found = run()
    else:
        recipe = own.here(_recipe(own, noise.precision, given.inputs, SEED + 1, list(noise.kinds), runs))
        name = f"twin-{noise.precision}-at-{place}"
        kept = own.store.state(own.spec.name, name, recipe)
        found = _arrays(kept) if isinstance(kept, Artifact) else run()
        if not isinstance(kept, Artifact):
            # A folder that cannot be written takes nothing from the verdict.
            with suppress(StoreUnusableError):
                own.store.put(own.spec.name, name, recipe, partial(_write, found))
    return _noise(
        chain,
        noise.precision,
        noise.kinds,
        reference,
        found,
        single=noise.single,
        count=runs,
        confidence=confidence,
    )


def own_inputs(chain: Chain, kind: str) -> tuple[Arrays, Callable[[], Arrays]]:
    """Inputs of a kind that a twin is run on, the first of them where they are many; and the reference's answers."""
    if kind == "samples":
        inputs = chain.samples.inputs
        return inputs, lambda: chain.reference("samples", inputs)
    names, contrast = contrast_set(chain.spec, chain.ranges)
    textures = drawn(chain.spec, chain.ranges)
    few = max(LEAST_DRAWN, MADE_UP - len(names))
    several = [*names, *(f"draw {n}" for n in range(few))]
    inputs = {n: np.concatenate([a, textures[n][:few]]) for n, a in contrast.items()}
    found = bearable(chain, "stress", several, inputs)
    return found.inputs, lambda: found.reference


def _artifact(chain: Chain, precision: str, kind: str) -> Artifact:
    """The stored answers of a twin's runs on inputs of a kind, with the reference's."""
    # The twin is the model's own: a file that was brought is what is judged, and no yardstick.
    own = replace(chain, brought={})
    inputs, answers = own_inputs(own, kind)
    names = [name for name, found in output_kinds(own.spec).items() if found in JUDGED[kind]]

    def build(folder: Path) -> Mapping[str, Any]:
        reference = answers()
        try:
            twin, feeds, called = twin_of(own, precision, inputs, reference)
            count = min(twin.samples, len(next(iter(inputs.values()))))
            few = {name: array[:count] for name, array in feeds.items()}
            runs = _runs(twin, few, {name: called[name] for name in names}, SEED)
        except TwinError as error:
            (folder / REFUSED).write_text(str(error), encoding="utf-8")
            return {}
        told = taken(own.spec, reference, slice(count))
        _write(runs | {f"reference/{name}": told[name] for name in names}, folder)
        return {"samples": count, "declared": list(twin.declared)}

    recipe = _recipe(own, precision, inputs, SEED, names)
    recipe = replace(recipe, inputs={**recipe.inputs, "reference": own.artifact(own.spec.reference).sha256})
    here = packages.unavailable() or registry.reference(own.spec).unavailable()
    # Of another data set there is another: none takes the other's place.
    return own.keep(f"twin-{precision}-{kind}-{recipe.inputs['inputs'][:8]}", recipe, build, here)


def _recipe(
    chain: Chain, precision: str, inputs: Arrays, seed: int, outputs: Sequence[str], runs: int = RUNS
) -> Recipe:
    """What the answers of a twin's runs on some inputs hang on."""
    made_from = {"onnx": chain.artifact(FP32).sha256, "inputs": content_hash(inputs)}
    for path in CODE:
        made_from |= code(f"twin {path.stem}", path)
    if PRECISIONS[precision].bits:
        made_from |= {"calibration": content_hash(chain.calibration.inputs)}
    if not PRECISIONS[precision].first:
        made_from |= code("engines.onnx.left_in_fp32", Path(str(left_in_fp32.__file__)))
    parameters = {"precision": precision, "runs": runs, "seed": seed, "outputs": list(outputs)}
    return Recipe(made_from, parameters, {name: installed_version(name) for name in ("onnxruntime", "numpy")})


def _write(arrays: Mapping[str, NDArray[Any]], folder: Path) -> Mapping[str, Any]:
    """Write answers of a twin's runs into an artifact's folder; nothing more is told of them."""
    np.savez(folder / ANSWERS, **dict[str, Any](arrays))
    return {}


def _arrays(artifact: Artifact) -> dict[str, NDArray[Any]]:
    """What is stored of a twin's runs; raises TwinError where that is why there are none."""
    if REFUSED in artifact.record["files"]:
        raise TwinError(artifact.file(REFUSED).read_text(encoding="utf-8"))
    with np.load(artifact.file(ANSWERS)) as archive:
        return dict(archive)


def _runs(
    twin: Twin, feeds: Arrays, called: Mapping[str, str], seed: int, count: int = RUNS
) -> dict[str, NDArray[Any]]:
    """Answers of a twin's runs by ``run/output``; ``called`` has the graph's names of the outputs."""
    runs = enumerate(twin.runs(feeds, count, seed))
    return {f"{number}/{name}": run[inside] for number, run in runs for name, inside in called.items()}


def twin_of(
    chain: Chain, precision: str, inputs: Arrays, answers: Arrays
) -> tuple[Twin, dict[str, NDArray[Any]], Mapping[str, str]]:
    """Twin of a chain's own FP32 graph, inputs as it takes them, and its names of the outputs; made once in a process.

    Raises TwinError where the model has none.
    """
    if reason := packages.unavailable():
        raise TwinError(f"{chain.spec.name}: no twin is run: {reason}")
    import onnx

    from engines.formats.onnx.runner import OnnxRunner

    path = chain.file(FP32)
    runner = OnnxRunner(chain.spec, FP32, path)
    with runner:
        feeds, called = runner.feeds(inputs), runner.output_names
        key = ("twin", precision, chain.artifact(FP32).sha256, id(chain.dataset))
        if key not in chain.known:
            calibration = runner.feeds(chain.calibration.inputs) if PRECISIONS[precision].bits else None
            chain.known[key] = Twin.of(onnx.load(str(path)), precision, calibration, answers)
    twin: Twin = chain.known[key]
    return twin, feeds, called
