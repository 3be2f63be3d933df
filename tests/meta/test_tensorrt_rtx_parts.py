"""TensorRT for RTX on small networks: what it refuses and how that is said, its traps, and plans told apart."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines.errors import ConversionError, RunnerError, SpecError
from engines.formats import registry
from engines.formats.base import Format
from engines.formats.option import Option
from engines.formats.tensorrt import cuda, driver, header
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.formats.tensorrt_rtx import packages, recipe, refusals, targets
from engines.formats.tensorrt_rtx.format import FORMAT
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.variant import Variant
from tests.meta.rtx_networks import JOB, dense
from tests.meta.test_tensorrt_parts import RUNTIME_NAMES, used_names

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = pytest.mark.skipif(bool(packages.cannot_build()), reason=str(packages.cannot_build()))
NO_DRIVER = pytest.mark.skipif(driver.problem(0) is None, reason="this machine has a driver, and a GPU to build for")


def built(onnx, *names):
    """What the build command tells of an ONNX for targets, and the bytes of the plan; none where it failed."""
    plan = onnx.with_suffix(".plan")
    plan.unlink(missing_ok=True)
    told = recipe.run({**JOB, "onnx": str(onnx), "plan": str(plan), **({"targets": names} if names else {})}, "a build")
    return told, plan.read_bytes() if plan.is_file() else b""


def inside(code, *arguments):
    """Output of Python code that has the bindings as ``trt``, run in a process of its own."""
    start = "import sys\nfrom engines.formats.tensorrt_rtx import packages\ntrt = packages.bindings()\n"
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Bytes of a sound plan."""
    return built(dense(tmp_path_factory.mktemp("plan") / "sound.onnx"), "SM86", "SM120")[1]


# What it refuses.


@INSTALLED
@pytest.mark.parametrize("quantized", [False, True])
def test_a_product_in_fp32_is_refused_for_turing_in_one_line(quantized, tmp_path):
    """A product in FP32, also in a quantized network, is refused for 7.5: target, operator and remedy in a line."""
    onnx = dense(tmp_path / "fp32.onnx", quantized=quantized)
    told, _ = built(onnx, "SM75", "SM86")
    said = refusals.explained(told, "it", onnx, ("7.5", "8.6"))
    assert said == (
        f"it: TensorRT for RTX {packages.version()} cannot build it for 7.5: MatMul 'product': "
        "FP32 GEMM is not supported; name other targets (--rtx-target=8.6), or check fp16 alone there"
    )


@INSTALLED
def test_fp16_is_built_for_turing(tmp_path):
    """The same network in FP16 is built for 7.5, and stays FP16."""
    told, content = built(dense(tmp_path / "fp16.onnx", "float16"), "SM75")
    assert told["layers"] == {"FP16": 2}
    assert header.read(content).targets == ("7.5",)


@INSTALLED
def test_refused_nodes_are_named(tmp_path):
    """Every node that the parser does not take is named with its operator, not the first one alone."""
    nodes = [
        ("StringNormalizer", ["found"], ["kept"], "normalize", ""),
        ("Nope", ["kept"], ["lost"], "unknown", "mine"),
    ]
    onnx = dense(tmp_path / "refused.onnx", nodes=nodes)
    told, content = built(onnx)
    said = refusals.explained(told, "it", onnx, ("8.6",))
    assert "does not take StringNormalizer 'normalize' (UNSUPPORTED_NODE: " in said
    assert ", Nope 'unknown' (" in said
    assert "\n" not in said
    assert not content


@INSTALLED
def test_a_process_that_dies_is_an_error_of_the_conversion(tmp_path):
    """A build whose process ends in another way says so, with its last lines; the run goes on."""
    with pytest.raises(ConversionError, match=r"ended with exit code 1; its last lines:\n(.*\n)* +KeyError: 'targets'"):
        recipe.run({"onnx": str(dense(tmp_path / "dies.onnx"))}, "it")


@INSTALLED
@NO_DRIVER
def test_here_without_a_driver_is_no_target(tmp_path):
    """A plan for the GPU here is not built without one: TensorRT gives none, and the suite skips it in its words."""
    told, content = built(dense(tmp_path / "here.onnx"), "CURRENT")
    assert packages.NO_DRIVER in told["error"]
    assert not content
    model = load_model(find_model("digits_vgg"))
    variant = Variant("tensorrt-rtx", "fp32", model.profiles[0])
    object.__setattr__(model, "settings", {"rtx-target": ("8.6", "here")})
    assert FORMAT.unbuildable(variant, model).startswith(packages.NO_DRIVER)
    assert not registry.buildable(variant, model)


# What is seen of it, and could change.


@INSTALLED
def test_targets_are_those_that_the_library_names():
    """The allowed targets are the library's own: Hopper's 9.0 is not among them."""
    found = inside("print(*trt.ComputeCapability.__members__)").split()
    assert sorted(found) == sorted(["NONE", "CURRENT", *map(targets.name, header.GPUS)])


