"""The artifact store: builds once, notices every change, survives kills, full disks and read-only folders."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engines import hashing
from engines.errors import StoreError
from engines.hashing import file_hash
from engines.store import Artifact, Recipe, Store

PROJECT = Path(__file__).resolve().parents[2]
MODEL, NAME = "digits_vgg", "onnx-fp32"
HINT = "make it with: python -m conformance build"
RECIPE = Recipe(
    inputs={"savedmodel": "aa11"},
    parameters={"opset": 15, "shape": (1, 28), "tolerance": float("nan")},
    tools={"tf2onnx": "1.16.1"},
    environment={"gpu": "H200"},
)
CONTENT = {"model.onnx": b"weights " * 625, "variables/data": b"nested"}


@dataclass
class Builder:
    """Writes files (and an empty folder, as a SavedModel's ``assets``), and counts how often it is asked to."""

    files: Mapping[str, bytes] = field(default_factory=lambda: CONTENT)
    details: Mapping[str, Any] | None = None
    calls: int = 0

    def __call__(self, folder: Path) -> Mapping[str, Any] | None:
        """Build."""
        self.calls += 1
        (folder / "assets").mkdir()
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return self.details


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "build")


@pytest.fixture
def built(store: Store) -> Artifact:
    return store.get(MODEL, NAME, RECIPE, Builder())


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="engines.store")
    return caplog


def tree(folder: Path) -> dict[str, bytes | None]:
    """Take down everything below a folder: content by relative name, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def hidden(root: Path) -> list[str]:
    """What builds left behind."""
    return sorted(path.name for path in (root / MODEL).glob(".*"))


def edit_record(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "artifact.json").read_text())
    record.update(changes)
    (folder / "artifact.json").write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


# What is built, recorded and reused


def test_builds_once_and_reuses(store: Store, log: pytest.LogCaptureFixture) -> None:
    """A second call gives the same artifact without building, and the log names one build, its time and its size."""
    build = Builder(details={"opset": 15, "shape": (1, 2)})
    first = store.get(MODEL, NAME, RECIPE, build)
    second = store.get(MODEL, NAME, RECIPE, build)
    assert build.calls == 1
    assert json.dumps(first.record) == json.dumps(second.record)
    assert first.details == second.details == {"opset": 15, "shape": [1, 2]}
    assert log.messages[0] == "building digits_vgg/onnx-fp32"
    assert log.messages[1].startswith("built digits_vgg/onnx-fp32 in 0.")
    assert log.messages[1].endswith(" s (5.0 kB)")
    assert len(log.messages) == 2


def test_nested_folders_arrive_whole(built: Artifact, store: Store) -> None:
    """Nested files and empty folders of a SavedModel lie in the artifact as they were written, and are valid."""
    content = tree(built.folder)
    assert content.pop("artifact.json")
    assert content == {"assets": None, "variables": None, **CONTENT}
    assert store.find(MODEL, NAME, RECIPE) is not None


def test_record_says_what_is_there(built: Artifact, store: Store) -> None:
    """artifact.json holds all that the artifact was made from and consists of; the artifact gives it back."""
    assert built.folder == store.root / MODEL / NAME
    record = json.loads((built.folder / "artifact.json").read_text())
    assert json.dumps(record) == json.dumps(built.record)
    assert (record["schema"], record["model"], record["name"]) == (1, MODEL, NAME)
    assert record["recipe"]["tools"] == {"tf2onnx": "1.16.1"}
    assert {name: entry["size"] for name, entry in record["files"].items()} == {"model.onnx": 5000, "variables/data": 6}
    assert record["built"].endswith("+00:00")
    assert built.size == 5006
    assert built.seconds >= 0
    assert built.details == {}
    assert built.file("variables/data").read_bytes() == b"nested"


def test_file_refuses_what_is_not_part(built: Artifact) -> None:
    """Asking an artifact for a file that it does not consist of is an error that lists those it does."""
    with pytest.raises(StoreError, match=r"'model.tflite' is not part of this artifact; it holds model.onnx"):
        built.file("model.tflite")


def test_equal_bytes_equal_hash(tmp_path: Path) -> None:
    """The hash of an artifact depends on names and contents alone: not on place, time, recipe or order of writing."""
    backwards = dict(reversed(CONTENT.items()))
    first = Store(tmp_path / "a").get(MODEL, NAME, RECIPE, Builder())
    second = Store(tmp_path / "b").get("other", "name", Recipe(inputs={}), Builder(backwards, details={"x": 1}))
    renamed = Store(tmp_path / "c").get(MODEL, NAME, RECIPE, Builder({**CONTENT, "model.onnx2": b""}))
    edited = Store(tmp_path / "d").get(MODEL, NAME, RECIPE, Builder({**CONTENT, "variables/data": b"Nested"}))
    assert first.sha256 == second.sha256
    assert len({first.sha256, renamed.sha256, edited.sha256}) == 3


def test_hashes_are_those_of_the_files(store: Store) -> None:
    """The recorded hash of a file is its plain SHA-256, as sha256sum gives it, also of large and of empty files."""
    files = {"large": bytes(range(256)) * 10_001, "empty": b""}
    record = store.get(MODEL, NAME, RECIPE, Builder(files)).record
    assert {name: entry["sha256"] for name, entry in record["files"].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }


def test_artifact_appears_by_one_rename(store: Store) -> None:
    """The builder's folder lies beside the artifact and becomes it: no reader ever sees a part of it."""
    seen: list[os.stat_result] = []

    def build(folder: Path) -> None:
        assert folder.parent == store.root / MODEL
        assert store.find(MODEL, NAME, RECIPE) is None
        seen.append(folder.stat())
        (folder / "model.onnx").touch()

    assert store.get(MODEL, NAME, RECIPE, build).folder.stat().st_ino == seen[0].st_ino


