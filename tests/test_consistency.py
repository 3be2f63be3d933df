"""Every variant of every model gives the answers of the SavedModel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.formats import registry
from engines.model.spec import KINDS_OF_CLASSES
from fixtures.chain import QUICK
from fixtures.judge import MORE_SAMPLES, RESIZED, SAMPLES
from trial.bearable import answered
from trial.draws import model_inputs
from trial.scales import magnitude, output_scales

pytestmark = pytest.mark.consistency


def test_the_reference_can_be_trusted(model, trusted):
    """The SavedModel gives each sample an answer of its own, in finite numbers, the same in every call and batch."""
    trusted()


def test_builds(chain, built, request):
    """The variant is built from the SavedModel, wherever it can be; what the converter says is shown where it fails."""
    assert chain.artifact(built).size > 0
    if registry.unavailable(built) is None:
        # All other tests use the same runner: one that cannot be opened fails here, once.
        request.getfixturevalue("runner")


def test_the_reference_tells_samples_apart(model, chain, reference, contrast):
    """The SavedModel's own answers are finite and differ from sample to sample: a constant agrees with anything."""
    unsure = f"; {chain.assumption}" if chain.assumption else ""
    for outputs in (reference, contrast.reference):
        for name, array in outputs.items():
            assert np.isfinite(array).all(), f"{model}: the reference's {name!r} is not finite"
    # What has no batch axis is the same for all samples.
    told = [o for o in chain.spec.outputs if o.kind != "constant"]
    count = max((len(reference[o.name]) for o in told), default=0)
    if count > 1:
        scales = output_scales(chain)
        spans = {o.name: reference[o.name].astype(np.float64) for o in told}
        largest = max(float(np.ptp(a, axis=0).max()) / magnitude(scales, name) for name, a in spans.items())
        # Of the largest output, for logits and values may be of any size; FP32's rounding is below a hundredth of it.
        alike = f"{model}: the SavedModel answers all {count} samples alike, within {largest:.1e} of the largest"
        assert largest > 1e-4, alike + unsure
    # Far below the range that a model was trained on, every input is black to it: scores differ, and no class does.
    for output in chain.spec.outputs if unsure else ():
        if output.kind in KINDS_OF_CLASSES:
            scores = np.concatenate([reference[output.name], contrast.reference[output.name]])
            classes = len(np.unique(scores.argmax(axis=-1)))
            assert classes > 1, (
                f"{model}: the SavedModel gives all {len(scores)} samples and contrast inputs the same class of "
                f"{output.name!r}, so nothing tells whether classes are kept{unsure}"
            )


def test_signature_is_that_of_the_model(spec, asked, samples):
    """Outputs have the names, shapes and dtypes of the model, for one sample and for several."""
    for count, one in product(sorted({1, min(3, len(samples))}), (asked, *asked.beside)):
        outputs = one(samples.take(0, count).inputs)
        assert {name: (a.shape, a.dtype) for name, a in outputs.items()} == {
            o.name: (spec.concrete_shape(o, count), np.dtype(o.dtype)) for o in spec.outputs
        }


@pytest.mark.formats("onnx", precisions=("int8",))
def test_what_is_quantized_is_dequantized_by_the_same_scale(chain, variant):
    """A tensor is read by the scale and the zero point that it was written by, wherever a file says both."""
    wrong = registry.find(variant.format).mismatched_scales(chain.file(variant))
    assert not wrong, f"{variant} of {chain.spec.name}: {'; '.join(wrong)}"


def test_outputs_are_finite_and_sum_to_one(samples, contrast, alone):
    """Outputs are finite, scores lie in [0, 1], and probabilities sum to one, but for the variant's rounding."""
    alone(samples.inputs, SAMPLES)
    alone(contrast.inputs, "contrast", contrast.names)


def test_agrees_with_the_reference_on_samples(samples, reference, judge, resized):
    """On real samples the outputs are the reference's, within the variant's tolerance; at other sizes of them, too."""
    judge(samples.inputs, reference, SAMPLES)
    for inputs, outputs in resized:
        judge(inputs, outputs, RESIZED)


def test_agrees_with_the_reference_on_more_samples(chain, asked, samples, answers, judge_outputs, agrees_in_parts):
    """The same on up to 1,000 samples: what is wrong from the second hundred on is wrong, too."""
    agrees_on(min(QUICK, chain.dataset.test_count), len(samples), chain, asked, answers, judge_outputs, agrees_in_parts)


@pytest.mark.slow
def test_agrees_with_the_reference_on_all_samples(chain, asked, answers, judge_outputs, agrees_in_parts):
    """The same on all samples that there are, where no test of accuracy compares them."""
    if chain.dataset.labelled and chain.spec.probabilities is not None:
        pytest.skip("they have labels: the accuracy tests compare them")
    agrees_on(chain.dataset.test_count, QUICK, chain, asked, answers, judge_outputs, agrees_in_parts)


def agrees_on(count, others, chain, runner, answers, judge_outputs, agrees_in_parts):
    """Judge the first ``count`` test samples, where another test has the first ``others`` already."""
    if count <= others:
        pytest.skip(f"there are {chain.dataset.test_count} samples, which another test has")
    if agrees_in_parts(count) is not None:
        return
    judge_outputs(runner, *answers(count), MORE_SAMPLES)


def test_agrees_with_the_reference_on_contrast(contrast, judge):
    """On black, white, checkerboards, single pixels and noise the outputs are the SavedModel's."""
    judge(contrast.inputs, contrast.reference, "contrast", contrast.names)


def test_agrees_with_the_reference_on_stored_draws(drawn, judge):
    """On inputs that Hypothesis drew where TensorFlow is installed the outputs are the SavedModel's, anywhere."""
    judge(*drawn, "drawn")


@pytest.mark.formats("onnx")
def test_answers_survive_what_fp16_cannot_hold(samples, contrast, survives_fp16):
    """Where a graph keeps values in FP16 that become infinite there, it gives the same answers; a CPU hides them."""
    survives_fp16(samples.inputs, SAMPLES)
    survives_fp16(contrast.inputs, "contrast", contrast.names)


@given(data=st.data())
def test_agrees_with_the_reference_on_drawn_inputs(data, chain, variant, asked_reference, judge):
    """On inputs that Hypothesis draws within the model's range the outputs are the SavedModel's."""
    inputs = data.draw(model_inputs(chain.spec, chain.ranges))
    judge(*answered(asked_reference, inputs, chain.ranges, variant.precision), "drawn")
