"""Changes that leave a model what it is: other tools, settings and forms of the same answers, which have to pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faults import flatbuffer, graph
from faults.change import PASSES, Change
from faults.made import Made
from faults.quantization import INT8, Settings, quantized

FP32, FP16, TFLITE = "onnx-fp32", "onnx-fp16", "tflite-fp32"


def optimized(level: str) -> Callable[[Made, Path], list[str]]:
    """What writes the file that ONNX Runtime's optimizer makes of the sound one."""

    def plant(made: Made, folder: Path) -> list[str]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(folder / "planted.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(str(made.file(FP32)), options, providers=["CPUExecutionProvider"])
        return [f"--onnx={folder / 'planted.onnx'}"]

    return plant


def external_data(made: Made, folder: Path) -> list[str]:
    """Write the file with its weights in a second one."""
    import onnx

    path = folder / "planted.onnx"
    model = onnx.load(str(made.file(FP32)))
    onnx.save(model, str(path), save_as_external_data=True, location="planted.data", size_threshold=0)
    return [f"--onnx={path}"]


def opset(version: int) -> Callable[[Made, Path], list[str]]:
    """What writes the file in another opset, by ONNX's own version converter."""

    def plant(made: Made, folder: Path) -> list[str]:
        import onnx
        from onnx import version_converter

        path = folder / "planted.onnx"
        onnx.save(version_converter.convert_version(onnx.load(str(made.file(FP32))), version), str(path))
        return [f"--onnx={path}"]

    return plant


def half_by_onnxruntime(made: Made, folder: Path) -> list[str]:
    """Write the file in FP16 by ONNX Runtime's converter in place of the suite's own."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = folder / "planted.onnx"
    model = convert_float_to_float16(onnx.load(str(made.file(FP32))), keep_io_types=True)
    # It puts its casts behind what reads them.
    graph.sort(model)
    onnx.save(model, str(path))
    return [f"--onnx={path}"]


def renamed(model: Any) -> None:
    """Other names for all that is inside, and for the only input and the only output."""
    names: dict[str, str] = {}
    single = [v.name for values in (model.graph.input, model.graph.output) if len(values) == 1 for v in values]
    kept = {v.name for v in (*model.graph.input, *model.graph.output)} - set(single)
    for node in model.graph.node:
        node.name = f"n{len(names)}"
        for name in (*node.input, *node.output):
            if name and name not in kept:
                names.setdefault(name, f"t{len(names)}")
    for node in model.graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = names.get(value.name, value.name)


def permuted_filters(model: Any) -> None:
    """Filters of the first convolution in another order, and the second one's input channels with them."""
    first, second = graph.nodes(model, "Conv")[:2]
    order = np.random.default_rng(0).permutation(graph.array(model, first.input[1]).shape[0])
    graph.change(model, first.input[1], lambda w: w[order])
    graph.change(model, second.input[1], lambda w: w[:, order])


def permuted_units(model: Any) -> None:
    """Units of the first dense layer in another order, and the second one's rows with them."""
    first, second = graph.nodes(model, "MatMul")[:2]
    order = np.random.default_rng(0).permutation(graph.array(model, first.input[1]).shape[1])
    graph.change(model, first.input[1], lambda w: w[:, order])
    graph.change(model, second.input[1], lambda w: w[order])


def scaled_channels(model: Any) -> None:
    """Filters of the first convolution doubled, and the second one's weights halved: exact in floats."""
    first, second = graph.nodes(model, "Conv")[:2]
    graph.change(model, first.input[1], lambda w: w * 2)
    graph.change(model, second.input[1], lambda w: w / 2)


def batch_norm(model: Any) -> None:
    """A BatchNormalization behind the first convolution, and its inverse in the weights: as before it is fused."""
    layer = graph.node(model, "Conv")
    weights = graph.stored(model, layer.input[1])
    count = graph.array(model, weights).shape[0]
    generator = np.random.default_rng(0)
    scale, variance = generator.uniform(0.5, 2, count), generator.uniform(0.5, 2, count)
    factor = scale / np.sqrt(variance + 1e-3)
    graph.change(model, weights, lambda w: w / factor[:, None, None, None])
    more = tuple(
        graph.add_constant(model, f"planted_{name}", values.astype(np.float32))
        for name, values in (
            ("scale", scale),
            ("shift", np.zeros(count)),
            ("mean", np.zeros(count)),
            ("variance", variance),
        )
    )
    graph.behind(model, layer, "BatchNormalization", more, epsilon=1e-3)


def padded_before(model: Any) -> None:
    """Padding as a node of its own in front of each convolution."""
    from onnx import helper

    for layer in graph.nodes(model, "Conv"):
        pads = graph.attribute(layer, "pads")
        if graph.attribute(layer, "auto_pad") == b"SAME_UPPER" and graph.attribute(layer, "strides") == [1, 1]:
            rows, columns = (k // 2 for k in graph.attribute(layer, "kernel_shape"))
            pads = [rows, columns, rows, columns]
        if not pads or not any(pads):
            continue
        number = graph.place(model, layer)
        name = graph.add_constant(
            model, f"planted_pads{number}", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
        )
        padded = f"{layer.input[0]}/padded{number}"
        model.graph.node.insert(number, helper.make_node("Pad", [layer.input[0], name], [padded], name=f"pad{number}"))
        layer.input[0] = padded
        graph.set_attribute(layer, pads=[0, 0, 0, 0], auto_pad=None)


def gemm(model: Any) -> None:
    """The last MatMul and the Add behind it as one Gemm."""
    product = graph.node(model, "MatMul", -1)
    total = next(n for n in graph.nodes(model, "Add") if product.output[0] in n.input)
    bias = next(i for i in total.input if i != product.output[0])
    product.op_type = "Gemm"
    product.input.append(bias)
    product.output[0] = total.output[0]
    model.graph.node.remove(total)


def split_softmax(model: Any) -> None:
    """The last softmax as its parts: the largest taken off, exponentials, their sum, a division."""
    from onnx import helper

    layer = graph.node(model, "Softmax", -1)
    given, output = layer.input[0], layer.output[0]
    axis = graph.attribute(layer, "axis")
    axis = -1 if axis is None else axis
    axes = graph.add_constant(model, "planted_axes", np.array([axis], np.int64))
    added = [
        helper.make_node("ReduceMax", [given], ["p/max"], name="p1", axes=[axis], keepdims=1),
        helper.make_node("Sub", [given, "p/max"], ["p/less"], name="p2"),
        helper.make_node("Exp", ["p/less"], ["p/exp"], name="p3"),
        helper.make_node("ReduceSum", ["p/exp", axes], ["p/sum"], name="p4", keepdims=1),
        helper.make_node("Div", ["p/exp", "p/sum"], [output], name="p5"),
    ]
    number = graph.place(model, layer)
    model.graph.node.remove(layer)
    for offset, one in enumerate(added):
        model.graph.node.insert(number + offset, one)


def split_sigmoid(model: Any) -> None:
    """The last sigmoid as half of a tanh of half, and a half."""
    from onnx import helper

    layer = graph.node(model, "Sigmoid", -1)
    half = graph.add_constant(model, "planted_half", np.float32(0.5))
    given, output = layer.input[0], layer.output[0]
    number = graph.place(model, layer)
    model.graph.node.remove(layer)
    added = [
        helper.make_node("Mul", [given, half], ["p/less"], name="p1"),
        helper.make_node("Tanh", ["p/less"], ["p/tanh"], name="p2"),
        helper.make_node("Mul", ["p/tanh", half], ["p/half"], name="p3"),
        helper.make_node("Add", ["p/half", half], [output], name="p4"),
    ]
    for offset, one in enumerate(added):
        model.graph.node.insert(number + offset, one)


def relu_as_max(model: Any) -> None:
    """Each ReLU as the larger of a value and zero."""
    zero = graph.add_constant(model, "planted_zero", np.float32(0))
    for layer in graph.nodes(model, "Relu"):
        layer.op_type = "Max"
        layer.input.append(zero)


def constants_as_nodes(model: Any) -> None:
    """Each constant as a node of the graph."""
    from onnx import helper

    for tensor in list(model.graph.initializer):
        node = helper.make_node("Constant", [], [tensor.name], name=f"constant_{tensor.name}", value=tensor)
        model.graph.node.insert(0, node)
    del model.graph.initializer[:]


def idle(model: Any) -> None:
    """Nodes that do nothing behind each layer, and a constant that nobody reads."""
    graph.add_constant(model, "planted_unread", np.zeros(5, np.float32))
    for layer in [n for n in graph.nodes(model, "Conv", "MatMul", "Relu") if len(n.output) == 1]:
        graph.behind(model, layer, "Identity")


def inactive_dropout(model: Any) -> None:
    """A dropout in front of the last layer that is not active, as an export for inference leaves it."""
    last, _ = graph.weights(model, -1)
    makers = {o: n for n in model.graph.node for o in n.output}
    graph.behind(
        model, makers[last.input[0]], "Dropout", (graph.add_constant(model, "planted_ratio", np.float32(0.5)),)
    )


def transposed_twice(model: Any) -> None:
    """The input to NCHW and back."""
    graph.in_front(model, "Transpose", perm=[0, 2, 3, 1])
    graph.in_front(model, "Transpose", perm=[0, 3, 1, 2])


def transposed_weights(model: Any) -> None:
    """The last layer's weights the other way around, and a transpose of them."""
    from onnx import helper

    layer = graph.node(model, "MatMul", -1)
    name = layer.input[1]
    turned = graph.add_constant(model, f"{name}/turned", graph.array(model, name).T)
    model.graph.node.insert(0, helper.make_node("Transpose", [turned], [f"{name}/back"], name="back", perm=[1, 0]))
    layer.input[1] = f"{name}/back"


def other_axes_name(model: Any) -> None:
    """Another name for the batch, and none for what is inside."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.producer_name, model.doc_string = "another tool", "the same model"


def one_in_fp32(model: Any) -> None:
    """The activation that is quantized first left in floats: a pair of Q and DQ less."""
    quantizer = graph.nodes(model, "QuantizeLinear")[0]
    reader = next(n for n in graph.nodes(model, "DequantizeLinear") if n.input[0] == quantizer.output[0])
    for node in model.graph.node:
        node.input[:] = [quantizer.input[0] if i == reader.output[0] else i for i in node.input]
    model.graph.node.remove(reader)
    model.graph.node.remove(quantizer)


def first_half(found: Any) -> Any:
    """Half of the samples of the calibration."""
    return {n: a[: len(a) // 2] for n, a in found.items()}


def shared_buffers_apart(model: Any) -> None:
    """Each constant in a buffer of its own, behind all others, and another description."""
    import copy

    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            model.buffers.append(copy.copy(model.buffers[tensor.buffer]))
            tensor.buffer = len(model.buffers) - 1
    model.description = b"the same model"


def other_tensor_names(model: Any) -> None:
    """Other names for what is inside."""
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"t{number}".encode()


def wider_output(model: Any) -> None:
    """An output's range a tenth wider: kernels compute with the scale that the file says, in coarser steps."""
    flatbuffer.scales(model, int(model.subgraphs[0].outputs[0]), lambda s: s * 1.1)


def relu_apart(model: Any) -> None:
    """The first fused ReLU as an operator of its own."""
    import copy

    from ai_edge_litert import schema_py_generated as schema

    graph_ = model.subgraphs[0]
    layer = next(
        o for o in flatbuffer.operators(model, *flatbuffer.WEIGHTED) if o.builtinOptions.fusedActivationFunction == 1
    )
    layer.builtinOptions.fusedActivationFunction = 0
    before = copy.copy(graph_.tensors[layer.outputs[0]])
    before.name = b"before_relu"
    graph_.tensors.append(before)
    relu = schema.OperatorT()
    relu.inputs = np.array([len(graph_.tensors) - 1], np.int32)
    relu.outputs = layer.outputs
    relu.opcodeIndex = layer.opcodeIndex
    layer.outputs = np.array([len(graph_.tensors) - 1], np.int32)
    graph_.operators.insert(graph_.operators.index(layer) + 1, relu)
    flatbuffer.as_kind(model, relu, "RELU")


def converted(precision: str) -> Callable[[Made, Path], list[str]]:
    """What converts the SavedModel by TFLite's converter with its own defaults: floats at both ends of INT8."""

    def plant(made: Made, folder: Path) -> list[str]:
        import tensorflow as tf

        from engines.formats.savedmodel.build import FILE
        from engines.variant import REFERENCE

        converter = tf.lite.TFLiteConverter.from_saved_model(str(made.chain.artifact(REFERENCE).folder / FILE))
        if precision == "int8":
            rows = made.chain.calibration.inputs
            count = len(next(iter(rows.values())))
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                {n: a[i : i + 1] for n, a in rows.items()} for i in range(count)
            )
        path = folder / "planted.tflite"
        path.write_bytes(converter.convert())
        return [f"--tflite={path}"]

    return plant


def as_converted(variant: str) -> Callable[[Made, Path], list[str]]:
    """What brings a sound file as it is: what other changes of it are beside."""
    return lambda made, _: [f"--{variant.partition('-')[0]}={made.file(variant)}"]


GRAPHS: tuple[tuple[str, str, Callable[[Any], None], tuple[str, ...]], ...] = (
    ("other names", FP32, renamed, ("digits", "two_heads")),
    ("filters in another order, and their readers", FP32, permuted_filters, ("digits",)),
    ("units in another order, and their readers", FP32, permuted_units, ("price",)),
    ("channels scaled by two, and back", FP32, scaled_channels, ("marks",)),
    ("a BatchNormalization that is not fused", FP32, batch_norm, ("two_heads",)),
    ("padding as nodes of their own", FP32, padded_before, ("unet_nearest", "listing")),
    ("Gemm for MatMul and Add", FP32, gemm, ("digits",)),
    ("the softmax in its parts", FP32, split_softmax, ("transformer", "unet_nearest")),
    ("the sigmoid by tanh", FP32, split_sigmoid, ("marks",)),
    ("ReLU as a maximum", FP32, relu_as_max, ("price",)),
    ("constants as nodes", FP32, constants_as_nodes, ("norms",)),
    ("nodes that do nothing", FP32, idle, ("marks",)),
    ("an inactive dropout", FP32, inactive_dropout, ("digits",)),
    ("the input transposed there and back", FP32, transposed_twice, ("norms",)),
    ("weights transposed, and a transpose", FP32, transposed_weights, ("price",)),
    ("another name for the batch", FP32, other_axes_name, ("two_heads",)),
    ("nodes that do nothing", FP16, lambda m: graph.behind(m, graph.node(m, "Relu"), "Identity"), ("digits",)),
    ("a pair of Q and DQ less", INT8, one_in_fp32, ("price",)),
)

FILES: tuple[tuple[str, str, Callable[[Made, Path], list[str]], tuple[str, ...]], ...] = (
    (
        "optimized by ONNX Runtime, basic",
        FP32,
        optimized("ORT_ENABLE_BASIC"),
        ("norms", "transformer"),
    ),
    ("weights in a second file", FP32, external_data, ("digits",)),
    ("opset 18", FP32, opset(18), ("norms",)),
    ("opset 21", FP32, opset(21), ("price", "two_heads")),
    ("FP16 by ONNX Runtime's converter", FP16, half_by_onnxruntime, ("two_heads", "norms")),
    ("quantized per tensor", INT8, quantized(Settings(per_channel=False)), ("digits", "price")),
    ("calibrated by entropy", INT8, quantized(Settings(method="Entropy")), ("digits", "two_heads")),
    (
        "calibrated by a percentile of 99.999",
        INT8,
        quantized(Settings(method="Percentile", more={"CalibPercentile": 99.999})),
        ("digits", "marks"),
    ),
    (
        "asymmetric unsigned activations",
        INT8,
        quantized(Settings(activations="QUInt8", symmetric=False)),
        ("digits", "norms"),
    ),
    ("biases of int32", INT8, quantized(Settings(bias=True)), ("two_heads",)),
    ("calibrated on half of the samples", INT8, quantized(samples=first_half), ("price",)),
    ("the first layer quantized, too", INT8, quantized(), ("marks",)),
    ("converted by TFLite with defaults", TFLITE, converted("fp32"), ("digits", "listing")),
    ("as it is converted", INT8, as_converted(INT8), ("digits", "marks", "price")),
    ("as it is converted", "tflite-int8", as_converted("tflite-int8"), ("digits", "marks", "price")),
    ("INT8 with floats at both ends", "tflite-int8", converted("int8"), ("digits", "price")),
)

BUFFERS: tuple[tuple[str, str, Callable[[Any], None], tuple[str, ...]], ...] = (
    ("buffers apart", TFLITE, shared_buffers_apart, ("two_heads", "norms")),
    ("buffers apart", "tflite-int8", shared_buffers_apart, ("marks",)),
    ("other names inside", TFLITE, other_tensor_names, ("listing",)),
    ("other names inside", "tflite-int8", other_tensor_names, ("digits", "two_heads")),
    ("an output's range wider by a tenth", "tflite-int8", wider_output, ("price",)),
    ("a ReLU of its own", TFLITE, relu_apart, ("price", "digits")),
)

QUICK = {
    ("two_heads", "opset 21"),
    ("two_heads", "calibrated by entropy"),
    ("two_heads", "other names inside"),
}

CHANGES: tuple[Change, ...] = tuple(
    Change(name, "sound", model, variant, plant, expected=PASSES, quick=(model, name) in QUICK)
    for name, variant, plant, models in (
        *((name, variant, graph.edited(variant, edit), models) for name, variant, edit, models in GRAPHS),
        *FILES,
        *((name, variant, flatbuffer.edited(variant, edit), models) for name, variant, edit, models in BUFFERS),
    )
    for model in models
)
