"""The precision of an engine that was made elsewhere is that of its weights: no tensor beside them decides it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from engines.chain import Chain
from engines.formats.onnx import layers as onnx_layers
from engines.formats.onnx.runner import output_grids
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.tflite import layers as tflite_layers
from engines.model import datasets
from engines.model.brought import brought_engine
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.precision import Layer, described, precision_of
from engines.variant import Variant
from fixtures.chain import CHAINS
from fixtures.reporting import pytest_report_header

WIDTH = 8

# Which part of the layers decides

FP32, FP16, INT8 = (Layer(p, 100) for p in ("fp32", "fp16", "int8"))
MOST = {
    "all in FP32": ([FP32] * 3, "fp32", "3 FP32"),
    "all in FP16": ([FP16] * 3, "fp16", "3 FP16"),
    "all but the first in INT8": ([FP32, *[INT8] * 8], "int8", "8 INT8, 1 FP32"),
    "the smaller one of two in INT8": ([FP32, Layer("int8", 10)], "int8", "1 INT8, 1 FP32"),
    "one of three in INT8": ([FP32, FP32, INT8], "fp32", "1 INT8, 2 FP32"),
    "one of three in FP16": ([FP32, FP32, FP16], "fp32", "1 FP16, 2 FP32"),
    "one of three, and most weights, in INT8": ([FP32, FP32, Layer("int8", 200)], "int8", "1 INT8, 2 FP32"),
    "INT8 and FP16 by halves": ([INT8, FP16], "int8", "1 INT8, 1 FP16"),
    "some INT8 among FP16": ([INT8, FP16, FP16], "fp16", "1 INT8, 2 FP16"),
    "INT8 and FP16 together more than FP32": ([INT8, FP16, FP32], "fp16", "1 INT8, 1 FP16, 1 FP32"),
    "no layers": ([], "fp32", "none"),
}


@pytest.mark.parametrize("case_", MOST)
def test_half_of_the_layers_or_of_the_weights_decide(case_):
    """A minority of layers with few weights gives a file no wider tolerance; what was found is said in full."""
    layers, precision, found = MOST[case_]
    assert precision_of(layers) == precision
    assert described(layers) == f"layers with weights: {found}"


# ONNX: each function adds a layer that makes (N, 8) from (N, 8) to the nodes and stored tensors of a graph.


class Graph:
    """An ONNX graph of layers one behind the other, as it grows; ``name`` tells its tensors from another graph's."""

    def __init__(self, name=""):
        self.name, self.nodes, self.stored, self.end = name, [], [], "x"

    def store(self, values, dtype):
        """Store a tensor; gives its name."""
        from onnx import numpy_helper

        name = f"{self.name}stored {len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weights(self, dtype=np.float32, shape=(WIDTH, WIDTH)):
        """Store weights; gives their name."""
        return self.store(np.ones(shape), dtype)

    def node(self, kind, *inputs, outputs=1, **attributes):
        """Add a node; gives the name of its first output."""
        from onnx import helper

        names = [f"{self.name}{kind} {len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def cast(self, name, dtype):
        """Cast a tensor; gives the name of what comes out."""
        from onnx import helper

        return self.node("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def scale(self, dtype=np.int8):
        """Store a scale and a zero point; gives their names."""
        return self.store(1 / 16, np.float32), self.store(0, dtype)

    def quantized(self, name):
        """Quantize and dequantize a tensor; gives the name of what comes out."""
        scale = self.scale()
        return self.node("DequantizeLinear", self.node("QuantizeLinear", name, *scale), *scale)

    def model(self):
        """The whole model."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [self.end], ["y"])],
            "layers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", WIDTH))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", WIDTH))],
            self.stored,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def fp32(g):
    """Add a product with FP32 weights."""
    g.end = g.node("MatMul", g.end, g.weights())


def fp16(g):
    """Add a product in FP16."""
    g.end = g.cast(g.node("MatMul", g.cast(g.end, np.float16), g.weights(np.float16)), np.float32)


def fp16_stored(g):
    """Add a product in FP32 with weights from FP16."""
    g.end = g.node("MatMul", g.end, g.cast(g.node("Identity", g.weights(np.float16)), np.float32))


def fp16_cast(g):
    """Add a product in FP16 with weights from FP32."""
    product = g.node("MatMul", g.cast(g.end, np.float16), g.cast(g.weights(), np.float16))
    g.end = g.cast(product, np.float32)


def bf16_stored(g):
    """Add a product in FP32 with weights from BF16."""
    from onnx import TensorProto, helper

    weights = helper.make_tensor(
        f"{g.name}bf16 {len(g.stored)}", TensorProto.BFLOAT16, (WIDTH, WIDTH), [1.0] * WIDTH**2
    )
    g.stored.append(weights)
    g.end = g.node("MatMul", g.end, g.cast(weights.name, np.float32))


def fp16_constant(g):
    """Add a product in FP16 whose weights are in a node."""
    weights = g.weights(np.float16)
    constant = g.node("Constant", value=g.stored.pop())
    assert weights not in [t.name for t in g.stored]
    g.end = g.cast(g.node("MatMul", g.cast(g.end, np.float16), constant), np.float32)


def int8_stored(g):
    """Add a product with dequantized weights."""
    weights = g.node("DequantizeLinear", g.weights(np.int8), *g.scale())
    g.end = g.node("Gemm", g.quantized(g.end), g.node("Transpose", weights), g.store(np.ones(WIDTH), np.float32))


def int8_quantized(g):
    """Add a product with FP32 weights that the graph quantizes itself."""
    g.end = g.node("MatMul", g.quantized(g.end), g.quantized(g.weights()))


def int8_operator(g):
    """Add an integer product with scales."""
    scale = g.scale()
    quantized = g.node("QuantizeLinear", g.end, *scale)
    product = g.node("QLinearMatMul", quantized, *scale, g.weights(np.int8), *scale, *scale)
    g.end = g.node("DequantizeLinear", product, *scale)


def int8_dynamic(g):
    """Add an integer product of inputs that are quantized as they come."""
    quantized = g.node("DynamicQuantizeLinear", g.end, outputs=3)
    g.end = g.cast(g.node("MatMulInteger", quantized, g.weights(np.uint8)), np.float32)


def int8_input(g):
    """Quantize what comes in, and nothing else."""
    g.end = g.quantized(g.end)


def unused_fp16(g):
    """Store an FP16 tensor that nothing takes."""
    g.weights(np.float16, (99, 99))


def fp16_activations(g):
    """Add a product of two FP16 activations, and an FP16 bias."""
    half, bias = g.cast(g.end, np.float16), g.store(np.ones(WIDTH), np.float16)
    product = g.node("MatMul", g.node("MatMul", half, g.node("Transpose", half)), half)
    g.end = g.cast(g.node("Gemm", product, half, bias, transA=1), np.float32)


def int8_activations(g):
    """Add a product of two quantized activations."""
    g.end = g.node("MatMul", g.node("MatMul", g.quantized(g.end), g.node("Transpose", g.quantized(g.end))), g.end)


def fp16_positions(g):
    """Add an FP16 constant that is no weight of a product."""
    g.end = g.cast(g.node("Add", g.cast(g.end, np.float16), g.weights(np.float16, (1, WIDTH))), np.float32)


def fp16_in_branches(g):
    """Add FP16 products in both branches of an If, the weights of one of them stored outside."""
    from onnx import TensorProto, helper

    outside = g.weights(np.float16)
    end, branches = g.cast(g.end, np.float16), []
    for stored_outside in (True, False):
        inner = Graph(f"{stored_outside} ")
        inner.end = inner.node("MatMul", end, outside if stored_outside else inner.weights(np.float16))
        result = helper.make_tensor_value_info(inner.end, TensorProto.FLOAT16, ("N", WIDTH))
        branches.append(helper.make_graph(inner.nodes, "branch", [], [result], inner.stored))
    condition = g.store(True, np.bool_)
    g.end = g.cast(g.node("If", condition, then_branch=branches[0], else_branch=branches[1]), np.float32)


FILES = {
    "FP32 weights": ([fp32] * 3, "fp32", "3 FP32"),
    "FP16 weights": ([fp16] * 3, "fp16", "3 FP16"),
    "FP16 weights in Constant nodes": ([fp16_constant] * 3, "fp16", "3 FP16"),
    "FP16 weights of FP32 products": ([fp16_stored] * 3, "fp16", "3 FP16"),
    "FP32 weights of FP16 products": ([fp16_cast] * 3, "fp16", "3 FP16"),
    "BF16 weights of FP32 products": ([bf16_stored] * 3, "fp16", "3 FP16"),
    "dequantized weights": ([int8_stored] * 3, "int8", "3 INT8"),
    "weights quantized by the graph": ([int8_quantized] * 3, "int8", "3 INT8"),
    "integer products": ([int8_operator] * 3, "int8", "3 INT8"),
    "integer products of dynamic range": ([int8_dynamic] * 3, "int8", "3 INT8"),
    "all but the first quantized": ([fp32, int8_stored, int8_stored], "int8", "2 INT8, 1 FP32"),
    "all but the first in FP16": ([fp32, fp16, fp16], "fp16", "2 FP16, 1 FP32"),
    "quantized inputs of FP32 weights": ([int8_input, fp32, fp32, int8_input], "fp32", "2 FP32"),
    "an FP16 tensor that nothing takes": ([fp32, fp32, unused_fp16], "fp32", "2 FP32"),
    "products of FP16 activations": ([fp32, *[fp16_activations] * 5], "fp32", "1 FP32"),
    "products of quantized activations": ([fp32, *[int8_activations] * 5], "fp32", "1 FP32"),
    "an FP16 constant that is added": ([fp32, *[fp16_positions] * 5], "fp32", "1 FP32"),
    "FP16 weights in the branches of an If": ([fp32, fp16_in_branches], "fp16", "2 FP16, 1 FP32"),
}


def written(path, parts):
    """Write an ONNX file of these parts, which is sound; gives the path."""
    import onnx

    graph = Graph()
    for part in parts:
        part(graph)
    model = graph.model()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("file", FILES)
def test_the_weights_of_an_onnx_decide(tmp_path, file):
    """Weights are found where any converter leaves them, and inputs, outputs, activations and constants are none."""
    parts, precision, found = FILES[file]
    layers = onnx_layers.layers(written(tmp_path / "model.onnx", parts))
    assert (precision_of(layers), described(layers)) == (precision, f"layers with weights: {found}")


@pytest.mark.parametrize(
    "stored, ends",
    [(None, (0, 255)), (np.uint8(3), (-3, 252)), (np.int8(-128), (0, 255)), (np.float32(0), None)],
    ids=["no zero point", "uint8", "int8", "a float"],
)
def test_the_steps_of_an_integer_output_are_read_off_the_file(tmp_path, stored, ends):
    """Scale and zero point of a dequantized output say what it can be; without a zero point it is unsigned bytes."""
    import onnx
    from onnx import numpy_helper

    graph = "g (float[N,4] x) => (float[N,4] y) { q = QuantizeLinear(x, s Z) y = DequantizeLinear(q, s Z) }"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> {graph.replace(" Z", "" if stored is None else ", z")}'
    )
    tensors = {"s": np.float32(0.5)} | ({} if stored is None else {"z": stored})
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in tensors.items())
    onnx.save(model, str(tmp_path / "model.onnx"))
    expected = {} if ends is None else {"y": (0.5, ends[0] * 0.5, ends[1] * 0.5)}
    assert output_grids(tmp_path / "model.onnx") == expected


def test_weights_in_functions_and_in_a_second_file_are_found(tmp_path):
    """A model's own functions are looked into, and weights in a second file need not be there to be counted."""
    import onnx
    from onnx import helper

    graph = Graph()
    graph.nodes.append(helper.make_node("Layer", ["x", graph.weights(np.float16)], ["made"], domain="mine"))
    graph.end = "made"
    model, to = graph.model(), {"to": onnx.TensorProto.FLOAT16}
    body = [
        helper.make_node("Cast", ["a"], ["half"], **to),
        helper.make_node("MatMul", ["half", "b"], ["product"]),
        helper.make_node("Cast", ["product"], ["c"], to=onnx.TensorProto.FLOAT),
    ]
    function = helper.make_function("mine", "Layer", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    assert onnx_layers.layers(path) == [Layer("fp16", WIDTH * WIDTH)]


# TFLite


def converted(path, function, **settings):
    """Convert a function of (N, 8) to TFLite; gives the path."""
    tf = tensorflow()
    module = tf.Module()
    module.f = tf.function(function, input_signature=[tf.TensorSpec((None, WIDTH), tf.float32, name="x")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.f.get_concrete_function()], module)
    for name, value in settings.items():
        setattr(converter, name, value)
    path.write_bytes(converter.convert())
    return path


def products(x, wide=300):
    """Compute two small products and a wide one."""
    tf = tensorflow()
    for weights in (np.eye(WIDTH), np.eye(WIDTH), np.ones((WIDTH, wide))):
        x = tf.nn.relu(x @ tf.constant(weights.astype(np.float32)))
    return x


def quantized_input(x):
    """Compute the same of an input that is quantized to 8 bits and back."""
    return products(tensorflow().quantization.fake_quant_with_min_max_args(x, 0.0, 1.0))


def test_the_weights_of_a_tflite_decide(tmp_path):
    """A quantized input makes no INT8 of FP32 weights; a dynamic range leaves small weights in FP32, and is INT8."""
    smaller = {"optimizations": [tensorflow().lite.Optimize.DEFAULT]}
    for name, function, settings, expected in (
        ("fp32", products, {}, "3 FP32"),
        ("quantized input", quantized_input, {}, "3 FP32"),
        ("dynamic range", products, smaller, "1 INT8, 2 FP32"),
    ):
        layers = tflite_layers.layers(converted(tmp_path / f"{name}.tflite", function, **settings))
        assert described(layers) == f"layers with weights: {expected}", name
        assert precision_of(layers) == ("int8" if "INT8" in expected else "fp32"), name


# What the suite itself converts


@pytest.fixture(scope="session")
def digits(pytestconfig):
    """Chain of the bundled digits classifier, in the artifact folder of this run."""
    spec = load_model(find_model("digits_vgg"))
    store = next(iter(pytestconfig.stash[CHAINS].values())).store
    return Chain(spec, datasets.locate(spec.dataset, input_name=spec.inputs[0].name), store)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_the_suites_own_engines_are_what_they_are_called(digits, format_, precision):
    """Brought back as files, the bundled classifier's own engines have the precision that they were converted to."""
    module = {"onnx": onnx_layers, "tflite": tflite_layers}[format_]
    layers = module.layers(digits.file(Variant(format_, precision)))
    assert precision_of(layers) == precision
    # The first layer stays in FP32 where ONNX Runtime quantizes: see engines/formats/onnx/build.py.
    others = [layer for layer in layers if layer.precision != precision]
    assert [layer.precision for layer in others] == (["fp32"] if (format_, precision) == ("onnx", "int8") else [])
    assert len(layers) == 9


def test_the_header_says_what_a_brought_file_is_judged_as_and_why(digits, tmp_path):
    """Before any test runs, path, variant and the layers of each precision are shown."""
    path, spec = digits.file(Variant("onnx", "int8")), digits.spec
    chain = replace(digits, spec=brought_engine("onnx", path, spec), brought={"onnx": path})
    config = SimpleNamespace(stash={CHAINS: {spec.name: chain}}, getoption=lambda _: tmp_path)
    expected = f"brought: {path}, judged as onnx-int8 (layers with weights: 8 INT8, 1 FP32)"
    assert expected in pytest_report_header(config)
