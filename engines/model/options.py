"""What options say of a model in place of its description: precisions, and kinds of outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines.errors import SpecError
from engines.model.spec import OUTPUT_KINDS, ModelSpec
from engines.model.table import SHOWN, Table
from engines.model.toml import check_kind, chosen_precisions


def with_precisions(spec: ModelSpec, texts: Sequence[str]) -> ModelSpec:
    """The model in the precisions of ``--precisions`` alone: ``onnx=fp32,int8``, several apart by spaces.

    Raises SpecError for what is no such list, and for formats and precisions that there are not.
    """
    words = [word for text in texts for word in text.split()]
    if not words:
        return spec
    what = f"--precisions {' '.join(words)}"
    content = {}
    for word in words:
        format_, equals, listed = word.partition("=")
        if not equals or not listed or format_ in content:
            raise SpecError(f"{what}: {SHOWN.repr(word)}; allowed: each format once, as in onnx=fp32,int8")
        content[format_] = listed.split(",")
    return replace(spec, precisions=chosen_precisions(Table(content, Path(what)), spec.reference))


def with_kinds(spec: ModelSpec, texts: Sequence[str]) -> ModelSpec:
    """The model with the kinds of outputs of ``--kind``: ``OUTPUT=KIND``.

    Raises SpecError for an output or a kind that there is not, and for a kind that an output of its shape cannot have.
    """
    outputs = {o.name: o for o in spec.outputs}
    for text in texts:
        name, _, kind = text.rpartition("=")
        if name not in outputs:
            raise SpecError(
                f"--kind {text}: there is no output {SHOWN.repr(name)}; allowed: {', '.join(outputs)}, =, and a kind"
            )
        if kind not in OUTPUT_KINDS:
            raise SpecError(f"--kind {text}: the kind is {SHOWN.repr(kind)}; allowed: {' | '.join(OUTPUT_KINDS)}")
        outputs[name] = replace(outputs[name], kind=kind, why="")
        check_kind(outputs[name], f"--kind {text}")
    return replace(spec, outputs=tuple(outputs.values()))


def without_ranges(spec: ModelSpec) -> ModelSpec:
    """Description whose inputs may have any values."""
    return replace(spec, inputs=tuple(replace(item, range=(-math.inf, math.inf)) for item in spec.inputs))
