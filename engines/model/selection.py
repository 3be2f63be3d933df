"""What the command-line options choose: the models under test, their samples, and engines made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.chain import DATA, Chain
from engines.errors import SpecError
from engines.formats import registry
from engines.model import brought, datasets, derive, options
from engines.model.bundled import bundled_names, find_model
from engines.model.paths import is_folder
from engines.model.samples import unpack
from engines.model.shards import read_shards
from engines.model.sizes import refuse_too_large
from engines.model.spec import SIGNATURE, ModelSpec
from engines.model.toml import FILE_REFERENCE, load_model

if TYPE_CHECKING:
    from engines.chain import Data
    from engines.store import Store


def select(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    """Index specs by name; raises SpecError where two share one."""
    result: dict[str, ModelSpec] = {}
    for spec in specs:
        if spec.name in result:
            raise SpecError(
                f"{spec.source}: name {spec.name!r} is taken by {result[spec.name].source}; allowed: another name"
            )
        result[spec.name] = spec
    return result


def find_data(spec: ModelSpec, store: Store, cifar10_dir: Path | None = None, download: bool = False) -> Data:
    """Samples of a model: those on this machine, or those in the store where this environment only consumes.

    Where its description names no dataset, they are made within its ranges.

    Without the reference's packages, samples that another environment stored come before those that are made with
    scikit-learn: the stored engines were calibrated with them. CIFAR-10 itself is the same everywhere.
    Raises DataError as :func:`engines.model.datasets.locate` does.
    """
    if not spec.dataset:
        return brought.make_samples(spec)
    item = spec.inputs[0]
    found = datasets.locate(
        spec.dataset, cifar10_dir=cifar10_dir, download=download, input_name=item.name, value_range=item.range
    )
    consumes = registry.reference(spec).unavailable() and found.name != "cifar10"
    if consumes and (stored := store.recorded(spec.name, DATA)):
        return unpack(stored.file("data.npz"), stored.details, item.name, item.range)
    return found


def chains(
    store: Store,
    *,
    models: Sequence[str] = (),
    saved_model: Path | None = None,
    signature: str | None = None,
    precisions: Sequence[str] = (),
    kinds: Sequence[str] = (),
    samples: Path | None = None,
    engines: Mapping[str, Path] | None = None,
    settings: Mapping[str, Sequence[str] | None] | None = None,
    cifar10_dir: Path | None = None,
    download: bool = False,
) -> dict[str, Chain]:
    """The chain of each model under test, by the model's name: every bundled one where none is named.

    Each argument is what the option of its name gives. ``engines`` are the files of ``--onnx`` and ``--tflite``,
    ``settings`` the values of the formats' own options. An ONNX file alone, without any model, is a model itself.
    Raises EngineError where options exclude each other, a file is no good, or the data lack an input of the model.
    """
    files = dict(engines or {})
    if saved_model is not None and models:
        raise SpecError(
            f"--saved-model {saved_model} and the model {models[0]} are both given; allowed: one of the two"
        )
    if signature is not None and saved_model is None:
        raise SpecError(f"--signature {signature} is for --saved-model DIR; a TOML file has source.signature")
    derived = True
    if saved_model is not None:
        specs = [derive.derive_spec(saved_model, samples, signature or SIGNATURE, store)]
    elif not models and set(files) == {FILE_REFERENCE.format}:
        specs = [derive.derive_onnx(files.pop(FILE_REFERENCE.format), samples)]
    else:
        derived = False
        specs = [load_model(find_model(name)) for name in models or bundled_names()]
    if kinds and len(specs) != 1:
        raise SpecError(f"--kind {kinds[0]} is for one model; name one with --model, --saved-model or --onnx")
    specs = [options.with_precisions(options.with_kinds(spec, kinds), precisions) for spec in specs]
    of_one = [*(f"--{format_}" for format_ in files), *(["--samples"] if samples else [])]
    of_one += [f"--{name}" for name, o in registry.options().items() if o.for_one_model and (settings or {}).get(name)]
    for option in of_one:
        if len(specs) != 1:
            raise SpecError(
                f"{option} is for one model, and {', '.join(s.name for s in specs)} are under test; "
                "name one with --model or --saved-model"
            )
    for format_, path in files.items():
        specs = [brought.brought_engine(format_, path, specs[0])]

    chosen = registry.settings(settings or {})
    specs = [replace(spec, settings=chosen) for spec in specs]

    def data(spec: ModelSpec) -> Data:
        if samples is not None:
            if not is_folder(samples):
                return brought.read_samples(samples, spec)
            # A range that was read off the first shard is none that the others have to keep to.
            return read_shards(samples, options.without_ranges(spec) if derived else spec)
        if derived:
            return brought.make_samples(spec)
        return find_data(spec, store, cifar10_dir, download)

    found = {spec.name: Chain(spec, data(spec), store, files) for spec in select(specs).values()}
    for chain in found.values():
        if not chain.spec.bundled:
            count = len(chain.samples)  # refuses data that do not fit, once and before anything is built from them
            refuse_too_large(chain.spec, count, range(1, chain.spec.sizes))
    return found
