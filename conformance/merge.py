"""Results of machines that share nothing, joined into one matrix: what each variant is on each device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from conformance.history.files import HistoryError
from conformance.report.document import Document, any_of, as_json
from conformance.report.numbers import ratio

VERSION = 1
"""The version of the JSON of a matrix."""

ABSENT = "absent"
"""The verdict of a variant that a device's results do not list."""

UNTESTED = ("skipped", "not run", "not judged", "not compared", ABSENT)
"""The verdicts that say nothing of a variant."""


@dataclass(frozen=True)
class Cell:
    """What a variant is on a device: verdict, largest needed over allowed, accuracy, samples a second, where known.

    ``throttled`` says whether processor or GPU was throttled while those samples a second were measured.
    """

    verdict: str
    usage: float | None = None
    accuracy: float | None = None
    samples_per_second: float | None = None
    reason: str | None = None
    throttled: bool = False

    @property
    def tested(self) -> bool:
        """Whether anything is known of the variant."""
        return self.verdict not in UNTESTED


@dataclass(frozen=True)
class Matrix:
    """Variants, as rows (model, variant), on devices, as columns; each with its file, and the status of its run."""

    devices: tuple[str, ...]
    sources: tuple[str, ...]
    statuses: tuple[str, ...]
    rows: Mapping[tuple[str, str], tuple[Cell, ...]]

    @property
    def status(self) -> str:
        """Verdict on all: failed where any run is, incomplete where one is or a variant was tested nowhere."""
        if "failed" in self.statuses:
            return "failed"
        whole = set(self.statuses) == {"passed"} and not self.nowhere
        return "passed" if whole else "incomplete"

    @property
    def nowhere(self) -> list[str]:
        """Names of the variants that no device has tested."""
        return [f"{model}-{v}" for (model, v), cells in self.rows.items() if not any(cell.tested for cell in cells)]


def merge(documents: Mapping[str, Document]) -> Matrix:
    """Join results by the name of their file.

    Raises HistoryError for fewer than two, for two of the same device, and where a model has other samples or another
    reference on one of the devices: their verdicts would be on different questions.
    """
    if len(documents) < 2:
        raise HistoryError(f"{len(documents)} results are given; allowed: two or more, each of its own device")
    devices: dict[str, str] = {}
    for source, document in documents.items():
        name = device(document)
        if name in devices:
            raise HistoryError(
                f"{source} is of {name}, as {devices[name]} is; allowed: one of each device (python -m commands diff "
                "compares two runs of one)"
            )
        devices[name] = source
    _same_models(documents)
    names = dict.fromkeys((v["model"], v["variant"]) for d in documents.values() for v in d["variants"])
    rows = {name: tuple(_cell(document, *name) for document in documents.values()) for name in names}
    statuses = tuple(str(d["verdict"]["status"]) for d in documents.values())
    return Matrix(tuple(devices), tuple(documents), statuses, rows)


def device(document: Document) -> str:
    """Name of what a run ran on: its GPU, or its CPU where it had none."""
    gpu = document["environment"]["gpu"]
    return str(gpu["name"] if gpu else document["environment"]["cpu"])


def _same_models(documents: Mapping[str, Document]) -> None:
    seen: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for source, document in documents.items():
        for model in document["models"]:
            other, first = seen.setdefault(model["name"], (source, model))
            for what in ("reference", "outputs"):
                if model.get(what) != first.get(what):
                    raise HistoryError(
                        f"{source}: {model['name']} has the {what} {model.get(what)!r}, "
                        f"in {other} {first.get(what)!r}; "
                        "allowed: the same model on all devices"
                    )
            counts = model["data"]["samples"], first["data"]["samples"]
            if counts[0] != counts[1]:
                raise HistoryError(
                    f"{source}: {model['name']} was compared on {counts[0]} samples, in {other} on {counts[1]}; "
                    "allowed: the same samples on all devices"
                )


def _cell(document: Document, model: str, variant: str) -> Cell:
    name = {"model": model, "variant": variant}
    found = next(iter(any_of(document["variants"], name)), None)
    if found is None:
        return Cell(ABSENT)
    accuracy = next(iter(any_of(document["accuracy"], name)), None)
    fastest = max(any_of(document["benchmarks"], name), key=lambda b: float(b["samples_per_second"]), default={})
    return Cell(
        found["verdict"],
        found["usage"],
        accuracy["correct"] / accuracy["samples"] if accuracy else None,
        fastest.get("samples_per_second"),
        found["reason"],
        bool(fastest.get("throttled")),
    )


def as_text(matrix: Matrix) -> str:
    """Write the matrix for a terminal: the devices by number, then a row for each variant."""
    lines = [f"verdict on {len(matrix.devices)} devices: {matrix.status}"]
    numbered = zip(matrix.devices, matrix.sources, matrix.statuses, strict=True)
    lines += [f"  [{n}] {name}: {status} ({source})" for n, (name, source, status) in enumerate(numbered, 1)]
    head = ["variant", *(f"[{n}]" for n in range(1, len(matrix.devices) + 1))]
    table = [head, *([f"{m}-{v}", *map(_short, cells)] for (m, v), cells in matrix.rows.items())]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines += [f"tested nowhere: {', '.join(matrix.nowhere)}"] if matrix.nowhere else []
    return "\n".join(lines)


def _short(cell: Cell) -> str:
    """Words of a cell: verdict, largest needed over allowed, accuracy, samples a second."""
    parts = [cell.verdict]
    parts += [ratio(cell.usage)] if cell.usage is not None else []
    parts += [f"{100 * cell.accuracy:.2f} %"] if cell.accuracy is not None else []
    parts += [f"{cell.samples_per_second:,.0f}/s"] if cell.samples_per_second is not None else []
    parts += ["throttled"] if cell.throttled else []
    return " ".join(parts)


def as_markdown(matrix: Matrix) -> str:
    """Write the matrix as Markdown, for the summary of a CI job."""
    lines: Sequence[str] = [
        f"## Conformance on {len(matrix.devices)} devices: {matrix.status}",
        "",
        "| variant | " + " | ".join(name.replace("|", "\\|") for name in matrix.devices) + " |",
        "|---|" + "---|" * len(matrix.devices),
        *(f"| {m}-{v} | {' | '.join(map(_short, cells))} |" for (m, v), cells in matrix.rows.items()),
    ]
    return "\n".join(lines)


def matrix_json(matrix: Matrix) -> str:
    """Write the matrix as JSON: ``status``, ``devices``, and ``rows`` with a cell for each of them."""
    numbered = zip(matrix.devices, matrix.sources, matrix.statuses, strict=True)
    content = {
        "matrix_version": VERSION,
        "status": matrix.status,
        "devices": [{"device": d, "source": source, "status": status} for d, source, status in numbered],
        "rows": [
            {"model": m, "variant": v, "cells": [asdict(cell) for cell in cells]}
            for (m, v), cells in matrix.rows.items()
        ],
        "tested_nowhere": matrix.nowhere,
    }
    return as_json(content).rstrip("\n")


WRITERS = {"text": as_text, "markdown": as_markdown, "json": matrix_json}
