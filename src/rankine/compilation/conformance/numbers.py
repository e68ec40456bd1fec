"""Checks of the numbers: whatever the batch, logits are those of the float64 reference."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from rankine.compilation.conformance.case import Case
from rankine.compilation.host_runner import small_buffers
from rankine.errors import ConformanceFailed
from rankine.models.columns import Batch

__all__ = ["ROWS", "changing_rows", "independent_rows", "large_batch", "no_rows", "numbers", "shared_runner", "threads"]

Figures = Mapping[str, float]
ROWS = (1, 7, 64, 512, 1000)
"""Row counts at which logits are compared."""
_CHANGING = (3, 100, 1, 64, 65, 3, 700, 2, 64)
_LARGE, _LARGE_SLOW, _DISTINCT, _BUFFER_BYTES = 20_000, 2_000, 300, 100_000
_SLOW = ("emulator", "interpreter")
"""They take minutes for so many rows; a tenth of them is many times the buffers too."""
_SHARED = (1, 300, 17, 64, 500, 3)
_SHARED_CALLS = 10
_WHATEVER_IT_RAISES: tuple[type[Exception], ...] = (Exception,)
"""In a thread of its own, where it would be lost."""
_NEIGHBORS, _STEPPED, _SAME = 40, 0.1, 1e-4


def numbers(case: Case, rows: int) -> Figures:
    """Logits of one batch are the reference's."""
    runner, batch = case.open(), case.batch(rows)
    try:
        return {"error": case.hold(case.run(runner, batch), case.expected(batch), f"{rows} rows")}
    finally:
        runner.close()


def changing_rows(case: Case) -> Figures:
    """They stay so when the number of rows changes from call to call."""
    runner, worst = case.open(), 0.0
    try:
        for seed, rows in enumerate(_CHANGING):
            batch = case.batch(rows, seed)
            worst = max(worst, case.hold(case.run(runner, batch), case.expected(batch), f"{rows} rows after others"))
    finally:
        runner.close()
    return {"error": worst}


def large_batch(case: Case) -> Figures:
    """A batch that is larger than the buffers may be gives the same logits."""
    some = case.batch(_DISTINCT)
    rows = _LARGE_SLOW if case.capabilities.runs_on(case.device) in _SLOW else _LARGE
    index = np.sort(np.arange(rows) % _DISTINCT)
    runner = case.open()
    try:
        with small_buffers(_BUFFER_BYTES):
            out = case.run(runner, some.select(index))
    finally:
        runner.close()
    return {"error": case.hold(out, case.expected(some)[index], f"{rows:,} rows")}


def independent_rows(case: Case) -> Figures:
    """A row's logits do not depend on the rows beside it: nothing is rounded by what else is in the batch.

    Every other row stays where it is and keeps its logits while the rest of the batch is exchanged. Alone, a row may
    take another kernel, whose sums round otherwise: in INT8 one row in ten may step. Where an engine rounds in a form
    of its own, logits too, another kernel may step in any row: what is bounded there is the error, as everywhere.
    """
    runner, batch = case.open(), case.batch(_NEIGHBORS)
    staying = np.arange(0, _NEIGHBORS, 2)
    try:
        together = case.run(runner, batch)
        beside_others = case.run(runner, batch.select(np.repeat(staying, 2)))
        alone = np.concatenate([case.run(runner, batch.select(slice(row, row + 1))) for row in range(_NEIGHBORS)])
    finally:
        runner.close()
    expected = case.expected(batch)
    case.hold(alone, expected, "rows alone")
    case.hold(together, expected, "rows together")
    _same(case, beside_others[staying], together[staying], "rows beside others", allowed=0.0)
    steps_anywhere = case.model.numeric == "int8" and case.capabilities.own_int8_form
    if not steps_anywhere:
        _same(case, alone, together, "rows alone", allowed=_STEPPED if case.model.numeric == "int8" else 0.0)
    return {"difference": float(np.abs(alone - together).max())}


def _same(case: Case, out: np.ndarray, before: np.ndarray, what: str, *, allowed: float) -> None:
    """At most a part ``allowed`` of the rows differs."""
    differs = np.abs(out - before).max(axis=1) > _SAME * np.maximum(1, np.abs(before).max(axis=1))
    if differs.mean() > allowed:
        raise case.failure(
            f"{what}: logits of a row depend on the rows beside it",
            got=f"{differs.sum()} of {len(out)} rows, by up to {np.abs(out - before).max():.3g}",
            allowed=f"at most {allowed:.0%} of the rows by more than {_SAME:g}",
        )


def no_rows(case: Case) -> Figures:
    """A batch without rows runs nothing and spoils nothing."""
    runner, batch = case.open(), case.batch(5)
    try:
        runner.run(case.batch(0), case.out(0))
        return {"error": case.hold(case.run(runner, batch), case.expected(batch), "after a batch without rows")}
    finally:
        runner.close()


def shared_runner(case: Case) -> Figures:
    """Threads that share a runner, with batches of different sizes, each get the logits of their own batch."""
    batches = [case.batch(rows, seed) for seed, rows in enumerate(_SHARED)]
    expected = [case.expected(batch) for batch in batches]
    case.tasks  # noqa: B018  (the reference is no part of what runs at the same time)
    runner = case.open()
    failures: list[ConformanceFailed] = []
    errors = [0.0]

    def work(batch: Batch, wanted: np.ndarray) -> None:
        try:
            for _ in range(_SHARED_CALLS):
                out = np.full(wanted.shape, np.nan, np.float32)
                runner.run(batch, out)
                errors.append(case.hold(out, wanted, f"{batch.rows} rows beside other threads"))
        except ConformanceFailed as error:
            failures.append(error)
        except _WHATEVER_IT_RAISES as error:
            got = f"{type(error).__name__}: {error}"
            failures.append(case.failure("fails beside other threads", got=got))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(batches, expected, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    runner.close()
    if failures:
        raise failures[0]
    return {"error": max(errors)}


def threads(case: Case) -> Figures:
    """A runner that was opened with two threads gives the same logits."""
    runner, batch = case.open(threads=2), case.batch(300)
    try:
        worst = case.hold(case.run(runner, batch), case.expected(batch), "two threads")
    finally:
        runner.close()
    case.open(threads=1).close()  # where the number of threads belongs to the process, leave it as it was
    return {"error": worst}
