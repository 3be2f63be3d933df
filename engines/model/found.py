"""A model without a description, as its file shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """An input as a signature has it: sizes, and None or a name for a dynamic dimension."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str


@dataclass(frozen=True)
class Found:
    """A model as it was found: ``what`` errors call it, its inputs, and what asks it for outputs, both by name.

    ``ask`` raises RunnerError where the model stops. ``graph`` is what engines.model.kinds finds kinds of outputs in.
    """

    what: str
    inputs: tuple[Tensor, ...]
    ask: Callable[[Arrays], dict[str, NDArray[Any]]]
    graph: Any = None
