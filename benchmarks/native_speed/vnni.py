"""The processor's INT8 peak, as its own instruction reaches it in this run."""

from __future__ import annotations

from collections.abc import Callable

from rankine import _native

_RUNS = 5


def peak_operations_per_s() -> float | None:
    """What `vpdpbusd` alone reaches, the best of a few runs: the clock of a shared machine moves.

    Multiplications and additions count one each. None where the processor does not have the instruction.
    """
    measure: Callable[[], float | None] | None = getattr(_native, "vpdpbusd_peak", None)
    found = [value for value in (measure() for _ in range(_RUNS) if measure is not None) if value]
    if not found:
        print("the INT8 peak is not measured: there is no vpdpbusd here, or nothing that measures it", flush=True)
    return max(found, default=None)
