"""Judge the predictions that a program wrote as CSV by the SavedModel's answers to the samples that were exported.

``python -m commands check --help``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.command import DONE, FAILED, UNUSABLE, Call, Command, add_artifacts, add_cifar10_dir, add_model
from conformance.accuracy import measure_accuracy
from conformance.compare import Comparison, Grid, compare
from conformance.diagnose import diagnose_answers
from conformance.messages import Context, Difference, explain
from conformance.tolerances import ToleranceError
from engines.chain import Chain
from engines.errors import DataError, EngineError, SpecError, StoreError
from engines.exports import exchanged, exchanged_reference
from engines.formats.native.fed import mistake
from engines.formats.registry import variants
from engines.formats.tflite import runner as tflite_runner
from engines.model import exchange
from engines.model.bundled import find_model
from engines.model.selection import find_data
from engines.model.toml import load_model
from engines.store import Store
from trial.judged import compared_by
from trial.outputs import Outputs
from trial.own_rows import check_own
from trial.scales import output_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.model.samples import Samples
    from engines.model.spec import ModelSpec
    from engines.store import Artifact
    from engines.variant import Variant
    from trial.rules import Rule

EXPORT = re.compile(r"csv-(\d+)")
SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class UnusableError(Exception):
    """A file or an option cannot be used, so that there is no verdict."""


@dataclass(frozen=True)
class Request:
    """What to judge: the options of the command, and the command itself as ``replay``."""

    model: str
    predictions: Path
    variant: str
    samples: int | None
    fed: Path | None
    artifacts: Path
    cifar10_dir: Path | None
    replay: str


@dataclass(frozen=True)
class Verdict:
    """Whether what was looked at is sound, and what to say of it."""

    passed: bool
    text: str


@dataclass(frozen=True)
class Report:
    """What a program reports (``--json``): the SHA-256 of what it fed to the engine, and its batch where it says so."""

    fed_sha256: str
    batch: int | None


@dataclass(frozen=True)
class Exported:
    """What was exported as ``name`` (csv-N): the samples, their hash, and the reference's scores by output name."""

    name: str
    fed_sha256: str
    samples: Samples
    reference: Mapping[str, NDArray[Any]]


def check(request: Request) -> Verdict:
    """Judge predictions by the tolerance of a variant, and by its accuracy where there are labels.

    Raises UnusableError where a file or an option cannot be used.
    """
    try:
        return _check(request)
    except (EngineError, ToleranceError, OSError) as error:
        raise UnusableError(str(error)) from error


def _check(request: Request) -> Verdict:
    spec = load_model(find_model(request.model))
    variant = _variant(spec, request.variant)
    check_own(spec, variant)
    store = Store(request.artifacts)
    artifact = _artifact(store, spec, request)
    chain = Chain(spec, find_data(spec, store, request.cifar10_dir), store)
    exported = _exported(chain, artifact)
    [reference] = exported.reference.values()
    report = _read_report(request.fed) if request.fed else None
    results = exchange.read_results(request.predictions, reference.shape[1])
    # The rows tell the batch of a program that does not: where 96 answer 100 samples, the last four were dropped.
    batch = report.batch if report and report.batch else len(results.ids)
    proof = _proof(report, exported, batch)
    flaw = exchange.results_flaw(results, len(exported.samples), batch)
    if flaw or not proof.passed:
        lines = [f"{request.predictions}: FAILED as {variant.row_name} of {spec.name}; its scores were not judged"]
        lines += [f"  problem    {flaw}"] if flaw else []
        return Verdict(False, "\n".join([*lines, proof.text, f"  replay     {request.replay}"]))
    scores = dict.fromkeys(exported.reference, results.probabilities)
    return _judge(request, chain, variant, exported, scores, report, proof)


