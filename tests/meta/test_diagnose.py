"""The likely cause of a failure is what explains it, and none is named that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conformance.compare import Scale, Tolerance, compare, softmax
from conformance.diagnose import diagnose, diagnose_answers
from conformance.messages import Context, Difference, explain
from engines.errors import UnavailableError
from engines.formats.tflite.runner import TFLiteRunner
from engines.variant import Variant
from trial.causes import cause
from trial.outputs import Outputs
from trial.rules import Rule, rule_of

COUNT, CLASSES, BATCH = 40, 6, 16
GENERATOR = np.random.default_rng(7)
PIXELS = GENERATOR.uniform(0, 1, (COUNT, 4, 4, 3)).astype(np.float32)
WEIGHTS = GENERATOR.standard_normal((48, CLASSES)) / 2
OTHER_WEIGHTS = WEIGHTS + GENERATOR.standard_normal(WEIGHTS.shape) / 20
UNITS = np.array([1000, 0.5, 0.2, 300, 1, 0.3])
TABLE = (GENERATOR.uniform(0, 1, (COUNT, 6)) * UNITS).astype(np.float32)
TABLE_WEIGHTS = GENERATOR.standard_normal((6, CLASSES)) * 4

TIGHT = Tolerance(max=1e-4, mean=1e-5, kl=1e-6, margin=1e-3, flips=0.02, sum=1e-5)
WIDE = Tolerance(max=0.3, mean=5e-3, kl=4e-3, margin=0.15, flips=0.08, sum=1e-5)


def logits(weights=WEIGHTS):
    """Model of pixels in [0, 1] that has no softmax."""
    return lambda pixels: (pixels.reshape(len(pixels), -1).astype(np.float64) - 0.5) @ weights * 4


def scores(weights=WEIGHTS):
    """The same model with a softmax."""
    return lambda pixels: softmax(logits(weights)(pixels))


def of_table(table):
    """Model of a table that knows the units of its columns."""
    return softmax((table / UNITS - 0.5) @ TABLE_WEIGHTS)


class Engine:
    """A function as an engine, and all that a diagnosis asks for: ``model`` is the reference."""

    def __init__(self, function, model, inputs, *, kind="probabilities", tolerance=TIGHT, batch=BATCH):
        self.inputs, self.batch = {"x": inputs}, batch
        self.function, self.model, self.kind, self.tolerance = function, model, kind, tolerance
        self.reference = self.asked(self.inputs)
        self.actual = self(self.inputs)

    def asked(self, inputs):
        """The reference's outputs."""
        return {"y": self.model(inputs["x"]).astype(np.float32)}

    def __call__(self, inputs, size=None):
        """Run the inputs in batches."""
        size, array = size or self.batch, inputs["x"]
        parts = [self.function(array[i : i + size]) for i in range(0, len(array), size)]
        return {"y": np.concatenate(parts).astype(np.float32)}

    def agrees(self, outputs, reference=None):
        """Judge outputs as a comparison does."""
        reference = self.reference if reference is None else reference
        scales = {} if self.kind == "probabilities" else {"y": Scale.of(self.reference["y"])}
        return compare(outputs, reference, self.tolerance, {"y": self.kind}, scales=scales).passed

    def likely(self, **known):
        """Look for the cause, in words; the engine has to fail."""
        assert not self.agrees(self.actual)
        return diagnose(
            self.inputs,
            self.actual,
            self.reference,
            run=self,
            alone=lambda inputs: self(inputs, 1),
            agrees=self.agrees,
            scores=None if self.kind == "values" else "y",
            **{"batch": self.batch, **known},
        ).text


BYTES, CENTRED = PIXELS * 255, PIXELS * 2 - 1
EXPECTED, SCALED = "inputs are expected ", "the engine scales inputs "


