"""Section `threads`: two threads that call the native engine at once, each with batches of its own, against one."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Barrier
from time import perf_counter

import numpy as np

from native_speed.options import Options
from native_speed.race import Draw
from native_speed.record import Scaling, Section, Side
from native_speed.shapes import big, columns_of, draw_from, make_forms, uniform_pool, verification_batch
from native_speed.sides import Opened, engines, open_engine
from rankine.compilation.engine import Runner
from rankine.environment import environment
from rankine.models.columns import row_count

ROWS, THREADS = 512, 2
_CALLS = 20
"""Of a thread in a turn: long enough that the start of the threads is nothing."""


def run_threads(options: Options) -> Section | None:
    """One thread, two, and one again in every turn; FP32 and INT8 whole."""
    if len(os.sched_getaffinity(0)) < THREADS:
        print(f"threads: left out, it needs {THREADS} cores; this process has one", flush=True)
        return None
    if "native" not in engines():
        print("threads: left out, there is no native engine", flush=True)
        return None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        forms = make_forms(big(), folder)
        requests, items = columns_of(forms.shape)
        opened = Opened(forms.shape.name, {}, [])
        for model in (forms.int8, forms.fp32):
            side = Side(engine="native", numeric=model.numeric)
            opened.add(side, partial(open_engine, "native", model, folder, verification_batch(requests, items)))
        draw = draw_from(requests, items, uniform_pool(row_count(items)), ROWS)
        scalings = [
            _scale(side, runner, draw, forms.shape.name, options.turns) for side, runner in opened.runners.items()
        ]
        opened.close()
    return Section(
        scalings=tuple(scalings),
        failures=tuple(opened.failures),
        created=datetime.now(UTC),
        environment=environment(),
    )


def _scale(side: Side, runner: Runner, draw: Draw, model: str, turns: int) -> Scaling:
    with ThreadPoolExecutor(THREADS) as pool:
        found = np.array(
            [[_rows_per_s(runner, draw, count, pool) for count in (1, THREADS, 1)] for _ in range(turns + 1)]
        )[1:]
    one, several, again = found.T
    low, high = np.quantile(several / one, (0.25, 0.75))
    scaling = Scaling(
        model=model,
        side=side,
        rows=ROWS,
        threads=THREADS,
        turns=turns,
        rows_per_s_one=float(np.median(one)),
        rows_per_s_all=float(np.median(several)),
        ratio=float(np.median(several) / np.median(one)),
        ratio_low=float(low),
        ratio_high=float(high),
        control=float(np.median(again) / np.median(one)),
    )
    print(f"{side.label}: {scaling.ratio:.3f} of one thread's rows/s, control {scaling.control:.3f}", flush=True)
    return scaling


def _rows_per_s(runner: Runner, draw: Draw, threads: int, pool: ThreadPoolExecutor) -> float:
    """From the moment when all threads are there until the last one is done."""
    together = Barrier(threads)

    def call(first: int) -> tuple[float, float]:
        out = np.empty((ROWS, 1), np.float32)
        together.wait()
        begin = perf_counter()
        for number in range(first, first + _CALLS):
            runner.run(draw(number), out)
        return begin, perf_counter()

    begins, ends = zip(*pool.map(call, range(0, threads * _CALLS, _CALLS)), strict=True)
    return threads * _CALLS * ROWS / (max(ends) - min(begins))
