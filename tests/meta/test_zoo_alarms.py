"""False alarms are counted, told with their words, and never left out."""

from __future__ import annotations

import json

import pytest
from zoo import ZOO, alarms, alarms_page
from zoo.alarms import TRAINED, Model

from trial import judged

RESULTS = {
    "made_with": {"onnx": "1.0"},
    "models": {
        "marks 0": {"onnx-fp32": {"samples": 0.2, "stress": 0.1}, "onnx-int8": {"samples": 0.5, "stress": 0.7}},
        "marks 1": {"onnx-fp32": {"samples": 1.3, "stress": 0.1, "state": "beyond", "text": "max is 1.3\nmore"}},
        "digits_vgg 0": {"": {"state": "error", "text": "exit code 1: out of memory"}},
    },
}


def test_the_page_counts_and_names_every_alarm():
    """What failed, and a model that could not be judged, stands on the page by its name and first line."""
    page = alarms_page.page(RESULTS)
    assert "**3 sound conversions of 3 models of 2 sorts: 2 failed.**" in page
    assert "- marks 1, onnx-fp32: max is 1.3" in page
    assert "- digits_vgg 0, the model: exit code 1: out of memory" in page
    assert "| onnx-fp32 | 2 | 0.75, 1.30 (marks 1) | 0.10, 0.10 (marks 1) |" in page


def test_results_are_kept_as_they_are():
    """The file reads back as what was found, so that a run that was cut short goes on."""
    assert json.loads(alarms_page.compact(RESULTS)) == RESULTS


def test_only_variants_that_are_to_pass_are_judged():
    """A known defect is no false alarm; refused models and those of no seed asked for are left out."""
    assert Model("price", 0).variants() == ["onnx-fp32", "onnx-int8", "tflite-fp32", "tflite-int8"]
    found = list(alarms.models([2], 1, heavy=False))
    assert {m.seed for m in found if m.name != TRAINED} == {2}
    assert Model(TRAINED, 0) in found
    assert not {m.name for m in found} & {name for name, e in ZOO.items() if e.refused or e.heavy}


@pytest.mark.slow
def test_a_sound_model_passes_and_a_strict_rule_is_an_alarm(tmp_path, monkeypatch):
    """Every variant of a real model is judged; one that fails is told with its words."""
    found = alarms.judge(Model("price", 1), tmp_path / "sound")
    assert set(found) == set(Model("price", 1).variants())
    assert all(0 < used < 1 for one in found.values() for used in one.values()), found
    monkeypatch.setattr(alarms, "judged", lambda *_: judged.Verdict(judged.BEYOND, "max is too large", {"samples": 2}))
    found = alarms.judge(Model("price", 2), tmp_path / "strict")
    assert {one["state"] for one in found.values()} == {judged.BEYOND}
