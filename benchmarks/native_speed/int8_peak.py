"""The processor's INT8 peak, as its own instruction reaches it in this run."""

from __future__ import annotations

from rankine import _native

_RUNS = 5


def int8_peak() -> dict[str, float | str]:
    """What `vpdpbusd` alone reaches, or `tdpbusd` where there is AMX, the best of a few runs: a shared clock moves.

    Returns:
        ``peak_instruction`` and ``peak_operations_per_s``, where multiplications and additions count one each; nothing
        where the processor has no such instruction.
    """
    found = [one for one in (_native.int8_peak() for _ in range(_RUNS)) if one is not None]
    if not found:
        print("the INT8 peak is not measured: there is no vpdpbusd here, or nothing that measures it", flush=True)
        return {}
    instruction, rate = max(found, key=lambda one: one[1])
    return {"peak_instruction": instruction, "peak_operations_per_s": rate}
