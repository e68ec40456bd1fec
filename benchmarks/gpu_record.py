"""What a run of `gpu.py` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from rankine.config import Frozen


class Row(Frozen):
    """One thing that is timed, beside the least that it can take.

    Attributes:
        what: the kernel, or the model and who runs it.
        scope: ``kernel`` on the device alone; ``device``, all kernels of a call; ``call``, from the ids of a batch to
            the logits on the host, or for a peer from its inputs on the host.
        form: numeric form of the products.
        floor_us: microseconds at the roofline of ``GpuResult.floor_of``.
        median_us, low_us, high_us: median and quartiles; None where it was not timed.
        why_not: then.
    """

    what: str
    scope: Literal["kernel", "device", "call"]
    form: str
    rows: int = Field(ge=1)
    floor_us: float
    median_us: float | None = None
    low_us: float | None = None
    high_us: float | None = None
    why_not: str = ""


class GpuResult(Frozen):
    """A run.

    Attributes:
        gpu: its name; None where none is.
        floor_of: the GPU whose figures the floors are of.
        checks_passed, checks_failed: of kernels and models against their references, run on the GPU, or without one in
            the interpreter.
        rows: in the order in which they were taken.
        spent_s: seconds of the whole run.
    """

    schema_version: Literal[1] = 1
    kind: Literal["gpu"] = "gpu"
    gpu: str | None
    floor_of: str
    floor_source: str
    checks_passed: int
    checks_failed: int
    rows: tuple[Row, ...]
    spent_s: float
    created: AwareDatetime
    environment: Mapping[str, Any]
