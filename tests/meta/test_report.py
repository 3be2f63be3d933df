"""The report says what happened: its data is as its schema says, its page is whole and safe, its verdict honest."""

from __future__ import annotations

import copy
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from conformance.report.charts import LEFT, RIGHT, histogram, over_time
from conformance.report.document import as_json, schema
from conformance.report.markup import Markup, tag
from conformance.report.numbers import apart, duration, number, percent, ratio
from conformance.report.page import page
from conformance.report.pictures import POINTS, picture, with_images
from conformance.report.summary import summary
from conformance.report.verdict import verdict, what_is_broken
from conformance.report.wording import decisive
from engines.model.bundled import find_model
from engines.model.toml import load_model
from fixtures.pictures import image
from tests.meta.report_documents import (
    CLASSES,
    GPU,
    QUOTA,
    ROWS,
    document,
    outputs,
    with_every_variant_broken,
    with_meters,
    with_supplied_file,
    with_wrong_answers_everywhere,
)
from tests.meta.valid import validate, validator

HOSTILE = "<script>alert(1)</script>\"'&|`](x)"


class Page(HTMLParser):
    """Takes in a page: its elements with their attributes, and the text of each; a part need not be well nested."""

    def __init__(self, text, whole=True):
        super().__init__()
        self.elements, self.open, self.whole = [], [], whole
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Open an element."""
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(element)

    def handle_endtag(self, tag):
        """Close it; a page that is not well nested fails here."""
        if tag not in {"meta", "link", "img", "br"}:
            if not self.whole and (not self.open or self.open[-1]["tag"] != tag):
                return
            assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        """Add text to all that it stands in."""
        for element in self.open:
            element["text"] += data

    def all(self, *tags):
        """The elements of these names."""
        return [e for e in self.elements if e["tag"] in tags]


@pytest.fixture(scope="module")
def broken():
    """Document of a run in which one of 18 variants is broken."""
    return document()


def undescribed(value, part, path=""):
    """Keys of a document that its schema does not know."""
    found = []
    for option in [part, *part.get("oneOf", [])]:
        if isinstance(value, dict) and "properties" in option:
            for key, inner in value.items():
                if key not in option["properties"]:
                    found.append(f"{path}.{key}")
                else:
                    found += undescribed(inner, option["properties"][key], f"{path}.{key}")
        elif isinstance(value, dict) and isinstance(option.get("additionalProperties"), dict):
            for key, inner in value.items():
                found += undescribed(inner, option["additionalProperties"], f"{path}.{key}")
        elif isinstance(value, list) and isinstance(option.get("items"), dict):
            for inner in value:
                found += undescribed(inner, option["items"], f"{path}[]")
    return found


# The data.


def test_the_schema_is_sound_and_every_key_of_a_document_is_in_it(broken):
    """The schema is one, a document is valid by it, and holds nothing that it does not describe."""
    validator().check_schema(schema())
    validate(broken)
    assert undescribed(broken, schema()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict", "status"), "green"),
        (("started",), 3),
        (("tests", "passed"), -1),
        (("comparisons", 0, "figures", "max"), [1.0]),
        (("variants", 0, "verdict"), "fine"),
        (("artifacts", 0, "sha256"), "abc"),
    ],
)
def test_the_schema_refuses_what_is_wrong(broken, path, value):
    """A wrong status, type, sign, pair or hash is not valid."""
    wrong = copy.deepcopy(broken)
    part = wrong
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    import jsonschema

    with pytest.raises(jsonschema.ValidationError):
        validate(wrong)


def test_json_is_read_back_and_has_no_number_that_json_lacks(broken):
    """What is written is what was given; NaN and infinity are refused, not written as words."""
    assert json.loads(as_json(broken)) == broken
    assert max(map(len, as_json({"a": list(range(500))}).splitlines())) <= 120
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            as_json({"a": [value]})


# The verdict.


def changed(**changes):
    """Judge a good document with other sections."""
    return verdict({**document(broken=None), **changes})


def test_a_good_run_passes_and_says_how_many():
    """Nothing failed, the run finished, variants were compared: passed, and the headline counts them."""
    judged = changed()
    assert (judged["status"], judged["complete"]) == ("passed", True)
    assert judged["sentences"] == ["All 17 variants that were compared give the reference's answers."]


def with_tests(made, **counts):
    """Counts of a document's tests, with others."""
    return {"tests": made["tests"] | counts}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: {"exit_code": 2}, "did not finish"),
        (lambda made: {"exit_code": 3}, "did not finish"),
        (lambda made: with_tests(made, not_run=7), "did not finish"),
        (lambda made: {"comparisons": []}, "no outputs of a variant were compared"),
        (lambda made: {"comparisons": made["comparisons"][:2]}, "no outputs of a variant were compared"),
        (lambda made: {"exit_code": 5, "comparisons": []}, "no outputs of a variant were compared"),
        (lambda made: {"exit_code": 1}, "exit code 1"),
    ],
    ids=["interrupted", "internal error", "stopped", "nothing compared", "only the reference", "nothing ran", "unsaid"],
)
def test_a_run_that_proves_nothing_is_incomplete(change, words):
    """Interrupted, stopped, empty, or only the reference against itself: never a green report."""
    judged = changed(**change(document(broken=None)))
    assert judged["status"] == "incomplete"
    assert words in judged["sentences"][0]


def test_an_interrupted_run_that_failed_has_failed(broken):
    """A failure counts whether or not the run finished, and the report says that it did not."""
    judged = verdict({**broken, "exit_code": 2, "tests": broken["tests"] | {"not_run": 50}})
    assert (judged["status"], judged["complete"]) == ("failed", False)
    assert "50 selected tests never ran" in judged["sentences"][-1]


def with_known_failures(made, *variants, wrong=False):
    """Good document in which a test of these variants failed as known; with wrong answers, or right ones."""
    made = copy.deepcopy(made)
    for row in made["variants"]:
        if row["variant"] in variants:
            row["verdict"] = "known failure"
    for row in made["comparisons"]:
        row["passed"] = not (wrong and row["variant"] in variants)
    made["tests"]["xfailed"] = len(variants)
    made["verdict"] = verdict(made)
    return made


def test_known_failures_are_not_shown_as_green():
    """The run passes, but headline, badge and summary say that there are some, and of how many variants."""
    made = with_known_failures(document(broken=None), "onnx-int8", "onnx-fp16", wrong=True)
    assert made["verdict"]["status"] == "passed"
    assert made["verdict"]["sentences"][0] == (
        "15 of 17 variants that were compared give the reference's answers; 2 have known failures."
    )
    assert '<span class="badge known">! Passed with known failures</span>' in page(made)
    assert "<title>! Passed with known failures: " in page(made)
    assert "<dd>15 of 17</dd>" in page(made)
    assert summary(made).startswith("## ⚠️ Conformance: passed with known failures\n")
    validate(made)


