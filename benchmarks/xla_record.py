"""What a run of `xla_tpu.py` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AwareDatetime

from rankine.compilation.engines.xla.tpu import TpuFigures
from rankine.config import Frozen
from rankine.models.variant import Numeric


class Chip(Frozen):
    """What is published of one chip.

    Attributes:
        source: the page that says so.
        int8_source: the page that says so of INT8, where it is another one.
    """

    bf16_operations_per_s: float
    int8_operations_per_s: float
    hbm_bytes_per_s: float
    hbm_bytes: float
    source: str
    int8_source: str | None = None


class Compiled(Frozen):
    """A program that a TPU's compiler took.

    Attributes:
        least_bytes: weights, inputs and logits as the program declares them, each moved once.
        compile_s: what the compiler took on this machine.
    """

    figures: TpuFigures
    least_bytes: int
    compile_s: float


class Subject(Frozen):
    """A model in one numeric form.

    Attributes:
        macs_per_row: multiply-adds of its matrix products.
        weight_bytes: of the program's weights, without tables.
        error, limit: the largest error of the same program on the CPU against the float64 reference, and its bound:
            relative above one for FP32 logits, of scores for INT8.
        mean_error: in the same measure.
    """

    model: str
    numeric: Numeric
    macs_per_row: int
    weight_bytes: int
    verified_rows: int
    error: float
    mean_error: float
    limit: float
    compiled: tuple[Compiled, ...]


class XlaTpu(Frozen):
    """A run."""

    schema_version: Literal[1] = 1
    kind: Literal["xla-tpu"] = "xla-tpu"
    subjects: tuple[Subject, ...]
    chips: Mapping[str, Chip]
    created: AwareDatetime
    environment: Mapping[str, Any]