@pytest.mark.parametrize(
    "inputs, engines, models, likely",
    [
        (PIXELS, lambda x: x, lambda x: x * 255, EXPECTED + "255 times as large, in [0, 255]"),
        (PIXELS, lambda x: x, lambda x: x * 2 - 1, EXPECTED + "in [-1, 1] instead of [0, 1]"),
        (PIXELS, lambda x: x / 255, lambda x: x, EXPECTED + "255 times as large, in [0, 255]"),
        (PIXELS, lambda x: x * 2 - 1, lambda x: x, SCALED + "from [0, 1] to [-1, 1] once too often"),
        (BYTES, lambda x: x, lambda x: x / 255, EXPECTED + "255 times as small, in [0, 1]"),
        (BYTES, lambda x: x, lambda x: x / 127.5 - 1, EXPECTED + "in [-1, 1] instead of [0, 255]"),
        (BYTES, lambda x: x / 255, lambda x: x / 127.5 - 1, SCALED + "to [0, 1] instead of [-1, 1]"),
        (BYTES, lambda x: x / 127.5 - 1, lambda x: x / 255, SCALED + "to [-1, 1] instead of [0, 1]"),
        (BYTES, lambda x: x / 255 / 255, lambda x: x / 255, SCALED + "from [0, 255] to [0, 1] once too often"),
        (CENTRED, lambda x: x, lambda x: (x + 1) / 2, EXPECTED + "in [0, 1] instead of [-1, 1]"),
        (CENTRED, lambda x: x / 127.5 - 1, lambda x: x, EXPECTED + "in [0, 255] instead of [-1, 1]"),
    ],
)
def test_another_scale_of_the_inputs_is_named_whatever_their_range(inputs, engines, models, likely):
    """Bytes, pixels from 0 to 1 and centred ones: what the engine makes of them instead of what the model does."""
    network = scores()
    found = Engine(lambda x: network(engines(x)), lambda x: network(models(x)), inputs).likely()
    assert found.startswith(likely + ": with "), found
    assert "its answers agree with the reference, within the tolerance (40 samples)" in found


def test_inputs_prepared_otherwise_than_in_a_usual_way_are_said_to_be_possible():
    """Divided by 250 instead of by 255 is no usual mistake; where most classes agree it is among what may be wrong."""
    network = scores()
    found = Engine(lambda x: network(x / 250), lambda x: network(x / 255), BYTES).likely()
    assert "top-1 classes agree but the values do not" in found
    assert "or inputs prepared a little differently" in found


def test_values_that_int8_rounds_away_are_not_said_to_be_computed_wrongly():
    """Where nothing that was tried explains it, both are left: a precision the model does not bear, and a fault."""
    network = logits()
    engine = Engine(lambda x: np.round(network(x) / 4) * 4, network, PIXELS, kind="values")
    found = engine.likely(converted="int8")
    assert found.startswith("not found out: no usual mistake explains it; the weights are the SavedModel's own")
    assert "rounding to int8, where the model is steeper or deeper" in found
    assert "has values that int8 cannot hold or tell apart, or a layer that was converted wrongly" in found
    brought = engine.likely()
    assert brought.startswith("not found out: no usual mistake explains it; what is left is other weights")
    assert "something else" not in found + brought


def test_a_failed_figure_says_first_by_how_much_it_failed():
    """What is needed over what is allowed stands before anything that the model's noise tells."""
    reference = {"y": np.ones((8, 1), np.float32)}
    actual = {"y": reference["y"] + 0.5}
    compared = compare(actual, reference, replace(TIGHT, max=0.2, mean=0.0), {"y": "values"})
    (output,) = compared.outputs
    told = [replace(f, beside="only 0.65 times what INT8 does") if f.name == "max" else f for f in output.figures]
    failure = Difference(
        context=Context("m", "onnx-int8", "int8", "samples", None),
        comparison=replace(compared, outputs=(replace(output, figures=tuple(told)),)),
        actual=actual,
        reference=reference,
        tolerance=TIGHT,
    )
    text = explain(failure)
    assert "FAILED max     needed 5.000e-01   allowed 2.000e-01 (2.5 times that), only 0.65 times what INT8" in text
    assert "FAILED mean    needed 5.000e-02   allowed 0.000e+00\n" in text


