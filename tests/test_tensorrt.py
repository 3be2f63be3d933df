"""What TensorRT engines and their runner promise beyond the reference's answers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conformance.compare import compare
from engines.chain import Chain
from engines.copiers import CHUNK_BYTES
from engines.dealing import DealingRunner
from engines.errors import ConversionError, RunnerError
from engines.formats.tensorrt import build as tensorrt_build
from engines.formats.tensorrt import calibration as tensorrt_calibration
from engines.formats.tensorrt import context, cuda
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.formats.tensorrt import runner as runner_module
from engines.formats.tensorrt import versions as tensorrt_versions
from engines.formats.tensorrt.runner import PIECES_BYTES, TensorRTRunner
from engines.formats.tensorrt.slots import checked
from engines.formats.tensorrt_rtx.runner import RTXRunner
from engines.model.samples import content_hash
from engines.variant import Variant
from trial.rows import row

pytestmark = [pytest.mark.tensorrt, pytest.mark.formats("tensorrt")]
ANY_PLAN = pytest.mark.formats("tensorrt", "tensorrt-vc", "tensorrt-rtx")
"""What holds for version-compatible plans too, in whichever runtime is installed, and for those of TensorRT for RTX."""

ROOT = Path(__file__).resolve().parent.parent

SIZES = {"fp16": 0.6, "int8": 0.35, "int8+fp16": 0.35, "int8-qdq": 0.35}
"""The largest plan for each precision, as a share of the weights in FP32: half or a quarter, and the kernels."""

SMALL_PLAN = 2_000_000
"""A plan of up to this many bytes is small whatever the weights: kernels and descriptions are most of it."""

CONVOLUTIONS = 0.8
"""The share of its convolutions that an engine has to run in its precision, the first layer of Q/DQ models left out."""

SMALL_CONVOLUTIONS = 0.5
"""The same where all weights take less than a megabyte: in layers that small an FP32 kernel may be the fastest."""

REBUILDS = 3

LEAK = 8 << 20
"""What the driver may keep for itself when a runner is closed, in bytes."""


@pytest.fixture(scope="session")
def plan(chain, variant):
    """Path of the variant's plan."""
    return chain.file(variant)


@pytest.fixture(scope="session")
def seen_before(chain):
    """Skip what holds only for engines of the bundled models: how TensorRT does on another one nobody has seen."""
    if not chain.spec.bundled or chain.brought:
        pytest.skip(
            f"{chain.spec.name} is a model, or has a file, of your own, and the limits of this test were measured on "
            "engines of the bundled models only; nothing is wrong: its answers are judged by the other tests"
        )


@pytest.fixture(scope="session")
def weight_bytes(chain, variant):
    """Bytes that the weights take in FP32: four for each element in the ONNX that the plan is made from."""
    import onnx

    source = tensorrt_versions.route(variant.precision, tensorrt_packages.version()).source
    model = onnx.load(str(chain.file(Variant("onnx", source))))
    return 4 * sum(math.prod(tensor.dims) for tensor in model.graph.initializer)


@pytest.fixture
def alone():
    """Skip beside other workers of pytest-xdist: they may use the same GPU, and would see its memory come and go."""
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        pytest.skip("needs the GPU for itself: run without -n")


@pytest.fixture
def open_runner(chain, variant, plan):
    """Open further runners of the plan; all are closed at the end."""
    opened = []

    def call(batch_size=None, **settings):
        settings.setdefault("allow_host_code", variant.format == "tensorrt-vc")
        made = RTXRunner if variant.format == "tensorrt-rtx" else TensorRTRunner
        opened.append(made(chain.spec, variant, plan, batch_size, **settings))
        return opened[-1]

    yield call
    for runner in opened:
        runner.close()


