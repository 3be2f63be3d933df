"""A plan's runner, with what was once measured to be the fastest way to run it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import copiers
from engines import far as engines_far
from engines.formats.code import code
from engines.formats.tensorrt import devices, packages, runner, slots, tuning, versions
from engines.hashing import file_hash
from engines.store import Recipe

if TYPE_CHECKING:
    from engines.formats.base import Keep
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant


def open_plan(
    spec: ModelSpec, variant: Variant, plan: Path, batch_size: int | None, keep: Keep | None, *, compatible: bool
) -> Runner:
    """Runner of a plan on the GPUs of ``--devices``, one unless more are asked for.

    Where ``keep`` stores it, with the streams, graphs and copiers that were measured best.
    """
    if batch_size is not None and variant.profile is not None:
        # Callers ask for at most so many, and the plan takes no more.
        batch_size = min(batch_size, variant.profile.max)

    return devices.opened(spec, variant, partial(on_device, spec, variant, plan, batch_size, keep, compatible))


def on_device(
    spec: ModelSpec,
    variant: Variant,
    plan: Path,
    batch_size: int | None,
    keep: Keep | None,
    compatible: bool,
    device: int,
    *,
    far: bool = False,
) -> Runner:
    """Runner of a plan on one GPU, by CUDA's number, configured as was measured best where ``keep`` stores it.

    ``far`` says that its samples will lie in another process.
    """
    opened = runner.TensorRTRunner(spec, variant, plan, batch_size, allow_host_code=compatible, device=device)
    if keep is not None:
        # Several runtimes run the same version-compatible plan, from the same store.
        at = f".{versions.runtime_id()}" if compatible else ""
        with closed_on_error(opened):
            tune(opened, plan, keep, {"tensorrt": packages.version()}, at, far=far)
    return opened


@contextlib.contextmanager
def closed_on_error(opened: runner.TensorRTRunner) -> Iterator[None]:
    """Close a runner that something is measured on, should that fail."""
    try:
        yield
    except BaseException:
        opened.close()
        raise


def tune(
    opened: runner.TensorRTRunner,
    plan: Path,
    keep: Keep,
    tools: Mapping[str, str | None],
    suffix: str = "",
    *,
    far: bool = False,
) -> None:
    """Configure a runner as was measured best for its plan, by ``tools`` on this device; measure it the first time.

    For ``far`` samples, which take longer to copy, that may be other settings.
    """
    made_from = {"plan": file_hash(plan)}
    for module in (runner, slots, copiers, engines_far, tuning):
        made_from |= code(module.__name__.replace(".formats", ""), Path(str(module.__file__)))
    parameters = {"batch": opened.batch_size, "processors": os.cpu_count(), "far": far}

    def measure(folder: Path) -> Mapping[str, Any]:
        found = tuning.tune(opened, far=far)
        (folder / "tuning.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        return found

    recipe = Recipe(made_from, parameters, tools, packages.device())
    found = keep(f"tuning-{opened.batch_size}{suffix}{'.far' if far else ''}", recipe, measure).details
    chosen = {name: found[name] for name in ("streams", "graphs", "copiers")}
    if chosen != {"streams": opened.streams, "graphs": opened.graphs, "copiers": opened.copier_count}:
        opened.configure(**chosen)
