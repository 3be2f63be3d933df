"""Contrast and drawn inputs fit the model: as many samples of every input, each of its shape and within its range."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.chain import Chain
from engines.model.brought import read_samples
from engines.model.datasets import locate
from engines.model.ranges import Ends
from engines.model.toml import parse_model
from engines.store import Store
from trial.bearable import FP16, nudged
from trial.contrast import contrast_set
from trial.draws import drawn_inputs

DRAWING = """
import hashlib
from pathlib import Path
import numpy as np
from hypothesis import given, settings, strategies as st
{more}
from engines.model.ranges import Ends
from engines.model.toml import parse_model
from trial.draws import drawn_inputs, partitions

inputs = [{{"name": "x", "shape": ["batch", 16, 16, 3], "range": [0.0, 1.0]}}]
outputs = [{{"name": "scores", "shape": ["batch", 4], "kind": "probabilities"}}]
content = {{"source": {{"saved_model": "saved"}}, "inputs": inputs, "outputs": outputs}}
spec = parse_model({{**content, "data": {{"dataset": "photographs"}}}}, Path("mine.toml"))
drawn = drawn_inputs(spec, {{"x": Ends(0.0, 1.0, False)}}, 64)
digest = hashlib.sha256(drawn["x"].tobytes())

@settings(max_examples=64, deadline=None, database=None, derandomize=True)
@given(partitions(40), st.permutations(range(12)), st.lists(st.integers(0, 11), min_size=2, max_size=33))
def of_batches(cuts, order, places):
    digest.update(repr((cuts, order, places)).encode())

