"""What all variants of a model are tested with: samples, made-up inputs, and the reference's answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from engines.model.sizes import at_size
from trial.bearable import bearable
from trial.contrast import contrast_set
from trial.textures import DRAWN, drawn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from trial.bearable import Bearable

    Arrays = Mapping[str, NDArray[Any]]

RESIZED = "samples at another size"
"""Name of the sets of samples that are cut, or repeated, to another size of the dynamic dimensions."""


class Set(NamedTuple):
    """Inputs (N, …) by input name and what the reference answers; ``kind`` is ``samples`` or ``stress``."""

    name: str
    kind: str
    inputs: Arrays
    reference: Arrays
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Sets:
    """Sets of a model's inputs, each made where it is first asked for."""

    chain: Chain

    @cached_property
    def every(self) -> tuple[Set, ...]:
        """All of them, real samples first."""
        made = [Set(name, "stress", b.inputs, b.reference, b.names) for name, b in self._made_up()]
        return self.samples, *self._more(), *self._resized(), *made

    @cached_property
    def samples(self) -> Set:
        """First hundred samples."""
        inputs = self.chain.samples.inputs
        return Set("samples", "samples", inputs, self.chain.reference("samples", inputs))

    def _more(self) -> list[Set]:
        """All samples, where there are more."""
        count = self.chain.dataset.test_count
        if count <= len(self.chain.samples):
            return []
        inputs = self.chain.dataset.test(count).inputs
        return [Set("more samples", "samples", inputs, self.chain.reference(f"accuracy-{count}", inputs))]

    def _resized(self) -> list[Set]:
        """Samples at each further size of the dynamic dimensions."""
        spec, inputs = self.chain.spec, self.chain.samples.inputs
        sets = [at_size(spec, inputs, size) for size in range(1, spec.sizes)]
        answers = [self.chain.reference(f"size-{n}", found) for n, found in enumerate(sets, 1)]
        return [Set(RESIZED, "stress", *both) for both in zip(sets, answers, strict=True)]

    def _made_up(self) -> list[tuple[str, Bearable]]:
        """Contrast set and draws, without what the reference does not stand by."""
        spec, ranges = self.chain.spec, self.chain.ranges
        names = [f"draw {n}" for n in range(1, DRAWN + 1)]
        return [
            ("contrast", bearable(self.chain, "contrast", *contrast_set(spec, ranges))),
            ("drawn", bearable(self.chain, "textures", names, drawn(spec, ranges))),
        ]