@ANY_PLAN
def test_metadata_is_that_of_the_model(spec, variant, chain, runner, open_runner):
    """The plan's inputs, outputs, dtypes and batch profile are the model's and the variant's."""
    profile = variant.profile
    if isinstance(runner, DealingRunner):
        # On every GPU the plan is the same file; those runners are in other processes.
        runner = open_runner()
    for item in spec.inputs:
        # Further dynamic dimensions go from their smallest to their largest size, and are tuned for their first.
        assert runner.profile_shapes()[item.name] == tuple(
            (batch, *(choose(spec.dimensions[d]) if isinstance(d, str) else d for d in item.shape[1:]))
            for batch, choose in ((profile.min, min), (profile.opt, lambda sizes: sizes[0]), (profile.max, max))
        )
    items = (*spec.inputs, *spec.outputs)
    assert [(t.item.name, t.dtype) for t in runner.tensors] == [(item.name, np.dtype(item.dtype)) for item in items]
    # A converter may have renamed a single output, and who made an ONNX elsewhere its single input; nothing else.
    inputs = () if chain.brought and len(spec.inputs) == 1 else spec.inputs
    outputs = spec.outputs if len(spec.outputs) > 1 else ()
    names = {t.item.name: t.name for t in runner.tensors}
    assert [names[item.name] for item in (*inputs, *outputs)] == [i.signature_name for i in (*inputs, *outputs)]
    assert runner.batch_size == profile.max


@pytest.mark.formats("tensorrt", precisions=SIZES)
def test_plan_is_small_enough(seen_before, variant, plan, weight_bytes):
    """A plan of FP16 takes at most 0.6, one of INT8 at most 0.35 of the weights in FP32."""
    assert plan.stat().st_size <= max(SIZES[variant.precision] * weight_bytes, SMALL_PLAN)


@pytest.mark.formats("tensorrt", "tensorrt-vc", precisions=("fp32", "int8", "int8+fp16", "int8-qdq"))
def test_convolutions_run_in_the_precision(chain, variant, weight_bytes):
    """Convolutions run in the precision that was asked for: they do not fall back unsaid.

    FP16 is a permission, which TensorRT soundly leaves unused where it is not faster; floors tell where it should be.
    """
    wanted = "FP32" if variant.precision == "fp32" else "INT8"
    convolutions = chain.artifact(variant).details["convolutions"]
    told = {name: count for name, count in convolutions.items() if name != "unknown"}
    # The Q/DQ model leaves its first layers in FP32 on purpose.
    on_purpose = _left_in_fp32(chain) if variant.precision == "int8-qdq" else 0
    total = sum(told.values()) - min(on_purpose, told.get("FP32", 0))
    if total == 0:
        pytest.skip(f"{chain.spec.name} has no convolutions whose precision TensorRT tells: {convolutions}")
    if wanted == "FP32":
        assert told == {"FP32": total}
    elif not chain.spec.bundled or chain.brought:
        # How many pay was never seen for another model: none at all is a fall-back.
        assert told.get(wanted, 0) > 0, told
    else:
        least = SMALL_CONVOLUTIONS if weight_bytes < 1_000_000 else CONVOLUTIONS
        assert told.get(wanted, 0) / total >= least, told


def _left_in_fp32(chain):
    return len(chain.artifact(Variant("onnx", "int8")).details.get("left_in_fp32", ()))


