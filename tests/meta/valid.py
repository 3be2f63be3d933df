"""What a report's data must keep to: its JSON Schema, with formats such as times."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from conformance.report.document import schema

if TYPE_CHECKING:
    import jsonschema


@cache
def validator() -> jsonschema.Draft202012Validator:
    """Validator of a document; the package is imported by the first test that needs it, not where tests are listed."""
    import jsonschema

    return jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())


def validate(document: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError for a document that does not keep to the schema."""
    validator().validate(document)
