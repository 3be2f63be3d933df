"""``python -m commands build``: build artifacts of a model."""

from __future__ import annotations

import argparse
from dataclasses import replace

from commands.command import Call, Command, add_artifacts, add_data, add_model, told
from engines.chain import Chain
from engines.errors import EngineError
from engines.exports import export_data, export_samples
from engines.formats import registry
from engines.formats.registry import unavailable, variants
from engines.model.bundled import find_model
from engines.model.selection import find_data
from engines.model.spec import ModelSpec
from engines.model.toml import load_model
from engines.store import Store
from engines.variant import Variant


def _built() -> list[str]:
    """Formats with engines of their own: programs run those of others."""
    return sorted(
        name for name, f in registry.formats().items() if f.artifact(Variant(name, f.precisions[0])).format == name
    )


def _options(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
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


def _build(options: argparse.Namespace, _: Call) -> None:
    given = {name: vars(options)[name.replace("-", "_")] for name in registry.options()}
    spec = replace(load_model(find_model(options.model)), settings=registry.settings(given))
    chosen = _chosen(spec, options)
    store = Store(options.artifacts)
    chain = Chain(spec, find_data(spec, store, options.cifar10_dir, options.download), store)
    width = max(len(str(variant)) for variant in chosen)
    print(f"{'variant':<{width}} {'MB':>7} {'built in':>9}  path")
    for variant in chosen:
        print(f"{variant!s:<{width}} {_line(chain, variant, asked=options.format is not None)}", flush=True)
    if options.format is None and options.precision is None:
        for exported in (export_samples(chain), export_data(chain)):
            print(f"{exported.record['name']:<{width}} {exported.size / 1e6:>7.2f} {'':>9}  {exported.folder}")


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


COMMAND = Command(
    "build",
    "build artifacts of a model",
    "Build a model's artifacts into the artifact folder; what is there and still valid is kept.",
    _options,
    told(_build),
)
