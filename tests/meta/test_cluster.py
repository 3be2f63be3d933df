"""Parts of many samples on a real Ray give the verdict of one process, whatever happens to its workers."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
from pathlib import Path

import pytest

from engines.errors import SpecError, UnavailableError
from engines.model import selection
from engines.store import Store
from engines.variant import Variant
from trial import cluster
from trial.evidence import Asked
from trial.judged import compared
from trial.outputs import Outputs
from trial.parts import Part, compared_in_parts, parts_of

# Found, not imported: whoever only collects needs no Ray.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; pip install -r requirements-cluster.txt"
)

TRIES = 20
NOTHING = Asked({}, {}, {}, 0)
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
        rule, comparison = compared(chain, runner, "samples", Outputs(samples.inputs, actual, reference))
    assert rule.noise is not None, "the twin decides beside the row"
    right = int((actual[chain.spec.probabilities.name].argmax(axis=1) == samples.labels).sum())
    return comparison, right


def same(chain, found, whole):
    """Whether parts tell what one process does, bit for bit."""
    comparison, right = whole
    assert found.comparisons[""] == comparison
    assert (found.tally.correct, sum(found.tally.labels)) == (right, chain.dataset.test_count)


def in_parts(chain, recipe, started, parts):
    """Verdicts on all samples, by parts on a cluster."""
    count = chain.dataset.test_count
    return compared_in_parts(chain, VARIANT, count, lambda asked: started.tally(recipe, VARIANT, parts, asked))


def test_the_verdict_is_that_of_one_process(chain, recipe, started, whole):
    """Parts on two workers are all samples at once, to the last bit."""
    parts = parts_of(chain.dataset.test_count, 32, least=32)
    assert len(parts) > 5
    same(chain, in_parts(chain, recipe, started, parts), whole)


@pytest.mark.slow
def test_a_part_whose_worker_is_killed_runs_again(chain, recipe, started, whole):
    """Workers that are killed in the middle lose nothing, and nothing counts twice."""
    import psutil  # Ray brings it along

    killed, stop = [], threading.Event()

    def kill():
        while not stop.is_set() and len(killed) < 2:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "ray::_tally" in " ".join(process.cmdline()):
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
                        break

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        # A warm worker has a part done in hundredths of a second: whoever looks for it may come late.
        for _ in range(TRIES):
            same(chain, in_parts(chain, recipe, started, parts_of(360, 32, least=32)), whole)
            if killed:
                break
    finally:
        stop.set()
        thread.join()
    assert killed, "no worker was seen at work"


def test_what_is_not_there_is_told_at_once(recipe, started):
    """A cluster without the GPU that is asked for says so, and does not wait for one."""
    with pytest.raises(UnavailableError, match=r"needs 1 CPU, 1 GPU \(H200\), and there is CPU 2"):
        started.tally(recipe, VARIANT, [Part(0, 32)], NOTHING, cluster.Needs(gpus=1, accelerator="H200"))


def test_an_error_of_a_part_is_told_as_it_is(recipe, started):
    """What an engine's module raises in a worker comes back as that, in its one line."""
    from engines.errors import DataError

    with pytest.raises(DataError, match="asked for 999 test samples"):
        started.tally(recipe, VARIANT, [Part(0, 999)], NOTHING)


@pytest.mark.parametrize("address", ["", "ray://", "ray://host", "host:10001", "ray://:10001", "ray://host:x"])
def test_other_addresses_are_refused(address):
    """What is no address says what is allowed."""
    with pytest.raises(SpecError, match=r"allowed: auto, or ray://HOST:PORT"):
        cluster.check(address)


def test_nobody_at_home_is_told(recipe):
    """An address where nobody listens says so within seconds."""
    with pytest.raises(UnavailableError, match="nobody answers"), cluster.Cluster("ray://127.0.0.1:9"):
        pass
