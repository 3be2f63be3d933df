"""The GPUs that a plan runs on: the option ``--devices``, and the runner over all of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from engines.dealing import DealingRunner
from engines.errors import RunnerError, UnavailableError
from engines.formats.option import Option
from engines.formats.tensorrt import driver
from engines.process.child import Child
from engines.process.runner import ProcessRunner

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant

ALL = "all"
"""Every GPU that CUDA shows."""

NUMBERS = re.compile(r"\d+(,\d+)*", re.ASCII)


def refuse(value: str) -> str | None:
    """Why a value names no GPUs; None where it does. Whether they are there is seen when a plan is opened."""
    if value == ALL:
        return None
    allowed = f"allowed: {ALL}, or CUDA's numbers of GPUs, each once, as in 0,1"
    if not NUMBERS.fullmatch(value):
        return f"there are no such GPUs; {allowed}"
    numbers = [int(number) for number in value.split(",")]
    return None if len(set(numbers)) == len(numbers) else f"it names a GPU twice; {allowed}"


OPTION = Option(
    name="devices",
    metavar="LIST",
    help="run TensorRT's plans on these GPUs, batches dealt to whichever is free: all, or CUDA's numbers, as in 0,1 "
    "(default: 0)",
    default=("0",),
    refuse=refuse,
)


def chosen(spec: ModelSpec) -> dict[int, str]:
    """Numbers of the GPUs that were asked for, each with its name for people: ``GPU 1 (NVIDIA H200)``.

    Raises RunnerError for a GPU that is not there, and for one of another model than GPU 0, for which plans are built.
    """
    (value,) = OPTION.values(spec)
    try:
        found = driver.devices()
    except UnavailableError as error:
        raise RunnerError(f"--devices={value}: {error}") from error
    names = {number: f"GPU {number} ({device.name})" for number, device in enumerate(found)}
    numbers = list(names) if value == ALL else [int(number) for number in value.split(",")]
    for number in numbers:
        if number not in names:
            shown = ", ".join(names.values())
            raise RunnerError(f"--devices={value}: there is no GPU {number}; allowed: those that CUDA shows: {shown}")
        if found[number].name != found[0].name:
            same = ",".join(str(n) for n in names if found[n].name == found[0].name)
            raise RunnerError(
                f"--devices={value}: {names[number]} is of another model than {names[0]}, for which plans are built; "
                f"allowed: --devices={same}, or CUDA_VISIBLE_DEVICES with GPUs of one model"
            )
    return {number: names[number] for number in numbers}


def several(spec: ModelSpec) -> bool:
    """Whether more than one GPU was asked for, and is there."""
    return OPTION.values(spec) != OPTION.default and len(chosen(spec)) > 1


def too_few() -> str | None:
    """Why nothing can be seen of two GPUs here; None where CUDA shows two of the first one's model."""
    try:
        found = driver.devices()
    except UnavailableError as error:
        return f"needs two GPUs: {error}"
    same = [device for device in found if device.name == found[0].name]
    if len(same) > 1:
        return None
    others = f" and {len(found) - 1} of other models" if len(found) > 1 else ""
    return f"needs two GPUs of one model: CUDA shows one {found[0].name}{others}"


def opened(spec: ModelSpec, variant: Variant, one: Callable[..., Runner]) -> Runner:
    """Runner on the GPUs that were asked for; ``one`` opens the plan on one of them, by its number.

    Where it is one, its own runner: nothing stands between. Of several each has a process of its own, since one
    interpreter's lock is not enough to feed two; so ``one`` has to be one that can be pickled. It is told by ``far``
    that samples lie in another process. They start all at once.
    Raises RunnerError, which names the GPU, where a plan cannot be opened on one of several.
    """
    (value,) = OPTION.values(spec)
    if (value,) == OPTION.default:
        return one(0)
    names, runners = chosen(spec), {}
    if len(names) == 1:
        return one(next(iter(names)))
    if sys.platform != "linux":
        raise RunnerError(
            f"--devices={value}: several GPUs at once need Linux; allowed: one of {', '.join(names.values())}"
        )
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for number, name in names.items():
            children[name] = Child(partial(one, number, far=True))
            # What has not opened its runner by then, or is not to be used, has nothing to say.
            stack.callback(children[name].close, patience=0)
        for name, child in children.items():
            try:
                runners[name] = ProcessRunner(spec, variant, child)
            except RunnerError as error:
                raise RunnerError(f"{name}: {error}") from error
        dealing = DealingRunner(runners)
        stack.pop_all()
        return dealing
