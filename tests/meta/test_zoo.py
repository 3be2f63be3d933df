"""The zoo itself: every model of it can be made, answers, tells its samples apart, and is what its entry says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from zoo import ENTRIES, ZOO
from zoo.entry import KINDS, PASSES, VARIANTS, Cannot, Entry, Fails, Wide

EVERY = [pytest.param(e, id=e.name, marks=[] if e.quick else [pytest.mark.slow]) for e in ENTRIES]


class Made:
    """Model of the zoo as it was made: its samples, its labels where it has any, and its signature's function."""

    def __init__(self, entry, folder, seed=0):
        import tensorflow as tf

        entry.write(folder, seed)
        with np.load(folder / "samples.npz") as arrays:
            self.samples = dict(arrays)
        self.labels = self.samples.pop("labels", None)
        # The module has to live as long as its function.
        self._loaded = tf.saved_model.load(str(folder / "model"))
        self._function = self._loaded.signatures[entry.signature]

    def __call__(self, count=None, start=0):
        """Answer the samples from ``start``, ``count`` of them or all: arrays by output name."""
        import tensorflow as tf

        end = None if count is None else start + count
        inputs = {name: tf.constant(values[start:end]) for name, values in self.samples.items()}
        return {name: values.numpy() for name, values in self._function(**inputs).items()}


def in_one(values):
    """Whether all of an array is in [0, 1]."""
    return values.min() >= 0 and values.max() <= 1


def rows_of_shares(values):
    """Whether the last axis of (…, K) holds numbers in [0, 1] that sum to one."""
    return in_one(values) and np.allclose(values.sum(-1), 1, atol=1e-5)


def ranked(answers):
    """Whether one of the lists of scores (N, K) among the answers falls in every row."""
    floats = [a for a in answers.values() if a.ndim == 2 and a.dtype.kind == "f"]
    return any((np.diff(a, axis=1) <= 0).all() for a in floats)


FITS = {
    "probabilities": lambda a, _: a.dtype.kind == "f" and rows_of_shares(a),
    "scores": lambda a, _: a.dtype.kind == "f" and in_one(a) and not rows_of_shares(a),
    "logits": lambda a, _: a.dtype.kind == "f" and (a.min() < 0 or a.max() > 1),
    "values": lambda a, _: a.dtype.kind == "f",
    "integers": lambda a, _: a.dtype.kind in "iub",
    "ranked": lambda _, answers: ranked(answers),
    "constant": lambda a, _: a.dtype.kind == "f",
}
"""Whether an output, by its values and all answers of the model, can be of a kind."""


def decisions(kind, values):
    """Return what is decided by an output of classes or scores; the values themselves for others."""
    if kind in ("probabilities", "logits"):
        return values.argmax(-1)
    return values > 0.5 if kind == "scores" else values


def check_kinds(entry, answers):
    """Check that the outputs are those of the entry, finite, and can be of their kinds."""
    assert sorted(answers) == sorted(entry.kinds)
    for name, values in answers.items():
        assert np.isfinite(values).all(), name
        assert FITS[entry.kinds[name]](values, answers), (name, entry.kinds[name], values[:2])


def check_batch_axis(entry, model):
    """Check that samples have an answer each in every output but a constant one, which is the same for any samples."""
    few, others = model(3), model(5, start=3)
    for name, kind in entry.kinds.items():
        if kind == "constant":
            assert np.array_equal(few[name], others[name]), name
        else:
            assert (len(few[name]), len(others[name])) == (3, 5), name


def check_apart(entry, answers, labels):
    """Check that answers differ between samples, no decision is nearly always the same, and most labels are met."""
    for name, values in answers.items():
        kind = entry.kinds[name]
        if kind == "constant":
            continue
        numbers = values.astype(np.float64)
        assert numbers.std(0).max() > 0.01 * np.abs(numbers).max(), (name, "the samples have almost one answer")
        counts = np.unique(decisions(kind, values), return_counts=True)[1]
        if kind in ("probabilities", "logits", "scores"):
            assert counts.max() < 0.99 * counts.sum(), (name, counts)
    if labels is not None:
        (name,) = [n for n, kind in entry.kinds.items() if kind == "probabilities"]
        right = (answers[name].argmax(-1) == labels).mean()
        assert right > 0.5, f"{name}: {right:.0%} of the labels are met"


