"""The twin: random roundings in the model's own graph, the same for one seed, and what it says of what it cannot do."""

from types import SimpleNamespace

import numpy as np
import pytest

from engines.formats.onnx.to_fp16 import to_fp16
from trial.twin import PRECISIONS, Precision, Twin, TwinError
from trial.twin.cost import LEAST, MOST
from trial.twin.weights import axes_of_channel, beyond, drawn_in_float, drawn_on_grid, fits, nearest, stored_in_float

FLOATS, INTEGERS = 1, 7
"""ONNX' numbers of float32 and int64: the package is imported where it is used."""


def value(name, shape, dtype=FLOATS):
    from onnx import helper

    return helper.make_tensor_value_info(name, dtype, shape)


def model_of(nodes, weights, outputs, inputs=(("x", ("n", 8)),), opset=17):
    """Build a checked model from nodes, weights by name, and inputs and outputs as (name, shape[, type])."""
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "tested",
        [value(*i) for i in inputs],
        [value(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def dense(opset=17):
    """Two layers and a softmax, with a class as an integer beside it."""
    from onnx import helper

    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["products"]),
        helper.make_node("Add", ["products", "b"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "v"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["class"], axis=1, keepdims=0),
    ]
    weights = {
        "w": generator.normal(size=(8, 16)).astype(np.float32),
        "b": generator.normal(size=16).astype(np.float32),
        "v": generator.normal(size=(16, 4)).astype(np.float32),
    }
    return model_of(nodes, weights, [("p", ("n", 4)), ("class", ("n",), INTEGERS)], opset=opset)


@pytest.fixture(scope="module")
def samples():
    return {"x": np.random.default_rng(1).normal(size=(70, 8)).astype(np.float32)}


def plain(model, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def moved(model, precision, samples, **options):
    """Mean difference of runs from the plain model's probabilities."""
    twin = Twin.of(model, precision, calibration_inputs=samples, **options)
    return np.mean([np.abs(run["p"] - plain(model, samples)["p"]).mean() for run in twin.runs(samples, 4)])


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
def test_one_seed_gives_one_answer_and_runs_differ(precision, samples):
    """Runs of a seed repeat bit by bit in another twin; runs among each other, and another seed's, are different."""
    first = Twin.of(dense(), precision, calibration_inputs=samples).runs(samples, 3, seed=5)
    again = Twin.of(dense(), precision, calibration_inputs=samples).runs(samples, 3, seed=5)
    other = Twin.of(dense(), precision, calibration_inputs=samples).runs(samples, 1, seed=6)
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one["p"], two["p"])
        assert np.array_equal(one["class"], two["class"])
    assert not np.array_equal(first[0]["p"], first[1]["p"])
    assert not np.array_equal(first[0]["p"], other[0]["p"])


def test_no_noise_gives_the_answers_of_the_model(samples):
    """Unit roundoffs of zero leave every bit, of all outputs and in all batches."""
    twin = Twin.of(dense(), Precision("none"))
    (run,) = twin.runs(samples, 1)
    for name, expected in plain(dense(), samples).items():
        np.testing.assert_allclose(run[name], expected, rtol=1e-6, atol=1e-7)
        assert run[name].dtype == expected.dtype


def test_weights_of_a_run_are_constants_in_one_session(samples, monkeypatch):
    """Each run opens one session for all its batches, which is fed nothing but the model's inputs."""
    import onnxruntime

    twin = Twin.of(dense(), "fp16")
    opened = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: opened.append(real(*a, **k)) or opened[-1])
    assert len(twin.runs(samples, 5)) == 5
    assert [[i.name for i in session.get_inputs()] for session in opened] == [list(twin.called.values())] * 5


def test_a_large_model_is_run_on_fewer_samples():
    """As many samples are run as a number of multiplications allows, and eight of any model."""
    from onnx import helper

    def samples_of(width):
        weights = {"w": np.zeros((width, width), np.float32)}
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        rows = ("n", 4096, width)
        return Twin.of(model_of(nodes, weights, [("y", rows)], [("x", rows)]), "fp32").samples

    assert samples_of(16) == MOST
    assert MOST > samples_of(512) >= samples_of(2048) == LEAST


