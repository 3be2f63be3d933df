"""An ONNX model in MLServer, by ONNX Runtime; MLServer itself imports this file."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceResponse


class OnnxModel(MLModel):
    """Runs the file of ``parameters.uri``."""

    async def load(self):
        """Open the file."""
        options = onnxruntime.SessionOptions()
        options.use_deterministic_compute = True
        uri = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self.called = [o.name for o in self.session.get_outputs()]
        return True

    async def predict(self, payload):
        """Answer a request, or a batch of them that MLServer put together."""
        feeds = {i.name: NumpyCodec.decode_input(i) for i in payload.inputs}
        asked = [o.name for o in payload.outputs or ()] or self.called
        try:
            answers = self.session.run(asked, feeds)
        except Exception as error:
            raise InferenceError(f"ONNX Runtime: {error}") from error
        outputs = [NumpyCodec.encode_output(n, np.asarray(a)) for n, a in zip(asked, answers, strict=True)]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)
