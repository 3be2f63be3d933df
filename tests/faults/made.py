"""A model that changes are planted into: its sound files, made once, and the words of a command that name it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from zoo import ZOO
from zoo.chains import chain_of

from engines.chain import Chain
from engines.model import selection
from engines.store import Store
from engines.variant import Variant
from faults import graph
from faults.change import CHECKS
from faults.graph_edits import noise
from tests.meta.apart import environment_apart
from trial.judged import compared
from trial.outputs import Outputs

ROOT = Path(__file__).resolve().parents[2]
BUILD = "build"
PRECISIONS = "onnx=fp32,fp16,int8 tflite=fp32,fp16,int8"


@dataclass(frozen=True)
class Made:
    """Model in ``folder``, and its chain on the store beside it."""

    name: str
    folder: Path
    chain: Chain

    @classmethod
    def of(cls, name: str, folder: Path) -> Made:
        """Model of the zoo by its name; made in ``folder`` where it is not there.

        One that is described already is taken by its description, for which no TensorFlow has to be there.
        """
        described = folder / name / f"{name}.toml"
        if not described.is_file():
            return cls(name, folder, chain_of(ZOO[name], folder))
        samples = folder / name / "samples.npz"
        (chain,) = selection.chains(Store(folder / BUILD), models=[str(described)], samples=samples).values()
        return cls(name, folder, chain)

    @property
    def saved_model(self) -> list[str]:
        """Options that bring the model as a user does who has nothing but it and samples."""
        return [f"--saved-model={self.folder / self.name / 'model'}", f"--samples={self.samples}"]

    @property
    def described(self) -> list[str]:
        """Options that bring it by its description, which ``commands describe`` wrote: that loads no TensorFlow."""
        return [f"--model={self.folder / self.name / self.name}.toml", f"--samples={self.samples}"]

    def ready(self) -> None:
        """Write the description, and give the sound files to the command once, so that all it keeps is there.

        What each format cannot build is none of a planted change's concern, and whatever that run says is the zoo's.
        """
        target = self.folder / self.name / f"{self.name}.toml"
        if target.is_file():
            return
        python = [sys.executable, "-m"]
        done = subprocess.run(
            [*python, "commands", "describe", *(w.removeprefix("--saved-model=") for w in self.saved_model)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        warm = [*python, "pytest", "-q", "-p", "no:cacheprovider", "--ignore=tests/meta", "-m", CHECKS]
        warm += [*self.saved_model, f"--artifacts={self.folder / BUILD}", f"--precisions={PRECISIONS}"]
        silent = {"cwd": ROOT, "env": environment_apart(), "capture_output": True}
        subprocess.run([*warm, "-k", "onnx or tflite"], check=False, **silent)
        # Every failure locates its layer, for which the reference's own layers are kept.
        broken = graph.write(self.file("onnx-fp32"), noise(0.1, -1), target.with_suffix(".onnx"))
        failing = [*warm, "-k", "onnx-fp32 and reference_on_samples", f"--onnx={broken}"]
        subprocess.run(failing, check=False, **silent)
        target.write_text(done.stdout, encoding="utf-8")

    @property
    def samples(self) -> Path:
        """The file of samples."""
        return self.folder / self.name / "samples.npz"

    def file(self, variant: str) -> Path:
        """Sound file of a variant, by its format and precision; made now where it is missing."""
        return self.chain.file(self.variant(variant))

    def variant(self, name: str) -> Variant:
        """The first variant of a format and precision, as ``tensorrt-fp16``: that of the first batch profile."""
        return next(v for v in self.chain.variants if v.row_name == name)

    def flips(self, variant: str) -> int:
        """Samples to which the sound file of a variant gives another class than the reference does."""
        samples = self.chain.dataset.test()
        reference = self.chain.reference(f"accuracy-{len(samples)}", samples.inputs)
        with self.chain.runner(self.variant(variant)) as runner:
            given = Outputs(samples.inputs, runner(samples.inputs), reference)
            return sum(output.flipped for output in compared(self.chain, runner, "samples", given)[1].outputs)

    def again(self) -> Made:
        """The same model of the zoo from another seed, made in a folder of its own."""
        folder = self.folder / "again"
        if not (folder / self.name / "samples.npz").is_file():
            ZOO[self.name].write(folder / self.name, seed=1)
        return Made.of(self.name, folder)

    def store_in(self, folder: Path) -> Path:
        """Copy of the model's artifacts in a folder of its own: two commands on one store would take turns."""
        target = folder / BUILD
        shutil.copytree(self.folder / BUILD / self.chain.spec.name, target / self.chain.spec.name)
        return target
