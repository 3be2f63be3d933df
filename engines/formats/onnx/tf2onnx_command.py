"""tf2onnx's command, with what it lacks: ``python -m engines.formats.onnx.tf2onnx_command``, with its options.

TensorFlow writes the exact GELU, and with it most transformers, with Erfc, which neither tf2onnx 1.17 nor ONNX knows.
Keras calls grouped convolutions in a function that is compiled by XLA: such a call is never inlined, and tf2onnx takes
it for an operator.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

# TensorFlow loads Keras where it is there, and Keras scikit-learn: a third of all the time, and nothing here asks them.
sys.modules["keras"] = None  # type: ignore[assignment]

from tf2onnx import convert, tf_loader, utils  # noqa: E402
from tf2onnx.handler import tf_op  # noqa: E402


@tf_op("Erfc")
class Erfc:
    """Writes erfc(x) as 1 - erf(x), its definition; Erf is in ONNX since opset 9."""

    @classmethod
    def version_9(cls, context: Any, node: Any, **_: Any) -> None:
        """Replace the node in tf2onnx's graph."""
        output = node.output[0]
        shapes, dtypes = [context.get_shape(output)], [context.get_dtype(output)]
        context.remove_node(node.name)
        one = context.make_const(utils.make_name(node.name), np.ones((), utils.map_onnx_to_numpy_type(dtypes[0])))
        erf = context.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
        context.make_node(
            "Sub", [one.output[0], erf.output[0]], name=node.name, outputs=[output], shapes=shapes, dtypes=dtypes
        )


COMPILED, APART = "_XlaMustCompile", "_noinline"
"""The attributes that keep a function from being inlined: XLA compiles it, or it is to stay apart."""


def inlinable(graph: Any) -> Any:
    """Return a GraphDef, changed in place, whose calls of compiled functions are calls like any other."""
    compiled = {node.attr["f"].func.name for node in graph.node if COMPILED in node.attr and "f" in node.attr}
    for node in graph.node:
        node.attr.pop(COMPILED, None)
    for function in graph.library.function:
        if function.signature.name in compiled:
            for attribute in (COMPILED, APART):
                function.attr.pop(attribute, None)
    return graph


def _inline_before_optimizing() -> None:
    """Have tf2onnx's optimizer, which inlines what may be, meet such calls."""
    optimize = tf_loader.tf_optimize
    tf_loader.tf_optimize = lambda inputs, outputs, graph: optimize(inputs, outputs, inlinable(graph))


if __name__ == "__main__":
    _inline_before_optimizing()
    convert.main()