OUTPUTS = {
    "a softmax twice": ("probabilities", softmax, "a softmax too many: the outputs had one twice; with one undone"),
    "a softmax added": ("logits", softmax, "a softmax too many: the outputs are probabilities instead of logits;"),
    "a constant": ("logits", lambda y: y + 1, "every logit of 'y' is 1 too large: with that undone"),
    "a negative constant": ("logits", lambda y: y - 0.25, "every logit of 'y' is 0.25 too small: with that undone"),
    "a factor": ("logits", lambda y: y * 3, "every logit of 'y' is 3 times what it should be: with that undone"),
    "a constant for one class": (
        "logits",
        lambda y: y + np.eye(CLASSES)[2],
        "the last layer's bias is off: that of class 2 is 1 too large; with that undone",
    ),
    "a bias before the softmax": (
        "probabilities",
        lambda y: softmax(np.log(y) - 0.5 * np.eye(CLASSES)[1]),
        "the last layer's bias is off: that of class 1 is 0.5 too small; with that undone",
    ),
    "a temperature": (
        "probabilities",
        lambda y: softmax(np.log(y) / 1.1),
        "the softmax has a temperature of 1.1: with that undone",
    ),
    "a sigmoid for the softmax": (
        "probabilities",
        lambda y: 1 / (1 + np.exp(-np.log(y) - 0.7)),
        "each class has a sigmoid for the softmax: with a softmax",
    ),
    "answers in another order": (
        "probabilities",
        lambda y: y[::-1],
        "the answers are in another order than the samples: answer 0 is that of sample",
    ),
    "answers given late": (
        "probabilities",
        lambda y: np.concatenate([y[:1], y[:-1]]),
        "the answers are shifted: answer k is that of sample k - 1; beside those of these",
    ),
    "values not scaled back": (
        "values",
        lambda y: y / 20 - 3,
        "every value of 'y' is 0.05 times what it should be, and then 3 too small: with both undone",
    ),
}


@pytest.mark.parametrize("mistake", OUTPUTS)
def test_what_was_done_to_the_outputs_is_named(mistake):
    """A softmax too many, and a constant or a factor of logits and values, are found by undoing them."""
    kind, change, likely = OUTPUTS[mistake]
    network = scores() if kind == "probabilities" else logits()
    found = Engine(lambda x: change(network(x)), network, PIXELS, kind=kind).likely()
    assert found.startswith(likely), found


def test_outputs_under_each_others_names_are_told():
    """Two outputs of one shape that are exchanged agree once they are put back."""
    samples = {"x": PIXELS}
    reference = {"a": logits()(PIXELS), "b": logits(OTHER_WEIGHTS)(PIXELS) * 2}
    actual = {"a": reference["b"], "b": reference["a"]}

    def agrees(outputs):
        return all(np.allclose(outputs[name], reference[name]) for name in reference)

    found = diagnose(
        samples, actual, reference, run=lambda _: actual, alone=lambda _: actual, agrees=agrees, scores=None
    )
    assert found.text.startswith("the outputs 'a' and 'b' are exchanged: with them put back, its answers agree")


SIGMOIDS = {
    "none": (lambda z: z, "the sigmoid of 'y' is missing: the outputs are logits; with a sigmoid"),
    "steeper": (lambda z: decided(1.2 * z), "the sigmoid of 'y' has a temperature of 0.833: with that undone"),
    "biased": (
        lambda z: decided(z + 0.5 * np.eye(CLASSES)[3]),
        "the last layer's bias is off: that of number 3 is 0.5 too large; with that undone",
    ),
}


def decided(values):
    """Sigmoid of logits."""
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("mistake", SIGMOIDS)
def test_what_was_done_to_scores_that_are_decided_one_by_one_is_named(mistake):
    """A sigmoid that is missing or of another steepness, and the bias before it, are found by undoing them."""
    change, likely = SIGMOIDS[mistake]
    reference = {"y": decided(logits()(PIXELS)).astype(np.float32)}
    actual = {"y": change(logits()(PIXELS)).astype(np.float32)}

    def agrees(outputs):
        return np.allclose(outputs["y"], reference["y"], atol=1e-6)

    same = {"run": lambda _: actual, "alone": lambda _: actual, "agrees": agrees, "scores": None}
    found = diagnose({"x": PIXELS}, actual, reference, **same)
    assert found.text.startswith(likely), found.text


