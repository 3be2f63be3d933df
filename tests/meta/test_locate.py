"""The layer that is wrong is named: planted faults of one layer, sound files, and what cannot be located."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from zoo import ZOO
from zoo.chains import chain_of

from conformance.location import Alone, Layer, Location
from engines.errors import EngineError
from engines.formats import registry
from engines.inside import Tensor, operation
from engines.variant import Variant
from tests.meta.apart import environment_apart
from tests.meta.planted import changed_onnx, faults
from tests.meta.valid import validate
from trial.judged import compared
from trial.locate import comparison, located
from trial.locate.errors import figures
from trial.locate.layers import layer_names, layer_of
from trial.locate.match import matched
from trial.outputs import Outputs
from trial.twin.operators import PRODUCTS

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = [Variant(f, p) for f in ("onnx", "tflite") for p in ("fp32", "fp16", "int8")]
QUICK = [v if v.precision == "fp32" else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]
OF_EACH = 1
"""How many faults of a kind the quick part plants in each variant."""


def given(chain, variant):
    """What a variant answers on the samples, beside the reference; and whether the comparison fails."""
    samples = chain.samples.inputs
    with chain.runner(variant) as runner:
        answers = Outputs(samples, runner(samples), chain.reference("samples", samples))
        _, comparison_ = compared(chain, runner, "samples", answers)
    return answers, not comparison_.passed


def found_of(chain, variant):
    """Where a variant's error comes from, and whether its comparison fails."""
    answers, failed = given(chain, variant)
    return located(chain, variant, answers, failed=failed), failed


def planted(chain, variant, folder, of_each):
    """Faults of one layer that make the comparison fail: kind, layers that have it, and what is located."""
    path, names, seen = chain.file(variant), layer_names(chain), {}
    for number, fault in enumerate(faults(path)):
        if seen.get(fault.kind, 0) >= of_each:
            continue
        file = folder / f"{variant}-{number}{path.suffix}"
        fault.write(file)
        broken = replace(chain, brought={variant.format: file}, known={})
        try:
            found, failed = found_of(broken, variant)
        except EngineError:
            continue  # an engine that refuses the file needs no locating
        if failed:
            seen[fault.kind] = seen.get(fault.kind, 0) + 1
            yield fault.kind, layers_of(chain, fault, names), found


def layers_of(chain, fault, names):
    """Layers of a fault's operations; of the output, which TFLite names after no layer, that of the last product."""
    import onnx

    operations = [o for o in fault.operations if o]
    if not operations:
        nodes = onnx.load(str(chain.file(Variant("onnx", "fp32")))).graph.node
        operations = [operation(next(n.name for n in reversed(nodes) if n.op_type in PRODUCTS))]
    return {layer_of(o, names) for o in operations}


def test_places_that_stand_as_samples_are_not_compared():
    """Around a dilated convolution TFLite has parts of a sample as samples: as many numbers, in another order."""
    graph = SimpleNamespace(floats={"conv": 0}, by_operation={}, outputs={})
    tensor, expected = Tensor("conv", "EXPAND_DIMS conv", ()), np.zeros((3, 1, 8, 4))
    for shape, names in (((6, 1, 4, 4), []), ((3, 1, 8, 4), ["conv"]), ((24, 4), ["conv"])):
        found = matched([tensor], graph, {"conv": np.zeros(shape)}, {"conv": expected})
        assert [match.own for match in found] == names, shape


def test_what_masks_is_no_part_of_a_size():
    """Beside a mask every error would be none; a mask that is lost, and large numbers among others, are as ever."""
    expected = np.float32([[1.0, -2.0, -1e9], [0.5, 1.0, -1e9]])
    actual = expected + np.float32([[0.1, 0, 64], [0, 0, 0]])
    assert figures(actual, expected, expected)["largest"] == pytest.approx(0.05)
    assert figures(np.where(expected < -1e8, 3, expected), expected, expected)["largest"] > 1e8
    prices = np.float32([[0.0, 100.0, 3e5]])
    assert figures(prices + np.float32([[0, 0, 3e3]]), prices, prices)["largest"] == pytest.approx(0.01)


def test_what_is_not_finite_on_one_side_is_infinitely_far_off():
    """Infinity or NaN for a number, and a number for infinity, are figures; on both sides they are the same."""
    expected = np.float32([[1.0, np.inf, np.nan]])
    assert figures(expected, expected, expected) == {"mean": 0.0, "largest": 0.0}
    for wrong in (np.inf, -np.inf, np.nan):
        assert figures(np.float32([[wrong, np.inf, np.nan]]), expected, expected) == {"mean": np.inf, "largest": np.inf}
    assert figures(np.float32([[1.0, 26.96, 0.0]]), expected, expected)["largest"] == np.inf


