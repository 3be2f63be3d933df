"""Runners of one engine side by side, each in a thread of its own: an engine on one thread leaves other cores idle.

LiteRT's own threads are no way: its built-in convolutions in FP32 answer with other bits on two than on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.runner import Arrays, Runner


def side_by_side(runners: Sequence[Runner], inputs: Arrays) -> list[dict[str, NDArray[Any]]]:
    """Outputs of consecutive parts of the samples, each run by another runner in the batches that one alone makes.

    Raises as the runners do; then all have ended.
    """
    size = runners[0].batch_size
    count = len(next(iter(inputs.values())))
    rows = -(-count // (size * len(runners))) * size
    parts = [{name: array[i : i + rows] for name, array in inputs.items()} for i in range(0, count, rows)]
    with ThreadPoolExecutor(len(runners)) as threads:
        return list(threads.map(lambda runner, part: runner(part), runners, parts))
