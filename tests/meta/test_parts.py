"""What differs between a brought file and the model's own is told, operator by operator, where it tells anything."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.diagnose import diagnose
from engines.formats.onnx.parts import parts as onnx_parts
from engines.formats.tflite.parts import parts as tflite_parts
from engines.parts import Part, described, differing
from engines.variant import Variant

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3, 6))


def own():
    """Parts of a small network."""
    return [
        Part("Conv", "net/conv_1/Conv2D", {"strides": "[2, 2]"}, (WEIGHTS, np.arange(4.0))),
        Part("Relu", "net/conv_1/Relu"),
        Part("Gemm", "net/dense_1/MatMul", {}, (WEIGHTS[0] + 1, np.arange(1.0, 7))),
        Part("Softmax", "net/dense_1/Softmax", {"axis": "-1"}),
    ]


def changed(place, **what):
    """The same with one part changed."""
    found = own()
    found[place] = Part(**{**vars(found[place]), **what})
    return found


def wired(*takes):
    """Parts of a network of two branches, the last of which takes these results."""
    return [
        Part("Gemm", "net/left/MatMul", {}, (WEIGHTS[0],), takes=("input",)),
        Part("Gemm", "net/right/MatMul", {}, (WEIGHTS[1],), takes=("input",)),
        Part("Add", "net/sum/add", takes=("net/left/MatMul", "net/right/MatMul")),
        Part("Concat", "net/both/concat", takes=takes),
    ]


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        (("net/left/MatMul", "net/right/MatMul"), ""),
        (
            ("net/right/MatMul", "net/left/MatMul"),
            "Concat 'net/both/concat' takes the same in another order: 'net/right/MatMul', 'net/left/MatMul'",
        ),
        (
            ("net/left/MatMul", "net/sum/add"),
            "Concat 'net/both/concat' takes 'net/sum/add' in place of 'net/right/MatMul'",
        ),
        (("input", "net/right/MatMul"), "Concat 'net/both/concat' takes 'input' in place of 'net/left/MatMul'"),
        (
            ("net/left/MatMul", "net/left/MatMul"),
            "Concat 'net/both/concat' takes one twice in place of 'net/right/MatMul'",
        ),
        (("net/left/MatMul", "another/name"), ""),
    ],
)
def test_parts_that_take_other_results_are_told(takes, words):
    """The same operators and numbers, wired otherwise: what takes what in place of what; other names tell nothing."""
    assert differing(wired(*takes), wired("net/left/MatMul", "net/right/MatMul")) == words


def test_either_order_of_a_sum_is_the_same():
    """An addition whose inputs are exchanged is no other one."""
    added = wired()
    added[2] = Part("Add", "net/sum/add", takes=added[2].takes[::-1])
    assert differing(added, wired()) == ""


def test_layers_that_have_each_others_numbers_are_told():
    """Two layers whose weights were exchanged are no two of another training."""
    exchanged = wired()
    exchanged[0], exchanged[1] = (
        Part("Gemm", p.name, {}, q.constants, takes=p.takes) for p, q in (exchanged[:2], exchanged[1::-1])
    )
    assert (
        differing(exchanged, wired()) == "Gemm 'net/left/MatMul' and Gemm 'net/right/MatMul' have each other's numbers"
    )


def test_parts_of_two_layers_are_told_apart():
    """Layers of which each ends in the same operations have other names in a message: only calls around them go."""
    names = [f"StatefulPartitionedCall/net/block_0/{layer}/Tensordot/MatMul" for layer in ("query", "key")]
    told = [str(Part("MatMul", name)) for name in names]
    assert told == ["MatMul 'net/block_0/query/Tensordot/MatMul'", "MatMul 'net/block_0/key/Tensordot/MatMul'"]


@pytest.mark.parametrize(
    ("brought", "words"),
    [
        (own(), ""),
        ([], ""),
        (changed(1, operator="LeakyRelu", options={"alpha": "0.01"}), "LeakyRelu for Relu 'net/conv_1/Relu'"),
        (changed(0, options={"strides": "[1, 1]"}), "Conv 'net/conv_1/Conv2D': strides [1, 1] for [2, 2]"),
        (changed(3, options={}), "Softmax 'net/dense_1/Softmax': axis by default for -1"),
        ([*own()[:1], *own()[2:]], "Relu 'net/conv_1/Relu' left out"),
        ([*own(), Part("Mul", "")], "Mul in addition at the end"),
        ([*own()[:3], Part("Dropout", ""), *own()[3:]], "Dropout in addition before Softmax 'net/dense_1/Softmax'"),
        (
            changed(2, constants=(WEIGHTS[0] + 1, np.arange(1.0, 7) * 1.5)),
            "Gemm 'net/dense_1/MatMul': all 6 numbers are 1.5 times as large",
        ),
        (changed(2, constants=()), "Gemm 'net/dense_1/MatMul': 0 constants for 2"),
        ([Part("Add", str(n)) for n in range(9)], ""),
    ],
)
def test_a_difference_is_told_in_words(brought, words):
    """Another operator, option or constant, one left out, one in addition; nothing of a file written otherwise."""
    assert differing(brought, own()) == words


def last_at(value):
    """The weights with another first number."""
    found = WEIGHTS.copy()
    found[0, 0, 0] = value
    return found


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (WEIGHTS * 2, "all 72 numbers are 2 times as large"),
        (WEIGHTS + 3, "all 72 numbers are larger by 3"),
        (WEIGHTS - 3, "all 72 numbers are smaller by 3"),
        (WEIGHTS * 0, "all 72 numbers are 0"),
        (WEIGHTS[::-1], "the same numbers, reversed along axis 0"),
        (np.roll(WEIGHTS, 1, 2), "the same numbers, moved by 1 along axis 2"),
        (WEIGHTS[[0, 2, 1, 3]], "the same numbers, in another order along axis 0"),
        (WEIGHTS.reshape(-1)[::-1].reshape(4, 3, 6), "the same numbers, in another order"),
        (WEIGHTS * np.array([1, 1, 1.5, 1, 1, 1]), "the numbers at 2 of axis 2 are 1.5 times as large (1 of 6)"),
        (WEIGHTS * np.array([1, 1, 0, 1, 0, 1]), "the numbers at 2, 4 of axis 2 are 0 (2 of 6)"),
        (WEIGHTS + np.linspace(0.01, 0.02, 72).reshape(4, 3, 6), "other numbers: 72 of 72 differ, by up to 0.0"),
    ],
)
def test_numbers_are_told_by_what_was_done_to_them(numbers, words):
    """A factor, a sum, an order or a few slices are named; what nothing explains is counted."""
    assert described(np.ascontiguousarray(numbers), WEIGHTS).startswith(words)


def test_a_single_number_is_told_beside_the_right_one():
    """Of one number both are shown."""
    assert described(np.float32([0.5]), np.float32([0.25])) == "0.5 for the number 0.25"
    assert described(np.array([1, 2, 9.0]), np.array([1, 2, 3.0])) == "the numbers at 2 of axis 0 are 9 for 3 (1 of 3)"


def layers(by):
    """Parts of four layers, whose weights are changed by a function."""
    draw = np.random.default_rng(1)
    return [Part("Gemm", f"layer_{n}", {}, (by(draw.normal(size=(5, 5))),)) for n in range(4)]


def test_another_training_is_told_as_one_thing():
    """Where most layers have other weights they are not listed; where all are close they are rounded."""
    draw = np.random.default_rng(2)
    expected = "4 of 4 layers have other weights: another training run, or a stale export"
    assert differing(layers(lambda w: draw.normal(size=w.shape)), layers(lambda w: w)) == expected
    rounded = differing(layers(lambda w: np.round(w * 64) / 64), layers(lambda w: w))
    assert rounded.startswith("4 of 4 layers have weights that are rounded otherwise, by up to 0.00")


def test_another_calibration_is_told_as_one_thing():
    """Where many scales are others they are not listed."""
    parts = [Part("QuantizeLinear", f"q{n}", {}, (np.float32(n + 1),), scale=True) for n in range(5)]
    others = [
        Part("QuantizeLinear", p.name, {}, (p.constants[0] * (1.1 + n / 9),), scale=True) for n, p in enumerate(parts)
    ]
    assert differing(others, parts) == "5 of 5 scales are others: another calibration"


@pytest.mark.parametrize(("format_", "read"), [("onnx", onnx_parts), ("tflite", tflite_parts)])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_parts_of_real_files_are_read(digits, format_, read, precision):
    """Operators with their weights, as many numbers as the model has; a file does not differ from itself."""
    found = read(digits.file(Variant(format_, precision)))
    assert sum(a.size for p in found for a in p.constants if not p.scale) >= 20_000
    assert any(p.scale for p in found) is (precision == "int8")
    assert differing(found, read(digits.file(Variant(format_, precision)))) == ""


def test_it_is_the_cause_where_no_mistake_explains_the_answers():
    """Answers that no usual mistake undoes are put down to what the file has otherwise; without that, to a list."""
    draw = np.random.default_rng(0)
    inputs = {"x": draw.random((8, 5), np.float32)}
    answers = draw.random((8, 3)).astype(np.float32)
    reference = {"p": answers / answers.sum(axis=1, keepdims=True)}
    actual = {"p": reference["p"] + draw.normal(scale=0.01, size=(8, 3)).astype(np.float32)}

    def told(parts):
        return diagnose(
            inputs,
            actual,
            reference,
            run=lambda given: {"p": actual["p"] + (given["x"] - inputs["x"])[:, :3]},
            alone=lambda _: actual,
            agrees=lambda _: False,
            scores="p",
            parts=parts,
        )

    cause = told(lambda: "Elu for Relu 'conv_1'")
    assert cause.text == "it is not the model's own file: Elu for Relu 'conv_1'"
    assert cause.found
    assert not cause.proved
    assert "not the model's own file" not in told(str).text
