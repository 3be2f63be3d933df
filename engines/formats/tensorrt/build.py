"""Build a TensorRT engine from an ONNX file, with Polygraphy's loaders."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError
from engines.formats.code import code_hash
from engines.formats.tensorrt import calibration as calibrating
from engines.formats.tensorrt import context, versions
from engines.formats.tensorrt.calibration import CACHE, CacheKey, Feed, batches_of, entropy_calibrator
from engines.formats.tensorrt.messages import Said, logger, polygraphy_speaks_here
from engines.progress import live

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import BatchProfile, Calibration, InputSpec, ModelSpec
    from engines.variant import Variant

PLAN = "model.plan"
TIMING_CACHE = "timing.cache"
LAYERS = "layers.json"

WORKSPACE = 1 << 30
"""The most scratch memory that a layer may use, in bytes: 1 GiB."""

_PRECISIONS = (
    ("INT8", re.compile(r"int8|i8", re.I)),
    ("FP16", re.compile(r"fp16|half", re.I)),
    ("BF16", re.compile(r"bf16|bfloat", re.I)),
    ("FP32", re.compile(r"fp32|float", re.I)),
    ("INT32", re.compile(r"int32", re.I)),
)


def build_engine(
    onnx: Path,
    onnx_sha256: str,
    spec: ModelSpec,
    variant: Variant,
    folder: Path,
    *,
    samples: Mapping[str, NDArray[Any]] | None = None,
    samples_sha256: str = "",
    calibration_caches: Sequence[Path] = (),
    timing_cache: Path | None = None,
    workspace: int = WORKSPACE,
) -> dict[str, Any]:
    """Build the variant's engine for its batch profile; writes plan, timing cache, layers and calibration cache.

    ``samples`` are the calibration samples by input name, for the precisions that need them. Returns the details for
    the record: layers and convolutions by precision, and how it was calibrated.
    Raises ConversionError, with TensorRT's own messages, where the ONNX cannot be parsed or the engine not be built.
    """
    import polygraphy.backend.trt as poly
    from polygraphy.exception import PolygraphyException

    trt = versions.bindings()
    what = f"{variant} of {spec.name}"
    route = versions.route(variant.precision, trt.__version__)
    compatible = variant.format == versions.VERSION_COMPATIBLE
    if variant.profile is None:
        raise ConversionError(f"{what}: a TensorRT engine needs a batch profile")
    if route.calibrated and samples is None:
        raise ConversionError(f"{what}: INT8 needs calibration samples")
    said = Said()
    feed = calibrator = None
    if route.calibrated and samples is not None:
        calibration = spec.calibration
        by_tensor = {i.signature_name: samples[i.name] for i in spec.inputs}
        feed = Feed(batches_of(by_tensor, calibration, what), calibration.batch)
        code = code_hash(Path(__file__)) + code_hash(Path(str(calibrating.__file__)))
        key = CacheKey(onnx_sha256, samples_sha256, calibration.batch, trt.__version__, code)
        calibrator = entropy_calibrator(feed, key, folder / CACHE, calibration_caches)
    with context.current(), polygraphy_speaks_here(), _progress(str(variant)) as show:
        config: Any = poly.CreateConfig(
            tf32=False,
            fp16=route.fp16,
            int8=route.int8,
            version_compatible=compatible,
            calibrator=calibrator,
            profiles=[_profile(poly, spec, variant.profile)],
            memory_pool_limits={trt.MemoryPoolType.WORKSPACE: workspace},
            preview_features=versions.preview_features(trt),
            load_timing_cache=str(timing_cache) if timing_cache and timing_cache.is_file() else None,
            profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
            progress_monitor=versions.progress_monitor(trt, show),
        )
        if route.calibrated:
            config = poly.PostprocessConfig(config, _calibrate_at(spec, spec.calibration))
        network = poly.NetworkFromOnnxPath(str(onnx), strongly_typed=route.strongly_typed)
        try:
            # The bytes themselves: an engine that was loaded from a version-compatible plan cannot be serialized again.
            content = poly.EngineBytesFromNetwork(network, config, save_timing_cache=str(folder / TIMING_CACHE))()
        except (PolygraphyException, RuntimeError, TypeError) as error:
            # TypeError: what the bindings raise where TensorRT's factory returns nothing, as without builder library.
            _check_calibration(calibrator, what)
            raise ConversionError(
                f"{what}: TensorRT {trt.__version__} cannot build {onnx} ({error}):\n{said.errors()}"
            ) from error
        finally:
            if feed is not None:
                feed.free()
        _check_calibration(calibrator, what)
        if feed is not None:
            feed.check(what)
        (folder / PLAN).write_bytes(content)
        # Polygraphy's lock beside the cache has done its work.
        (folder / f"{TIMING_CACHE}.lock").unlink(missing_ok=True)
        layers = _layers(folder / PLAN, spec, variant, what)
    (folder / LAYERS).write_text(json.dumps(layers, indent=1), encoding="utf-8")
    details: dict[str, Any] = {
        "profile": [variant.profile.min, variant.profile.opt, variant.profile.max],
        "layers": census(layers),
        "convolutions": census([layer for layer in layers if is_convolution(layer)]),
        "strongly_typed": route.strongly_typed,
        "warnings": said.warnings()[:20],
    }
    if feed is not None:
        details["calibration"] = {"batches": feed.served, "batch": feed.batch, "cache_read": feed.read_from is not None}
    return details


def _check_calibration(calibrator: Any, what: str) -> None:
    """Raise what went wrong in the calibrator's callbacks, where anything did; TensorRT itself says little of it."""
    if calibrator is not None and calibrator.failure is not None:
        raise ConversionError(f"{what}: calibration failed: {calibrator.failure}") from calibrator.failure


