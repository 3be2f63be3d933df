"""The part of the page that says what was tested, and against what: files, their sizes and hashes, what ran them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from conformance.report.document import Document, any_of
from conformance.report.markup import Markup, join, tag

HASH_SHOWN = 12
"""So many digits of a hash tell files apart for a person; the whole hash stands with the variant's figures."""


def tested(document: Document) -> Markup | None:
    """The user's own files and the references by name, for the top of the page; None where nothing is under test."""
    rows: list[tuple[str, Markup | None]] = [
        ("Tested file", of_variant(document, variant))
        for variant in document["variants"]
        if _is_tested(document, variant)
    ]
    several = len(document["models"]) > 1
    references = dict.fromkeys(_reference(document, model, several) for model in document["models"])
    rows += [("Reference", text) for text in references]
    if not rows:
        return None
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in rows), class_="facts tested")


def of_variant(document: Document, variant: Mapping[str, Any]) -> Markup | None:
    """Words on which file a variant is, or what the suite made it from, and what ran it in which precision.

    None for a variant that the suite would have made, and that never ran.
    """
    artifact = next(iter(any_of(document["artifacts"], variant)), None)
    supplied = variant.get("supplied")
    engine, precision = engine_names(document).get(variant["format"]), variant["precision"].upper()
    run = "" if artifact is None else f"; run by {engine} as {precision}" if engine else f"; as {precision}"
    if supplied:
        measured = _measured(supplied["bytes"], supplied["sha256"])
        return join([_path(supplied["path"]), measured, f", given by {supplied['option']}{run}"])
    if artifact is None:
        return None
    run += f"; {variant['beside']}" if variant.get("beside") else ""
    files = list(artifact["files"].values())
    measured = _measured(artifact["bytes"], files[0]["sha256"] if len(files) == 1 else None)
    return join([f"{variant['variant']}, {_made(document, artifact)}", measured, run])


def _made(document: Document, artifact: Mapping[str, Any]) -> str:
    """Words on what the suite made an artifact from, by what is recorded of it."""
    sources = artifact["made_from"]
    variants = [v for v in document["variants"] if v["model"] == artifact["model"]]
    if between := _between(sources, {v["format"] for v in variants}):
        source, format_ = between
        supplied = next((v["supplied"] for v in variants if v["format"] == format_ and v.get("supplied")), None)
        return f"made by the suite from {file_name(supplied) if supplied else f'the SavedModel, by way of {source}'}"
    if "savedmodel" in sources:
        return "made by the suite from the SavedModel"
    if "weights" in sources:
        return "made by the suite from the weights that come with the model"
    return "trained by the suite" if any(name.startswith("training ") for name in sources) else "made by the suite"


def _between(sources: Iterable[str], formats: Collection[str]) -> tuple[str, str] | None:
    """Artifact of another format among the ``sources``, and that format; None where there is none."""
    longest_first = sorted(formats, key=len, reverse=True)
    return next(((s, name) for s in sources for name in longest_first if s.startswith(f"{name}-")), None)


def file_name(supplied: Mapping[str, Any]) -> str:
    """Last part of a supplied file's path."""
    return PurePath(supplied["path"]).name or supplied["path"]


def _is_tested(document: Document, variant: Mapping[str, Any]) -> bool:
    references = {m["name"]: m["reference"] for m in document["models"]}
    return bool(variant.get("supplied")) and variant["variant"] != references[variant["model"]]


def _reference(document: Document, model: Mapping[str, Any], several: bool) -> Markup:
    own = {"model": model["name"], "variant": model["reference"]}
    supplied = next((v.get("supplied") for v in any_of(document["variants"], own)), None)
    by = f", run by {model['reference_run_by']}" if model.get("reference_run_by") else ""
    if supplied:
        size = _measured(supplied["bytes"], supplied["sha256"])
        return join(["the SavedModel ", _path(supplied["path"]), size, f", given by {supplied['option']}{by}"])
    return join([f"the SavedModel of {'each model' if several else model['name']}{by}"])


def _path(path: str) -> Markup:
    return tag("code", path, class_="path")


def _measured(size: int | None, sha256: str | None) -> Markup:
    parts: list[object] = [] if size is None else [f"{size / 1e6:.2f} MB"]
    if sha256:
        parts += [", SHA-256 " if parts else "SHA-256 ", tag("code", f"{sha256[:HASH_SHOWN]}…")]
    return join([" (", *parts, ")"]) if parts else Markup("")


def engine_names(document: Document) -> dict[str, str]:
    """Name and version of what runs each format."""
    return {e["format"]: e["engine"] for e in document["environment"]["engines"]}