def test_coarser_precisions_move_answers_further(samples):
    """Noise grows from FP32 over FP16 to BF16 about as the unit roundoff does; weights alone are less than all."""
    fp32, weights, fp16, bf16 = (moved(dense(), p, samples) for p in ("fp32", "fp16-weights", "fp16", "bf16"))
    assert 0 < fp32 < 1e-6
    assert 1000 * fp32 < weights < fp16
    assert 4 < bf16 / fp16 < 16


def test_longer_sums_are_off_by_more():
    """Error of a sum of 256 products is several times that of 4, relative to the results."""
    from onnx import helper

    def relative(terms):
        weights = {"w": np.random.default_rng(0).normal(size=(terms, 8)).astype(np.float32)}
        model = model_of(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], weights, [("y", ("n", 8))], [("x", ("n", terms))]
        )
        x = {"x": np.random.default_rng(1).normal(size=(200, terms)).astype(np.float32)}
        expected = plain(model, x)["y"]
        (run,) = Twin.of(model, "fp32").runs(x, 1)
        return np.sqrt(((run["y"].astype(np.float64) - expected) ** 2).mean() / (expected**2).mean())

    assert relative(256) > 3 * relative(4)


def test_what_lies_beyond_the_calibrated_range_saturates(samples):
    """Hundred times the calibration samples gives the product of what the grid ends at, not a hundred times as much."""
    from onnx import helper

    weights = {"w": np.eye(8, dtype=np.float32)}
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], weights, [("y", ("n", 8))])
    largest = np.abs(samples["x"]).max()
    for precision in ("int8-symmetric", "int8-calibrated", "int8-asymmetric"):
        (run,) = Twin.of(model, precision, calibration_inputs=samples).runs({"x": samples["x"] * 100}, 1)
        assert 0.5 * largest < np.abs(run["y"]).max() < 1.3 * largest


def test_integer_grids_have_as_many_values_as_eight_bits():
    """Result of a layer that is on a grid takes no more than 256 values in a run, zero among them."""
    from onnx import helper

    model = model_of(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])],
        {"w": np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)},
        [("y", ("n", 8))],
    )
    x = {"x": np.random.default_rng(2).normal(size=(500, 8)).astype(np.float32)}
    x["x"][0] = 0
    for precision in ("int8-symmetric", "int8-calibrated", "int8-asymmetric"):
        (run,) = Twin.of(model, precision, calibration_inputs=x).runs(x, 1)
        assert 50 < len(np.unique(run["y"])) <= 256
        assert (run["y"][0] == 0).all()


def test_only_a_calibrated_engine_quantizes_the_first_layer():
    """TensorRT's calibration puts the first product on a grid too; Q/DQ files leave it in FP32."""
    from onnx import helper

    generator = np.random.default_rng(0)
    model = model_of(
        [helper.make_node("MatMul", ["x", "v"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])],
        {n: generator.normal(size=(8, 8)).astype(np.float32) for n in "vw"},
        [("y", ("n", 8))],
    )
    x = {"x": generator.normal(size=(500, 8)).astype(np.float32)}
    assert set(Twin.of(model, "int8-symmetric", calibration_inputs=x).grids.ranges) == {"r", "y"}
    assert set(Twin.of(model, "int8-calibrated", calibration_inputs=x).grids.ranges) == {"x", "r", "y"}


@pytest.mark.parametrize(
    ("operator", "least", "most"), [("Tanh", 1e-6, 1.2e-5), ("Sin", 1e-7, 1.3e-6), ("Erf", 0, 3e-7)]
)
def test_a_device_approximates_some_functions(operator, least, most):
    """What TensorRT's own functions are off by is allowed where the model has them; others are rounded as before."""
    from onnx import helper

    model = model_of([helper.make_node(operator, ["x"], ["y"])], {}, [("y", ("n", 8))])
    x = {"x": np.random.default_rng(0).uniform(0.5, 2, (500, 8)).astype(np.float32)}
    (run,), (plain,) = (Twin.of(model, p).runs(x, 1) for p in ("fp32-device", "fp32"))
    off = np.abs(run["y"] - plain["y"])
    assert least <= off.max() <= most