def test_find_builds_and_writes_nothing(store: Store) -> None:
    """Looking for what is not there gives None and leaves no trace, not even the store's folder."""
    assert store.find(MODEL, NAME, RECIPE) is None
    assert not store.root.exists()


def test_find_gives_only_what_is_valid(built: Artifact, store: Store) -> None:
    """An artifact is found by the recipe it was made from, and by no other."""
    found = store.find(MODEL, NAME, RECIPE)
    assert found is not None
    assert found.sha256 == built.sha256
    assert store.find(MODEL, NAME, replace(RECIPE, inputs={"savedmodel": "bb22"})) is None


def test_tool_that_is_not_installed_accepts_any_version(built: Artifact, store: Store) -> None:
    """Where a tool is not installed, artifacts made by any version of it hold; they are there to be used."""
    build = Builder()
    assert store.get(MODEL, NAME, replace(RECIPE, tools={"tf2onnx": None}), build).sha256 == built.sha256
    assert build.calls == 0


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/etc", "a b", "a\n", "ä", "a\\b"])
def test_names_stay_in_the_store(store: Store, name: str) -> None:
    """A model or artifact name that could leave its folder, or hide in it, is refused before anything happens."""
    build = Builder()
    with pytest.raises(ValueError, match=r"model is .* allowed: letters"):
        store.get(name, NAME, RECIPE, build)
    with pytest.raises(ValueError, match=r"name is .* allowed: letters"):
        store.find(MODEL, name, RECIPE)
    assert build.calls == 0
    assert not store.root.exists()


