"""What a variant is judged by, without any engine: tolerances, reasons, magnitudes, and what a twin is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.bounds import CONFIDENCE
from conformance.compare import ANY, ANYTHING, LOST_SPREAD, Scale, Tolerance
from conformance.noise import SAFE, noise_of
from conformance.tolerances import ToleranceError
from engines.chain import Chain
from engines.errors import EngineError, StoreUnusableError
from engines.formats import registry
from engines.model.bundled import find_model
from engines.model.spec import OutputSpec
from engines.model.toml import load_model
from engines.store import Artifact
from engines.variant import REFERENCE, Variant
from trial import own_noise, rules
from trial.outputs import Outputs
from trial.own_noise import DOUBTED_RUNS, LEAST_DRAWN, MADE_UP, RUNS, SEED, noise_at, noise_in, own_inputs, precisions
from trial.rows import row
from trial.rules import EXACT, HALF, Rule, allowed_sum, compare_by, rule_of
from trial.scales import magnitude, output_scales
from trial.twin import PRECISIONS, TwinError

FP32, FP16, INT8 = Variant("onnx", "fp32"), Variant("onnx", "fp16"), Variant("onnx", "int8")
BUNDLED = load_model(find_model("digits_vgg"))
SAMPLES = {"x": np.arange(12, dtype=np.float32)[:, None]}
SHARES = np.tile(np.float32([[0.7, 0.2, 0.1]]), (12, 1))


def spec_of(**kinds):
    """Description of a model of one's own, whose outputs hold this; scores decide at 0.3."""
    outputs = tuple(OutputSpec(name, ("batch", 3), "float32", kind, name, 0.3) for name, kind in kinds.items())
    return replace(BUNDLED, name="mine", path=Path("mine.toml"), outputs=outputs)


def own_tolerances(**rows):
    """Description of a model of probabilities whose file has a row of its own for ONNX in FP16."""
    return replace(spec_of(p="probabilities"), tolerances={"onnx-fp16": {"why": "measured", **rows}})


class Standing(Chain):
    """Chain of a model that no engine runs: it tells what its reference was asked."""

    @property
    def samples(self):
        """The samples of all models here."""
        return SimpleNamespace(inputs=SAMPLES)

    def from_brought(self, variant):
        """Whether the format's file was brought."""
        return variant.format in self.brought

    def brought_file(self, variant):
        """The file itself."""
        return self.brought.get(variant.format)

    def reference(self, name, inputs):
        """Tell what was asked in place of an answer."""
        values = {"v": np.float32([[1, -4], [2, 3]]), "c": np.float32([1, 2])}
        return {"asked": (name, inputs), "p": SHARES, **values}


def standing(spec=None, **keys):
    """Chain of a model, of probabilities where nothing else is said."""
    return Standing(spec or spec_of(p="probabilities"), SimpleNamespace(), None, **keys)


def noise_on(samples, precision="fp16", single=False):
    """Noise of runs that move the first share of so many samples by up to a hundredth."""
    runs = [SHARES[:samples] + np.float32([0.01, -0.01, 0]) * np.float32(k / 8) for k in range(1, 9)]
    return noise_of({"p": SHARES[:samples]}, [{"p": r} for r in runs], {"p": "probabilities"}, precision, single=single)


@pytest.fixture
def without_twin(monkeypatch):
    """No model has a twin."""

    def refuse(*_):
        raise TwinError("none")

    monkeypatch.setattr(rules, "own_noise", refuse)


@pytest.fixture
def with_twin(monkeypatch):
    """The twin of each model was run on four samples."""
    monkeypatch.setattr(rules, "own_noise", lambda *_: noise_on(4))


# Tolerances, and why.


