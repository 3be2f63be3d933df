"""The parts of the TensorRT package that need no GPU: the driver's state, versions, calibration, the layer census."""

from __future__ import annotations

import ast
import ctypes
import logging
import re
import subprocess
import sys
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engines.errors import ConversionError, UnavailableError
from engines.formats.registry import variants
from engines.formats.tensorrt import build, context, driver, versions
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.formats.tensorrt.calibration import CacheKey, Feed, batches_of, read_cache, write_cache
from engines.model.bundled import find_model
from engines.model.spec import BatchProfile, Calibration
from engines.model.toml import load_model
from engines.variant import Variant


def fake_driver(status=0, version=13000, devices=1):
    """Answer as libcuda does: ``status`` of cuInit, the CUDA version supported, the number of devices."""

    def put(found):
        def call(value):
            value._obj.value = found
            return 0

        return call

    return SimpleNamespace(
        cuInit=lambda flags: status,
        cuDriverGetVersion=put(version),
        cuDeviceGetCount=put(devices),
        cuGetErrorName=lambda number, text: put(b"CUDA_ERROR_UNKNOWN")(text),
    )


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, None),
        ({"status": 100}, "finds no device"),
        ({"status": 999}, "error 999, CUDA_ERROR_UNKNOWN"),
        ({"version": 11040}, "too old: it supports CUDA 11.4, this TensorRT needs 12.0"),
        ({"devices": 0}, "finds no device"),
    ],
)
def test_the_driver_says_what_is_missing(answers, reason):
    """No device, a driver too old and one that fails are told apart."""
    found = driver.problem(12000, lambda _: fake_driver(**answers))
    assert (found is None) if reason is None else reason in found


def test_no_driver_is_named():
    """A machine without libcuda has a reason that says so."""

    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    assert "there is no NVIDIA driver" in driver.problem(12000, load)
    assert driver.problem(12000, lambda _: ctypes.CDLL("libnosuchlibrary.so.9")) is not None


def test_routes_of_the_versions():
    """8.6 and 10 calibrate and use flags; 11 has strongly typed networks only, and no calibration."""
    for version in ("8.6.0", "10.16.1.11"):
        assert versions.route("int8", version) == versions.Route("fp32", int8=True, calibrated=True)
        assert versions.route("fp16", version).source == "fp32"
        assert versions.unsupported("int8", version) is None
    assert versions.route("fp16", "11.4.0.106") == versions.Route("fp16", strongly_typed=True)
    assert versions.route("int8-qdq", "11.4.0.106") == versions.Route("int8", strongly_typed=True)
    for precision in versions.CALIBRATED:
        assert "int8-qdq is its INT8" in versions.unsupported(precision, "11.4.0.106")
        with pytest.raises(ConversionError, match="no INT8 calibration"):
            versions.route(precision, "11.4.0.106")


RUNTIME_NAMES = {
    0: "ICudaEngine.get_tensor_name ICudaEngine.get_tensor_shape TensorIOMode.INPUT TensorIOMode.OUTPUT DataType.FLOAT "
    "ILogger.ERROR ILogger.WARNING Runtime.engine_host_code_allowed Runtime.deserialize_cuda_engine "
    "ICudaEngine.create_execution_context ICudaEngine.get_tensor_profile_shape ICudaEngine.num_io_tensors "
    "ICudaEngine.get_tensor_mode ICudaEngine.get_tensor_dtype ICudaEngine.get_tensor_location TensorLocation.DEVICE "
    "IExecutionContext.set_input_shape IExecutionContext.set_tensor_address IExecutionContext.execute_async_v3 "
    "IExecutionContext.set_optimization_profile_async IExecutionContext.active_optimization_profile "
    "IExecutionContext.get_tensor_shape ILogger.INTERNAL_ERROR",
    8: "ICudaEngine.device_memory_size",
    10: "ICudaEngine.device_memory_size_v2",
    11: "ICudaEngine.device_memory_size_v2",
}
"""What running uses of TensorRT's bindings, from every version (0) and by major version: lean and dispatch have it."""