def test_a_known_failure_beside_right_answers_does_not_make_them_wrong():
    """Of a variant that is known to be slow, and gives the reference's answers, both is said."""
    made = with_known_failures(document(broken=None), "onnx-int8")
    assert made["verdict"]["sentences"][0] == (
        "All 17 variants that were compared give the reference's answers; 1 has known failures."
    )
    made = with_known_failures(document(variants=("savedmodel-fp32", "onnx-int8"), broken=None), "onnx-int8")
    assert made["verdict"]["status"] == "passed"
    assert made["verdict"]["sentences"][0] == (
        "The variant that was compared gives the reference's answers, and has known failures."
    )
    assert "Passed with known failures" in page(made)


def test_a_run_in_which_all_that_was_compared_is_known_to_be_wrong_proves_nothing():
    """No variant gives the reference's answers: there is no failure, and no green report either."""
    made = document(variants=("savedmodel-fp32", "onnx-int8", "onnx-fp16"), broken=None)
    made = with_known_failures(made, "onnx-int8", "onnx-fp16", wrong=True)
    assert made["verdict"]["status"] == "incomplete"
    assert "no variant gives the reference's answers" in made["verdict"]["sentences"][0]
    assert "! Incomplete" in page(made)


def test_a_variant_that_fails_otherwise_is_not_among_those_that_passed():
    """What loses accuracy and agrees on the judged samples is broken, and not counted as one that passed."""
    text = page(failing_otherwise("accuracy", correct=800, passed=False))
    assert "<dd>16 of 17</dd>" in text


def test_what_was_left_out_is_said():
    """A run of a part of the suite, or without some variants, passes and says what it left out."""
    made = document(broken=None)
    made["variants"][-1] |= {"verdict": "skipped", "reason": "no GPU"}
    sentences = verdict({**made, **with_tests(made, deselected=3)})["sentences"]
    assert sentences[1] == f"1 variant skipped (cifar10_vgg-{made['variants'][-1]['variant']}): no GPU."
    assert "3 tests deselected" in sentences[2]


def test_a_finding_says_what_where_how_badly_why_and_how_to_see_it_again(broken):
    """One broken variant is one finding, with all of that in words."""
    (finding,) = what_is_broken(broken)
    assert finding.title == "onnx-fp32 of cifar10_vgg does not give the reference's answers"
    assert "On real samples: 362 of 1,000 change class; the largest difference is 0.98" in finding.extent[0]
    assert "allowed 7.0e-06; in the agreement test 25 of 100, and 0.89." in finding.extent[0]
    assert "76.10 %, the reference's 88.80 %" in finding.extent[1]
    assert finding.likely == "the channels are swapped"
    assert finding.replay.startswith("pytest 'tests/")
    assert broken["verdict"]["sentences"][0] == "1 of 17 tested variants is broken: onnx-fp32 of cifar10_vgg."


def failing_otherwise(kind, **changes):
    """Document in which a variant gives the reference's answers, but fails by a row of another kind."""
    made = document()
    made["comparisons"] = [c | {"passed": True} for c in made["comparisons"]]
    made["accuracy"] = [row | {"correct": 888, "passed": True} for row in made["accuracy"]]
    made["failures"][0]["likely"] = None
    for row in made[kind]:
        if row["variant"] == "onnx-fp32":
            row.update(changes)
    return made


@pytest.mark.parametrize(
    ("kind", "changes", "title"),
    [
        ("accuracy", {"correct": 800, "passed": False}, "onnx-fp32 of cifar10_vgg loses accuracy"),
        (
            "accuracy",
            {"correct": 138, "reference_correct": 140, "passed": False},
            "onnx-fp32 of cifar10_vgg is no more accurate than guessing",
        ),
        (
            "accuracy",
            {"correct": 142, "reference_correct": 140, "passed": False},
            "onnx-fp32 of cifar10_vgg is judged by a reference that is no more accurate than guessing",
        ),
        ("accuracy", {"least": None, "passed": False}, "onnx-fp32 of cifar10_vgg fails 1 test"),
        (
            "batching",
            {"largest": 0.1, "passed": False},
            "onnx-fp32 of cifar10_vgg gives answers that depend on the batch",
        ),
        (
            "batching",
            {"largest": None, "problems": ["batches of 7: NaN"], "passed": False},
            "onnx-fp32 of cifar10_vgg gives answers that depend on the batch",
        ),
    ],
)
def test_what_fails_beside_the_comparison_is_named(kind, changes, title):
    """Lost accuracy and answers that depend on the batch are said to be that, and no message is promised of answers."""
    made = failing_otherwise(kind, **changes)
    (finding,) = what_is_broken(made)
    assert finding.title == title
    part = box(page(made))
    assert "where answers differ" not in part
    wrong = "fails 1 test" not in title
    assert ("do not ship this onnx-fp32; find the cause, then run" in part) == wrong
    assert ('class="tile bad lead"' in part) == (wrong and kind == "accuracy")
    assert ("; guessing stays below 141 right" in part) == ("guessing" in title)


def test_messages_say_where_answers_differ_only_where_they_do(broken):
    """Without a likely cause, a failed comparison is what points to the messages."""
    failures = [f | {"likely": None} for f in broken["failures"]]
    assert "find the cause (the messages below say where answers differ), then" in page(broken | {"failures": failures})


@pytest.mark.parametrize(("phase", "words"), [("collect", "cannot be collected"), ("call", "failed"), ("run", "stale")])
def test_a_failure_beside_the_variants_is_a_finding(phase, words):
    """A test of the suite itself, a file that cannot be collected, and an error of the run are shown as such."""
    made = document(broken=None)
    made["failures"] = [
        {"test": "stale.toml: 3" if phase == "run" else "tests/x.py", "model": None, "variant": None, "phase": phase}
        | {"summary": "E", "likely": None, "message": "E", "replay": "pytest x"}
    ]
    judged = verdict(made)
    assert judged["status"] == "failed"
    assert words in judged["sentences"][1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (6.8e-06, "6.8e-06"),
        (9.94e-4, "9.9e-04"),
        (9.999e-4, "0.001"),
        (0.0421, "0.042"),
        (0.887, "0.89"),
        (3.14, "3.1"),
        (12.3, "12"),
        (99.7, "100"),
        (-99.7, "-100"),
        (999.4, "999"),
        (999.6, "1,000"),
        (130381.2, "130,381"),
        (5.9e8, "5.9e+08"),
        (None, "not finite"),
    ],
)
def test_numbers_are_written_one_way(value, text):
    """Small and huge numbers have an exponent, others are plain."""
    assert number(value) == text


def test_three_digits_are_rounded_before_they_are_written():
    """A figure of three digits that rounds to a thousand has no exponent either."""
    assert [number(v, 3) for v in (0.04213, 99.96, 999.6)] == ["0.0421", "100", "1,000"]