@pytest.mark.usefixtures("without_twin")
def test_without_a_twin_the_row_decides_and_says_so():
    """FP32 loses next to no variance and no integer, whatever its row says; the reason names what was missing."""
    for variant, spread, integers in ((FP32, EXACT, 0.0), (FP16, LOST_SPREAD, 1.0)):
        rule, own = rule_of(standing(), variant, "samples"), row(str(variant), "samples").tolerance
        expected = replace(own, spread=spread, integers=integers, sum=allowed_sum(standing(), variant, "samples"))
        assert rule.tolerance == expected
        assert (rule.noise, rule.untold, rule.first) == (None, "none", {})
        assert rule.why == f"{own.why}; by this row of the table alone, for none"


OWN = {"max": [0.5, 0.2], "sum": [3e-5, 2e-5]}


@pytest.mark.usefixtures("with_twin")
def test_an_own_tolerance_wins_for_its_variant_and_kind_of_input_alone():
    """The model's own file decides what it has a row for; of other inputs, and other variants, the twin does."""
    chain = standing(own_tolerances(samples=OWN))
    rule = rule_of(chain, FP16, "samples")
    assert (rule.tolerance.max, rule.tolerance.sum, rule.noise) == (0.5, 3e-5, None)
    assert rule.why == "measured (mine.toml: an own tolerance, which wins over what the model's twin tells)"
    for variant, kind in ((FP16, "stress"), (FP32, "samples")):
        other, usual = rule_of(chain, variant, kind), rule_of(standing(), variant, kind)
        assert other.noise is not None
        assert (other.tolerance, other.why) == (usual.tolerance, usual.why)


@pytest.mark.usefixtures("with_twin")
def test_an_own_tolerance_under_stress_is_no_ceiling_of_samples():
    """What nobody measured on samples has the next coarser precision's row for a ceiling, as any model of one's own."""
    chain = standing(own_tolerances(stress={"max": [0.5, 0.2]}))
    rule, coarser = rule_of(chain, FP16, "samples"), row("onnx-int8", "samples").tolerance
    assert rule.tolerance == replace(coarser, sum=HALF, why="what onnx-int8 has in its row")
    assert rule.why == f"{noise_on(4).why}; at most what onnx-int8 has in its row"
    assert {name: array.tolist() for name, array in rule.first.items()} == {"x": SAMPLES["x"][:4].tolist()}


def ceiling_of(variant, kind):
    """What a variant of a model of one's own may need at most, worked out from the rows."""
    own, known = row(str(variant), kind).tolerance, allowed_sum(standing(), variant, kind)
    integers, spread = (0.0, EXACT) if variant == FP32 else (1.0, LOST_SPREAD)
    if kind == "stress":
        return replace(ANYTHING, sum=known, integers=integers, spread=ANY if variant == INT8 else LOST_SPREAD)
    if variant == INT8:
        wide = {"max": 1.0, "mean": 4 * own.mean, "kl": 16 * own.kl, "margin": 1.0, "flips": 4 * own.flips}
        return replace(own, **wide, why="4 times the row of onnx-int8")
    name = {FP32: "onnx-fp16", FP16: "onnx-int8"}[variant]
    found, why = row(name, kind).tolerance, f"what {name} has in its row"
    return replace(found, sum=known, integers=integers, spread=spread, why=why)


@pytest.mark.parametrize("variant", [FP32, FP16, INT8], ids=str)
@pytest.mark.usefixtures("with_twin")
def test_another_model_may_need_what_the_next_coarser_precision_has(variant):
    """INT8 may need four times its own row; made-up inputs have no ceiling, and are no samples of the twin's."""
    for kind, first in (("samples", {"x": SAMPLES["x"][:4].tolist()}), ("stress", {})):
        rule = rule_of(standing(), variant, kind)
        assert rule.tolerance == ceiling_of(variant, kind)
        assert {name: array.tolist() for name, array in rule.first.items()} == first