NAMES = {
    0: "Builder.create_optimization_profile "
    "ICudaEngine.create_engine_inspector EngineInspector.get_engine_information EngineInspector.execution_context "
    "MemoryPoolType.WORKSPACE LayerInformationFormat.JSON ProfilingVerbosity.DETAILED IOptimizationProfile.set_shape "
    "Builder.build_serialized_network BuilderFlag.VERSION_COMPATIBLE",
    8: "PreviewFeature.PROFILE_SHARING_0806 BuilderFlag.FP16 BuilderFlag.INT8 BuilderFlag.TF32 IInt8EntropyCalibrator2 "
    "IBuilderConfig.set_calibration_profile NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    10: "BuilderFlag.FP16 BuilderFlag.INT8 BuilderFlag.TF32 IInt8EntropyCalibrator2 IProgressMonitor "
    "IBuilderConfig.set_calibration_profile IBuilderConfig.progress_monitor",
    11: "BuilderFlag.TF32 IProgressMonitor IBuilderConfig.progress_monitor "
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
}
"""What building uses, in the same way: the lean and dispatch runtimes lack it."""


OBJECTS = {
    "engine": "ICudaEngine",
    "execution": "IExecutionContext",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
}
"""What objects of TensorRT are called in the package, and their classes."""

OURS = {*vars(context), "push", "pop", "min", "opt", "max"}
"""What is not TensorRT's: the module and PyCUDA's class that are called ``context`` too, and batch profiles."""


def used_names(source):
    """What a module uses of TensorRT: dotted names below ``trt``, and attributes of objects by their class."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute) or ".__" in ast.unparse(node):
            continue
        value = node.value.func if isinstance(node.value, ast.Call) else node.value
        owner = ast.unparse(value)
        if owner == "trt" or owner.startswith("trt."):
            names.add(f"{owner}.{node.attr}".removeprefix("trt."))
        elif owner.split(".")[-1] in OBJECTS and node.attr not in OURS and not isinstance(node.value, ast.Call):
            names.add(f"{OBJECTS[owner.split('.')[-1]]}.{node.attr}")
    return names


def test_every_name_that_is_used_is_looked_up():
    """No class, enum or method of TensorRT is used that is not among the names looked up in its bindings."""
    listed = {name for lists in (RUNTIME_NAMES, NAMES) for names in lists.values() for name in names.split()}
    known = listed | {name.split(".")[0] for name in listed}
    modules = sorted(Path(build.__file__).parent.glob("*.py"))
    used = {name: path.name for path in modules for name in used_names(path.read_text(encoding="utf-8"))}
    assert {"IExecutionContext.set_input_shape", "Runtime.deserialize_cuda_engine", "ILogger.WARNING"} <= set(used)
    assert {name: module for name, module in used.items() if name not in known} == {}


def test_the_bindings_have_what_is_used():
    """Every class, method and enum that is used exists in the TensorRT that is installed, whichever it is."""
    name = versions.module() or ("tensorrt_bindings" if util.find_spec("tensorrt_bindings") else None)
    if name is None:
        pytest.skip("no TensorRT bindings are installed")
    lists = [RUNTIME_NAMES] if versions.kind() in {"lean", "dispatch"} else [RUNTIME_NAMES, NAMES]
    wanted = {major: [name for names in lists for name in names[major].split()] for major in NAMES}
    code = (
        "import os, sys, importlib, functools\n"
        # Bindings may lie over libraries that lack what is never called.
        "sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)\n"
        f"trt = importlib.import_module({name!r})\n"
        f"wanted = {wanted!r}\n"
        "names = wanted[0] + wanted[int(trt.__version__.split('.')[0])]\n"
        "def has(path):\n"
        "    try:\n"
        "        functools.reduce(getattr, path.split('.'), trt)\n"
        "    except AttributeError:\n"
        "        return False\n"
        "    return True\n"
        "print(trt.__version__, [n for n in names if not has(n)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" []\n"), done.stdout


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install empty packages, and distributions of a version, where only this test sees them."""
    monkeypatch.delenv(versions.CHOICE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))

    def call(*modules, distribution=None, version="10.16.1.11", content=""):
        for module in modules:
            folder = tmp_path.joinpath(*module.split("."))
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text(content)
        if distribution:
            folder = tmp_path / f"{distribution}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")

    return call


needs_no_tensorrt = pytest.mark.skipif(versions.module() is not None, reason="a TensorRT of its own is installed here")


@needs_no_tensorrt
@pytest.mark.parametrize(("name", "kind"), versions.MODULES.items())
def test_each_module_is_found_by_itself_and_by_choice(install, monkeypatch, name, kind):
    """Whichever module of TensorRT is installed is used; of several, the one that the environment variable names."""
    install(name)
    assert (versions.module(), versions.kind(), versions.problem()) == (name, kind, None)
    install(*(other for other in versions.MODULES if other != name))
    assert versions.module() == "tensorrt"
    monkeypatch.setenv(versions.CHOICE, name)
    assert (versions.module(), versions.kind()) == (name, kind)


