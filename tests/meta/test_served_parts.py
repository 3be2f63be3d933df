"""Served models without a server of the field: addresses, repositories for Triton, and answers that must be refused."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from commands.export_triton import COMMAND
from conformance.report.speed import speed
from engines.errors import RunnerError, SpecError
from engines.formats import registry
from engines.formats.served import runner as running
from engines.formats.served.address import TOKEN, named, parse
from engines.formats.served.client import AUTHORITIES, GoneError
from engines.formats.served.runner import ServedRunner
from engines.model import selection
from engines.store import Store
from engines.variant import Variant
from tests.meta import tls

pytest.importorskip("tritonclient", reason="tritonclient is not installed")

VARIANT = Variant("served", "fp32", instance="digits_vgg")


# Addresses.


def test_an_address_is_read():
    """Protocol, server, model, version and precision are told apart; a version and a precision may be left out."""
    found = parse("grpcs://[::1]:8001/digits_vgg:3?precision=int8")
    assert (found.protocol, found.encrypted, found.server, found.local) == ("grpc", True, "[::1]:8001", True)
    assert (found.model, found.version, found.precision, found.name) == ("digits_vgg", "3", "int8", "digits_vgg.3")
    plain = parse("http://example.org:80/m")
    assert (plain.version, plain.precision, plain.local) == ("", "fp32", False)


REFUSED = {
    "localhost:8001/m": "no such address",
    "ftp://localhost:8001/m": "no such address",
    "grpc://localhost/m": "no such address",
    "grpc://localhost:99999/m": "Port out of range",
    "grpc://me:secret@localhost:1/m": f"it has a user; allowed: a token in the environment variable {TOKEN}",
    "grpc://localhost:1/": "its model is ''",
    "grpc://localhost:1/a/b": "its model is 'a/b'",
    "grpc://localhost:1/m:new": "its version is 'new'",
    "grpc://localhost:1/m?precision=fp8": "its precision is fp8; allowed: one of fp32, fp16, int8",
    "grpc://localhost:1/m?speed=high": "it asks for speed; allowed: precision",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_address_is_refused(text):
    """What is no address is refused by the option, with what was found and what is allowed, before anything runs."""
    with pytest.raises(SpecError) as told:
        registry.settings({"served": [text]})
    assert str(told.value).startswith(f"--served {text}: ")
    assert REFUSED[text] in str(told.value)
    assert "; allowed: " in str(told.value)


def test_each_address_is_a_variant(digits):
    """Every address is a variant of its own, whatever precisions a description names; several models take none."""
    urls = [
        "grpc://localhost:1/m",
        "grpc://localhost:1/m:2",
        "http://localhost:2/m",
        "grpc://localhost:1/m?precision=int8",
    ]
    names = list(named(urls))
    assert names == ["fp32-m-grpc-localhost-1", "fp32-m.2", "fp32-m-http-localhost-2", "int8-m"]
    chosen = {"models": ["digits_vgg"], "precisions": ["onnx=fp32"], "settings": {"served": urls}}
    (chain,) = selection.chains(digits.store, **chosen).values()
    assert [str(v) for v in chain.variants if v.format == "served"] == [f"served-{name}" for name in names]
    assert not [v for v in digits.variants if v.format == "served"]
    with pytest.raises(SpecError, match=r"^--served is for one model"):
        selection.chains(digits.store, **{**chosen, "models": ["digits_vgg", "cifar10_vgg"]})


# Repositories for Triton.


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_a_repository_is_what_tritons_protobuf_takes(digits, tmp_path, backend, capsys):
    """The command writes the engine and a configuration that Triton's own protobuf reads back, from the description."""
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

    words = ["digits_vgg", str(tmp_path), "--backend", backend, "--instances", "2", "--version", "3"]
    assert COMMAND.main([*words, "--artifacts", str(digits.store.root)]) == 0
    assert "config.pbtxt" in capsys.readouterr().out
    model = tmp_path / "digits_vgg"
    config = text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("digits_vgg", backend, 32)
    assert [(t.name, list(t.dims), t.data_type) for t in config.input] == [("input_1", [10, 8, 1], 11)]
    assert [list(t.dims) for t in config.output] == [[10]]
    assert [(g.count, g.kind) for g in config.instance_group] == [(2, ModelInstanceGroup.KIND_CPU)]
    assert list(config.dynamic_batching.preferred_batch_size) == [16, 32]
    assert config.version_policy.HasField("all")
    engine = digits.file(Variant("onnx", "fp32"))
    assert (model / "3" / "model.onnx").read_bytes() == engine.read_bytes()
    assert (model / "3" / "model.py").is_file() == (backend == "python")