@pytest.mark.usefixtures("with_twin")
def test_the_row_of_a_bundled_model_is_its_ceiling():
    """It was measured on that very model; of an engine that was brought on samples alone."""
    for kind, brought in (("samples", {}), ("stress", {}), ("samples", {"onnx": "theirs.onnx"})):
        rule, own = rule_of(standing(BUNDLED, brought=brought), FP16, kind), row("onnx-fp16", kind).tolerance
        assert rule.tolerance == replace(own, why=f"the row of onnx-fp16: {own.why}")
        assert rule.why == f"{noise_on(4).why}; at most the row of onnx-fp16: {own.why}"
    rule = rule_of(standing(BUNDLED, brought={"onnx": "theirs.onnx"}), FP16, "stress")
    assert (rule.tolerance.max, rule.tolerance.sum) == (ANY, row("onnx-fp16", "stress").tolerance.sum)
    assert rule.why == f"{noise_on(4).why}; these inputs are no samples, and have no ceiling"


@pytest.mark.parametrize("ask", [rule_of, allowed_sum])
def test_a_mistake_in_an_own_tolerance_names_the_file(ask):
    """Whoever is asked first tells where to look."""
    chain = standing(own_tolerances(samples={"max": [0.5]}))
    with pytest.raises(ToleranceError, match=r"^mine\.toml: tolerances\.onnx-fp16\.samples\.max is \[0\.5\]; "):
        ask(chain, FP16, "samples")


def test_probabilities_stored_in_fp16_sum_to_one_within_half_a_step():
    """What was measured, on a bundled model or on one's own, keeps its row; so does what is stored in FP32."""
    usual, own = spec_of(p="probabilities"), own_tolerances(samples=OWN)
    assert row("onnx-fp16", "samples").tolerance.sum < HALF == 2.0**-11
    for spec, variant, kind, expected in (
        (usual, FP16, "samples", HALF),
        (usual, FP32, "samples", row("onnx-fp32", "samples").tolerance.sum),
        (BUNDLED, FP16, "samples", row("onnx-fp16", "samples").tolerance.sum),
        (own, FP16, "samples", 3e-5),
        (own, FP16, "stress", HALF),
    ):
        assert allowed_sum(standing(spec), variant, kind) == expected, (variant, kind)


# What is tried for a cause.


@pytest.mark.usefixtures("without_twin")
def test_the_causes_of_a_failure_are_looked_for_in_this_variant(monkeypatch):
    """Nothing is looked for before a failure; then the chain's own files, and the reference on other inputs."""
    asked = []
    for name in ("other_windows", "other_parts", "swamped"):
        monkeypatch.setattr(rules, name, lambda *words, name=name: asked.append((name, *words)) or name)
    chain, inputs = standing(), {"x": np.zeros(1)}
    rule = rule_of(chain, FP16, "samples")
    assert asked == []
    assert (rule.windows(), rule.parts(), rule.swamped()) == ("other_windows", "other_parts", "swamped")
    assert asked == [(name, chain, FP16) for name in ("other_windows", "other_parts", "swamped")]
    assert rule.ask(inputs)["asked"] == ("tried", inputs)


@pytest.mark.parametrize(
    ("variant", "brought", "converted"),
    [
        (FP16, {}, True),
        (FP16, {"onnx": "theirs.onnx"}, False),
        (Variant("cpp8", "fp16"), {}, False),
        (Variant("served", "fp16"), {}, False),
    ],
)
@pytest.mark.usefixtures("without_twin")
def test_only_what_the_chain_made_and_feeds_was_converted_by_it(variant, brought, converted):
    """A brought file, a program of its own, and what a server has are others' work."""
    assert rule_of(standing(brought=brought), variant, "samples").converted is converted


# Which samples the noise is told on, and how many there are.


def test_samples_are_aligned_that_start_with_those_of_the_twin():
    """All inputs have to be there and the same; without any there is nothing to be aligned with."""
    few = {"x": np.arange(3.0), "y": np.ones(3)}
    rule = Rule(ANYTHING, {}, first=few)
    assert rule.aligned({"x": np.arange(9.0), "y": np.ones(9)})
    assert not rule.aligned({"x": np.arange(9.0), "y": np.zeros(9)})
    assert not rule.aligned({"x": np.arange(9.0)})
    assert not Rule(ANYTHING, {}).aligned({"x": np.arange(9.0)})


