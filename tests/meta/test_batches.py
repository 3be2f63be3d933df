"""Calls are cut into batches and put together without any engine being needed to see it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.errors import RunnerError
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.outputs import Gathered, joined, taken
from engines.runner import Runner, check_signature, grid, probe
from engines.variant import Variant

ONNX = Variant("onnx", "fp32")
WHO = "onnx-fp32 of digits_vgg"


@pytest.fixture(scope="module")
def spec():
    """The bundled digits classifier as it is described."""
    return load_model(find_model("digits_vgg"))


@pytest.fixture(scope="module")
def with_constant(spec):
    """The same with a second output that has no batch axis."""
    (output,) = spec.outputs
    return replace(spec, outputs=(output, replace(output, name="table", kind="constant", shape=(2,))))


class Noting(Runner):
    """Answers each sample with its first ten values, and notes what it was given."""

    def __init__(self, *words):
        super().__init__(*words)
        self.given, self.released, self.table = [], 0, [np.zeros(2)]

    def _run(self, inputs):
        (array,) = inputs.values()
        self.given.append(array)
        table = self.table[min(len(self.given), len(self.table)) - 1]
        return {"dense_1": array[:, :, 0, 0].copy(), "table": table}

    def _release(self):
        self.released += 1


def images(count):
    """Samples that all differ, float32 (count, 10, 8, 1)."""
    return np.arange(count * 80, dtype=np.float32).reshape(count, 10, 8, 1)


@pytest.mark.parametrize(
    "count, size, sizes", [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 3, [2]), (1, 1, [1]), (3, 1, [1, 1, 1])]
)
def test_a_call_is_cut_into_batches_with_the_rest_in_the_last(spec, count, size, sizes):
    """No sample is left out, none comes twice, and no batch is larger than was asked for."""
    runner, samples = Noting(spec, ONNX, size), images(count)
    answers = runner({"input_1": samples})["dense_1"]
    assert [len(batch) for batch in runner.given] == sizes
    np.testing.assert_array_equal(np.concatenate(runner.given), samples)
    np.testing.assert_array_equal(answers, samples[:, :, 0, 0])


def test_calls_of_a_size_are_made_one_after_the_other(spec):
    """Each holds as many samples as were asked for, the last one the rest, whatever the size of a batch."""
    runner, samples = Noting(spec, ONNX, 32), images(8)
    answers = runner.in_batches({"input_1": samples}, 3)["dense_1"]
    assert [len(batch) for batch in runner.given] == [3, 3, 2]
    np.testing.assert_array_equal(answers, samples[:, :, 0, 0])


def test_batches_are_contiguous_whatever_was_given(spec):
    """Samples with gaps between them in memory are copied together, and stay as they are."""
    runner, samples = Noting(spec, ONNX, 4), images(12)
    answers = runner({"input_1": samples[::2]})["dense_1"]
    assert all(batch.flags.c_contiguous for batch in runner.given)
    np.testing.assert_array_equal(answers, samples[::2, :, 0, 0])
    np.testing.assert_array_equal(samples, images(12))


def test_the_size_is_the_first_profiles_unless_another_is_asked_for(spec):
    """The variant's own profile comes before the model's first one; a size of nothing is refused in one line."""
    first = spec.profiles[0]
    assert Noting(spec, ONNX).batch_size == first.max == 32
    assert Noting(spec, replace(ONNX, profile=replace(first, max=5)), None).batch_size == 5
    assert Noting(spec, ONNX, 1).batch_size == 1
    for size in (0, -1):
        with pytest.raises(RunnerError, match=f"^onnx-fp32: batch_size is {size}; allowed: 1 or more$"):
            Noting(spec, ONNX, size)


def test_a_new_runner_has_nothing_beside_it(spec):
    """What an engine does not state is empty, and one call at a time is what it takes."""
    runner = Noting(spec, ONNX)
    stated = (runner.settings, runner.grids, runner.steps, runner.beside, runner.unjudged, runner.lost)
    assert stated == ({}, {}, {}, (), (), {})
    assert (runner.way, runner.advice, runner.in_flight, runner.copied()) == ("", "", 1, None)


TAKES = "takes input_1: float32 (N, 10, 8, 1)"


@pytest.mark.parametrize(
    "inputs, line",
    [
        ({}, f"given inputs named []; {TAKES}"),
        ({"b": images(1), "a": images(1)}, f"given inputs named ['a', 'b']; {TAKES}"),
        ({"input_1": images(1).astype(np.float64)}, f"input 'input_1' is float64; {TAKES}"),
        ({"input_1": images(1).tolist()}, f"input 'input_1' is list; {TAKES}"),
        ({"input_1": images(1)[0]}, f"input 'input_1' has shape (10, 8, 1); {TAKES}"),
        ({"input_1": images(1)[..., None]}, f"input 'input_1' has shape (1, 10, 8, 1, 1); {TAKES}"),
        ({"input_1": images(1).swapaxes(1, 2)}, f"input 'input_1' has shape (1, 8, 10, 1); {TAKES}"),
        ({"input_1": images(0)}, f"given no samples; {TAKES}, one sample or more"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(spec, inputs, line):
    """It names the engine, what was given and what is taken, and nothing is run."""
    runner = Noting(spec, ONNX)
    for call in (runner, lambda given: runner.in_batches(given, 2), runner.lent):
        with pytest.raises(RunnerError) as caught:
            call(inputs)
        assert str(caught.value) == f"{WHO}: {line}"
    assert not runner.given


def test_inputs_have_equally_many_samples(spec):
    """Inputs that disagree are refused with the count of each."""
    (first,) = spec.inputs
    runner = Noting(replace(spec, inputs=(first, replace(first, name="mask"))), ONNX)
    with pytest.raises(RunnerError) as caught:
        runner({"input_1": images(2), "mask": images(3)})
    assert str(caught.value) == (
        f"{WHO}: inputs disagree on the number of samples: {{'input_1': 2, 'mask': 3}}; "
        f"{TAKES}, mask: float32 (N, 10, 8, 1)"
    )


def test_a_closed_runner_releases_once_and_closes_those_beside_it(spec):
    """A call afterwards is refused in one line; leaving a ``with`` closes as well."""
    with Noting(spec, ONNX) as runner:
        runner.beside, runner.unjudged = (Noting(spec, ONNX),), (Noting(spec, ONNX),)
    runner.close()
    assert [one.released for one in (runner, *runner.beside, *runner.unjudged)] == [1, 1, 1]
    with pytest.raises(RunnerError, match=f"^{WHO}: the runner is closed; make a new one$"):
        runner({"input_1": images(1)})


def test_an_output_without_a_batch_axis_is_given_as_it_is(with_constant):
    """It is not put together of the batches, and has to be the same in each, bit for bit, NaN too."""
    runner = Noting(with_constant, ONNX, 2)
    runner.table = [np.array([1.0, np.nan])]
    np.testing.assert_array_equal(runner({"input_1": images(5)})["table"], [1, np.nan])
    runner.given, runner.table = [], [np.zeros(2), np.zeros(2), np.ones(2)]
    message = (
        f"{WHO}: output 'table' has no batch axis, and is another one in batch 3 of 3; allowed: the same in every batch"
    )
    with pytest.raises(RunnerError) as caught:
        runner({"input_1": images(5)})
    assert str(caught.value) == message
    runner.given = []
    with pytest.raises(RunnerError, match=f"^{WHO}: output 'table' .* batch 3 of 3"):
        runner.in_batches({"input_1": images(5)}, 2)


def test_integers_without_a_batch_axis_are_compared_too(with_constant):
    """There is no NaN among them, and whoever has no name is called the engine."""
    parts = [{"dense_1": np.zeros((1, 10)), "table": np.array([n, 0])} for n in (1, 2)]
    assert joined(with_constant, parts[:1])["table"].tolist() == [1, 0]
    with pytest.raises(RunnerError, match=r"^the engine: output 'table' has no batch axis"):
        joined(with_constant, parts)


def test_parts_may_come_in_any_order(with_constant):
    """Each is copied to its place, in its own dtype, and a constant that differs is found in the order of samples."""
    samples = np.arange(50, dtype=np.float32).reshape(5, 10)
    whole = Gathered(with_constant, 5, WHO)
    for start, end in ((3, 5), (0, 2), (2, 3)):
        whole.add(start, {"dense_1": samples[start:end], "table": np.ones(2)})
    outputs = whole.outputs()
    np.testing.assert_array_equal(outputs["dense_1"], samples)
    assert outputs["dense_1"].dtype == np.float32
    assert outputs["table"].tolist() == [1, 1]
    whole.add(2, {"dense_1": samples[2:3], "table": np.zeros(2)})
    with pytest.raises(RunnerError, match=f"^{WHO}: output 'table' .* in batch 2 of 3"):
        whole.outputs()
    with pytest.raises(TypeError):
        whole.add(2, {"dense_1": samples[2:3].astype(np.float64), "table": np.ones(2)})


def test_what_is_added_may_be_overwritten_afterwards(with_constant):
    """A runner that lends its memory changes nothing that was gathered."""
    lent = {"dense_1": np.ones((1, 10), np.float32), "table": np.ones(2)}
    whole = Gathered(with_constant, 1, WHO)
    whole.add(0, lent)
    for array in lent.values():
        array[...] = 0
    assert all(array.all() for array in whole.outputs().values())


def test_outputs_of_some_samples_keep_what_has_no_batch_axis(with_constant):
    """Rows are taken by slice or by number; a constant stays whole."""
    outputs = {"dense_1": np.arange(30).reshape(3, 10), "table": np.arange(2)}
    for which in (slice(1, None), [1, 2]):
        some = taken(with_constant, outputs, which)
        assert some["dense_1"][:, 0].tolist() == [10, 20]
        assert some["table"].tolist() == [0, 1]


def test_integers_stand_for_multiples_of_a_step():
    """The grid of a dtype ends where its integers do, about the zero point."""
    assert grid(np.dtype(np.int8), 0.5, -3) == (0.5, -62.5, 65.0)
    assert grid(np.dtype(np.uint8), 2.0, 0) == (2.0, 0.0, 510.0)


def test_a_batch_size_that_is_built_in_is_refused_at_once(spec, with_constant):
    """Two samples in the middle of their range are run, and have to have two answers; a constant has none to count."""
    runner = Noting(spec, ONNX)
    probe(runner)
    (given,) = runner.given
    assert given.shape == (2, 10, 8, 1)
    assert given.dtype == np.float32
    assert (given == np.mean(spec.inputs[0].range)).all()

    class One(Noting):
        def _run(self, inputs):
            return {"dense_1": super()._run(inputs)["dense_1"][:1], "table": np.zeros(3)}

    with pytest.raises(RunnerError, match=r"^onnx-fp32: output 'dense_1' has 1 rows for a batch of 2; expected 2$"):
        probe(One(with_constant, ONNX))
    probe(Noting(with_constant, ONNX))


@pytest.mark.parametrize(
    "shape, said",
    [((None, 0), "(N, 0)"), ((4, -1), "(4, ?)"), (("n", "m", None), "(N, ?, ?)")],
)
def test_shapes_are_told_as_they_were_found(spec, shape, said):
    """A size that is fixed is told, zero too; of others the first is that of the batch."""
    with pytest.raises(RunnerError) as refused:
        check_signature(WHO, spec, {"x": shape}, {"y": (None, 10)})
    assert f"inputs 'x' has rank {len(shape)} {said}; expected " in str(refused.value)


def test_a_size_of_nothing_is_a_size(spec):
    """An engine that is built for no rows at all, or for no samples, is refused as any other size is."""
    outputs = {"y": (None, 10)}
    with pytest.raises(RunnerError) as refused:
        check_signature(WHO, spec, {"x": (None, 0, 8, 1)}, outputs)
    assert str(refused.value) == f"{WHO}: inputs 'x' has shape (N, 0, 8, 1); expected (N, 10, 8, 1)"
    with pytest.raises(RunnerError) as refused:
        check_signature(WHO, spec, {"x": (0, 10, 8, 1)}, outputs)
    assert str(refused.value).startswith(f"{WHO}: inputs 'x' has shape (0, 10, 8, 1), batch (axis 0) fixed to 0; ")


def test_an_engine_may_fix_a_length_that_follows_in_its_outputs(spec):
    """What an output holds for each sample may be of one size; the batch may not, nor any length of an input."""
    (taken_,), (given_,) = spec.inputs, spec.outputs
    lengths = {
        "inputs": (replace(taken_, shape=("batch", "length")),),
        "outputs": (replace(given_, shape=("batch", "length", "length")),),
    }
    free = replace(spec, dimensions={"length": (4, 6)}, **lengths)
    assert check_signature(WHO, free, {"x": (None, None)}, {"y": (None, 4, 4)}).outputs == {given_.name: "y"}
    for inputs, outputs, said in (
        ((None, 4), (None, 4, 4), "inputs 'x' has shape (N, 4), length (axis 1) fixed to 4; expected it dynamic: "),
        ((None, None), (2, 4, 4), "outputs 'y' has shape (2, 4, 4), batch (axis 0) fixed to 2; expected it dynamic: "),
    ):
        with pytest.raises(RunnerError) as refused:
            check_signature(WHO, free, {"x": inputs}, {"y": outputs})
        assert str(refused.value).startswith(f"{WHO}: {said}")
