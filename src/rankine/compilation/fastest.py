"""Which engine is fastest: interleaved calls, medians."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter

import numpy as np

from rankine.artifact import Artifact
from rankine.compilation.engine import Runner
from rankine.models.columns import Batch, take
from rankine.models.schema import Schema

__all__ = ["as_served", "median_ms", "task_count"]

_WARM_UP = 5
_BUDGET_S = 1.5
_MAX_ROUNDS = 200


def task_count(artifact: Artifact) -> int:
    """Columns of the logits that the runners of an artifact write."""
    return len(artifact.read_json("schema.json", Schema).tasks)


def as_served(runner: Runner, batch: Batch) -> Batch:
    """The rows of ``batch`` as a server gives them to this runner: candidates of one request, the first row's, with
    complete items."""
    if batch.rows == 0:
        return batch
    items, index = np.unique(batch.item_index, return_inverse=True)
    return replace(
        batch,
        request=take(batch.request, batch.request_index[:1]),
        item=runner.complete(take(batch.item, items)),
        request_index=np.zeros(batch.rows, np.int32),
        item_index=index.astype(np.int32),
    )


def median_ms(runners: Mapping[str, tuple[Runner, Batch]], tasks: int) -> dict[str, float]:
    """Median milliseconds of ``run`` per name; rounds over all names are interleaved, so that a slow minute of the
    machine meets all alike, and end after a short budget of time. Rows are timed :func:`as_served`.

    Args:
        tasks: columns of the runners' logits, as :func:`task_count` tells them.
    """
    runners = {name: (runner, as_served(runner, batch)) for name, (runner, batch) in runners.items()}
    outs = {name: np.empty((batch.rows, tasks), np.float32) for name, (_, batch) in runners.items()}
    for name, (runner, batch) in runners.items():
        for _ in range(_WARM_UP):
            runner.run(batch, outs[name])
    times: dict[str, list[float]] = {name: [] for name in runners}
    end = perf_counter() + _BUDGET_S * len(runners)
    for _ in range(_MAX_ROUNDS):
        for name, (runner, batch) in runners.items():
            begin = perf_counter()
            runner.run(batch, outs[name])
            times[name].append(perf_counter() - begin)
        if perf_counter() > end:
            break
    return {name: float(np.median(values)) * 1e3 for name, values in times.items()}
