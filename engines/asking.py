"""Asking an engine what it may have answered before: to the same batch, unchanged in all that its bits hang on.

What it answered in this run, or in an earlier one as its book has it, is given again. Before anything of an earlier run
counts, one of these batches is run and compared bit for bit: a version says little of a broken installation.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.book import MOST_BYTES, Book, size
from engines.errors import EngineError
from engines.late import LateRunner
from engines.model.samples import content_hash
from engines.outputs import joined, taken
from engines.runner import Runner
from engines.side_by_side import side_by_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.runner import Arrays

    Outputs = Mapping[str, NDArray[Any]]

ASKED_AGAIN = 1 / 4
"""The share of calls with stored answers in which one batch is run again, behind the first one that always is."""

CHANCE = random.SystemRandom().random
"""Hypothesis seeds the other generator, and it would be the same batches in every run."""

MEMORY_BYTES = 1 << 24
"""How much is remembered of what one engine answered in a run; what is beyond that is run again."""


class StaleAnswersError(EngineError):
    """A runtime no longer gives what it has answered, and tests before were judged by that.

    It is no RunnerError: that an engine stops at some inputs may be no fault of its own, and this always is one.
    """


class Answer(NamedTuple):
    """Outputs of a batch, and whether an earlier run has them from the engine."""

    outputs: Outputs
    stored: bool


@dataclass
class Remembered:
    """What one engine answered in this process, by the hash of the batch.

    ``taken`` counts the batches whose answers were stored; ``checked`` says that one of these was run again,
    ``distrusted`` that it differed.
    """

    batches: dict[str, Answer] = field(default_factory=dict)
    taken: int = 0
    checked: bool = False
    distrusted: bool = False
    room: int = MEMORY_BYTES

    def add(self, key: str, answer: Answer) -> None:
        """Remember an answer, while there is room for it."""
        if key not in self.batches and size(answer.outputs) <= self.room:
            self.batches[key] = answer
            self.room -= size(answer.outputs)


@dataclass
class Tally:
    """How many samples' answers came from the store, and how many were run for."""

    stored: int = 0
    run: int = 0