@pytest.mark.formats("tensorrt", precisions=tensorrt_versions.CALIBRATED)
def test_calibration_took_every_sample(chain, spec, variant, plan):
    """Calibration took all samples in batches, or a cache that says it was made from just these and this ONNX."""
    calibration = chain.artifact(variant).details["calibration"]
    batches = 0 if calibration["cache_read"] else spec.calibration.samples // spec.calibration.batch
    assert calibration == {"batches": batches, "batch": spec.calibration.batch, "cache_read": not batches}
    line, _, content = (plan.parent / tensorrt_calibration.CACHE).read_bytes().partition(b"\n")
    expected = {
        "model": chain.artifact(Variant("onnx", "fp32")).sha256,
        "data": content_hash(chain.calibration.inputs),
        "batch": spec.calibration.batch,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    header = json.loads(line)
    assert {key: header[key] for key in expected} == expected
    assert b"EntropyCalibration2" in content.splitlines()[0]


def repeated(samples, count):
    """``count`` samples: the given ones, over and over where they are fewer."""
    return {name: np.concatenate([a] * -(-count // len(a)))[:count] for name, a in samples.inputs.items()}


def batch_sizes(spec, variant, usual):
    """``usual`` or the profile's largest batch, if that is less, and the largest too where it goes in pieces."""
    most = variant.profile.max
    sample_bytes = sum(np.dtype(i.dtype).itemsize * math.prod(spec.concrete_shape(i, 1)) for i in spec.inputs)
    return sorted({min(usual, most), *([most] if most * sample_bytes > PIECES_BYTES else [])})


def bearable(runner, streams):
    """Limit the streams to what half of the device's free memory bears, as tuning does."""
    with context.current():
        free, _ = cuda.driver().mem_get_info()
    scratch = max(tensorrt_versions.scratch_bytes(runner.engine), 1)
    batch = runner.batch_size * sum(t.sample_bytes for t in runner.tensors)
    return max(1, min(streams, free // 2 // (scratch + batch) - 1))


@ANY_PLAN
def test_every_batch_crosses_once(open_runner, spec, variant):
    """Each batch crosses to the device in one transfer an input and back in one an output; a large first one in pieces.

    The runner counts them where it makes them, those inside its CUDA graphs too.
    """
    inputs, outputs = len(spec.inputs), len(spec.outputs)
    for batch in batch_sizes(spec, variant, 32):
        runner = open_runner(batch, streams=2)
        sent = {i.name: np.zeros(spec.concrete_shape(i, 2 * batch + batch // 8 + 1), i.dtype) for i in spec.inputs}
        batches = -(-len(next(iter(sent.values()))) // batch)
        runner(sent)
        assert runner.copies.device_to_host == batches * outputs
        if runner.batch_bytes <= PIECES_BYTES:
            assert runner.copies.host_to_device == batches * inputs
        else:
            sizes = [t.sample_bytes for t in runner.tensors[:inputs]]
            pieces = sum(-(-batch // max(1, CHUNK_BYTES // size)) for size in sizes)
            assert batches * inputs <= runner.copies.host_to_device <= (batches - 1) * inputs + pieces
        runner.close()


@pytest.mark.formats("tensorrt", first_profile=True)
def test_a_graph_has_the_transfers_that_are_counted(open_runner, spec, monkeypatch):
    """The copies in a captured CUDA graph, counted by CUDA itself, are those that the runner counts when it runs."""
    from cuda.bindings import driver

    found, destroy = [], driver.cuGraphDestroy

    def count(graph):
        # The graph is destroyed once it is instantiated: the last time that its nodes can be looked at.
        number = checked_pair(driver.cuGraphGetNodes(graph))[1]
        nodes = checked_pair(driver.cuGraphGetNodes(graph, number))[0]
        kinds = [checked(driver.cuGraphNodeGetType(node)) for node in nodes]
        found.append(kinds.count(driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_MEMCPY))
        return destroy(graph)

    runner = open_runner()
    if not runner.graphs:
        pytest.skip(f"{spec.name} has further dynamic dimensions: it is run without CUDA graphs")
    monkeypatch.setattr(driver, "cuGraphDestroy", count)
    with context.current():
        slot = runner.raw()
        slot.set_shapes(runner.batch_shapes(runner.batch_size))
        graphs = []
        for kinds in ({}, {"inputs": False}, {"inputs": False, "outputs": False}):
            graphs.append(slot.capture(runner.batch_size, **kinds))
            checked(driver.cuGraphExecDestroy(graphs[-1].executable))
    # The engine itself may copy too, within the device: that is what the last one has.
    assert len(found) == 3
    assert (found[0] - found[1], found[1] - found[2]) == (len(spec.inputs), len(spec.outputs))
    for graph, copies in zip(graphs, found, strict=True):
        assert sum(graph.moves) == copies - found[2]


def checked_pair(result):
    """Both of what a call of cuda-python returned beside its status."""
    status, *rest = result
    checked((status,))
    return rest


@ANY_PLAN
def test_streams_and_graphs_change_no_answer(open_runner, spec, variant, samples):
    """However many streams, with or without graphs and copiers, in pieces or not, the bits are the same."""
    for batch in batch_sizes(spec, variant, 16):
        inputs = repeated(samples, max(895, 2 * batch + batch // 20))
        runner = open_runner(batch, streams=1, graphs=False, copiers=0)
        expected = runner(inputs)
        for streams, graphs, copiers in ((1, True, 0), (2, True, 1), (8, False, 3), (16, True, 4)):
            runner.configure(streams=bearable(runner, streams), graphs=graphs, copiers=copiers)
            for name, array in runner(inputs).items():
                np.testing.assert_array_equal(
                    array, expected[name], f"batch {batch}, {runner.streams} streams, graphs {graphs}, {copiers}"
                )
        runner.close()


@ANY_PLAN
def test_two_threads_do_not_disturb_each_other(open_runner, variant, samples):
    """Two runners on two threads, set up while the other works, give on samples of their own what each gives alone."""
    batch = min(8, variant.profile.max)
    inputs = [samples.inputs, {name: np.ascontiguousarray(array[::-1]) for name, array in samples.inputs.items()}]
    # From another runner, so that those under test start cold: contexts are made and graphs captured on the threads.
    alone_runner = open_runner(batch, streams=4, copiers=1)
    expected = [alone_runner(one) for one in inputs]
    alone_runner.close()
    runners = [open_runner(batch, streams=4, copiers=1) for _ in inputs]
    together = threading.Barrier(2, timeout=60)

    def work(which):
        wrong = []
        together.wait()
        for turn in range(20):
            if turn % 5 == 4 and which == 0:
                # Set up anew, with the other one in the midst of its work.
                runners[which].configure(streams=2 + turn % 3, graphs=True, copiers=turn % 2)
            for name, array in runners[which](inputs[which]).items():
                if not np.array_equal(array, expected[which][name]):
                    wrong.append((which, turn, name))
        return wrong

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(work, (0, 1))) == [[], []]


class Poisoning:
    """NumPy, but for new arrays: they are full of NaN, where they may else hold an earlier call's results."""

    def __getattr__(self, name):
        """NumPy's own."""
        return getattr(np, name)

    @staticmethod
    def empty(shape, dtype=float):
        """Make an array of NaN."""
        return np.full(shape, np.nan, dtype)


@ANY_PLAN
def test_poisoned_outputs_are_overwritten(open_runner, variant, samples, monkeypatch):
    """Every output buffer and result is written in full: NaN put there before shows nowhere."""
    batch = min(32, variant.profile.max)
    runner = open_runner(batch)
    calls = [repeated(samples, count) for count in (3 * batch + 1, batch, 1)]
    expected = [runner(inputs) for inputs in calls]
    monkeypatch.setattr(runner_module, "np", Poisoning())
    runner.poison()
    for inputs, wanted in zip(calls, expected, strict=True):
        for name, array in runner(inputs).items():
            np.testing.assert_array_equal(array, wanted[name])


@ANY_PLAN
def test_closing_frees_the_device(alone, open_runner, samples):
    """What a runner took of the device's memory is free again once it is closed, and it then refuses to run."""

    def free():
        with context.current():
            return cuda.driver().mem_get_info()[0]

    warm = open_runner(1)  # what the driver keeps for itself is taken now
    warm(samples.take(0, 3).inputs)
    warm.close()
    leaks = []
    # Another process, such as a desktop's, may take memory meanwhile; a leak shows every time.
    while not leaks or (min(leaks) > LEAK and len(leaks) < 3):
        before = free()
        for _ in range(3):
            runner = open_runner()
            runner(samples.inputs)
            runner.close()
        leaks.append(before - free())
    assert min(leaks) <= LEAK
    with pytest.raises(RunnerError, match="closed"):
        runner(samples.inputs)


@pytest.mark.formats("tensorrt", precisions=("fp16",), first_profile=True)
def test_a_process_exits_cleanly(chain, variant, plan):
    """A process that never closes its runner still ends with exit code 0, and without a word."""
    if not chain.spec.path.is_file():
        pytest.skip(f"{chain.spec.name} was described from its SavedModel: a process of its own has no file to read")
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from engines.model.toml import load_model\n"
        "from engines.formats.registry import variants\n"
        "from engines.formats.tensorrt.runner import TensorRTRunner\n"
        "spec = load_model(Path(sys.argv[1]))\n"
        "variant = next(v for v in variants(spec) if str(v) == sys.argv[2])\n"
        "runner = TensorRTRunner(spec, variant, Path(sys.argv[3]))\n"
        "runner({i.name: np.zeros(spec.concrete_shape(i, 70), i.dtype) for i in spec.inputs})\n"
    )
    command = [sys.executable, "-c", code, str(chain.spec.path.resolve()), str(variant), str(plan.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.formats("tensorrt", first_profile=True)
def test_rebuilds_stay_within_tolerance(chain, variant, samples, reference):
    """An engine that is built again, three times, gives the reference's answers each time."""
    spec = chain.spec
    tolerance = row(variant.row_name, "samples", spec.tolerances, str(spec.path)).tolerance
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
def test_truncated_plan_is_no_artifact(chain, plan, tmp_path):
    """A truncated plan in the store does not count as an artifact."""
    name = plan.parent.name
    copy = tmp_path / chain.spec.name / name
    shutil.copytree(plan.parent, copy)
    whole = Chain(chain.spec, chain.dataset, type(chain.store)(tmp_path))
    assert whole.store.recorded(chain.spec.name, name) is not None
    (copy / tensorrt_build.PLAN).write_bytes(plan.read_bytes()[:-1])
    assert whole.store.recorded(chain.spec.name, name) is None


@ANY_PLAN
def test_batches_outside_the_profile_are_refused(open_runner, variant, spec, samples):
    """TensorRT's own refusal of batch 0 and of one more than the profile's maximum comes out as an error."""
    runner = open_runner()
    expected = runner(samples.inputs)
    for batch in (0, variant.profile.max + 1):
        shapes = {t.name: spec.concrete_shape(t.item, batch) for t in runner.tensors if t.item in spec.inputs}
        with context.current(), pytest.raises(RunnerError, match=r"refuses the shape .*\n +\S"):
            runner.raw().set_shapes(shapes)
    with pytest.raises(RunnerError, match=f"allowed by the profile .*: {variant.profile.min} to {variant.profile.max}"):
        open_runner(variant.profile.max + 1)
    for name, array in runner(samples.inputs).items():
        np.testing.assert_array_equal(array, expected[name])


def test_wrong_inputs_are_refused(runner, spec, samples):
    """Another dtype, shape or name, or no samples, is refused with what the runner takes; good samples still run."""
    good = samples.take(0, min(2, len(samples))).inputs
    takes = "takes " + ", ".join(f"{i.name}: {i.dtype} (" for i in spec.inputs[:1])
    wrong = [{}, {"other": next(iter(good.values()))}, {name: array[:0] for name, array in good.items()}]
    for item in spec.inputs:
        array = good[item.name]
        changed = [array.astype(np.float64), array[0], array[..., np.newaxis]]
        # Another size is wrong only where the model has a fixed one.
        changed += [np.repeat(array, 2, axis) for axis, size in enumerate(item.shape) if isinstance(size, int)]
        wrong += [{**good, item.name: bad} for bad in changed]
    if len(spec.inputs) > 1:
        name = spec.inputs[0].name
        wrong += [{**good, name: np.concatenate([good[name]] * 2)}, {name: good[name]}]
    for bad in wrong:
        with pytest.raises(RunnerError, match=re.escape(takes)):
            runner(bad)
    runner(good)


@pytest.mark.formats("tensorrt", precisions=("fp32", "fp16"), first_profile=True)
def test_full_device_is_an_error(alone, open_runner, samples):
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
        tensorrt_build.build_engine(tmp_path / "bad.onnx", "", chain.spec, variant, tmp_path)


@pytest.mark.formats("tensorrt", precisions=tensorrt_versions.CALIBRATED, first_profile=True)
def test_too_few_calibration_samples_are_an_error(chain, spec, variant, tmp_path):
    """INT8 with fewer calibration samples than the model asks for is not built."""
    few = {name: array[: spec.calibration.samples - 1] for name, array in chain.calibration.inputs.items()}
    with pytest.raises(ConversionError, match=f"{spec.calibration.samples - 1} calibration samples"):
        tensorrt_build.build_engine(
            chain.file(Variant("onnx", "fp32")), "", spec, variant, tmp_path, samples=few, samples_sha256="x"
        )


@pytest.mark.formats("tensorrt", precisions=("fp32",))
def test_fp32_is_within_rounding_of_the_savedmodel(seen_before, runner, samples, reference, spec):
    """FP32 engines give the SavedModel's probabilities but for 1e-5: TF32 is off."""
    for output in spec.outputs:
        assert output.kind == "probabilities"
        assert np.abs(runner(samples.inputs)[output.name] - reference[output.name]).max() <= 1e-5
