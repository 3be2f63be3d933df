"""Which inputs the twin is asked for again, how often, and what follows: by stand-ins for twin and comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.bounds import CONFIDENCE
from conformance.compare import ANYTHING, Comparison, Figure, Grid, OutputComparison, Scale
from conformance.noise import SAFE, Noise
from engines.model.bundled import find_model
from engines.model.spec import OutputSpec
from engines.model.toml import load_model
from engines.variant import Variant
from trial import judged
from trial.furthest import FURTHEST
from trial.judged import NEAR, SETTLED, compared, compared_by
from trial.outputs import Outputs
from trial.own_noise import DOUBTED_RUNS, RUNS
from trial.rules import Rule

FP16, INT8 = Variant("onnx", "fp16"), Variant("onnx", "int8")
COUNT = 60
GRIDS = {"a": Grid(0.5, 0.0, 1.0)}
FINE, SLOPE = Figure("max", 1.0, 1.0), Figure("slope", 9.0, 1.0)
FEW, MANY = (RUNS, CONFIDENCE), (DOUBTED_RUNS, CONFIDENCE)


def found(*figures, **others):
    """Verdict of these figures on the first output, and of others by output."""
    outputs = {"a": figures, **others}
    return Comparison(
        tuple(OutputComparison(n, "values", COUNT, f, (0,), 0.0, 0.0, (), 4.0) for n, f in outputs.items()), (), COUNT
    )


def beyond(times):
    """Verdict that so many times what is allowed is needed; 0.25 of the largest answer is."""
    return found(Figure("max", 0.25 * times, 0.25))


def noise(moved, precision="fp16", *, single=True):
    """Noise of runs that move these inputs by shares of the largest answer."""
    seen = np.tile(np.asarray(moved, np.float64), (RUNS, 1))
    return Noise(
        precision, {"a": "values"}, {"a": np.zeros((len(moved), 3))}, (), {"a": {}}, {"a": {"max": seen}}, single
    )


class Play:
    """What the judge asks, where comparisons and the twin's answers come one after the other as written down."""

    def __init__(self, monkeypatch, kind, rule, comparisons, told=(), moved=None, second=None):
        outputs = (
            OutputSpec("a", ("batch", 3), "float32", kind, "a"),
            *(() if second is None else (OutputSpec("b", ("batch", 3), "float32", kind, "b"),)),
            OutputSpec("c", (2,), "float32", "constant", "c"),
        )
        spec = replace(load_model(find_model("digits_vgg")), name="mine", path=Path("mine.toml"), outputs=outputs)
        self.chain, self.rule = SimpleNamespace(spec=spec), rule
        self.comparisons, self.told = list(comparisons), list(told)
        self.compared, self.asked, self.ruled = [], [], []
        reference = {"a": np.tile(np.float32([0.5, 0.499, 0.001]), (COUNT, 1)), "c": np.float32([1, 2])}
        if second is not None:
            reference["b"] = np.zeros((COUNT, 3), np.float32)
        actual = {name: array.copy() for name, array in reference.items()}
        if second is not None:
            actual["b"][:, 1] = second
        actual["a"][:, 0] += np.asarray(np.linspace(0.2, 0, COUNT) if moved is None else moved, np.float32)
        self.given = Outputs({"x": np.arange(COUNT)[:, None]}, actual, reference)
        monkeypatch.setattr(judged, "rule_of", lambda *words: self.ruled.append(words) or rule)
        monkeypatch.setattr(judged, "compare_by", self.compare)
        monkeypatch.setattr(judged, "noise_at", self.ask)

    def compare(self, spec, given, rule, grids):
        """Give the next verdict, and remember by what."""
        assert spec is self.chain.spec
        assert grids is GRIDS
        same = np.flatnonzero((given.actual["a"] == given.reference["a"]).all(axis=1))
        self.compared.append((same.tolist(), rule))
        return self.comparisons.pop(0)

    def ask(self, chain, noise, given, place, *asked):
        """Give the twin's next answer, and remember what it was asked."""
        assert chain is self.chain
        assert noise.precision == self.rule.noise.precision
        assert "c" not in given.reference
        self.asked.append((given.inputs["x"][:, 0].tolist(), place, *asked))
        answer = self.told.pop(0)
        return answer(len(given.inputs["x"])) if callable(answer) else answer

    def judge(self, variant=FP16, kind="stress", place="there"):
        """Rule and verdict; all that was written down was asked for."""
        rule, comparison = compared_by(self.chain, variant, kind, self.given, GRIDS, place)
        assert self.ruled == [(self.chain, variant, kind, COUNT)]
        assert (self.comparisons, self.told) == ([], [])
        return rule, comparison


def ruled(precision="fp16", *, single=True):
    """Rule by a twin that was run elsewhere."""
    return Rule(ANYTHING, {"a": Scale(4.0, 1.0)}, noise=noise([0.0] * 8, precision, single=single), why="the row")


def still(count):
    """The twin moves nothing where it is asked."""
    return noise([0.0] * count)


