"""What `--report` makes of the reports of tests, and of what is in the store, without a run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.cause import NOT_FOUND, Cause
from conformance.diagnose import diagnose
from conformance.failure import Failure
from engines.asking import Tally
from engines.chain import Chain
from engines.model import datasets
from engines.model.bundled import find_model
from engines.model.spec import OutputSpec
from engines.model.toml import load_model
from engines.store import Recipe, Store
from fixtures.answers import ANSWERS
from fixtures.chain import CHAINS, Case
from fixtures.document import Document
from fixtures.ledger import FAILURE, RECORDS, Ledger, properties
from fixtures.pictures import shown
from fixtures.records import Compared, Picture, sent
from tests.meta.report_documents import outputs


@pytest.fixture
def chain(tmp_path):
    """Chain of the digits classifier with an ONNX of a user, in a store of its own."""
    spec = load_model(find_model("digits_vgg"))
    data = datasets.locate(spec.dataset, input_name=spec.inputs[0].name)
    return Chain(spec, data, Store(tmp_path / "store"), {"onnx": tmp_path / "mine.onnx"})


def put(chain, name, made_from):
    """Store an artifact of a name, and give it."""

    def build(folder):
        (folder / "model").write_text(name)

    return chain.store.get(chain.spec.name, name, Recipe(made_from), build)


def variant(chain, name):
    """Variant of an id."""
    return next(v for v in chain.variants if str(v) == name)


class Run:
    """Takes in reports of tests as a run of the digits classifier makes them."""

    def __init__(self, chain):
        stash = pytest.Stash()
        stash[CHAINS] = {chain.spec.name: chain}
        stash[ANSWERS] = SimpleNamespace(tally=Tally())
        self.config = SimpleNamespace(
            stash=stash,
            getoption=lambda name: None,
            invocation_params=SimpleNamespace(args=("--report=out",)),
        )
        self.chain = chain
        self.ledger = Ledger([Case(chain.spec.name, v) for v in chain.variants])

    def test(self, name, function="test_agrees", outcome="passed", when="call", longrepr=None, records=(), known=None):
        """Take in a test of the variant of an id, which ends in a phase, and what it recorded or has ``known``."""
        case = Case(self.chain.spec.name, variant(self.chain, name))
        for phase in ("setup", "call", "teardown"):
            if when == "setup" and phase == "call":
                continue
            last = phase == when
            report = pytest.TestReport(
                f"tests/t.py::{function}[{case}]",
                ("tests/t.py", 1, function),
                {"consistency": 1},
                outcome if last else "passed",
                longrepr if last else None,
                phase,
                user_properties=properties(case),
            )
            setattr(report, RECORDS, sent(records if phase == "teardown" else ()))
            setattr(report, FAILURE, known.plain() if known and last else None)
            self.ledger.pytest_runtest_logreport(report)

    def document(self):
        """Document of what was taken in."""
        return Document(self.config, self.ledger).made(0)


@pytest.mark.parametrize("name", ["tensorrt-fp32-b1.16.32", "cpp8-fp32-b1.16.32"])
def test_the_plan_of_a_brought_onnx_is_the_one_that_is_recorded(chain, name):
    """Beside the plan of the converted ONNX, that of the user's file stands in the report, in C++ programs too."""
    put(chain, "tensorrt-fp32-b1.16.32", {"onnx-fp32": "converted"})
    mine = put(chain, "tensorrt-fp32-b1.16.32-brought", {"onnx-fp32": "mine"})
    run = Run(chain)
    run.test(name)
    (artifact,) = run.document()["artifacts"]
    assert (artifact["variant"], artifact["sha256"], artifact["made_from"]) == (
        name,
        mine.sha256,
        {"onnx-fp32": "mine"},
    )


