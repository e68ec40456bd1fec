"""The table of checks, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from rankine.compilation.engine import Capabilities

__all__ = ["CHECKS", "OF_NUMBERS", "Check", "checks_on"]

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
OF_NUMBERS = (*(f"numbers-{rows}" for rows in ROWS), "changing-rows", "large-batch", "independent-rows", "no-rows")
"""Of the numbers that a form gives, wherever it runs; the others are about the runner of a device that is here."""


def checks_on(capabilities: Capabilities, device: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those of ``names`` that can be asked of one of ``capabilities.verifiable``."""
    return tuple(name for name in names if device in capabilities.devices or name in OF_NUMBERS)