def _judge(
    request: Request,
    chain: Chain,
    variant: Variant,
    exported: Exported,
    scores: Mapping[str, NDArray[Any]],
    report: Report | None,
    proof: Verdict,
) -> Verdict:
    """Judge scores that are one row for each sample, by output name."""
    spec, reference = chain.spec, exported.reference
    kinds = {name: spec.output(name).kind for name in reference}
    grids = _grids(variant, kinds, scores)
    # A table has one output of a model: others are not judged, and the rule is that of a model without them.
    only = replace(chain, spec=replace(spec, outputs=tuple(o for o in spec.outputs if o.name in reference)))
    given = Outputs(exported.samples.inputs, dict(scores), reference)
    rule, comparison = compared_by(only, variant, "samples", given, grids)
    accuracy = _accuracy(chain, variant, exported, scores)
    if comparison.passed:
        passed = "passed" if accuracy.passed else "FAILED"
        lines = [f"{request.predictions}: {passed} as {variant.row_name} of {spec.name}", _figures(comparison)]
        lines += [accuracy.text, proof.text]
        lines += [] if accuracy.passed else [f"  replay     {request.replay}"]
        return Verdict(accuracy.passed, "\n".join(lines))
    likely = None
    if not comparison.problems:
        likely = diagnose_answers(
            scores,
            reference,
            agrees=lambda answers, expected: _agrees(only.spec, Outputs({}, answers, expected), rule, grids),
            scores=next(iter(scores)),
        )
    context = Context(
        model=spec.name,
        variant=f"{request.predictions}, judged as {variant.row_name},",
        precision=variant.precision,
        inputs=exported.name,
        batch=report.batch if report else None,
        class_names=chain.dataset.class_names,
    )
    failure = Difference(
        cause=likely,
        replay=request.replay,
        context=context,
        comparison=comparison,
        actual=scores,
        reference=reference,
        tolerance=replace(rule.tolerance, why=rule.why),
        notes=(accuracy.text, proof.text),
    )
    return Verdict(False, explain(failure))


def _agrees(spec: ModelSpec, given: Outputs, rule: Rule, grids: Mapping[str, Grid]) -> bool:
    """Whether answers that were changed agree, by the figures of a comparison: those of each sample know its place."""
    count = len(next(iter(given.reference.values())))
    return compare(
        given.actual, given.reference, rule.tolerances(given.reference, count), output_kinds(spec), grids=grids
    ).passed


def _grids(variant: Variant, kinds: Mapping[str, str], scores: Mapping[str, NDArray[Any]]) -> dict[str, Grid]:
    """Which scores are TFLite's INT8 probabilities: the program is not asked, for each of them shows it."""
    if variant.format != "tflite" or not variant.precision.startswith("int8"):
        return {}
    found = Grid(*tflite_runner.PROBABILITIES)
    return {
        n: found
        for n, kind in kinds.items()
        if kind == "probabilities" and (found.nearest(scores[n]) == scores[n]).all()
    }


def _variant(spec: ModelSpec, name: str) -> Variant:
    known = variants(spec)
    for variant in known:
        if name in {str(variant), variant.row_name}:
            return variant
    allowed = ", ".join(dict.fromkeys(variant.row_name for variant in known))
    raise SpecError(f"--variant {name} is none of {spec.name}; allowed: {allowed}")


def _artifact(store: Store, spec: ModelSpec, request: Request) -> Artifact:
    """The export that the program was given: the one that is named, or the only one that there is.

    Never chosen by the number of predictions: a program that drops samples would choose its own measure.
    """
    found = sorted(int(match[1]) for name in store.names(spec.name) if (match := EXPORT.fullmatch(name)))
    command = f"python -m engines export-csv {request.model} --artifacts {request.artifacts}"
    if not found:
        raise StoreError(
            f"--artifacts {request.artifacts}: holds no exported samples of {spec.name}; expected those that the "
            f"program was given, made by `{command} --samples N`"
        )
    stored = ", ".join(map(str, found))
    if request.samples is None and len(found) > 1:
        raise StoreError(
            f"--samples is not given, and {request.artifacts} holds several exports of {spec.name}; expected the one "
            f"that the program was given: {stored}"
        )
    count = found[0] if request.samples is None else request.samples
    if count not in found:
        raise StoreError(
            f"--samples {count}: {request.artifacts} holds no such export of {spec.name}; allowed: {stored}, or any "
            f"after `{command} --samples N`"
        )
    export = store.recorded(spec.name, f"csv-{count}")
    if export is None:
        raise StoreError(
            f"{store.root / spec.name / f'csv-{count}'}: is damaged, its files are not those that were exported; "
            f"make it again by `{command} --samples {count}`, and give that to the program"
        )
    return export


def _exported(chain: Chain, artifact: Artifact) -> Exported:
    """Exported samples and the reference's scores; refuses where other samples are found here."""
    count, data, fed = artifact.details["samples"], chain.dataset, artifact.details["fed_sha256"]
    other = DataError(
        f"{artifact.folder}: holds {count} samples of {artifact.details['data']}, which are not those found here: "
        f"{data.source}; name the same data (--cifar10-dir), or export again and run the program on that"
    )
    if count > data.test_count:
        raise other
    samples = exchanged(chain, count)
    [array] = samples.inputs.values()
    if exchange.fed_hash(array) != fed:
        raise other
    return Exported(artifact.folder.name, fed, samples, exchanged_reference(chain, samples))