def test_weights_are_rounded_to_their_precision_and_no_further():
    """Random roundings stay within half a step, keep what the precision holds, and zeros on integer grids."""
    generator, fp16 = np.random.default_rng(0), PRECISIONS["fp16"]
    weights = np.concatenate([generator.normal(size=1000), [0, 1, -0.5, 2**-24, np.inf]]).astype(np.float32)
    assert np.array_equal(nearest(weights, fp16), weights.astype(np.float16).astype(np.float64))
    drawn = drawn_in_float(weights, fp16, generator)
    assert np.array_equal(drawn[-5:-2], weights[-5:-2])
    assert 0 < np.abs(drawn[:1000] / weights[:1000] - 1).max() <= 2**-10
    grid = drawn_on_grid(weights[:1001].reshape(7, 143), (1,), generator)
    assert (np.abs(grid - weights[:1001].reshape(7, 143)) <= np.abs(grid).max(axis=1, keepdims=True) / 200).all()
    assert grid[-1, -1] == 0
    # Each weight has an error of its own, to both sides.
    equal = np.full((4, 50), 0.3, np.float32)
    for found in (drawn_in_float(equal, fp16, generator), drawn_on_grid(equal, (1,), generator)):
        assert found.dtype == np.float32
        assert len(np.unique(found)) > 190
        assert 50 < (found > equal).sum() < 150
    assert drawn[-1] == np.inf


@pytest.mark.parametrize(
    "operator, rank, axes",
    [
        ("Conv", 4, (1, 2, 3)),
        ("ConvTranspose", 4, (0, 2, 3)),
        ("MatMul", 3, (0, 1)),
        ("Gemm", 2, (0,)),
        ("Gemm", 1, None),
    ],
)
def test_weights_of_an_output_channel_share_a_step(operator, rank, axes):
    """Channels are the first axis of Conv and the last of a product; the first where its weights are turned."""
    assert axes_of_channel(operator, rank) == axes
    assert axes_of_channel("Gemm", 2, transposed=True) == (1,)


def test_weights_that_a_precision_does_not_hold_are_rounded_where_they_fit():
    """Those beyond its range stay, and are named; an infinity is no number that has to fit; FP32 rounds none."""
    fp16, largest = PRECISIONS["fp16"], 65504.0
    values = {
        "held": np.float32([1, -0.5, 0]),
        "rounded": np.float32([1, 0.1]),
        "mask": np.float32([0.1, -np.inf]),
        "widest": np.float32([0.1, -largest]),
        "beyond": np.float32([0.1, -largest * 1.01]),
        "none": np.zeros((0, 3), np.float32),
    }
    graph = SimpleNamespace(values=values)
    assert stored_in_float(graph, fp16) == ["rounded", "mask", "widest"]
    assert [name for name, array in values.items() if not fits(array, fp16)] == ["beyond"]
    assert beyond(graph, fp16) == ("constant 'beyond' reaches beyond 65504, and stays in FP32",)
    assert stored_in_float(graph, Precision("none")) == []
    assert beyond(graph, Precision("none", largest=1.0)) == ()
    narrow = Precision("narrow", largest=0.5)
    assert [fits(np.float32([value]), narrow) for value in (0.5, 0.51)] == [True, False]


def enlarging(scale):
    """A model that enlarges what its input holds between its samples' first numbers, by a constant scale."""
    from onnx import helper

    nodes = [
        helper.make_node("Reshape", ["x", "square"], ["picture"]),
        helper.make_node("Conv", ["picture", "w"], ["lines"], kernel_shape=[1, 1]),
        helper.make_node("Resize", ["lines", "", "scales"], ["p"], mode="linear"),
    ]
    side = int(4 * scale)
    weights = {
        "square": np.asarray([-1, 1, 2, 4], np.int64),
        "w": np.full((2, 1, 1, 1), 0.3, np.float32),
        "scales": np.asarray([1, 1, 1, scale], np.float32),
    }
    return model_of(nodes, weights, [("p", ("n", 2, 2, side))])


