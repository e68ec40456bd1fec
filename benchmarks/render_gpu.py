"""Render how fast the engine triton-lang is on a GPU into docs/reference/triton-lang-engine-speed.md.

$ python benchmarks/render_gpu.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpu_record import GpuResult, Row
from pages import write_pages

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
PAGE = ROOT / "docs" / "reference" / "triton-lang-engine-speed.md"
INTRODUCTION = """\
# How fast the engine triton-lang is

Rendered by `python benchmarks/render_gpu.py` from the result file of `benchmarks/gpu.py`. Do not edit it.

The floor is what a kernel's bytes take at the GPU's bandwidth, or its operations at its peak, whichever is longer, by
the maker's figures; bytes are those that must pass at least once. A *kernel* or the kernels of a call on the *device*
are timed on the GPU, its second cache emptied before each; a *call* begins with the ids of one request and its
candidates and ends with the logits on the host. Medians, with quartiles. Of a model, the floor is that of one kernel
that would keep everything between its layers on the chip. Where the host looks up, its rows are copied; else ids are,
as places in the tables on the device. [How it works](../explanation/triton-lang-engine.md).
"""


def render(result: GpuResult) -> str:
    """The page."""
    timed = sum(row.median_us is not None for row in result.rows)
    lines = [INTRODUCTION, *_state(result, timed), ""]
    models = [row for row in result.rows if "DCN-v2 (big)" in row.what]
    lines += ["## Kernels", "", *_table([row for row in result.rows if row not in models])]
    lines += ["## DCN-v2 (big)", "", "Peers run the dense part alone; of torch it is on the device already.", ""]
    lines += _table(models)
    names = ("triton", "torch", "onnxruntime", "rankine")
    versions = ", ".join(f"{name} {result.environment[name]}" for name in names if name in result.environment)
    lines += [f"Taken on {result.created:%Y-%m-%d} in {result.spent_s:.0f} s; {versions}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _state(result: GpuResult, timed: int) -> list[str]:
    if result.gpu is None:
        first = "No GPU was there: **nothing here is timed**, and all was verified in Triton-lang's interpreter."
    else:
        first = f"On one {result.gpu}: {timed} of {len(result.rows)} rows are timed."
    failed = f"**{result.checks_failed} failed**" if result.checks_failed else "none failed"
    second = f"{result.checks_passed} tests of kernels and models passed in the same run, {failed}."
    return [first, second, f"Floors are those of {result.floor_of} ({result.floor_source})."]


def _table(rows: Sequence[Row]) -> list[str]:
    head = ("", "of", "form", "rows", "floor, us", "measured, us", "times the floor")
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | --- | ---: | ---: | ---: | ---: |"]
    for row in rows:
        cells = (row.what, row.scope, row.form, f"{row.rows:,}", _us(row.floor_us), *_measured(row))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _measured(row: Row) -> tuple[str, str]:
    if row.median_us is None or row.low_us is None or row.high_us is None:
        return f"not timed: {row.why_not}", ""
    share = f"{row.median_us / row.floor_us:.1f}" if row.floor_us else ""
    return f"{_us(row.median_us)} ({_us(row.low_us)}-{_us(row.high_us)})", share


def _us(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def read_result() -> GpuResult:
    """The committed result."""
    return GpuResult.model_validate_json(RESULT.read_text(encoding="utf-8"))


def render_committed() -> dict[Path, str]:
    """The page of the committed result."""
    return {PAGE: render(read_result())}


if __name__ == "__main__":
    write_pages(__doc__, render_committed())
