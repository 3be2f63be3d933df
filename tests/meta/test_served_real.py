"""Served models on real servers: Triton with our repository, and MLServer; both pass what every variant passes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.errors import RunnerError
from engines.formats.onnx import kernels
from engines.formats.served import repository
from engines.formats.served import runner as running
from engines.formats.served.address import named, parse
from engines.formats.served.client import AUTHORITIES
from engines.formats.served.runner import SHARED, ServedRunner
from engines.formats.served.runner import opened as open_served
from engines.variant import Variant
from tests.meta import servers, tls

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory, digits):
    """A model repository with two versions of the digits classifier: FP32, and INT8, whose answers differ."""
    folder = tmp_path_factory.mktemp("repository")
    for version, precision in ((1, "fp32"), (2, "int8")):
        repository.export(digits, folder, backend=repository.BACKENDS["python"], precision=precision, version=version)
    return folder


@pytest.fixture(scope="module")
def triton(models, tmp_path_factory):
    """Triton with both versions."""
    with servers.triton(models, tmp_path_factory.mktemp("triton")).running() as server:
        yield server


@pytest.fixture(scope="module")
def mlserver(digits, tmp_path_factory):
    """MLServer with the FP32 one."""
    engine = digits.file(Variant("onnx", "fp32"))
    with servers.mlserver(digits.spec, engine, tmp_path_factory.mktemp("mlserver")).running() as server:
        yield server


@pytest.fixture(params=["triton", "mlserver"])
def server(request):
    """Each of the servers."""
    return request.getfixturevalue(request.param)


def asked(chain, url, **options):
    """A runner of the model at an address."""
    address = parse(url)
    return ServedRunner(chain.spec, Variant("served", address.precision, instance=address.name), address, **options)


def expected(chain, precision="fp32"):
    """The first 100 samples of the model, and what ONNX Runtime answers in this process."""
    inputs = chain.samples.inputs
    # A server runs the usual kernels, which saturate on a processor without VNNI.
    settings = {**chain.spec.settings, kernels.OPTION.name: (kernels.USUAL,)}
    with replace(chain, spec=replace(chain.spec, settings=settings)).runner(Variant("onnx", precision)) as runner:
        return inputs, runner(inputs)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_answers_are_those_of_the_file(digits, server, scheme):
    """Either protocol brings the answers that ONNX Runtime gives in this process, in the samples' order."""
    inputs, own = expected(digits)
    with asked(digits, server.url("digits_vgg:1", scheme)) as runner:
        np.testing.assert_allclose(runner(inputs)["dense_1"], own["dense_1"], atol=1e-6)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_answers_over_tls_are_those_of_the_file(digits, server, tmp_path, monkeypatch, scheme):
    """Either protocol brings the same answers through TLS, by a certificate of an authority that is trusted."""
    authority = tls.certificates(tmp_path)
    monkeypatch.setenv(AUTHORITIES[scheme], authority.trusted())
    inputs, own = expected(digits)
    behind = server.grpc if scheme == "grpc" else server.http
    with tls.in_front(authority.context("good"), behind) as port:
        with asked(digits, f"{scheme}s://localhost:{port}/digits_vgg:1") as runner:
            np.testing.assert_allclose(runner(inputs)["dense_1"], own["dense_1"], atol=1e-6)
        monkeypatch.setenv(AUTHORITIES[scheme], authority.trusted("others"))
        with pytest.raises(RunnerError, match="its certificate is refused: unable to get local issuer certificate"):
            asked(digits, f"{scheme}s://localhost:{port}/digits_vgg:1")


