"""Contrast and drawn inputs fit the model: as many samples of every input, each of its shape and within its range."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.chain import Chain
from engines.errors import DataError
from engines.model.brought import read_samples
from engines.model.datasets import locate
from engines.model.ranges import Ends
from engines.model.toml import parse_model
from engines.store import Store
from engines.variant import Variant
from trial.bearable import FP16, FP16_NUDGES, bearable, nudged
from trial.contrast import contrast_set
from trial.draws import drawn_inputs, partitions, textured
from trial.textures import DRAWN, drawn

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


class Asked(SimpleNamespace):
    """What made-up inputs ask a chain for: a reference that answers by a function of their kind; ``seen`` are those."""

    def __init__(self, answer, kinds, reference="savedmodel", variants=("onnx-fp32",)):
        outputs = [SimpleNamespace(name=name, kind=kind) for name, kind in kinds.items()]
        constants = {name for name, kind in kinds.items() if kind == "constant"}
        spec = {"outputs": outputs, "constants": constants, "source": "mine.toml"}
        super().__init__(answer=answer, seen={}, ranges={"x": Ends(0.0, 5.0, False)})
        self.spec = SimpleNamespace(**spec, reference=Variant(reference, "fp32"))
        self.variants = [self.spec.reference, *(Variant(*name.split("-")) for name in variants)]

    def tried(self, kind, inputs):
        """Answers, and what was said of inputs that the reference stops at."""
        self.seen[kind] = inputs["x"].copy()
        return self.answer(kind)


GIVEN = {"x": np.float32([[0], [1], [2], [3], [4], [5]])}
X = GIVEN["x"]


def test_made_up_inputs_that_the_reference_does_not_stand_by_are_named():
    """Each kind of inputs, as it is and nudged, is asked for by a name of its own: answers are stored by it."""

    def answer(kind):
        """Twice the input; NaN at one, by rounding at three, by FP16's steps at zero and four; stops at five."""
        moved = (X == 3) * (kind != "contrast") + (X == 0) * kind.endswith("-0") + (X == 4) * kind.endswith("-1")
        answers = {"y": np.where(X == 1, np.nan, 2 * X + moved), "table": np.float32([np.nan])}
        return answers, {5: "the reference stops"} if kind == "contrast" else {}

    chain = Asked(answer, {"y": "values", "table": "constant"}, variants=["onnx-fp32", "onnx-fp16"])
    found = bearable(chain, "contrast", [*"abcdef"], GIVEN)
    expected = {"contrast": X, "contrast-nudged": nudged(chain.ranges, GIVEN)["x"]}
    for seed in range(FP16_NUDGES):
        expected[f"contrast-nudged-fp16-{seed}"] = nudged(chain.ranges, GIVEN, FP16, seed)["x"]
    assert sorted(chain.seen) == sorted(expected)
    for kind, array in expected.items():
        np.testing.assert_array_equal(chain.seen[kind], array)
    assert found.left_out == (
        "b: the SavedModel itself gives NaN",
        "d: the SavedModel itself answers otherwise at a few of FP32's steps beside it",
        "f: the reference stops",
    )
    assert found.names == ("a", "c", "e")
    assert found.inputs["x"][:, 0].tolist() == [0, 2, 4]
    assert found.reference["y"][:, 0].tolist() == [0, 4, 8]
    assert found.reference["table"].shape == (1,)
    assert found.coarse == (0, 2)


@pytest.mark.parametrize("reference, itself", [("onnx", "the ONNX itself"), ("tflite", "LiteRT itself")])
def test_a_reference_is_called_by_its_format(reference, itself):
    """Its infinities are told from what is no number, and where nothing can be used the first reason is."""

    def answer(kind):
        return {"y": np.where(X == 2, np.inf, np.where(X == 4, np.nan, X + (X == 5) * (kind != "drawn")))}, {}

    found = bearable(Asked(answer, {"y": "values"}, reference), "drawn", [*"abcdef"], GIVEN)
    assert found.left_out == (
        f"c: {itself} gives an infinity",
        f"e: {itself} gives NaN",
        f"f: {itself} answers otherwise at a few of FP32's steps beside it",
    )
    nothing = Asked(lambda _: ({"y": X * np.nan}, {}), {"y": "values"}, reference)
    with pytest.raises(DataError, match=f"^mine.toml: of 6 drawn inputs none can be used; a: {itself} gives NaN$"):
        bearable(nothing, "drawn", [*"abcdef"], GIVEN)


