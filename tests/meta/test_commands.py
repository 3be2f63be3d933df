"""One command line: what it lists, and the older lines that it took over."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
OLDER = {
    "engines list": "list",
    "engines describe": "describe",
    "engines train": "train",
    "engines build": "build",
    "engines export-csv": "export-csv",
    "engines export-triton": "export-triton",
    "fixtures.check_csv": "check",
    "fixtures.measure": "measure",
    "conformance diff": "diff",
    "conformance merge": "merge",
    "fixtures.device_results": "device",
    "fixtures.cross_version": "cross-version",
}


def run(*words):
    """Run Python with these words, in the project."""
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def help_of(words, capsys):
    """Help of the command line, as this process prints it."""
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--help"])
    return capsys.readouterr().out


def test_the_help_lists_every_command_and_every_older_line(capsys):
    """Each command stands there with what it does, and below them the lines that people have in their scripts."""
    text = help_of([], capsys)
    for command in COMMANDS:
        assert re.search(rf"^ +{command.name}\s+{re.escape(command.help)}$", text, re.MULTILINE)
    for line in OLDER:
        module, _, name = line.partition(" ")
        assert re.search(rf"python -m {re.escape(module)} (\S+\|)?{name}\b", text) if name else f"-m {module} " in text
    assert set(OLDER.values()) == {command.name for command in COMMANDS} - {"noise", "bench"}


@pytest.mark.parametrize("line", OLDER)
def test_an_older_line_is_the_command_under_the_name_that_was_typed(line, capsys, monkeypatch):
    """Its help is the command's, but for its own name, and so are its errors, with exit code 2."""
    # How wide argparse writes its help is the terminal's, and the usage breaks by the length of the name.
    monkeypatch.setenv("COLUMNS", "500")
    expected = help_of([OLDER[line]], capsys)
    done = run("-m", *line.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.replace(f"python -m {line} ", f"python -m commands {OLDER[line]} ") == expected
    done = run("-m", *line.split(), "--no-such-option")
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: python -m {line.split()[0]}")
    assert "error: " in done.stderr


def test_what_a_command_prints_is_what_was_typed(tmp_path, capsys):
    """A message that says how to run the command again has its name and words as the user typed them."""
    words = ["check", "digits_vgg", str(tmp_path / "none.csv"), "--variant=onnx-fp32", f"--artifacts={tmp_path}"]
    assert main(words) == 2
    assert "holds no exported samples of digits_vgg" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["measure"])
    assert "python -m commands measure: error: there is no model" in capsys.readouterr().err
