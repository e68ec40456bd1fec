"""What came of requests, on its way back: cut out of a batch's logits, and set on the event loop that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from rankine.errors import BadRequest, DeadlineExceeded, EngineError, RankineError
from rankine.policy.admission import DEADLINE_MISSED, DEADLINE_PASSED
from rankine.serving.bodies import ClientGone
from rankine.serving.rungs import ServedRung
from rankine.serving.work import Outcome, Work

__all__ = ["Result", "as_error", "deliver", "scatter", "too_late"]

Result = tuple[Work, Outcome | RankineError | ClientGone]


def scatter(
    works: Sequence[Work], logits: np.ndarray, begin_s: float, run_s: float, reason: str, rung: ServedRung
) -> list[Result]:
    """The rows of each piece of work; an error where they have no finite score."""
    results: list[Result] = []
    start = 0
    rows, requests, variant, engine = len(logits), len(works), rung.variant, rung.engine
    all_finite = bool(np.isfinite(logits).all())
    for work in works:
        end = start + work.rows
        mine = logits[start:end]
        start = end
        if all_finite or np.isfinite(mine).all():
            ran = Outcome(mine, begin_s - work.queued_s, run_s, rows, requests, reason, variant, engine)
            results.append((work, ran))
        else:
            hint = "A number of the request is too far from what the model was trained on."
            results.append((work, BadRequest("the model has no finite score for this request", hint=hint)))
    return results


def too_late(work: Work) -> DeadlineExceeded:
    """For work that left the queue because its deadline had passed, or would."""
    now_s = perf_counter()
    message = DEADLINE_PASSED if now_s >= work.deadline_s else DEADLINE_MISSED
    got = f"{1000 * (now_s - work.arrived_s):.1f} ms since its arrival"
    return DeadlineExceeded(message, where="deadline", got=got)


def as_error(error: Exception) -> RankineError:
    """Whatever an engine raised, as an error that a client can be told."""
    return (
        error if isinstance(error, RankineError) else EngineError(f"the engine failed: {type(error).__name__}: {error}")
    )


def deliver(results: Sequence[Result], then: Callable[[], None]) -> None:
    """Set all futures, with one wake-up of each event loop that another thread runs (a test may use several).

    Args:
        then: called on such a loop when they are set.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[Result]] = {}
    for result in results:
        future = result[0].future
        if future is not None:
            by_loop.setdefault(future.get_loop(), []).append(result)
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:  # a worker's thread has none
        here = None
    for loop, mine in by_loop.items():
        if loop is here:
            _settle(mine)
        else:
            loop.call_soon_threadsafe(_settle_and, mine, then)


def _settle_and(results: Sequence[Result], then: Callable[[], None]) -> None:
    _settle(results)
    then()


def _settle(results: Sequence[Result]) -> None:
    for work, outcome in results:
        if work.future is None or work.future.done():
            continue
        if isinstance(outcome, Outcome):
            work.future.set_result(outcome)
        else:
            work.future.set_exception(outcome)