def test_limits_are_asked_for_as_many_samples_as_there_are(monkeypatch):
    """A constant has one answer, which is no count of samples; a model of constants alone is compared as well."""
    asked, ask = [], rules.asked_of
    monkeypatch.setattr(rules, "asked_of", lambda spec, rule, count: asked.append(count) or ask(spec, rule, count))
    answers = {"p": SHARES, "c": np.float32([1, 2])}
    for kinds, names in (({"p": "probabilities", "c": "constant"}, "pc"), ({"c": "constant"}, "c")):
        given = Outputs(SAMPLES, {n: answers[n] for n in names}, {n: answers[n] for n in names})
        assert compare_by(spec_of(**kinds), given, Rule(ANYTHING, {}), {}).passed
    assert asked == [12, 1]


def test_evidence_is_judged_by_the_magnitudes_and_thresholds_of_the_model():
    """Values differ in the reference's own unit, and scores decide where the model says, unless they are close to it.

    Two scores of four are on the other side of 0.3. One of them was closer to it than what may differ anyway.
    """
    spec = spec_of(v="values", s="scores")
    reference = {"v": np.float32([[1], [2], [3], [4]]), "s": np.float32([[0.1], [0.29], [0.6], [0.45]])}
    actual = {"v": reference["v"] + np.float32(0.5), "s": np.float32([[0.35], [0.31], [0.6], [0.45]])}
    rule = Rule(Tolerance(max=0.02, mean=1, kl=1, margin=1, flips=1, sum=1), {"v": Scale(50.0, 50.0)})
    values, scores = compare_by(spec, Outputs(SAMPLES, actual, reference), rule, {}).outputs
    assert (values.figure("max").needed, values.unit) == (0.01, 50.0)
    assert scores.figure("flips").needed == 0.25
    assert [flip.sample for flip in scores.flips] == [0]


# Magnitudes.


def test_magnitudes_are_those_of_the_reference_on_the_samples():
    """Nothing is asked of a model whose outputs have a scale of their own."""
    asked = []

    class Told(Standing):
        """Keep what was asked."""

        def reference(self, name, inputs):
            """Remember it."""
            asked.append((name, inputs))
            return super().reference(name, inputs)

    own = Told(spec_of(p="probabilities", s="scores", n="integers"), SimpleNamespace(), None)
    assert output_scales(own) == {}
    assert asked == []
    both = Told(spec_of(p="probabilities", v="values"), SimpleNamespace(), None)
    assert output_scales(both) == {"v": Scale(4.0, 2.5)}
    assert asked == [("samples", SAMPLES)]


def test_differences_are_divided_by_the_largest_magnitude():
    """An output with a scale of its own is not divided, and neither is one that is zero everywhere."""
    scales = {"v": Scale(4.0, 2.5), "zero": Scale(0.0, 0.0)}
    assert [magnitude(scales, name) for name in ("v", "zero", "p")] == [4.0, 1.0, 1.0]


# What a twin is asked for.


class Known:
    """A format of which it is known how each precision computes, and that a brought file computes otherwise."""

    def artifact(self, variant):
        """Each has its own."""
        return variant

    def arithmetic(self, variant, spec, brought=None):
        """By its precision."""
        assert spec.name == "mine"
        known = {"fp32": "fp32", "fp16": "bf16", "other": "fp64", "again": "fp32"}
        return None if brought else known[variant.precision]


@pytest.fixture
def known(monkeypatch):
    """It is the only one."""
    monkeypatch.setattr(registry, "find", lambda name: {"onnx": Known()}[name])


