"""What made-up inputs of a model may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.model.brought import BroughtData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.samples import Dataset
    from engines.model.spec import ModelSpec

    Ranges = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


def ranges(spec: ModelSpec, data: Dataset | BroughtData) -> Ranges:
    """The least and the largest value that made-up inputs may have, by input name; both broadcast to a sample.

    They are those of the description, but for a table of samples that a user brought: its columns are measured in
    units of their own, and one range for all of them would be far outside of what the model knows.
    """
    found = {i.name: (np.asarray(i.range[0]), np.asarray(i.range[1])) for i in spec.inputs}
    if isinstance(data, BroughtData) and data.test_count > 1:
        arrays = data.test().inputs
        for name in (i.name for i in spec.inputs if len(i.shape) == 2):
            low, high = arrays[name].min(axis=0), arrays[name].max(axis=0)
            found[name] = low.astype(np.float64), high.astype(np.float64)
    return found