def calm(count):
    """The same of real samples, which tell nothing of made-up ones, however far the twin moves them."""
    return noise([0.9] * count, single=False)


FIRST = list(range(FURTHEST))
"""Samples that are furthest off are the first ones."""


def test_nothing_is_asked_without_a_twin_or_of_what_is_wrong_by_itself(monkeypatch):
    """A verdict by the row alone stands, and so does one on outputs that cannot be compared, or that pass."""
    alone = replace(ruled(), noise=None)
    broken = replace(beyond(9.0), problems=("NaN",))
    for rule, verdict in ((alone, beyond(9.0)), (alone, broken), (ruled(), broken), (ruled(), found(FINE))):
        play = Play(monkeypatch, "values", rule, [verdict])
        assert play.judge() == (rule, verdict)
        assert play.asked == []


@pytest.mark.parametrize(("place", "at"), [("", ""), ("there", "there.furthest-0")])
def test_real_samples_are_asked_for_once_where_they_are_furthest_off(monkeypatch, place, at):
    """They are judged by the twin there as well; none is spared, and what is beyond by a little is not doubted."""
    play = Play(monkeypatch, "values", ruled(single=False), [beyond(9.0), beyond(1.5)], [calm])
    rule, comparison = play.judge(kind="samples", place=place)
    assert play.asked == [(FIRST, at, *FEW)]
    assert comparison == beyond(1.5)
    (_, first), (same, second) = play.compared
    assert (first.noise.others, second.noise.others.samples) == (None, FURTHEST)
    assert (same, rule.spared, rule.why) == ([COUNT - 1], (), "the row")
    assert rule.noise.others is second.noise.others


def test_a_slope_alone_is_asked_for_by_many_runs_where_it_is_made(monkeypatch):
    """At once, also at the samples that make it what it is; or after few runs, where nothing else is beyond by then."""
    moved = np.linspace(0.2, 0, COUNT)
    for verdicts, asked in (
        ([found(SLOPE, FINE), found(SLOPE, FINE)], [MANY]),
        ([beyond(9.0), found(SLOPE, FINE), found(FINE)], [FEW, MANY]),
    ):
        play = Play(monkeypatch, "probabilities", ruled(single=False), verdicts, [calm] * len(asked), moved)
        play.given.actual["a"][50, 2] = 0.0001
        _, comparison = play.judge(kind="samples")
        assert comparison == verdicts[-1]
        assert [tuple(words[2:]) for words in play.asked] == asked
        assert [words[1] for words in play.asked] == [f"there.furthest-{turn}" for turn in range(len(asked))]
        assert [50 in words[0] for words in play.asked] == [of == MANY for of in asked]
        assert all(set(FIRST) <= set(words[0]) for words in play.asked)


WIDE = Figure("mean", 1.5, 1.0)
LITTLE = {
    "those that are": (beyond(1.5), None, [0, 1, 2]),
    "those of any output": (found(*beyond(1.5).outputs[0].figures, b=(Figure("max", 1.5, 1.0),)), 5, [0, 1, 2, 5]),
    "a constant has none": (found(*beyond(1.5).outputs[0].figures, c=(Figure("max", 9.0, 9.0),)), None, [0, 1, 2]),
    "all where none is": (found(WIDE, Figure("max", 9.0, 9.0)), None, FIRST),
    "all where no difference is judged": (found(WIDE), None, FIRST),
}


@pytest.mark.parametrize("what", LITTLE)
def test_made_up_inputs_that_are_a_little_beyond_are_asked_for_by_many_runs(monkeypatch, what):
    """Those alone that differ by more than a quarter of the largest answer, by the limit of nearly all runs; once.

    One that differs by just that is allowed to.
    """
    verdict, other, at = LITTLE[what]
    moved = np.where(np.arange(COUNT) < 3, 1.5, np.linspace(0.5, 0, COUNT))
    moved[3] = 1.0
    second = None if other is None else np.where(np.arange(COUNT) == other, 1.5, 0.0)
    play = Play(monkeypatch, "values", ruled(), [verdict] * 3, [still, still], moved, second)
    rule, comparison = play.judge()
    assert play.asked == [
        (FIRST, "there.furthest-0", *FEW),
        (at, "there.furthest-1", DOUBTED_RUNS, SAFE),
    ]
    assert (comparison, rule.noise.others.samples, rule.spared) == (verdict, len(at), ())


def test_made_up_inputs_that_are_twice_beyond_are_not_doubted(monkeypatch):
    """A little is less than that; a slope alone is doubted however far it is beyond."""
    play = Play(monkeypatch, "values", ruled(), [beyond(9.0), beyond(NEAR)], [still])
    assert play.judge()[1] == beyond(NEAR)
    assert len(play.asked) == 1


def some(count):
    """Numbers 2 and 5 are answered by rounding."""
    return noise([0.9 if at in {2, 5} else 0.0 for at in range(count)])


