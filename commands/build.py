"""``python -m commands build``: build artifacts of a model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from commands.command import (
    DONE,
    FAILED,
    Call,
    Command,
    add_artifacts,
    add_data,
    add_model_and_samples,
    chosen_chain,
    told,
)
from engines.chain import Chain
from engines.errors import ConversionError, EngineError
from engines.exports import export_data, export_samples
from engines.formats import registry
from engines.formats.registry import unavailable, variants
from engines.model.samples import Dataset
from engines.model.spec import ModelSpec
from engines.progress import live
from engines.store import Artifact
from engines.variant import Variant
from trial.own_noise import JUDGED, noise_in, precisions
from trial.twin import TwinError


def _built() -> list[str]:
    """Formats with engines of their own: programs run those of others."""
    return sorted(
        name for name, f in registry.formats().items() if f.artifact(Variant(name, f.precisions[0])).format == name
    )


def _options(parser: argparse.ArgumentParser) -> None:
    add_model_and_samples(parser)
    add_data(parser)
    parser.add_argument("--format", choices=_built(), help="only this format (default: all that the model names)")
    parser.add_argument("--precision", help="only this precision, such as fp32, fp16 or int8 (default: all)")
    for option in registry.options().values():
        parser.add_argument(f"--{option.name}", **option.arguments)
    parser.add_argument("--all", action="store_true", help="every format and precision (the default)")
    add_artifacts(parser)


def _chosen(spec: ModelSpec, options: argparse.Namespace) -> list[Variant]:
    built = [v for v in variants(spec) if v.format in _built()]
    chosen = [v for v in built if options.format in {None, v.format} and options.precision in {None, v.precision}]
    if not chosen:
        raise EngineError(
            f"{spec.name}: no variant of --format {options.format or 'any'} --precision {options.precision or 'any'}; "
            f"allowed: {', '.join(map(str, built))}"
        )
    return chosen


def _build(options: argparse.Namespace, call: Call) -> int:
    given = {name: vars(options)[name.replace("-", "_")] for name in registry.options()}
    chain = chosen_chain(options, call, given, options.download)
    chosen = _chosen(chain.spec, options)
    width = max(len(str(variant)) for variant in chosen)
    print(f"{'variant':<{width}} {'MB':>7} {'built in':>9}  path")
    everything, failed = options.format is None and options.precision is None, 0
    for variant in chosen:
        try:
            line = _line(chain, variant, asked=options.format is not None)
        except ConversionError as error:
            # What is wrong with one precision takes none of the others from whoever wants all.
            failed += 1
            line = f"{'-':>7} {'-':>9}  FAILED: {error}"
        print(f"{variant!s:<{width}} {line}", flush=True)
    if everything:
        for exported in _exported(chain):
            print(f"{exported.record['name']:<{width}} {exported.size / 1e6:>7.2f} {'':>9}  {exported.folder}")
        _keep_twins(chain)
    return FAILED if failed else DONE


def _exported(chain: Chain) -> Iterator[Artifact]:
    """Samples for other programs, and those of a data set for machines that cannot load it."""
    yield export_samples(chain)
    # A user's own samples are a file, which whoever carries the artifacts carries too.
    if isinstance(chain.dataset, Dataset):
        yield export_data(chain)


def _not_built(variant: Variant, spec: ModelSpec) -> str | None:
    """Why a variant is not built here: it cannot be, or it cannot run here and is of no use elsewhere."""
    if registry.buildable(variant, spec):
        return None
    return unavailable(variant) or registry.find(variant.format).unbuildable(variant, spec)


def _line(chain: Chain, variant: Variant, *, asked: bool) -> str:
    """Line on a variant that was built now, or why it was not: ``asked`` is whether its format was asked for."""
    if not asked and (reason := _not_built(variant, chain.spec)):
        # Whoever asks for all gets all that this machine can build, and is told of the rest.
        return f"{'-':>7} {'-':>9}  not built: {reason}"
    artifact, path = chain.artifact(variant), chain.file(variant)
    layers = artifact.details.get("layers", {})
    more = f"  layers: {', '.join(f'{count} {name}' for name, count in layers.items())}" if layers else ""
    size = path.stat().st_size if path.is_file() else artifact.size
    return f"{size / 1e6:>7.2f} {artifact.seconds:>7.1f} s  {path}{more}"


def _keep_twins(chain: Chain) -> None:
    """Store the runs of the twin in every precision; one line on what there is no twin of."""
    for precision in precisions(chain):
        try:
            for kind in JUDGED:
                with live(f"runs of the twin in {precision}"):
                    noise_in(chain, precision, kind)
        except TwinError as error:
            print(f"no twin in {precision}: {error}", flush=True)


COMMAND = Command(
    "build",
    "build artifacts of a model",
    "Build a model's artifacts into the artifact folder; what is there and still valid is kept. With all of them the "
    "model's twin is run in every precision (docs/noise.md): a machine without TensorFlow reads what it tells.",
    _options,
    told(_build),
)