def test_what_the_reference_stands_by_is_kept_as_it_is():
    """Nothing is left out; what FP16's steps move is numbered where anything is made in FP16, and not asked else."""

    def answer(kind):
        return {"y": X + 9 * (X == 4) * ("fp16" in kind)}, {}

    for variants, coarse in (("onnx-fp16",), (4,)), (("onnx-fp32",), ()):
        chain = Asked(answer, {"y": "values"}, variants=variants)
        found = bearable(chain, "drawn", [*"abcdef"], GIVEN)
        assert (found.names, found.left_out, found.coarse) == (tuple("abcdef"), (), coarse)
        assert found.inputs is GIVEN
        np.testing.assert_array_equal(found.reference["y"], X)
        assert len(chain.seen) == (4 if coarse else 2)


@pytest.mark.parametrize(
    "largest, step, moved",
    [
        (4.0, 0.19, False),
        (4.0, 0.2, True),
        (0.5, 0.02, False),
        (0.5, 0.03, True),
        (0.0, 0.04, False),
        (0.0, 0.07, True),
    ],
)
def test_an_answer_is_moved_by_a_twentieth_of_the_largest(largest, step, moved):
    """Whichever output moves; lists in an order may, as ties change places, and so may what has another shape."""
    kinds = {"list": "ranked", "shape": "values", "y": "values", "still": "values", "none": "values"}

    def answer(kind):
        usual = kind == "drawn"
        return {
            "list": X if usual else X[::-1],
            "shape": X if usual else np.zeros((6, 2)),
            "y": np.where(X == 0, largest, (X == 3) * (not usual) * step),
            "still": X,
            "none": X[:, :0],
        }, {}

    found = bearable(Asked(answer, kinds), "drawn", [*"abcdef"], GIVEN)
    assert [said[0] for said in found.left_out] == ["d"] * moved


def made_of(**inputs):
    """What the contrast set asks a description for: inputs of float32 by name, with the shapes of a sample."""
    items = tuple(SimpleNamespace(name=name, dtype="float32", shape=shape) for name, shape in inputs.items())
    return SimpleNamespace(inputs=items, concrete_shape=lambda item, count: (count, *item.shape))


ONCE = [
    *("uniform noise 0", "uniform noise 1", "uniform noise 2", "uniform noise 3"),
    *("only ends of the range 0", "only ends of the range 1"),
]


def test_patterns_of_numbers_are_those_that_their_names_say():
    """Ends, turns and fours, one number of all, noise, and a ramp: five numbers from 2 to 10, as they are made."""
    names, arrays = contrast_set(made_of(x=(5,)), {"x": Ends(2.0, 10.0, False)})
    patterns = dict(zip(names, arrays["x"].tolist(), strict=True))
    random = {name: patterns.pop(name) for name in ONCE}
    assert patterns == {
        "all lowest": [2, 2, 2, 2, 2],
        "all highest": [10, 10, 10, 10, 10],
        "all in the middle": [6, 6, 6, 6, 6],
        "lowest and highest by turns": [2, 10, 2, 10, 2],
        "highest and lowest by turns": [10, 2, 10, 2, 10],
        "lowest and highest in fours": [2, 2, 2, 2, 10],
        "one highest, first": [10, 2, 2, 2, 2],
        "one highest, middle": [2, 2, 10, 2, 2],
        "one highest, last": [2, 2, 2, 2, 10],
        "ramp along axis 1": [2, 4, 6, 8, 10],
    }
    assert list(names) == [*list(patterns)[:9], *ONCE, "ramp along axis 1"]
    assert len({tuple(values) for values in random.values()}) == len(random)
    assert all(2 < value < 10 for name in ONCE[:4] for value in random[name])
    assert all(len(set(random[name])) == 5 for name in ONCE[:4])
    assert all(value in (2, 10) for name in ONCE[4:] for value in random[name])
    again = contrast_set(made_of(x=(5,)), {"x": Ends(2.0, 10.0, False)})[1]
    np.testing.assert_array_equal(again["x"], arrays["x"])


