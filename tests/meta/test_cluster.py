"""Parts of many samples on a real Ray give the verdict of one process, whatever happens to its workers."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ray_head import OPEN, ray_head

from engines import sharing
from engines.errors import DataError, RunnerError, SpecError, UnavailableError
from engines.formats.onnx import providers
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
H200 = json.dumps({"accelerator_type:H200": 1})
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
    assert (found.tally.found.correct, sum(found.tally.labels)) == (right, chain.dataset.test_count)


def in_parts(chain, recipe, started, parts, needs=None):
    """Verdicts on all samples, by parts on a cluster."""
    count = chain.dataset.test_count
    return compared_in_parts(chain, VARIANT, count, lambda asked: started.tally(recipe, VARIANT, parts, asked, needs))


def test_the_verdict_is_that_of_one_process(chain, recipe, started, whole):
    """Parts on two workers are all samples at once, to the last bit; a GPU that is not there is told at once."""
    parts = parts_of(chain.dataset.test_count, 32, least=32)
    assert len(parts) > 5
    same(chain, in_parts(chain, recipe, started, parts), whole)
    with pytest.raises(UnavailableError, match=r"needs 1 CPU, 1 GPU \(H200\), and there is CPU 2$"):
        started.tally(recipe, VARIANT, [Part(0, 32)], NOTHING, cluster.Needs(gpus=1, accelerator="H200"))


def test_workers_are_as_urgent_as_the_process_that_started_them(recipe, started):
    """A worker is asked as one process would do the work: it does not give way to whatever else the machine does."""
    import psutil  # Ray brings it along

    started.tally(recipe, VARIANT, [Part(0, 32)], NOTHING)
    workers = [p for p in psutil.Process().children(recursive=True) if "ray::" in " ".join(p.cmdline()[:1])]
    niceness = {p.nice() for p in workers}
    assert niceness == {psutil.Process().nice()}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_workers_leave_the_cores_to_each_other_and_answer_the_same(chain, recipe, precision, monkeypatch):
    """ONNX Runtime's threads do not spin in a worker, as they do in one process; every answer has the same bits."""
    monkeypatch.setattr(sharing, "_shared", False)
    spinning, session = [], providers.session

    def opened(path, provider, chosen, options, *more):
        try:
            spinning.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
        except RuntimeError:  # nobody set it
            spinning.append(None)
        return session(path, provider, chosen, options, *more)

    monkeypatch.setattr(providers, "session", opened)
    variant, inputs = Variant("onnx", precision), chain.samples.inputs
    with chain.runner(variant) as alone, cluster._runner.__wrapped__(recipe, variant) as worker:
        ours, theirs = alone(inputs), worker(inputs)
    assert spinning == [None, "0"]
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


@pytest.mark.slow
def test_a_part_whose_worker_is_killed_runs_again(chain, recipe, started, whole):
    """Workers that are killed in the middle lose nothing, and nothing counts twice."""
    with killing() as killed:
        # A warm worker has a part done in hundredths of a second: whoever looks for it may come late.
        for _ in range(TRIES):
            same(chain, in_parts(chain, recipe, started, parts_of(360, 32, least=32)), whole)
            if killed:
                break
    assert killed, "no worker was seen at work"


@contextlib.contextmanager
def killing():
    """Kill two workers at work; gives the list of those that were."""
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
        yield killed
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
def test_a_part_whose_workers_die_again_and_again_is_told(recipe, started, monkeypatch):
    """A part is not run for ever: it is named, with what may be wrong."""
    monkeypatch.setattr(cluster, "RETRIES", 0)

    def until(killed):
        while not killed:
            started.tally(recipe, VARIANT, parts_of(360, 32, least=32), NOTHING)

    with killing() as killed, pytest.raises(RunnerError, match=r"the worker of samples \d+ to \d+ died 1 times"):
        until(killed)


@pytest.mark.slow
def test_an_error_of_a_part_is_told_as_it_is(recipe, started):
    """What an engine's module raises in a worker comes back as that, in its one line."""
    with pytest.raises(DataError, match="asked for 999 test samples"):
        started.tally(recipe, VARIANT, [Part(0, 999)], NOTHING)


@pytest.fixture(scope="module")
def joined():
    """A cluster that somebody else started, which says that it has a GPU."""
    with pytest.MonkeyPatch.context() as patched, ray_head(["--num-gpus=1", f"--resources={H200}"]) as address:
        for name, value in OPEN.items():
            patched.setenv(name, value)
        with cluster.Cluster(address) as found:
            yield found


@pytest.mark.slow
def test_a_cluster_that_is_joined_gives_the_verdict_of_one_process(chain, recipe, joined, whole):
    """Workers of a cluster that was there before are sent the code, and give the same verdict, by placement too."""
    parts = parts_of(chain.dataset.test_count, 32, least=64)
    for needs in (cluster.Needs(), cluster.Needs(gpus=1, accelerator="H200")):
        same(chain, in_parts(chain, recipe, joined, parts, needs), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("needs", "line"),
    [
        (
            cluster.Needs(gpus=1, accelerator="L4"),
            r"needs 1 CPU, 1 GPU \(L4\), and there is CPU 2, GPU 1, .*H200 1$",
        ),
        (cluster.Needs(gpus=2), r"needs 1 CPU, 2 GPU, and there is CPU 2, GPU 1"),
        (cluster.Needs(cpus=3), r"needs 3 CPU, and there is CPU 2, GPU 1"),
    ],
)
def test_what_a_joined_cluster_lacks_is_told_in_time(recipe, joined, needs, line):
    """A cluster without what is asked for says so within ten seconds, in one line, and nothing waits for ever."""
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(joined.tally, recipe, VARIANT, [Part(0, 32)], NOTHING, needs).exception(timeout=10)
    assert isinstance(told, UnavailableError)
    assert re.search(line, str(told))
    assert "\n" not in str(told)


@pytest.mark.parametrize("address", ["", "ray://", "ray://host", "host:10001", "ray://:10001", "ray://host:x"])
def test_other_addresses_are_refused(address):
    """What is no address says what is allowed."""
    with pytest.raises(SpecError, match=r"allowed: auto, or ray://HOST:PORT"):
        cluster.check(address)


def test_nobody_at_home_is_told(recipe):
    """An address where nobody listens says so within seconds."""
    with pytest.raises(UnavailableError, match="nobody answers"), cluster.Cluster("ray://127.0.0.1:9"):
        pass