@INSTALLED
def test_tf32_is_on_by_default_and_off_here(tmp_path):
    """TensorRT allows TF32 unless it is told not to, which makes another plan; strong typing makes none."""
    onnx = dense(tmp_path / "fp32.onnx")
    ours = built(onnx)[1]
    code = (
        "from engines.formats.tensorrt.messages import logger\n"
        "builder = trt.Builder(logger(trt))\n"
        "config = builder.create_builder_config()\n"
        "print(config.get_flag(trt.BuilderFlag.TF32))\n"
        "network = builder.create_network(int(sys.argv[3]))\n"
        "assert trt.OnnxParser(network, logger(trt)).parse_from_file(sys.argv[1])\n"
        "if sys.argv[4] == 'off': config.clear_flag(trt.BuilderFlag.TF32)\n"
        "config.num_compute_capabilities = 1\n"
        "config.set_compute_capability(trt.ComputeCapability.SM86, 0)\n"
        "profile = builder.create_optimization_profile()\n"
        "profile.set_shape('x', (1, 8, 8, 4), (4, 8, 8, 4), (8, 8, 8, 4))\n"
        "config.add_optimization_profile(profile)\n"
        "open(sys.argv[2], 'wb').write(builder.build_serialized_network(network, config))\n"
    )
    other = tmp_path / "other.plan"
    assert inside(code, onnx, other, 1, "on").strip() == "True"
    assert other.read_bytes() != ours
    inside(code, onnx, other, 0, "off")
    assert other.read_bytes() == ours


@INSTALLED
@NO_DRIVER
def test_the_reason_is_the_librarys_own(plan, tmp_path):
    """What tests are skipped with, where there is no driver, is what the library itself says when it loads a plan."""
    from engines.formats.tensorrt_rtx.runner import load

    path = tmp_path / "sound.plan"
    path.write_bytes(plan)
    with pytest.raises(RunnerError, match=packages.NO_DRIVER):
        load(path)
    assert packages.unavailable().startswith(packages.NO_DRIVER)


@INSTALLED
def test_a_driver_that_is_too_old_is_a_capability_that_is_missing(monkeypatch):
    """With a driver of CUDA 12.8 the engines are skipped in the library's words, with the version that is there."""

    def version(value):
        value._obj.value = 12080
        return 0

    old = SimpleNamespace(cuInit=lambda flags: 0, cuDriverGetVersion=version)
    monkeypatch.setattr(driver, "problem", partial(driver.problem, load=lambda _: old))
    assert packages.unavailable() == (
        f"{packages.NO_DRIVER} (NVIDIA's driver is too old: it supports CUDA 12.8, this TensorRT needs 13.0 or later)"
    )


def test_a_gpu_that_it_has_no_code_for_is_a_capability_that_is_missing():
    """On an H200 the engines are skipped in the library's words, on a card that it knows they run."""
    said = packages.unsupported({"GPU": "NVIDIA H200", "compute capability": "9.0"})
    assert said.startswith(packages.NO_SUCH_GPU)
    assert "NVIDIA H200 has 9.0" in said
    assert packages.unsupported({"GPU": "NVIDIA GeForce RTX 3050 Ti", "compute capability": "8.6"}) is None


# What the shared runner needs, where none of it can run.


@INSTALLED
def test_the_bindings_have_what_running_uses():
    """Every name of TensorRT that the shared runner and this one use exists in TensorRT for RTX's bindings."""
    shared = " ".join(RUNTIME_NAMES[number] for number in (0, 10)).split()
    sources = (ROOT / "engines/formats/tensorrt_rtx").glob("*.py")
    names = {*shared, *(name for path in sources for name in used_names(path.read_text(encoding="utf-8")))}
    code = (
        "def has(name):\n"
        "    owner, _, member = name.rpartition('.')\n"
        "    return hasattr(getattr(trt, owner, None), member)\n"
        "print([name for name in sys.argv[1:] if not has(name)])\n"
    )
    dotted = sorted(name for name in names if "." in name)
    assert {"IExecutionContext.execute_async_v3", "ComputeCapability"} <= names
    assert inside(code, *dotted).strip() == "[]"


@pytest.mark.skipif(bool(cuda.missing()), reason=str(cuda.missing()))
def test_cuda_python_stands_in_for_all_that_the_runner_uses():
    """What the runner's modules call of PyCUDA's driver interface is there, and calls what cuda-python's has."""
    from cuda.bindings import driver as bindings

    from engines.formats.tensorrt import cuda_python

    folder = ROOT / "engines/formats/tensorrt"
    texts = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in ("context", "slots", "runner", "tuning")]
    used = {name for text in texts for name in re.findall(r"(?<![.\w])cuda\.(\w+)", text)} - {"bindings"}
    assert {"mem_alloc", "Stream", "pagelocked_empty", "mem_get_info"} <= used
    assert {name for name in used if not hasattr(cuda_python, name)} == set()
    called = set(re.findall(r"driver\.(cu\w+)", (folder / "cuda_python.py").read_text(encoding="utf-8")))
    assert {name for name in called if not hasattr(bindings, name)} == set()


# Plans told apart.


