"""Faults of INT8 ONNX files: what a quantizer, its calibration, or an edit of the scales gets wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faults import graph
from faults.change import Change
from faults.graph_edits import WEIGHTS, channel_scale, class_bias
from faults.made import Made

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

KIND = "quantization"
INT8 = "onnx-int8"
SCALES = (*WEIGHTS, "lower precision", "number", "scales are others")


def quantizers(model: Any) -> list[Any]:
    """Nodes that quantize what is computed."""
    return graph.nodes(model, "QuantizeLinear")


def own(model: Any, node: Any, place: int, function: Callable[[Any], Any]) -> None:
    """Constant of its own for one node, in place of one that others may share."""
    name = f"{node.input[place]}/planted/{graph.place(model, node)}"
    graph.add_constant(model, name, function(graph.array(model, node.input[place])))
    node.input[place] = name


def scales_of_weights(function: Callable[[Any], Any], which: int = 0) -> Callable[[Any], None]:
    """Other scales for the weights of a layer, whose integers stay."""

    def edit(model: Any) -> None:
        layers = [n for n in graph.nodes(model, "DequantizeLinear") if n.input[0] in graph.constants(model)]
        graph.change(model, layers[which].input[1], function)

    return edit


def range_of(by: float, which: int = 0) -> Callable[[Any], None]:
    """A tensor's scale, to quantize and to dequantize it, smaller or larger: beyond its range it is clipped."""

    def edit(model: Any) -> None:
        quantizer = quantizers(model)[which]
        for node in graph.nodes(model, "QuantizeLinear", "DequantizeLinear"):
            if node.input[1] == quantizer.input[1] and node is not quantizer:
                own(model, node, 1, lambda s: s * np.float32(by))
        own(model, quantizer, 1, lambda s: s * np.float32(by))

    return edit


def other_scale(by: float, which: int = 0) -> Callable[[Any], None]:
    """A tensor quantized by another scale than it is dequantized by."""
    return lambda model: own(model, quantizers(model)[which], 1, lambda s: s * np.float32(by))


def other_point(by: int, which: int = 0) -> Callable[[Any], None]:
    """A tensor dequantized by another zero point than it is quantized by."""

    def edit(model: Any) -> None:
        quantizer = quantizers(model)[which]
        reader = next(n for n in graph.nodes(model, "DequantizeLinear") if n.input[0] == quantizer.output[0])
        own(model, reader, 2, lambda z: np.asarray(z + by, z.dtype))

    return edit


def integers(function: Callable[[Any], Any], which: int = -1) -> Callable[[Any], None]:
    """Other integers for the weights of one layer."""

    def edit(model: Any) -> None:
        layers = [n for n in graph.nodes(model, "DequantizeLinear") if n.input[0] in graph.constants(model)]
        graph.change(model, layers[which].input[0], lambda w: function(w.astype(np.float64)).astype(np.int8))

    return edit


def bits(count: int) -> Callable[[Any], Any]:
    """Integers with so many bits left."""
    step = 2 ** (8 - count)
    return lambda w: np.clip(np.rint(w / step) * step, -127, 127)


@dataclass(frozen=True)
class Settings:
    """How a file is quantized, where it is not as the suite does it; each is a choice of ONNX Runtime's quantizer."""

    per_channel: bool = True
    method: str = "MinMax"
    activations: str = "QInt8"
    symmetric: bool = True
    bias: bool = False
    operators: tuple[str, ...] = ("Conv", "Gemm", "MatMul")
    more: Mapping[str, Any] = field(default_factory=dict)


def quantized(
    settings: Settings = Settings(),
    samples: Callable[[Arrays], Arrays] = lambda found: found,
    before: Callable[[Any], None] | None = None,
    after: Callable[[Any], None] | None = None,
) -> Callable[[Made, Path], list[str]]:
    """What quantizes a model's FP32 file with ONNX Runtime, and returns the option that brings it.

    ``samples`` makes what it is calibrated with of the model's own samples for it; ``before`` edits the FP32 graph.
    """

    def plant(made: Made, folder: Path) -> list[str]:
        import onnx
        from onnxruntime import quantization as ort
        from onnxruntime.quantization.shape_inference import quant_pre_process

        from engines.formats.onnx.build import _name_nodes, _quiet_root_logger

        model = onnx.load(str(made.file("onnx-fp32")))
        if before:
            before(model)
        called = {i.name: i.signature_name for i in made.chain.spec.inputs}
        rows = samples(made.chain.calibration.inputs)

        class Rows(ort.CalibrationDataReader):  # type: ignore[misc]
            """All samples in one batch."""

            def __init__(self) -> None:
                self.left = [{called[n]: a for n, a in rows.items()}]

            def get_next(self) -> Any:
                return self.left.pop() if self.left else None

        path = folder / "planted.onnx"
        with tempfile.TemporaryDirectory() as scratch, _quiet_root_logger():
            fp32, prepared = Path(scratch) / "fp32.onnx", Path(scratch) / "prepared.onnx"
            onnx.save(model, str(fp32))
            quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
            _name_nodes(prepared)
            ort.quantize_static(
                str(prepared),
                str(path),
                Rows(),
                quant_format=ort.QuantFormat.QDQ,
                op_types_to_quantize=list(settings.operators),
                per_channel=settings.per_channel,
                activation_type=getattr(ort.QuantType, settings.activations),
                weight_type=ort.QuantType.QInt8,
                calibrate_method=getattr(ort.CalibrationMethod, settings.method),
                extra_options={
                    "ActivationSymmetric": settings.symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": settings.bias,
                    **settings.more,
                },
            )
        if after:
            model = onnx.load(str(path))
            after(model)
            onnx.save(model, str(path))
        return [f"--onnx={path}"]

    return plant