@pytest.mark.usefixtures("known")
def test_noise_is_that_of_the_variants_own_arithmetic(monkeypatch):
    """What no twin computes like is refused in one line, which says whether it is the file that was brought."""
    asked = []
    monkeypatch.setattr(own_noise, "noise_in", lambda *words: asked.append(words) or "noise")
    chain = standing()
    assert own_noise.own_noise(chain, FP16, "stress") == "noise"
    assert asked == [(chain, "bf16", "stress")]
    twins = ", ".join(PRECISIONS)
    for brought, precision, what in (({"onnx": "theirs.onnx"}, "fp16", "this file"), ({}, "other", "it")):
        with pytest.raises(TwinError) as caught:
            own_noise.own_noise(standing(brought=brought), Variant("onnx", precision), "samples")
        assert str(caught.value) == f"onnx-{precision}: how {what} computes has no twin; those are {twins}"
    assert len(asked) == 1


@pytest.mark.usefixtures("known")
def test_all_precisions_of_a_model_are_told_once():
    """In the order of the variants, without the reference's own, and without those that no twin computes like."""
    chain = standing()
    vars(chain)["variants"] = (REFERENCE, *(Variant("onnx", p) for p in ("fp16", "other", "fp32", "again")))
    assert precisions(chain) == ("bf16", "fp32")


def test_noise_is_found_once_for_each_precision_kind_and_data_set(monkeypatch):
    """So is that there is none; another data set, or other outputs of the model, have another."""
    asked = []

    def find(chain, precision, kind):
        asked.append((precision, kind))
        if precision == "bf16":
            raise TwinError("unstable")
        return noise_on(4, precision, single=kind == "stress")

    monkeypatch.setattr(own_noise, "_found", find)
    chain = standing()
    for _ in range(2):
        assert noise_in(chain, "fp16", "samples").precision == "fp16"
        assert noise_in(chain, "fp32", "samples").precision == "fp32"
        assert noise_in(chain, "fp16", "stress").single
        with pytest.raises(TwinError, match=r"^unstable$"):
            noise_in(chain, "bf16", "samples")
    assert asked == [("fp16", "samples"), ("fp32", "samples"), ("fp16", "stress"), ("bf16", "samples")]
    noise_in(replace(chain, dataset=SimpleNamespace()), "fp16", "samples")
    noise_in(replace(chain, spec=spec_of(p="probabilities", q="values")), "fp16", "samples")
    assert asked[4:] == [("fp16", "samples")] * 2


def stored(monkeypatch, answer):
    """Let the store have this of a twin's runs; gives what it was asked for."""
    asked = []

    def artifact(*words):
        asked.append(words)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(own_noise, "_artifact", artifact)
    monkeypatch.setattr(own_noise, "_arrays", lambda found: found)
    return asked


def runs_of(noise, **more):
    """What the store has of runs."""
    runs = {f"{number}/{name}": array for number, run in enumerate(noise.runs) for name, array in run.items()}
    return {**runs, **{f"reference/{name}": array for name, array in noise.reference.items()}, **more}


def test_stored_runs_are_noise_of_the_outputs_that_have_a_rule(monkeypatch):
    """A constant has none, and integers have none under stress; where no output has one, that is said."""
    chain = standing(spec_of(p="probabilities", c="constant"))
    for kind in ("samples", "stress"):
        expected = noise_on(4, single=kind == "stress")
        asked = stored(monkeypatch, runs_of(expected))
        found = noise_in(chain, "fp16", kind)
        assert asked == [(chain, "fp16", kind)]
        assert (found.kinds, found.limits, found.single) == ({"p": "probabilities"}, expected.limits, kind == "stress")
    asked = stored(monkeypatch, {})
    integers = standing(spec_of(n="integers", c="constant"))
    with pytest.raises(TwinError, match=r"^mine: no output holds probabilities, scores, logits, values$"):
        noise_in(integers, "fp16", "stress")
    assert asked == []


