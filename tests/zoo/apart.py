"""Work on one model in a process of its own, which takes the model's memory with it when it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.tools import last_lines
from zoo.pages import ROOT


def told_by(words: Sequence[str], told: Path) -> dict[str, Any] | str:
    """What ``python -m`` with some words writes to a JSON file; the last it says where it fails."""
    told.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        return f"exit code {done.returncode}: {last_lines(done.stderr)}"
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    return found