def is_right(layers, found):
    """Whether the layer that is named is the one with the fault."""
    return found.first is not None and not layers.isdisjoint(found.first.layer.split(" + "))


@pytest.mark.parametrize("variant", QUICK, ids=str)
def test_the_layer_with_the_planted_fault_is_named(digits, variant, tmp_path):
    """Faults of each kind in one layer of a small model: that layer is named, by its name in Keras, and its node."""
    if reason := registry.unavailable(variant):
        pytest.skip(reason)
    kinds = set()
    for kind, layers, found in planted(digits, variant, tmp_path, OF_EACH):
        assert is_right(layers, found), f"{kind} in {layers}: {found.sentence}"
        maker = "ONNX node" if variant.format == "onnx" else "TFLite"
        assert re.search(rf"first layer beyond its own noise: \S.* \({maker} .*, \S+ of \S+ allowed\)", found.sentence)
        kinds.add(kind)
    assert {"weights", "bias"} <= kinds or variant.precision == "int8", kinds
    assert kinds


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_sound_file_names_no_layer(digits, variant):
    """A sound conversion is located, and no layer of it is named; the graph itself is no file to compare with it."""
    if reason := registry.unavailable(variant):
        pytest.skip(reason)
    found, failed = found_of(digits, variant)
    assert not failed
    assert found.first is None
    if variant == Variant("onnx", "fp32"):
        assert found.sentence == "not located: onnx-fp32 is the very graph that others are compared with"
    else:
        assert found.sentence == f"no layer is beyond its own noise ({len(found.along)} tensors compared)"
        assert len(found.along) > 5


MODELS = ("restorer", "norms", "certain", "marks", "transformer")


@pytest.mark.slow
@pytest.mark.zoo
def test_planted_faults_are_named_in_nearly_all_of_many(tmp_path):
    """Of at least 40 faults in five models of the zoo, all variants, the layer that is named is right in 95 %."""
    right, wrong = 0, []
    for name in MODELS:
        chain = chain_of(ZOO[name], tmp_path)
        for variant in VARIANTS:
            for kind, layers, found in planted(chain, variant, tmp_path, 2):
                if is_right(layers, found):
                    right += 1
                else:
                    wrong.append(f"{name}, {variant}, {kind} in {layers}: {found.sentence}")
    assert right + len(wrong) >= 40
    assert right >= 0.95 * (right + len(wrong)), "\n".join(wrong)


def test_passes_of_few_tensors_find_the_same(digits, monkeypatch):
    """Where memory is bounded so that every tensor takes a pass of its own, figures are those of one pass."""
    variant = Variant("onnx", "int8")
    answers, _ = given(digits, variant)
    whole = located(digits, variant, answers, failed=False)
    monkeypatch.setattr(comparison, "NUMBERS", 1)
    parts = located(digits, variant, answers, failed=False)
    assert [layer.maker for layer in parts.along] == [layer.maker for layer in whole.along]
    # Which figure comes closest hangs on what the twin draws for a part.
    both = [(p, w) for p, w in zip(parts.along, whole.along, strict=True) if p.figure == w.figure]
    assert len(both) > len(whole.along) / 2
    np.testing.assert_allclose([p.needed for p, _ in both], [w.needed for _, w in both], rtol=1e-3, atol=1e-6)


def test_a_tensor_that_is_not_what_its_name_says_is_no_fault(digits, tmp_path):
    """A file that scales a tensor and scales it back has another one under a known name; no layer is named."""
    from onnx import helper, numpy_helper

    def scaled(model):
        first = next(n for n in model.graph.node if n.op_type == "Conv")
        name, inner, back = first.output[0], "raw", "back"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1024), "scale"))
        for node in model.graph.node:
            node.input[:] = [back if i == name else i for i in node.input]
        first.output[0] = inner
        place = list(model.graph.node).index(first) + 1
        model.graph.node.insert(place, helper.make_node("Div", [name, "scale"], [back]))
        model.graph.node.insert(place, helper.make_node("Mul", [inner, "scale"], [name]))

    variant, file = Variant("onnx", "fp32"), tmp_path / "scaled.onnx"
    changed_onnx(digits.file(variant), file, scaled)
    renamed = replace(digits, brought={"onnx": file}, known={})
    answers, _ = given(renamed, variant)
    assert located(renamed, variant, answers, failed=True).first is None


