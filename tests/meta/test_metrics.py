"""`--metrics` is scraped over HTTP while real runs last; what throttles is named wherever the figure stands."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from fixtures.chain import CHAINS
from fixtures.metrics import EVERYWHERE, parsed
from tests.meta import stand_in_nvml
from tests.meta.apart import environment_apart
from tests.meta.valid import validate

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
psutil = pytest.importorskip("psutil", reason="psutil is not installed")

ROOT = Path(__file__).resolve().parents[2]
FAST = "tests/meta/test_device_floors.py"
"""Tests that need no framework."""

CASE = {"model": "digits_vgg", "variant": "onnx-fp32"}
HEAT = "CPU heat, "

BATCHES = (32, 1, 64)
"""What is timed, in this order: what is known of the last may be seen by no scrape."""


def scraped(url):
    """Values of a scrape by name and labels; None where nothing answers. Each line has to be what Prometheus reads."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    except (URLError, ConnectionError):
        return None
    families = list(parser.text_string_to_metric_families(text))
    assert all(family.documentation and family.type in {"counter", "gauge"} for family in families)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def of(name, **labels):
    """Key of a value."""
    return name, tuple(sorted(labels.items()))


class Run:
    """A run of pytest that is scraped from its header to its end."""

    def __init__(self, config, *words, **environment):
        artifacts = next(iter(config.stash[CHAINS].values())).store.root.resolve()
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--model=digits_vgg"]
        process = subprocess.Popen(
            [*command, f"--artifacts={artifacts}", *map(str, words)],
            cwd=ROOT,
            env=environment_apart(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.url, self.scrapes, self.alone, lines = None, [], 0, []
        with process:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("metrics: "):
                    self.url = line.split()[1]
                    break
            # What it prints until its end fits in a pipe: a test is a dot.
            while process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    self.alone = max(self.alone, psutil.Process(process.pid).memory_info().rss)
                self.scrapes.append(scraped(self.url))
                time.sleep(0.05)
            self.output = "".join([*lines, process.stdout.read()])
        self.code = process.returncode
        self.scrapes = [scrape for scrape in self.scrapes if scrape]


@pytest.fixture(scope="module")
def hot(pytestconfig, tmp_path_factory):
    """Run of the benchmarks of one variant, with heat while batch 32 is timed; its report's folder stands beside it."""
    folder = tmp_path_factory.mktemp("hot")
    words = [f"tests/test_throughput.py::test_throughput[digits_vgg-onnx-fp32-{batch}]" for batch in BATCHES]
    words += ["--benchmark-only", f"--report={folder}", "-p", "tests.meta.stand_in_meters", "--metrics=127.0.0.1:0"]
    return Run(pytestconfig, *words, STAND_IN_HEAT=str(folder / "heat")), folder


@pytest.fixture(scope="module")
def written(hot):
    """Document of that run."""
    document = json.loads((hot[1] / "conformance.json").read_text(encoding="utf-8"))
    validate(document)
    return document


def test_progress_is_seen_while_the_run_lasts(hot):
    """The share of tests that are done grows from none, tests are counted by outcome, and at the end nobody listens."""
    run, _ = hot
    assert run.code == 0, run.output
    ratios = [scrape[of("conformance_progress_ratio")] for scrape in run.scrapes]
    assert ratios == sorted(ratios)
    assert ratios[0] == 0
    assert 1 / 3 in ratios
    assert 2 / 3 in ratios
    last = run.scrapes[-1]
    assert last[of("conformance_tests_selected")] == len(BATCHES)
    assert last[of("conformance_tests_total", outcome="passed")] == pytest.approx(len(BATCHES) * ratios[-1])
    assert last[of("conformance_tests_total", outcome="failed")] == 0
    assert abs(last[of("conformance_run_start_time_seconds")] - time.time()) < 600
    assert scraped(run.url) is None


def test_figures_are_served_as_soon_as_they_are_known(hot, written):
    """Throughput by model, variant and batch is what the report says, with needed over allowed."""
    last = hot[0].scrapes[-1]
    rates = {str(b["batch"]): b["samples_per_second"] for b in written["benchmarks"]}
    served = {
        dict(labels)["batch"]: v for (name, labels), v in last.items() if name == "conformance_samples_per_second"
    }
    assert {"32", "1"} <= served.keys()
    assert all(rates[batch] == pytest.approx(value) for batch, value in served.items())
    assert 0 < last[of("conformance_usage_ratio", **CASE)] <= 1


def test_meters_are_served_in_base_units(hot):
    """Processor time grows, memory is that of a process with TensorFlow or ONNX Runtime, and the GPU has all it has."""
    run, _ = hot
    read = [scrape for scrape in run.scrapes if of("conformance_process_resident_memory_bytes") in scrape]
    seconds = [scrape[of("conformance_process_cpu_seconds_total")] for scrape in read]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0
    assert 5e7 < read[-1][of("conformance_process_resident_memory_bytes")] < 2e10
    gpu = {"gpu": "0", "uuid": stand_in_nvml.UUID, "model": "stand-in GPU"}
    values = {"load_ratio": 0.93, "memory_used_bytes": 3e9, "power_watts": 512.345, "clock_hertz": 1.98e9}
    for name, value in {**values, "temperature_celsius": 61}.items():
        assert read[-1][of(f"conformance_gpu_{name}", **gpu)] == pytest.approx(value)
    assert read[-1][of("conformance_throttling_total", cause="CPU heat")] > 7
    assert read[-1][of("conformance_throttling_total", cause="GPU 0 power brake")] == 0


def test_every_metric_stands_in_the_documentation(hot):
    """What is served is listed with its labels, and nothing is listed that is not served."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(conformance_\w+)` \| (.*?) \|", text, re.MULTILINE)
    listed = {name: re.findall(r"`(\w+)`", labels) for name, labels in rows}
    same = next(labels for labels in listed.values() if "uuid" in labels)
    served = {name: [label for label, _ in labels] for name, labels in hot[0].scrapes[-1]}
    assert {name: sorted(labels) for name, labels in served.items()} == {
        name: sorted(same if name.startswith("conformance_gpu") else labels) for name, labels in listed.items()
    }


def test_what_was_throttled_is_named_beside_its_figure(hot, written):
    """Batch 32 and no other: in the table, below it, in JSON, on the page, in the summary, and to Prometheus."""
    run, folder = hot
    throttled = {b["batch"]: b["throttled"] for b in written["benchmarks"]}
    assert {batch: [what.startswith(HEAT) for what in found] for batch, found in throttled.items()} == {
        1: [],
        32: [True],
        64: [],
    }
    (what,) = throttled[32]
    assert re.search(r"digits_vgg-onnx-fp32 .* [\d,]+ (~ )?!\s+passed", run.output)
    assert f"digits_vgg-onnx-fp32 was throttled while it was timed (!), at batch 32: {what}\n" in run.output
    assert f"onnx-fp32 was throttled while it was timed (!): at batch 32: {what}" in (folder / "summary.md").read_text()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<td>32</td><td>[\d,]+( ~)? !</td>", page)
    assert len(re.findall(rf'<td class="w">{re.escape(what)}</td>', page)) >= 1
    assert run.scrapes[-1][of("conformance_throttled", batch="32", **CASE)] == 1
    assert run.scrapes[-1][of("conformance_throttled", batch="1", **CASE)] == 0


def test_the_report_has_the_machine_over_the_run(hot, written):
    """Rows cover the run to its last test; measurements stand in them with variant and test; the GPU is described."""
    meters = written["meters"]
    assert [(c["name"], c["of"]) for c in meters["columns"]] == [
        ("processor", None),
        ("memory", None),
        *((name, "GPU 0") for name in ("load", "memory", "power", "clock", "temperature")),
    ]
    rows, spans = meters["rows"], [m for m in meters["measurements"] if m["test"].endswith("-32]")]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(rows))
    assert 2 < rows[-1][1] <= written["seconds"] + 1
    assert {(m["model"], m["variant"]) for m in meters["measurements"]} == {("digits_vgg", "onnx-fp32")}
    hot_rows = [row for row in rows if row[2]]
    assert {name for row in hot_rows for name in row[2]} == {"CPU heat"}
    assert any(row[0] < m["end"] and row[1] > m["start"] for row in hot_rows for m in spans)
    (gpu,) = meters["gpus"]
    assert gpu == {
        "name": "GPU 0",
        "model": "stand-in GPU",
        "uuid": stand_in_nvml.UUID,
        "power_limit_watts": 700.0,
        "memory_bytes": 150 * 10**9,
    }
    assert meters["problems"] == []


def test_several_processes_are_one_run(pytestconfig, tmp_path):
    """With -n the process that starts the workers serves, on IPv6 here, and what it reads holds the workers' memory."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"there is no IPv6 here: {error}")
    run = Run(pytestconfig, FAST, "-n", "2", f"--report={tmp_path}", "--metrics=[::1]:0")
    assert run.code == 0, run.output
    assert run.url.startswith("http://[::1]:")
    assert run.output.count("metrics: ") == 1
    document = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
    assert run.scrapes[-1][of("conformance_tests_selected")] == document["tests"]["collected"] > 3
    assert max(row[4][2] for row in document["meters"]["rows"]) > 1.5 * run.alone > 0


# Addresses.

ADDRESSES = {
    "localhost:9464": ("localhost", 9464),
    ":9464": (EVERYWHERE, 9464),
    "[::1]:9464": ("::1", 9464),
    "10.0.0.7:0": ("10.0.0.7", 0),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_taken_as_it_is_meant(text):
    """A name, all addresses, IPv6 in brackets, any free port."""
    assert parsed(text) == ADDRESSES[text]


@pytest.mark.parametrize("text", ["", "9464", "localhost", "localhost:", "::1:9464", "h:99999", "http://h:1", "h:1/x"])
def test_what_is_no_address_is_refused(text):
    """The line names the option, what was given, and what is allowed."""
    with pytest.raises(pytest.UsageError, match=rf"^--metrics={re.escape(text)} is no address; allowed: HOST:PORT, as"):
        parsed(text)


def refused(*words):
    """Output of a run that has to be refused before any test."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", FAST, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment_apart(), capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "passed" not in done.stdout
    (line,) = (line for line in done.stderr.splitlines() if line)
    return line


def test_a_port_that_is_taken_ends_the_run_before_any_test():
    """One line with the option and what was found, exit code 4."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused(f"--metrics={address}")
    assert re.fullmatch(
        rf"ERROR: --metrics={address}: cannot listen there: Address already in use; allowed: HOST:PORT, .*", line
    )
    assert "is no address" in refused("--metrics=9464")


SILENT = """
import socket, sys
opened = []
socket.socket.listen = lambda self, *_: opened.append(self)
def pytest_unconfigure(): print("SEEN", "prometheus_client" in sys.modules, len(opened))
"""


def test_without_the_option_nothing_listens(tmp_path):
    """No socket listens, and prometheus-client is not imported."""
    (tmp_path / "silent.py").write_text(SILENT)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "silent", FAST, f"--report={tmp_path}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment_apart(PYTHONPATH=path), capture_output=True, text=True, check=False
    )
    assert "SEEN False 0" in done.stdout, done.stdout + done.stderr


def test_a_missing_package_is_told(monkeypatch):
    """The line names the package and the command that installs it."""
    from fixtures import metrics

    class Config:
        """Options of a run with ``--metrics``."""

        def getoption(self, name, default=None):
            """Value of an option."""
            return "localhost:0" if name == "--metrics" else default

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(pytest.UsageError, match="prometheus-client is not installed"):
        metrics.pytest_configure(Config())
