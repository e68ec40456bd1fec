"""The oracle: what a scheduler could sustain at most that knows the trace and all service times in advance.

One processor, no preemption, equal deadlines, so that the order of arrival is the best one. Where a request would be
late, the largest one of its busy period is left out (Moore 1968); as many may be as may miss. Requests that wait are
joined for nothing: only the first after an idle time pays for a call. No real scheduler has it as good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from rankine.observation.load.generator import pinned
from serving.queries import Query
from serving.ranker import Ranker
from serving.traffic import Floats, Kind, due_times, intensity

REPEATS = 5
PRECISION = 0.005


@dataclass(frozen=True)
class Service:
    """Seconds of a call, of a row, and of everything else that the server's core does for a request."""

    call_s: float
    row_s: float
    request_s: float = 0.0

    def of(self, rows: Floats) -> Floats:
        """Of requests that others run before without a pause."""
        return self.request_s + self.row_s * rows


def engine_service(ranker: Ranker, queries: Sequence[Query], cores: tuple[int, ...]) -> Service:
    """The line through the engine's median times by number of rows; each query alone, on ``cores``."""
    by_rows: dict[int, list[float]] = {}
    prepared = [ranker.prepare(one.request, one.ids.tolist(), one.ids, one.top_k) for one in queries]
    with pinned(cores):
        for _ in range(REPEATS):
            for one in prepared:
                begin = perf_counter()
                ranker.run([one])
                by_rows.setdefault(len(one.rows), []).append(perf_counter() - begin)
    rows = np.array(list(by_rows), np.float64)
    row_s, call_s = np.polyfit(rows, [np.median(times) for times in by_rows.values()], 1)
    return Service(max(0.0, float(call_s)), float(row_s))


def left_out(due_s: Floats, rows: Floats, service: Service, slo_s: float, *, most: int) -> int:
    """How many of the requests must be left out so that the others are in time; more than ``most`` are not counted."""
    own_s = service.of(rows)
    dropped, start, free_s, sizes = 0, 0, 0.0, own_s.copy()
    number = 0
    while number < len(due_s) and dropped <= most:
        if due_s[number] >= free_s:  # idle: a busy period begins
            start, free_s = number, due_s[number] + service.call_s
        free_s += sizes[number]
        if free_s > due_s[number] + slo_s:
            largest = start + int(np.argmax(sizes[start : number + 1]))
            sizes[largest] = 0.0
            dropped += 1
            # The end of the last one: for some of them, the time it was due and all that ran from then on.
            following_s = np.cumsum(sizes[number : start - 1 if start else None : -1])[::-1]
            free_s = float((due_s[start : number + 1] + following_s).max()) + service.call_s
        number += 1
    return dropped


def oracle_rps(
    traffic: Kind, queries: Sequence[Query], service: Service, slo_s: float, *, duration_s: float, seed: int
) -> float:
    """The highest rate at which at most one in a hundred of a run's requests has to be left out."""
    sizes = np.array([len(one.ids) for one in queries], np.float64)
    shape = intensity(traffic, duration_s, seed=seed)

    def holds(rate_rps: float) -> bool:
        due_s = due_times(rate_rps, shape, seed=seed)
        rows = sizes[np.random.default_rng(seed + 1).integers(len(sizes), size=len(due_s))]
        most = int(0.01 * len(due_s))
        return left_out(due_s, rows, service, slo_s, most=most) <= most

    return _highest(holds, 1.1 / float(service.of(sizes).mean()))


def _highest(holds: Callable[[float], bool], above_rps: float) -> float:
    """The highest rate that holds, by bisection below one that cannot."""
    low, high = 0.0, above_rps
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
