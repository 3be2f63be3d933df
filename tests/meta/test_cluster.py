"""Parts of many samples on a real Ray give the verdict of one process, whatever happens to its workers."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from conformance.compare import compare, judge, undecided
from engines.errors import SpecError, UnavailableError
from engines.model import selection
from engines.store import Store
from engines.variant import Variant
from trial import cluster
from trial.parts import Part, parts_of
from trial.rules import output_kinds, rule_of

# Found, not imported: whoever only collects needs no Ray.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; pip install -r requirements-cluster.txt"
)

MODEL, VARIANT = "digits_vgg", Variant("onnx", "int8")


@pytest.fixture(scope="module")
def chain(pytestconfig):
    root = Path(pytestconfig.getoption("--artifacts") or pytestconfig.rootpath / "build")
    return selection.chains(Store(root), models=[MODEL])[MODEL]


@pytest.fixture(scope="module")
def recipe(chain):
    return cluster.recipe(chain.store.root, MODEL, {"models": [MODEL]})


@pytest.fixture(scope="module")
def started():
    with cluster.Cluster(cluster.AUTO, cpus=2) as found:
        yield found
    import ray

    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def whole(chain):
    """The comparison and the count of right answers of one process."""
    samples = chain.dataset.test()
    reference = chain.reference("accuracy-360", samples.inputs)
    with chain.runner(VARIANT) as runner:
        actual = runner(samples.inputs)
    rule = rule_of(chain, VARIANT, "samples", len(samples))
    right = int((actual[chain.spec.probabilities.name].argmax(axis=1) == samples.labels).sum())
    return rule, compare(actual, reference, rule.tolerance, output_kinds(chain.spec), scales=rule.scales), right


def same(chain, found, whole):
    """Whether a tally tells what one process does, bit for bit."""
    rule, comparison, right = whole
    assert judge(found.ways[""], rule.tolerance, scales=rule.scales) == comparison
    assert (found.correct, sum(found.labels)) == (right, chain.dataset.test_count)


def test_the_verdict_is_that_of_one_process(chain, recipe, started, whole):
    """Parts on two workers are all samples at once, to the last bit."""
    parts = parts_of(chain.dataset.test_count, 32, least=32)
    assert len(parts) > 5
    same(chain, started.tally(recipe, VARIANT, parts, undecided(whole[0].tolerance)), whole)


def test_a_part_whose_worker_is_killed_runs_again(chain, recipe, started, whole):
    """Workers that are killed in the middle lose nothing, and nothing counts twice."""
    import psutil  # Ray brings it along

    killed, stop = [], threading.Event()

    def kill():
        while not stop.is_set() and len(killed) < 2:
            for process in psutil.Process().children(recursive=True):
                if "ray::_tally" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    break
            time.sleep(0.3)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        found = started.tally(recipe, VARIANT, parts_of(360, 32, least=32), undecided(whole[0].tolerance))
    finally:
        stop.set()
        thread.join()
    assert killed, "no worker was seen at work"
    same(chain, found, whole)


def test_what_is_not_there_is_told_at_once(recipe, started):
    """A cluster without the GPU that is asked for says so, and does not wait for one."""
    with pytest.raises(UnavailableError, match=r"needs 1 CPU, 1 GPU \(H200\), and there is CPU 2"):
        started.tally(recipe, VARIANT, [Part(0, 32)], 0.0, cluster.Needs(gpus=1, accelerator="H200"))


def test_an_error_of_a_part_is_told_as_it_is(recipe, started):
    """What an engine's module raises in a worker comes back as that, in its one line."""
    from engines.errors import DataError

    with pytest.raises(DataError, match="asked for 999 test samples"):
        started.tally(recipe, VARIANT, [Part(0, 999)], 0.0)


@pytest.mark.parametrize("address", ["", "ray://", "ray://host", "host:10001", "ray://:10001", "ray://host:x"])
def test_other_addresses_are_refused(address):
    """What is no address says what is allowed."""
    with pytest.raises(SpecError, match=r"allowed: auto, or ray://HOST:PORT"):
        cluster.check(address)


def test_nobody_at_home_is_told(recipe):
    """An address where nobody listens says so within seconds."""
    with pytest.raises(UnavailableError, match="nobody answers"), cluster.Cluster("ray://127.0.0.1:9"):
        pass
