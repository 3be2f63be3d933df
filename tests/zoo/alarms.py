"""False alarms: how much of what is allowed sound conversions need, over the zoo's seeds and trainings of one model.

    PYTHONPATH=tests python -m zoo.alarms --output docs/runs/alarms.json --seeds 0 1 2 --trainings 50

also draws docs/alarms.svg and writes docs/alarms.md. Each model is made, converted and judged in a process of its own,
as its tests judge it. What is in the output already is kept, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engines.model import selection
from engines.model.bundled import find_model
from engines.progress import Lines, live
from engines.store import Store
from engines.tools import installed_version
from engines.variant import Variant
from trial.judged import PASSES, judged
from trial.sets import Sets
from zoo import ZOO, alarms_page
from zoo.apart import told_by
from zoo.chains import chain_of
from zoo.entry import PASSES as EXPECTED
from zoo.entry import VARIANTS

TRAINED = "digits_vgg"
"""The bundled model that is trained again."""

TOLD = "told.json"
"""The file in which a process tells what it found."""

MADE_WITH = ("tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


class Model(NamedTuple):
    """A model that is judged: an entry of the zoo, or TRAINED, with a seed."""

    name: str
    seed: int

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.name} {self.seed}"

    def variants(self) -> list[str]:
        """Ids of the variants that have to pass."""
        if self.name == TRAINED:
            return list(VARIANTS)
        entry = ZOO[self.name]
        return [name for name in VARIANTS if entry.expectation(name) == EXPECTED and name not in entry.unsound]


def models(seeds: list[int], trainings: int, heavy: bool) -> Iterator[Model]:
    """Entries that can be judged, seed by seed, and then the trainings."""
    for seed in seeds:
        for entry in ZOO.values():
            if not entry.refused and not entry.unavailable() and (heavy or not entry.heavy):
                yield Model(entry.name, seed)
    yield from (Model(TRAINED, seed) for seed in range(trainings))


def trained(seed: int, folder: Path) -> Path:
    """Description of TRAINED with another seed, under a name of its own."""
    text = find_model(TRAINED).read_text(encoding="utf-8")
    changes = (
        (f'name = "{TRAINED}"', f'name = "{TRAINED}_{seed}"'),
        ("seed = 3", f"seed = {seed}"),
        # What a seed comes to is not what is asked of the bundled model.
        ("accuracy = 0.95", "accuracy = 0.8"),
    )
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{TRAINED}_{seed}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def judge(model: Model, folder: Path) -> dict[str, dict[str, Any]]:
    """What becomes of each variant that has to pass: the state, the words where it does not, and what it needs."""
    if model.name == TRAINED:
        (chain,) = selection.chains(Store(folder / "build"), models=[str(trained(model.seed, folder))]).values()
    else:
        ZOO[model.name].write(folder / model.name, seed=model.seed)
        chain = chain_of(ZOO[model.name], folder)
    sets, found = Sets(chain), {}
    for name in model.variants():
        verdict = judged(chain, Variant(*name.split("-", 1)), sets)
        found[name] = {kind: float(f"{used:.3g}") for kind, used in verdict.used.items()}
        if verdict.state != PASSES:
            found[name] |= {"state": verdict.state, "text": verdict.text.replace(f"{folder.resolve()}/", "")}
    return found


def apart(model: Model) -> dict[str, Any]:
    """The same by a process of its own, whose files go when it ends, too."""
    with tempfile.TemporaryDirectory(prefix="alarms-") as folder:
        found = told_by(["zoo.alarms", "--judge", model.name, str(model.seed), folder], Path(folder) / TOLD)
    return {"": {"state": "error", "text": found}} if isinstance(found, str) else found


def main() -> int:
    """Judge what was asked for; the exit code is 1 where one does not pass."""
    parser = argparse.ArgumentParser(prog="PYTHONPATH=tests python -m zoo.alarms", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="what was found before stays in it")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], metavar="N", help="of the zoo's models (0)")
    parser.add_argument("--trainings", type=int, default=0, metavar="N", help=f"trainings of {TRAINED}, seeds 0 to N-1")
    parser.add_argument("--heavy", action="store_true", help="the zoo's heavy models as well")
    parser.add_argument("--judge", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Lines()])
    if options.judge:
        name, seed, folder = options.judge
        found = judge(Model(name, int(seed)), Path(folder))
        (Path(folder) / TOLD).write_text(json.dumps(found), encoding="utf-8")
        return 0
    if options.output is None:
        parser.error("give --output FILE.json")
    results: dict[str, Any] = {"made_with": {}, "models": {}}
    if options.output.is_file():
        results = json.loads(options.output.read_text(encoding="utf-8"))
    results["made_with"] = {name: version for name in MADE_WITH if (version := installed_version(name))}
    chosen = [m for m in models(options.seeds, options.trainings, options.heavy) if m.key not in results["models"]]
    with live("false alarms", len(chosen), "models") as advance:
        for model in chosen:
            results["models"][model.key] = apart(model)
            options.output.write_text(alarms_page.compact(results), encoding="utf-8")
            advance(1)
    alarms_page.write(options.output, results)
    return int(any("state" in one for found in results["models"].values() for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