def _profile(poly: Any, spec: ModelSpec, profile: BatchProfile) -> Any:
    """Make the optimization profile: batch sizes from ``profile``, other dynamic dimensions over all their sizes."""
    result = poly.Profile()
    for item in spec.inputs:
        result.add(item.signature_name, *shapes(spec, item, profile))
    return result


def shapes(spec: ModelSpec, item: InputSpec, profile: BatchProfile) -> tuple[tuple[int, ...], ...]:
    """Smallest, tuned-for and largest shape of an input, its further dynamic dimensions over all their sizes."""
    return (
        _shape(spec, item, profile.min, min),
        _shape(spec, item, profile.opt, lambda sizes: sizes[0]),
        _shape(spec, item, profile.max, max),
    )


def _shape(spec: ModelSpec, item: InputSpec, batch: int, choose: Callable[[tuple[int, ...]], int]) -> tuple[int, ...]:
    rest = (choose(spec.dimensions[d]) if isinstance(d, str) else d for d in item.shape[1:])
    return (batch, *rest)


def _calibrate_at(spec: ModelSpec, calibration: Calibration) -> Callable[[Any, Any, Any], None]:
    """Fix the calibration profile at the calibration batch.

    TensorRT calibrates at the profile's opt batch, whatever the calibrator says: with another profile it reads past
    the batch that it was given.
    """

    def fix(builder: Any, network: Any, config: Any) -> None:
        profile = builder.create_optimization_profile()
        for item in spec.inputs:
            shape = _shape(spec, item, calibration.batch, lambda sizes: sizes[0])
            profile.set_shape(item.signature_name, shape, shape, shape)
        if not config.set_calibration_profile(profile):
            raise ConversionError(f"{spec.name}: TensorRT refused the calibration profile at batch {calibration.batch}")

    return fix


def _layers(plan: Path, spec: ModelSpec, variant: Variant, what: str) -> list[dict[str, Any]]:
    """Ask the engine inspector for the layers of a plan, at the batch that the profile is tuned for.

    There are none where the lean runtime inside a version-compatible plan tells nothing of them.
    """
    trt = versions.bindings()
    said, compatible = Said(), variant.format == versions.VERSION_COMPATIBLE
    engine = versions.deserialize(trt, logger(), plan.read_bytes(), allow_host_code=compatible)
    execution = engine.create_execution_context() if engine is not None else None
    if engine is None or execution is None:
        raise ConversionError(f"{what}: TensorRT cannot use the plan that it just built:\n{said.errors()}")
    opt = variant.profile.opt if variant.profile else 1
    for item in spec.inputs:
        execution.set_input_shape(item.signature_name, _shape(spec, item, opt, lambda sizes: sizes[0]))
    inspector = engine.create_engine_inspector()
    if inspector is None and compatible:
        return []
    # With a context it can tell the formats of tensors of dynamic shape; TensorRT 8.6 does not even then.
    inspector.execution_context = execution
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    # TensorRT 8.6 separates the names of fused layers with raw control characters, which strict JSON forbids.
    try:
        layers = json.loads(text, strict=False)["Layers"]
    except (ValueError, KeyError, TypeError):
        if compatible:
            return []
        raise
    return [layer if isinstance(layer, dict) else {"Name": layer} for layer in layers]


def census(layers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count layers by the precision that they compute in; ``unknown`` are those of which TensorRT does not tell it.

    TensorRT 8.6 tells that of layers with weights only, where shapes are dynamic.
    """
    result: dict[str, int] = {}
    for layer in layers:
        precision = layer_precision(layer)
        result[precision] = result.get(precision, 0) + 1
    return dict(sorted(result.items()))


def is_convolution(layer: Mapping[str, Any]) -> bool:
    """Whether a layer of the inspector convolves (fused activations included)."""
    kind = f"{layer.get('ParameterType', '')} {layer.get('LayerType', '')}".lower()
    return "conv" in kind and "reformat" not in kind


def layer_precision(layer: Mapping[str, Any]) -> str:
    """Precision of a layer of the inspector: that of its weights, else of its first input.

    The weights' type is what the kernel multiplies with; other layers compute in what they read.
    """
    weights = layer.get("Weights")
    texts = [str(weights.get("Type", ""))] if isinstance(weights, dict) else []
    texts += [str(t.get("Format/Datatype", t.get("Datatype", ""))) for t in layer.get("Inputs", ())]
    for text in texts:
        for name, pattern in _PRECISIONS:
            if pattern.search(text):
                return name
    return "unknown"


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a build on the terminal: the phases and steps that TensorRT reports (from version 10 on)."""
    with live(f"{title}: TensorRT times kernels") as advance:

        def show(phase: str, done: int, steps: int) -> None:
            advance(1)

        yield show
