"""The same plan gives the same answers, bit for bit, in every runtime: TensorRT 8.6 and 10, Python and C++."""

from __future__ import annotations

import os

import numpy as np
import pytest

from conformance.compare import compare
from fixtures.parallel import parallel
from fixtures.records import Runtime
from trial.cross_version import difference, hashes, keep, measure, runtime_of, stored
from trial.rows import row

FIRST = {"precisions": ("fp32", "fp16", "int8", "int8-qdq"), "first_profile": True}
pytestmark = pytest.mark.cross_version


@pytest.mark.formats("tensorrt", "tensorrt-vc", "cpp8", "cpp10", **FIRST)
def test_every_runtime_gives_the_same_answers(chain, spec, variant, runner, record, pytestconfig):
    """On all test samples: the reference's answers, and bit for bit those that other runtimes stored for this plan."""
    samples = chain.dataset.test()
    reference = chain.reference(f"accuracy-{len(samples)}", samples.inputs)
    tolerance = row(variant.row_name, "samples", spec.tolerances, str(spec.path)).tolerance
    outputs = runner(samples.inputs)
    runtime = runtime_of(runner)
    comparison = compare(outputs, reference, tolerance, {o.name: o.kind for o in spec.outputs})
    assert comparison.passed, f"{variant} in {runtime}: {comparison.describe()}"

    made_from = hashes(chain, variant, samples.inputs)

    def differences(others):
        for other in others:
            if (found := difference(outputs, other.outputs)).samples:
                before = " before" if other.runtime == runtime else ""
                yield (
                    f"{other.runtime}{before}: {found.samples} of {len(samples)} samples differ, "
                    f"by up to {found.largest:.3e}; {found.classes} have another class"
                )

    def on_this_plan():
        return stored(chain.store, spec.name, variant, {"plan": made_from["plan"]})

    known = on_this_plan()
    problems = list(differences(other for other in known if other.inputs == made_from["inputs"]))
    if not problems:
        # Answers that differ replace none: a second run would compare with them, and pass.
        timed = {} if parallel(pytestconfig, os.environ) else measure(chain, variant, runner, samples.inputs)
        keep(chain, variant, runtime, made_from, outputs, timed)
        # Of two processes at the same time the one that stores later finds what the other one stored.
        known = on_this_plan()
        problems = list(differences(other for other in known if other.inputs == made_from["inputs"]))
    others = sorted((other.runtime, other.inputs == made_from["inputs"]) for other in known if other.runtime != runtime)
    compared, not_compared = ([name for name, same in others if same == wanted] for wanted in (True, False))
    record(Runtime(runtime, len(samples), compared, not_compared))
    if problems:
        pytest.fail(f"{variant} of {spec.name} in {runtime} differs from\n  " + "\n  ".join(problems), pytrace=False)


@pytest.mark.formats("cpp8", "cpp10", **FIRST)
def test_csv_carries_the_samples_bit_by_bit(runner, samples):
    """Samples that a program reads from CSV reach the engine, and its answers come back, as those handed over raw."""
    expected = runner(samples.inputs)
    for name, array in runner.through_csv(samples.inputs).items():
        np.testing.assert_array_equal(array, expected[name])
