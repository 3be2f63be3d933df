"""Containers and CI workflows are well-formed, and what they run is what runs here, where no GPU is needed."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from fixtures.chain import artifact_folder
from tests.meta.apart import environment_apart

# Environments that only run TensorRT do without; so that they can still collect everything.
YAML = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed (pip install -r requirements.txt)").YAML

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NIGHTLY_DOC = ROOT / "docs" / "nightly.md"
COMPOSE = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES = COMPOSE["services"]
GITLAB_TEXT = re.search(r"```yaml\n(.*?)```", NIGHTLY_DOC.read_text(encoding="utf-8"), re.S)[1]
GITLAB = YAML(typ="safe").load(GITLAB_TEXT)
GPU_SERVICES = {"rtx", "tensorrt10", "tensorrt8", "trt8_infer", "nightly"}


def lines(script):
    """Split a shell script into its commands, one a line."""
    return [line for line in script.splitlines() if line.strip()]


def service_lines(service):
    """Command lines of a service."""
    command = SERVICES[service]["command"]
    return lines(command[-1]) if command[:2] == ["sh", "-ec"] else [shlex.join(command)]


def workflow_lines():
    """Command lines of all workflows, with the step that each belongs to."""
    for path in WORKFLOWS:
        for job in YAML(typ="safe").load(path)["jobs"].values():
            for step in job["steps"]:
                for line in lines(step.get("run", "")):
                    yield f"{path.stem}: {step['name']}", line


COMMANDS = [(name, line) for name in SERVICES for line in service_lines(name)] + list(workflow_lines())


def validate(path, schema):
    """Check a file against a schema that check-jsonschema brings."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(*words, **options):
    """Run a command in the project, apart from the run that it is started from."""
    environment = environment_apart(**options.pop("environment", {}))
    settings = {"cwd": ROOT, **options}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, **settings)


def test_the_compose_file_is_valid():
    """docker-compose.yml keeps to the Compose specification's schema."""
    done = validate(ROOT / "docker-compose.yml", "vendor.compose-spec")
    assert done.returncode == 0, done.stdout


def test_the_schema_check_can_fail(tmp_path):
    """A misspelt key of a service is found, so that the check above says something."""
    path = tmp_path / "docker-compose.yml"
    path.write_text("services:\n  cpu:\n    imaeg: python\n")
    assert validate(path, "vendor.compose-spec").returncode == 1


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_valid(path, schema):
    """Workflows keep to GitHub's schema, and every job has a timeout."""
    done = validate(path, schema)
    assert done.returncode == 0, done.stdout


def test_the_gitlab_example_is_valid(tmp_path):
    """The pipeline in the documentation keeps to GitLab's schema."""
    path = tmp_path / ".gitlab-ci.yml"
    path.write_text(GITLAB_TEXT)
    done = validate(path, "vendor.gitlab-ci")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read(path):
    """No workflow or job may write to the repository, and every action is pinned to a version."""
    workflow = YAML(typ="safe").load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert set(job.get("permissions", {}).values()) <= {"read"}
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})", step.get("uses", "actions/x@v1"))


def test_hashed_files_exist():
    """What the cache key is made from is there: a pattern that matches nothing would never make it new."""
    patterns = re.search(r"hashFiles\((.*?)\)", (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))[1]
    for pattern in re.findall(r"'(.*?)'", patterns):
        assert list(ROOT.glob(pattern)), pattern


def test_services_run_in_order():
    """`nightly` comes last, after every service but those that run alone, and no two that use the GPU run at once."""
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    alone = {"cpu", *(name for name, service in SERVICES.items() if service.get("profiles") == [name])}
    assert {c["condition"] for d in waits.values() for c in d.values()} == {"service_completed_successfully"}
    assert waits["nightly"].keys() == SERVICES.keys() - alone - {"nightly"}
    order = [name for name in TopologicalSorter(waits).static_order() if name not in alone]
    for before, after in itertools.pairwise(order):
        assert before in waits[after], f"{after} may run beside {before}"


@pytest.mark.parametrize("name", SERVICES)
def test_services_cannot_change_the_source(name):
    """Every service runs as an ordinary user, on a source it can only read, and shares the artifact folder."""
    service = SERVICES[name]
    assert service["user"] == "${RUN_UID:-1000}:${RUN_GID:-1000}"
    assert service["volumes"][:2] == [".:/project:ro", "./build:/project/build"]
    assert service["entrypoint"] == ["sh", "containers/enter"]
    devices = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    assert [d["capabilities"] for d in devices] == ([["gpu"]] if name in GPU_SERVICES else [])