# What is not valid, and what is said about it


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "model.onnx was edited (sha256 differs)": lambda f: (f / "model.onnx").write_bytes(b"Weights " * 625),
    "model.onnx was edited (5,001 bytes, was 5,000)": lambda f: (f / "model.onnx").write_bytes(b"w" * 5001),
    "model.onnx was truncated (12 of 5,000 bytes)": lambda f: os.truncate(f / "model.onnx", 12),
    "variables/data is missing": lambda f: (f / "variables" / "data").unlink(),
    "model.onnx is missing": lambda f: replace_by_folder(f / "model.onnx"),
    "unexpected file variables/x": lambda f: (f / "variables" / "x").touch(),
    "artifact.json is missing": lambda f: (f / "artifact.json").unlink(),
    "artifact.json is not readable JSON": lambda f: os.truncate(f / "artifact.json", 100),
    "artifact.json is not a record": lambda f: (f / "artifact.json").write_text("[]"),
    "artifact.json has schema 99, here is 1": lambda f: edit_record(f, schema=99),
    "artifact.json lacks its files": lambda f: edit_record(f, files=None),
    "artifact.json lacks the inputs of its recipe": lambda f: edit_record(f, recipe={}),
    "artifact.json is that of cifar10_vgg/onnx-fp32": lambda f: edit_record(f, model="cifar10_vgg"),
    "artifact.json was edited (its files do not give its sha256)": lambda f: edit_record(f, files={"x": 1}),
    "artifact.json was edited (its files do not give its size)": lambda f: edit_record(f, size=1),
}
CHANGES = {
    "its input savedmodel changed": replace(RECIPE, inputs={"savedmodel": "bb22"}),
    "its recipe now has calibration in its inputs": replace(RECIPE, inputs={**RECIPE.inputs, "calibration": "cc33"}),
    "its recipe no longer has savedmodel in its inputs": replace(RECIPE, inputs={}),
    "parameter opset is 17, was 15": replace(RECIPE, parameters={**RECIPE.parameters, "opset": 17}),
    "parameter opset is 15.0, was 15": replace(RECIPE, parameters={**RECIPE.parameters, "opset": 15.0}),
    "made by tf2onnx 1.16.1, here is 1.17.0": replace(RECIPE, tools={"tf2onnx": "1.17.0"}),
    "its recipe now has onnx in its tools": replace(RECIPE, tools={**RECIPE.tools, "onnx": None}),
    "made on gpu H200, here is A100": replace(RECIPE, environment={"gpu": "A100"}),
}


def check_rebuilt(store: Store, recipe: Recipe, reason: str, log: pytest.LogCaptureFixture) -> None:
    """Check that the artifact is built exactly once more, for that reason, and is valid and clean afterwards."""
    log.clear()
    build = Builder()
    store.get(MODEL, NAME, recipe, build)
    store.get(MODEL, NAME, recipe, build)
    assert build.calls == 1
    assert [r.getMessage() for r in log.records if r.levelno == logging.WARNING] == [
        f"rebuilding digits_vgg/onnx-fp32: {reason}"
    ]
    content = tree(store.root / MODEL / NAME)
    assert {name: content[name] for name in CONTENT} == CONTENT
    assert content.keys() == {"artifact.json", "assets", "variables", *CONTENT}
    assert hidden(store.root) == []


@pytest.mark.parametrize("reason", DAMAGES)
def test_damage_is_noticed_and_named(built: Artifact, store: Store, reason: str, log: pytest.LogCaptureFixture) -> None:
    """Whatever happens to an artifact's files or record, it is built again, and one line says why."""
    DAMAGES[reason](built.folder)
    assert store.find(MODEL, NAME, RECIPE) is None
    check_rebuilt(store, RECIPE, reason, log)


@pytest.mark.parametrize("reason", CHANGES)
@pytest.mark.usefixtures("built")
def test_changed_recipe_is_noticed_and_named(store: Store, reason: str, log: pytest.LogCaptureFixture) -> None:
    """Whatever changes in what an artifact is made from, it is built again, and one line says why."""
    check_rebuilt(store, CHANGES[reason], reason, log)


def test_nothing_there_and_no_builder(store: Store) -> None:
    """What is not there and cannot be made here is an error that names it and the command that makes it."""
    with pytest.raises(StoreError) as caught:
        store.get(MODEL, NAME, RECIPE, None, hint=HINT)
    assert str(caught.value) == f"{store.root}: there is no valid {MODEL}/{NAME} (nothing is there); {HINT}"


def test_invalid_and_no_builder(built: Artifact, store: Store) -> None:
    """What is damaged and cannot be made here is an error that says what is wrong with it, and nothing is deleted."""
    os.truncate(built.file("model.onnx"), 12)
    before = tree(store.root)
    with pytest.raises(StoreError, match=r"truncated \(12 of 5,000 bytes\)\); make it with"):
        store.get(MODEL, NAME, RECIPE, None, hint=HINT)
    assert tree(store.root) == before


# Builds that fail


class ConverterCrashError(Exception):
    """What a converter raises, for all that the store knows."""


NEWER = replace(RECIPE, tools={"tf2onnx": "1.17.0"})


def crash(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"half")
    raise ConverterCrashError("unsupported op")


