"""TODO engines.formats.savedmodel.signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.model.spec import InputSpec, ModelSpec, OutputSpec


def serving_default(loaded: Any, what: str) -> Any:
    """Give the signature that everything relies on, of a loaded SavedModel.

    Raises SpecError, which says how to export it, where there is none; ``what`` names the SavedModel.
    """
    if "serving_default" not in loaded.signatures:
        raise SpecError(
            f"{what}: its signatures are {sorted(loaded.signatures)}; expected 'serving_default' among them: export it "
            "again, by tf.saved_model.save(model, DIR, signatures={'serving_default': FUNCTION}) or Keras' "
            "model.export(DIR)"
        )
    return loaded.signatures["serving_default"]


def _check_names(function: Any, spec: ModelSpec) -> None:
    """Refuse a description whose names are not the signature's: it is called by them."""
    sides: tuple[tuple[str, Sequence[InputSpec | OutputSpec], Mapping[str, Any]], ...] = (
        ("inputs", spec.inputs, function.structured_input_signature[1]),
        ("outputs", spec.outputs, function.structured_outputs),
    )
    for side, items, found in sides:
        if {item.signature_name for item in items} != set(found):
            raise SpecError(
                f"{spec.source}: its {side} are named {sorted(item.signature_name for item in items)}, and those of "
                f"the SavedModel's serving_default {sorted(found)}; allowed: the same, as name or as signature_name"
            )
