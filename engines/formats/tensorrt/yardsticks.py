"""What a runner's throughput is measured against: the same engine run in plainer ways, timed by host and by device."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.formats.tensorrt import context
from engines.formats.tensorrt.slots import Graph, checked

if TYPE_CHECKING:
    from pathlib import Path

    from engines.formats.tensorrt.runner import TensorRTRunner
    from engines.runner import Arrays

WARM_UP = 3
REPEATS = 3


@dataclass(frozen=True)
class Timing:
    """Samples run, the seconds by the host's clock, and those between CUDA events on the device."""

    samples: int
    seconds: float
    event_seconds: float

    @property
    def samples_per_second(self) -> float:
        """By the host's clock."""
        return self.samples / self.seconds


def synchronous(runner: TensorRTRunner, inputs: Arrays) -> Timing:
    """Run full batches one after another on one stream: copy, transfer, execute, transfer, wait, copy."""
    import numpy as np
    import pycuda.driver as cuda

    batch = runner.batch_size
    count = len(next(iter(inputs.values()))) // batch * batch
    with context.current(runner.device):
        group = runner.new_group(1, batch)
        try:
            slot = group.slots[0]
            slot.set_shapes(runner.batch_shapes(batch))
            inside = [t for t in runner.tensors if t.item in runner.spec.inputs]
            outside = [t for t in runner.tensors if t.item not in runner.spec.inputs]
            results = {t.name: np.empty((count, *slot.hosts[t.name].shape[1:]), t.dtype) for t in outside}
            first, last = cuda.Event(), cuda.Event()
            for warm_up in (True, False):
                start = time.perf_counter()
                first.record(slot.stream)
                for low in range(0, min(count, WARM_UP * batch) if warm_up else count, batch):
                    for t in inside:
                        np.copyto(slot.hosts[t.name], inputs[t.item.name][low : low + batch])
                    slot.enqueue(batch)
                    slot.stream.synchronize()
                    for t in outside:
                        np.copyto(results[t.name][low : low + batch], slot.hosts[t.name])
                last.record(slot.stream)
                last.synchronize()
                seconds = time.perf_counter() - start
            return Timing(count, seconds, last.time_since(first) / 1e3)
        finally:
            group.free()


def device_limit(runner: TensorRTRunner, inputs: Arrays, batches: int, repeats: int = REPEATS) -> Timing:
    """Run the engine alone, without any copy, on as many streams as the runner has: what its device gives at most.

    The device's memory holds samples of ``inputs``, one batch a stream. ``batches`` are run ``repeats`` times, and the
    fastest counts. A runner may come out a few percent above: both are measured, each with its own disturbances.
    """
    import numpy as np
    import pycuda.driver as cuda

    batch = runner.batch_size
    starts = range(0, max(1, len(next(iter(inputs.values()))) - batch + 1), batch)
    with context.current(runner.device):
        group = runner.new_group(runner.streams, batch)
        graphs: list[Graph] = []
        try:
            for i, slot in enumerate(group.slots):
                slot.set_shapes(runner.batch_shapes(batch))
                for t in runner.tensors:
                    if t.item in runner.spec.inputs:
                        start = starts[i % len(starts)]
                        np.copyto(slot.hosts[t.name], inputs[t.item.name][start : start + batch])
                        slot.send(t, 0, batch)
                slot.stream.synchronize()
                graphs.append(slot.capture(batch, inputs=False, outputs=False))
            first, last = cuda.Event(), cuda.Event()
            ends = [cuda.Event() for _ in group.slots]

            def run(number: int) -> Timing:
                start = time.perf_counter()
                first.record(group.slots[0].stream)
                for slot in group.slots[1:]:
                    slot.stream.wait_for_event(first)
                for i in range(number):
                    which = i % runner.streams
                    graphs[which].launch()
                for slot, end in zip(group.slots, ends, strict=True):
                    end.record(slot.stream)
                    group.slots[0].stream.wait_for_event(end)
                last.record(group.slots[0].stream)
                last.synchronize()
                seconds = time.perf_counter() - start
                return Timing(number * batch, seconds, last.time_since(first) / 1e3)

            run(runner.streams * WARM_UP)
            return min((run(batches) for _ in range(repeats)), key=lambda timing: timing.seconds)
        finally:
            for graph in graphs:
                graph.free()
            group.free()


def bare_replay(runner: TensorRTRunner, batch: int, times: int) -> list[float]:
    """Time launches of one captured graph (transfers and engine), each waited for; gives the seconds of each."""
    from cuda.bindings import driver

    with context.current(runner.device):
        group = runner.new_group(1, batch)
        try:
            slot = group.slots[0]
            slot.set_shapes(runner.batch_shapes(batch))
            slot.graph = slot.capture(batch)  # freed with the slot
            result = []
            for i in range(times + WARM_UP):
                start = time.perf_counter()
                checked(driver.cuGraphLaunch(slot.graph.executable, slot.graph.handle))
                slot.stream.synchronize()
                if i >= WARM_UP:
                    result.append(time.perf_counter() - start)
            return result
        finally:
            group.free()


def polygraphy(plan: Path, runner: TensorRTRunner, inputs: Arrays) -> Timing:
    """Run full batches with Polygraphy's TrtRunner on the same plan; no device time is measured."""
    import numpy as np
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    from engines.formats.tensorrt.messages import polygraphy_speaks_here

    batch = runner.batch_size
    count = len(next(iter(inputs.values()))) // batch * batch
    with (
        context.current(runner.device),
        polygraphy_speaks_here(),
        TrtRunner(EngineFromBytes(plan.read_bytes())) as other,
    ):
        names = {t.item.name: t.name for t in runner.tensors}
        for warm_up in (True, False):
            start = time.perf_counter()
            for low in range(0, min(count, WARM_UP * batch) if warm_up else count, batch):
                feeds = {names[name]: np.ascontiguousarray(a[low : low + batch]) for name, a in inputs.items()}
                other.infer(feeds)
            seconds = time.perf_counter() - start
    return Timing(count, seconds, seconds)