def write_nothing(folder: Path) -> None:
    (folder / "assets").mkdir()


def write_record(folder: Path) -> None:
    (folder / "artifact.json").write_text("{}")


def remove_folder(folder: Path) -> None:
    folder.rmdir()


def give_details_beyond_json(folder: Path) -> Mapping[str, Any]:
    (folder / "model.onnx").touch()
    return {"nodes": object()}


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (crash, ConverterCrashError, "^unsupported op$"),
        (write_nothing, StoreError, "digits_vgg/onnx-fp32: the builder built nothing"),
        (remove_folder, StoreError, "digits_vgg/onnx-fp32: the builder built nothing"),
        (write_record, StoreError, "the builder wrote artifact.json"),
        (give_details_beyond_json, TypeError, "not JSON serializable"),
    ],
)
def test_failed_build_changes_nothing(
    built: Artifact,
    store: Store,
    build: Callable[[Path], Mapping[str, Any] | None],
    error: type[Exception],
    text: str,
) -> None:
    """A builder that fails leaves the older artifact as it was, no leftovers, no lock held, and its own error."""
    before = tree(store.root)
    with pytest.raises(error, match=text):
        store.get(MODEL, NAME, NEWER, build)
    assert tree(store.root) == before
    assert store.get(MODEL, NAME, RECIPE, None).sha256 == built.sha256
    store.get(MODEL, NAME, NEWER, Builder())


def test_recipe_beyond_json_is_refused_first(store: Store) -> None:
    """A recipe that could not be recorded is refused before hours go into the build."""
    build = Builder()
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.get(MODEL, NAME, replace(RECIPE, parameters={"x": object()}), build)
    assert build.calls == 0


def test_builders_own_os_errors_come_through(store: Store, tmp_path: Path) -> None:
    """An OSError over files that are not the store's is the builder's to explain, and is not taken for the store's."""

    def read_missing(folder: Path) -> None:
        (tmp_path / "input.npz").read_bytes()

    def read_forbidden(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input.npz"))

    with pytest.raises(FileNotFoundError, match=r"input\.npz"):
        store.get(MODEL, NAME, RECIPE, read_missing)
    with pytest.raises(PermissionError, match=r"input\.npz"):
        store.get(MODEL, NAME, RECIPE, read_forbidden)


# Folders that cannot be written


def test_root_is_a_file(tmp_path: Path) -> None:
    """A file where the store should be is named, with the way out, and is not touched."""
    path = tmp_path / "build"
    path.write_text("mine")
    with pytest.raises(StoreError) as caught:
        Store(path).get(MODEL, NAME, RECIPE, Builder())
    assert str(caught.value).startswith(f"{path}: the artifact store cannot be used: Not a directory")
    assert str(caught.value).endswith("choose another folder with --artifacts=DIR")
    assert isinstance(caught.value.__cause__, NotADirectoryError)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPERM])
def test_failed_write_names_folder_and_way_out(built: Artifact, store: Store, number: int) -> None:
    """Whatever stops a builder from writing to the store is said in the system's words, and what is there stays."""
    before = tree(store.root)

    def fail(folder: Path) -> None:
        raise OSError(number, os.strerror(number), str(folder / "model.onnx"))

    with pytest.raises(StoreError) as caught:
        store.get(MODEL, NAME, NEWER, fail)
    assert str(caught.value).startswith(f"{store.root}: the artifact store cannot be used: {os.strerror(number)} (")
    assert str(caught.value).endswith("/model.onnx); choose another folder with --artifacts=DIR")
    assert tree(store.root) == before


# Other processes. Each child takes the store's root and runs a script after this beginning.

PRELUDE = """
import logging, os, resource, signal, sys, time
from pathlib import Path
from engines import store as module
from engines.errors import StoreError
from engines.store import Recipe, Store

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
sys.stdout.reconfigure(line_buffering=True)
store = Store(Path(sys.argv[1]))
recipe = Recipe(inputs={"savedmodel": "aa11"})

def write(size):
    def build(folder):
        (folder / "model.onnx").write_bytes(b"w" * size)
    return build

def attempt(name, build):
    try:
        print("got", store.get("digits_vgg", name, recipe, build).sha256)
    except StoreError as error:
        print("StoreError:", error)
"""
CHILD_RECIPE = Recipe(inputs={"savedmodel": "aa11"})