@INSTALLED
def test_a_header_is_read(plan):
    """Version, size and targets are read off a plan that was just built."""
    found = header.read(plan)
    assert (found.version, found.size, found.targets) == (packages.version(), len(plan), ("8.6", "12.0"))
    assert header.no_plan_of_rtx(plan) is None
    assert header.of_another_version(plan, found.version) is None


FOREIGN = {
    "empty": (lambda plan: b"", "the plan is empty"),
    "truncated": (lambda plan: plan[:-100], r"its header says [\d,]+: it is truncated"),
    "a few bytes": (lambda plan: plan[:20], "it is no plan: it has 20 bytes"),
    "text": (lambda plan: b"this is not a plan" * 1000, "it is no plan: .* b'this is '"),
    "standard": (lambda plan: b"ftrt" + plan[4:], r"of the standard TensorRT \(format tensorrt\)"),
    "standard, compatible": (
        lambda plan: plan[:24] + bytes([10, 16, 1, 11]) + plan[28:],
        "of the standard TensorRT 10",
    ),
}


@INSTALLED
@pytest.mark.parametrize("which", FOREIGN)
def test_what_is_no_plan_is_told_apart(which, plan, tmp_path):
    """A plan that is empty, truncated, of the standard TensorRT, or none at all is refused by what it is."""
    from engines.formats.tensorrt_rtx.runner import load

    change, said = FOREIGN[which]
    path = tmp_path / "bad.plan"
    path.write_bytes(change(plan))
    with pytest.raises(RunnerError, match=said):
        load(path)


@INSTALLED
def test_a_plan_of_another_version_is_named(plan, tmp_path):
    """A plan that the library refuses and that another version made is refused with both versions."""
    from engines.formats.tensorrt_rtx.runner import load

    path = tmp_path / "old.plan"
    path.write_bytes(plan[:24] + bytes([1, 6, 0, 5]) + plan[28:])
    with pytest.raises(
        RunnerError, match=rf"plan of TensorRT for RTX 1\.6\.0\.5, and {packages.version()} is installed"
    ):
        load(path)


@INSTALLED
def test_the_standard_one_is_told_of_a_plan_of_rtx(plan):
    """What the standard TensorRT says of a plan of RTX ends with whose it is; of its own there is nothing to add."""
    assert f"plan of TensorRT for RTX {packages.version()}" in header.plan_of_rtx(plan)
    assert header.plan_of_rtx(b"ftrt" + plan[4:]) is None


# The option, and what is built where nothing runs.


@pytest.mark.parametrize("value", ["8.7", "SM86", "", "GPU"])
def test_what_is_no_target_is_refused(value):
    """A target that there is not is refused by name."""
    with pytest.raises(SpecError, match=f"--rtx-target {value}: there is no such target; allowed: 7.5, "):
        registry.settings({"rtx-target": [value]})


@pytest.mark.parametrize("value", ["9.0"])
def test_an_unknown_target_is_refused_before_anything_runs(value):
    """A target that there is not is a usage error of one line, which lists those there are."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rtx-target={value}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith(f"ERROR: --rtx-target {value}: ")
    assert "allowed: 7.5, 8.0, 8.6, 8.9, 12.0, 12.1 and here" in line


def test_options_are_checked_and_have_defaults():
    """Values are taken once each, several only where that is meant, and the default stands where none is given."""
    model = load_model(find_model("digits_vgg"))
    assert targets.OPTION.values(model) == targets.PORTABLE
    assert registry.settings({"rtx-target": ["8.6", "8.9", "8.6"]}) == {"rtx-target": ("8.6", "8.9")}
    assert registry.settings({"rtx-target": None}) == {}
    once = Option("mode", "MODE", "", ("a",))
    with pytest.raises(SpecError, match="--mode is given as a and as b; allowed: one of them"):
        once.checked(["a", "b"])


def test_two_formats_cannot_have_one_option(monkeypatch):
    """An option's name in use is refused, with the format that takes it again."""

    class Other(type(FORMAT)):
        name = "other"
        options = (Option("rtx-target", "X", "", ()),)

    other: Format = Other()
    monkeypatch.setattr(registry, "formats", lambda: {"tensorrt-rtx": FORMAT, "other": other})
    with pytest.raises(
        registry.FormatError, match="its format 'other' has the option --rtx-target, which another one has"
    ):
        registry.options()


@INSTALLED
def test_only_what_is_of_use_elsewhere_is_built_where_it_cannot_run(monkeypatch):
    """Plans of RTX are built on any machine; those of TensorRT, which fit the GPU that built them, only where it is."""
    model = load_model(find_model("digits_vgg"))

    def first(name):
        return registry.find(name).variants(model, registry.find(name).precisions)[0]

    assert registry.buildable(first("tensorrt-rtx"), model)
    for name in ("tensorrt-vc", "cpp8", "cpp10"):
        assert registry.buildable(first(name), model) <= (registry.find(name).unavailable() is None)
    # Even where a builder is installed: what it builds is of no use without the GPU.
    monkeypatch.setattr(tensorrt_packages, "cannot_build", lambda format_: None)
    assert not registry.buildable(first("tensorrt"), model)
