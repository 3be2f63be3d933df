"""The part of a variant's figures that says where its error comes from: own error against noise, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.report import charts
from conformance.report.document import Document, any_of, name_of
from conformance.report.markup import Markup, join, table, tag
from conformance.report.numbers import number, plural


def located(document: Document, variant: Mapping[str, Any]) -> Markup | None:
    """What is known of a variant's layers, for each set of inputs; None where nobody looked."""
    rows = any_of(document.get("locations", ()), variant)
    return join([_one(document, row) for row in rows]) if rows else None


def _one(document: Document, row: Mapping[str, Any]) -> Markup:
    name, along = name_of(document, row), row["along"]
    first = tag("p", tag("b", f"Layers, on {row['inputs']}: "), row["sentence"], ".", class_="note")
    parts: list[Markup | None] = [first]
    parts += [tag("p", note, class_="muted") for note in row["notes"]]
    if along:
        values = [
            [f"{at + 1}", one["layer"], one["maker"], one["figure"], number(one["needed"]), number(one["allowed"])]
            for at, one in enumerate(along)
        ]
        listed = table(
            f"Own error of every tensor of {name}",
            ["tensor", "layer", "made by", "figure", "found", "allowed"],
            values,
            words=(0, 1, 2, 3),
        )
        beyond = sum(over(one) for one in along)
        says = (
            f"{beyond:,} of {plural(len(along), 'tensor')} are beyond their noise."
            if beyond
            else "None is beyond its noise."
        )
        parts.append(_figure("Own error along the layers", says, charts.along(along), listed))
    if ranking := row["ranking"]:
        values = [
            [one["layer"], number(one["error"]), "–" if one["kept"] is None else number(one["kept"])] for one in ranking
        ]
        parts.append(tag("p", f"Quantized, {row['advice']}.", class_="muted") if row["advice"] else None)
        parts.append(
            table(
                f"Error of {name} with one layer quantized, the others in FP32; all together {number(row['whole'])}",
                ["layer", "error of the answers", "left without it and those above"],
                values,
            )
        )
    return join(parts)


def over(one: Mapping[str, Any]) -> bool:
    """Whether a tensor is beyond its noise; what is not finite is, unless anything is allowed."""
    if one["allowed"] is None:
        return False
    return one["needed"] is None or bool(one["needed"] > one["allowed"])


def _figure(title: str, says: str, chart: Markup, values: Markup) -> Markup:
    caption = tag("figcaption", tag("strong", title), tag("span", says, class_="muted"))
    figure = tag("figure", caption, chart, tag("details", tag("summary", "Values"), values))
    return tag("div", figure, class_="charts")