def write_5000(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"w" * 5000)


def start(root: Path, script: str, output: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + script, str(root)]
    if output is None:
        return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    with output.open("w") as stdout:
        return subprocess.Popen(command, cwd=PROJECT, stdout=stdout, text=True)


def lines_of(root: Path, script: str) -> list[str]:
    output, _ = (process := start(root, script)).communicate(timeout=30)
    assert process.returncode == 0
    return output.splitlines()


def test_two_processes_build_once(store: Store, tmp_path: Path) -> None:
    """Of two processes that want the same missing artifact, one builds, and the other says that it waits and shares."""
    script = """
module.PATIENCE_S = 0.1
def build(folder):
    while not store.root.with_name("release").exists():
        time.sleep(0.01)
    write(5000)(folder)
attempt("onnx-fp32", build)
"""
    outputs = [tmp_path / "first.log", tmp_path / "second.log"]
    processes = [start(store.root, script, output) for output in outputs]
    try:
        deadline = time.monotonic() + 20
        waiting = "waiting for another process that builds digits_vgg/onnx-fp32"
        while not any(waiting in output.read_text() for output in outputs) and time.monotonic() < deadline:
            time.sleep(0.01)
        (tmp_path / "release").touch()
        assert [process.wait(timeout=20) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    waited, builder = sorted((output.read_text().splitlines() for output in outputs), key=len)
    artifact = store.get(MODEL, NAME, CHILD_RECIPE, None)
    assert waited == [waiting, f"got {artifact.sha256}"]
    assert builder[0] == "building digits_vgg/onnx-fp32"
    assert builder[2] == f"got {artifact.sha256}"


def test_killed_build_leaves_nothing_that_counts(store: Store, log: pytest.LogCaptureFixture) -> None:
    """After SIGKILL in mid-build, only that artifact is built again, at once, and the leftovers go."""
    script = """
def build(folder):
    (folder / "model.onnx").write_bytes(b"half")
    print("in the builder")
    time.sleep(60)
attempt("tflite-fp32", write(5000))
attempt("onnx-fp32", build)
"""
    with start(store.root, script) as process:
        try:
            assert process.stdout is not None
            assert any(line == "in the builder\n" for line in process.stdout)
        finally:
            process.send_signal(signal.SIGKILL)
    assert len(hidden(store.root)) == 1
    other = f".{NAME}.x.123.0123abcd.partial"  # may be in the making by another process
    (store.root / MODEL / other).mkdir()
    assert store.find(MODEL, NAME, CHILD_RECIPE) is None
    store.get(MODEL, NAME, CHILD_RECIPE, write_5000)
    store.get(MODEL, "tflite-fp32", CHILD_RECIPE, None)
    assert hidden(store.root) == [other]
    assert log.messages[0] == "building digits_vgg/onnx-fp32"


def test_kill_between_the_renames_leads_to_a_build(built: Artifact, store: Store) -> None:
    """When a kill left an older artifact aside and none in its place, the next call builds and removes what is left."""
    built.folder.rename(built.folder.with_name(f".{NAME}.123.0123abcd.stale"))
    build = Builder()
    assert store.get(MODEL, NAME, RECIPE, build).sha256 == built.sha256
    assert build.calls == 1
    assert hidden(store.root) == []


@pytest.fixture
def locked_away() -> Iterator[Store]:
    """Store with one artifact, in folders that neither owner nor others may write."""
    # Not tmp_path: pytest keeps its parents to their owner, so that no other user gets there.
    base = Path(tempfile.mkdtemp(dir="/tmp"))
    store = Store(base / "build")
    store.get(MODEL, NAME, CHILD_RECIPE, write_5000)
    paths = [base, *base.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield store
    for path in paths:
        path.chmod(0o755)
    shutil.rmtree(base)


def test_read_only_store_gives_what_it_has(locked_away: Store) -> None:
    """Without the right to write, valid artifacts are still given, and a missing one is an error with a way out."""
    before = tree(locked_away.root)
    script = """
if os.geteuid() == 0:  # permissions do not bind root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
attempt("onnx-fp32", None)
attempt("tflite-fp32", write(1))
"""
    got, failed = lines_of(locked_away.root, script)
    assert got.startswith("got ")
    start_of_text = f"StoreError: {locked_away.root}: the artifact store cannot be used: Permission denied ("
    assert failed.startswith(start_of_text)
    assert failed.endswith("); choose another folder with --artifacts=DIR")
    assert tree(locked_away.root) == before


def test_full_disk_leaves_what_is_there(store: Store) -> None:
    """A write that the system refuses for its size ends in an error with a way out, and no half-written artifact."""
    store.get(MODEL, NAME, replace(CHILD_RECIPE, parameters={"opset": 15}), write_5000)
    before = tree(store.root)
    script = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
attempt("onnx-fp32", write(1 << 17))
"""
    assert lines_of(store.root, script) == [
        "rebuilding digits_vgg/onnx-fp32: its recipe no longer has opset in its parameters",
        f"StoreError: {store.root}: the artifact store cannot be used: File too large; "
        "choose another folder with --artifacts=DIR",
    ]
    assert tree(store.root) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
@pytest.mark.parametrize("place", ["/proc/none", "/proc/self/fd"])
def test_a_file_system_that_takes_no_folder_is_named(place: str) -> None:
    """The kernel's own file systems say of a new folder that it is not there: the store says what to do."""
    with pytest.raises(StoreError) as caught:
        Store(Path(place)).get(MODEL, NAME, RECIPE, Builder())
    text = str(caught.value)
    assert text.startswith(f"{place}: the artifact store cannot be used: Operation not permitted ({place}")
    assert text.endswith("; choose another folder with --artifacts=DIR")


def test_a_folder_that_no_path_leads_to_is_named(tmp_path: Path) -> None:
    """A name that is too long for any folder, and a link to itself, are one line with a way out."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for root, why in ((tmp_path / ("a" * 5000), "File name too long"), (tmp_path / "loop", "Too many levels")):
        for ask in (lambda s: s.get(MODEL, NAME, RECIPE, Builder()), lambda s: s.find(MODEL, NAME, RECIPE)):
            with pytest.raises(StoreError, match=rf"the artifact store cannot be used: {why}.*choose another folder"):
                ask(Store(root))


CHAIN = """
def slowly(size):
    def build(folder):
        for number in range(5):
            (folder / f"part-{number}").write_bytes(b"w" * size)
            time.sleep(0.01)
    return build
for size in (1, 5000, 100000):
    attempt(f"artifact-{size}", slowly(size))
"""
"""Three artifacts, one after the other, in a few hundredths of a second each."""


@pytest.mark.parametrize("moments", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_at_any_moment_leaves_nothing(tmp_path: Path, moments: int) -> None:
    """Whenever SIGKILL comes, the next run has the artifacts of one that nothing disturbed, and leaves nothing over."""
    undisturbed = Store(tmp_path / "undisturbed")
    expected = lines_of(undisturbed.root, CHAIN)[2::3]
    random, killed = Random(moments), 0
    for number in range(moments):
        store = Store(tmp_path / f"killed-{number}")
        with start(store.root, CHAIN) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == f"building {MODEL}/artifact-1\n"
                time.sleep(random.uniform(0, 0.2))
            finally:
                process.kill()
        killed += process.returncode == -signal.SIGKILL
        again = lines_of(store.root, CHAIN)
        assert [line for line in again if line.startswith("got ")] == expected
        assert hidden(store.root) == []
        assert store.names(MODEL) == undisturbed.names(MODEL)
        for name in store.names(MODEL):
            found = tree(store.root / MODEL / name)
            assert found.pop("artifact.json")
            assert found == {f"part-{n}": b"w" * int(name.rpartition("-")[2]) for n in range(5)}
    assert killed


def test_eight_processes_on_an_empty_store_build_each_artifact_once(store: Store, tmp_path: Path) -> None:
    """Whoever comes first builds; the others wait for it, share what it built, and nothing is left over."""
    outputs = [tmp_path / f"{number}.log" for number in range(8)]
    processes = [start(store.root, CHAIN, output) for output in outputs]
    try:
        assert [process.wait(timeout=60) for process in processes] == [0] * 8
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = [output.read_text().splitlines() for output in outputs]
    built = [line for lines in said for line in lines if line.startswith("building ")]
    assert sorted(built) == sorted(f"building {MODEL}/{name}" for name in store.names(MODEL))
    assert len({tuple(line for line in lines if line.startswith("got ")) for lines in said}) == 1
    assert hidden(store.root) == []


def test_a_disk_that_is_full_at_any_artifact_keeps_those_before(tmp_path: Path) -> None:
    """Each artifact that does not fit is one line with a way out; those that were built before are whole."""
    for fitting, limit in enumerate((0, 100, 10_000)):
        store = Store(tmp_path / str(limit))
        # A record is a file, too; so that it is the artifacts that do not fit, it may be written.
        script = f"""
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
real = module.Store._build
def limited(self, model, name, recipe, build):
    def within(folder):
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
        try:
            return build(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return real(self, model, name, recipe, within)
module.Store._build = limited
"""
        said = lines_of(store.root, script + CHAIN)
        assert len([line for line in said if line.startswith("got ")]) == fitting
        refused = [line for line in said if line.startswith("StoreError: ")]
        assert refused == [
            f"StoreError: {store.root}: the artifact store cannot be used: File too large; "
            "choose another folder with --artifacts=DIR"
        ] * (3 - fitting)
        assert len(store.names(MODEL)) == fitting
        assert hidden(store.root) == []


def test_names_are_those_of_the_artifacts(tmp_path):
    """The artifacts of a model are listed in order, without what a build left behind; unknown models have none."""
    store = Store(tmp_path)
    for name in ("b", "a"):
        store.get("model", name, Recipe({}), lambda folder: (folder / "file").write_bytes(b"x") and None)
    (tmp_path / "model" / ".a.1.deadbeef.partial").mkdir()
    assert store.names("model") == ("a", "b")
    assert store.names("other") == ()


# What a file holds.


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that nobody has touched for long, as its clock goes: the system's cannot be set back for one file."""
    path = tmp_path / "engine"
    path.write_bytes(b"first")
    later = time.time_ns() + 10 * hashing.SETTLED_NS
    monkeypatch.setattr(time, "time_ns", lambda: later)
    return path


def test_a_file_that_rests_is_read_once(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content of a file that nobody touched is not read again for each test that asks for it."""
    first = file_hash(settled)
    assert first == hashlib.sha256(b"first").hexdigest()
    monkeypatch.setattr(hashing.hashlib, "sha256", lambda: pytest.fail("read again"))
    assert file_hash(settled) == first


def test_a_change_of_a_file_that_rested_is_seen(settled: Path) -> None:
    """Other bytes of the same length are seen, though the time of the last write was set back to what it was."""
    first, stat = file_hash(settled), settled.stat()
    settled.write_bytes(b"other")
    os.utime(settled, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert settled.stat().st_mtime_ns == stat.st_mtime_ns
    assert file_hash(settled) != first
    replaced = settled.with_name("beside")
    replaced.write_bytes(b"third")
    third = file_hash(replaced)
    replaced.replace(settled)
    assert file_hash(settled) == third


def test_a_clock_that_was_set_back_trusts_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from the future is read each time: nobody knows how long ago it was touched. Its artifact still holds."""
    store = Store(tmp_path / "build")
    built = store.get(MODEL, NAME, RECIPE, Builder())
    path = built.file("model.onnx")
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600 * 10**9)
    assert store.get(MODEL, NAME, RECIPE, Builder()).sha256 == built.sha256
    stat = path.stat()
    path.write_bytes(b"Weights " * 625)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.find(MODEL, NAME, RECIPE) is None
    read: list[Path] = []
    monkeypatch.setattr(hashing.hashlib, "sha256", lambda: read.append(path) or hashlib.new("sha256"))
    assert file_hash(path) == file_hash(path)
    assert len(read) == 2


def test_a_file_that_was_just_touched_is_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files can change within one tick of a file system's clock: what was touched a moment ago is hashed anew."""
    path, read = tmp_path / "engine", []
    path.write_bytes(b"first")
    monkeypatch.setattr(hashing.hashlib, "sha256", lambda: read.append(path) or hashlib.new("sha256"))
    assert file_hash(path) == file_hash(path)
    assert read == [path, path]
