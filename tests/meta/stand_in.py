"""Stands in for the C++ programs where there is no GPU: a real program that keeps their contract with ONNX Runtime.

Run as a program, it takes an ONNX file for its plan, and :func:`plant` plants a fault, for a process that serves from
its next request on. With :data:`LIES` behind the fault's name the program reports that it fed the file's own bytes,
whatever it fed. stand_in_plugin.py has the suite run it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

LIES = " claimed to be the samples"
"""What follows the name of a fault in a program that lies about what it fed."""

FAULT = "fault"
"""The file beside the program that names the fault planted in it."""

MOST = 32
"""The largest batch of the profile that its plans are taken to have."""


def header_as_pixels(samples):
    """Read an .npy file as if it had no header."""
    file = io.BytesIO()
    np.save(file, samples)
    return np.frombuffer(file.getvalue()[: samples.nbytes], np.float32).reshape(samples.shape)


def shifted(samples):
    """Read sample_id as the first pixel."""
    flat = samples.reshape(len(samples), -1)
    ids = np.arange(len(samples), dtype=np.float32)[:, None]
    return np.concatenate([ids, flat[:, :-1]], axis=1).reshape(samples.shape)


FED = {
    "random data": lambda s: np.random.default_rng(0).random(s.shape, np.float32),
    "other random data each time": lambda s: np.random.default_rng().random(s.shape, np.float32),
    "npy header": header_as_pixels,
    "skipped bytes": lambda s: np.frombuffer(s.tobytes()[128:] + bytes(128), np.float32).reshape(s.shape),
    "shifted column": shifted,
    "NCHW": lambda s: np.ascontiguousarray(s.transpose(0, 3, 1, 2)).reshape(s.shape),
    "float64": lambda s: s.astype(np.float64).view(np.float32).reshape(-1)[: s.size].reshape(s.shape),
    "dropped remainder": lambda s: s[: len(s) // MOST * MOST],
}
"""What is done to the samples on their way to the engine, by the name of the fault."""


class RefusedError(Exception):
    """What the program ends with, or answers: an exit code and one line."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def read_csv(path, size):
    """Read samples as a program of another language does, strictly by columns."""
    rows = [line.split(",") for line in path.read_text(encoding="ascii").splitlines()[1:]]
    if any(len(row) != size + 1 for row in rows):
        raise RefusedError(2, f"{path}: expected {size + 1} columns")
    return np.array([[np.float32(cell) for cell in row[1:]] for row in rows], np.float32)


def plant(program, fault):
    """Plant a fault in a program that :func:`program` made, in place of the one before; the empty name: none."""
    whole = program.with_name(f"{FAULT}.new")
    whole.write_text(fault, encoding="utf-8")
    whole.replace(program.with_name(FAULT))


def planted():
    """Fault that is planted now."""
    file = Path(os.environ["STAND_IN_FAULT_FILE"])
    return file.read_text(encoding="utf-8") if file.exists() else ""


def options_of(words):
    """Options of a command line or a request."""
    parser = argparse.ArgumentParser()
    for name in ("--plan", "--csv", "--raw", "--output", "--json"):
        parser.add_argument(name, type=Path)
    for name, default in (("--batch", 32), ("--streams", 8), ("--copiers", 1), ("--repeat", 1)):
        parser.add_argument(name, type=int, default=default)
    for name in ("--no-graphs", "--allow-host-code", "--serve"):
        parser.add_argument(name, action="store_true")
    version = "stand_in: TensorRT 8.6.0 (nvinfer; headers 8.6.0), CUDA runtime 13.0"
    parser.add_argument("--version", action="version", version=version)
    return parser.parse_args(words)


