"""INT8 files of TFLite whose outputs are floats, as its converter makes them by default, are read as INT8."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.compare import Grid
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.tflite.runner import TFLiteRunner
from engines.model import selection
from engines.store import Store
from engines.variant import REFERENCE, Variant
from fixtures.chain import artifact_folder
from trial.judged import compared
from trial.outputs import Outputs

INT8 = Variant("tflite", "int8")


@pytest.fixture(scope="module")
def digits(request):
    """Chain of the bundled digits model."""
    (chain,) = selection.chains(Store(artifact_folder(request.config)), models=["digits_vgg"]).values()
    return chain


@pytest.fixture(scope="module")
def converted(digits, tmp_path_factory):
    """INT8 file of the digits model as the converter makes it where nothing is said of inputs and outputs."""
    tf = tensorflow()
    (samples,) = digits.calibration.inputs.values()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(digits.file(REFERENCE)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([samples[i : i + 1]] for i in range(len(samples)))
    path = tmp_path_factory.mktemp("floats") / "floats.tflite"
    path.write_bytes(converter.convert())
    return path


def test_the_grid_of_a_float_output_is_found_behind_its_dequantization(digits, converted):
    """Its probabilities are multiples of 1/256, whose sum may be off by that for each class: it is judged so."""
    with TFLiteRunner(digits.spec, INT8, converted) as runner:
        inputs = digits.samples.inputs
        answers = runner(inputs)
    (name,) = answers
    assert Grid(*runner.grids[name]) == Grid(1 / 256, 0.0, 255 / 256)
    assert np.abs(answers[name].sum(axis=1) - 1).max() > 1e-3
    given = Outputs(inputs, answers, digits.reference("samples", inputs))
    _, comparison = compared(digits, runner, "samples", given)
    assert comparison.passed, comparison.describe()


def test_a_float_output_of_a_float_file_has_no_grid(digits):
    """What is computed in floats has no steps."""
    with digits.runner(Variant("tflite", "fp16")) as runner:
        assert runner.grids == {}