@pytest.mark.parametrize(
    ("found", "allowed", "digits", "texts"),
    [
        (2e-6, 6.8e-6, 2, ("2.0e-06", "6.8e-06")),
        (6.84e-6, 6.8e-6, 2, ("6.84e-06", "6.80e-06")),
        (1.797, 1.8, 3, ("1.797", "1.8")),
        (1234.25, 1234.5, 3, ("1,234.2", "1,234.5")),
        (0.30000001, 0.3, 2, ("0.30000001", "0.3")),
        (0.5, 0.5, 2, ("0.5", "0.5")),
        (None, 0.5, 2, ("not finite", "0.5")),
    ],
)
def test_what_is_found_never_reads_as_what_is_allowed(found, allowed, digits, texts):
    """Two numbers that differ get as many digits as show it; equal ones do not."""
    assert apart(found, allowed, digits) == texts


def test_a_figure_just_beyond_is_told_from_its_limit_everywhere(broken):
    """Boxes, tables and sentences show a difference and a floor that are missed by little as missed."""
    made = copy.deepcopy(broken)
    for comparison in made["comparisons"]:
        if not comparison["passed"]:
            comparison["figures"] = {"max": [6.84e-6, 6.8e-6], "flips": [0.0, 0.01]}
    made["floors"][0] |= {"model": "cifar10_vgg", "variant": "onnx-fp32", "found": 1.797, "held": False}
    made["batching"][1] |= {"largest": 2.04e-7, "passed": False}
    made["pictures"] = []
    text, told = page(made), " ".join(what_is_broken(made)[0].extent)
    assert "<dd>6.84e-06</dd>" in text
    assert "<dd>1.797</dd>" in text
    assert "<td>6.84e-06</td><td>6.80e-06</td>" in text
    assert "<td>1.797</td><td>1.8</td>" in text
    assert "differs by at most 2.04e-07, allowed 2.00e-07" in text
    for words in ("6.84e-06, allowed 6.80e-06", "1.797, the floor is 1.8", "by 2.04e-07, allowed 2.00e-07"):
        assert words in told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "60 s"), (119.4, "119 s"), (119.6, "2 min 0 s"), (179.7, "3 min 0 s"), (3725, "62 min 5 s")],
)
def test_no_minute_has_sixty_seconds(seconds, text):
    """Seconds are rounded before they become minutes."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "0 %"), (100_000, "100 %"), (99_999, "99.99 %"), (1, "0.01 %"), (50_000, "50.0 %"), (99_940, "99.9 %")],
)
def test_nearly_all_is_never_written_as_all(part, text):
    """One element in a hundred thousand that differs still shows."""
    assert percent(part, 100_000) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00 ×"),
        (0.259, "0.26 ×"),
        (0.9999, "0.9999 ×"),
        (1.0, "1.00 ×"),
        (1.004, "1.004 ×"),
        (1.00000001, "1.00000001 ×"),
        (8.33, "8.33 ×"),
        (47.2, "47 ×"),
        (97668.3, "> 100 ×"),
    ],
)
def test_found_over_allowed_is_neither_loud_nor_rounded_across_one(value, text):
    """What is far beyond is only said to be; what is just beyond, or just within, does not read as the other."""
    assert ratio(value) == text


def test_the_figure_that_decides_is_named():
    """It is the one with the largest found over allowed; a share of changed classes that is not judged is none."""
    figures = {"max": [0.2, 0.1], "kl": [3.0, 1e-3], "flips": [1.0, 1.0], "sum": [0.0, 0.0]}
    assert decisive([{"figures": figures}]) == "kl"
    assert decisive([{"figures": figures}, {"figures": {"mean": [None, 1.0]}}]) == "mean"
    assert decisive([{"figures": {"flips": [1.0, 1.0]}}]) is None


# The pictures.


def test_the_histogram_counts_every_element():
    """Bins, equal elements and what is beyond the tolerance add up to what NumPy counts."""
    reference, actual = outputs(noise=1e-3)
    actual[0] = reference[0]
    made = picture(actual, reference, "probabilities", 1e-4)
    difference = np.abs(actual.astype(np.float64) - reference)
    data = made["histogram"]
    assert sum(data["counts"]) + data["zeros"] == difference.size
    assert data["zeros"] == (difference == 0).sum() >= 10
    assert data["beyond"] == (difference > 1e-4).sum() > 0
    edges = 10 ** np.array(data["edges_log10"])
    middle = len(edges) // 2
    inside = ((difference >= edges[middle]) & (difference < edges[middle + 1])).sum()
    assert data["counts"][middle] == pytest.approx(inside, abs=1)


@pytest.mark.parametrize(("noise", "every"), [(0.3, True), (3.0, False)])
def test_the_scatter_has_all_flips_or_leaves_a_third_for_others(noise, every):
    """A few flips are all shown, surest first; many leave room for samples that agree."""
    reference, actual = outputs(noise=noise)
    made = picture(actual, reference, "probabilities", 1e-4)
    flips = int((reference.argmax(axis=1) != actual.argmax(axis=1)).sum())
    shown = [p for p in made["scatter"] if p["flip"]]
    assert len(made["scatter"]) == POINTS
    assert len(shown) == (flips if every else POINTS * 2 // 3)
    assert flips <= 200 if every else flips > 200
    assert [p["reference"] for p in shown] == sorted((p["reference"] for p in shown), reverse=True)


def test_agreement_and_worst_samples_are_what_numpy_says():
    """Agreement by class adds up to the samples that keep theirs, and the worst sample is the argmax."""
    reference, actual = outputs(noise=2.0)
    labels = np.roll(reference.argmax(axis=1), 1)
    made = picture(actual, reference, "probabilities", 1e-4, CLASSES, labels)
    same = int((reference.argmax(axis=1) == actual.argmax(axis=1)).sum())
    assert sum(r["same"] for r in made["agreement"]) == same
    assert sum(r["samples"] for r in made["agreement"]) == len(reference)
    worst = int(np.abs(actual - reference).max(axis=1).argmax())
    assert made["worst"][0]["sample"] == worst
    assert made["flips"] == len(reference) - same
    assert [w["label"] for w in made["worst"]] == [CLASSES[labels[w["sample"]]] for w in made["worst"]]
    assert made["worst"][0]["expected"][0][0] == CLASSES[reference[worst].argmax()]


@pytest.mark.parametrize("kind", ["logits", "values"])
def test_other_kinds_are_relative_to_the_reference(kind):
    """Differences of logits and values are over the reference's largest magnitude; values have no classes."""
    reference = np.array([[8.0, -10.0], [1.0, 2.0]], np.float32)
    made = picture(reference + np.float32(0.5), reference, kind, 0.01)
    assert made["worst"][0]["difference"] == pytest.approx(0.05)
    assert bool(made["scatter"]) == bool(made["agreement"]) == (kind == "logits")