def load(plan):
    """Load a plan: its session, and the seconds it took."""
    import onnxruntime as ort

    if planted() == "host code":
        # TensorRT's own words, from its library.
        words = "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false."
        raise RefusedError(3, words)
    settings = ort.SessionOptions()
    settings.use_deterministic_compute, settings.log_severity_level = True, 4
    # Threads that wait busily for more work would only slow down the tests beside them.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    start = time.perf_counter()
    try:
        session = ort.InferenceSession(str(plan), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # a dozen unrelated types
        raise RefusedError(3, " ".join(f"{plan}: cannot be loaded as a plan: {error}".split())) from error
    return session, time.perf_counter() - start


def run_once(options, session, loaded):
    """Run the samples of a file, as the C++ programs do."""
    said_to_be = planted()
    fault = said_to_be.removesuffix(LIES)
    if options.batch > MOST:
        raise RefusedError(2, f"--batch {options.batch} is over the profile's maximum of {MOST}")
    if fault == "killed":
        print("its last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "silent":
        return
    shape = tuple(session.get_inputs()[0].shape[1:])
    size = int(np.prod(shape))
    given = read_csv(options.csv, size) if options.csv else np.fromfile(options.raw, np.float32)
    if given.size == 0 or given.size % size:
        raise RefusedError(2, f"{options.raw}: {given.nbytes} bytes are no whole samples of {4 * size} bytes")
    given = given.reshape(-1, *shape)
    fed = np.ascontiguousarray(FED.get(fault, lambda s: s)(given))
    parts, passes = [], []
    for _ in range(options.repeat):
        start = time.perf_counter()
        parts = [
            session.run(None, {session.get_inputs()[0].name: fed[i : i + options.batch]})[0]
            for i in range(0, len(fed), options.batch)
        ]
        passes.append(len(fed) / (time.perf_counter() - start))
    write(options.output, np.concatenate(parts), fault)
    said = given if said_to_be.endswith(LIES) else fed
    report = {
        "program": "stand_in",
        "tensorrt": "8.6.0",
        "library": "nvinfer",
        "samples": len(fed),
        "batch": options.batch,
        "copies": {"host_to_device": len(parts), "device_to_host": len(parts)},
        "samples_per_second": float(np.median(passes)),
        "passes": passes,
        "load_seconds": loaded,
        "fed_sha256": hashlib.sha256(said.tobytes()).hexdigest(),
    }
    if fault == "no hash":
        del report["fed_sha256"]
    if options.json and fault != "no report":
        options.json.write_text(json.dumps(report) if fault != "bad report" else "{", encoding="utf-8")


def serve(options):
    """Answer requests until there are no more."""
    session, loaded = load(options.plan)
    print("0 0", flush=True)
    number, rest = 0, b""
    while part := os.read(0, 1 << 16):
        # Words end with a zero byte, a request with two.
        *whole, rest = (rest + part).split(b"\0\0")
        for request in whole:
            number += 1
            try:
                run_once(options_of(request.decode().split("\0")), session, loaded)
                print(f"{number} 0", flush=True)
            except RefusedError as error:
                print(f"{number} {error.code} {error}", flush=True)


def main():
    """Run as the C++ programs do."""
    options = options_of(sys.argv[1:])
    try:
        if options.serve:
            serve(options)
        else:
            run_once(options, *load(options.plan))
    except RefusedError as error:
        print(f"stand_in: {error}", file=sys.stderr)
        sys.exit(error.code)


def write(path, scores, fault):
    """Write the results, and what the faults of results make of them."""
    classes = scores.argmax(axis=1)
    rows = [f"{i},{c},{s[c]:.9g},{','.join(f'{p:.9g}' for p in s)}" for i, (c, s) in enumerate(zip(classes, scores))]  # noqa: B905
    if fault == "missing sample":
        del rows[len(rows) // 2]
    elif fault == "repeated sample":
        rows[-1] = rows[0]
    elif fault == "reordered samples":
        rows[1], rows[2] = rows[2], rows[1]
    elif fault == "another class":
        cells = rows[3].split(",")
        rows[3] = ",".join([cells[0], str((int(cells[1]) + 1) % scores.shape[1]), *cells[2:]])
    elif fault == "another confidence":
        cells = rows[3].split(",")
        rows[3] = ",".join([*cells[:2], "0.5", *cells[3:]])
    names = ["sample_id", "class", "confidence", *(f"p_{i}" for i in range(scores.shape[1]))]
    try:
        path.write_text("\n".join([",".join(names), *rows]) + "\n", encoding="ascii")
    except OSError as error:
        raise RefusedError(2, f"--output {path}: {error.strerror}") from error


def program(folder):
    """Make an executable of this file, as a name in a folder; gives its path."""
    path = folder / "trt8_infer"
    words = f'STAND_IN_FAULT_FILE="{folder / FAULT}" exec {sys.executable} {Path(__file__).resolve()} "$@"'
    path.write_text(f"#!/bin/sh\n{words}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def run(artifacts, program, *words, model="cifar10_vgg", **environment):
    """Run the suite over a variant of this program as a user does; gives the exit code and all that was printed.

    What ``environment`` may name beside the program's own is in stand_in_plugin.py.
    """
    # As a program it stands alone: nothing of the tests is on its path.
    from tests.meta.apart import environment_apart

    command = [sys.executable, "-m", "pytest", "-p", "tests.meta.stand_in_plugin", "-p", "no:cacheprovider", *words]
    done = subprocess.run(
        [*command, f"--model={model}", f"--artifacts={artifacts}"],
        cwd=Path(__file__).resolve().parents[2],
        env=environment_apart(TRT8_INFER=str(program), **environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    main()
