"""Faults of one layer, planted into sound files: what a conversion, an editing or an own kernel gets wrong there.

Each is made in one layer, whose operation is told with it. A file has as many of them as it has layers that can have
one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.inside import operation

CHANNEL, SHIFT, STEEPER = 1.5, 0.5, 100.0
"""By how much a channel's weights are scaled, a bias is shifted, as a share of the largest, and an epsilon grows."""

SWAPPED = {"Relu": "Softplus", "Sigmoid": "HardSigmoid", "Tanh": "Softsign", "Erf": "Tanh"}
"""Activations, each with another one that gives numbers of the same kind."""


@dataclass(frozen=True)
class Planted:
    """One fault: its kind, the operations of the layer that has it, and what writes the faulty file."""

    kind: str
    operations: tuple[str, ...]
    write: Callable[[Path], None]


def faults(path: Path) -> Iterator[Planted]:
    """All faults that a file can have, by its kind."""
    return onnx_faults(path) if path.suffix == ".onnx" else tflite_faults(path)


def changed_onnx(path: Path, target: Path, change: Callable[..., None]) -> None:
    """Write an ONNX file with a change to its model, which it is still to be sound after."""
    import onnx

    model = onnx.load(str(path))
    change(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def onnx_faults(path: Path) -> Iterator[Planted]:
    """All faults that an ONNX file can have, layer by layer."""
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}

    def fault(kind, node, change):
        names = tuple(operation(n) for n in (node.name, *node.output) if n)

        return Planted(kind, names, lambda target: changed_onnx(path, target, change))

    for node in graph.node:
        if node.op_type in {"Conv", "ConvTranspose", "MatMul", "Gemm"}:
            weights, scales = _weights(node, constants, makers)
            if weights:
                yield fault("weights", node, lambda m, w=weights, n=node: _change(m, w, _one_channel, n))
            if scales:
                yield fault("scale", node, lambda m, s=scales: _change(m, s, _doubled))
                if constants[scales].size > 2:
                    yield fault("permuted", node, lambda m, s=scales: _change(m, s, _rolled))
            pads = next((list(a.ints) for a in node.attribute if a.name == "pads"), [])
            if len(pads) == 4 and pads[:2] != pads[2:]:
                yield fault("padding", node, lambda m, n=node.name: _attribute(m, n, "pads", lambda p: p[2:] + p[:2]))
            if len(node.input) > 2 and node.input[2] in constants:
                yield fault("bias", node, lambda m, b=node.input[2]: _change(m, b, _shifted))
        elif node.op_type == "Add" and any(_is_bias(constants.get(i)) for i in node.input):
            (bias,) = [i for i in node.input if _is_bias(constants.get(i))]
            # Of two layers that were not trained tf2onnx keeps the same zeros once.
            yield fault("bias", node, lambda m, n=node.name, b=bias: _own_constant(m, n, b, _shifted))
        elif node.op_type == "BatchNormalization":
            yield fault(
                "epsilon", node, lambda m, n=node.name: _attribute(m, n, "epsilon", lambda e: max(e, 1e-3) * STEEPER)
            )
        elif node.op_type == "Add" and any(_is_epsilon(constants.get(i)) for i in node.input):
            (epsilon,) = [i for i in node.input if _is_epsilon(constants.get(i))]
            yield fault(
                "epsilon",
                node,
                lambda m, n=node.name, e=epsilon: _own_constant(m, n, e, _large),
            )
        elif node.op_type in SWAPPED:
            yield fault("activation", node, lambda m, n=node.name, k=SWAPPED[node.op_type]: _operator(m, n, k))


def _weights(node, constants, makers):
    """Names of the weights of a node and of their scales; of FP32 and FP16 there are none of the latter."""
    name = node.input[1]
    maker = makers.get(name)
    if maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in constants:
        return maker.input[0], maker.input[1]
    return (name, "") if name in constants and constants[name].ndim > 1 else ("", "")


def _is_bias(values):
    return values is not None and values.dtype.kind == "f" and values.size > 1 and max(values.shape) == values.size


def _is_epsilon(values):
    return (
        values is not None and values.dtype.kind == "f" and values.size == 1 and 0 < float(values.reshape(-1)[0]) < 0.01
    )


def _change(model, name, function, node=None):
    from onnx import numpy_helper

    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    values = numpy_helper.to_array(tensor)
    changed = function(values.copy(), node).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), name))


def _one_channel(values, node):
    """Weights with those of the largest output channel scaled."""
    axis = 0 if node.op_type == "Conv" else 1 if node.op_type == "ConvTranspose" else values.ndim - 1
    return scaled_channel(values, axis)


def scaled_channel(values, axis):
    """Values with the largest channel of an axis scaled; integers end where their type does."""
    moved = np.moveaxis(values, axis, 0)
    largest = int(np.abs(moved.astype(np.float64)).reshape(len(moved), -1).sum(axis=1).argmax())
    wide = moved.astype(np.float64)
    # Integers of a channel's largest weight are at the end of their range already.
    wide[largest] *= CHANNEL if values.dtype.kind == "f" else 1 / CHANNEL
    wide = np.rint(wide) if values.dtype.kind == "i" else wide
    return np.moveaxis(wide, 0, axis).astype(values.dtype)


def _doubled(values, _=None):
    return 2 * values


def _rolled(values, _=None):
    """Scales of the channels, each that of the one before."""
    return np.roll(values, 1)


def _large(values):
    """An epsilon that is as large as a variance."""
    return np.full_like(values, 0.1)