def turned(rows):
    """A model that turns what its input holds before a product with weights that FP16 holds, and after it ``rows``."""
    from onnx import helper

    nodes = [
        helper.make_node("Reshape", ["x", "square"], ["lines"]),
        helper.make_node("MatMul", ["lines", "w"], ["products"]),
        *rows,
        helper.make_node("Softmax", ["turned"], ["p"], axis=1),
    ]
    weights = {"square": np.asarray([-1, 2, 4], np.int64), "w": np.full((4, 4), 0.5, np.float32)}
    weights["w"][::2, 1:] = 0.25
    return model_of(nodes, weights, [("p", ("n", 4, 2) if len(rows) == 1 else ("n", 8))])


def one_move():
    from onnx import helper

    return [helper.make_node("Transpose", ["products"], ["turned"], perm=[0, 2, 1])]


def two_moves():
    from onnx import helper

    return [
        helper.make_node("Transpose", ["products"], ["transposed"], perm=[0, 2, 1]),
        helper.make_node("Flatten", ["transposed"], ["turned"]),
    ]


def test_what_onnx_runtime_stores_in_fp16_is_rounded_where_it_does(samples):
    """The input, and two moves in a row, are in FP16 on a CPU, and the twin is as far off as the FP16 graph is."""
    held = {"x": samples["x"].astype(np.float16).astype(np.float32)}
    for rows, inputs, rounded in (
        (one_move(), held, False),
        (one_move(), samples, True),
        (two_moves(), held, True),
    ):
        model = turned(rows)
        right = plain(model, inputs)["p"]
        off = np.abs(plain(to_fp16(model).model, inputs)["p"] - right).max()
        twin = max(np.abs(run["p"] - right).max() for run in Twin.of(model, "fp16-moved").runs(inputs, 8))
        weights = max(np.abs(run["p"] - right).max() for run in Twin.of(model, "fp16-weights").runs(inputs, 8))
        assert weights < 1e-6
        assert bool(off > 1e-6) == bool(twin > 1e-6) == rounded
        assert not rounded or twin / 4 < off < twin * 2


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("scale", [2.0, 4.7])
def test_what_says_how_an_operator_works_is_not_rounded(precision, scale, samples):
    """The scales of a Resize are no weights: no converter quantizes them, and ONNX takes them in FP32 alone."""
    twin = Twin.of(enlarging(scale), precision, calibration_inputs=samples)
    assert "scales" not in twin.weights
    assert twin.runs(samples, 1)[0]["p"].shape == (70, 2, 2, int(4 * scale))


@pytest.mark.parametrize("size", [1e9, float(np.finfo(np.float32).max)], ids=["1e9", "largest"])
@pytest.mark.parametrize("precision", ["fp32", "fp16-weights"])
def test_rows_that_are_masked_as_a_whole_stay_even(precision, size, samples):
    """A mask swallows what it is added to: of numbers that are all masked none is above the others, in no run."""
    from onnx import helper

    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["numbers"]),
        helper.make_node("Less", ["x", "zero"], ["masked"]),
        helper.make_node("Slice", ["masked", "from", "to", "axis"], ["first"]),
        helper.make_node("Cast", ["first"], ["ones"], to=FLOATS),
        helper.make_node("Mul", ["ones", "large"], ["mask"]),
        helper.make_node("Add", ["numbers", "mask"], ["sums"]),
        helper.make_node("Softmax", ["sums"], ["p"], axis=1),
    ]
    weights = {
        "v": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32),
        "zero": np.float32(0),
        "large": np.full((1, 4), -size, np.float32),
        **{name: np.array([at], np.int64) for name, at in (("from", 0), ("to", 1), ("axis", 1))},
    }
    model = model_of(nodes, weights, [("p", ("n", 4))])
    rows = samples["x"][:, 0] < 0
    for run in Twin.of(model, precision).runs(samples, 3):
        assert np.allclose(run["p"][rows], 0.25, atol=1e-5)
        assert not np.allclose(run["p"][~rows], 0.25, atol=0.1)


