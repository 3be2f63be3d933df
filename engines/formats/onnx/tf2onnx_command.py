"""tf2onnx's command, with the operator that it lacks: ``python -m engines.formats.onnx.tf2onnx_command``, with its options.

TensorFlow writes the exact GELU, and with it most transformers, with Erfc, which neither tf2onnx 1.17 nor ONNX knows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import convert, utils
from tf2onnx.handler import tf_op


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


if __name__ == "__main__":
    convert.main()
