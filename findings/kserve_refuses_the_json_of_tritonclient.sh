#!/usr/bin/env bash
# KServe 0.21.0 and tritonclient 2.73.0: over HTTP, KServe's own server refuses requests of Triton's client without binary data.
#
# Both speak the Open Inference Protocol. tritonclient sends its JSON without a Content-Type. KServe's server takes a
# body that is not said to be JSON for a file, and cannot read it. The same request with the header is answered.
# Seen: a model that doubles two numbers. Without the header, status 400: bytes were received, and the length of a header of
# Triton's binary data is missing, though there are none. With it, the doubled numbers. tritonclient can be given the header.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2> /dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kserve==0.21.0 'tritonclient[http]==2.73.0'
cd "$folder"
cat > served.py <<'PY'
import sys

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer


class Twice(Model):
    """Gives numbers twice as large."""

    def load(self):
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        values = payload.inputs[0].as_numpy()
        found = InferOutput(name="y", shape=list(values.shape), datatype="FP32")
        found.set_data_from_numpy(np.float32(2) * values, binary_data=False)
        return InferResponse(response_id=payload.id or "1", model_name=self.name, infer_outputs=[found])


model = Twice("twice")
model.load()
ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([model])
PY
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/python" served.py "$port" > log 2>&1 &
server=$!
"$folder/venv/bin/python" - "$port" <<'PY' || { tail -n 20 log >&2; exit 1; }
import json
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import tritonclient.http as triton

address = f"127.0.0.1:{sys.argv[1]}"
client = triton.InferenceServerClient(address)
for _ in range(120):
    try:
        if client.is_model_ready("twice"):
            break
    except OSError:
        pass
    time.sleep(0.5)
given = triton.InferInput("x", [1, 2], "FP32")
given.set_data_from_numpy(np.float32([[1, 2]]), binary_data=False)
wanted = triton.InferRequestedOutput("y", binary_data=False)
try:
    said = str(client.infer("twice", [given], outputs=[wanted]).as_numpy("y"))
except triton.InferenceServerException as error:
    said = f"{error.status()}: {error.message()}"
again = client.infer("twice", [given], outputs=[wanted], headers={"Content-Type": "application/json"}).as_numpy("y")
print(f"by tritonclient: {' '.join(said.split())[:200]}")
print(f"with a Content-Type: {again.tolist()}")
assert said.startswith("400"), "it is answered now"
assert again.tolist() == [[2.0, 4.0]]
PY