def test_a_mistake_is_named_where_rounding_is_all_that_is_left_beside_it():
    """Within a tolerance narrower than what float32 lost by the mistake nothing agrees: it is named, and not proved."""
    engine = Engine(lambda x: softmax(scores()(x)), scores(), PIXELS, tolerance=replace(TIGHT, max=0.0))
    found = engine.likely()
    assert found.startswith("a softmax too many: the outputs had one twice; with one undone, next to nothing is left")


MOVED = {
    "mirrored": (lambda a: a[:, :, ::-1], "images are mirrored: with left and right exchanged"),
    "upside down": (lambda a: a[:, ::-1], "images are upside down: with top and bottom exchanged"),
    "turned": (lambda a: a[:, ::-1, ::-1], "images are turned by half: with both of their axes reversed"),
    "late": (
        lambda a: np.roll(a.reshape(len(a), -1), 1, axis=1).reshape(a.shape),
        "the values of a sample are fed one place too late: with them moved back",
    ),
}


@pytest.mark.parametrize("mistake", MOVED)
def test_pixels_that_are_fed_elsewhere_are_told(mistake):
    """Images that are mirrored or turned, and values one place on, are found by feeding them so again."""
    change, likely = MOVED[mistake]
    found = Engine(lambda x: scores()(change(x)), scores(), PIXELS).likely()
    assert found.startswith(likely), found


def test_answers_alone_tell_a_softmax_too_many():
    """It is found as well where there is nothing to run again."""
    engine = Engine(lambda x: softmax(scores()(x)), scores(), PIXELS)
    found = diagnose_answers(engine.actual, engine.reference, agrees=engine.agrees, scores="y").text
    assert found.startswith("a softmax too many"), found


UNNAMED = ("every logit", "every value", "softmax too many", "of its batch", "integer input", "expected", "scales")
"""What none of the engines below is: they have other weights, or so it seems."""

OTHERS = {
    "other weights": Engine(scores(OTHER_WEIGHTS), scores(), PIXELS),
    "other weights of a model of logits": Engine(logits(OTHER_WEIGHTS), logits(), PIXELS, kind="logits"),
    "other weights, within a wide tolerance": Engine(
        logits(OTHER_WEIGHTS * 1.3), logits(), PIXELS, kind="logits", tolerance=WIDE
    ),
    "a constant added to probabilities": Engine(lambda x: scores()(x) + 0.05, scores(), PIXELS),
    "a constant on few samples": Engine(lambda x: logits()(x) + 1, logits(), PIXELS[:4], kind="logits"),
    "a table beyond any usual range": Engine(lambda x: of_table(x * 1.02), of_table, TABLE),
}


@pytest.mark.parametrize("engine", OTHERS.values(), ids=OTHERS)
def test_no_cause_is_named_that_does_not_explain_a_failure(engine):
    """Neither a constant of probabilities nor one that few samples show is a cause."""
    found = engine.likely(steps={}, ask=engine.asked)
    assert not any(words in found for words in UNNAMED), found
    assert "top-1 classes agree" in found, found


def test_a_constant_has_to_explain_nearly_all(monkeypatch):
    """Any engine that is off to one side gets nearer by a constant, even within a tolerance that it just missed."""
    noise = np.random.default_rng(1).standard_normal((COUNT, CLASSES)) / 2
    engine = Engine(lambda x: logits()(x) + noise[: len(x)] + 0.8, logits(), PIXELS, kind="logits", batch=COUNT)
    largest = np.abs(engine.reference["y"]).max()
    engine.tolerance = replace(WIDE, max=(np.abs(noise).max() + 0.2) / largest, mean=1, kl=1, margin=1, flips=1)
    assert "every logit" not in engine.likely()
    monkeypatch.setattr("conformance.output_mistakes.LEFT", 1)
    assert "every logit of 'y' is 0.751 too large: with that undone" in engine.likely()