def test_only_what_comes_from_a_users_file_has_a_name_of_its_own(chain):
    """TensorRT plans and C++ programs come from the ONNX; without a user's file the variant's id is the name."""
    assert chain.artifact_name(variant(chain, "onnx-fp32")) == "onnx-fp32-brought"
    assert chain.artifact_name(variant(chain, "cpp10-fp16-b1.16.32")) == "tensorrt-vc-fp16-b1.16.32-brought"
    others = Chain(chain.spec, chain.dataset, chain.store)
    for name in ("savedmodel-fp32", "tflite-int8"):
        assert chain.artifact_name(variant(chain, name)) == others.artifact_name(variant(chain, name)) == name
    assert others.artifact_name(variant(chain, "tensorrt-fp16-b1.16.32")) == "tensorrt-fp16-b1.16.32"


def test_a_variant_that_was_not_built_has_no_artifact_of_an_earlier_run(chain):
    """Where its build failed, or no test got past its set-up, what an earlier run stored is not what was tested."""
    name = "tensorrt-fp32-b1.16.32"
    put(chain, f"{name}-brought", {"onnx-fp32": "another file"})
    refused, unset, compared = Run(chain), Run(chain), Run(chain)
    refused.test(name, "test_builds", "failed", longrepr="ConversionError: no")
    refused.test(name, "test_unparsable_onnx_is_a_conversion_error")
    unset.test(name, outcome="failed", when="setup", longrepr="ConversionError: no")
    compared.test(name, outcome="failed", longrepr="it does not give the reference's answers")
    assert [len(run.document()["artifacts"]) for run in (refused, unset, compared)] == [0, 0, 1]


def unexplained():
    """Have the cause looked for of what nothing explains, in a model without class scores."""
    values = {"x": np.zeros((2, 3), np.float32)}
    return diagnose(
        values, values, values, run=lambda _: values, alone=lambda _: values, agrees=lambda _: False, scores=None
    )


def test_what_is_wrong_with_another_output_is_not_said_of_the_class_scores():
    """Where the class scores agree nothing is made of them, however many classes another output changes."""
    reference, other = outputs(6, noise=3.0)
    both = {"scores": reference, "boxes": reference}
    actual = both | {"boxes": other}

    def agrees(found):
        return all(np.array_equal(found[name], both[name]) for name in both)

    said = diagnose(actual, actual, both, run=lambda _: actual, alone=lambda _: actual, agrees=agrees, scores="scores")
    assert said.text == f"{NOT_FOUND}the class scores 'scores' agree, and what differs is another output"
    wrong = both | {"scores": other}
    said = diagnose(wrong, wrong, both, run=lambda _: wrong, alone=lambda _: wrong, agrees=agrees, scores="scores")
    assert "top-1 classes agree" in said.text


OWN = "it needs under 4 times what is allowed: docs/models.md"


@pytest.mark.parametrize(
    ("said", "likely"),
    [(Cause("other weights"), f"other weights; or none: {OWN}"), (Cause.unknown("refused"), OWN)],
)
def test_a_model_of_ones_own_may_be_the_cause(chain, said, likely):
    """What a message says of tolerances of one's own stands beside the cause in the report, and so in its summary."""
    run, known = Run(chain), Failure(cause=said, own_model=OWN.removeprefix("it "), replay="pytest x")
    run.test("onnx-fp32", outcome="failed", longrepr="it differs", known=known)
    (failure,) = run.document()["failures"]
    assert failure["likely"] == likely


@pytest.mark.parametrize(
    ("said", "likely"),
    [
        (Cause("the classes are permuted"), "the classes are permuted"),
        (Cause.unknown("a check for it takes inputs that this engine refuses (lost)"), None),
        (unexplained(), None),
    ],
)
def test_a_cause_that_was_not_found_is_none(chain, said, likely):
    """The message may say why no cause was found; the report has none, and does not call for mending it."""
    run = Run(chain)
    told = f"it differs\n  likely     {said.text}\n  replay     pytest x"
    run.test("onnx-fp32", outcome="failed", longrepr=told, known=Failure(cause=said, replay="pytest x"))
    document = run.document()
    (failure,) = document["failures"]
    assert failure["likely"] == likely
    assert said.text in failure["message"]
    assert failure["replay"] == "pytest x"
    assert ("Likely" in document["verdict"]["sentences"][1]) == bool(likely)


