"""The table of what TensorRT for RTX builds of the zoo: one command writes it, from builds of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import ZOO
from zoo.rtx import BUILT, NO_ONNX, NOT_MADE, REFUSED
from zoo.rtx_page import page, shortened

from engines.formats.tensorrt_rtx import packages, recipe
from tests.meta.apart import environment_apart

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(bool(packages.cannot_build()), reason=str(packages.cannot_build()))
def test_one_command_builds_and_tells(tmp_path):
    """What is built has its size and layers, what is not its reason, and the exit code is that of a sound run."""
    output = tmp_path / "rows.json"
    words = ["--only=signatures", "--only=lookup", f"--output={output}", f"--artifacts={tmp_path / 'made'}"]
    environment = environment_apart(PYTHONPATH="tests")
    command = [sys.executable, "-m", "zoo.rtx", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    models = json.loads(output.read_text(encoding="utf-8"))["models"]
    assert list(models) == ["lookup", "signatures"]
    for precision, found in models["signatures"]["variants"].items():
        assert found["state"] == BUILT
        assert found["bytes"] > found["weights_bytes"] > 0
        assert {"fp32": "FP32", "fp16": "FP16", "int8-qdq": "INT8"}[precision] in found["layers"]
    for found in models["lookup"]["variants"].values():
        assert found["state"] == NO_ONNX
        assert "tf2onnx does not convert LookupTableFindV2" in found["reason"]
        assert str(tmp_path) not in found["reason"]
    assert (tmp_path / "rows.md").is_file()


def test_the_page_is_that_of_the_results():
    """The page in docs is written from the JSON file, and both have every model of the zoo in every precision."""
    results = json.loads((ROOT / "docs/runs/rtx_zoo.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs/rtx_zoo.md").read_text(encoding="utf-8") == page(results)
    assert list(results["models"]) == list(ZOO)
    for model in results["models"].values():
        assert list(model["variants"]) == list(recipe.SOURCES)
        assert {found["state"] for found in model["variants"].values()} <= {BUILT, NO_ONNX, REFUSED}


def test_a_reason_stands_once_with_all_that_it_is_for():
    """Plans that fail of one reason share a line, in which no variant's own name stands; a long one is cut."""
    reason = "tensorrt-rtx-fp32-b1.16.32 of net: does not take `EyeLike`\n(why)"
    lost = {"state": NOT_MADE, "reason": reason}
    results = {
        "made_with": {"onnx": "1", "gone": None},
        "machine": "here",
        "targets": ["8.6"],
        "models": {"net": {"title": "a net", "refused": None, "variants": {"fp32": lost, "fp16": lost}}},
    }
    text = page(results)
    assert "| `net` | a net | **not made** | **not made** |" in text
    assert "- `net` fp32, `net` fp16: `does not take 'EyeLike' (why)`" in text
    assert "fp32 0 of 1; fp16 0 of 1" in text
    assert len(shortened("x" * 1000)) < 500
