"""Contrast and drawn inputs fit the model: as many samples of every input, each of its shape and within its range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.model import parse_model
from fixtures.contrast import contrast_set
from fixtures.strategies import drawn_inputs

SHAPES = {"number": [], "features": [6], "sequence": [20, 5], "image": [8, 6, 3]}
RANGES = {"number": [0.0, 120.0], "features": [-3.0, 6.0], "sequence": [-1.0, 1.0], "image": [0.0, 1.0]}


def spec_of(*names):
    """Describe a model with these inputs."""
    inputs = [{"name": name, "shape": ["batch", *SHAPES[name]], "range": RANGES[name]} for name in names]
    outputs = [{"name": "scores", "shape": ["batch", 4], "kind": "probabilities"}]
    content = {"source": {"saved_model": "saved"}, "inputs": inputs, "outputs": outputs}
    return parse_model({**content, "data": {"dataset": "photographs"}}, Path("mine.toml"))


@pytest.mark.parametrize(
    "names", [["image"], ["image", "features"], ["features", "image"], ["number", "sequence", "image"], ["number"]]
)
def test_inputs_of_any_rank_have_equally_many_samples(names):
    """Each input, beside inputs of other ranks too, has a sample for every name, of its shape and within its range."""
    spec = spec_of(*names)
    patterns, contrast = contrast_set(spec)
    drawn = drawn_inputs(spec, 5)
    assert len(set(patterns)) == len(patterns)
    for name in names:
        assert contrast[name].shape == (len(patterns), *SHAPES[name])
        assert drawn[name].shape == (len(drawn[names[0]]), *SHAPES[name])
        for array in (contrast[name], drawn[name]):
            assert array.dtype == np.float32
            assert RANGES[name][0] <= array.min() < array.max() <= RANGES[name][1]
        assert [contrast[name].min(), contrast[name].max()] == RANGES[name]