def test_figures_stand_in_one_order(chain):
    """Whichever output was the worst in each, as in the tables that say in which order they are."""
    run = Run(chain)
    figures = {"sum": [0.0, 1e-5], "max": [1e-6, 1e-5], "kl": [0.0, 1e-9]}
    record = {"inputs": "samples", "samples": 100, "flips": 0, "passed": True, "problems": [], "usage": 0.1}
    run.test("onnx-fp32", records=[Compared(**record, figures=figures)])
    (comparison,) = run.document()["comparisons"]
    assert list(comparison["figures"].items()) == [(n, figures[n]) for n in ("max", "kl", "sum")]


# What the charts show.

ALLOWED = 1e-4
BOXES, SCORES = (
    OutputSpec(name, ("batch", 10), "float32", kind, name)
    for name, kind in (("boxes", "values"), ("scores", "probabilities"))
)
SPEC = SimpleNamespace(outputs=(BOXES, SCORES), probabilities=SCORES)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [((), "scores"), (("scores",), "scores"), (("boxes",), "boxes"), (("boxes", "scores"), "scores")],
)
def test_the_charts_are_of_what_differs(wrong, name):
    """They show the class scores, and another output where only that differs by more than is allowed."""
    reference, other = outputs(50, noise=1.0)
    expected = {"boxes": reference, "scores": reference}
    actual = expected | dict.fromkeys(wrong, other)
    drawn = shown(SPEC, actual, expected, ALLOWED, (), None)
    assert drawn["output"] == name
    assert (drawn["histogram"]["beyond"] > 0) == bool(wrong)


def test_labels_are_those_of_the_class_scores():
    """Beside the samples of another output stand neither labels nor names of classes, which are not its own."""
    reference, other = outputs(50, noise=1.0)
    expected, labels = {"boxes": reference, "scores": reference}, np.zeros(50, int)
    kinds = SimpleNamespace(outputs=(replace(BOXES, kind="probabilities"), SCORES), probabilities=SCORES)
    for name, words in (("scores", ("cat", "cat")), ("boxes", (None, "class 0"))):
        drawn = shown(kinds, expected | {name: other}, expected, ALLOWED, ("cat",), labels)
        assert drawn["output"] == name
        assert {w["label"] for w in drawn["worst"]} == {words[0]}
        assert drawn["agreement"][0]["class"] == words[1]


def test_the_charts_are_of_an_output_that_was_compared_and_is_finite():
    """A test of the class scores alone draws them; where no output is finite there is nothing to draw."""
    reference, _ = outputs(50)
    drawn = shown(SPEC, {"boxes": reference, "scores": reference}, {"scores": reference}, ALLOWED, (), None)
    assert drawn["output"] == "scores"
    lost = dict.fromkeys(("boxes", "scores"), reference * np.nan)
    assert shown(SPEC, lost, dict.fromkeys(lost, reference), ALLOWED, (), None) is None


def test_of_several_pictures_the_one_that_shows_what_is_wrong_is_kept(chain):
    """In any order: what differs by too much before what does not, then the one with the most samples."""
    reference, other = outputs(300, noise=1.0)

    def drawn(count, name, actual):
        arrays = dict.fromkeys(("boxes", "scores"), reference[:count])
        return shown(SPEC, arrays | {name: actual[:count]}, arrays, ALLOWED, (), None)

    wrong, longer, sound = drawn(100, "boxes", other), drawn(200, "boxes", other), drawn(300, "scores", reference)
    for pictures, kept in (([wrong, sound], wrong), ([wrong, longer, sound], longer), ([sound], sound)):
        for order in (pictures, pictures[::-1]):
            run = Run(chain)
            for i, record in enumerate(order):
                run.test("onnx-fp32", f"test_{i}", records=[Picture(record)])
            (found,) = run.document()["pictures"]
            assert (found["output"], found["samples"]) == (kept["output"], kept["samples"])