def scaled(by: float) -> Callable[[Arrays], Arrays]:
    """Samples in another range."""
    return lambda found: {n: (a * by).astype(a.dtype) for n, a in found.items()}


def black(found: Arrays) -> Arrays:
    """Samples of zeros, but for one pixel, without which there is no range."""
    result = {n: np.zeros_like(a) for n, a in found.items()}
    for array in result.values():
        array.reshape(len(array), -1)[:, 0] = 0.01 if array.dtype.kind == "f" else 1
    return result


def noisy(found: Arrays) -> Arrays:
    """Samples drawn evenly within the range of the real ones."""
    generator = np.random.default_rng(0)
    return {n: generator.uniform(a.min(), a.max(), a.shape).astype(a.dtype) for n, a in found.items()}


def one_sample(found: Arrays) -> Arrays:
    """The first sample alone."""
    return {n: a[:1] for n, a in found.items()}


def apart_by_100(model: Any) -> None:
    """Filters of the first convolution a hundred times apart, undone by the next layer: in FP32 the same model."""
    first, second = graph.nodes(model, "Conv")[:2]
    factors = np.where(np.arange(graph.array(model, first.input[1]).shape[0]) % 2, 100.0, 1.0).astype(np.float32)
    graph.change(model, first.input[1], lambda w: w * factors[:, None, None, None])
    graph.change(model, second.input[1], lambda w: w / factors[None, :, None, None])
    if len(first.input) > 2:
        graph.change(model, first.input[2], lambda b: b * factors)


def half_bias(model: Any) -> None:
    """The int32 bias of the last layer at half."""
    layers = [n for n in graph.nodes(model, "DequantizeLinear") if n.input[0] in graph.constants(model)]
    known = [n for n in layers if graph.array(model, n.input[0]).dtype == np.int32]
    graph.change(model, known[-1].input[0], lambda b: b // 2)


EDITS: tuple[tuple[str, Callable[[Any], None], tuple[str, ...], tuple[str, ...]], ...] = (
    ("scales of the weights doubled", scales_of_weights(lambda s: 2 * s), SCALES, ("price",)),
    ("scales of the weights in another order", scales_of_weights(lambda s: np.roll(s, 1)), SCALES, ("digits",)),
    (
        "one scale of the weights 1.5 times as large",
        scales_of_weights(lambda s: s * (1 + 0.5 * (np.arange(s.size) == s.argmax())).reshape(s.shape)),
        SCALES,
        ("marks",),
    ),
    ("an activation's range at a third", range_of(1 / 3), SCALES, ("digits", "price")),
    ("an activation's range 16 times as wide", range_of(16), SCALES, ("norms",)),
    ("quantized by 1.145 times the scale it is dequantized by", other_scale(1.145), SCALES, ("listing",)),
    ("a zero point off by 5", other_point(5), SCALES, ("price",)),
    ("3 bits in the last layer", integers(bits(3)), SCALES, ("digits", "two_heads")),
    ("weights clipped at half", integers(lambda w: np.clip(w, -64, 64), 0), SCALES, ("norms",)),
    ("weights rounded towards zero to 4 bits", integers(lambda w: np.trunc(w / 16) * 16, 0), SCALES, ("marks",)),
    ("one answer for all", integers(np.zeros_like), ("every sample gets the same answer",), ("price",)),
    ("one class's bias larger by 0.5", class_bias(0.5), ("bias", *SCALES), ("digits",)),
    ("one channel 1.5 times as large", channel_scale(1.5), SCALES, ("digits",)),
)

CALIBRATED: tuple[tuple[str, Callable[[Arrays], Arrays], tuple[str, ...]], ...] = (
    ("calibrated on black", black, ("two_heads",)),
    ("calibrated on noise", noisy, ("digits",)),
    ("calibrated on inputs 255 times as large", scaled(255), ("norms",)),
    ("calibrated on inputs of a quarter", scaled(0.25), ("marks",)),
    ("calibrated on one sample", one_sample, ("digits",)),
)

CHANGES: tuple[Change, ...] = (
    *(
        Change(name, KIND, model, INT8, graph.edited(INT8, edit), right)
        for name, edit, right, models in EDITS
        for model in models
    ),
    *(
        Change(name, KIND, model, INT8, quantized(samples=samples), (*SCALES, "every sample gets the same answer"))
        for name, samples, models in CALIBRATED
        for model in models
    ),
    Change(
        "per tensor, with filters 100 times apart",
        KIND,
        "digits",
        INT8,
        quantized(Settings(per_channel=False), before=apart_by_100),
        SCALES,
    ),
    Change(
        "the int32 bias at half",
        KIND,
        "two_heads",
        INT8,
        quantized(Settings(bias=True), after=half_bias),
        ("bias", *SCALES),
    ),
    Change(
        "calibrated by a percentile of 80",
        KIND,
        "digits",
        INT8,
        quantized(Settings(method="Percentile", more={"CalibPercentile": 80.0})),
        SCALES,
    ),
)
