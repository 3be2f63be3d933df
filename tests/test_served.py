"""What a served model promises beside its answers: it refuses what is wrong, and many clients get what one gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from conformance.timing import latency
from engines.errors import RunnerError
from engines.formats.served.client import Connection, GoneError
from engines.formats.served.load import measure
from engines.formats.served.runner import ServedRunner
from engines.outputs import joined, taken
from fixtures.records import ServedLoad

pytestmark = pytest.mark.formats("served")

CLIENTS = 64
"""Clients that ask at once."""

FEW = 32
"""Samples that each of them asks for."""

LOADS = (1, 2, 4, 8, 16, 32, 64)
"""How many clients throughput is measured at."""

SECONDS = 0.4
"""How long each of them is measured for."""


def wrong_requests(spec, runner, connection, inputs):
    """Requests that a server has to refuse, by what is wrong: inputs, outputs, and the client that sends them."""
    names = runner.names
    outputs = [connection.wanted(name) for name in names.outputs.values()]
    arrays = {names.inputs[name]: array for name, array in inputs.items()}
    first = names.inputs[spec.inputs[0].name]

    def sent(changed):
        return [connection.tensor(name, np.ascontiguousarray(array)) for name, array in changed.items()]

    others = {name: array for name, array in arrays.items() if name != first}
    wrong = arrays[first].astype(np.int16 if arrays[first].dtype != np.int16 else np.int64)
    yield "an input of another name", sent({**others, "nothing": arrays[first]}), outputs
    yield "an input of another dtype", sent({**others, first: wrong}), outputs
    yield "an input of another rank", sent({**others, first: arrays[first][..., None]}), outputs
    yield "an output that there is not", sent(arrays), [connection.wanted("nothing")]
    if runner.metadata.largest:
        many = {name: np.repeat(array, runner.metadata.largest + 1, axis=0) for name, array in arrays.items()}
        yield "a batch that is too large", sent(many), outputs


@pytest.mark.consistency
def test_a_wrong_request_is_refused_and_the_next_is_answered(spec, runner, samples):
    """Each wrong request has an error for its answer, and the server goes on as if there had been none."""
    one = samples.take(0, 1).inputs
    expected = runner(one)
    connection = Connection(runner.address, binary=runner.binary)
    try:
        for what, inputs, outputs in wrong_requests(spec, runner, connection, one):
            try:
                connection.infer(inputs, outputs, "wrong")
            except GoneError as error:
                pytest.fail(f"{runner.variant}: after {what} the server is gone: {error}", pytrace=False)
            except RunnerError:
                pass
            else:
                pytest.fail(f"{runner.variant}: the server answers {what}; expected an error", pytrace=False)
            for name, array in runner(one).items():
                np.testing.assert_array_equal(array, expected[name], err_msg=f"after {what}")
    finally:
        connection.close()


@pytest.mark.batching
def test_many_clients_get_what_one_gets(spec, runner, samples, ways, batched):
    """64 clients ask at once, in other orders and batches; every sample has the answer that it has alone."""
    count = min(FEW, len(samples))
    alone = taken(spec, ways[0].singles, slice(count))

    def ask(number):
        order = np.roll(np.arange(count), number)
        size = number % 7 + 1
        inputs = {name: array[order] for name, array in samples.inputs.items()}
        parts = [crowd({n: a[i : i + size] for n, a in inputs.items()}) for i in range(0, count, size)]
        return order, joined(spec, parts)

    # A connection that a busy machine refuses is asked for once more, and told in the log: no answer is lost by it.
    with (
        ServedRunner(spec, runner.variant, runner.address, in_flight=CLIENTS) as crowd,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        answers = list(pool.map(ask, range(CLIENTS)))
    for number, (order, outputs) in enumerate(answers):
        batched(outputs, taken(spec, alone, order), f"client {number} of {CLIENTS}")


@pytest.mark.benchmark
def test_throughput_against_clients(spec, runner, samples, reference, judge_outputs, record, watch_throttling):
    """Throughput and latency of more and more clients are measured, once the answers agree with the reference."""
    judge_outputs(runner, samples, runner(samples.inputs), reference, "samples")
    with ServedRunner(spec, runner.variant, runner.address, in_flight=max(LOADS)) as crowd:
        for batch in sorted({1, crowd.batch_size}):
            places = [np.arange(start, start + batch) % len(samples) for start in range(0, 4 * batch, batch)]
            requests = [{n: np.ascontiguousarray(a[place]) for n, a in samples.inputs.items()} for place in places]
            for clients in LOADS:
                throttling = watch_throttling()
                load = measure(crowd, requests, clients, SECONDS)
                found = latency(load.durations, batch)
                record(
                    ServedLoad(
                        clients,
                        batch,
                        len(load.durations),
                        load.samples_per_second(batch),
                        found.p50 * 1e3,
                        found.p99 * 1e3,
                        load.server and {place: seconds * 1e3 for place, seconds in load.server.items()},
                        throttling(),
                    )
                )
