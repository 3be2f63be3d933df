"""Options with a space before their path, as a user types them, and packages of formats that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.meta.apart import environment_apart

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from engines.formats.registry import bringable
from fixtures.chain import artifact_folder
from fixtures.options import joined, options

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "fixtures" / "installed"
(WHEEL,) = INSTALLED.glob("*.whl")
SELECTED = "tests/test_accuracy.py"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with what `pip install -r requirements.txt` installs of this project."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return folder


def run(*words, packages=(), cwd=ROOT, **environment):
    """Run Python with words behind it, apart from this run, and with packages of one's own."""
    path = os.pathsep.join([*map(str, packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = environment_apart(**{"PYTHONPATH": path, **environment})
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def suite(*words, **settings):
    """Run the suite by what the command `pytest` runs, which does not put the current folder on the path."""
    code = "import sys; sys.path.remove(''); import pytest; sys.exit(pytest.main())"
    return run("-c", code, "-p", "no:cacheprovider", *words, **settings)


def listing(*words, **settings):
    """Ids of the tests that a run of one model selects; the run must not fail."""
    done = suite(
        "--collect-only", "-q", "--model=digits_vgg", f"--ignore={ROOT / 'tests' / 'meta'}", *words, **settings
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


# A path behind a space.

OUTSIDE = {
    "a marker": ("-m", "accuracy"),
    "a file of tests": (SELECTED,),
    "a file of tests, in two processes": (SELECTED, "-n", "2"),
}


@pytest.mark.parametrize("more", OUTSIDE.values(), ids=OUTSIDE)
def test_an_existing_folder_outside_is_taken(installed, tmp_path, more):
    """`--artifacts DIR` selects what `--artifacts=DIR` selects, wherever the folder is."""
    (tmp_path / "conftest.py").write_text("")
    expected = listing(f"--artifacts={tmp_path}", *more, packages=[installed])
    assert expected
    assert listing("--artifacts", tmp_path, *more, packages=[installed]) == expected


def test_the_folder_is_used(installed, tmp_path, pytestconfig):
    """A run in two processes takes its artifacts from, and writes its report to, folders named behind a space."""
    artifacts, report = tmp_path / "artifacts", tmp_path / "report"
    artifacts.symlink_to(artifact_folder(pytestconfig).resolve())
    report.mkdir()
    words = ["--model", "digits_vgg", "-n", "2", "-m", "accuracy", "-k", "onnx-fp32", "--report", report]
    done = suite("--artifacts", artifacts, *words, packages=[installed])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert f"artifacts: {artifacts}" in done.stdout
    assert (report / "conformance.json").is_file()


@pytest.mark.slow
def test_a_folder_inside_is_taken(installed):
    """A path in the clone, also from a folder of it, leaves the selection as it is."""
    expected = listing("-m", "accuracy", packages=[installed])
    for cwd, path in ((ROOT, "docs"), (ROOT / "tests", "meta")):
        assert listing("--artifacts", path, "-m", "accuracy", packages=[installed], cwd=cwd) == expected


def test_a_path_of_the_environment_is_taken(installed, tmp_path):
    """PYTEST_ADDOPTS is read as the command line is."""
    found = listing("-m", "accuracy", packages=[installed], PYTEST_ADDOPTS=f"--artifacts {tmp_path}")
    assert found == listing("-m", "accuracy", packages=[installed])


def test_every_option_with_a_value_takes_it_behind_a_space(tmp_path):
    """Each option of ours, one of every format included, is joined to its value; a switch and a test are not."""
    assert {f"--{name}" for name in bringable()} <= set(options())
    switches = {"--download", "--locate", "--fresh"}
    for name in options():
        given = ["-m", "x", name, str(tmp_path), "--strict", "tests"]
        expected = given if name in switches else ["-m", "x", f"{name}={tmp_path}", "--strict", "tests"]
        assert joined(given) == expected
    assert joined(["--artifacts=a", "tests", "--artifacts"]) == ["--artifacts=a", "tests", "--artifacts"]
    assert joined(["--onnx", "-m", "x"]) == ["--onnx", "-m", "x"], "a value that is left out is pytest's to miss"


def test_an_option_that_nobody_knows_is_still_refused(installed, tmp_path):
    """A misspelt option ends the run, as ever, and with it the run that was started again."""
    done = suite("--artefacts", tmp_path, "--artifacts", tmp_path, packages=[installed])
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --artefacts" in done.stderr


def test_outside_of_a_clone_nothing_changes(installed, tmp_path):
    """Other projects run as ever in the same environment: an option unknown to them is not ours."""
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    assert suite("-q", packages=[installed], cwd=tmp_path).returncode == 0
    done = suite("-q", "--artifacts", tmp_path, packages=[installed], cwd=tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --artifacts" in done.stderr


def test_what_is_installed_is_what_stands_here():
    """The wheel holds the module as its source is, and the requirements ask for its version."""
    project = tomllib.loads((INSTALLED / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(WHEEL) as wheel:
        assert wheel.read("conformance_words.py") == (INSTALLED / "conformance_words.py").read_bytes()
        entries = wheel.read(f"conformance_words-{project['version']}.dist-info/entry_points.txt").decode()
    assert "[pytest11]\nconformance_words=conformance_words" in entries.replace(" ", "")
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert f"{project['name']}=={project['version']}" in wanted
    assert wanted[wanted.index("--find-links") + 1] == INSTALLED.relative_to(ROOT).as_posix()


# A package of formats that cannot be used.

PACKAGES = {
    "fails to import": ("import no_such_module\n", "cannot be imported: ModuleNotFoundError: No module named"),
    "lacks a member": (
        "from engines.formats.base import Format\nclass Mine(Format):\n    name = 'mine'\nFORMAT = Mine\n",
        "its format 'mine' lacks build, ",
    ),
    "takes a name in use": (
        "from engines.formats.onnx.format import FORMAT\n",
        "its format is named 'onnx', which engines.formats.onnx.format has; allowed: a name of its own",
    ),
}


@pytest.fixture(params=PACKAGES)
def broken(request, tmp_path):
    """Folder of a package that cannot be used, and what is wrong with it."""
    source, message = PACKAGES[request.param]
    (tmp_path / "my_package.py").write_text(source)
    metadata = tmp_path / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[conformance.formats]\nmine = my_package:FORMAT\n")
    return tmp_path, message


def test_a_package_that_cannot_be_used_ends_the_run(broken):
    """One line names the package and what is wrong with it; nothing is collected, and the exit code is pytest's 4."""
    folder, message = broken
    done = suite("--collect-only", "-q", SELECTED, packages=[folder])
    assert (done.returncode, done.stdout.strip()) == (pytest.ExitCode.USAGE_ERROR, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("ERROR: my-package: ")
    assert message in line


@pytest.mark.parametrize("line", ["commands list", "engines list", "commands --help"])
def test_a_package_that_cannot_be_used_ends_a_command(broken, line):
    """The commands, and their older lines, say the same in one line and exit with 2."""
    folder, message = broken
    done = run("-m", *line.split(), packages=[folder])
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: my-package: ")
    assert message in said