def check_equal(entry, first, second):
    """Check that two makes with one seed have equal samples, and equal answers where a model can be asked twice."""
    for name, values in first.samples.items():
        assert np.array_equal(values, second.samples[name]), name
    if entry.refused is None:
        answers = second(20)
        for name, values in first(20).items():
            # A training sums in an order that its threads choose.
            np.testing.assert_allclose(answers[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("entry", EVERY)
def test_every_model_is_what_its_entry_says_and_the_same_for_one_seed(entry, tmp_path):
    """Samples are as many as declared; answers are finite, of their kinds, one a sample, and differ between samples."""
    if why := entry.unavailable():
        pytest.skip(why)
    model = Made(entry, tmp_path / "first")
    assert {len(a) for a in model.samples.values()} == {entry.samples}
    answers = model()
    check_kinds(entry, answers)
    check_batch_axis(entry, model)
    check_apart(entry, answers, model.labels)
    check_equal(entry, model, Made(entry, tmp_path / "second"))


@pytest.mark.parametrize("entry", [pytest.param(e, id=e.name) for e in ENTRIES if e.refused])
def test_a_refused_model_answers_by_more_than_its_sample(entry, tmp_path):
    """What is declared to be no reference answers one sample differently, in another call or another batch."""
    model = Made(entry, tmp_path)
    (name,) = entry.kinds
    if entry.refused == "batch":
        one, other, again = model(1)[name][0], model(50)[name][0], model(50)[name][0]
        assert np.array_equal(other, again)
    else:
        one, other = model(50)[name][0], model(50)[name][0]
    assert np.abs(one - other).max() > 1e-3


def test_another_seed_makes_another_model(tmp_path):
    """Seed changes the samples as well as the weights."""
    entry = ZOO["scan"]
    first, second = Made(entry, tmp_path / "first"), Made(entry, tmp_path / "second", seed=1)
    assert not np.array_equal(first.samples["scan"], second.samples["scan"])
    second.samples = first.samples
    assert np.abs(first()["place"] - second()["place"]).max() > 1e-3


def test_there_are_entries_for_what_the_zoo_is_for():
    """At least thirty models with names of their own, among which every kind of output stands."""
    assert len(ENTRIES) == len(ZOO) >= 30
    assert {kind for e in ENTRIES for kind in e.kinds.values()} == set(KINDS)


@pytest.mark.parametrize("entry", [pytest.param(e, id=e.name) for e in ENTRIES])
def test_declarations_are_of_variants_and_kinds_that_there_are(entry):
    """Names fit a folder, kinds and variants exist, and every limit and defect is told in words."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
    assert set(entry.kinds.values()) <= set(KINDS)
    assert set(entry.expected) <= set(VARIANTS)
    for expected in entry.expected.values():
        assert isinstance(expected, Cannot | Fails | Wide) or expected == PASSES
        assert expected == PASSES or all(vars(expected).values())
    assert not (entry.refused and entry.expected), "no variant of a refused model is judged"


def test_an_entry_expects_that_a_variant_passes_unless_it_says_otherwise():
    """What is not declared passes; a variant that no CPU runs has no expectation."""
    entry = Entry("plain", "", lambda folder, seed=0: None, {}, expected={"onnx-fp16": Cannot("Loop")})
    assert entry.expectation("onnx-fp32") == PASSES
    assert entry.expectation("onnx-fp16") == Cannot("Loop")
    with pytest.raises(KeyError, match=r"tensorrt-fp16.*onnx-fp32"):
        entry.expectation("tensorrt-fp16")


def test_a_model_whose_layers_this_keras_lacks_is_not_available():
    """Missing layer is named; with layers that every Keras has, nothing stands in the way."""
    entry = Entry("plain", "", lambda folder, seed=0: None, {}, layers=("Dense", "NoSuchLayer"))
    assert entry.unavailable().endswith("has no NoSuchLayer")
    assert Entry("plain", "", entry.make, {}, layers=("Dense",)).unavailable() is None