def _shifted(values, _=None):
    values = values.copy()
    size = np.abs(values.astype(np.float64)).max() or 1.0
    place = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    values[place] += SHIFT * size
    return values


def _attribute(model, node, name, function):
    (found,) = [n for n in model.graph.node if n.name == node]
    for attribute in found.attribute:
        if attribute.name == name and attribute.ints:
            attribute.ints[:] = function(list(attribute.ints))
        elif attribute.name == name:
            attribute.f = function(attribute.f)


def _own_constant(model, node, name, function):
    """Change a constant for one node, though others may share it."""
    from onnx import numpy_helper

    (found,) = [n for n in model.graph.node if n.name == node]
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    own = f"{name}/of/{node}"
    model.graph.initializer.append(numpy_helper.from_array(function(numpy_helper.to_array(tensor)), own))
    found.input[:] = [own if i == name else i for i in found.input]


def _operator(model, node, operator):
    (found,) = [n for n in model.graph.node if n.name == node]
    found.op_type = operator
    del found.attribute[:]


def tflite_faults(path: Path) -> Iterator[Planted]:
    """All faults that a TFLite file can have, layer by layer."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}

    def loaded():
        return schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)

    model = loaded()
    graph = model.subgraphs[0]

    def fault(kind, number, change):
        made = graph.tensors[graph.operators[number].outputs[0]]
        pieces = tuple(operation(p) for p in made.name.decode().split(";"))

        def write(target):
            import flatbuffers

            other = loaded()
            change(other, other.subgraphs[0], other.subgraphs[0].operators[number])
            builder = flatbuffers.Builder(1 << 20)
            builder.Finish(other.Pack(builder), b"TFL3")
            target.write_bytes(bytes(builder.Output()))

        return Planted(kind, pieces, write)

    for number, operator in enumerate(graph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind not in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}:
            continue
        place = 1
        if (weights := _stored(model, graph, operator.inputs[place])) is None:
            continue
        tensor = graph.tensors[weights]
        axis = len(tensor.shape) - 1 if kind == "DEPTHWISE_CONV_2D" else 0
        yield fault(
            "weights", number, lambda m, g, o, w=weights, a=axis: _buffer(m, g, w, lambda v: scaled_channel(v, a))
        )
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = _stored(model, graph, operator.inputs[2])
            if bias is not None and kind != "TRANSPOSE_CONV":
                yield fault("bias", number, lambda m, g, o, b=bias: _own_bias(m, g, o, b))
        if (
            tensor.quantization is not None
            and tensor.quantization.scale is not None
            and tensor.type == schema.TensorType.INT8
        ):
            yield fault("scale", number, lambda m, g, o, w=weights: _scales(g, o, w, _doubled))
            if len(tensor.quantization.scale) > 2:
                yield fault("permuted", number, lambda m, g, o, w=weights: _scales(g, o, w, _rolled))
        options = operator.builtinOptions
        if getattr(options, "fusedActivationFunction", 0) == schema.ActivationFunctionType.RELU:
            yield fault("activation", number, lambda m, g, o: setattr(o.builtinOptions, "fusedActivationFunction", 0))
        if (
            kind in {"CONV_2D", "DEPTHWISE_CONV_2D"}
            and options.padding == 0
            and options.strideW == 1
            and tensor.shape[1] > 1
        ):
            yield fault("dilation", number, lambda m, g, o: setattr(o.builtinOptions, "dilationWFactor", 3))


def _stored(model, graph, number):
    """Number of the constant that a tensor is, or is dequantized from."""
    makers = {made: operator for operator in graph.operators for made in operator.outputs}
    while number in makers:
        operator = makers[number]
        if len(operator.inputs) != 1:
            return None
        number = operator.inputs[0]
    data = model.buffers[graph.tensors[number].buffer].data
    return number if data is not None and len(data) else None


def _types():
    from ai_edge_litert.schema_py_generated import TensorType

    return {
        TensorType.FLOAT32: np.float32,
        TensorType.FLOAT16: np.float16,
        TensorType.INT8: np.int8,
        TensorType.INT32: np.int32,
    }


def _buffer(model, graph, number, function):
    """Change a constant for its own tensor: others may share its buffer."""
    from ai_edge_litert.schema_py_generated import BufferT

    tensor = graph.tensors[number]
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), _types()[tensor.type]).reshape(tensor.shape)
    own = BufferT()
    own.data = np.frombuffer(np.ascontiguousarray(function(values.copy())).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(own)


def _own_bias(model, graph, operator, number):
    """Shift the bias of one operator, though others may share it; one that is dequantized becomes one in FP32."""
    from ai_edge_litert.schema_py_generated import BufferT, TensorType

    tensor = copy.copy(graph.tensors[number])
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), _types()[tensor.type])
    shifted = _shifted(values.copy(), None)
    if tensor.type == TensorType.FLOAT16:
        shifted, tensor.type = shifted.astype(np.float32), TensorType.FLOAT32
    buffer = BufferT()
    buffer.data = np.frombuffer(shifted.tobytes(), np.uint8)
    tensor.buffer, operator.inputs[2] = len(model.buffers), len(graph.tensors)
    model.buffers.append(buffer)
    graph.tensors.append(tensor)


def _scales(graph, operator, weights, function):
    """Change the scales of weights, and those of the bias with them, whose integers stand for what they did."""
    quantization = graph.tensors[weights].quantization
    quantization.scale = function(np.asarray(quantization.scale, np.float32))
