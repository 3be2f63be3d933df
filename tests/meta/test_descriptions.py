"""What was found out about a SavedModel is kept as long as nothing it hangs on has changed, and no longer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engines.errors import SpecError
from engines.model import descriptions
from engines.model.descriptions import kept
from engines.store import Store


@pytest.fixture
def folder(tmp_path):
    """A folder as a SavedModel has them."""
    found = tmp_path / "model"
    (found / "variables").mkdir(parents=True)
    (found / "saved_model.pb").write_bytes(b"graph")
    (found / "variables" / "variables.index").write_bytes(b"weights")
    return found


@pytest.fixture
def samples(tmp_path):
    """A file of samples."""
    np.savez(tmp_path / "samples.npz", x=np.zeros(3))
    return tmp_path / "samples.npz"


@pytest.fixture
def asked(tmp_path, folder, samples):
    """Ask for the description; how often it was derived."""
    store, found = Store(tmp_path / "build"), []

    def call(signature="serving_default", given=samples):
        def derive():
            found.append(signature)
            return {"inputs": [{"name": "x", "range": [0.1, 1e-30]}], "number": len(found)}

        return kept(store, "mine", folder, signature, given, derive)["number"], len(found)

    return call


def test_it_is_derived_once(asked):
    """The second run looks at nothing again, and has the same description."""
    assert [asked(), asked(), asked()] == [(1, 1)] * 3


@pytest.mark.parametrize("what", ["graph", "weights", "new file", "samples", "no samples", "signature", "code", "tool"])
def test_whatever_it_hangs_on_has_it_derived_again(asked, folder, samples, monkeypatch, what):
    """A change of the model, of the samples, of what is asked for, of the code or of TensorFlow counts."""
    asked()
    changed = {}
    if what == "graph":
        (folder / "saved_model.pb").write_bytes(b"grapH")
    elif what == "weights":
        (folder / "variables" / "variables.index").write_bytes(b"weightS")
    elif what == "new file":
        (folder / "assets").mkdir()
        (folder / "assets" / "vocabulary.txt").write_text("a")
    elif what == "samples":
        np.savez(samples, x=np.ones(3))
    elif what == "no samples":
        changed["given"] = None
    elif what == "signature":
        changed["signature"] = "features"
    elif what == "code":
        monkeypatch.setattr(descriptions, "code", lambda name, _: {f"{name} code": "other"})
    else:
        monkeypatch.setattr(descriptions, "installed_version", lambda _: "0.1")
    assert asked(**changed) == (2, 2)


def test_a_folder_of_samples_counts_by_its_first_ones(asked, tmp_path):
    """Of a folder of files, those are read that the description is made from."""
    shards = tmp_path / "shards"
    shards.mkdir()
    np.savez(shards / "0.npz", x=np.zeros(3))
    assert [asked(given=shards), asked(given=shards)] == [(1, 1), (1, 1)]
    np.savez(shards / "0.npz", x=np.ones(3))
    assert asked(given=shards) == (2, 2)


def test_a_refusal_is_not_kept(tmp_path, folder):
    """What is wrong with a model is told in every run, in the same words."""
    store = Store(tmp_path / "build")

    def refuse():
        raise SpecError("its input is a string")

    for _ in range(2):
        with pytest.raises(SpecError, match="its input is a string"):
            kept(store, "mine", folder, "serving_default", None, refuse)
    assert store.names("mine") == ()


def test_what_is_no_savedmodel_is_looked_at_by_who_knows(tmp_path, asked, folder, samples):
    """A folder without a graph, and samples that are not there, are not even hashed."""
    samples.unlink()
    assert [asked(), asked()] == [(1, 1), (2, 2)]
    (folder / "saved_model.pb").unlink()
    assert asked(given=None) == (3, 3)
    assert not (tmp_path / "build" / "mine").exists()


def test_a_store_that_cannot_be_used_keeps_nothing(tmp_path, folder):
    """A file in the folder's place is told of by what needs the folder, not by this."""
    (tmp_path / "build").write_text("a file")
    assert kept(Store(tmp_path / "build"), "mine", folder, "serving_default", None, lambda: {"a": 1}) == {"a": 1}


def test_it_comes_back_as_it_was(tmp_path, folder):
    """Numbers, lists and texts are the same after they were kept, to the last bit."""
    whole = {"range": [-0.1, 3.4028234663852886e38], "shape": ["batch", 3], "why": "µ", "whole": [0, 255]}
    store = Store(tmp_path / "build")
    assert kept(store, "mine", folder, "serving_default", None, lambda: whole) == whole
    assert kept(store, "mine", folder, "serving_default", None, dict) == whole == json.loads(json.dumps(whole))