@needs_no_tensorrt
def test_a_wrong_choice_is_named(install, monkeypatch):
    """A choice that is no module of TensorRT, or is not installed, is the reason why nothing can run."""
    install("tensorrt_lean")
    monkeypatch.setenv(versions.CHOICE, "tensorrt_slim")
    assert (
        tensorrt_packages.unavailable()
        == f"CONFORMANCE_TENSORRT is 'tensorrt_slim'; allowed: {', '.join(versions.MODULES)}"
    )
    monkeypatch.setenv(versions.CHOICE, "tensorrt_dispatch")
    assert tensorrt_packages.cannot_run() == "CONFORMANCE_TENSORRT is tensorrt_dispatch, which is not installed"


@needs_no_tensorrt
@pytest.mark.parametrize(
    ("module", "distribution", "expected"),
    [
        ("tensorrt", "tensorrt", "trt10.16.1"),
        ("tensorrt", "tensorrt_cu12", "trt10.16.1"),
        ("tensorrt_lean", "tensorrt_lean_cu13", "lean10.16.1"),
        ("tensorrt_lean_bindings", "tensorrt_lean_cu12_bindings", "lean10.16.1"),
        ("tensorrt_dispatch_bindings", "tensorrt_dispatch_cu12_bindings", "dispatch10.16.1"),
    ],
)
def test_runtimes_are_named_by_kind_and_version(install, module, distribution, expected):
    """The version is that of the wheel, whichever CUDA it is for, and nothing is imported to learn it."""
    install(module, distribution=distribution, content="raise RuntimeError('imported')")
    assert versions.installed() == "10.16.1.11"
    assert versions.runtime_id() == expected


@needs_no_tensorrt
def test_a_runtime_without_builder_says_what_it_runs(install, monkeypatch):
    """A lean runtime builds nothing and runs version-compatible plans only; a full one of 10 runs what 8.6 built."""
    monkeypatch.setattr("engines.formats.tensorrt.driver.problem", lambda needed: None)
    install("tensorrt_lean_bindings", "pycuda", "cuda", "cuda.bindings", distribution="tensorrt_lean_cu12_bindings")
    assert tensorrt_packages.unavailable() == (
        "tensorrt_lean_bindings 10.16.1.11 is the lean runtime: it builds nothing, and runs version-compatible plans "
        "only (tensorrt-vc)"
    )
    assert tensorrt_packages.cannot_run() is None
    assert "is the lean runtime" in tensorrt_packages.cannot_build("tensorrt-vc")
    install("tensorrt", "polygraphy", distribution="tensorrt")
    assert tensorrt_packages.cannot_build("tensorrt") is None
    assert tensorrt_packages.cannot_build("tensorrt-vc") == "TensorRT 10.16.1.11 runs them, TensorRT 8.6.0 builds them"


@needs_no_tensorrt
def test_a_runtime_too_new_says_so(install):
    """TensorRT 11 does not run what 8.6 built, and that is known without trying."""
    install("tensorrt_lean_bindings", distribution="tensorrt_lean_cu12_bindings", version="11.4.0.106")
    assert (
        tensorrt_packages.cannot_run()
        == "TensorRT 11.4.0.106 refuses plans of TensorRT 8.6.0: it runs those of 10 and later"
    )


@needs_no_tensorrt
def test_bindings_without_their_libraries_are_named(install):
    """Bindings whose library cannot be loaded are an error that says which, and not just an import that failed."""
    install("tensorrt_lean", content="raise ImportError('libnvinfer_lean.so.10: cannot open shared object file')")
    with pytest.raises(UnavailableError, match=r"tensorrt_lean is installed, but cannot be imported: libnvinfer_lean"):
        versions.bindings()


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false.",
            r"allow_host_code=True\), or --allow-host-code",
        ),
        (
            "Engine Version Forward Compatibility supported starting TensorRT 10.0",
            r"run in TensorRT 8\.6 to 10, no later",
        ),
        ("forward compatibility was attempted on non supported HW", r"^$"),
        ("Magic tag does not match", r"^$"),
    ],
)
def test_refusals_say_what_to_do(said, hint):
    """Host code that is not allowed, and a runtime too new for the plan, are told from other refusals."""
    assert re.search(hint, versions.refusal_hint(said))


KEY = CacheKey(model="m", data="d", batch=32, tensorrt="8.6.0", code="c")


