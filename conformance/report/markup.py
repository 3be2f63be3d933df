"""Build HTML and SVG from the inside out: whatever is not markup yet is escaped, so that no name can break a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

VOID = frozenset({"meta", "br"})


class Markup(str):
    """Text that is HTML already; any other text is escaped where it is put into a tag."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """Write an element; ``content`` that is not Markup is escaped, None is left out.

    Attributes: a trailing underscore is dropped (``class_``), others become hyphens, None and False are left out, and
    True stands without a value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name_ = key.rstrip("_").replace("_", "-")
        written.append(f" {name_}" if value is True else f' {name_}="{escape(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening if name in VOID else f"{opening}{join(content)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Put parts together, each escaped unless it is Markup; None is left out."""
    return Markup("".join(p if isinstance(p, Markup) else escape(str(p)) for p in parts if p is not None))


def table(
    caption: str,
    headings: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    words: Sequence[int] = (0,),
) -> Markup:
    """Write a table in a group of its own that scrolls and takes the keyboard's focus.

    The first cell of a row is its heading. Columns whose numbers are in ``words`` are text, others numbers, set to
    the right.
    """
    kinds = ["w" if i in words else None for i in range(len(headings))]
    head = tag("tr", *(tag("th", h, scope="col", class_=k) for h, k in zip(headings, kinds, strict=True)))
    body = []
    for row in rows:
        first, *rest = row
        cells = [tag("th", first, scope="row")]
        cells += [tag("td", cell, class_=k) for cell, k in zip(rest, kinds[1:], strict=True)]
        body.append(tag("tr", *cells))
    content = tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", *body),
    )
    return tag("div", content, class_="scroll", role="group", aria_label=caption, tabindex="0")


def figure(title: str, says: str, chart: Markup, values: Markup) -> Markup:
    """Write a chart with its title, what it says, and its values in a table that can be opened."""
    caption = tag("figcaption", tag("strong", title), tag("span", says, class_="muted"))
    return tag("figure", caption, chart, tag("details", tag("summary", "Values"), values))