def over_the_batch(pixels):
    """Apply the softmax over the wrong axis."""
    return softmax(logits()(pixels).T).T


def steep_over_the_batch(pixels):
    """Apply a softmax over the wrong axis that is steep enough to give some samples nothing at all."""
    return softmax(logits()(pixels).T * 100).T.astype(np.float32)


def normalized(pixels):
    """Normalize by the mean and the deviation of the batch, as a BatchNorm in training mode does."""
    found = logits()(pixels)
    return softmax((found - found.mean(axis=0)) / (found.std(axis=0) + 1e-3))


def test_values_that_are_the_same_for_every_sample_are_told():
    """A price that is always the same is told as that, and not as that of an engine which is fed something else."""
    reference = {"y": logits()(PIXELS)[:, :1] + 300}
    actual = {"y": np.full((COUNT, 1), 300.0)}
    same = {"run": lambda _: actual, "alone": lambda _: actual, "agrees": lambda _: False, "scores": None}
    assert diagnose({"x": PIXELS}, actual, reference, **same).text.startswith("every sample gets the same answer")


COUPLED = "changing a sample changes other answers of its batch too: something is computed over the batch"


@pytest.mark.parametrize("function", [over_the_batch, steep_over_the_batch, normalized])
@pytest.mark.parametrize("batch", [4, 7, 16, COUNT])
@pytest.mark.parametrize("converted", [None, "fp32"])
def test_what_is_computed_over_the_batch_is_told_whatever_its_size(function, batch, converted):
    """One sample then moves answers of its own batch, and those of no other batch."""
    engine = Engine(function, scores(), PIXELS, batch=batch)
    assert engine.likely(converted=converted).startswith(COUPLED)


def test_answers_that_are_nan_do_not_hide_what_is_computed_over_the_batch():
    """A few samples that are answered with NaN stay so, and the others still show it."""

    def some_are_nan(pixels):
        found = normalized(pixels)
        return np.where(pixels[:, :1, 0, 0] > 0.9, np.nan, found) if len(pixels) > 1 else found

    engine = Engine(some_are_nan, scores(), PIXELS)
    assert 0 < np.isnan(engine.actual["y"]).sum() < COUNT
    assert engine.likely().startswith(COUPLED)


def test_a_batch_that_hardly_matters_is_not_the_cause():
    """Dynamic quantization takes its scale from the batch: what that moves does not explain other weights."""

    def quantized(pixels):
        step = np.abs(pixels).max() / 127
        return scores(OTHER_WEIGHTS)(np.rint(pixels / step) * step)

    light = np.linspace(0.9, 1, COUNT, dtype=np.float32)[:, None, None, None]
    found = Engine(quantized, scores(), PIXELS * light).likely()
    assert "of its batch" not in found, found
    assert "other weights" in found


def test_a_value_is_probed_far_outside_whatever_range_the_inputs_have():
    """An integer input holds nothing beyond its own range, in which the usual far value of 1000 may round to zero."""
    large, step = TABLE * 1e4, float(TABLE.max()) * 1e4 / 127

    def model(table):
        return of_table(table / 1e4)

    def integer(table):
        return model(np.clip(np.rint(table / step), -127, 127) * step)

    found = Engine(integer, model, large).likely()
    assert "changes no answer" not in found, found


STEP = float(TABLE.max()) / 127


def integers(step=STEP, model=of_table):
    """Round all inputs to the same step before the model."""
    return lambda table: model(np.rint(table / step) * step)


VANISH = (
    "the integer input 'x' has one step for all columns (7.81), and 4 of 6 columns differ by less: they vanish, and "
    "the SavedModel fails too with these rounded so; normalize before the model, or leave int8 out"
)


