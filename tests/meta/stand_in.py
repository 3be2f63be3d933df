"""Stands in for the C++ programs where there is no GPU: a real program that keeps their contract with ONNX Runtime.

Run as a program, it takes an ONNX file for its plan, and ``STAND_IN_FAULT`` plants a fault. With :data:`LIES` behind
the fault's name the program reports that it fed the file's own bytes, whatever it fed. stand_in_plugin.py has the suite
run it.
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


def refuse(code, text):
    """End with an exit code and one line on standard error."""
    print(f"stand_in: {text}", file=sys.stderr)
    sys.exit(code)


def read_csv(path, size):
    """Read samples as a program of another language does, strictly by columns."""
    rows = [line.split(",") for line in path.read_text(encoding="ascii").splitlines()[1:]]
    if any(len(row) != size + 1 for row in rows):
        refuse(2, f"{path}: expected {size + 1} columns")
    return np.array([[np.float32(cell) for cell in row[1:]] for row in rows], np.float32)


def main():
    """Run as the C++ programs do."""
    import onnxruntime as ort

    parser = argparse.ArgumentParser()
    for name in ("--plan", "--csv", "--raw", "--output", "--json"):
        parser.add_argument(name, type=Path)
    for name, default in (("--batch", 32), ("--streams", 8), ("--copiers", 1), ("--repeat", 1)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument("--allow-host-code", action="store_true")
    version = "stand_in: TensorRT 8.6.0 (nvinfer; headers 8.6.0), CUDA runtime 13.0"
    parser.add_argument("--version", action="version", version=version)
    options = parser.parse_args()
    planted = os.environ.get("STAND_IN_FAULT", "")
    fault = planted.removesuffix(LIES)
    if options.batch > MOST:
        refuse(2, f"--batch {options.batch} is over the profile's maximum of {MOST}")
    if fault == "host code":
        # TensorRT's own words, from its library.
        refuse(3, "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false.")
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "silent":
        return
    settings = ort.SessionOptions()
    settings.use_deterministic_compute, settings.log_severity_level = True, 4
    # Each process runs for a moment: threads that wait busily for more work would only slow the others down.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    start = time.perf_counter()
    try:
        session = ort.InferenceSession(str(options.plan), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - a dozen unrelated types
        refuse(3, " ".join(f"{options.plan}: cannot be loaded as a plan: {error}".split()))
    loaded = time.perf_counter() - start
    shape = tuple(session.get_inputs()[0].shape[1:])
    size = int(np.prod(shape))
    given = read_csv(options.csv, size) if options.csv else np.fromfile(options.raw, np.float32)
    if given.size == 0 or given.size % size:
        refuse(2, f"{options.raw}: {given.nbytes} bytes are no whole samples of {4 * size} bytes")
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
    said = given if planted.endswith(LIES) else fed
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
        refuse(2, f"--output {path}: {error.strerror}")


def program(folder):
    """Make an executable of this file, as a name in a folder; gives its path."""
    path = folder / "trt8_infer"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n', encoding="utf-8")
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