def test_versions_of_one_model_have_one_configuration(digits, tmp_path):
    """Another version is added beside the first; one that would change what the first is served by is refused."""
    words = ["digits_vgg", str(tmp_path), "--artifacts", str(digits.store.root)]
    assert COMMAND.main(words) == 0
    assert COMMAND.main([*words, "--version", "2", "--precision", "int8"]) == 0
    assert sorted(p.name for p in (tmp_path / "digits_vgg").iterdir()) == ["1", "2", "config.pbtxt"]
    assert COMMAND.main([*words, "--version", "2", "--backend", "python"]) == 1
    assert not (tmp_path / "digits_vgg" / "2" / "model.py").exists()


def test_a_repository_of_what_there_is_not_is_refused(digits, tmp_path, capsys):
    """A precision that the model has no engine of is refused by name, with those there are."""
    assert COMMAND.main(["digits_vgg", str(tmp_path), "--precision", "fp8", "--artifacts", str(digits.store.root)]) == 1
    assert "has no onnx-fp8; precisions allowed: fp32, fp16, int8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# A server of the protocol that does what no sound one does.


class Stub(BaseHTTPRequestHandler):
    """The protocol over HTTP, as JSON, for a model of 10 x 8 x 1 pixels and ten scores; ``fault`` is what is wrong."""

    fault = ""
    answered = 0

    def log_message(self, *_):
        """Nothing."""

    def do_GET(self):
        """Metadata and readiness."""
        if self.fault == "token" and self.headers.get("authorization") != "Bearer right":
            return self._send(401, {"error": "no such token"})
        if self.path == "/v2":
            return self._send(200, {"name": "stub", "version": "1", "extensions": []})
        if self.path.endswith("/ready"):
            return self._send(400 if self.fault == "ready" else 200, {})
        if self.path.endswith("/config"):
            return self._send(404, {"error": "no such extension"})
        dtype = "FP64" if self.fault == "dtype" else "FP32"
        given = {"name": "input_1", "datatype": dtype, "shape": [-1, 10, 8, 3 if self.fault == "shape" else 1]}
        answer = {"name": "dense_1", "datatype": "FP32", "shape": [-1, 10]}
        versions = None if self.fault == "kserve" else ["1"]
        found = {"name": "m", "versions": versions, "platform": "", "inputs": [given], "outputs": [answer]}
        return self._send(200, found)

    def do_POST(self):
        """An answer."""
        content = self.rfile.read(int(self.headers["content-length"]))
        if self.fault == "kserve" and self.headers.get("content-type") != "application/json":
            return self._send(400, {"error": "received byte inputs"})
        request = json.loads(content)
        type(self).answered += 1
        if self.fault == "dies":
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        (given,) = request["inputs"]
        count = given["shape"][0] // (2 if self.fault == "half" else 1)
        shape, values = [count, 10], np.zeros(count * 10).tolist()
        values = values[: len(values) // 2] if self.fault == "short" else values
        name = "another" if self.fault == "name" else "dense_1"
        dtype = "INT32" if self.fault == "answer" else "FP32"
        identity = "0" if self.fault == "request" else request["id"]
        version = {"version": str(self.answered), "kserve": None}.get(self.fault, "1")
        outputs = [{"name": name, "datatype": dtype, "shape": shape, "data": values}]
        answer = {"id": identity, "model_name": "m", "model_version": version, "outputs": outputs}
        return self._send(200, answer)

    def _send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def stub(fault):
    """Serve the stub with a fault; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Faulty", (Stub,), {"fault": fault}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/m"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(chain, url, count=8):
    """Answers of a served model to the first samples, in two requests."""
    with ServedRunner(chain.spec, VARIANT, parse(url), batch_size=max(1, count // 2)) as runner:
        return runner(chain.samples.take(0, count).inputs)


FAULTS = {
    "ready": "it is not ready; expected it served by stub 1",
    "dtype": r"inputs 'input_1' is FP64; expected FP32 \(.*digits_vgg.toml\)",
    "shape": r"inputs 'input_1' has shape \(N, 10, 8, 3\); expected \(N, 10, 8, 1\)",
    "token": f"asks for a token, and .{TOKEN} has none: ",
    "half": r"output 'dense_1' has shape \(2, 10\) for a batch of 4; expected \(4, 10\)",
    "short": "output 'dense_1' is not what its shape says: cannot reshape",
    "name": "the answer lacks output 'dense_1'; it has another",
    "answer": "output 'dense_1' is int32 .*; expected float32",
    "request": "answers request '0'; asked was '[12]'",
    "version": "version [12] answers, [12] before; name one: /m:[12]",
    "dies": "it was not back within 0 s",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_is_told_in_one_line(digits, fault, monkeypatch):
    """Whatever a server gets wrong is one line with URL, model and what was found; nothing is passed on."""
    monkeypatch.setattr(running, "RESTART_S", 0.0)
    with stub(fault) as url, pytest.raises(RunnerError, match=f"^{url[:-2]}: model 'm'.*{FAULTS[fault]}") as told:
        ask(digits, url)
    assert "\n" not in str(told.value)


def test_a_sound_server_is_asked_with_a_token(digits, monkeypatch):
    """The stub without a fault is answered, and a token of the environment reaches the server; a wrong one is told."""
    with stub("") as url:
        assert ask(digits, url)["dense_1"].shape == (8, 10)
    with stub("token") as url:
        monkeypatch.setenv(TOKEN, "right")
        assert ask(digits, url)["dense_1"].shape == (8, 10)
        monkeypatch.setenv(TOKEN, "wrong")
        with pytest.raises(RunnerError, match=f"refuses the token of .{TOKEN}: "):
            ask(digits, url)


def test_what_kserve_says_is_understood(digits, monkeypatch):
    """A server that has null for versions, and takes JSON for bytes unless it is told, is asked; with a token, too."""
    with stub("kserve") as url:
        assert ask(digits, url)["dense_1"].shape == (8, 10)
        monkeypatch.setenv(TOKEN, "any")
        assert ask(digits, url)["dense_1"].shape == (8, 10)


@pytest.mark.parametrize("scheme", ["grpc", "http", "grpcs", "https"])
def test_a_server_that_is_not_there_is_told(digits, scheme):
    """Where nobody listens, the line says so at once, by every protocol."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(RunnerError, match=f"^{url}: model 'm': cannot be reached: ") as told:
            ask(digits, f"{url}/m")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_server_without_tls_is_told(digits, scheme):
    """A server that knows no TLS, asked over it, is told as one that cannot be reached."""
    with stub("") as url, pytest.raises(RunnerError, match=r"cannot be reached: .*(?i:ssl|tls|handshake)") as told:
        ask(digits, url.replace("http", scheme))
    assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Certificates of our own authority, and of another one."""
    return tls.certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(authority, monkeypatch):
    """Our authority is trusted by both protocols."""
    for name in AUTHORITIES.values():
        monkeypatch.setenv(name, authority.trusted())


CERTIFICATES = {
    "expired": "certificate has expired",
    "elsewhere": "(it is not one of this host|Hostname mismatch, certificate is not valid for 'localhost')",
    "untrusted": "unable to get local issuer certificate",
}


@pytest.mark.parametrize("certificate", CERTIFICATES)
@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_certificate_that_is_refused_is_told(digits, authority, trusted, scheme, certificate):
    """A certificate that has expired, is another host's, or is by nobody we know: one line that says which, at once."""
    with tls.in_front(authority.context(certificate)) as port:
        line = rf"^{scheme}://localhost:{port}: model 'm': its certificate is refused: {CERTIFICATES[certificate]}; "
        line += rf"expected one of localhost, .*: \${AUTHORITIES[scheme[:-1]]} names a file of these$"
        with pytest.raises(RunnerError, match=line) as told:
            ask(digits, f"{scheme}://localhost:{port}/m")
    assert not isinstance(told.value, GoneError)


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_an_authority_that_cannot_be_read_is_told(digits, tmp_path, monkeypatch, scheme):
    """A file of authorities that is not there, or holds none, is named with its variable before anybody is asked."""
    variable = AUTHORITIES[scheme[:-1]]
    for path in (tmp_path / "none.pem", tmp_path, Path(__file__)):
        monkeypatch.setenv(variable, str(path))
        with pytest.raises(RunnerError, match=rf"\${variable} is {path}; expected a file of certificates in PEM"):
            ask(digits, f"{scheme}://localhost:1/m")


def test_a_server_with_a_certificate_is_asked(digits, authority, trusted):
    """Over TLS the stub is answered as without, where its certificate is one that we trust."""
    with stub("") as url, tls.in_front(authority.context("good"), parse(url).port) as port:
        assert ask(digits, f"https://localhost:{port}/m")["dense_1"].shape == (8, 10)


def test_half_a_batch_and_a_refused_token_over_grpc(digits):
    """Over gRPC, too, half a batch is no answer, and a refused token is told as such."""
    import grpc
    from tritonclient.grpc import service_pb2 as messages
    from tritonclient.grpc import service_pb2_grpc as services

    class Half(services.GRPCInferenceServiceServicer):
        refuses = False

        def ServerMetadata(self, request, context):  # noqa: N802 - the protocol's names
            if self.refuses:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")
            return messages.ServerMetadataResponse(name="half", version="1")

        def ModelReady(self, request, context):  # noqa: N802
            return messages.ModelReadyResponse(ready=True)

        def ModelMetadata(self, request, context):  # noqa: N802
            found = messages.ModelMetadataResponse(name="m", versions=["1"])
            found.inputs.add(name="input_1", datatype="FP32", shape=[-1, 10, 8, 1])
            found.outputs.add(name="dense_1", datatype="FP32", shape=[-1, 10])
            return found

        def ModelInfer(self, request, context):  # noqa: N802
            count = request.inputs[0].shape[0] // 2
            found = messages.ModelInferResponse(model_name="m", model_version="1", id=request.id)
            found.outputs.add(name="dense_1", datatype="FP32", shape=[count, 10])
            found.raw_output_contents.append(np.zeros((count, 10), np.float32).tobytes())
            return found

    served = Half()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    services.add_GRPCInferenceServiceServicer_to_server(served, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        url = f"grpc://127.0.0.1:{port}/m"
        with pytest.raises(RunnerError, match=r"has shape \(2, 10\) for a batch of 4; expected \(4, 10\)"):
            ask(digits, url)
        served.refuses = True
        with pytest.raises(RunnerError, match=f"asks for a token, and .{TOKEN} has none: no such token"):
            ask(digits, url)
    finally:
        server.stop(0).wait()


def test_a_server_that_cannot_be_opened_fails_once(digits):
    """The artifact is the address alone: nothing is asked before a runner is opened, and that error is blamed once."""
    (chain,) = selection.chains(
        Store(digits.store.root), models=["digits_vgg"], settings={"served": ["grpc://127.0.0.1:1/m"]}
    ).values()
    variant = next(v for v in chain.variants if v.format == "served")
    assert json.loads(chain.file(variant).read_text())["port"] == 1
    with pytest.raises(RunnerError, match="cannot be reached") as told:
        chain.runner(variant)
    assert str(told.value.unusable) == "served-fp32-m of digits_vgg cannot be opened"


@pytest.mark.parametrize(
    "server", [{"queue": 2.0, "compute_input": 0.5, "compute_infer": 3.0, "compute_output": 0.5}, None]
)
def test_the_report_has_client_and_server_time_apart(server):
    """The table has what clients saw, and the server's queue and work beside it; a dash where it counts nothing."""
    row = {"model": "m", "variant": "served-fp32-m", "clients": 8, "batch": 32, "requests": 9, "server_ms": server}
    row |= {"samples_per_second": 1234.0, "p50_ms": 7.0, "p99_ms": 9.0}
    document = {
        "benchmarks": [],
        "floors": [],
        "artifacts": [{"model": "m", "variant": "served-fp32-m", "bytes": 9, "build_seconds": 0.0}],
        "models": [{"name": "m", "reference": "savedmodel-fp32"}],
        "variants": [
            {"model": "m", "variant": "served-fp32-m", "format": "served", "precision": "fp32", "profile": "m"}
        ],
        "served": [row],
    }
    text = str(speed(document))
    assert "Served speed of m" in text
    for figure in ("1,234", "7.000", "9.000", *(("2.000", "4.000") if server else ("–",))):
        assert figure in text
