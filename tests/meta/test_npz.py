"""Files of arrays that somebody gives run no code, and are refused before they fill the memory."""

from __future__ import annotations

import ast
import hashlib
import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.errors import DataError, EngineError
from engines.formats.savedmodel import training
from engines.model import memory, npz
from engines.model.bundled import find_model
from engines.model.npz import load_npz
from engines.model.shards import read_shards
from engines.model.spec import Weights
from engines.model.toml import load_model

ROOT = Path(__file__).resolve().parents[2]


class Ran:
    """What a pickle makes run: it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def free(monkeypatch):
    """Let so many bytes of memory be free."""

    def of(count):
        monkeypatch.setattr(npz, "available", lambda: count)

    return of


def lying(path, shape):
    """Write an archive whose array says that it is of another shape than it holds."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())


def test_an_archive_that_unpacks_to_more_than_fits_is_not_read(tmp_path, free, monkeypatch):
    """A few kB of zeros that unpack to more than half of what is free are one line, before any array is read."""
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=np.zeros(1_000_000, np.float32), y=np.zeros(10, np.float32))
    assert path.stat().st_size < 10_000
    free(9_000_000)
    assert load_npz(path, "--samples mine.npz")["x"].size == 1_000_000
    free(7_000_000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DataError) as caught:
        load_npz(path, "--samples mine.npz")
    assert str(caught.value) == (
        "--samples mine.npz: unpacks to 4.0 MB, its member 'x.npy' to 4.0 MB; allowed: 3.5 MB, half of the memory that "
        "is free; give them in parts, --samples=FOLDER of smaller .npz files"
    )


def test_a_header_that_says_more_than_the_archive_holds_is_not_believed(tmp_path, free):
    """NumPy takes the memory that an array's header asks for before it reads a byte."""
    lying(tmp_path / "mine.npz", (1 << 20, 1 << 20))
    free(1 << 30)
    with pytest.raises(DataError, match=r"unpacks to 4,398\.0 GB, its member 'x.npy' to .*; allowed: 536\.9 MB"):
        load_npz(tmp_path / "mine.npz", "--samples mine.npz")


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_shard_that_is_too_large_is_not_read(tmp_path, free, suffix):
    """Shards are held one at a time: one that does not fit is named."""
    spec = load_model(find_model("digits_vgg"))
    zeros = np.zeros((100, *spec.concrete_shape(spec.inputs[0], 1)[1:]), np.float32)
    path = tmp_path / f"part-0{suffix}"
    with path.open("wb") as file:
        np.save(file, zeros) if suffix == ".npy" else np.savez_compressed(file, **{spec.inputs[0].name: zeros})
    free(40_000)
    with pytest.raises(DataError, match=r"part-0\.np[yz]: unpacks to 32\.\d kB, .*; cut it into smaller shards"):
        read_shards(tmp_path, spec)


@pytest.mark.parametrize("kind", ["a bare pickle", "an array of objects", "a single array"])
def test_weights_that_are_pickled_are_one_line_and_run_nothing(digits, tmp_path, kind):
    """A file of weights is arrays: a pickle of any form is refused with the file's name, and none of it is run."""
    path, ran = tmp_path / "weights.npz", tmp_path / "ran"
    objects = np.array([Ran(ran)], object)
    if kind == "a bare pickle":
        path.write_bytes(pickle.dumps(Ran(ran)))
    elif kind == "a single array":
        with path.open("wb") as file:
            np.save(file, objects, allow_pickle=True)
    else:
        np.savez(path, **{"00": objects})
    weights = Weights(path, hashlib.sha256(path.read_bytes()).hexdigest(), "a test")
    with pytest.raises(EngineError) as caught:
        training.load_weights(replace(digits.spec, weights=weights))
    assert str(caught.value).startswith(f"{path}: ")
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    pickle.loads(pickle.dumps(Ran(ran)))  # no dud: it runs where it is let
    assert ran.exists()


def test_weights_that_unpack_to_more_than_fits_are_refused(digits, tmp_path, free):
    """Weights take the memory that their file says, too."""
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, **{"00": np.zeros(1_000_000, np.float32)})
    free(4_000_000)
    with pytest.raises(DataError, match=r"weights.npz: unpacks to 4\.0 MB, .*; weights of this architecture are small"):
        training.read_weights(None, path)


def test_no_file_is_read_with_pickles_allowed():
    """NumPy refuses pickles unless it is told otherwise, and nothing tells it."""
    folders = ("engines", "trial", "commands", "conformance", "fixtures")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path


def test_what_is_free_is_what_the_system_or_the_container_says(tmp_path, monkeypatch):
    """A container's limit counts where it is less than the machine's memory; without either it is all there is."""
    whole = memory.available()
    assert whole > 1 << 20
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n", encoding="ascii")
    (tmp_path / "memory.current").write_text("1000000\n", encoding="ascii")
    assert memory.available() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "missing")
    assert memory.available() >= 1 << 30
