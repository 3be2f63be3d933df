"""What TensorRT engines and their runner promise beyond the reference's answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from conformance.compare import compare
from conformance.tolerances import row
from engines import tensorrt
from engines.chain import Chain
from engines.errors import ConversionError, EngineError, RunnerError
from engines.tensorrt import context
from engines.tensorrt.runner import TensorRTRunner
from engines.variant import Variant

pytestmark = [pytest.mark.tensorrt, pytest.mark.formats("tensorrt")]
ANY_PLAN = pytest.mark.formats("tensorrt", "tensorrt-vc")
"""What holds for version-compatible plans too, in whichever runtime is installed."""

SIZES = {"fp16": 0.6, "int8": 0.35, "int8+fp16": 0.35, "int8-qdq": 0.35}
"""The largest plan for each precision, as a share of the weights in FP32: half or a quarter, and the kernels."""

SMALL_PLAN = 2_000_000
"""A plan of up to this many bytes is small whatever the weights: kernels and descriptions are most of it."""

CONVOLUTIONS = 0.8
"""The share of its convolutions that an engine has to run in its precision, the first layer of Q/DQ models left out."""

SMALL_CONVOLUTIONS = 0.5
"""The same where all weights take less than a megabyte: in layers that small an FP32 kernel may be the fastest."""

REBUILDS = 3


@pytest.fixture(scope="session")
def plan(chain, variant):
    """Give the path of the variant's plan."""
    return chain.file(variant)


@pytest.fixture
def open_runner(chain, variant, plan):
    """Open further runners of the plan; all are closed at the end."""
    opened = []

    def call(batch_size=None, **settings):
        settings.setdefault("allow_host_code", variant.format == "tensorrt-vc")
        opened.append(TensorRTRunner(chain.spec, variant, plan, batch_size, **settings))
        return opened[-1]

    yield call
    for runner in opened:
        runner.close()


@ANY_PLAN
def test_metadata_is_that_of_the_model(spec, variant, runner):
    """The plan's inputs, outputs, dtypes and batch profile are the model's and the variant's."""
    profile = variant.profile
    for item in spec.inputs:
        assert runner.profile_shapes()[item.name] == tuple(
            spec.concrete_shape(item, n) for n in (profile.min, profile.opt, profile.max)
        )
    assert [(t.name, t.dtype) for t in runner.tensors] == [
        (item.signature_name, np.dtype(item.dtype)) for item in (*spec.inputs, *spec.outputs)
    ]
    assert runner.batch_size == profile.max


@pytest.mark.formats("tensorrt", precisions=SIZES)
def test_plan_is_small_enough(chain, variant, plan):
    """A plan of FP16 takes at most 0.6, one of INT8 at most 0.35 of the weights in FP32."""
    weights = chain.file(Variant("onnx", "fp32")).stat().st_size
    assert plan.stat().st_size <= max(SIZES[variant.precision] * weights, SMALL_PLAN)


def test_convolutions_run_in_the_precision(chain, variant):
    """Convolutions run in the precision that was asked for: they do not fall back unsaid."""
    found = dict(chain.artifact(variant).details["convolutions"])
    small = chain.file(Variant("onnx", "fp32")).stat().st_size < 1_000_000
    wanted = {"fp32": "FP32", "fp16": "FP16"}.get(variant.precision, "INT8")
    # The Q/DQ model leaves its first layer in FP32 on purpose.
    total = sum(found.values()) - (variant.precision == "int8-qdq")
    least = 1.0 if wanted == "FP32" else SMALL_CONVOLUTIONS if small else CONVOLUTIONS
    assert total > 0
    assert found.get(wanted, 0) / total >= least, found


@pytest.mark.formats("tensorrt", precisions=tensorrt.versions.CALIBRATED)
def test_calibration_took_every_sample(chain, spec, variant):
    """Calibration took all samples in batches, or a cache that was made from just these; its hashes are recorded."""
    calibration = chain.artifact(variant).details["calibration"]
    batches = 0 if calibration["cache_read"] else spec.calibration.samples // spec.calibration.batch
    assert calibration == {"batches": batches, "batch": spec.calibration.batch, "cache_read": not batches}


