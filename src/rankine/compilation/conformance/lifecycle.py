"""Checks of a runner's life: opened and closed again and again, it gives the same and leaves nothing behind."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from time import monotonic, sleep

import numpy as np
import psutil

from rankine.compilation.conformance.case import Case
from rankine.errors import EngineError
from rankine.models.columns import Batch

__all__ = ["CYCLES", "LEAK_BYTES", "leaks", "reopening"]

WARM_UP, CYCLES = 10, 40
"""Runners that are opened, used and closed: before the measurement, and in it."""
LEAK_BYTES = 64 << 10
"""Growth of memory for each that is still taken for the allocator's."""
_OPENED = 4
_ENDING_S = 2.0


def reopening(case: Case) -> Mapping[str, float]:
    """A runner that was closed says so, and another can be opened on the same files."""
    batch = case.batch(6)
    expected = case.expected(batch)
    for time in range(_OPENED):
        runner = case.open()
        try:
            out = case.run(runner, batch)
        finally:
            runner.close()
        case.hold(out, expected, f"opened {time + 1} times")
        try:
            runner.run(batch, case.out(6))
        except EngineError as error:
            if "closed" not in str(error):
                raise case.failure("a closed runner does not say so", got=str(error)) from None
        else:
            raise case.failure("runs after it was closed", allowed="an EngineError that says so")
    return {}


def leaks(case: Case, cycles: int = CYCLES) -> Mapping[str, float]:
    """Memory, descriptors and threads stay where they are while runners come and go.

    Every other one is opened with two threads, since a pool of threads is what a library forgets to end.

    Memory is the median slope of the process's resident set over the cycles (Theil and Sen's estimate), which steps of
    an allocator do not move.
    """
    batch, out, process = case.batch(64), case.out(64), psutil.Process()
    gc.freeze()  # what was there before is not searched again in every cycle
    try:
        for cycle in range(WARM_UP):
            _cycle(case, batch, out, threads=1 + cycle % 2)
        begin = _handles(process)
        resident = []
        for cycle in range(cycles):
            _cycle(case, batch, out, threads=1 + cycle % 2)
            resident.append(process.memory_info().rss)
        end = _ended(process, begin)
    finally:
        gc.unfreeze()
        case.open(threads=1).close()  # where the number of threads belongs to the process, leave it as it was
    for what in begin:
        if end[what] > begin[what]:
            raise case.failure(
                f"{what} are left behind", got=f"{end[what]} after {cycles} more runners", allowed=f"{begin[what]}"
            )
    growth = _slope(np.array(resident, np.float64))
    if growth > LEAK_BYTES:
        raise case.failure(
            "memory is left behind", got=f"{growth / 1024:.0f} KiB a runner", allowed=f"{LEAK_BYTES >> 10} KiB"
        )
    return {"bytes_a_runner": growth}


def _cycle(case: Case, batch: Batch, out: np.ndarray, *, threads: int) -> None:
    runner = case.open(threads)
    try:
        runner.run(batch, out)
    finally:
        runner.close()
    del runner
    gc.collect()


def _ended(process: psutil.Process, begin: Mapping[str, int]) -> dict[str, int]:
    """What is held when nothing more ends: a thread that was told to end may take a moment."""
    late_s = monotonic() + _ENDING_S
    while any((end := _handles(process))[what] > begin[what] for what in begin) and monotonic() < late_s:
        sleep(0.05)
    return end


def _handles(process: psutil.Process) -> dict[str, int]:
    count = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return {"descriptors": count, "threads": process.num_threads()}


def _slope(values: np.ndarray) -> float:
    """Median of the slopes of all pairs."""
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (second - first)))