of_batches()
print(len(drawn["x"]), digest.hexdigest())
"""
"""A script that prints what it drew; ``more`` is what else it loads, or is."""

SHAPES = {"number": [], "features": [6], "sequence": [20, 5], "image": [8, 6, 3]}
ROOT = Path(__file__).parents[2]
RANGES = {"number": [0.0, 120.0], "features": [-3.0, 6.0], "sequence": [-1.0, 1.0], "image": [0.0, 1.0]}


def spec_of(*names):
    """Describe a model with these inputs."""
    inputs = [{"name": name, "shape": ["batch", *SHAPES[name]], "range": RANGES[name]} for name in names]
    outputs = [{"name": "scores", "shape": ["batch", 4], "kind": "probabilities"}]
    content = {"source": {"saved_model": "saved"}, "inputs": inputs, "outputs": outputs}
    return parse_model({**content, "data": {"dataset": "photographs"}}, Path("mine.toml"))


@pytest.mark.parametrize(
    "names", [["image"], ["image", "features"], ["features", "image"], ["number", "sequence", "image"], ["number"]]
)
def test_inputs_of_any_rank_have_equally_many_samples(tmp_path, names):
    """Each input, beside inputs of other ranks too, has a sample for every name, of its shape and within its range."""
    spec = spec_of(*names)
    ranges = Chain(spec, locate("photographs"), Store(tmp_path)).ranges
    patterns, contrast = contrast_set(spec, ranges)
    drawn = drawn_inputs(spec, ranges, 5)
    assert len(set(patterns)) == len(patterns)
    for name in names:
        assert contrast[name].shape == (len(patterns), *SHAPES[name])
        assert drawn[name].shape == (len(drawn[names[0]]), *SHAPES[name])
        for array in (contrast[name], drawn[name]):
            assert array.dtype == np.float32
            assert RANGES[name][0] <= array.min() < array.max() <= RANGES[name][1]
        assert [contrast[name].min(), contrast[name].max()] == RANGES[name]
    # A row of a table is not black, nor has it pixels.
    assert ("black" in patterns) == ("single bright pixel, last" in patterns) == ("image" in names)
    assert ("all lowest" in patterns) == ("one highest, last" in patterns) == ("image" not in names)


def test_draws_are_the_same_in_every_script(tmp_path):
    """Other scripts, with modules of their own that hold other constants, draw the same samples and batches."""
    others = "".join(f"A{n} = {n * 1237 + 101}\nB{n} = {n / 509 + 0.0001}\n" for n in range(400))
    (tmp_path / "of_mine.py").write_text(others, encoding="utf-8")
    drawn = []
    for name, more in (("first", ""), ("second", "import of_mine, fixtures.chain, commands.measure, trial.sets")):
        script = tmp_path / f"{name}.py"
        script.write_text(DRAWING.format(more=more), encoding="utf-8")
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
        run = [sys.executable, str(script)]
        drawn.append(subprocess.run(run, env=env, check=True, capture_output=True, text=True, cwd=tmp_path).stdout)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("count", [1, 2, 40])
def test_columns_of_a_table_keep_their_own_ranges(tmp_path, count):
    """With samples of a table each column stays within its own values, a constant one as it is; images do not."""
    spec = spec_of("features", "image")
    spans = np.float32([[0, 1], [-3, 6], [2, 2], [-0.001, 0.001], [5, 6], [-3, -2]])
    table = spans[:, 0] + (spans[:, 1] - spans[:, 0]) * np.linspace(0, 1, count, dtype=np.float32)[:, None]
    np.savez(tmp_path / "mine.npz", features=table, image=np.full((count, 8, 6, 3), 0.5, np.float32))
    ranges = Chain(spec, read_samples(tmp_path / "mine.npz", spec), Store(tmp_path / "build")).ranges
    contrast, drawn = contrast_set(spec, ranges)[1], drawn_inputs(spec, ranges, 20)
    # A single sample has no ranges to tell.
    low, high = spans.T if count > 1 else np.float32([[-3] * 6, [6] * 6])
    for array in (contrast["features"], drawn["features"]):
        assert (array.min(axis=0) >= low).all()
        assert (array.max(axis=0) <= high).all()
        assert (np.ptp(array, axis=0) >= 0.5 * (high - low)).all()
    np.testing.assert_array_equal([contrast["features"].min(axis=0), contrast["features"].max(axis=0)], [low, high])
    assert [contrast["image"].min(), contrast["image"].max()] == [0, 1]


def test_a_nudge_moves_numbers_by_a_few_steps_and_leaves_whole_ones():
    """Numbers stay what they are within FP32's rounding, zeros are told from nothing, and ids stay ids."""
    ranges = {"x": Ends(0.0, 1.0, False), "ids": Ends(0.0, 9.0, True)}
    x = np.float32([[0.0, 0.5, 1.0]])
    moved = nudged(ranges, {"x": x, "ids": x})
    assert (moved["x"] != x).all()
    np.testing.assert_allclose(moved["x"], x, rtol=1e-6, atol=1e-17)
    np.testing.assert_array_equal(moved["ids"], x)


def test_a_nudge_is_the_same_again_and_another_for_each_number():
    """What a message names can be made again; numbers move by parts of their own, and zeros by parts of the range."""
    ranges, x = {"x": Ends(1.0, 3.0, False)}, np.stack([np.zeros(100), np.ones(100)])
    zeros, ones = nudged(ranges, {"x": x})["x"]
    np.testing.assert_array_equal(nudged(ranges, {"x": x})["x"], [zeros, ones])
    assert len(np.unique(zeros)) == len(np.unique(ones)) == 100
    assert zeros.min() >= 0
    assert 0.9 * 2.0**-57 < zeros.max() < 2.0**-57
    assert 0.9 * 2.0**-20 < 1 - ones.min() < 2.0**-20
    assert nudged(ranges, {"x": x.astype(np.float32)})["x"].dtype == np.float32


def test_a_nudge_by_fp16_moves_what_fp16_would_lose_and_no_zero():
    """A number of FP16's smallest step is moved by as much as itself, others by a step; zero is exact in FP16."""
    x = np.float32([[0.0, 2.0**-24, 0.5]])
    (moved,) = nudged({"x": Ends(0.0, 1.0, False)}, {"x": x}, FP16)["x"]
    assert moved[0] < 2.0**-50
    assert 0.1 * 2**-24 < moved[1] - x[0, 1] <= 2.0**-24
    assert 0 < abs(moved[2] - 0.5) <= 2.0**-11