@pytest.mark.parametrize("inputs", [TABLE, np.concatenate([TABLE, TABLE[:, :1] * 0 + 1], 1)])
def test_columns_that_vanish_in_the_step_of_an_integer_input_come_first(inputs):
    """They do whether the answers still differ or are all alike; a column that is constant has nothing to lose."""
    spread = np.ptp(inputs, axis=0)
    assert ((spread > 0) & (spread < STEP)).sum() == 4

    def model(table):
        return of_table(table[:, :6])

    for function in (integers(model=model), lambda table: np.full((len(table), CLASSES), 1 / CLASSES)):
        engine = Engine(function, model, inputs, tolerance=WIDE)
        found = engine.likely(steps={"x": STEP}, ask=engine.asked, converted="int8")
        assert found == VANISH.replace("of 6", f"of {inputs.shape[1]}").replace("7.81", f"{STEP:.3g}"), found


def test_channels_vanish_as_columns_do():
    """The values of a sequence or an image share the units of their channel, not of their position."""
    sequences = np.repeat(TABLE[:, None], 3, axis=1)

    def model(values):
        return of_table(values.mean(axis=1))

    engine = Engine(integers(model=model), model, sequences, tolerance=WIDE)
    found = engine.likely(steps={"x": STEP}, ask=engine.asked, converted="int8")
    assert "one step for all channels" in found
    assert "4 of 6 channels differ by less" in found


UNROUNDED = {
    "a float input": (TABLE, of_table, {}, True),
    "a step that is fine enough": (TABLE, of_table, {"x": 0.1}, True),
    "narrow columns that the model does not look at": (
        TABLE,
        lambda table: of_table(np.where(UNITS < STEP, UNITS / 2, table)),
        {"x": STEP},
        True,
    ),
    "one column": (TABLE[:, 1:2], lambda column: of_table(np.repeat(column, 6, axis=1) * UNITS), {"x": STEP}, True),
    "a reference that cannot be asked": (TABLE, of_table, {"x": STEP}, False),
}


@pytest.mark.parametrize("kind", UNROUNDED)
def test_columns_are_not_said_to_vanish_where_rounding_is_not_the_cause(kind):
    """Float inputs keep narrow columns; of integer ones the SavedModel has to fail on what is left of them."""
    inputs, model, steps, asked = UNROUNDED[kind]
    engine = Engine(lambda table: model(table)[:, ::-1] * 0.5 + 0.5 / CLASSES, model, inputs)
    found = engine.likely(steps=steps, ask=engine.asked if asked else lambda _: None, converted="int8")
    assert "integer input" not in found, found


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_that_was_just_converted_is_not_said_to_have_other_weights(precision, far):
    """Its weights and inputs are the right ones, so that rounding and converting are left; a brought one has others."""
    weights = WEIGHTS[::-1] if far else OTHER_WEIGHTS
    engine = Engine(scores(weights), scores(), PIXELS)
    found = engine.likely(converted=precision)
    assert ("only" in found) == far
    assert "the weights are the SavedModel's own, so what is left is" in found
    assert "the model is steeper or deeper than those that the tolerance was measured on" in found
    assert "a layer that was converted wrongly" in found
    assert precision == "fp32" or f"rounding to {precision}" in found
    assert not any(words in found for words in ("other weights", "export", "another model", "prepared"))
    assert "other weights" in engine.likely()


def test_an_engine_that_is_fed_by_the_suite_is_not_said_to_be_fed_wrongly():
    """The suite feeds what it converted itself: a value that changes nothing there is no column of somebody's file."""
    engine = Engine(lambda x: scores()(x * (np.arange(48).reshape(4, 4, 3) < 47)), scores(), PIXELS)
    assert "the last value of a sample changes no answer" in engine.likely()
    assert "changes no answer" not in engine.likely(converted="fp32")
    assert "changes no answer" not in engine.likely(integers=True)


@pytest.mark.parametrize("hidden", [46, 24])
def test_a_value_that_rounding_hides_is_not_said_to_be_another_column(hidden):
    """Where another single value changes no answer either, nothing is told of one that changes none."""
    seen = (np.arange(48).reshape(4, 4, 3) < 47) & (np.arange(48).reshape(4, 4, 3) != hidden)
    engine = Engine(lambda x: scores(OTHER_WEIGHTS)(x * seen), scores(), PIXELS)
    assert "changes no answer" not in engine.likely()


