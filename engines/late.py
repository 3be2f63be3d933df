"""A runner whose engine is opened where it first has to run: importing a framework takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engines.runner import Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.variant import Variant


class LateRunner(Runner):
    """Runs what ``open_`` opens, once it is asked for anything; what ``open_`` raises comes through then.

    ``kind`` is the class of the runner that is opened. It is known of such engines that no output is an integer inside.
    """

    def __init__(
        self, spec: ModelSpec, variant: Variant, batch_size: int | None, kind: type[Runner], open_: Callable[[], Runner]
    ) -> None:
        super().__init__(spec, variant, batch_size)
        self.kind, self._open = kind, open_
        self._opened: Runner | None = None

    @property
    def waits(self) -> bool:
        """Whether the engine is not open yet."""
        return self._opened is None

    def open(self) -> None:
        """Open the engine now, where it is not open yet."""
        if self._opened is None:
            self._opened = self._open()
            self.settings = self._opened.settings

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.open()
        assert self._opened is not None
        return self._opened(inputs)

    def _release(self) -> None:
        if self._opened is not None:
            self._opened.close()
