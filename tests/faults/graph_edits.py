"""Faults of an ONNX graph: what a converter, an exporter or an edit by hand gets wrong in FP32 and FP16 files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from faults import graph
from faults.change import Change

KIND = "ONNX graph"

WEIGHTS = ("other weights", "converted wrongly")
"""What a likely cause may say of a layer whose numbers are others."""


NUMBERS = (*WEIGHTS, "numbers")
"""The same, where the file's own numbers are told."""

WINDOWS = (*WEIGHTS, "windows are not those", "does not look at that value")
"""The same of a convolution or a pooling that reads other places."""


def noise(share: float, which: int = 1) -> Callable[[Any], None]:
    """Noise of a share of each weight's size, on one layer."""

    def edit(model: Any) -> None:
        generator = np.random.default_rng(0)
        _, name = graph.weights(model, which)
        graph.change(model, name, lambda w: w * (1 + share * generator.standard_normal(w.shape)))

    return edit


def one_weight(model: Any) -> None:
    """The largest weight of the last layer at zero."""
    _, name = graph.weights(model, -1)

    def zero(values: Any) -> Any:
        values.reshape(-1)[np.abs(values).argmax()] = 0
        return values

    graph.change(model, name, zero)


def sign_of_one_weight(model: Any) -> None:
    """The largest weight of the first layer with the other sign, as a flip of one bit leaves it."""
    _, name = graph.weights(model, 0)

    def turn(values: Any) -> Any:
        values.reshape(-1)[np.abs(values).argmax()] *= -1
        return values

    graph.change(model, name, turn)


def no_bias(model: Any) -> None:
    """The last bias at zero."""
    graph.change(model, graph.bias(model), np.zeros_like)


def class_bias(by: float) -> Callable[[Any], None]:
    """One class's bias larger by so many logits."""

    def edit(model: Any) -> None:
        graph.change(model, graph.bias(model), lambda b: b + by * (np.arange(len(b)) == 1))

    return edit


def all_biases(model: Any) -> None:
    """The last bias, read one place on."""
    graph.change(model, graph.bias(model), lambda b: np.roll(b, 1))


def channel_scale(by: float, which: int = 0) -> Callable[[Any], None]:
    """Weights of one output channel larger by a factor: that of the largest sum."""

    def edit(model: Any) -> None:
        layer, name = graph.weights(model, which)
        axis = 0 if layer.op_type == "Conv" else 1 if layer.op_type == "ConvTranspose" else -1

        def scaled(values: Any) -> Any:
            moved = np.moveaxis(values, axis, 0)
            moved[np.abs(moved).reshape(len(moved), -1).sum(axis=1).argmax()] *= by
            return values

        graph.change(model, name, scaled)

    return edit


def dead_channel(model: Any) -> None:
    """Weights of one output channel of the first layer at zero."""
    channel_scale(0.0)(model)


def transposed_kernel(model: Any) -> None:
    """Height and width of the first kernel swapped."""
    layer = graph.node(model, "Conv")
    graph.change(model, graph.stored(model, layer.input[1]), lambda w: w.swapaxes(2, 3))


def turned_kernel(model: Any) -> None:
    """The first kernel turned by half, as a true convolution has it where a correlation is meant."""
    layer = graph.node(model, "Conv")
    graph.change(model, graph.stored(model, layer.input[1]), lambda w: w[:, :, ::-1, ::-1])


def permuted_filters(model: Any) -> None:
    """Filters of the first convolution one place on, and nothing that reads them."""
    layer = graph.node(model, "Conv")
    graph.change(model, graph.stored(model, layer.input[1]), lambda w: np.roll(w, 1, axis=0))


def reversed_channels(model: Any) -> None:
    """Input channels of the first convolution reversed, as of one that was trained on BGR."""
    layer = graph.node(model, "Conv")
    graph.change(model, graph.stored(model, layer.input[1]), lambda w: w[:, ::-1])


