"""Faults of served models: the server has another file than was meant, or a program of its own that is wrong.

They run where ``containers/servers`` made MLServer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults import graph
from faults.change import PASSES, Change
from faults.graph_edits import NUMBERS, channel_scale, class_bias, no_bias, swapped_outputs, temperature
from faults.made import Made
from faults.runners import RUNNERS
from faults.serving import TOLD
from faults.sound_changes import gemm
from tests.meta import servers

KIND, VARIANT = "served model", "served-fp32"


def missing() -> str | None:
    """Why no server can be started here; None where one can."""
    return servers.missing("mlserver", "mlserver")


def serving(file: Callable[[Made, Path], Path]) -> Callable[[Made, Path], list[str]]:
    """What has MLServer serve a file, and returns the options that judge what it answers."""

    def plant(made: Made, folder: Path) -> list[str]:
        spec = made.chain.spec
        server = servers.mlserver(spec, file(made, folder), folder, runtime="mlserver_wrong.WrongModel")
        server.added["PYTHONPATH"] += f":{Path(__file__).parent}"
        told = {"words": server.words, "ports": server.ports, "log": str(server.log)}
        path = folder / TOLD
        path.write_text(json.dumps(told | {"environment": server.added}), encoding="utf-8")
        return ["-p", "tests.faults.serving", f"--served={server.url(spec.name)}"]

    return plant


def edited(edit: Callable[[Any], None]) -> Callable[[Made, Path], Path]:
    """What writes the FP32 file with an edit of its graph."""
    return lambda made, folder: graph.write(made.file("onnx-fp32"), edit, folder / "planted.onnx")


FILES: tuple[tuple[str, Callable[[Made, Path], Path], tuple[str, ...], str], ...] = (
    ("one class's bias larger by 0.5", edited(class_bias(0.5)), ("bias", *NUMBERS), "digits"),
    ("the last bias left out", edited(no_bias), ("bias", *NUMBERS), "two_heads"),
    ("one channel 1.5 times as large", edited(channel_scale(1.5)), NUMBERS, "digits"),
    ("a softmax of temperature 1.1", edited(temperature(1.1)), ("temperature",), "digits"),
    ("two outputs swapped", edited(swapped_outputs), ("swapped", "exchanged"), "two_heads"),
    ("the INT8 file", lambda made, folder: made.file("onnx-int8"), ("lower precision", *NUMBERS), "digits"),
    ("another training", lambda made, folder: made.again().file("onnx-fp32"), ("another training",), "digits"),
    ("another model", lambda made, folder: Made.of("marks", made.folder).file("onnx-fp32"), ("input",), "digits"),
)

PROGRAMS: tuple[tuple[str, str], ...] = (
    ("inputs fed 255 times as large", "two_heads"),
    ("images fed mirrored", "two_heads"),
    ("rows of a batch reversed", "digits"),
    ("the last answer of a full batch never written", "digits"),
    ("the first answer given again for the last", "digits"),
    ("the previous batch's answers", "digits"),
    ("noise in each call", "digits"),
    ("answers rounded to hundredths", "digits"),
    ("classes counted from one", "digits"),
)
"""Faults of ``faults.runners`` in the server, with the model that each is planted into."""

SOUND: tuple[tuple[str, Callable[[Made, Path], Path], str], ...] = (
    ("as it is converted", lambda made, folder: made.file("onnx-fp32"), "two_heads"),
    ("Gemm for MatMul and Add", edited(gemm), "digits"),
)


def _sound_file(made: Made, folder: Path) -> Path:
    return made.file("onnx-fp32")


def _change(name: str, model: str, file: Callable[[Made, Path], Path], right: tuple[str, ...], **more: Any) -> Change:
    return Change(name, KIND, model, VARIANT, serving(file), right, alone=True, needs=missing, **more)


CHANGES: tuple[Change, ...] = (
    *(_change(name, model, file, right) for name, file, right, model in FILES),
    *(_change(name, model, _sound_file, RUNNERS[name][1]) for name, model in PROGRAMS),
    *(_change(name, model, file, (), expected=PASSES) for name, file, model in SOUND),
)