def test_patterns_of_images_are_the_same_in_all_channels():
    """Boards, single pixels and a ramp along each axis of the picture hang on the place alone."""
    names, arrays = contrast_set(made_of(x=(5, 6, 2)), {"x": Ends(0.0, 1.0, False)})
    patterns = {name: array for name, array in zip(names, arrays["x"], strict=True) if name not in ONCE}
    rows, columns = np.indices((5, 6))
    board, coarse = (rows + columns) % 2, (rows // 4 + columns // 4) % 2
    expected = {
        "black": 0 * board,
        "white": 0 * board + 1,
        "mid-grey": 0 * board + 0.5,
        "checkerboard": board,
        "inverse checkerboard": 1 - board,
        "coarse checkerboard": coarse,
        **{f"single bright pixel, {n}": (rows == r) & (columns == c) for n, r, c in PIXELS},
        "ramp along axis 1": rows / 4,
        "ramp along axis 2": columns / 5,
    }
    assert list(patterns) == list(expected)
    for name, picture in expected.items():
        np.testing.assert_allclose(patterns[name], np.stack([picture] * 2, axis=2), atol=1e-7, err_msg=name)


PIXELS = [("first", 0, 0), ("middle", 2, 2), ("last", 4, 5)]


def test_patterns_of_whole_numbers_are_whole_and_of_one_number_its_own():
    """Halves are rounded where samples are whole; inputs of fewer axes repeat their last pattern."""
    names, arrays = contrast_set(
        made_of(one=(), ids=(4,)), {"one": Ends(0.0, 3.0, False), "ids": Ends(0.0, 3.0, [True] * 4)}
    )
    one, ids = (dict(zip(names, arrays[name].tolist(), strict=True)) for name in ("one", "ids"))
    assert ids["all in the middle"] == [2, 2, 2, 2]
    assert ids["ramp along axis 1"] == [0, 1, 2, 3]
    assert all(value in (0, 1, 2, 3) for values in ids.values() for value in values)
    assert [one[name] for name in list(names)[:9]] == [0, 3, 1.5, 0, 3, 0, 3, 3, 3]
    assert one["ramp along axis 1"] == one["only ends of the range 1"] in (0, 3)


@pytest.mark.parametrize(
    "texture, values",
    [
        ("flat", lambda v: 0 * v),
        ("noise", lambda v: v),
        ("blocks", np.round),
        ("spikes", lambda v: (v > 0.97).astype(float)),
    ],
)
def test_textures_fill_a_part_of_the_range(texture, values):
    """From 2 to 10 the part from a quarter to three quarters is that from 4 to 8; ids are whole, and ends are ends."""
    noise = np.random.default_rng(5).random((20, 20))
    found = textured(Ends(2.0, 10.0, False), (0.25, 0.75), texture, 5, (20, 20))
    np.testing.assert_allclose(found, 4 + 4 * values(noise))
    whole = textured(Ends(2.0, 10.0, True), (0.25, 0.75), texture, 5, (20, 20))
    np.testing.assert_array_equal(whole, np.rint(found))
    assert found.dtype == whole.dtype == np.float64
    back = textured(Ends(2.0, 10.0, False), (1.0, 0.0), texture, 5, (20, 20))
    np.testing.assert_allclose(back, 10 - 8 * values(noise))


def test_rounding_takes_no_texture_beyond_the_range():
    """The upper end is reached to the last bit, though low + (high - low) is a little more."""
    found = textured(Ends(-0.1, 0.2, False), (0.0, 1.0), "blocks", 5, (20, 20))
    assert -0.1 + (0.2 - -0.1) > 0.2
    assert np.unique(found).tolist() == [-0.1, 0.2]


def test_made_up_samples_have_every_texture_in_turn():
    """Sixty-four samples of the input's type, the same each time: every fourth one is flat, and no two are alike."""
    spec, ranges = made_of(x=(50,), y=(3,)), {"x": Ends(0.0, 1.0, False), "y": Ends(0.0, 9.0, True)}
    found, again = drawn(spec, ranges), drawn(spec, ranges)
    assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
        "x": ((DRAWN, 50), np.float32),
        "y": ((DRAWN, 3), np.float32),
    }
    for name, array in found.items():
        np.testing.assert_array_equal(array, again[name])
        assert ((array.min(axis=1) == array.max(axis=1))[::4]).all()
    kinds = [len(np.unique(array)) for array in found["x"]]
    assert all(n == 1 for n in kinds[::4])
    assert all(n == 50 for n in kinds[1::4])
    assert all(n == 2 for n in kinds[2::4])
    assert all(n in (1, 2) for n in kinds[3::4])
    assert len({array.tobytes() for array in found["x"]}) == DRAWN
    # Nor are they the same noise in another part of the range.
    noise = [(array - array.min()) / np.ptp(array) for array in found["x"][1::4]]
    assert all(np.abs(one - other).max() > 0.1 for one, other in itertools.combinations(noise, 2))
    np.testing.assert_array_equal(found["y"], np.rint(found["y"]))


def test_partitions_are_consecutive():
    """Every partition starts at the first sample, ends at the last one, and leaves none out; single samples too."""
    seen = set()

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(st.integers(1, 5).flatmap(lambda count: st.tuples(st.just(count), partitions(count))))
    def look(drawn_):
        count, cuts = drawn_
        assert [i for start, stop in cuts for i in range(start, stop)] == list(range(count))
        assert all(start < stop for start, stop in cuts)
        seen.add((count, tuple(cuts)))

    look()
    assert {(1, ((0, 1),)), (2, ((0, 1), (1, 2))), (2, ((0, 2),))} <= seen