@pytest.mark.parametrize("times", [9.0, 1.5])
def test_what_the_twin_answers_by_rounding_is_spared_and_the_next_ones_are_asked(monkeypatch, times):
    """As long as any is spared the rest is asked for by few runs."""
    verdicts = [beyond(times), beyond(times), found(FINE)]
    play = Play(monkeypatch, "values", ruled(), verdicts, [some, still])
    rule, comparison = play.judge()
    assert comparison == found(FINE)
    assert repr(rule.spared) == "(2, 5)"
    rest = [at for at in range(FURTHEST + 2) if at not in {2, 5}]
    assert play.asked == [(FIRST, "there.furthest-0", *FEW), (rest, "there.furthest-1", *FEW)]
    assert [same for same, _ in play.compared] == [[COUNT - 1], [2, 5, COUNT - 1], [2, 5, COUNT - 1]]


def test_an_input_is_spared_but_once(monkeypatch):
    """Where nothing else differs it may be asked for again, and is answered by rounding again."""
    moved = np.where(np.isin(np.arange(COUNT), [2, 5]), 1.5, 0.0)
    play = Play(monkeypatch, "values", ruled(), [beyond(9.0)] * 3, [some, some], moved)
    rule, comparison = play.judge()
    assert (comparison, rule.spared) == (beyond(9.0), (2, 5))
    assert [words[0] for words in play.asked] == [FIRST, FIRST]


def int8(moved):
    """Noise of INT8 where it is asked."""
    return noise(moved, "int8-symmetric")


@pytest.mark.parametrize("place", ["", "there"])
def test_in_int8_each_input_is_asked_for_that_is_moved_by_half_of_the_largest_answer(monkeypatch, place):
    """A few runs show most that are answered by rounding; many are asked for the others, until one of them stands."""
    moved = np.zeros(COUNT)
    moved[:30], moved[40] = 3.0, 2.0
    told = [int8([0.9] * FURTHEST), int8([0.9, 0.1, 0.1, 0.9, 0.2, 0.2]), int8([0.4, 0.1, 0.05, 0.35])]
    rule = ruled("int8-symmetric")
    play = Play(monkeypatch, "values", rule, [found(FINE), beyond(2.0)], told, moved)
    last = told[-1]
    by, comparison = play.judge(INT8, place=place)
    names = [place and f"there.{name}" for name in ("settled-0", "settled-1", "doubted-1")]
    assert play.asked == [
        (FIRST, names[0]),
        ([24, 25, 26, 27, 28, 29], names[1]),
        ([25, 26, 28, 29], names[2], DOUBTED_RUNS),
    ]
    assert comparison == beyond(2.0)
    assert by.spared == (*range(26), 27, 29)
    assert by.why == f"{SETTLED}; the row"
    same, second = play.compared[1]
    assert same == [at for at in range(COUNT) if at not in {26, 28}]
    assert second.noise.limits == last.where_settled(np.array([False, True, True, False])).limits
    assert second.noise.limits["a"]["max"].seen == (0.1,) * RUNS


def test_in_int8_an_input_that_stands_is_not_spared(monkeypatch):
    """What no run moves fails by itself; nothing was answered by rounding."""
    moved = np.where(np.arange(COUNT) == 7, 3.0, 0.0)
    told = [int8([0.1]), int8([0.1])]
    play = Play(monkeypatch, "values", ruled("int8-symmetric"), [found(FINE), beyond(2.0)], told, moved)
    rule, comparison = play.judge(INT8)
    assert [words[0] for words in play.asked] == [[7], [7]]
    assert (rule.spared, comparison) == ((), beyond(2.0))


def test_in_int8_the_rest_is_asked_for_after_what_was_furthest_off(monkeypatch):
    """What passes by the twin where it is furthest off may have passed by an input that is answered by rounding."""
    moved = np.where(np.arange(COUNT) == 7, 3.0, 0.0)
    told = [int8([0.0] * FURTHEST), int8([0.9])]
    play = Play(monkeypatch, "values", ruled("int8-symmetric"), [beyond(9.0), found(FINE)], told, moved)
    rule, _ = play.judge(INT8)
    assert play.asked[1] == ([7], "there.settled-0")
    assert rule.spared == (7,)


def test_without_a_place_nothing_is_kept(monkeypatch):
    """Who names none has the twin asked without one; grids are those of the runner."""
    asked = []
    monkeypatch.setattr(judged, "compared_by", lambda *words: asked.append(words))
    runner = SimpleNamespace(grids={"a": (0.5, 0.0, 1.0)}, variant=FP16)
    compared("chain", runner, "stress", "given")
    compared("chain", runner, "stress", "given", "there")
    assert asked == [("chain", FP16, "stress", "given", GRIDS, place) for place in ("", "there")]


def test_without_a_place_the_twin_is_asked_without_one(monkeypatch):
    """The same where the engine is not at hand."""
    play = Play(monkeypatch, "values", ruled(), [beyond(9.0), found(FINE)], [still])
    compared_by(play.chain, FP16, "stress", play.given, GRIDS)
    assert [words[1] for words in play.asked] == [""]