def test_a_record_is_small():
    """All that a test records for the charts stays below 50 kB with a thousand classes, images and 10,000 samples."""
    reference, actual = outputs(10_000, 100, noise=3.0)
    made = picture(actual, reference, "probabilities", 1e-4, [f"a class of some name {i}" for i in range(100)])
    noise = np.broadcast_to(np.random.default_rng(0).random((80, 80, 3), np.float32), (10_000, 80, 80, 3))
    spec = load_model(find_model("cifar10_vgg"))
    made = with_images(made, {w["sample"]: image(spec, {"input_1": noise}, w["sample"]) for w in made["worst"]})
    assert made["worst"][3]["image"].startswith("data:image/png;base64,")
    assert len(json.dumps(made)) < 50_000


def test_what_cannot_be_drawn_is_refused():
    """NaN, other shapes and no samples are no picture; equal outputs are one, without bars."""
    reference, _ = outputs(5)
    for actual in (reference * np.nan, reference[:2], reference[:, :2]):
        with pytest.raises(ValueError, match=r"finite|shapes"):
            picture(actual, reference, "probabilities", 1e-4)
    with pytest.raises(ValueError, match="shapes"):
        picture(reference[:0], reference[:0], "probabilities", 1e-4)
    assert "All 50 elements equal" in histogram(picture(reference, reference, "probabilities", 1e-4))


def test_bars_of_the_histogram_fit_its_axis():
    """A bar ends at the line of its count, in all decades, and one of a single element can be seen."""
    counts = [0] * 48
    counts[10:14] = [1, 10, 100, 1000]
    edges = [float(e) for e in np.linspace(-10, 2, 49)]
    data = {"edges_log10": edges, "counts": counts, "zeros": 0, "beyond": 0}
    found = Page(histogram({"histogram": data, "allowed_max": 1e-3}))
    bars = [(float(e["y"]), float(e["height"])) for e in found.all("rect")]
    lines = sorted((float(e["y1"]) for e in found.all("line") if e["y1"] == e["y2"]), reverse=True)
    assert [y for y, _ in bars] == pytest.approx(lines, abs=0.11)
    assert min(height for _, height in bars) > 5
    assert len({round(y + height, 1) for y, height in bars}) == 1


# The page.


def test_whatever_is_no_markup_is_escaped():
    """Text and attributes are escaped, markup is not."""
    assert tag("p", "<b>", Markup("<i>"), None, title='"<', class_="x", hidden=True, lang=None) == (
        '<p title="&quot;&lt;" class="x" hidden>&lt;b&gt;<i></p>'
    )


