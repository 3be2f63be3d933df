"""What a precision does to a model under test, told by its twin: made once a precision, and kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.bounds import runs_needed
from conformance.noise import Noise, noise_of
from engines.errors import EngineError, StoreUnusableError
from engines.formats import registry
from engines.formats.code import code
from engines.formats.onnx import packages
from engines.model.samples import content_hash
from engines.outputs import taken
from engines.store import Recipe
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
    from engines.store import Artifact
    from trial.outputs import Outputs

    Arrays = Mapping[str, NDArray[Any]]

FP32 = Variant("onnx", "fp32")

JUDGED = ("probabilities", "scores", "logits", "values")
"""The kinds of outputs whose noise has a rule."""

RUNS = runs_needed() + 1
"""Runs of a twin: each is judged by the others where figures are ratios to a spread, and those are to be enough."""

MADE_UP, LEAST_DRAWN = 32, 8
"""Made-up inputs that a twin is run on: the contrast set, and textures up to so many; and the fewest of those."""

SEED = 0
"""All runs of all twins start here: the same model and samples have the same limits again."""

ANSWERS, REFUSED = "runs.npz", "refused.txt"
"""The files of a twin's artifact: the answers of its runs and the reference, or why there are none."""

CODE = tuple(sorted(Path(__file__).with_name("twin").glob("*.py")))
"""The code that makes a twin and runs it."""


def own_noise(chain: Chain, variant: Variant, kind: str) -> Noise:
    """Noise of a variant's precision on inputs of a kind, ``samples`` or ``stress``.

    Raises TwinError, which says why in one line, where the variant's arithmetic is not known, no output has a rule, or
    the model has no twin here.
    """
    brought = chain.brought_file(variant)
    precision = registry.find(variant.format).arithmetic(variant, chain.spec, brought)
    if precision is None or precision not in PRECISIONS:
        what = "this file" if brought else "it"
        raise TwinError(f"{variant}: how {what} computes has no twin; those are {', '.join(PRECISIONS)}")
    return noise_in(chain, precision, kind)


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
    kinds = {name: found for name, found in output_kinds(chain.spec).items() if found in JUDGED}
    if not kinds:
        raise TwinError(f"{chain.spec.name}: no output holds {', '.join(JUDGED)}")
    try:
        artifact = _artifact(chain, precision, kind)
    except StoreUnusableError:
        raise
    except EngineError as error:
        raise TwinError(f"{chain.spec.name}: no twin: {str(error).splitlines()[0]}") from error
    if REFUSED in artifact.record["files"]:
        raise TwinError(artifact.file(REFUSED).read_text(encoding="utf-8"))
    with np.load(artifact.file(ANSWERS)) as archive:
        reference = {name: archive[f"reference/{name}"] for name in kinds}
        runs = [{name: archive[f"{run}/{name}"] for name in kinds} for run in range(RUNS)]
    options: dict[str, Any] = {"scales": output_scales(chain), "thresholds": output_thresholds(chain.spec)}
    try:
        noise = noise_of(reference, runs, kinds, precision, single=kind == "stress", **options)
    except ValueError as error:
        raise TwinError(f"{chain.spec.name} in {precision}: {error}") from error
    if noise.single and noise.spared.all():
        raise TwinError(
            f"{chain.spec.name} in {precision}: the twin is unstable, it moves every made-up input's answer"
        )
    return noise


def noise_at(chain: Chain, noise: Noise, given: Outputs) -> Noise:
    """Noise of the same precision at some inputs (few): those where an engine is furthest off, or was drawn anew.

    Raises TwinError where the twin cannot be run on them.
    """
    own = replace(chain, brought={})
    twin, feeds, called = twin_of(own, noise.precision, given.inputs, {})
    runs = [{n: run[called[n]] for n in noise.kinds} for run in twin.runs(feeds, RUNS, SEED + 1)]
    reference = {name: given.reference[name] for name in noise.kinds}
    options: dict[str, Any] = {"scales": output_scales(chain), "thresholds": output_thresholds(chain.spec)}
    try:
        return noise_of(reference, runs, noise.kinds, noise.precision, single=noise.single, **options)
    except ValueError as error:
        raise TwinError(f"{chain.spec.name} in {noise.precision}: {error}") from error


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
    """The stored answers of a twin's runs, made now where they are missing or stale."""
    # The twin is the model's own: a file that was brought is what is judged, and no yardstick.
    own = replace(chain, brought={})
    inputs, answers = own_inputs(own, kind)
    hashed = content_hash(inputs)
    made_from = {"onnx": own.artifact(FP32).sha256, "reference": own.artifact(own.spec.reference).sha256}
    made_from |= {"inputs": hashed}
    for path in CODE:
        made_from |= code(f"twin {path.stem}", path)
    if PRECISIONS[precision].bits:
        made_from |= {"calibration": content_hash(own.calibration.inputs)}
    parameters = {"precision": precision, "runs": RUNS, "seed": SEED}
    tools = {name: installed_version(name) for name in ("onnxruntime", "numpy")}
    here = packages.unavailable() or registry.reference(own.spec).unavailable()
    # Of another data set there is another: none takes the other's place.
    name = f"twin-{precision}-{kind}-{hashed[:8]}"

    def build(folder: Path) -> Mapping[str, Any]:
        try:
            arrays, details = _runs(own, precision, inputs, answers())
        except TwinError as error:
            (folder / REFUSED).write_text(str(error), encoding="utf-8")
            return {}
        np.savez(folder / ANSWERS, **dict[str, Any](arrays))
        return details

    return own.keep(name, Recipe(made_from, parameters, tools), build, here)


def _runs(
    chain: Chain, precision: str, inputs: Arrays, reference: Arrays
) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
    """Answers of a twin's runs and of the reference, by ``run/output``; and what is told of the twin."""
    names = [name for name, kind in output_kinds(chain.spec).items() if kind in JUDGED]
    twin, feeds, called = twin_of(chain, precision, inputs, reference)
    count = min(twin.samples, len(next(iter(inputs.values()))))
    answers = taken(chain.spec, reference, slice(count))
    found = {f"reference/{name}": answers[name] for name in names}
    for number, run in enumerate(twin.runs({n: a[:count] for n, a in feeds.items()}, RUNS, SEED)):
        found |= {f"{number}/{name}": run[called[name]] for name in names}
    return found, {"samples": count, "declared": list(twin.declared)}


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