def test_calibration_cache_comes_back(tmp_path):
    """A cache is read where it was made from just this model, data, batch and TensorRT."""
    write_cache(tmp_path / "c", KEY, b"scales\nof layers")
    assert read_cache(tmp_path / "c", KEY) == b"scales\nof layers"
    assert read_cache(tmp_path / "none", KEY) is None


@pytest.mark.parametrize("changed", [{"model": "x"}, {"data": "x"}, {"batch": 8}, {"tensorrt": "10.0"}])
def test_stale_calibration_cache_is_refused(tmp_path, caplog, changed):
    """A cache made from another model, other data, another batch or TensorRT is refused, and it says which."""
    write_cache(tmp_path / "c", replace(KEY, **changed), b"scales")
    with caplog.at_level(logging.WARNING):
        assert read_cache(tmp_path / "c", KEY) is None
    assert f"refused: it was made from another {next(iter(changed))}" in caplog.text


@pytest.mark.parametrize("content", [b"", b"scales", b"{}\nscales", b"[1]\nscales"])
def test_headerless_calibration_cache_is_refused(tmp_path, content):
    """A cache that does not say what it was made from, as TensorRT itself writes them, is refused."""
    (tmp_path / "c").write_bytes(content)
    assert read_cache(tmp_path / "c", KEY) is None


def test_truncated_calibration_cache_is_refused(tmp_path, caplog):
    """A cache that lost its end is refused."""
    write_cache(tmp_path / "c", KEY, b"scales")
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert read_cache(tmp_path / "c", KEY) is None
    assert "truncated or edited" in caplog.text


def test_calibration_batches_are_all_samples_in_order():
    """Batches are of one size, contiguous, and together the samples."""
    samples = {"x": np.arange(40, dtype=np.float32).reshape(20, 2)[::2]}
    batches = batches_of(samples, Calibration(samples=8, batch=4), "v")
    assert [b["x"].flags.c_contiguous for b in batches] == [True, True]
    np.testing.assert_array_equal(np.concatenate([b["x"] for b in batches]), samples["x"][:8])


def test_too_few_calibration_samples_are_refused():
    """Fewer samples than asked for are an error that says how many there are."""
    with pytest.raises(ConversionError, match="v: 7 calibration samples for input 'x'; expected 8"):
        batches_of({"x": np.zeros((7, 2), np.float32)}, Calibration(samples=8, batch=4), "v")


def test_batches_that_were_not_taken_are_an_error():
    """TensorRT has to take every batch, or none where it read a cache."""
    feed = Feed([{}, {}], 4)
    with pytest.raises(ConversionError, match="took 0 calibration batches of 4; expected 2"):
        feed.check("v")
    feed.served = 2
    feed.check("v")
    feed.read_from = "cache"
    with pytest.raises(ConversionError, match="expected 0"):
        feed.check("v")


LAYERS = [
    {"LayerType": "CaskConvolution", "ParameterType": "Convolution", "Weights": {"Type": "Int8"}},
    {"LayerType": "CaskConvolution", "ParameterType": "Convolution", "Weights": {"Type": "Half"}},
    {"LayerType": "CaskGemmConvolution", "ParameterType": "Convolution", "Weights": {"Type": "Float"}},
    {"LayerType": "Reformat", "ParameterType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
    {"LayerType": "CaskPooling", "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]},
    {"LayerType": "Pool", "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]},
]
"""Layers as the engine inspectors of TensorRT 8.6 and 10 describe them."""


def test_census_counts_layers_by_precision():
    """Layers count by what their weights are, else by what they read; what TensorRT does not say is unknown."""
    assert build.census(LAYERS) == {"FP16": 1, "FP32": 2, "INT8": 2, "unknown": 1}
    assert build.census([layer for layer in LAYERS if build.is_convolution(layer)]) == {"FP16": 1, "FP32": 1, "INT8": 1}


def test_variants_name_their_profiles():
    """Every precision has the first batch profile, FP32, FP16 and INT8 the others too; rows know no profile."""
    spec = load_model(find_model("cifar10_vgg"))
    found = [v for v in variants(spec) if v.format == "tensorrt"]
    assert [str(v) for v in found if v.profile == spec.profiles[0]] == [
        f"tensorrt-{p}-b1.16.32" for p in ("fp32", "fp16", "int8", "int8+fp16", "int8-qdq")
    ]
    assert len(found) == 5 + 3 * (len(spec.profiles) - 1)
    assert Variant("tensorrt", "fp16", BatchProfile(1, 16, 32)).row_name == "tensorrt-fp16"
    assert str(Variant("onnx", "fp16")) == Variant("onnx", "fp16").row_name == "onnx-fp16"
