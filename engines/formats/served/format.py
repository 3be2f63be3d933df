"""The format ``served``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.base import Format
from engines.formats.served import address
from engines.store import Recipe
from engines.tools import missing
from engines.variant import Variant

if TYPE_CHECKING:
    from engines.formats.base import Job, Keep
    from engines.model.spec import ModelSpec
    from engines.runner import Runner

PACKAGES = {"tritonclient": ("tritonclient",)}
"""What asks servers."""


class ServedFormat(Format):
    """Models that a server has: one variant for each ``--served``, judged by the rows of ONNX at its precision.

    Nothing is made: the artifact is the address, and what the server says of itself is read when it is opened.
    """

    name = "served"
    label = "tritonclient"
    precisions = address.PRECISIONS
    file = "address.json"
    packages = PACKAGES
    rows = "onnx"
    options = (address.OPTION,)
    elsewhere = True

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why no server can be asked here; None where one can."""
        return missing("tritonclient")

    def variants(self, spec: ModelSpec, precisions: Sequence[str]) -> list[Variant]:
        """One for each address that was given, whatever precisions the description names."""
        return [
            Variant(self.name, found.precision, instance=name.removeprefix(f"{found.precision}-"))
            for name, found in self._addresses(spec).items()
        ]

    def yardstick(self, variant: Variant) -> Variant | None:
        """None: nothing says that two servers are to be compared."""
        return None

    def source(self, precision: str) -> Variant | None:
        """None: it is made elsewhere."""
        return None

    def recipe(self, job: Job) -> Recipe | None:
        """The address."""
        return Recipe({"address": json.dumps(self._described(job.spec, job.variant), sort_keys=True)})

    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Note the address; no server is asked."""
        described = self._described(job.spec, job.variant)
        (folder / self.file).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        return described

    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner that asks the server, and one beside it over shared memory where the server takes it."""
        from engines.formats.served.runner import opened

        return opened(spec, variant, self._address(spec, variant), batch_size)

    def _addresses(self, spec: ModelSpec) -> dict[str, address.Address]:
        return address.named(address.OPTION.values(spec))

    def _address(self, spec: ModelSpec, variant: Variant) -> address.Address:
        return self._addresses(spec)[f"{variant.precision}-{variant.instance}"]

    def _described(self, spec: ModelSpec, variant: Variant) -> dict[str, Any]:
        return dict(vars(self._address(spec, variant)))


FORMAT = ServedFormat()