class AskedRunner(Runner):
    """Answers as ``engine`` does, batch by batch: by what is ``remembered``, by its ``book``, or by running it.

    Where the engine no longer answers what its book says, ``forget`` removes all that is stored of it, and ``differs``
    is told in a sentence. Raises as the engine does, and StaleAnswersError where that comes too late: stored answers
    were given before. ``chance`` gives numbers from 0 to 1. ``threads`` is how many copies of an engine that uses one
    core may run side by side; whoever closes it closes these.
    """

    def __init__(
        self,
        engine: Runner,
        book: Book,
        remembered: Remembered,
        tally: Tally,
        differs: Callable[[str], None],
        forget: Callable[[], None],
        chance: Callable[[], float] = CHANCE,
    ) -> None:
        super().__init__(engine.spec, engine.variant, engine.batch_size)
        self.engine, self.book, self.tally = engine, book, tally
        self.way, self.advice, self.settings = engine.way, engine.advice, engine.settings
        self.grids, self.steps = engine.grids, engine.steps
        self.threads = 1
        self._copies: list[Runner] = []
        self._remembered, self._differs, self._forget, self._chance = remembered, differs, forget, chance

    @property
    def anew(self) -> Runner:
        """The engine itself."""
        return self.engine

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Answer all samples, as every runner does."""
        batches = list(self._batches(inputs, self._check(inputs)))
        keys = [content_hash(batch) for batch in batches]
        known = self._known(keys)
        stored = [at for at, key in enumerate(keys) if key in known and known[key].stored]
        if stored and self._due():
            at = stored[int(self._chance() * len(stored))]
            if not self._still_answers(batches[at], known[keys[at]].outputs):
                known = self._known(keys)
        for start, stop in _runs([key not in known for key in keys]):
            rows = slice(start * self.batch_size, stop * self.batch_size)
            given = {name: array[rows] for name, array in inputs.items()}
            outputs = self._answered(given)
            count = len(next(iter(given.values())))
            if size(outputs) > MOST_BYTES or not self._whole(outputs, count):
                # Too much to be held twice, or to be judged as it is: no batch of it is remembered.
                self.tally.run += count
                return outputs if len(keys) == stop - start else self.engine(inputs)
            for at in range(start, stop):
                cut = slice((at - start) * self.batch_size, (at - start + 1) * self.batch_size)
                part = taken(self.spec, outputs, cut)
                known[keys[at]] = Answer({name: np.array(array) for name, array in part.items()}, stored=False)
        for key, batch in zip(keys, batches, strict=True):
            self._take_down(key, known[key], len(next(iter(batch.values()))))
        return joined(self.spec, [known[key].outputs for key in keys], f"{self.variant} of {self.spec.name}")

    def _answered(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The engine's answers; those to many batches by copies of it side by side, where it uses one core alone."""
        count = len(next(iter(inputs.values())))
        if count <= self.threads * self.batch_size:
            return self.engine(inputs)
        while len(self._copies) < self.threads - 1 and (copy := self.engine.copied()) is not None:
            self._copies.append(copy)
        if not self._copies:
            return self.engine(inputs)
        parts = side_by_side([self.engine, *self._copies], inputs)
        if any(part.keys() != {o.name for o in self.spec.outputs} for part in parts):
            return self.engine(inputs)
        return joined(self.spec, parts, f"{self.variant} of {self.spec.name}")

    def _whole(self, outputs: Outputs, count: int) -> bool:
        """Whether there is an answer to each sample; what is not is judged as it is, and not remembered."""
        if outputs.keys() != {o.name for o in self.spec.outputs}:
            return False
        return all(a.shape[:1] == (count,) for name, a in outputs.items() if name not in self.spec.constants)

    def _known(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Answers that need no run, by the hash of their batch."""
        found = {}
        for key in keys:
            if key in self._remembered.batches:
                found[key] = self._remembered.batches[key]
            elif not self._remembered.distrusted and (outputs := self.book.get(key)) is not None:
                found[key] = Answer(outputs, stored=True)
        return found

    def _take_down(self, key: str, answer: Answer, samples: int) -> None:
        self._remembered.add(key, answer)
        self.book.keep(key, answer.outputs)
        if answer.stored:
            self._remembered.taken += 1
            self.tally.stored += samples
        else:
            self.tally.run += samples

    def _due(self) -> bool:
        """Whether one of the stored answers is to be asked for again; not of an engine that is not open, for that."""
        if isinstance(self.engine, LateRunner) and self.engine.waits:
            return False
        return not self._remembered.checked or self._chance() < ASKED_AGAIN

    def _still_answers(self, batch: dict[str, NDArray[Any]], stored: Outputs) -> bool:
        """Whether the engine gives the stored answers, bit for bit; where not, none of them counts any more."""
        self._remembered.checked = True
        if (apart := different(self.engine(batch), stored)) is None:
            return True
        self._remembered.distrusted = True
        self._remembered.batches = {k: a for k, a in self._remembered.batches.items() if not a.stored}
        self.book.forget()
        self._forget()
        way = f" by {self.way}" if self.way else ""
        told = f"{self.variant}{way} no longer gives its stored answers to the same batch: {apart}"
        if self._remembered.taken:
            raise StaleAnswersError(
                f"{self.spec.name}: {told}; tests before this one were judged by such answers, which are removed now: "
                "look for what has changed in the installation that its version does not tell, and run again"
            )
        self._differs(f"{told}; it was run anew")
        return False

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self.engine(inputs)

    def _release(self) -> None:
        # The engine itself is somebody else's.
        for copy in self._copies:
            copy.close()


def _runs(which: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Starts and ends of what is true in a row."""
    at = 0
    for value, group in itertools.groupby(which):
        count = len(list(group))
        if value:
            yield at, at + count
        at += count


def different(outputs: Outputs, stored: Outputs) -> str | None:
    """What differs between answers, in words; None where they are the same bit for bit."""
    for name, array in outputs.items():
        other = stored.get(name)
        if other is None or (array.shape, array.dtype) != (other.shape, other.dtype):
            was = "missing" if other is None else f"{other.dtype} {other.shape}"
            return f"output {name!r} is {array.dtype} {array.shape}, was {was}"
        if np.ascontiguousarray(array).tobytes() != np.ascontiguousarray(other).tobytes():
            apart = np.abs(array.astype(np.float64) - other.astype(np.float64)).max(initial=0.0)
            return f"output {name!r} differs by up to {apart:.2g}"
    return None if outputs.keys() == stored.keys() else f"outputs are {sorted(outputs)}, were {sorted(stored)}"
