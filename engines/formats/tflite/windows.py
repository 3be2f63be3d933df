"""The windows of a TFLite file: its convolutions and poolings."""

from __future__ import annotations

from pathlib import Path

from engines.formats.tflite.layers import names_of
from engines.windows import Window

OPERATORS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D"})
"""The operators that move a window."""


def windows(path: Path) -> list[Window]:
    """Windows of a file, in the order of its first graph."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    names, padding = names_of(schema.BuiltinOperator), names_of(schema.Padding)
    graph, found = model.subgraphs[0], []
    for operator in graph.operators:
        code, options = model.operatorCodes[operator.opcodeIndex], operator.builtinOptions
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "")
        if name not in OPERATORS or options is None:
            continue
        pooled = name.endswith("_POOL_2D")
        height, width = (
            (options.filterHeight, options.filterWidth)
            if pooled
            else graph.tensors[operator.inputs[1]].shape[1:3].tolist()
        )
        words = f"{height}x{width}"
        if (options.strideH, options.strideW) != (1, 1):
            words += f" in steps of {options.strideH}x{options.strideW}"
        if not pooled and (options.dilationHFactor, options.dilationWFactor) != (1, 1):
            words += f" with gaps of {options.dilationHFactor}x{options.dilationWFactor}"
        found.append(Window(name, words, padding[options.padding]))
    return found
