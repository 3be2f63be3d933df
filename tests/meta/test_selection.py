"""What the options choose is refused before anything is built, where they exclude each other or the data do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from engines.errors import DataError, SpecError
from engines.model.selection import chains
from engines.store import Store

TWO_INPUTS = """
source.saved_model = "saved"
inputs = [{ name = "image", shape = ["batch", 32, 32, 3] }, { name = "meta", shape = ["batch", 6] }]
outputs = [{ name = "scores", shape = ["batch", 4], kind = "probabilities" }]
data.dataset = "photographs"
"""


@pytest.fixture
def toml(tmp_path):
    """Describe a model with an image and a vector."""
    path = tmp_path / "two.toml"
    path.write_text(TWO_INPUTS, encoding="utf-8")
    return path


@pytest.fixture
def store(tmp_path):
    """An empty artifact folder."""
    return Store(tmp_path / "build")


def test_data_without_an_input_of_the_model_are_refused_at_once(toml, store):
    """The missing input is named, and the option that brings samples of it."""
    with pytest.raises(DataError, match=r"two.toml: the data \(32x32 .*\) have no input 'meta'; allowed: --samples="):
        chains(store, models=[str(toml)])


def test_data_of_another_shape_are_refused_at_once(toml, store):
    """What the model takes and what the data are is said, before anything is converted."""
    toml.write_text(TWO_INPUTS.replace(', { name = "meta", shape = ["batch", 6] }', "").replace("32, 32", "24, 40"))
    with pytest.raises(DataError, match=r"'image' has shape \(100, 24, 40, 3\), 32x32 .* have \(100, 32, 32, 3\)"):
        chains(store, models=[str(toml)])


def test_samples_of_every_input_are_taken(toml, store, tmp_path):
    """With a file that has all inputs the same model is under test, on that file's samples."""
    arrays = {"image": np.zeros((7, 32, 32, 3), np.float32), "meta": np.ones((7, 6), np.float32)}
    np.savez(tmp_path / "mine.npz", **arrays)
    (chain,) = chains(store, models=[str(toml)], samples=tmp_path / "mine.npz").values()
    assert len(chain.samples) == 7
    assert len(chain.calibration) == chain.spec.calibration.samples
    np.testing.assert_array_equal(chain.samples.inputs["meta"], arrays["meta"])


def test_every_bundled_model_is_under_test_where_none_is_named(store, tmp_path):
    """Without options the bundled models are chosen, and options for one model ask for its name."""
    assert set(chains(store)) == {"cifar10_vgg", "digits_vgg"}
    with pytest.raises(SpecError, match="--samples is for one model, and cifar10_vgg, digits_vgg are under test"):
        chains(store, samples=tmp_path / "mine.npz")


def test_a_saved_model_and_a_model_exclude_each_other(store, tmp_path):
    """Both are named in the error."""
    with pytest.raises(SpecError, match=r"saved-model .* and the model digits_vgg are both given; allowed: one of the"):
        chains(store, models=["digits_vgg"], saved_model=tmp_path)
