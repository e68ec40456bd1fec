"""Sides in turn, in one process, with a control: what every timing here is taken with.

Each turn calls every side once, in an order of its own, so that no side always meets the caches that one certain other
has left; and each timed call follows untimed ones of the same side, since a server's weights are warm. Every call has
ids of its own, so that rows are looked up where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter

import numpy as np

from native_speed.record import Cache, Ids, Side, Timing
from rankine.compilation.engine import Runner
from rankine.errors import RankineError
from rankine.models.columns import Batch

Draw = Callable[[int], Batch]
"""The batch of a number."""
_WARM_UP_TURNS = 3
_UNTIMED_CALLS = 1
_COLD_BYTES = 8 << 20


@dataclass(frozen=True)
class Runnable:
    """A side that is open, and its batches."""

    side: Side
    runner: Runner
    draw: Draw


class Disturbance:
    """What happens between two calls of a service that does other things too: 8 MB written, another model called."""

    def __init__(self, other: Runnable, rows: int, tasks: int) -> None:
        self._touched = np.zeros(_COLD_BYTES // 4, np.float32)
        self._other, self._out = other, np.empty((rows, tasks), np.float32)

    def run(self, number: int) -> None:
        np.add(self._touched, 1.0, out=self._touched)
        self._other.runner.run(self._other.draw(number), self._out)


def turns_of(rows: int, turns: int) -> int:
    """More turns where a call is short: its times scatter more and cost less."""
    return turns * max(1, min(8, 128 // rows))


def race(
    sides: Sequence[Runnable], *, rows: int, tasks: int, turns: int, between: Disturbance | None = None
) -> dict[Side | None, np.ndarray]:
    """Milliseconds of every turn by side; None is the control, the first side again.

    Args:
        between: runs before every timed call, in the place of the untimed ones.
    """
    lanes = [*sides, sides[0]]
    spent = np.empty((len(lanes), turns))
    out = np.empty((rows, tasks), np.float32)
    random = np.random.default_rng(0)
    numbers = count()
    for turn in range(-_WARM_UP_TURNS, turns):
        for lane in random.permutation(len(lanes)):
            one = lanes[lane]
            for _ in range(_UNTIMED_CALLS if between is None else 0):
                one.runner.run(one.draw(next(numbers)), out)
            if between is not None:
                between.run(next(numbers))
            batch = one.draw(next(numbers))
            begin = perf_counter()
            one.runner.run(batch, out)
            if turn >= 0:
                spent[lane, turn] = (perf_counter() - begin) * 1e3
    keys: list[Side | None] = [*(one.side for one in sides), None]
    return dict(zip(keys, spent, strict=True))


def timings_of(
    spent: Mapping[Side | None, np.ndarray], *, model: str, rows: int, ids: Ids = "uniform", cache: Cache = "warm"
) -> list[Timing]:
    """The record of each side of a race; ratios are to the first."""
    baseline, first = next((side, own) for side, own in spent.items() if side is not None)
    control = float(np.median(spent[None]) / np.median(first))
    found = []
    for side, own in spent.items():
        if side is None:
            continue
        low, median, high = (float(value) for value in np.quantile(own, (0.25, 0.5, 0.75)))
        ratio_low, ratio_high = (float(value) for value in np.quantile(own / first, (0.25, 0.75)))
        found.append(
            Timing(
                model=model,
                side=side,
                rows=rows,
                ids=ids,
                cache=cache,
                turns=len(own),
                median_ms=median,
                low_ms=low,
                high_ms=high,
                baseline=baseline,
                ratio=median / float(np.median(first)),
                ratio_low=ratio_low,
                ratio_high=ratio_high,
                control=control,
            )
        )
        print(f"{model}, {rows} rows, {ids}, {cache}: {side.label}: {median:.4f} ms, {found[-1].ratio:.3f}", flush=True)
    print(f"    control {control:.3f}", flush=True)
    return found


def first_error(one: Runnable, rows: int, tasks: int) -> str:
    """Why a side cannot run; empty where it can. A race would not end well with it."""
    try:
        one.runner.run(one.draw(0), np.empty((rows, tasks), np.float32))
    except RankineError as error:
        return str(error)
    return ""
