"""The arrows between the packages point one way, and frameworks stay out of what is only collected."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.meta.apart import environment_apart

ROOT = Path(__file__).resolve().parent.parent.parent
FORBIDDEN = {
    "conformance": {
        "engines",
        "trial",
        "fixtures",
        "commands",
        "tests",
        "pytest",
        "hypothesis",
        "tensorflow",
        "onnx",
        "onnxruntime",
    },
    "engines": {"conformance", "trial", "fixtures", "commands", "tests", "pytest", "hypothesis"},
    "trial": {"fixtures", "commands", "tests", "pytest"},
    "commands": {"fixtures", "tests", "pytest"},
    "fixtures": {"commands", "tests"},
}
HANDING_OVER = {
    "engines/__main__.py",
    "conformance/__main__.py",
    "fixtures/check_csv.py",
    "fixtures/cross_version.py",
    "fixtures/device_results.py",
    "fixtures/measure.py",
}
"""The command lines of before: each imports the commands, and nothing else of ours."""

HEAVY = (
    "tensorflow",
    "keras",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "ai_edge_litert",
    "sklearn",
    "tensorrt",
    "pycuda",
    "ray",
)


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package):
    """Conformance knows nothing of engines, engines nothing of judging or pytest, fixtures nothing of tests."""
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    found = {str(path.relative_to(ROOT)): imported(path) & FORBIDDEN[package] for path in modules}
    found = {path: names for path, names in found.items() if names and path not in HANDING_OVER}
    assert found == {}


@pytest.mark.parametrize("path", sorted(HANDING_OVER))
def test_older_command_lines_only_hand_over(path):
    """A command line of before is a few lines that import the commands: it has no work of its own."""
    ours = {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()}
    assert imported(ROOT / path) & ours == {"commands"}
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) < 30


def test_collecting_imports_no_framework():
    """`pytest --collect-only` imports none of the frameworks, so that it takes about a second on any machine."""
    code = (
        "import sys, pytest\n"
        "code = pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider'])\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported: {loaded}' if loaded else int(code))\n"
    )
    # What this run was started with, xdist above all, is no business of the other.
    environment = environment_apart()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