@pytest.mark.parametrize("decimals", [1, 2, 4])
def test_answers_with_few_decimals_are_told(decimals):
    """A program or a server that prints scores rounds them: that is named, and other answers as coarse are not."""
    model = scores()
    likely = Engine(lambda x: np.round(model(x), decimals), model, PIXELS).likely()
    assert likely == (
        f"the answers are rounded to {decimals} decimals: they are the reference's, but for less than that"
    )
    other = Engine(lambda x: np.round(np.clip(model(x) + 2 * 10.0**-decimals, 0, 1), decimals), model, PIXELS).likely()
    assert "decimals" not in other


def test_an_engine_of_ones_own_that_answers_anew_each_time_is_told():
    """Noise in each call is no layer that was converted wrongly, though the weights are the SavedModel's own."""
    generator, model = np.random.default_rng(0), scores()
    engine = Engine(lambda x: model(x) + 1e-3 * generator.standard_normal((len(x), 1)), model, PIXELS)
    assert engine.likely(converted="fp32").startswith("the same samples get other answers each time: ")


# What the suite knows of its own engines.


@pytest.mark.parametrize(
    "variant, brought, converted",
    [
        (Variant("onnx", "fp32"), (), True),
        (Variant("onnx", "fp32"), ("onnx",), False),
        (Variant("onnx", "fp32"), ("tflite",), True),
        (Variant("tflite", "int8"), ("tflite",), False),
        (Variant("tensorrt", "fp16"), (), True),
        (Variant("tensorrt", "fp16"), ("onnx",), False),
        (Variant("tensorrt-vc", "fp16"), ("onnx",), False),
        (Variant("cpp8", "fp16"), (), False),
        (Variant("served", "fp32", instance="there"), (), False),
    ],
    ids=str,
)
def test_an_engine_counts_as_converted_where_nothing_of_it_was_brought(digits, variant, brought, converted):
    """A plan comes from the ONNX; a C++ program feeds its plan itself, maybe wrongly; a server may have any weights."""
    chain = replace(digits, brought={name: Path(name) for name in brought})
    assert rule_of(chain, variant, "samples").converted == converted


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_tflite_tells_the_step_of_an_integer_input(digits, precision):
    """The pixels of the digits go from 0 to 1 in 255 steps; a float input has none."""
    variant = Variant("tflite", precision)
    with TFLiteRunner(digits.spec, variant, digits.file(variant)) as runner:
        assert runner.steps == ({} if precision == "fp32" else {"input_1": pytest.approx(1 / 255, rel=0.01)})


@pytest.mark.parametrize("known", [True, False])
def test_a_diagnosis_is_told_what_the_suite_knows(digits, monkeypatch, known):
    """Batch, steps and precision come from the runner; the SavedModel is asked, and where it cannot be says nothing."""
    told = {}
    monkeypatch.setattr("trial.causes.diagnose", lambda *arrays, **keys: told.update(keys) or "said")
    variant = Variant("tflite", "int8")
    samples = {name: array[:8] for name, array in digits.samples.inputs.items()}
    reference = digits.reference("told", samples)
    with TFLiteRunner(digits.spec, variant, digits.file(variant), 5) as runner:
        rule = rule_of(digits, variant, "samples")
        assert cause(runner, Outputs(samples, runner(samples), reference), rule) == "said"
        assert (told["batch"], told["steps"], told["converted"]) == (5, runner.steps, "int8")
    if known:
        np.testing.assert_array_equal(told["ask"](samples)["dense_1"], reference["dense_1"])
    else:
        monkeypatch.setattr(
            "engines.chain.Chain.reference", lambda *_: (_ for _ in ()).throw(UnavailableError("no TensorFlow"))
        )
        assert told["ask"](samples) is None


def test_a_rule_alone_knows_nothing_of_the_engine():
    """Whoever makes a rule for a comparison only claims nothing for the cause."""
    rule = Rule(TIGHT, {})
    assert (rule.converted, rule.ask({})) == (False, None)