@pytest.mark.parametrize("name", SERVICES)
def test_files_that_services_name_exist(name):
    """Requirement files and the Dockerfile are where the service looks for them."""
    service = SERVICES[name]
    words = service["environment"]["PACKAGES"].split()
    for option, value in itertools.pairwise(words):
        if option in {"-r", "-c"}:
            assert (ROOT / value).is_file()
    if "build" in service:
        assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


@pytest.mark.slow
def test_the_entrypoint_makes_an_environment_and_runs_in_it(tmp_path):
    """`containers/enter` makes the virtual environment once, and the command gets its own words and exit code."""
    settings = {"ENVIRONMENT": "x", "PACKAGES": "pip", "VENV_OPTIONS": "--system-site-packages"}
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    code = "import sys; print(sys.prefix, sys.argv[1]); sys.exit(3)"
    enter = ["sh", ROOT / "containers/enter"]
    for _ in range(2):
        done = run(*enter, "python", "-c", code, "two words", environment=settings, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (3, f"{tmp_path / 'build' / '.venv-x'} two words\n"), done.stderr
    settings["PACKAGES"] = "--no-index none-such"
    missing = run(*enter, "true", environment=settings, cwd=tmp_path)
    assert missing.returncode != 0


@pytest.mark.parametrize("where, line", COMMANDS, ids=[where for where, _ in COMMANDS])
def test_command_lines_are_shell(where, line):
    """Each command line of a service or workflow is one that the shell can parse."""
    done = run("bash", "-n", "-c", re.sub(r"\$\{\{.*?\}\}", "x", line))
    assert done.returncode == 0, f"{where}: {done.stderr}"


GITLAB_COMMANDS = [(f"gitlab: {job}", item) for job in ("test", "nightly") for item in GITLAB[job]["script"]]


@pytest.mark.parametrize("where, item", GITLAB_COMMANDS, ids=[where for where, _ in GITLAB_COMMANDS])
def test_commands_of_the_gitlab_example_are_shell(where, item):
    """Each command of the pipeline in the documentation is one that the shell can parse."""
    done = run("bash", "-n", "-c", item)
    assert done.returncode == 0, f"{where}: {done.stderr}"


def test_no_failing_command_is_passed_over():
    """No command line holds a list: a shell that stops at a failure goes on where `a && b` fails in `a`."""
    for where, line in COMMANDS + GITLAB_COMMANDS:
        assert not {"&&", "||"} & set(shlex.shlex(line, posix=True, punctuation_chars=True)), f"{where}: {line}"


def test_a_night_on_gitlab_is_the_one_on_github():
    """After the baseline is fetched, the pipeline in the documentation runs the workflow's commands, in its order."""
    steps = YAML(typ="safe").load(ROOT / ".github/workflows/nightly.yml")["jobs"]["gpu"]["steps"]
    assert GITLAB["nightly"]["script"][1:] == [line for step in steps for line in lines(step.get("run", ""))]


def test_onnx_and_tflite_are_required_where_tensorflow_is():
    """What a night builds in TensorFlow's environment it requires: left out, both would only be skipped."""
    found = [line for _, line in COMMANDS if 'pytest -m "consistency or batching or accuracy" ' in line]
    assert len(found) == 2
    for line in found:
        assert '--require "onnx-*" --require "tflite-*"' in line


ENDS = {
    "well": ({"exit_code": 0, "verdict": {"complete": True}}, 0),
    "without its tests": ({"exit_code": 0, "verdict": {"complete": False}}, 1),
    "with another exit code": ({"exit_code": 2, "verdict": {"complete": True}}, 1),
    "without a report": (None, 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_night_whose_report_is_unfinished_is_not_green(tmp_path, end):
    """Where a run ended early with exit code 0, a command of the night fails for the report that it left."""
    content, code = ENDS[end]
    (tmp_path / "report" / "tensorflow").mkdir(parents=True)
    found = [line for where, line in COMMANDS if where.startswith("nightly: ") and "complete" in line]
    for line, folder in zip(found, ("tensorflow", ""), strict=True):
        if content is not None:
            (tmp_path / "report" / folder / "conformance.json").write_text(json.dumps(content))
        done = run("bash", "-ec", line, cwd=tmp_path)
        assert done.returncode == code, done.stderr


def pytest_words(line):
    """Words behind ``pytest`` in a command line, the shell's variables left out."""
    _, _, rest = re.sub(r"\s\$\{BASELINE:.*?\}$", " --baseline=conformance.json", line).partition("pytest")
    return [word for word in shlex.split(rest) if not word.startswith(("--artifacts=", "--report=", "--baseline="))]


PYTEST_LINES = [(where, line) for where, line in COMMANDS if re.match(r"(\S*/)?pytest\b", line)]


@pytest.mark.slow
@pytest.mark.parametrize("where, line", PYTEST_LINES, ids=[where for where, _ in PYTEST_LINES])
def test_pytest_lines_select_tests(where, line):
    """Options, markers and globs of each pytest line are known, and it selects tests."""
    done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *pytest_words(line))
    assert done.returncode == pytest.ExitCode.OK, f"{where}: {done.stdout[-2000:]}{done.stderr}"


def test_results_are_kept_and_compared():
    """The options that keep and compare results are those of this suite."""
    help_ = run(sys.executable, "-m", "pytest", "--help").stdout
    named = {word for _, line in COMMANDS for word in re.findall(r"--(?:report|baseline)\b", line)}
    assert named == {"--report", "--baseline"}
    assert named <= set(re.findall(r"--[a-z-]+", help_))


def test_the_tensorflow_service_builds_what_it_says(request):
    """Its build command, as it stands, builds the digits classifier or finds it built, and exports its samples."""
    line = next(line for line in service_lines("tensorflow") if line.endswith("build digits_vgg"))
    done = run(sys.executable, *shlex.split(line)[1:], f"--artifacts={artifact_folder(request.config)}")
    assert done.returncode == 0, done.stderr
    for name in ("savedmodel-fp32", "onnx-int8", "tflite-int8", "samples", "data"):
        assert re.search(rf"^{name} .*[\d.]+", done.stdout, re.M), done.stdout


@pytest.mark.slow
def test_the_tensorflow_service_tests_what_it_built(request):
    """Its pytest command, as it stands but for one model, passes, with ONNX and TFLite required."""
    line = next(line for line in service_lines("tensorflow") if line.startswith("pytest"))
    words = [*pytest_words(line), "--model=digits_vgg", f"--artifacts={artifact_folder(request.config)}"]
    done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words)
    assert done.returncode == pytest.ExitCode.OK, done.stdout[-3000:]
    assert len(re.findall(r"^digits_vgg-\S+ .* passed$", done.stdout, re.M)) == 7


def test_tensorrt_8_takes_over_all_but_plans(tmp_path):
    """Its copy has what other environments made, and no plan, which is another version's."""
    for model in ("digits_vgg", "cifar10_vgg"):
        for name in ("onnx-fp32", "data", "tensorrt-fp16-b1.16.32"):
            (tmp_path / "build" / model / name).mkdir(parents=True)
            (tmp_path / "build" / model / name / "artifact.json").write_text("{}")
    script = "\n".join(line for line in service_lines("tensorrt8") if not line.startswith("pytest"))
    done = run("sh", "-ec", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    copied = sorted(str(p.parent.relative_to(tmp_path)) for p in tmp_path.glob("build/tensorrt8/*/*/artifact.json"))
    kept = itertools.product(("cifar10_vgg", "digits_vgg"), ("data", "onnx-fp32"))
    expected = [f"build/tensorrt8/{model}/{name}" for model, name in kept]
    assert copied == expected


GH = """#!/bin/sh
case "$1 $2" in
"run list") printf '%s' "$RUN" ;;
"run download")
  while [ "$1" != --dir ]; do shift; done
  mkdir -p "$2"; [ -z "$REPORT" ] || echo "$REPORT" > "$2/conformance.json" ;;
esac
"""


@pytest.mark.parametrize(
    "last, report, code, output, said",
    [
        ("", "", 0, "", "there is no baseline"),
        ("17", "{}", 0, "folder=baseline\n", "compared with run 17"),
        ("17", "", 1, "", "::error::run 17 of nightly.yml succeeded on main, but has no nightly-report"),
    ],
)
def test_the_last_green_night_is_fetched(tmp_path, last, report, code, output, said):
    """The first night has no baseline and says so; a night whose report is lost fails instead of comparing nothing.

    Only GitHub's client is played, as there is no GitHub here.
    """
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "output").touch()
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "RUN": last,
        "REPORT": report,
    }
    script = ROOT / ".github" / "scripts" / "last-green"
    words = ["nightly.yml", "main", "nightly-report", "baseline"]
    done = run(script, *words, environment=environment, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stdout
    assert (tmp_path / "output").read_text() == output
