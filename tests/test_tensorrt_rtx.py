"""What is known of plans of TensorRT for RTX without a GPU: they are built, and looked at, on every machine."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from engines.formats.onnx.layers import layers
from engines.formats.registry import find
from engines.formats.tensorrt import header
from engines.formats.tensorrt.build import shapes
from engines.formats.tensorrt_rtx import build_command, recipe, targets
from engines.variant import Variant

pytestmark = [pytest.mark.consistency, pytest.mark.formats("tensorrt-rtx")]

ROOT = Path(__file__).resolve().parent.parent

SIZES = {"fp32": 1.05, "fp16": 0.55, "int8-qdq": 0.40}
"""The largest plan for each precision, as a share of the weights in FP32: the rest are kernels and descriptions."""

SAME_PRECISION = 0.05
"""The share by which bytes of weights may differ between two builds: in another precision they are half or twice."""

SMALL_PLAN = 2_000_000
"""A plan of up to this many bytes is small whatever the weights: those parts take most of it."""

DTYPES = {"float32": "FLOAT", "bool": "BOOL"} | {name: name.upper() for name in ("int8", "uint8", "int32", "int64")}
"""What TensorRT calls the dtypes of inputs and outputs that it has."""


@pytest.fixture(scope="session")
def plan(chain, built):
    """Path of the variant's plan."""
    return chain.file(built)


@pytest.fixture(scope="session")
def onnx_file(chain, built):
    """Path of the ONNX that the plan is made from."""
    return chain.file(find(built.format).source(built.precision))


@pytest.fixture(scope="session")
def weight_bytes(chain):
    """Bytes that the model's weights take in FP32, from its ONNX."""
    import onnx

    model = onnx.load(str(chain.file(Variant("onnx", "fp32"))))
    return 4 * sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1)


@pytest.fixture(scope="session")
def seen_before(chain):
    """Skip what holds only for the bundled models: of another one nobody has seen what TensorRT makes."""
    if not chain.spec.bundled or chain.brought:
        pytest.skip(f"{chain.spec.name} is a model, or has a file, of your own: this was seen of the bundled ones only")


def job(spec, variant, onnx_file, path, *names):
    """Job of the build command, for targets by TensorRT's names."""
    profile = {i.signature_name: shapes(spec, i, variant.profile) for i in spec.inputs}
    return {"onnx": str(onnx_file), "plan": str(path), "shapes": profile, "targets": list(names)}


def test_plan_records_its_targets(chain, built, plan, spec):
    """The plan's own header names the GPUs that were asked for, the version that built it, and its size."""
    found, chosen = header.read(plan.read_bytes()), targets.OPTION.values(spec)
    assert found is not None
    assert found.version == find(built.format).version()
    assert found.size == plan.stat().st_size
    assert list(found.targets) == chain.artifact(built).details["targets"]
    if targets.HERE not in chosen:
        assert set(found.targets) == set(chosen)


def test_network_is_the_models(chain, built, spec):
    """Inputs and outputs of what the parser made are the model's, and the profile is the variant's."""
    details, profile = chain.artifact(built).details, built.profile
    assert [shape[0] for _, shape in details["inputs"].values()] == [-1] * len(spec.inputs)
    assert [len(shape) for _, shape in details["outputs"].values()] == [len(o.shape) for o in spec.outputs]
    for side, items in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        assert Counter(dtype for dtype, _ in details[side].values()) == Counter(DTYPES[item.dtype] for item in items)
    assert details["profile"] == [profile.min, profile.opt, profile.max]


def test_precision_of_the_source_is_kept(chain, built, onnx_file):
    """Each layer that multiplies takes what it takes in the ONNX: FP32, FP16, or the integers of its Q/DQ nodes."""
    expected = Counter(layer.precision.upper() for layer in layers(onnx_file))
    found = Counter(chain.artifact(built).details["layers"])
    if chain.spec.bundled and not chain.brought:
        assert found == expected
    else:
        # Products of two activations have no weights, and TensorRT may write one operator as several layers.
        assert set(expected) <= set(found)


def test_plan_is_small_enough(seen_before, built, plan, weight_bytes):
    """A plan takes little more than its weights do in its precision."""
    assert plan.stat().st_size <= max(SIZES[built.precision] * weight_bytes, SMALL_PLAN)


def test_weights_are_kept_in_the_precision(seen_before, chain, built, weight_bytes):
    """The weights inside the plan take the bytes of its precision: four, two, or one for all but the layers in FP32."""
    share = chain.artifact(built).details["weights_bytes"] / weight_bytes
    low, high = {"fp32": (0.98, 1.02), "fp16": (0.49, 0.53), "int8-qdq": (0.24, 0.36)}[built.precision]
    assert low <= share <= high


@pytest.mark.formats("tensorrt-rtx", precisions=("fp32", "fp16"), first_profile=True)
def test_plan_is_the_same_from_process_to_process(seen_before, chain, built, plan):
    """FP32 and FP16 plans of the bundled models are the same bytes whenever they are built; those of INT8 are not."""
    again = chain.rebuilt(built, 1)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(plan.read_bytes()).hexdigest()


@pytest.mark.formats("tensorrt-rtx", first_profile=True)
def test_plan_that_is_built_again_differs_in_no_more_than_bytes(chain, built, plan):
    """A plan that is built again is whole, for the same targets, with weights of the same precision: nothing more.

    The build has checked its signature. Kernels and descriptions may take other bytes, and more or fewer of them.
    """
    path = chain.rebuilt(built, 1)
    again, first = header.read(path.read_bytes()), header.read(plan.read_bytes())
    assert again is not None
    assert again.size == path.stat().st_size
    assert (again.version, again.targets) == (first.version, first.targets)
    assert again.weights == pytest.approx(first.weights, rel=SAME_PRECISION)


BOTH = (
    "import json, sys\n"
    "from engines.formats.tensorrt_rtx.build_command import build\n"
    "json.dump([build(job) for job in json.load(sys.stdin)], sys.stdout)\n"
)


@pytest.mark.formats("tensorrt-rtx", precisions=("fp32",), first_profile=True)
def test_a_failed_build_changes_no_later_plan(seen_before, spec, built, onnx_file, tmp_path):
    """A build that fails changes the next plan of its process, which is why each of ours has one of its own."""
    paths = [tmp_path / f"{name}.plan" for name in ("refused", "after", "alone", "beside")]
    turing, *others = (
        job(spec, built, onnx_file, path, gpu) for path, gpu in zip(paths, ["SM75"] + 3 * ["SM86"], strict=True)
    )
    after, alone, beside = others
    done = subprocess.run(
        [sys.executable, "-c", BOTH],
        input=json.dumps([turing, after]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    refused, _ = json.loads(done.stdout)
    assert "FP32 GEMM is not supported" in refused["error"]
    for one in (alone, turing, beside):
        recipe.run(one, "a build")
    contents = [Path(one["plan"]).read_bytes() for one in (alone, beside, after)]
    assert contents[0] == contents[1]
    mended = f"TensorRT for RTX builds the same after a failure: {build_command.__name__} may be called in this process"
    assert contents[0] != contents[2], mended
