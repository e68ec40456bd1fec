"""The table of checks, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from rankine.compilation.conformance.case import Case
from rankine.compilation.conformance.lifecycle import leaks, reopening
from rankine.compilation.conformance.numbers import (
    ROWS,
    changing_rows,
    independent_rows,
    large_batch,
    no_rows,
    numbers,
    shared_runner,
    threads,
)
from rankine.compilation.conformance.refusals import bad_ids, bad_indices, wrong_shapes

__all__ = ["CHECKS", "Check"]

Check = Callable[[Case], Mapping[str, float]]
"""Gives what it measured, by name.

Raises:
    ConformanceFailed: the engine does not do what every engine must.
"""

CHECKS: Mapping[str, Check] = {
    **{f"numbers-{rows}": partial(numbers, rows=rows) for rows in ROWS},
    "changing-rows": changing_rows,
    "large-batch": large_batch,
    "independent-rows": independent_rows,
    "no-rows": no_rows,
    "bad-ids": bad_ids,
    "bad-indices": bad_indices,
    "wrong-shapes": wrong_shapes,
    "shared-runner": shared_runner,
    "threads": threads,
    "reopening": reopening,
    "leaks": leaks,
}