@ANY_PLAN
def test_hundred_samples_are_four_copies(open_runner, samples):
    """A hundred samples at batch 32 cross to the device in four copies, and back in four."""
    runner = open_runner(32)
    runner(samples.inputs)
    batches = -(-len(samples) // 32)
    assert (runner.copies.host_to_device, runner.copies.device_to_host) == (batches, batches)


@ANY_PLAN
def test_repeated_runs_are_identical(runner, samples):
    """The same samples give the same bits again."""
    first = runner(samples.inputs)
    for _ in range(5):
        for name, array in runner(samples.inputs).items():
            np.testing.assert_array_equal(array, first[name])


@ANY_PLAN
def test_streams_and_graphs_change_no_answer(open_runner, samples):
    """However many streams, with graphs or without, with copiers or without, the bits are the same."""
    runner = open_runner(16, streams=1, graphs=False, copiers=0)
    inputs = {name: np.concatenate([array] * 9)[:-5] for name, array in samples.inputs.items()}
    expected = runner(inputs)
    for streams, graphs, copiers in ((1, True, 0), (2, True, 1), (8, False, 3), (16, True, 4)):
        runner.configure(streams=streams, graphs=graphs, copiers=copiers)
        for name, array in runner(inputs).items():
            np.testing.assert_array_equal(array, expected[name], f"{streams} streams, graphs {graphs}, {copiers}")


@ANY_PLAN
def test_two_threads_do_not_disturb_each_other(open_runner, samples):
    """Two runners on two threads, each on samples of its own, give what each gives alone."""
    runners = [open_runner(8, streams=4, copiers=1), open_runner(8, streams=4, copiers=1)]
    inputs = [samples.inputs, {name: np.ascontiguousarray(array[::-1]) for name, array in samples.inputs.items()}]
    expected = [runner(one) for runner, one in zip(runners, inputs, strict=True)]
    wrong = []

    def work(which):
        for _ in range(20):
            for name, array in runners[which](inputs[which]).items():
                if not np.array_equal(array, expected[which][name]):
                    wrong.append((which, name))

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@ANY_PLAN
def test_poisoned_outputs_are_overwritten(open_runner, samples):
    """Every output buffer is written in full: NaN put there before shows nowhere."""
    runner = open_runner(32)
    expected = runner(samples.inputs)
    runner.poison()
    for name, array in runner(samples.inputs).items():
        np.testing.assert_array_equal(array, expected[name])


@ANY_PLAN
def test_closing_frees_the_device(open_runner, samples):
    """What a runner took of the device's memory is free again once it is closed, and it then refuses to run."""
    import pycuda.driver as cuda

    def free():
        with context.current():
            return cuda.mem_get_info()[0]

    warm = open_runner(1)  # what the driver keeps for itself is taken now
    warm(samples.take(0, 3).inputs)
    warm.close()
    before = free()
    for _ in range(3):
        runner = open_runner()
        runner(samples.inputs)
        runner.close()
    assert before - free() <= 8 << 20
    with pytest.raises(RunnerError, match="closed"):
        runner(samples.inputs)


@pytest.mark.formats("tensorrt", precisions=("fp16",), first_profile=True)
def test_a_process_exits_cleanly(chain, variant, plan):
    """A process that never closes its runner still ends with exit code 0, and without a word."""
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from engines.model import load_model\n"
        "from engines.variant import variants\n"
        "from engines.tensorrt.runner import TensorRTRunner\n"
        "spec = load_model(Path(sys.argv[1]))\n"
        "variant = next(v for v in variants(spec) if str(v) == sys.argv[2])\n"
        "runner = TensorRTRunner(spec, variant, Path(sys.argv[3]))\n"
        "runner({i.name: np.zeros(spec.concrete_shape(i, 70), i.dtype) for i in spec.inputs})\n"
    )
    command = [sys.executable, "-c", code, str(chain.spec.path), str(variant), str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.formats("tensorrt", first_profile=True)
def test_rebuilds_stay_within_tolerance(chain, variant, samples, reference):
    """An engine that is built again, three times, gives the reference's answers each time."""
    spec = chain.spec
    tolerance = row(str(variant), "samples", spec.tolerances, str(spec.path)).tolerance
    for number in range(1, REBUILDS + 1):
        with TensorRTRunner(spec, variant, chain.rebuilt(variant, number)) as again:
            comparison = compare(again(samples.inputs), reference, tolerance, {o.name: o.kind for o in spec.outputs})
        assert comparison.passed, f"rebuild {number}: {comparison.describe()}"


# What cannot work: a typed error with TensorRT's own words, and the process goes on.


def _damaged(plan, how):
    content = bytearray(plan.read_bytes())
    if how == "empty":
        return b""
    if how == "truncated":
        return bytes(content[: len(content) // 2])
    if how == "a few bytes":
        return bytes(content[:20])
    if how == "no plan":
        return b"this is not a plan" * 1000
    # The version of the engine's own format follows its tag and eight bytes.
    content[content.index(b"ptrt") + 8] ^= 1
    return bytes(content)


DAMAGES = {
    "empty": "the plan is empty",
    "truncated": r"cannot load it as a plan:\n +\S",
    "a few bytes": r"cannot load it as a plan:\n +\S",
    "no plan": r"cannot load it as a plan:\n +\S",
    "another version": r"cannot load it as a plan:\n.*[Vv]ersion",
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.formats("tensorrt", precisions=("fp32", "int8"), first_profile=True)
def test_damaged_plan_is_refused(how, spec, plan, tmp_path, open_runner):
    """A plan that is empty, truncated, no plan, or of another TensorRT is refused; a sound one still runs after it."""
    bad = tmp_path / "bad.plan"
    bad.write_bytes(_damaged(plan, how))
    sound = open_runner()
    with pytest.raises(RunnerError, match=DAMAGES[how]):
        TensorRTRunner(spec, sound.variant, bad)
    sound({i.name: np.zeros(spec.concrete_shape(i, 2), i.dtype) for i in spec.inputs})


@pytest.mark.formats("tensorrt", precisions=("fp16",), first_profile=True)
def test_truncated_plan_is_no_artifact(chain, variant, plan, tmp_path):
    """A truncated plan in the store does not count as an artifact."""
    copy = tmp_path / chain.spec.name / str(variant)
    shutil.copytree(plan.parent, copy)
    whole = Chain(chain.spec, chain.dataset, type(chain.store)(tmp_path))
    assert whole.store.recorded(chain.spec.name, str(variant)) is not None
    (copy / tensorrt.FILE).write_bytes(plan.read_bytes()[:-1])
    assert whole.store.recorded(chain.spec.name, str(variant)) is None


@ANY_PLAN
def test_batches_outside_the_profile_are_refused(open_runner, variant, spec, samples):
    """TensorRT's own refusal of batch 0 and of one more than the profile's maximum comes out as an error."""
    runner = open_runner()
    expected = runner(samples.inputs)
    for batch in (0, variant.profile.max + 1):
        shapes = {i.signature_name: spec.concrete_shape(i, batch) for i in spec.inputs}
        with context.current(), pytest.raises(RunnerError, match=r"refuses the shape .*\n +\S"):
            runner.raw().set_shapes(shapes)
    with pytest.raises(RunnerError, match=f"allowed by the profile .*: 1 to {variant.profile.max}"):
        open_runner(variant.profile.max + 1)
    for name, array in runner(samples.inputs).items():
        np.testing.assert_array_equal(array, expected[name])


def test_wrong_inputs_are_refused(runner, spec, samples):
    """Another dtype, shape or name, or no samples, is refused with what the runner takes; good samples still run."""
    good = samples.take(0, 2).inputs
    name, array = next(iter(good.items()))
    for bad in (
        {name: array.astype(np.float64)},
        {name: array[:, :-1]},
        {name: array[0]},
        {name: array[:0]},
        {"other": array},
        {},
    ):
        with pytest.raises(RunnerError, match="takes input_1: float32"):
            runner(bad)
    runner(good)


@pytest.mark.formats("tensorrt", precisions=("fp32", "fp16"), first_profile=True)
def test_full_device_is_an_error(open_runner, samples):
    """With no byte of device memory free a runner says so; once there is memory again the next one runs."""
    import pycuda.driver as cuda

    hoard = []
    with context.current():
        size = cuda.mem_get_info()[0]
        while size:
            try:
                hoard.append(cuda.mem_alloc(size))
            except cuda.MemoryError:
                size //= 2
    try:
        with pytest.raises(RunnerError, match=r"(?i)out of memory"):
            open_runner()(samples.inputs)
    finally:
        with context.current():
            while hoard:
                hoard.pop().free()
    assert np.isfinite(next(iter(open_runner()(samples.inputs).values()))).all()


@pytest.mark.formats("tensorrt", precisions=("fp32",), first_profile=True)
def test_unparsable_onnx_is_a_conversion_error(chain, variant, tmp_path):
    """An ONNX with an operator that TensorRT does not know is refused with the parser's own message."""
    import onnx

    model = onnx.load(str(chain.file(Variant("onnx", "fp32"))))
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "NoSuchOperator", "example"
    model.opset_import.append(onnx.helper.make_opsetid("example", 1))
    onnx.save(model, str(tmp_path / "bad.onnx"))
    with pytest.raises(ConversionError, match=r"(?s)cannot build.*NoSuchOperator"):
        tensorrt.build.build_engine(tmp_path / "bad.onnx", "", chain.spec, variant, tmp_path)


@pytest.mark.formats("tensorrt", precisions=tensorrt.versions.CALIBRATED, first_profile=True)
def test_too_few_calibration_samples_are_an_error(chain, spec, variant, tmp_path):
    """INT8 with fewer calibration samples than the model asks for is not built."""
    few = {name: array[: spec.calibration.samples - 1] for name, array in chain.calibration.inputs.items()}
    with pytest.raises(ConversionError, match=f"{spec.calibration.samples - 1} calibration samples"):
        tensorrt.build.build_engine(
            chain.file(Variant("onnx", "fp32")), "", spec, variant, tmp_path, samples=few, samples_sha256="x"
        )


@pytest.mark.formats("tensorrt", precisions=("fp32",))
def test_fp32_is_within_rounding_of_the_savedmodel(runner, samples, reference, spec):
    """FP32 engines differ from the SavedModel by at most 1e-5: TF32 is off."""
    assert row(str(runner.variant), "samples", spec.tolerances, str(spec.path)).tolerance.max <= 2e-5
    for name, array in runner(samples.inputs).items():
        assert np.abs(array - reference[name]).max() <= 1e-5


def test_errors_are_of_one_family():
    """Whatever the runner refuses can be caught as EngineError."""
    assert issubclass(RunnerError, EngineError)
    assert issubclass(ConversionError, EngineError)
