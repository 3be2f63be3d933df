"""Finding the datasets that the bundled models were trained on: by a name, without reading an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engines.errors import DataError
from engines.model.cifar10 import _cifar10, _download_folder, _examined, _find_cifar10, download_cifar10
from engines.model.samples import Dataset
from engines.model.scikit_learn import _digits, _photographs

DATASETS = ("cifar10", "photographs", "digits")
"""What :func:`locate` finds."""


def locate(
    dataset: str,
    *,
    cifar10_dir: Path | None = None,
    download: bool = False,
    input_name: str = "input_1",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Dataset:
    """Find a dataset, without reading its images.

    ``input_name`` is what its samples' input is called, ``value_range`` what black and white are scaled to.

    ``cifar10`` is looked for in ``cifar10_dir``, in the folder that the environment's CIFAR10_DIR names, in Keras'
    cache and in this project's own. ``download`` fetches it into the latter where none has it. Where there is no
    CIFAR-10, the unlabelled ``photographs`` stand in for it.

    Raises DataError for an unknown name, and for a named folder that is missing, incomplete or of wrong sizes. So it
    does for a cached copy that is incomplete, and for a download that fails.
    """
    found = _located(dataset, cifar10_dir, download, input_name)
    return replace(found, value_range=value_range)


def _located(dataset: str, cifar10_dir: Path | None, download: bool, input_name: str) -> Dataset:
    if dataset == "digits":
        return _digits(input_name)
    if dataset == "photographs":
        return _photographs(input_name, "the photographs have no labels")
    if dataset != "cifar10":
        raise DataError(f"the dataset is {dataset!r}, expected one of {', '.join(DATASETS)}")
    found = _find_cifar10(cifar10_dir)
    if found is None and download:
        found = _examined(download_cifar10(_download_folder()))
    if found is None:
        return _photographs(
            input_name, "no CIFAR-10 here (set CIFAR10_DIR, --cifar10-dir or --download), so there are no labels"
        )
    return _cifar10(*found, input_name)