def test_layers_are_ranked_by_what_each_adds_alone(digits, tmp_path):
    """One layer of 3 bits is the first of the ranking; kept in a higher precision it leaves far less than the whole."""
    variant, file = Variant("onnx", "int8"), tmp_path / "coarse.onnx"
    fault = next(f for f in faults(digits.file(variant)) if f.kind == "scale")

    def coarse(model):
        from onnx import numpy_helper

        node = next(
            n for n in model.graph.node if fault.operations[0] in n.name and n.op_type in {"Conv", "Gemm", "MatMul"}
        )
        maker = next(n for n in model.graph.node if n.output[0] == node.input[1])
        (tensor,) = [t for t in model.graph.initializer if t.name == maker.input[0]]
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(
            numpy_helper.from_array((np.rint(values / 32) * 32).clip(-128, 127).astype(np.int8), tensor.name)
        )

    changed_onnx(digits.file(variant), file, coarse)
    broken = replace(digits, brought={"onnx": file}, known={})
    found, _ = found_of(broken, variant)
    first = found.ranking[0]
    assert first.layer in {layer_of(o, layer_names(digits)) for o in fault.operations}
    assert first.kept < 0.5 * found.whole
    assert first.layer in found.advice


def test_a_location_survives_the_way_to_another_process():
    """What a worker sends is what the report reads, infinities and what was not asked among it."""
    layer = Layer("conv2d", "ONNX node conv2d/Conv", "largest", float("inf"), 0.5)
    location = Location(layer, (layer,), (Alone("conv2d", 0.25, None),), 0.5, notes=("x",))
    assert Location.of(location.plain()) == location
    assert Location.of(Location(unlocated="why").plain()).sentence == "not located: why"


@pytest.fixture(scope="module")
def suite(digits, tmp_path_factory):
    """Run of the suite on an ONNX file in place of the bundled model's, with a report; gives text and document."""

    def call(file, *words):
        report = tmp_path_factory.mktemp("report")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--model=digits_vgg", f"--report={report}"]
        command += [f"--artifacts={digits.store.root}", "tests/test_consistency.py", *words]
        command += [f"--onnx={file}", "-k", "test_agrees_with_the_reference_on_samples and onnx-fp32"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment_apart(), capture_output=True, text=True, timeout=300, check=False
        )
        return done.stdout, json.loads((report / "conformance.json").read_text()), (report / "report.html").read_text()

    return call


def test_a_failure_and_its_report_name_the_layer(digits, suite, tmp_path):
    """The message of a failed comparison has one line on where it goes wrong, and the report draws all layers."""
    variant, file = Variant("onnx", "fp32"), tmp_path / "broken.onnx"
    fault = [f for f in faults(digits.file(variant)) if f.kind == "weights"][1]
    fault.write(file)
    names = layer_names(digits)
    (layer,) = {layer_of(o, names) for o in fault.operations if o.count("/")}
    text, document, page = suite(file)
    lines = [line for line in text.splitlines() if line.startswith("  located    ")]
    assert lines, text
    assert f"first layer beyond its own noise: {layer} (ONNX node " in lines[0]
    validate(document)
    (row,) = document["locations"]
    assert row["first"]["layer"] == layer
    assert "Own error along the layers" in page


def test_locate_tells_of_what_passes_too(digits, suite):
    """By --locate a sound file's layers are compared, and one line says that none is beyond its noise."""
    text, document, _ = suite(digits.file(Variant("onnx", "fp32")), "--locate")
    assert "digits_vgg-onnx-fp32 on samples: no layer is beyond its own noise (" in text, text
    assert [row["first"] for row in document["locations"]] == [None]
    validate(document)


def test_layers_of_a_model_that_is_first_called_as_a_whole_have_their_names(tmp_path):
    """Keras calls the variables of such a model's layers by the model: the scopes tell the layers apart."""
    import keras

    class Two(keras.Model):
        def __init__(self):
            super().__init__(name="two")
            self.one, self.other = (keras.layers.Dense(3, name=name) for name in ("one", "other"))

        def call(self, x):
            return self.other(self.one(x))

    model = Two()
    model(np.zeros((1, 3), np.float32))
    model.export(str(tmp_path), verbose=False, input_signature=[keras.InputSpec(shape=(None, 3), dtype="float32")])
    found = registry.find("savedmodel").layer_names(tmp_path)
    assert {scope.rpartition("/")[2].partition("_")[0]: name for scope, name in found.items()} == {
        "one": "one",
        "other": "other",
    }
