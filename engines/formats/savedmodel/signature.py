"""The signature of a SavedModel that is under test, and its names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.model.spec import InputSpec, ModelSpec, OutputSpec


def signature_of(loaded: Any, name: str, what: str) -> Any:
    """The signature of a name, which everything relies on, of a loaded SavedModel; ``what`` names that.

    Raises SpecError, which lists those that there are and says how to choose or export one, where it is not there.
    """
    there = sorted(key for key in loaded.signatures if not key.startswith("__"))
    if name not in there:
        choose = f"choose one by --signature {there[0]}, or export it again, by" if there else "export it again, by"
        raise SpecError(
            f"{what}: its signatures are {there}; expected {name!r} among them: {choose} "
            f"tf.saved_model.save(model, DIR, signatures={{{name!r}: FUNCTION}}) or Keras' model.export(DIR)"
        )
    return loaded.signatures[name]


def spoken(error: Exception) -> str:
    """What TensorFlow says went wrong when it ran, in one line: the last one before it says where."""
    text = str(getattr(error, "message", error)).partition("[[")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].partition(" [Op:")[0] if lines else type(error).__name__


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
                f"the SavedModel's {spec.signature} {sorted(found)}; allowed: the same, as name or as signature_name"
            )
