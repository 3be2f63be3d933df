"""Messages of failed comparisons, on which a person can act without opening a debugger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from conformance.compare import Comparison, Figure, OutputComparison, Tolerance, softmax, top
from conformance.failure import Failure

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Context:
    """What was compared: names for the first lines, the classes, and the samples' own names.

    ``batch`` is None where nobody knows it. ``kinds`` says of outputs why they were taken for what they are, and what
    says otherwise; it has none where the user said so.
    """

    model: str
    variant: str
    precision: str
    inputs: str
    batch: int | None
    class_names: Sequence[str] = ()
    sample_names: Sequence[str] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Difference(Failure):
    """Outputs that are not the reference's; arrays (N, …) by output name.

    ``notes`` are lines of whoever compared, such as what else was found out.
    """

    context: Context
    comparison: Comparison
    actual: Mapping[str, NDArray[Any]]
    reference: Mapping[str, NDArray[Any]]
    tolerance: Tolerance
    notes: Sequence[str] = ()


def explain(failure: Difference) -> str:
    """Message of a difference: what, where, by how much, the likely cause, and how to replay it."""
    context, comparison = failure.context, failure.comparison
    batches = f" in batches of at most {context.batch}" if context.batch else ""
    lines = [
        f"{context.variant} does not give the reference's answers for {context.model}",
        f"  precision  {context.precision}",
        f"  inputs     {context.inputs}, {comparison.samples} samples{batches}",
    ]
    lines += [f"  problem    {problem}" for problem in comparison.problems]
    for output in comparison.outputs:
        name = output.output
        lines += _output_lines(output, failure.actual[name], failure.reference[name], context)
    lines += [f"  likely     {failure.cause.text}"] if failure.cause else []
    lines += [*failure.notes, *([f"  own model  {failure.own_model}"] if failure.own_model else [])]
    lines += [f"  tolerance  {failure.tolerance.why}", f"  replay     {failure.replay}"]
    return "\n".join(lines)


MILLION = 1e6
"""From here on a ratio is told by its power of ten."""

CLASSES = ("probabilities", "logits")
"""The kinds of outputs whose last axis is that of classes."""


def _output_lines(
    output: OutputComparison, actual: NDArray[Any], reference: NDArray[Any], context: Context
) -> list[str]:
    lines = [f"  output     {output.output}{_unit(output)}"]
    if output.output in context.kinds:
        lines.append(f"    taken for {context.kinds[output.output]}")
    for figure in output.figures:
        mark = "FAILED" if not figure.passed else "ok    " if figure.judged else "      "
        allowed = f"allowed {figure.allowed:.3e}" if figure.judged else "not judged"
        beside = "" if figure.passed else _beyond(figure)
        lines.append(f"    {mark} {figure.name:<7} needed {figure.needed:.3e}   {allowed}{beside}")
    lines += [f"    {note}" for note in output.notes]
    index = output.worst_index[1:] if output.kind == "constant" else output.worst_index
    position = ", ".join(map(str, index))
    # Of rows that have no counterpart, and of what agrees, there is no place to tell.
    if output.worst_expected != output.worst_actual:
        lines.append(
            f"    largest difference at [{position}]{_class_of(output, index, context)}: "
            f"expected {output.worst_expected:.6g}, got {output.worst_actual:.6g}"
        )
        if output.kind != "constant":
            lines.append(f"    worst sample {output.worst_sample}{_named(output.worst_sample, context)}")
    if output.kind in CLASSES:
        return lines + _class_lines(output, actual, reference, context)
    return lines + _other_lines(output, actual, reference, context)


def _beyond(figure: Figure) -> str:
    """By how much a failed figure is beyond what is allowed, and what it is beside the model's own noise."""
    ratio = figure.needed / figure.allowed if figure.allowed else inf
    times = f"{ratio:{'.1e' if ratio >= MILLION else ',.0f' if ratio >= 10 else '.3g'}}"
    return (f" ({times} times that)" if isfinite(ratio) else "") + (f", {figure.beside}" if figure.beside else "")


def _unit(output: OutputComparison) -> str:
    """What an output holds, and what its largest difference is a share of; nothing for probabilities."""
    if output.kind == "probabilities":
        return ""
    return f" ({output.kind}{'' if output.unit == 1 else f'; max is a share of the largest, {output.unit:.6g}'})"


def _class_lines(
    output: OutputComparison, actual: NDArray[Any], reference: NDArray[Any], context: Context
) -> list[str]:
    lines, sample = [], output.worst_sample
    worst = next((f.place for f in output.flips if f.sample == sample), output.worst_index[1:-1])
    place = f" at {_place(worst)}" if worst else ""
    for who, array in (("expected", reference), ("got", actual)):
        at = (sample, *worst)
        row = softmax(array[at][None])[0] if output.kind == "logits" else array[at]
        ranked = ", ".join(f"{_class_name(c, context)} {p:.4f}" for c, p in top(row))
        lines.append(f"      {who:<8} top 3{place}  {ranked}")
    if output.flips:
        shown = [
            f"sample {f.sample}{_named(f.sample, context)}{f' {_place(f.place)}' if f.place else ''}: "
            f"{_class_name(f.expected, context)} → {_class_name(f.actual, context)}, lead {f.margin:.4f}"
            for f in output.flips[:SOME]
        ]
        where = "in " if worst else ""
        lines.append(f"    top-1 flips {where}{output.flipped} of {output.samples}: {_some(shown, output)}")
    return lines


def _place(place: Sequence[int]) -> str:
    return f"[{', '.join(map(str, place))}]"


SOME = 5
"""How many samples are named of those that changed."""


def _some(shown: Sequence[str], output: OutputComparison) -> str:
    more = output.flipped - SOME
    return "; ".join(shown) + (f" (and {more} more)" if more > 0 else "")


def _other_lines(
    output: OutputComparison, actual: NDArray[Any], reference: NDArray[Any], context: Context
) -> list[str]:
    """Samples whose decisions, integers or rows changed, where an output has any."""
    if not output.flips:
        return []
    what = {"scores": "decisions that differ", "ranked": "rows without a counterpart"}.get(output.kind, "differences")
    shown = []
    for flip in output.flips[:SOME]:
        where = f"sample {flip.sample}{_named(flip.sample, context)}" if output.kind != "constant" else ""
        if output.kind == "ranked":
            shown.append(f"{where}: {flip.expected}")
            continue
        place = _place(flip.place) if flip.place else ""
        index = flip.place if output.kind == "constant" else (flip.sample, *flip.place)
        one, other = (
            float(a.reshape(-1)[index] if output.kind == "constant" else a[index]) for a in (reference, actual)
        )
        shown.append(f"{' '.join(filter(None, (where, place)))}: {one:.6g} → {other:.6g}")
    samples = "" if output.kind == "constant" else f" in {output.flipped} of {output.samples} samples"
    return [f"    {what}{samples}: {_some(shown, output)}"]


def _class_name(index: int, context: Context) -> str:
    return context.class_names[index] if index < len(context.class_names) else f"class {index}"


def _class_of(output: OutputComparison, index: tuple[int, ...], context: Context) -> str:
    return f" ({_class_name(index[-1], context)})" if output.kind in CLASSES else ""


def _named(sample: int, context: Context) -> str:
    return f" ({context.sample_names[sample]})" if sample < len(context.sample_names) else ""
