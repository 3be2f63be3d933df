"""A description as the TOML file that a user would write, with comments to go on from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from engines.model.spec import OUTPUT_KINDS, SIGNATURE, InputSpec, ModelSpec, OutputSpec


def written(spec: ModelSpec) -> str:
    """A model's description as TOML, in the order of docs/models.md; :func:`engines.model.toml.load_model` reads it.

    Tolerances, floors, weights and training are no part of it: nothing tells them of a model.
    """
    parts = [
        _lines(f"name = {_toml(spec.name)}", f"description = {_toml(spec.description)}"),
        _lines("[source]", *_source(spec)),
        *(_lines("[[inputs]]", *_input(item)) for item in spec.inputs),
        *(_lines("[[outputs]]", *_output(item)) for item in spec.outputs),
        *([_lines("[dimensions]", *_dimensions(spec))] if spec.dimensions else []),
        *([_lines("[data]", f"dataset = {_toml(spec.dataset)}  # --samples replaces it")] if spec.dataset else []),
        _lines("[precisions]", "# What is built and checked; leave out what you do not use.", *_precisions(spec)),
    ]
    return "\n".join(parts)


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _source(spec: ModelSpec) -> Iterator[str]:
    if spec.file is not None:
        yield f"onnx = {_toml(str(spec.file))}  # in FP32: the others are made from it and compared with it"
    else:
        yield f"saved_model = {_toml(str(spec.saved_model))}"
    if spec.signature != SIGNATURE:
        yield f"signature = {_toml(spec.signature)}"


def _tensor(item: InputSpec | OutputSpec) -> Iterator[str]:
    yield f"name = {_toml(item.name)}"
    if item.signature_name != item.name:
        yield f"signature_name = {_toml(item.signature_name)}"
    yield f"shape = {_toml(list(item.shape))}"
    yield f"dtype = {_toml(item.dtype)}"


def _input(item: InputSpec) -> Iterator[str]:
    yield from _tensor(item)
    yield f"range = {_toml(list(item.range))}  # what it may hold: made-up inputs stay within it, and within --samples"


def _output(item: OutputSpec) -> Iterator[str]:
    yield from _tensor(item)
    others = " | ".join(kind for kind in OUTPUT_KINDS if kind != item.kind)
    yield f"kind = {_toml(item.kind)}  # {' '.join(item.why.split()) or 'as was said'}; also {others}"
    if item.kind == "scores":
        yield f"threshold = {item.threshold}"


def _dimensions(spec: ModelSpec) -> Iterator[str]:
    yield "# Sizes to check at; the first is that of the samples."
    for name, sizes in spec.dimensions.items():
        yield f"{name} = {_toml(list(sizes))}"


def _precisions(spec: ModelSpec) -> Iterator[str]:
    for format_, chosen in spec.precisions.items():
        if format_ != spec.reference.format or chosen != (spec.reference.precision,):
            yield f"{format_} = {_toml(list(chosen))}"


def _toml(value: Any) -> str:
    # JSON's strings, numbers and lists of them are TOML's.
    return json.dumps(value, ensure_ascii=False)
