"""Run a plan with a C++ program: samples handed over in a file, results read back as CSV, in one process for all calls.

What the program says it fed to the engine is compared with what it was given before anything else is looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DataError, RunnerError, WronglyFedError
from engines.formats.native.fed import mistake
from engines.formats.native.server import Server
from engines.formats.tensorrt.runner import Copies
from engines.model import exchange
from engines.runner import Arrays, Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.variant import Variant

STREAMS = 16
"""The streams of a call that is not timed; a call needs no more than it has batches."""

LIBRARIES = {"nvinfer": "trt", "nvinfer_lean": "lean", "nvinfer_dispatch": "dispatch"}
"""TensorRT's libraries that a program may be linked with, by what names of runtimes call them."""


class NativeRunner(Runner):
    """Runs a plan with a C++ program: the first call starts a process that loads the plan, and every call asks it.

    ``report`` is what the program said of the last call (its JSON), ``copies`` the transfers of that call. Raises
    RunnerError where the program is missing, fails or is killed, or was fed anything but the samples that it was given.
    So it does where the results are not one row for each sample, in order. A call that fails is never repeated; where
    it ended the process, the next call starts a new one.
    """

    def __init__(
        self,
        spec: ModelSpec,
        variant: Variant,
        plan: Path,
        program: Path,
        batch_size: int | None = None,
        *,
        allow_host_code: bool = False,
    ) -> None:
        super().__init__(spec, variant, batch_size)
        if not spec.exchangeable or spec.probabilities is None:
            raise RunnerError(f"{variant}: {spec.name} has other than one input and one output of class scores")
        if not program.is_file():
            raise RunnerError(f"{variant}: there is no program {program}; expected it built by CMake (README.md)")
        if not os.access(program, os.X_OK):
            raise RunnerError(f"{variant}: {program} is not executable; expected a program (chmod +x, or build it)")
        if not plan.is_file():
            raise RunnerError(f"{variant}: there is no plan {plan}")
        self.plan, self.program, self.allow_host_code = plan, program.resolve(), allow_host_code
        self.output = spec.probabilities
        self.classes = int(self.output.shape[1])
        self._server: Server | None = None
        self.report: Mapping[str, Any] = {}
        self.copies = Copies(0, 0)
        self.settings = {"program": program.name, "host code": "allowed" if allow_host_code else "not allowed"}

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run all samples in one request to the program, which splits them into batches itself."""
        return self._call(inputs, self.batch_size)

    def in_batches(self, inputs: Arrays, size: int) -> dict[str, NDArray[Any]]:
        """Run the samples in batches of ``size``, all in one request where the plan takes batches of that size."""
        return self._call(inputs, size) if size <= self.batch_size else super().in_batches(inputs, size)

    def through_csv(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run all samples, handed over as the CSV file that users get instead of raw float32."""
        return self._call(inputs, self.batch_size, csv=True)

    @property
    def runtime(self) -> str:
        """What ran the last call, as results name it: ``cpp-trt8.6.0``, ``cpp-lean10.16.1``."""
        return f"cpp-{LIBRARIES[self.report['library']]}{self.report['tensorrt']}"

    def timed(self, inputs: Arrays, repeat: int) -> Mapping[str, Any]:
        """Run all samples ``repeat`` times in one request, with as many streams as it finds to be the fastest.

        Gives the program's report: samples/s in ``passes``.
        """
        self._call(inputs, self.batch_size, repeat=repeat)
        return self.report

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self(inputs)

    def _release(self) -> None:
        if self._server is not None:
            self._server.close()

    def _call(self, inputs: Arrays, batch: int, *, csv: bool = False, repeat: int = 1) -> dict[str, NDArray[Any]]:
        if self._closed:
            raise RunnerError(f"{self.variant} of {self.spec.name}: the runner is closed; make a new one")
        count = self._check(inputs)
        samples = np.ascontiguousarray(inputs[self.spec.inputs[0].name])
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="native-"))
            except OSError as error:
                raise RunnerError(
                    f"{self._what}: there is no place for its samples: {error}; TMPDIR names a folder to write to"
                ) from error
            given, answers, report = (Path(folder) / name for name in ("samples", "results.csv", "report.json"))
            try:
                exchange.write_samples(given, samples) if csv else samples.tofile(given)
            except OSError as error:
                raise RunnerError(f"{self._what}: its samples cannot be written to {given}: {error}") from error
            words: list[object] = ["--csv" if csv else "--raw", given, "--output", answers, "--json", report]
            words += ["--batch", batch, "--repeat", repeat]
            words += [] if repeat > 1 else ["--streams", max(1, min(STREAMS, -(-count // batch)))]
            passes = f", {repeat} times" if repeat > 1 else ""
            self._serving().run([str(word) for word in words], f"{count} samples in batches of {batch}{passes}")
            self.report = self._read_report(report)
            self._check_fed(samples, batch)
            try:
                results = exchange.read_results(answers, self.classes)
            except DataError as error:
                raise RunnerError(f"{self._what}: its results cannot be used: {error}") from error
        if flaw := exchange.results_flaw(results, count, batch):
            raise RunnerError(f"{self._what}: {flaw}")
        self._check_report(count, batch, repeat)
        copies = self.report["copies"]
        self.copies = Copies(copies["host_to_device"], copies["device_to_host"])
        return {self.output.name: results.probabilities}

    @property
    def _what(self) -> str:
        return f"{self.variant} of {self.spec.name}: {self.program.name}"

    def _serving(self) -> Server:
        """The process that runs requests, started where there is none, or where an error ended the one before."""
        if self._server is None or self._server.ended:
            self._server = Server(self._what, self.program, self.plan, allow_host_code=self.allow_host_code)
        return self._server

    def _read_report(self, path: Path) -> Mapping[str, Any]:
        try:
            report = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise RunnerError(f"{self._what} answered well, but wrote no report (--json)") from error
        except ValueError as error:
            raise RunnerError(f"{self._what}: its report is not JSON: {error}") from error
        if not isinstance(report, dict) or not isinstance(report.get("fed_sha256"), str):
            raise RunnerError(f"{self._what}: its report does not say what it fed to the engine (fed_sha256)")
        return report

    def _check_fed(self, samples: NDArray[np.float32], batch: int) -> None:
        expected, found = exchange.fed_hash(samples), self.report["fed_sha256"].lower()
        if found != expected:
            likely = mistake(samples, found, batch)
            raise WronglyFedError(
                f"{self._what} fed the engine something other than the {len(samples)} samples that it was given\n"
                f"  given   SHA-256 {expected}\n"
                f"  fed     SHA-256 {found}\n"
                f"  likely  {likely}",
                likely,
            )

    def _check_report(self, count: int, batch: int, repeat: int) -> None:
        """Check that the report is of this call."""
        copies, passes = self.report.get("copies"), self.report.get("passes")
        for good, key, expected in (
            (self.report.get("samples") == count, "samples", str(count)),
            (self.report.get("batch") == batch, "batch", str(batch)),
            (isinstance(self.report.get("tensorrt"), str), "tensorrt", "a version"),
            (self.report.get("library") in LIBRARIES, "library", f"one of {', '.join(LIBRARIES)}"),
            (isinstance(passes, list) and len(passes) == repeat, "passes", f"the samples/s of {repeat}"),
            (
                isinstance(copies, dict)
                and all(isinstance(copies.get(way), int) for way in ("host_to_device", "device_to_host")),
                "copies",
                "host_to_device and device_to_host",
            ),
            (isinstance(self.report.get("load_seconds"), (int, float)), "load_seconds", "a number"),
        ):
            if not good:
                raise RunnerError(f"{self._what}: its report has {key} {self.report.get(key)!r}; expected {expected}")