def hostile(value):
    """Put the hostile text to every text of a document that a user chooses, but for words with a meaning."""
    fixed = {"verdict", "status", "sha256", "started", "built", "outcome", "phase", "image", "schema_version"}
    if isinstance(value, dict):
        return {
            (k + HOSTILE if k in {"numpy", "model.bin", "onnx", "savedmodel", "limit_samples_per_s"} else k): (
                v if k in fixed and not isinstance(v, dict) else hostile(v)
            )
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_no_name_or_message_can_break_the_page(broken):
    """Markup in names of models, variants, classes, files, messages and reasons is text on the page, nothing else."""
    broken = with_supplied_file(broken)
    made = hostile(broken)
    sound, attacked = Page(page(broken)), Page(page(made))
    assert attacked.open == []
    assert len(attacked.all("script")) == len(sound.all("script")) == 1
    names = {e["tag"] for e in sound.elements}
    assert {e["tag"] for e in attacked.elements} <= names
    (h1,) = attacked.all("h1")
    assert "alert(1)" in h1["text"]
    (path,) = (e for e in attacked.all("code") if e.get("class") == "path")
    assert path["text"] == "/data/classifier v7.onnx" + HOSTILE
    # The script is the page's own, byte for byte.
    assert attacked.all("script")[0]["text"] == sound.all("script")[0]["text"]
    # The replay command and a file's path are code, which Markdown shows as it is.
    rest = [re.sub(r"`` .* ``", "", line) for line in summary(made).splitlines()]
    assert not any("<script" in line for line in rest)
    for line in summary(made).splitlines():
        if line.startswith("| onnx"):
            assert line.replace(r"\|", "").count("|") == 8


def test_the_page_needs_nothing_but_itself(broken):
    """Nothing on the page is fetched: links stay on it, images are in it."""
    found = Page(page(broken))
    for element in found.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            if name in element:
                assert element[name].startswith(("#", "data:")), element
    style = found.all("style")[0]["text"]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_can_be_read_without_eyes_or_mouse(broken):
    """One h1, no level left out, captions, names of charts and images, landmarks, and links that lead somewhere."""
    found = Page(page(broken))
    levels = [int(e["tag"][1]) for e in found.all("h1", "h2", "h3", "h4", "h5")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(found.all("caption")) == len(found.all("table")) > 10
    assert all(e["text"].strip() for e in found.all("caption", "th", "summary", "figcaption", "title"))
    for svg in found.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"])
    assert all(e["alt"] for e in found.all("img"))
    assert all(e.get("scope") for e in found.all("th"))
    for element in found.elements:
        if element.get("class") == "scroll":
            assert (element["tabindex"], element["role"]) == ("0", "group")
            assert element["aria-label"]
    assert [len(found.all(name)) for name in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    ids = [e["id"] for e in found.elements if "id" in e]
    assert len(ids) == len(set(ids))
    links = [e["href"][1:] for e in found.all("a")] + [e["aria-labelledby"] for e in found.all("section", "article")]
    assert set(links) <= set(ids)


def test_no_two_tables_are_called_alike():
    """Captions name the variant, and of several models the model: without eyes, they tell tables apart."""
    for models in (("cifar10_vgg",), ("cifar10_vgg", "digits_vgg")):
        captions = [e["text"] for e in Page(page(document(models=models))).all("caption")]
        assert len(captions) == len(set(captions)) > 50


def test_nothing_is_said_to_a_mouse_only(broken):
    """No words stand in a title that shows under a pointer: hashes are whole in the text, and checks are explained."""
    found = Page(page(broken))
    assert not any("title" in element for element in found.elements)
    hashes = [e["text"] for e in found.all("code") if re.fullmatch("[0-9a-f]{64}", e["text"])]
    assert hashes.count("cd" * 32) == 18
    explained = {e["text"] for e in found.all("dd") if "(pytest -m " in e["text"]}
    assert explained == {
        "it gives the reference's answers (pytest -m consistency)",
        "a sample's answer does not depend on its batch (pytest -m batching)",
        "against labels it is about as accurate as the reference (pytest -m accuracy)",
    }


def test_checks_have_one_name_each(broken):
    """The heads of the matrix, their explanations and the counts of failed tests use the same words."""
    text = page(with_wrong_answers_everywhere(broken))
    heads = [e["text"] for e in Page(text.split("by check</caption>")[1].split("</thead>")[0], whole=False).all("th")]
    assert heads == ["variant", "verdict", "found / allowed", "agreement", "batching", "accuracy", "speed"]
    assert "4 agreement, 2 accuracy, 4 speed" in text
    for name in heads[3:]:
        assert f"<dt>{name}</dt>" in text


def test_every_chart_has_its_values_in_a_table(broken):
    """A figure of a variant holds a chart and a table; charts of speed are followed by the table of speeds."""
    text = page(broken)
    figures = [part.split("</figure>")[0] for part in text.split("<figure>")[1:]]
    with_charts = [f for f in figures if 'role="img"' in f]
    assert len(with_charts) == len(figures) == 3 * 18 + 4
    assert sum("<table>" in f for f in figures) == 3 * 18
    assert all("table of speeds" in f for f in figures if "<table>" not in f)
    assert "Speed of cifar10_vgg" in text


@pytest.fixture(scope="module")
def sampled(broken):
    """Document of a run that was sampled, and throttled at batch 32."""
    return with_meters(broken)


def test_the_machine_over_time_is_drawn_with_its_values(sampled):
    """A chart for the processes and for each GPU, with all readings in its table; what could not be read is said."""
    validate(sampled)
    assert undescribed(sampled, schema()) == []
    text = page(sampled)
    section = text.split('<section id="machine"')[1].split("</section>")[0]
    charts = [part.split("</figure>")[0] for part in section.split("<figure>")[1:]]
    titles = ["Processes of the run", *(f"GPU {n}: NVIDIA H200, power limit 700 W" for n in range(2))]
    assert [re.search("<strong>(.*?)</strong>", chart)[1] for chart in charts] == titles
    for chart, lanes in zip(charts, (2, 5, 5), strict=True):
        assert chart.count("<polyline") == chart.count("<polygon") == lanes
        assert chart.count("<tr>") == 1 + 240
        assert chart.count('class="over"') == 6
        assert "throttled by CPU quota" in chart
    assert "Not read: GPU 1 cannot be read: GPU is lost (not read any more after 1800 s)." in section
    assert 'id="machine"' not in page({**sampled, "meters": None})


def test_lines_of_a_chart_over_time_stay_inside_and_break_where_nothing_was_read(sampled):
    """Every point is on the chart, a gap is no line, and one reading alone is still seen."""
    rows = [[0.0, 1.0, [], [1.0, 1.0, 1.0]], [1.0, 2.0, [], None], [2.0, 3.0, [], [0.0, 2.0, 4.0]]]
    chart = over_time(rows, [(0, "load", str)], [(0.5, 9.0)], "a chart")
    lines = [re.findall(r"([\d.]+),([\d.]+)", line) for line in re.findall('<polyline[^>]*points="(.*?)"', chart)]
    assert [len(line) for line in lines] == [2, 2]
    width, height = map(float, re.search('viewBox="0 0 ([0-9]+) ([0-9]+)"', chart).groups())
    places = [(float(x), float(y)) for line in lines for x, y in line]
    assert all(LEFT - 1 <= x <= width - RIGHT + 1 and 0 <= y <= height for x, y in places)
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    # The second mean is twice the first.
    bottom = float(re.findall('<line class="grid"[^>]*y1="([0-9.]+)"', chart)[-1])
    assert bottom - places[-1][1] == pytest.approx(2 * (bottom - places[0][1]), abs=0.2)


def test_a_throttled_speed_is_named_wherever_it_stands(sampled, broken):
    """A mark beside the figure, and what throttled it; nothing of it where nothing throttled, as in older results."""
    text, lines = page(sampled), summary(sampled).splitlines()
    timed = [b for b in sampled["benchmarks"] if b["batch"] == 32]
    assert len(re.findall(r"<td>[\d,.]+( ~)? !</td>", text)) == len(timed) > 0
    assert text.count(f'<td class="w">{QUOTA}</td>') == 2 * len(timed)
    assert len(
        [line for line in lines if f"was throttled while it was timed (!): at batch 32: {QUOTA}" in line]
    ) == len({b["variant"] for b in timed})
    assert any(re.search(r"\| [\d,]+( \\?~)? ! \|", line) for line in lines)
    assert not re.search(" !</td>|throttled by|Not read", page(broken))
    assert "throttled" not in summary(broken)


def test_verdict_comes_first_and_figures_of_a_gpu_are_there(broken):
    """The broken variant is named before any table; energy, memory, and the limit of a GPU are shown as measured."""
    text = page(broken)
    assert text.index("does not give the reference") < text.index("<table>")
    row = ROWS[0]
    assert f"<td>{number(row['joules_per_1000_samples'], 3)}</td>" in text
    assert f"<td>{row['limit_samples_per_s']:,.0f}</td>" in text
    assert ">GPU MB<" in text


def test_sizes_are_shown_where_nothing_was_timed(broken):
    """Processes that share cores time nothing, and artifacts have a size all the same."""
    text = page(broken | {"benchmarks": [], "floors": []})
    assert "Size and build time of cifar10_vgg" in text
    assert "Timed after" not in text
    assert "load ms" not in text
    assert "Size, load time and build time of cifar10_vgg" in page(broken)
    assert 'href="#speed"' not in page(broken | {"benchmarks": [], "floors": [], "artifacts": []})


def test_a_figure_of_which_nothing_is_allowed_is_no_broken_output(broken):
    """Page and summary tell a difference where none is allowed from outputs that cannot be compared at all."""
    made = copy.deepcopy(broken)
    for row in made["variants"] + made["comparisons"]:
        if row["variant"] == "onnx-fp32":
            row["usage"] = None
    for row in made["comparisons"]:
        if row["variant"] == "onnx-fp32":
            row["figures"]["max"] = [1e-9, 0.0]
    matrix = page(made).split('<a href="#variant-1">onnx-fp32</a>')[-1].split("</tr>")[0]
    assert '<span class="bad">✗ none allowed</span><span class="muted under">largest difference</span>' in matrix
    assert page(made).count("✗ none allowed") == 3
    assert "broken output" not in page(made)
    assert "| none allowed |" in summary(made)
    for row in made["comparisons"]:
        if row["variant"] == "onnx-fp32":
            row |= {"figures": {}, "problems": ["dense_1: shape (3,)"]}
    assert '<td class="w"><span class="bad">broken output</span></td>' in page(made)
    assert "| broken output |" in summary(made)


def test_two_models_with_all_variants_stay_small():
    """The page of two models and 36 variants, with every chart, table and picture, takes less than 3 MB.

    So it does where every variant fails nine tests, each with its message.
    """
    made = document(models=("cifar10_vgg", "digits_vgg"))
    assert len(made["variants"]) == 36
    assert len(page(made).encode()) < 3_000_000
    made = with_every_variant_broken(made)
    validate(made)
    assert len(made["failures"]) == 36 * 9
    assert min(len(f["message"]) for f in made["failures"] if "accuracy" not in f["test"]) > 1_350
    assert len(page(made).encode()) < 3_000_000


def test_tests_that_say_the_same_share_a_message():
    """All are named, beside one message with the command of the first; of what differs in more, each is shown."""
    made = with_every_variant_broken(document(variants=("savedmodel-fp32", "onnx-fp32")))
    part = box(page(made).split("</article>", 1)[1])
    assert "9 failed tests with messages: 4 agreement, 1 accuracy, 4 speed" in part
    own = [f for f in made["failures"] if f["variant"] == "onnx-fp32"]
    for failure in own:
        assert part.count(f"<code>{failure['test']}</code>") == 1
    messages = [e["text"] for e in Page(part, whole=False).all("pre") if e.get("class") != "replay"]
    assert messages == [f["message"] for f in own[:6]]
    other = copy.deepcopy(made)
    other["failures"][-1]["message"] = other["failures"][-1]["message"].replace("worst sample", "worst sample of all")
    other["failures"][-2] |= {"phase": "teardown"}
    part = box(page(other).split("</article>", 1)[1])
    assert len([e for e in Page(part, whole=False).all("pre") if e.get("class") != "replay"]) == 8


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_run_is_a_page_too(empty):
    """A run without a variant or without a model still has a page, JSON that is valid, and a summary; none is green."""
    made = document(models=() if empty else ("m",), variants=(), broken=None) if not empty else None
    made = made or {**document(variants=(), broken=None), "models": [], "skips": [], "known_failures": [], "floors": []}
    made["verdict"] = verdict(made)
    validate(made)
    assert Page(page(made)).open == []
    assert "incomplete" in summary(made)


# What a reader who never saw the tool needs of it.


def tiles(found):
    """Tiles of a page or a part of it: pairs of a value and what it is."""
    labels, values = ([e["text"] for e in found.all(name)] for name in ("dt", "dd"))
    return list(zip(values, labels, strict=True))


def box(text):
    """Take in the box of the first finding of a page."""
    return text.split("<article", 1)[1].split("</article>", 1)[0]


def test_the_supplied_file_is_named_at_the_top(broken):
    """Path, size, hash, option, engine, precision and reference stand above the first box, and in the summary."""
    made = with_supplied_file(broken)
    text = page(made)
    (file, reference) = (
        e["text"] for e in Page(text.split("<article")[0] + "</main></body></html>", whole=False).all("dd")
    )
    assert file.startswith("/data/classifier v7.onnx (15.00 MB, SHA-256 cdcdcdcdcdcd…), given by --onnx; ")
    assert file.endswith("run by ONNX Runtime 1.31.1 as FP32")
    assert reference == "the SavedModel of cifar10_vgg, run by TensorFlow 2.21.0"
    assert "do not ship classifier v7.onnx" in box(text)
    own = text.split("<h4>onnx-fp32</h4>")[1].split("</details><details")[0]
    assert f"supplied by --onnx (classifier v7.onnx, SHA-256 <code>{'cd' * 32}</code>)" in own
    assert "built in 0.1" not in own
    assert "`/data/classifier v7.onnx`" in summary(made)
    assert "cd" * 32 in summary(made)


def test_what_the_suite_made_itself_is_not_taken_for_a_file(broken):
    """Without a supplied file the top names the reference alone, and the box what was made and what runs it."""
    text = page(broken)
    assert "Tested file" not in text
    assert (
        "onnx-fp32, made by the suite from the SavedModel (15.00 MB" in Page(box(text), whole=False).all("p")[0]["text"]
    )


@pytest.mark.parametrize(
    ("variant", "made_from", "words"),
    [
        ("onnx-fp32", {"savedmodel": "ef" * 32}, "onnx-fp32, made by the suite from the SavedModel (15.00 MB"),
        (
            "tflite-int8",
            {"savedmodel": "ef" * 32, "calibration": "ab" * 32},
            "tflite-int8, made by the suite from the SavedModel (15.00 MB",
        ),
        ("onnx-int8", {"onnx-fp32": "ef" * 32}, "made by the suite from the SavedModel, by way of onnx-fp32 (15.00 MB"),
        ("savedmodel-fp32", {"weights": "ef" * 32}, "made by the suite from the weights that come with the model (15"),
        ("savedmodel-fp32", {"training samples": "ef" * 32}, "savedmodel-fp32, trained by the suite (15.00 MB"),
        ("savedmodel-fp32", {"saved_model.pb": "ef" * 32}, "savedmodel-fp32, made by the suite (15.00 MB"),
    ],
)
def test_the_box_says_what_a_variant_was_made_from(variant, made_from, words):
    """By what is recorded of the artifact: a reference is not made from itself, nor a plan from what was not used."""
    made = document(broken=variant)
    for artifact in made["artifacts"]:
        artifact["made_from"] = made_from
    (first, *_) = Page(box(page(made)), whole=False).all("p")
    assert first["text"].startswith("Tested: ")
    assert words in first["text"]


def test_what_is_made_from_a_users_onnx_is_said_to_be():
    """With --onnx a TensorRT engine is made from that file, and not from the SavedModel."""
    made = with_supplied_file(document(broken=GPU[0]))
    for artifact in made["artifacts"]:
        artifact["made_from"] = {"onnx-fp32": "cd" * 32}
    (first, *_) = Page(box(page(made)), whole=False).all("p")
    assert first["text"].startswith(f"Tested: {GPU[0]}, made by the suite from classifier v7.onnx (15.00 MB")


def without_a_run(made, variant):
    """Document in which no test of a broken variant got as far as running it."""
    made = copy.deepcopy(made)
    for section in ("artifacts", "comparisons", "batching", "accuracy", "benchmarks", "pictures"):
        made[section] = [row for row in made[section] if row["variant"] != variant]
    made["failures"] = [f | {"phase": "setup"} for f in made["failures"]]
    made["verdict"] = verdict(made)
    return made


def test_a_variant_that_never_ran_is_neither_tested_nor_made(broken):
    """It fails the run, but is not counted among the tested ones, and nothing is said to have made or run it."""
    made = without_a_run(broken, "onnx-fp32")
    text = page(made)
    assert made["verdict"]["status"] == "failed"
    assert made["verdict"]["sentences"][0] == "1 variant cannot be built or run: onnx-fp32 of cifar10_vgg."
    assert "Tested: " not in text
    assert "run by ONNX Runtime" not in box(text)
    also = copy.deepcopy(made)
    also["failures"].append({**broken["failures"][0], "variant": "onnx-int8"})
    assert verdict(also)["sentences"][0] == (
        "1 of 16 tested variants is broken: onnx-int8 of cifar10_vgg; "
        "1 variant cannot be built or run: onnx-fp32 of cifar10_vgg."
    )
    given = with_supplied_file(made)
    given["artifacts"] = [a for a in given["artifacts"] if a["variant"] != "onnx-fp32"]
    (file, _) = (e["text"] for e in Page(page(given).split("<article")[0], whole=False).all("dd"))
    assert file.endswith("given by --onnx")


def test_headline_tiles_and_sentences_say_the_same(broken):
    """Tiles begin with the accuracy lost, count on all samples that were run, and agree with data and headline."""
    text = page(broken)
    drawn = next(p for p in broken["pictures"] if p["variant"] == "onnx-fp32")
    found = tiles(Page(box(text).split("</dl>")[0] + "</dl>", whole=False))
    assert found == [
        ("−12.70 points", "accuracy 76.10 %, reference 88.80 %: 127 more of 1,000 wrong; 5 allowed"),
        (
            f"{drawn['flips']} of 1,000",
            f"samples change class ({percent(drawn['flips'], 1000)}); 25 of 100 in the agreement test",
        ),
        (
            number(drawn["worst"][0]["difference"]),
            "largest change of a class probability, in 1,000 samples; allowed 7.0e-06 "
            "(0.89 in the 100 of the agreement test)",
        ),
    ]
    assert Page(text).all("h1")[0]["text"].startswith("1 of 17 tested variants is broken")
    assert "<dd>16 of 17</dd>" in text
    # The list has what the tiles do not show: here the contrast inputs.
    (line,) = (e["text"] for e in Page(box(text), whole=False).all("li") if "allowed" in e["text"])
    assert line.startswith("On contrast inputs (black, white, ")
    assert "Worst of the 1,000 test samples" in text
    assert text.count('class="samples"') == 18
    assert f"label: <b>{drawn['worst'][0]['label']}</b>" in text


def test_a_share_of_nearly_all_is_written_plainly(broken):
    """That almost every sample and element differs is said in percent, without an exponent."""
    made = copy.deepcopy(broken)
    drawn = next(p for p in made["pictures"] if p["variant"] == "onnx-fp32")
    drawn["flips"], drawn["histogram"]["beyond"] = 997, 9_990
    text = page(made)
    assert "samples change class (99.7 %)" in text
    assert "9,990 (99.9 %) differ by more than is allowed" in text


def test_figures_on_the_judged_samples_where_no_more_were_run(broken):
    """A picture of the judged samples alone, or none, adds no second count."""
    for pictures in ([], [p | {"samples": 100} for p in broken["pictures"]]):
        found = tiles(Page(box(page(broken | {"pictures": pictures})).split("</dl>")[0] + "</dl>", whole=False))
        assert found[1:] == [
            ("25 of 100", "samples change class (25.0 %)"),
            ("0.89", "largest change of a class probability, in 100 samples; allowed 7.0e-06"),
        ]


def with_a_broken_second_output(made):
    """Document of a model with boxes beside its scores: the charts are of the scores, which are sound."""
    made = copy.deepcopy(made)
    made["models"][0]["outputs"].append({"name": "boxes", "kind": "logits"})
    sound = next(p for p in made["pictures"] if p["variant"] == "onnx-int8")
    for i, drawn in enumerate(made["pictures"]):
        if drawn["variant"] == "onnx-fp32":
            made["pictures"][i] = {**copy.deepcopy(sound), "variant": "onnx-fp32"}
    return made


def test_a_box_never_shows_sound_figures_for_an_output_that_is_broken(broken):
    """Where the charts are of another output, the tiles are of what was judged, and no sound samples stand there."""
    made = with_a_broken_second_output(broken)
    text = page(made)
    found = tiles(Page(box(text).split("</dl>")[0] + "</dl>", whole=False))
    assert found[1:] == [
        ("25 of 100", "samples change class (25.0 %)"),
        ("0.89", "largest difference, in 100 samples; allowed 7.0e-06"),
    ]
    assert box(text).count('class="tile bad') == 3
    assert 'class="samples"' not in box(text)
    assert "On real samples: 25 of 100 change class; the largest difference is 0.89" in summary(made)
    assert "| 25 of 100 |" in summary(made)


def test_the_output_that_is_shown_is_named_where_there_are_several(broken):
    """Titles of charts and worst samples say of which output they are; of a model with one output they need not."""
    titles = [e["text"] for e in Page(page(broken)).all("figcaption", "p")]
    assert not any("output 'dense_1'" in title for title in titles)
    several = [e["text"] for e in Page(page(with_a_broken_second_output(broken))).all("figcaption", "p")]
    for words in (
        "elements of output 'dense_1' (1,000 samples)",
        "Confidence of output 'dense_1', reference",
        "reference of output 'dense_1', by class",
        "Worst of output 'dense_1' of the 1,000",
    ):
        assert sum(words in title for title in several) == 18


def test_the_samples_in_the_box_are_those_of_what_is_wrong(broken):
    """A variant that is wrong on contrast inputs alone has no sound samples in its box; one that loses accuracy has."""
    made = copy.deepcopy(broken)
    made["comparisons"] = [c | {"passed": c["passed"] or c["inputs"] == "samples"} for c in made["comparisons"]]
    assert 'class="samples"' in box(page(made))
    made["accuracy"] = [row | {"passed": True} for row in made["accuracy"]]
    text = page(made)
    assert 'class="samples"' not in box(text)
    assert text.count('class="samples"') == 18


def test_what_passed_does_not_stand_in_the_failing_verdict(broken):
    """Figures of what passed have a heading of their own, without accuracy and counts of tests."""
    text, good = page(broken), page(document(broken=None))
    heading = "The variants that passed"
    part = text.split(f"<h3>{heading}</h3>")[1].split("</section>")[0]
    for words in ("accuracy lost", "tests passed"):
        assert words not in text
        assert words in good
    assert 'class="tile bad' not in part
    for words in (heading, "<article", 'class="tile bad', "Next: ", "points</dd><dt>accuracy"):
        assert words not in good
    assert "<dd>17 of 17</dd>" in good


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (
            "pytest 'tests/t.py::test_a[m-v]' --model=m '--onnx=/a b/c-d.onnx'",
            ["pytest", "'tests/t.py::test_a[m-v]'", "--model=m", "'--onnx=/a b/c-d.onnx'"],
        ),
        ('pytest "odd quotes"', ['pytest "odd quotes"']),
        ("pytest 'no end", ["pytest 'no end"]),
    ],
)
def test_a_command_is_broken_between_its_words_only(broken, command, parts):
    """Each word, quotes and all, is a piece of its own, and what is copied is the command, letter for letter."""
    failures = [f | {"replay": command} for f in broken["failures"]]
    (block,) = (e for e in Page(page(broken | {"failures": failures})).all("pre") if e.get("class") == "replay")
    assert block["text"] == command
    inside = page(broken | {"failures": failures}).split('<pre class="replay"')[1].split("</pre>")[0]
    assert [e["text"] for e in Page(inside.split(">", 1)[1], whole=False).all("span")] == parts


def test_what_was_not_timed_is_not_shown_as_slow(broken):
    """Speed tests that failed for wrong answers are told apart from floors: in the table, the box and the speeds."""
    text = page(with_wrong_answers_everywhere(broken))
    row = text.split('<a href="#variant-1">onnx-fp32</a>')[-1].split("</tr>")[0]
    assert "not timed" in row
    assert "4 of 4 failed" not in row
    says = "10 failed tests with messages: 4 agreement, 2 accuracy, 4 speed (not timed: its answers are wrong)"
    assert says in text
    assert "<td>not timed: wrong answers</td>" in text
    # Where something was timed, the tests failed for another reason.
    slow = copy.deepcopy(broken)
    for good, bad in ((3, 1), (0, 4)):
        slow["variants"][1]["checks"]["benchmark"] = {"passed": good, "failed": bad, "skipped": 0, "xfailed": 0}
        assert f"✗ {bad} of 4 failed" in page(slow)
        assert "not timed" not in page(slow)


def test_the_precision_is_cleared_only_by_a_variant_of_it_that_passed():
    """That FP16 alone is not the cause is said where another FP16 variant agrees, of that model, and not otherwise."""
    made = document(broken="onnx-fp16")
    says = "FP16 alone does not explain it: tflite-fp16 passes."
    assert says in page(made)
    others = [v | {"verdict": "failed"} if v["precision"] == "fp16" else v for v in made["variants"]]
    assert "alone does not explain it" not in page(made | {"variants": others})
    assert "alone does not explain it" not in page(document(broken="onnx-fp32"))


def test_variants_that_were_not_tested_stand_in_one_line(broken):
    """The headline counts them, one line opens to names and reasons, and none is counted among the tested."""
    made = copy.deepcopy(broken)
    for row, (found, why) in zip(
        made["variants"][-3:], [("skipped", "no GPU"), ("skipped", "no program"), ("not run", None)], strict=True
    ):
        row |= {"verdict": found, "reason": why}
    made["verdict"] = verdict(made)
    text = page(made)
    (h1,) = Page(text).all("h1")
    assert h1["text"] == "1 of 14 tested variants is broken: onnx-fp32 of cifar10_vgg. 3 more were not tested."
    (note,) = (e for e in Page(text).all("details") if e.get("class") == "note")
    assert note["text"].startswith("3 variants were not tested")
    assert all(words in note["text"] for words in ("no GPU", "no program", "none of their tests was selected"))
    assert len([e for e in Page(text).elements if e.get("class") == "note"]) == 1


ENGINES = {
    "onnx": "ONNX Runtime 1.31.1",
    "tflite": "LiteRT 2.1",
    "tensorrt": "TensorRT",
    "toy8": "Toy program on Toys 8 (/opt/toy8/run)",
}


def test_names_of_skipped_formats_that_are_not_their_engines_are_explained():
    """By the engine that the document names for them, whatever formats there are; each once."""
    made = document(broken=None)
    made["environment"]["engines"] = [{"format": f, "engine": e, "unavailable": None} for f, e in ENGINES.items()]
    skipped = {"verdict": "skipped", "reason": "no toys", "profile": "1.16.32"}
    for row, format_ in zip(made["variants"][-4:], ("toy8", "toy8", "tensorrt", "unknown"), strict=True):
        row.update(skipped, format=format_)
    told = [p["text"] for p in Page(page(made)).all("p") if "an engine for batches" in p["text"]]
    assert told == ["toy8: Toy program on Toys 8; b1.16.32: an engine for batches of 1 to 32, tuned for 16."]


def test_what_is_made_from_another_format_is_said_to_be_whatever_it_is():
    """No format is known by name: that of another artifact is told from the document's own."""
    made = document(broken="onnx-int8")
    made["variants"][-1] |= {"format": "toy"}
    made["variants"][-2] |= {"format": "toy-vc"}
    made["variants"][-2]["supplied"] = {"option": "--toy", "path": "my.toy", "bytes": 1, "sha256": "cd" * 32}
    for source, words in (
        ("toy-fp32", "made by the suite from the SavedModel, by way of toy-fp32 (15"),
        ("toy-vc-fp32", "made by the suite from my.toy (15"),
    ):
        for artifact in made["artifacts"]:
            artifact["made_from"] = {source: "ef" * 32}
        (first, *_) = Page(box(page(made)), whole=False).all("p")
        assert words in first["text"]


def test_more_is_said_only_of_what_was_counted_before():
    """Variants that were not tested do not read as further failures where the headline counts no variants."""
    made = document(broken=None)
    for row in made["variants"][-3:]:
        row |= {"verdict": "skipped", "reason": "no GPU"}
        made["comparisons"] = [c for c in made["comparisons"] if c["variant"] != row["variant"]]
    assert verdict(made)["sentences"][0].endswith("reference's answers. 3 more were not tested.")
    made["failures"] = [
        {"test": "tests/x.py", "model": None, "variant": None, "phase": "call"}
        | {"summary": "E", "likely": None, "message": "E", "replay": "pytest x"}
    ]
    made["verdict"] = verdict(made)
    assert made["verdict"]["sentences"][0] == "1 failure beside the variants. 3 variants were not tested."
    (h1,) = Page(page(made)).all("h1")
    assert h1["text"] == "1 failure beside the variants. 3 variants were not tested."
    assert "<small>3 variants were not tested.</small>" in page(made)


def test_results_of_an_earlier_version_still_make_a_page(broken):
    """Without what was added since, such as labels and the supplied file, the page is whole and claims nothing."""
    made = copy.deepcopy(broken)
    for key, names in {
        "variants": ["supplied"],
        "models": ["reference_run_by", "outputs"],
        "comparisons": ["test"],
        "pictures": ["flips"],
    }.items():
        for row in made[key]:
            for name in names:
                del row[name]
    for drawn in made["pictures"]:
        drawn["worst"] = [{k: v for k, v in w.items() if k != "label"} for w in drawn["worst"]]
    validate(made)
    text = page(made)
    assert Page(text).open == []
    assert "label: " not in text
    assert "run by TensorFlow" not in text
    assert f"<dd>{next(p for p in broken['pictures'] if p['variant'] == 'onnx-fp32')['flips']} of 1,000</dd>" in text


# The summary.


def test_the_summary_has_verdict_failures_and_a_table(broken):
    """Markdown says the verdict first, then what broke and how to replay it, then a row for each variant."""
    lines = summary(broken).splitlines()
    assert lines[0] == "## ❌ Conformance: failed"
    assert "onnx-fp32 of cifar10_vgg" in lines[2]
    assert any(line.startswith("  Replay: `pytest 'tests/") for line in lines)
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + 18
    (row,) = (r for r in rows if r.startswith("| onnx-fp32"))
    assert [c.strip() for c in row.split("|")[1:6]] == ["onnx-fp32", "**FAILED**", "> 100 ×", "362 of 1,000", "76.10 %"]
