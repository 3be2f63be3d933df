"""What a chain stores for other programs and environments: samples, the reference's answers, calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.chain import DATA, Chain
from engines.errors import SpecError
from engines.formats.code import code
from engines.model import exchange, samples
from engines.model.samples import Dataset, content_hash
from engines.store import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.samples import Samples
    from engines.store import Artifact


def export_samples(chain: Chain) -> Artifact:
    """Artifact of the test samples as NumPy files for other programs: ``samples.npz``, by input name.

    Where the model has one input also ``test_samples.npy``, and ``test_labels.npy`` where there are labels.
    """
    chosen = chain.samples

    def build(folder: Path) -> Mapping[str, Any]:
        arrays: dict[str, Any] = dict(chosen.inputs)
        if chosen.labels is not None:
            arrays["labels"] = chosen.labels
            np.save(folder / "test_labels.npy", chosen.labels)
        np.savez(folder / "samples.npz", **arrays)
        if len(chosen.inputs) == 1:
            np.save(folder / "test_samples.npy", next(iter(chosen.inputs.values())))
        return {"data": chain.dataset.source, "samples": len(chosen), "labelled": chosen.labels is not None}

    return chain.keep("samples", Recipe(chosen.hashes()), build)


def exchanged(chain: Chain, count: int) -> Samples:
    """The first ``count`` test samples, for programs that are given them as CSV.

    Raises SpecError for a model without class scores or with several inputs, and DataError where there are fewer
    samples.
    """
    spec = chain.spec
    if len(spec.inputs) != 1:
        names = ", ".join(i.name for i in spec.inputs)
        raise SpecError(f"{spec.source}: has the inputs {names}; allowed for CSV: a model with one input")
    if spec.probabilities is None:
        raise SpecError(f"{spec.source}: has no output of class scores; allowed for CSV: a model with one")
    return chain.dataset.test(count)


def exchanged_reference(chain: Chain, chosen: Samples) -> dict[str, NDArray[Any]]:
    """The reference's class scores of what :func:`exchanged` returns, by the output's name."""
    # What the tests compute anyway, under the names that they give it.
    name = "samples" if len(chosen) == len(chain.samples) else f"accuracy-{len(chosen)}"
    made_by = f"python -m engines export-csv {chain.spec.argument} --samples {len(chosen)}"
    outputs = chain.reference(name, chosen.inputs, made_by)
    return {o.name: outputs[o.name] for o in chain.spec.outputs if o == chain.spec.probabilities}


def export_csv(chain: Chain, count: int) -> Artifact:
    """Artifact ``csv-<count>``: so many test samples, their labels and the reference's answers as CSV.

    docs/exchange.md describes the files. Raises as :func:`exchanged` does.
    """
    chosen = exchanged(chain, count)
    [array] = chosen.inputs.values()
    [scores] = exchanged_reference(chain, chosen).values()

    def build(folder: Path) -> Mapping[str, Any]:
        exchange.write_samples(folder / exchange.SAMPLES, array)
        exchange.write_verification(folder / exchange.VERIFICATION, scores)
        if chosen.labels is not None:
            exchange.write_labels(folder / exchange.LABELS, chosen.labels)
        return {
            "data": chain.dataset.source,
            "samples": count,
            "values": array[0].size,
            "labelled": chosen.labels is not None,
            "fed_sha256": exchange.fed_hash(array),
        }

    written_by = code("engines.exchange", Path(str(exchange.__file__)))
    made_from = chosen.hashes() | {"reference": content_hash({"scores": scores})} | written_by
    return chain.keep(f"csv-{count}", Recipe(made_from), build)


def export_data(chain: Chain) -> Artifact:
    """Artifact of test samples, labels and calibration samples, for environments that can load none themselves.

    Raises SpecError for samples that a user brought: they are a file already.
    """
    if not isinstance(chain.dataset, Dataset):
        raise SpecError(f"{chain.spec.name}: its samples are a user's own file; allowed: the file itself, --samples")
    arrays, rest = samples.pack(chain.dataset, chain.spec.calibration.samples)

    def build(folder: Path) -> Mapping[str, Any]:
        saved: dict[str, Any] = dict(arrays)
        np.savez_compressed(folder / "data.npz", **saved)
        return rest

    return chain.keep(DATA, Recipe({"arrays": content_hash(arrays)}), build)
