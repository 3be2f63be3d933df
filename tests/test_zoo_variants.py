"""Every variant of every model of the zoo becomes what its entry says: it passes, fails, or cannot be, in words."""

from __future__ import annotations

import contextlib
import re
import threading

import pytest
from zoo import ENTRIES
from zoo.chains import chain_of
from zoo.entry import ONNX, TFLITE, Cannot, Fails, Wide

from conformance import compare
from conformance.paired import PAIRED
from engines.errors import ConversionError
from engines.variant import Variant
from fixtures.parallel import asks_for
from trial import judged
from trial.examine import examine
from trial.sets import Sets

pytestmark = pytest.mark.zoo

FIGURES = {*compare.FIGURES, *PAIRED}
"""Figures that may be beyond what is allowed though answers are sound by themselves; of a lost ``spread`` none are."""


def state(expected):
    """State of a verdict that an expectation stands for; a text is a state itself."""
    if isinstance(expected, Fails | Wide):
        return judged.BEYOND if expected.by in FIGURES else judged.FAILS
    return judged.CANNOT if isinstance(expected, Cannot) else expected


def pytest_generate_tests(metafunc):
    """Parametrize over the entries: all where -m asks for the zoo, else those that every change is checked with."""
    whole = asks_for("zoo", metafunc.config.getoption("-m") or "")
    refused = "savedmodel_that_is_no_reference" in metafunc.function.__name__
    chosen = [e for e in ENTRIES if bool(e.refused) == refused and (whole or e.quick)]
    metafunc.parametrize("entry", chosen, ids=[e.name for e in chosen], scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of the models and their artifacts."""
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def made(entry, folder):
    """Sets of the entry's inputs, and the chain that makes its variants; skips where this Keras lacks a layer."""
    if why := entry.unavailable():
        pytest.skip(why)
    chain = chain_of(entry, folder)
    chain.artifact(chain.spec.reference)
    # Meanwhile TFLite's files are made in this process.
    converting = threading.Thread(target=convert, args=(chain,))
    converting.start()
    yield Sets(chain)
    converting.join()


def convert(chain):
    """Make the ONNX, which a process of its own does; a failure is raised again where the variant is asked for."""
    with contextlib.suppress(ConversionError):
        chain.artifact(Variant("onnx", "fp32"))


def test_outputs_are_of_the_kinds_of_the_entry(entry, made):
    """What is derived of every output is what it holds."""
    assert {o.name: o.kind for o in made.chain.spec.outputs} == dict(entry.kinds)


@pytest.mark.parametrize("name", [*TFLITE, *ONNX])
def test_a_variant_becomes_what_is_expected(entry, made, name):
    """It passes; or it fails by the figure that is named; or it cannot be, and the first line of the error says why."""
    (variant,) = [v for v in made.chain.variants if str(v) == name]
    expected, verdict = entry.expectation(name), judged.judged(made.chain, variant, made)
    assert verdict.state == state(expected), f"expected {expected}; {verdict.text}"
    if isinstance(expected, Fails | Wide):
        # What passed is told with its figures, too.
        failed = [line for line in verdict.text.splitlines() if "passed: " not in line]
        assert any(re.search(rf"\b{expected.by}\b", line) for line in failed), f"{expected}; {verdict.text}"
    if isinstance(expected, Cannot):
        first, *others = verdict.text.splitlines()
        assert expected.words in first
        assert not others, "a limit is told in one line"


def test_a_savedmodel_that_is_no_reference_is_refused_in_words(entry, made):
    """The examination of the reference finds it, and says why in its first line."""
    flaws = examine(made.chain)
    assert flaws
    assert entry.refused in flaws[0].text.splitlines()[0]
