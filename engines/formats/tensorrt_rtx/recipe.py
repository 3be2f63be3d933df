"""What each plan is made from, and how: the build itself runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError, RunnerError, UnavailableError
from engines.formats.code import code
from engines.formats.onnx.build import FILE as ONNX
from engines.formats.onnx.recipe import as_named
from engines.formats.tensorrt import build as building
from engines.formats.tensorrt import driver, header
from engines.formats.tensorrt.slots import DTYPES
from engines.formats.tensorrt_rtx import build_command, packages, refusals, targets
from engines.runner import check_signature
from engines.store import Recipe
from engines.tools import last_lines

if TYPE_CHECKING:
    from engines.formats.base import Job

SOURCES = {"fp32": "fp32", "fp16": "fp16", "int8-qdq": "int8"}
"""The precision of the ONNX that each plan is built from: networks are strongly typed, so the ONNX says it all."""

ROOT = Path(__file__).resolve().parents[3]


def recipe(job: Job) -> Recipe:
    """Recipe of a plan: the ONNX, the builder's code and version, profile and targets; the GPU where it is for "here".

    Raises ConversionError for a variant without a batch profile, UnavailableError for "here" without a GPU.
    """
    profile, chosen = job.variant.profile, targets.OPTION.values(job.spec)
    if profile is None:
        raise ConversionError(f"{job.variant}: a plan of TensorRT for RTX needs a batch profile")
    if targets.HERE in chosen and (reason := packages.no_gpu()):
        raise UnavailableError(f"{job.variant}: there is no GPU here to build it for: {reason}; name a --rtx-target")
    made_from = {f"onnx-{SOURCES[job.variant.precision]}": job.made.sha256}
    for name, module in (("build", building), ("command", build_command)):
        made_from |= code(f"tensorrt-rtx {name}", Path(str(module.__file__)))
    made_from |= code("tensorrt-rtx recipe", Path(__file__))
    parameters = {"profile": [profile.min, profile.opt, profile.max], "targets": list(chosen)}
    # Where another environment built it, its version is as good as any.
    tools = {"tensorrt-rtx": None if packages.cannot_build() else packages.version()}
    return Recipe(made_from, parameters, tools, driver.device() if targets.HERE in chosen else {})


def build(job: Job, folder: Path) -> Mapping[str, Any]:
    """Build a plan from the ONNX, and check that it is what was asked for; returns details for the artifact's record.

    Raises ConversionError, which names nodes, operators and targets, where TensorRT refuses it.
    """
    spec, variant, onnx = as_named(job.spec, job.made), job.variant, job.made.file(ONNX)
    chosen, what = targets.OPTION.values(job.spec), f"{job.variant} of {job.spec.name}"
    if variant.profile is None:
        raise ConversionError(f"{what}: a plan of TensorRT for RTX needs a batch profile")
    told = run(
        {
            "onnx": str(onnx.resolve()),
            "plan": str((folder / building.PLAN).resolve()),
            "shapes": {i.signature_name: building.shapes(spec, i, variant.profile) for i in spec.inputs},
            "targets": [targets.name(target) for target in chosen],
        },
        what,
    )
    if "error" in told:
        raise ConversionError(refusals.explained(told, what, onnx, chosen))
    _check_signature(told, spec, what)
    found = header.read((folder / building.PLAN).read_bytes())
    if found is None or (targets.HERE not in chosen and set(found.targets) != set(chosen)):
        raise ConversionError(
            f"{what}: TensorRT for RTX {packages.version()} built a plan for "
            f"{', '.join(found.targets) if found else 'nothing that its header says'}; asked for {', '.join(chosen)}"
        )
    profile = [variant.profile.min, variant.profile.opt, variant.profile.max]
    return {**told, "profile": profile, "targets": list(found.targets), "weights_bytes": found.weights}


def run(job: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What the build command told of a job; raises ConversionError where its process ended in another way."""
    command = [sys.executable, "-m", build_command.__name__]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise ConversionError(
            f"{what}: the build by TensorRT for RTX {packages.version()} ended with exit code {done.returncode}; its "
            f"last lines:\n{last_lines(done.stderr)}"
        )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _check_signature(told: Mapping[str, Any], spec: Any, what: str) -> None:
    """Refuse a network whose inputs and outputs are not the model's; raises ConversionError."""
    sides = [{name: tuple(shape) for name, (_, shape) in told[side].items()} for side in ("inputs", "outputs")]
    try:
        names = check_signature(f"the network of {what}", spec, *sides)
    except RunnerError as error:
        raise ConversionError(str(error)) from error
    called = {**names.inputs, **names.outputs}
    for item in (*spec.inputs, *spec.outputs):
        dtype, _ = {**told["inputs"], **told["outputs"]}[called[item.name]]
        if DTYPES.get(dtype) != item.dtype:
            raise ConversionError(f"{what}: {called[item.name]!r} is {dtype} in the network; expected {item.dtype}")