def test_what_keeps_a_twin_from_being_made_is_told_in_one_line(monkeypatch):
    """But for a store that cannot be used, which is no property of the model."""
    stored(monkeypatch, EngineError("it cannot be built\nas the trace says"))
    with pytest.raises(TwinError) as caught:
        noise_in(standing(), "fp16", "samples")
    assert str(caught.value) == "mine: no twin: it cannot be built"
    stored(monkeypatch, StoreUnusableError("read-only"))
    with pytest.raises(StoreUnusableError, match=r"^read-only$"):
        noise_in(standing(), "fp16", "samples")


def test_a_twin_that_answers_every_made_up_input_by_rounding_tells_nothing(monkeypatch):
    """One line names model and precision."""
    runs = [{"p": np.roll(SHARES, k, axis=1)} for k in range(8)]
    unstable = noise_of({"p": SHARES}, runs, {"p": "probabilities"}, "fp16", single=True)
    stored(monkeypatch, runs_of(unstable))
    with pytest.raises(TwinError) as caught:
        noise_in(standing(), "fp16", "stress")
    assert str(caught.value) == "mine in fp16: the twin is unstable, it moves every made-up input's answer"


def test_a_twin_is_run_on_the_samples_or_on_few_made_up_inputs(monkeypatch):
    """Those are the contrast set and as many textures as make MADE_UP, LEAST_DRAWN at least."""
    inputs, answers = own_inputs(standing(), "samples")
    assert inputs is SAMPLES
    assert answers()["asked"] == ("samples", SAMPLES)
    asked = []
    monkeypatch.setattr(own_noise, "drawn", lambda *_: {"x": np.arange(100, 164)})
    monkeypatch.setattr(
        own_noise, "bearable", lambda *words: asked.append(words) or SimpleNamespace(inputs="in", reference="out")
    )
    chain = standing()
    vars(chain)["ranges"] = {}
    for names, drawn in ((3, MADE_UP - 3), (30, LEAST_DRAWN)):
        patterns = tuple(f"pattern {n}" for n in range(names))
        monkeypatch.setattr(own_noise, "contrast_set", lambda *_, n=names, p=patterns: (p, {"x": np.arange(n)}))
        inputs, answers = own_inputs(chain, "stress")
        assert (inputs, answers()) == ("in", "out")
        of, kind, several, made = asked.pop()
        assert (of, kind) == (chain, "stress")
        assert several == [*patterns, *(f"draw {n}" for n in range(drawn))]
        assert made["x"].tolist() == [*range(names), *range(100, 100 + drawn)]


@pytest.mark.parametrize("kind", ["samples", "stress"])
def test_a_twin_is_the_models_own_whatever_was_brought(monkeypatch, kind):
    """A file that was brought is what is judged: the inputs are made by a chain without it."""

    class AskedError(Exception):
        """What was asked for is enough."""

    asked = []

    def inputs(chain, kind):
        asked.append((chain.brought, kind))
        raise AskedError

    monkeypatch.setattr(own_noise, "own_inputs", inputs)
    with pytest.raises(AskedError):
        noise_in(standing(brought={"onnx": "theirs.onnx"}), "fp16", kind)
    assert asked == [({}, kind)]


def values_of(samples, count):
    """Values of so many samples in so many runs, which move them by up to a tenth, and the reference's."""
    reference = np.linspace(1, 2, 3 * samples, dtype=np.float32).reshape(samples, 3)
    return {"v": reference}, [{"v": reference + np.float32(k * 0.1 / count)} for k in range(1, count + 1)]


class Shelf:
    """A store that has one artifact at most; it remembers what it was asked, and what it was given."""

    def __init__(self, tmp_path, kept=None):
        self.folder, self.kept, self.asked, self.given = tmp_path, kept, [], []

    def state(self, *words):
        """What it has."""
        self.asked.append(words)
        return self.kept

    def put(self, *words):
        """Let it be written."""
        *named, write = words
        self.given.append(tuple(named))
        assert write(self.folder) == {}