def other_padding(model: Any) -> None:
    """Padding of TensorFlow's SAME at the wrong side, as PyTorch and Caffe have it: lower for upper."""
    for layer in graph.nodes(model, "Conv"):
        pads = graph.attribute(layer, "pads")
        if pads and pads[:2] != pads[2:]:
            graph.set_attribute(layer, pads=[*pads[2:], *pads[:2]])
            return
    raise ValueError("no convolution is padded at one side only")


def replicated_padding(model: Any) -> None:
    """Edges repeated where zeros are meant, in front of the first padded convolution."""
    for layer in graph.nodes(model, "Conv"):
        pads = graph.attribute(layer, "pads")
        if not pads and graph.attribute(layer, "auto_pad") == b"SAME_UPPER":
            pads = [1, 1, 1, 1]
        if not pads or not any(pads):
            continue
        name = graph.add_constant(model, "planted_pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
        from onnx import helper

        padded = f"{layer.input[0]}/padded"
        model.graph.node.insert(
            graph.place(model, layer),
            helper.make_node("Pad", [layer.input[0], name], [padded], name="planted_pad", mode="edge"),
        )
        layer.input[0] = padded
        graph.set_attribute(layer, pads=[0, 0, 0, 0], auto_pad=None)
        return
    raise ValueError("no convolution is padded")


def average_pooling(model: Any) -> None:
    """The first max pooling as one of averages."""
    graph.node(model, "MaxPool").op_type = "AveragePool"


def pooling_size(model: Any) -> None:
    """Windows of the first max pooling larger by one, at the same stride."""
    layer = graph.node(model, "MaxPool")
    kernel = graph.attribute(layer, "kernel_shape")
    graph.set_attribute(layer, kernel_shape=[k + 1 for k in kernel], pads=[0, 0, 1, 1])


def pooling_offset(model: Any) -> None:
    """Windows of the first max pooling one pixel further up and left."""
    layer = graph.node(model, "MaxPool")
    graph.set_attribute(layer, pads=[1, 1, 0, 0], ceil_mode=0)


def dilated(model: Any) -> None:
    """The second convolution dilated by two, and padded so that sizes stay."""
    layer = graph.node(model, "Conv", 1)
    rows, columns = graph.attribute(layer, "kernel_shape")
    pads = graph.attribute(layer, "pads") or [0, 0, 0, 0]
    if graph.attribute(layer, "auto_pad") == b"SAME_UPPER":
        graph.set_attribute(layer, dilations=[2, 2])
        return
    more = [(rows - 1), (columns - 1)]
    pads = [pads[0] + more[0] // 2, pads[1] + more[1] // 2, pads[2] + more[0] // 2, pads[3] + more[1] // 2]
    graph.set_attribute(layer, dilations=[2, 2], pads=pads)


def stride_of_one(model: Any) -> None:
    """A strided convolution at every other place of a stride of one, from the second place on."""
    from onnx import helper

    layer = next(n for n in graph.nodes(model, "Conv") if graph.attribute(n, "strides") == [2, 2])
    pads = graph.attribute(layer, "pads") or [0, 0, 0, 0]
    given = layer.input[0]
    starts = graph.add_constant(model, "planted_starts", np.array([1, 1], np.int64))
    ends = graph.add_constant(model, "planted_ends", np.array([1 << 30, 1 << 30], np.int64))
    axes = graph.add_constant(model, "planted_axes", np.array([2, 3], np.int64))
    shifted = f"{given}/shifted"
    model.graph.node.insert(
        graph.place(model, layer), helper.make_node("Slice", [given, starts, ends, axes], [shifted], name="planted")
    )
    layer.input[0] = shifted
    graph.set_attribute(layer, pads=[pads[0], pads[1], pads[2] + 1, pads[3] + 1])


def activation(kind: str, which: int = 0, **values: Any) -> Callable[[Any], None]:
    """A ReLU as another activation."""

    def edit(model: Any) -> None:
        graph.operator(graph.node(model, "Relu", which), kind, **values)

    return edit


def relu6(which: int = 0, most: float = 6.0) -> Callable[[Any], None]:
    """A ReLU that ends at six, or elsewhere."""

    def edit(model: Any) -> None:
        layer = graph.node(model, "Relu", which)
        graph.operator(layer, "Clip")
        layer.input.extend(
            [
                graph.add_constant(model, "planted_low", np.float32(0)),
                graph.add_constant(model, "planted_high", np.float32(most)),
            ]
        )

    return edit


def no_relu(model: Any) -> None:
    """The last ReLU left out."""
    graph.take_out(model, graph.node(model, "Relu", -1))


def tanh_gelu(model: Any) -> None:
    """The Gaussian error function as the tanh that GELU is often approximated by."""
    for layer in graph.nodes(model, "Erf"):
        given = layer.input[0]
        # erf(x) ≈ tanh(2/√π (x + 0.0894 x³)), with x√2 for the argument of GELU: Hendrycks and Gimpel 2016.
        from onnx import helper

        number = graph.place(model, layer)
        c, three = f"planted_c{number}", f"planted_three{number}"
        graph.add_constant(model, c, np.float32(0.044715 * 2))
        graph.add_constant(model, three, np.float32(3))
        s = graph.add_constant(model, f"planted_s{number}", np.float32(2 / np.sqrt(np.pi)))
        added = [
            helper.make_node("Pow", [given, three], [f"{given}/cubed"], name=f"planted_pow{number}"),
            helper.make_node("Mul", [f"{given}/cubed", c], [f"{given}/part"], name=f"planted_part{number}"),
            helper.make_node("Add", [given, f"{given}/part"], [f"{given}/sum"], name=f"planted_sum{number}"),
            helper.make_node("Mul", [f"{given}/sum", s], [f"{given}/scaled"], name=f"planted_scaled{number}"),
        ]
        for offset, one in enumerate(added):
            model.graph.node.insert(number + offset, one)
        layer.op_type, layer.input[0] = "Tanh", f"{given}/scaled"


def epsilon(value: float) -> Callable[[Any], None]:
    """The epsilon of all normalizations another one."""

    def edit(model: Any) -> None:
        known = graph.constants(model)
        names = {
            i
            for n in graph.nodes(model, "Add")
            for i in n.input
            if i in known and graph.array(model, i).size == 1 and 0 < float(graph.array(model, i).reshape(-1)[0]) < 0.01
        }
        for name in names:
            graph.change(model, name, lambda e: np.full_like(e, value))

    return edit


def softmax_axis(model: Any) -> None:
    """The last softmax over the batch."""
    graph.set_attribute(graph.node(model, "Softmax", -1), axis=0)


def no_softmax(model: Any) -> None:
    """The last softmax left out: the outputs are logits."""
    graph.take_out(model, graph.node(model, "Softmax", -1))


def two_softmaxes(model: Any) -> None:
    """A softmax behind the last one."""
    last = graph.node(model, "Softmax", -1)
    graph.behind(model, last, "Softmax", axis=graph.attribute(last, "axis") or -1)


def temperature(value: float) -> Callable[[Any], None]:
    """Logits divided by a temperature before the last softmax."""

    def edit(model: Any) -> None:
        from onnx import helper

        last = graph.node(model, "Softmax", -1)
        given, name = last.input[0], graph.add_constant(model, "planted_temperature", np.float32(value))
        model.graph.node.insert(
            graph.place(model, last), helper.make_node("Div", [given, name], [f"{given}/cooler"], name="planted_div")
        )
        last.input[0] = f"{given}/cooler"

    return edit


def sigmoid_for_softmax(model: Any) -> None:
    """Each class by itself: a sigmoid in place of the softmax."""
    graph.operator(graph.node(model, "Softmax", -1), "Sigmoid")


def hard_sigmoid(model: Any) -> None:
    """The sigmoid as its piecewise linear form, alpha 0.2."""
    graph.operator(graph.node(model, "Sigmoid", -1), "HardSigmoid")


def no_sigmoid(model: Any) -> None:
    """The last sigmoid left out: the outputs are logits."""
    graph.take_out(model, graph.node(model, "Sigmoid", -1))


def permuted_classes(order: list[int]) -> Callable[[Any], None]:
    """Columns of the last layer, and its bias, in another order."""

    def edit(model: Any) -> None:
        _, name = graph.weights(model, -1)
        graph.change(model, name, lambda w: w[..., order])
        graph.change(model, graph.bias(model), lambda b: b[order])

    return edit


def flatten_order(model: Any) -> None:
    """Channels first where the features are flattened: the transpose in front of it left out."""
    flattened = [n for n in graph.nodes(model, "Transpose") if graph.attribute(n, "perm") == [0, 2, 3, 1]]
    last = flattened[-1]
    reader = next(n for n in model.graph.node if last.output[0] in n.input and n.op_type == "Reshape")
    reader.input[0] = last.input[0]


def transposed_images(model: Any) -> None:
    """Height and width of the input swapped."""
    graph.in_front(model, "Transpose", perm=[0, 2, 1, 3])


def mirrored(axis: int) -> Callable[[Any], None]:
    """The input read from the other end of an axis."""

    def edit(model: Any) -> None:
        size = model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value
        name = graph.add_constant(model, "planted_order", np.arange(size)[::-1].astype(np.int64))
        graph.in_front(model, "Gather", (name,), axis=axis)

    return edit


def rolled(axis: int) -> Callable[[Any], None]:
    """The input shifted by one along an axis, what falls off at the end put in front."""

    def edit(model: Any) -> None:
        size = model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value
        name = graph.add_constant(model, "planted_order", np.roll(np.arange(size), 1).astype(np.int64))
        graph.in_front(model, "Gather", (name,), axis=axis)

    return edit


def scaled_inputs(factor: float, constant: float = 0.0, which: int = 0) -> Callable[[Any], None]:
    """Inputs brought to another range than the model's."""

    def edit(model: Any) -> None:
        if constant:
            name = graph.add_constant(model, "planted_constant", np.float32(constant))
            graph.in_front(model, "Add", (name,), which)
        graph.in_front(model, "Mul", (graph.add_constant(model, "planted_factor", np.float32(factor)),), which)

    return edit


def channels_first(model: Any) -> None:
    """Bytes of the input read as NCHW, in its NHWC shape."""
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    rows, columns, channels = dims[1:]
    first = graph.add_constant(model, "planted_nchw", np.array([-1, channels, rows, columns], np.int64))
    graph.in_front(model, "Transpose", perm=[0, 2, 3, 1])
    graph.in_front(model, "Reshape", (first,))


def no_mean(model: Any) -> None:
    """The mean of a normalization inside the model at zero: its Sub left out."""
    known = graph.constants(model)
    layer = next(
        n for n in graph.nodes(model, "Sub") if n.input[1] in known and graph.array(model, n.input[1]).size > 1
    )
    graph.take_out(model, layer)


def no_deviation(model: Any) -> None:
    """The deviation of a normalization inside the model at one: its division left out."""
    known = graph.constants(model)
    layer = next(
        n for n in graph.nodes(model, "Div", "Mul") if n.input[1] in known and graph.array(model, n.input[1]).size > 1
    )
    graph.take_out(model, layer)


def swapped_outputs(model: Any) -> None:
    """The first two outputs under each other's names."""
    one, other = (o.name for o in model.graph.output[:2])
    graph.rename_outputs(model, {one: other, other: one})


def one_output_twice(model: Any) -> None:
    """The first output given out as the second, too."""
    from onnx import helper

    one, other = (o.name for o in model.graph.output[:2])
    for n in model.graph.node:
        n.output[:] = [f"{other}/unused" if o == other else o for o in n.output]
        n.input[:] = [f"{other}/unused" if i == other else i for i in n.input]
    model.graph.node.append(helper.make_node("Identity", [one], [other], name="planted_identity"))


def fixed_batch(model: Any) -> None:
    """A batch of one in the signature, as an export from one example has."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def normalized_over_batch(model: Any) -> None:
    """What is in front of the last layer, less its mean over the batch, as a BatchNorm in training mode has it."""
    from onnx import helper

    last, _ = graph.weights(model, -1)
    given = last.input[0]
    added = [
        helper.make_node("ReduceMean", [given], [f"{given}/mean"], name="planted_mean", axes=[0], keepdims=1),
        helper.make_node("Sub", [given, f"{given}/mean"], [f"{given}/centred"], name="planted_sub"),
    ]
    number = graph.place(model, last)
    for offset, one in enumerate(added):
        model.graph.node.insert(number + offset, one)
    last.input[0] = f"{given}/centred"


def dropout(share: float) -> Callable[[Any], None]:
    """A dropout left active in front of the last layer."""

    def edit(model: Any) -> None:
        from onnx import helper

        last, _ = graph.weights(model, -1)
        given = last.input[0]
        ratio = graph.add_constant(model, "planted_ratio", np.float32(share))
        active = graph.add_constant(model, "planted_active", np.array(True))
        model.graph.node.insert(
            graph.place(model, last),
            helper.make_node("Dropout", [given, ratio, active], [f"{given}/dropped"], name="planted_dropout"),
        )
        last.input[0] = f"{given}/dropped"

    return edit


def random_noise(model: Any) -> None:
    """Noise that is drawn in each call, added to the last layer's input."""
    from onnx import helper

    last, _ = graph.weights(model, -1)
    given = last.input[0]
    number = graph.place(model, last)
    drawn = helper.make_node("RandomNormalLike", [given], [f"{given}/drawn"], name="planted_noise", scale=0.01)
    model.graph.node.insert(number, drawn)
    model.graph.node.insert(number + 1, helper.make_node("Add", [given, f"{given}/drawn"], [f"{given}/noisy"]))
    last.input[0] = f"{given}/noisy"


def no_inputs(model: Any) -> None:
    """Inputs multiplied by zero."""
    scaled_inputs(0.0)(model)


def rounded_weights(bits: int) -> Callable[[Any], None]:
    """Weights of every layer rounded to so many bits of mantissa, in a file that says FP32."""

    def edit(model: Any) -> None:
        for number in range(sum(n.op_type in {"Conv", "MatMul", "Gemm", "ConvTranspose"} for n in model.graph.node)):
            try:
                _, name = graph.weights(model, number)
            except IndexError:
                return

            def rounded(values: Any) -> Any:
                mantissa, exponent = np.frexp(values)
                return np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent)

            graph.change(model, name, rounded)

    return edit


def residual_left_out(model: Any) -> None:
    """A sum of two branches that has one of them only."""
    known = graph.constants(model)
    layer = [n for n in graph.nodes(model, "Add") if not any(i in known for i in n.input)][-1]
    graph.take_out(model, layer)


def truncated_constant(model: Any) -> None:
    """The constant that is added last, rounded to thousands."""
    name = graph.node(model, "Add", -1).input[1]
    graph.change(model, name, lambda c: np.round(c, -4) + 1e3)


def next_row(model: Any) -> None:
    """Rows of a table one place on: ids that begin at one where they begin at zero."""
    layer = next(n for n in graph.nodes(model, "Gather") if n.input[0] in graph.constants(model))
    graph.change(model, layer.input[0], lambda table: np.roll(table, 1, axis=0))


def no_mask(model: Any) -> None:
    """What is masked by a large negative number, taken in all the same."""
    known = graph.constants(model)
    for name in known:
        values = graph.array(model, name)
        if values.dtype.kind == "f" and values.size == 1 and float(values.reshape(-1)[0]) < -1e4:
            graph.change(model, name, np.zeros_like)
            return
    raise ValueError("no constant of a mask")


def beyond_fp16(model: Any) -> None:
    """Values far beyond FP16's range between multiplications and divisions that undo them, in a file of FP16."""
    last, _ = graph.weights(model, -1)
    from onnx import helper

    given = last.input[0]
    dtype = graph.array(model, graph.weights(model, -1)[1]).dtype
    big = graph.add_constant(model, "planted_big", np.array(60000, dtype))
    number = graph.place(model, last)
    for step, operator in enumerate(("Mul", "Mul", "Div", "Div")):
        made = f"{given}/step{step}"
        added = helper.make_node(operator, [last.input[0], big], [made], name=f"planted_{step}")
        model.graph.node.insert(number + step, added)
        last.input[0] = made


Edit = Callable[[Any], None]

PLANTED: tuple[tuple[str, Edit, tuple[str, ...], tuple[str, ...]], ...] = (
    # name, edit, right causes, models
    ("noise of 1 % on a layer's weights", noise(0.01), NUMBERS, ("norms", "transformer")),
    ("one weight at zero", one_weight, NUMBERS, ("digits",)),
    ("the sign of one weight turned", sign_of_one_weight, NUMBERS, ("price",)),
    (
        "weights rounded to 8 bits",
        rounded_weights(8),
        (*WEIGHTS, "lower precision", "rounded otherwise"),
        ("price", "norms"),
    ),
    ("the last bias left out", no_bias, ("bias", *NUMBERS), ("digits", "two_heads")),
    ("one class's bias larger by 0.5", class_bias(0.5), ("bias",), ("digits", "norms", "marks")),
    ("the last bias one place on", all_biases, ("bias", *NUMBERS), ("digits",)),
    ("one channel 1.5 times as large", channel_scale(1.5), NUMBERS, ("norms", "unet_nearest")),
    ("one channel dead", dead_channel, NUMBERS, ("listing",)),
    ("the kernel transposed", transposed_kernel, NUMBERS, ("unet_nearest",)),
    ("the kernel turned by half", turned_kernel, NUMBERS, ("two_heads",)),
    ("filters one place on", permuted_filters, NUMBERS, ("marks",)),
    ("input channels reversed in the weights", reversed_channels, ("red and blue",), ("norms", "two_heads")),
    ("padding at the other side", other_padding, WINDOWS, ("marks", "listing")),
    ("edges repeated for zeros", replicated_padding, WINDOWS, ("unet_nearest",)),
    ("average for max pooling", average_pooling, WINDOWS, ("unet_nearest", "listing")),
    ("larger pooling windows", pooling_size, WINDOWS, ("listing",)),
    ("pooling one pixel off", pooling_offset, WINDOWS, ("unet_nearest",)),
    ("a dilation of two", dilated, (*WINDOWS, "Dilation"), ("unet_nearest",)),
    ("strided from the second pixel on", stride_of_one, WINDOWS, ("two_heads",)),
    (
        "LeakyReLU of 0.01 for ReLU",
        activation("LeakyRelu", alpha=0.01),
        (*WEIGHTS, "LeakyRelu for"),
        ("digits", "marks"),
    ),
    ("ELU for ReLU", activation("Elu"), (*WEIGHTS, "Elu for"), ("two_heads",)),
    ("ReLU that ends at one", relu6(most=1.0), (*WEIGHTS, "Clip for"), ("price",)),
    ("the last ReLU left out", no_relu, (*WEIGHTS, "left out"), ("marks",)),
    ("GELU by tanh", tanh_gelu, (*WEIGHTS, "Tanh"), ("norms",)),
    ("an epsilon of 0.01", epsilon(0.01), (*NUMBERS, "0.01 for the number"), ("norms", "transformer")),
    ("softmax over the batch", softmax_axis, ("over the batch",), ("two_heads",)),
    ("the softmax left out", no_softmax, ("softmax is missing",), ("norms", "unet_nearest", "listing")),
    ("a softmax too many", two_softmaxes, ("softmax too many",), ("digits",)),
    ("a softmax of temperature 1.1", temperature(1.1), ("temperature",), ("digits", "norms", "unet_nearest")),
    ("a sigmoid for the softmax", sigmoid_for_softmax, ("sigmoid",), ("transformer",)),
    ("a piecewise linear sigmoid", hard_sigmoid, ("sigmoid", "HardSigmoid for", *WEIGHTS), ("marks",)),
    ("the sigmoid left out", no_sigmoid, ("the sigmoid of",), ("marks",)),
    ("two classes exchanged", permuted_classes([0, 2, 1, 3]), ("class 1 is at 2",), ("transformer",)),
    ("three classes in turn", permuted_classes([1, 2, 0, *range(3, 10)]), ("classes are permuted",), ("digits",)),
    ("flattened channels first", flatten_order, ("flattened", "perm", "Transpose", *WEIGHTS), ("marks",)),
    ("height and width swapped", transposed_images, ("height and width",), ("norms",)),
    ("images mirrored", mirrored(2), ("mirrored",), ("two_heads",)),
    ("images upside down", mirrored(1), ("upside down", "mirrored"), ("norms",)),
    ("columns of a table shifted by one", rolled(1), ("one place",), ("price",)),
    ("inputs divided by 255 once more", scaled_inputs(1 / 255), ("255 times",), ("norms",)),
    ("inputs brought from [-1, 1]", scaled_inputs(0.5, 0.5), ("[-1, 1]",), ("norms",)),
    ("inputs brought to [-1, 1]", scaled_inputs(2.0, -1.0), ("[-1, 1]",), ("two_heads",)),
    ("channels first in an NHWC shape", channels_first, ("NCHW",), ("norms",)),
    ("inputs that reach nothing", no_inputs, ("every sample gets the same answer",), ("price",)),
    ("the mean left out", no_mean, ("mean", "converted wrongly", "left out", "numbers"), ("listing",)),
    ("the deviation left out", no_deviation, ("deviation", "converted wrongly", "left out", "numbers"), ("listing",)),
    ("two outputs swapped", swapped_outputs, ("swapped", "exchanged"), ("two_heads",)),
    ("one output given twice", one_output_twice, ("softmax is missing",), ("two_heads",)),
    ("a batch of one in the signature", fixed_batch, ("fixed to 1",), ("digits",)),
    ("normalized over the batch", normalized_over_batch, ("over the batch", "ReduceMean"), ("price", "marks")),
    ("dropout of 0.01 left active", dropout(0.01), ("Dropout",), ("digits",)),
    ("noise drawn in the graph", random_noise, ("RandomNormalLike",), ("norms",)),
    ("a branch of a sum left out", residual_left_out, (*WEIGHTS, "left out"), ("norms",)),
    ("a constant rounded to thousands", truncated_constant, ("too large", "too small", *NUMBERS), ("price",)),
    ("rows of the embedding one place on", next_row, ("row", "ids", *NUMBERS), ("transformer", "topic_gru")),
)

QUICK = {
    ("two_heads", "the last bias left out"),
    ("two_heads", "softmax over the batch"),
    ("two_heads", "two outputs swapped"),
}

CHANGES: tuple[Change, ...] = (
    *(
        Change(name, KIND, model, "onnx-fp32", graph.edited("onnx-fp32", edit), right, quick=(model, name) in QUICK)
        for name, edit, right, models in PLANTED
        for model in models
    ),
    Change(
        "a value beyond FP16 between layers",
        KIND,
        "digits",
        "onnx-fp16",
        graph.edited("onnx-fp16", beyond_fp16),
        ("an overflow",),
    ),
)