def _read_report(path: Path) -> Report:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"--fed {path}: cannot be read: {error.strerror}; expected the program's --json") from error
    except ValueError as error:
        raise DataError(f"--fed {path}: is not JSON: {error}; expected the program's --json") from error
    fed = content.get("fed_sha256") if isinstance(content, dict) else None
    if not isinstance(fed, str) or not SHA256.fullmatch(fed):
        raise DataError(f"--fed {path}: fed_sha256 is {fed!r}; expected 64 hexadecimal digits, the program's --json")
    batch = content.get("batch")
    if batch is not None and (type(batch) is not int or batch < 1):
        raise DataError(f"--fed {path}: batch is {batch!r}; allowed: a whole number from 1 on")
    return Report(fed.lower(), batch)


def _proof(report: Report | None, exported: Exported, batch: int) -> Verdict:
    """Whether what was fed is what was exported, as far as anybody knows."""
    name, expected = exported.name, exported.fed_sha256
    if report is None:
        return Verdict(True, f"  fed        not proved to be {name}: the program's report tells, --fed REPORT.json")
    if report.fed_sha256 == expected:
        return Verdict(True, f"  fed        the samples of {name}, proved by their SHA-256 {expected}")
    [array] = exported.samples.inputs.values()
    return Verdict(
        False,
        f"  fed        something other than the samples of {name}: SHA-256 {report.fed_sha256}\n"
        f"  exported   SHA-256 {expected}\n"
        f"  likely     {mistake(array, report.fed_sha256, batch)}",
    )


def _figures(comparison: Comparison) -> str:
    figures = [str(figure) for name in ("max", "mean") if (figure := comparison.figure(name))]
    flips = comparison.flips
    return (
        f"  scores     {comparison.samples:,} samples: {', '.join(figures)}; top-1 flips {flips}/{comparison.samples}; "
        f"needed/allowed {comparison.usage:.2f}"
    )


def _accuracy(chain: Chain, variant: Variant, exported: Exported, scores: Mapping[str, NDArray[Any]]) -> Verdict:
    """Judge the accuracy by the rule of the tests; without labels there is nothing to judge."""
    labels = exported.samples.labels
    if labels is None:
        return Verdict(True, f"  accuracy   not judged: {chain.dataset.unlabelled_reason}")
    [(name, reference)] = exported.reference.items()
    result = measure_accuracy(scores[name], reference, labels, variant.precision)
    # What was lost shows on any labels; only whether it is better than guessing may be more than they can tell.
    if problems := result.problems if result.tells else result.drop_problems:
        return Verdict(False, f"  accuracy   FAILED: {'; '.join(problems)}")
    return Verdict(
        True,
        f"  accuracy   {result.correct} of {result.samples} right ({result.correct / result.samples:.2%}), by the "
        f"SavedModel {result.reference_correct} ({result.reference_correct / result.samples:.2%}); "
        f"{result.allowed_drop} may be lost",
    )


def _options(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS.csv", help="what the program wrote")
    parser.add_argument(
        "--variant",
        required=True,
        help="the format and precision that the program ran, such as tensorrt-fp16: what it may differ by",
    )
    parser.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="the N of export-csv (default: that of the only export in the artifact folder)",
    )
    parser.add_argument(
        "--fed",
        type=Path,
        metavar="REPORT.json",
        help="the program's --json: proves by its fed_sha256 that the exported samples were fed",
    )
    add_artifacts(parser, "the artifact folder of export-csv (default: %(default)s)")
    add_cifar10_dir(parser)


def _work(options: argparse.Namespace, call: Call) -> int:
    asked = {field.name: getattr(options, field.name) for field in fields(Request) if field.name != "replay"}
    try:
        verdict = check(Request(**asked, replay=call.line))
    except UnusableError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    print(verdict.text)
    return DONE if verdict.passed else FAILED


COMMAND = Command(
    "check",
    "judge the predictions that a program wrote as CSV",
    "Compare a program's predictions (sample_id,class,confidence,p_0,…) with the SavedModel's answers\n"
    "to the samples that `python -m engines export-csv` wrote, by the tolerance of a variant.",
    _options,
    _work,
    "example:\n"
    "  python -m engines export-csv cifar10_vgg --output exchange\n"
    "  trt8_infer --plan model.plan --csv exchange/test_samples.csv --output predictions.csv --json report.json\n"
    "  {prog} cifar10_vgg predictions.csv --variant tensorrt-fp16 --fed report.json\n\n"
    "exit code: 0 sound, 1 not, 2 a file or option cannot be used (docs/exchange.md)",
)