@pytest.fixture
def ran(monkeypatch):
    """A twin whose every run is written down, with what it was run on."""
    told = []

    def twin(chain, precision, inputs, answers):
        told.append((chain.brought, precision, inputs, answers))
        return "twin", "feeds", {"v": "v:0"}

    def runs(*words):
        told.append(words)
        return {f"{number}/v": run["v"] for number, run in enumerate(values_of(4, words[-1])[1])}

    monkeypatch.setattr(own_noise, "twin_of", twin)
    monkeypatch.setattr(own_noise, "_runs", runs)
    monkeypatch.setattr(own_noise, "_recipe", lambda chain, *words: (chain.brought, *words))
    monkeypatch.setattr(Standing, "here", lambda self, recipe: ("here", *recipe))
    return told


GIVEN = Outputs({"x": SAMPLES["x"][:4]}, {}, {**values_of(4, 1)[0], "c": np.float32([1, 2])})
MEASURED = {"scales": {"v": Scale(4.0, 2.5)}, "thresholds": {"v": 0.3}}
"""What runs of values are measured in: the reference's magnitudes on the samples."""


def of_values(count=RUNS, confidence=CONFIDENCE, single=True):
    """Noise of so many runs on the four inputs."""
    reference, runs = values_of(4, count)
    return noise_of(reference, runs, {"v": "values"}, "fp16", single=single, confidence=confidence, **MEASURED)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize(("count", "confidence"), [(RUNS, CONFIDENCE), (DOUBTED_RUNS, SAFE)])
def test_runs_at_some_inputs_are_as_many_and_as_sure_as_asked_for(ran, single, count, confidence):
    """They are those of the model's own twin, whatever was brought, from a seed of their own; none is kept."""
    chain = standing(spec_of(v="values", c="constant"), brought={"onnx": "theirs.onnx"})
    asked = () if count == RUNS else ("", count, confidence)
    found = noise_at(chain, of_values(single=single), GIVEN, *asked)
    assert ran == [({}, "fp16", GIVEN.inputs, {}), ("twin", "feeds", {"v": "v:0"}, SEED + 1, count)]
    assert (found.limits, found.single) == (of_values(count, confidence, single).limits, single)
    assert (of_values(count, 0.9, single).limits == found.limits) is not single
    assert len(found.runs) == count


@pytest.mark.parametrize("room", [0, -1])
def test_runs_at_some_inputs_are_kept_where_a_place_is_named(ran, monkeypatch, tmp_path, room):
    """Unless they are larger than what is kept: then the store is neither asked nor written."""
    monkeypatch.setattr(own_noise, "MOST_BYTES", RUNS * GIVEN.reference["v"].nbytes + room)
    chain = replace(standing(spec_of(v="values", c="constant")), brought={"onnx": "theirs"}, store=Shelf(tmp_path))
    found = noise_at(chain, of_values(), GIVEN, "onnx-fp16.there")
    assert (found.limits, len(ran)) == (of_values().limits, 2)
    recipe = ("here", {}, "fp16", GIVEN.inputs, SEED + 1, ["v"], RUNS)
    name = ("mine", "twin-fp16-at-onnx-fp16.there", recipe)
    assert (chain.store.asked, chain.store.given) == (([], []) if room else ([name], [name]))


def test_runs_that_are_kept_are_not_made_again(ran, tmp_path):
    """An engine that has not changed is furthest off at the same inputs again; a store that is full does not matter."""
    chain = replace(standing(spec_of(v="values", c="constant")), store=Shelf(tmp_path))
    noise_at(chain, of_values(), GIVEN, "there")
    chain.store.kept = Artifact(tmp_path, {"files": {"runs.npz": ""}})
    found = noise_at(chain, of_values(), GIVEN, "there")
    assert (found.limits, len(ran), len(chain.store.given)) == (of_values().limits, 2, 1)

    def full(*_):
        raise StoreUnusableError("no space left")

    chain.store.kept, chain.store.put = None, full
    assert noise_at(chain, of_values(), GIVEN, "there").limits == of_values().limits
