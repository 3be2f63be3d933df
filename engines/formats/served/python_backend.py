"""An ONNX model on Triton's Python back end, for servers without one for ONNX: they run this file as ``model.py``.

It needs ONNX Runtime in the Python that the server starts, and nothing of this project. The names are Triton's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

Array = Any
Tensors = dict[str, Array]


class TritonPythonModel:
    """Runs ``model.onnx`` beside this file; the requests that Triton hands over at once are one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model of the version that the server loads."""
        self.config = json.loads(args["model_config"])
        engine = Path(args["model_repository"], args["model_version"], "model.onnx")
        options = onnxruntime.SessionOptions()
        options.use_deterministic_compute = True
        self.session = onnxruntime.InferenceSession(str(engine), options, providers=["CPUExecutionProvider"])
        self.inputs = [entry["name"] for entry in self.config["input"]]
        self.outputs = [entry["name"] for entry in self.config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; an error of the model is the answer of those that it was given."""
        parts: list[Tensors] = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        try:
            answers = self._answers(parts)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime raises a dozen unrelated types
            told = pb_utils.TritonError(f"ONNX Runtime: {error}")
            return [pb_utils.InferenceResponse(error=told) for _ in requests]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, np.ascontiguousarray(array))
                    for name, array in zip(self.outputs, answer, strict=True)
                ]
            )
            for answer in answers
        ]

    def _answers(self, parts: list[Tensors]) -> list[list[Array]]:
        """Outputs of each request, run together where the model has a batch axis."""
        if not self.config["max_batch_size"]:
            return [self.session.run(self.outputs, part) for part in parts]
        feeds = {name: np.concatenate([part[name] for part in parts]) for name in self.inputs}
        ends = np.cumsum([len(part[self.inputs[0]]) for part in parts])[:-1]
        outputs = [np.split(array, ends) for array in self.session.run(self.outputs, feeds)]
        return [[output[i] for output in outputs] for i in range(len(parts))]
