"""Real servers of the Open Inference Protocol for the tests, each in a process group of its own that ends with it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

ENVIRONMENTS = "CONFORMANCE_SERVERS"
"""The variable that names the folder which containers/servers made."""

START_S = 60.0
"""How long a server may take to be ready."""

STOP_S = 10.0
"""How long it may take to end before it is killed."""

RUNTIME = Path(__file__).with_name("mlserver_onnx.py")
"""What MLServer runs a model with."""


def missing(name, word):
    """Why this machine has no program of a server; None where it has it."""
    folder = os.environ.get(ENVIRONMENTS)
    if folder and Path(folder, name, "bin", word).is_file():
        return None
    return f"no {word}: ${ENVIRONMENTS} is {folder or 'not set'}; containers/servers DIR makes one"


def program(name, word):
    """Path of a server's program; skips where this machine has none."""
    if reason := missing(name, word):
        pytest.skip(reason)
    return Path(os.environ[ENVIRONMENTS], name, "bin", word)


def free_ports(count):
    """Ports of this machine that nobody listens on; all of them are held until all are chosen."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Server:
    """A server's process on ports of its own; ``kill`` and ``start`` make up a restart."""

    def __init__(self, words, ports, log, environment=None, shared=None):
        self.words, self.log = [str(word) for word in words], log
        self.http, self.grpc = ports[:2]
        self.ports, self.added = ports, environment or {}
        self.process, self.shared = None, shared

    def url(self, model, scheme="grpc"):
        """Address of a model: MODEL or MODEL:VERSION."""
        return f"{scheme}://127.0.0.1:{self.grpc if scheme == 'grpc' else self.http}/{model}"

    def start(self):
        """Start the process, and wait until the server is ready; fails where it ends, or is not ready in time."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.words,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **self.added},
            )
        deadline = time.monotonic() + START_S
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"{self.words[0]} is not ready:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def _ready(self):
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection("127.0.0.1", self.http, timeout=2)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def kill(self, number=signal.SIGKILL):
        """End the process and all that it started."""
        if self.process is None:
            return
        for last in (number, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, last)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        self.process = None
        # A server that is killed leaves its shared memory behind.
        for path in Path("/dev/shm").glob(f"{self.shared}*") if self.shared else ():
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def running(self):
        """Start it, and end it whatever happens."""
        try:
            self.start()
            yield self
        finally:
            self.kill(signal.SIGTERM)


def triton(repository, folder):
    """Triton on a model repository; skips where there is none."""
    path = program("triton", "tritonserver")
    ports = free_ports(3)
    words = [path, f"--model-repository={repository}", "--exit-timeout-secs=5"]
    words += [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)]
    words += ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"]
    shared = f"conformance-{secrets.token_hex(8)}"
    words += [f"--backend-config=python,shm-region-prefix-name={shared}"]
    return Server(words, ports, folder / "triton.log", shared=shared)


def mlserver(spec, engine, folder, runtime=f"{RUNTIME.stem}.OnnxModel"):
    """MLServer on an ONNX file of a model, batching as it likes; skips where there is none."""
    from engines.formats.served.dtypes import PROTOCOL

    path = program("mlserver", "mlserver")
    ports = free_ports(3)
    models = folder / "models" / spec.name
    models.mkdir(parents=True)

    def tensors(items):
        return [
            {
                "name": item.signature_name,
                "datatype": PROTOCOL[item.dtype],
                "shape": [size if isinstance(size, int) else -1 for size in item.shape],
            }
            for item in items
        ]

    described = {
        "name": spec.name,
        "implementation": runtime,
        "platform": "onnxruntime_onnx",
        "max_batch_size": spec.profiles[0].max,
        "max_batch_time": 0.0005,
        "inputs": tensors(spec.inputs),
        "outputs": tensors(spec.outputs),
        "parameters": {"uri": str(engine), "version": "1"},
    }
    (models / "model-settings.json").write_text(json.dumps(described))
    names = ("http_port", "grpc_port", "metrics_port")
    settings = {"host": "127.0.0.1", "parallel_workers": 0, **dict(zip(names, ports, strict=True))}
    (folder / "models" / "settings.json").write_text(json.dumps(settings))
    environment = {"PYTHONPATH": str(RUNTIME.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return Server([path, "start", folder / "models"], ports, folder / "mlserver.log", environment)
