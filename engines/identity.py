"""What the answers of an engine hang on, beside the inputs: as long as all of it is the same, so are their bits."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import engines.outputs
import engines.runner
from engines.formats import registry
from engines.formats.code import code_hash
from engines.late import LateRunner
from engines.machine import machine, package
from engines.store import Recipe

if TYPE_CHECKING:
    from engines.chain import Chain
    from engines.formats.base import Format
    from engines.model.spec import ModelSpec
    from engines.runner import Runner

ALWAYS = (engines.runner, engines.outputs)
"""The modules that every answer goes through."""


def identity(chain: Chain, runner: Runner) -> Recipe:
    """Recipe of what a runner answers: engine, how it is fed, runtime, runner's code, settings, and the machine.

    Of an engine that is opened late the day is part of it, too: whatever it has answered counts until midnight (UTC).
    """
    format_ = registry.find(runner.variant.format)
    late = isinstance(runner, LateRunner)
    parameters = {
        "batches": runner.batch_size,
        "way": runner.way,
        "settings": {} if late else dict(runner.settings),
        "options": {name: list(values) for name, values in chain.spec.settings.items()},
        "inputs and outputs": signature(chain.spec),
    }
    environment = {
        **machine(),
        **{name: package(tuple(found)) for name, found in format_.packages.items()},
        "numpy": package(("numpy",)),
    }
    if late:
        environment["day"] = today()
    inputs = {
        "engine": chain.artifact(runner.variant).sha256,
        "runner": runner_code(format_),
        "classes": classes(runner.kind if isinstance(runner, LateRunner) else type(runner)),
    }
    return Recipe(inputs, parameters, {}, environment)


def today() -> str:
    """The day, UTC."""
    return datetime.now(timezone.utc).date().isoformat()


def signature(spec: ModelSpec) -> str:
    """Names, shapes and dtypes of a model's inputs and outputs, as a hash."""
    inputs = [(i.name, i.signature_name, i.dtype, i.shape) for i in spec.inputs]
    outputs = [(o.name, o.signature_name, o.dtype, o.shape, o.kind) for o in spec.outputs]
    return hashlib.sha256(repr((spec.signature, inputs, outputs)).encode()).hexdigest()


def runner_code(format_: Format) -> str:
    """Hash of the code of a format's package, or of its module where that is in none, and of what all runners share."""
    module = format_.module
    alone = not sys.modules[type(format_).__module__].__package__
    files = [module] if alone else sorted(module.parent.glob("*.py"))
    files += [Path(str(shared.__file__)) for shared in ALWAYS]
    return hashlib.sha256(repr([(path.name, code_hash(path)) for path in files]).encode()).hexdigest()


@cache
def _classes(kind: type, living: tuple[CodeType, ...]) -> str:
    return hashlib.sha256(repr([_plain(one) for one in living]).encode()).hexdigest()


def classes(kind: type[Runner]) -> str:
    """Hash of the methods that a runner's classes have in this process: a plugin may have put others in their place."""
    return _classes(kind, tuple(_codes(kind)))


def _codes(kind: type) -> Iterator[CodeType]:
    for one in kind.__mro__:
        for _, value in sorted(vars(one).items()):
            code = getattr(getattr(value, "fget", value), "__code__", None)
            if isinstance(code, CodeType):
                yield code


def _plain(code: CodeType) -> list[object]:
    """What a function does, without where it stands."""
    constants = [_plain(c) if isinstance(c, CodeType) else _written(c) for c in code.co_consts]
    return [code.co_name, code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _written(constant: object) -> str:
    """A constant as every process writes it: sets of words have another order in each."""
    return str(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