@pytest.mark.parametrize("scheme", ["grpc", pytest.param("http", marks=pytest.mark.slow)])
def test_the_suite_passes(digits, server, scheme):
    """All that is checked of a variant holds over a server, by either protocol: one command, as a user types it."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--model=digits_vgg"]
    words += [f"--served={server.url('digits_vgg:1', scheme)}", "--require=served-*", "-k", "served-fp32"]
    words += [f"--artifacts={digits.store.root}", "--benchmark-disable" if scheme == "http" else "--benchmark-enable"]
    words += ["tests/test_consistency.py", "tests/test_batching.py", "tests/test_accuracy.py", "tests/test_served.py"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "served-fp32-digits_vgg.1" in done.stdout


def test_two_versions_are_told_apart(digits, triton):
    """Each version answers for itself, as the same file does in this process, and not as the other one does."""
    answers = {}
    for version, precision in (("1", "fp32"), ("2", "int8")):
        inputs, own = expected(digits, precision)
        with asked(digits, triton.url(f"digits_vgg:{version}")) as runner:
            assert runner.metadata.versions == ("1", "2") or version in runner.metadata.versions
            answers[version] = runner(inputs)["dense_1"]
        np.testing.assert_allclose(answers[version], own["dense_1"], atol=0.05 if precision == "int8" else 1e-5)
    assert np.abs(answers["1"] - answers["2"]).max() > 1e-3
    with pytest.raises(
        RunnerError, match=r"^grpc://127.0.0.1:\d+: model 'digits_vgg', version 7: .*not ready|version 7"
    ):
        asked(digits, triton.url("digits_vgg:7"))


def test_shared_memory_is_taken_where_it_is_offered(digits, triton, mlserver):
    """Triton on this machine is asked over shared memory, too, and gives the same bits; MLServer offers none."""
    inputs = digits.samples.inputs
    for server, offered in ((triton, True), (mlserver, False)):
        address = parse(server.url("digits_vgg"))
        with open_served(digits.spec, Variant("served", "fp32", instance="x"), address) as runner:
            assert [beside.way for beside in runner.beside] == ([SHARED] if offered else [])
            for beside in runner.beside:
                np.testing.assert_array_equal(beside(inputs)["dense_1"], runner(inputs)["dense_1"])


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_restart_in_the_middle_loses_and_doubles_nothing(digits, models, tmp_path, scheme):
    """A server that is killed and comes back while it is asked: every sample has its own answer, once."""
    inputs, own = expected(digits)
    many = {name: np.concatenate([array] * 20) for name, array in inputs.items()}
    with (
        servers.triton(models, tmp_path).running() as server,
        asked(digits, server.url("digits_vgg:1", scheme), batch_size=1) as runner,
    ):

        def restart():
            time.sleep(0.3)
            server.kill(signal.SIGKILL)
            server.start()

        thread = threading.Thread(target=restart)
        thread.start()
        try:
            outputs = runner(many)["dense_1"]
        finally:
            # Or it would start a server that nobody ends.
            thread.join()
        assert runner.retried > 0
    np.testing.assert_allclose(outputs, np.concatenate([own["dense_1"]] * 20), atol=1e-5)


def test_a_server_that_dies_is_reported(digits, models, tmp_path, monkeypatch):
    """A server that does not come back: one line with URL and model, and no answer."""
    monkeypatch.setattr(running, "RESTART_S", 1.0)
    with servers.triton(models, tmp_path).running() as server, asked(digits, server.url("digits_vgg:1")) as runner:
        server.kill()
        with pytest.raises(
            RunnerError, match=r"^grpc://127.0.0.1:\d+: model 'digits_vgg', version 1: .* not back"
        ) as told:
            runner(digits.samples.inputs)
        assert "\n" not in str(told.value)


def test_a_model_of_another_description_is_refused(digits, triton):
    """Names, dtypes, sizes and the largest batch are compared with the description before anything is asked."""
    spec, address = digits.spec, parse(triton.url("digits_vgg:1"))
    (item,), (profile, *_) = spec.inputs, spec.profiles
    others = {
        "input_1' is FP32; expected UINT8": replace(spec, inputs=(replace(item, dtype="uint8"),)),
        r"shape \(N, 10, 8, 1\); expected \(N, 10, 9, 1\)": replace(
            spec, inputs=(replace(item, shape=("batch", 10, 9, 1)),)
        ),
        "batches of at most 32; expected 64 or more": replace(spec, profiles=(replace(profile, max=64),)),
    }
    for message, other in others.items():
        with pytest.raises(RunnerError, match=f"^grpc://127.0.0.1:.*model 'digits_vgg', version 1.*{message}"):
            ServedRunner(other, Variant("served", "fp32", instance="x"), address)


def test_the_same_model_on_two_servers_has_two_names(triton, mlserver):
    """Variants of one model at two addresses are told apart by the server; one alone has the model's name."""
    urls = [triton.url("digits_vgg"), mlserver.url("digits_vgg")]
    assert list(named(urls[:1])) == ["fp32-digits_vgg"]
    assert len(named(urls)) == 2