def test_what_it_does_not_see_into_is_declared(samples):
    """Branch and an operator of another domain's name are named, and the model runs."""
    from onnx import helper, numpy_helper

    branch = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["inner"])], "b", [], [value("inner", ("n", 8))])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("BiasGelu", ["y", "bias"], ["z"], domain="com.microsoft"),
    ]
    graph = helper.make_graph(
        nodes,
        "tested",
        [value("x", ("n", 8))],
        [value("z", ("n", 8))],
        [numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.ones(8, np.float32), "bias")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    twin = Twin.of(helper.make_model(graph, opset_imports=opsets, ir_version=8), "fp16")
    assert [sentence.split(":")[0] for sentence in twin.declared] == ["BiasGelu", "If"]
    first, second = twin.runs(samples, 2)
    assert not np.array_equal(first["z"], second["z"])


def test_a_constant_beyond_fp16_stays_as_it_is_and_is_declared(samples):
    """Offset of 300,000 moves no answer by FP16's largest number: the twin keeps it, and says so."""
    from onnx import helper

    nodes = [helper.make_node("Add", ["x", "offset"], ["y"])]
    model = model_of(nodes, {"offset": np.full(8, 3e5, np.float32)}, [("y", ("n", 8))])
    twin = Twin.of(model, "fp16-weights")
    assert "offset" in twin.declared[0]
    assert "65504" in twin.declared[0]
    assert twin.runs(samples, 1)[0]["y"].min() > 2.9e5


def test_models_without_a_twin_are_refused_in_one_line(samples):
    """Random numbers, an unknown precision, INT8 without samples or products, an old opset, and an unknown operator."""
    from onnx import helper

    drawing = model_of([helper.make_node("RandomNormalLike", ["x"], ["y"])], {}, [("y", ("n", 8))])
    adding = model_of([helper.make_node("Add", ["x", "x"], ["y"])], {}, [("y", ("n", 8))])
    unknown = helper.make_node("Nothing", ["x"], ["y"], domain="nowhere")
    broken = helper.make_model(
        helper.make_graph([unknown], "g", [value("x", ("n", 8))], [value("y", ("n", 8))]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)],
        ir_version=8,
    )
    for model, precision, words, given in (
        (drawing, "fp32", "random numbers", None),
        (dense(), "fp7", "allowed: fp32", None),
        (dense(), "int8-symmetric", "calibration samples", None),
        (adding, "int8-symmetric", "nothing to quantize", samples),
        (dense(opset=10), "fp32", "opset 10", None),
        (broken, "fp32", "ONNX Runtime cannot load", None),
    ):
        with pytest.raises(TwinError, match=words) as caught:
            Twin.of(model, precision, given)
        assert "\n" not in str(caught.value)


def test_an_unstable_model_is_refused_in_one_line():
    """Logarithm of what rounding makes negative in some runs only is NaN there: the output is named."""
    from onnx import helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["x", "v"], ["b"]),
        helper.make_node("Sub", ["a", "b"], ["c"]),
        helper.make_node("Sqrt", ["c"], ["y"]),
    ]
    w = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    model = model_of(nodes, {"w": w, "v": w}, [("y", ("n", 8))])
    x = {"x": np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)}
    with pytest.raises(TwinError, match="'y' is unstable in fp16"):
        Twin.of(model, "fp16").runs(x, 3)


def test_inputs_that_do_not_fit_are_refused_in_one_line(samples):
    """Samples of another width end in ONNX Runtime's first line, for INT8 at its calibration already."""
    wrong = {"x": samples["x"][:, :5]}
    with pytest.raises(TwinError, match="cannot run the twin"):
        Twin.of(dense(), "fp32").runs(wrong, 1)
    with pytest.raises(TwinError, match="cannot run the calibration samples"):
        Twin.of(dense(), "int8-symmetric", wrong)
