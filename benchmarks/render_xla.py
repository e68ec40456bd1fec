"""Render what the compiler for TPUs says of Rankine's programs into docs/reference/xla-tpu.md.

$ python benchmarks/render_xla.py
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from pages import table, write_pages
from xla_record import Chip, Compiled, Subject, XlaTpu

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "xla-tpu.json"
PAGE = ROOT / "docs" / "reference" / "xla-tpu.md"
INTRODUCTION = """\
# Ranking models for TPUs

Rendered by `python benchmarks/render_xla.py` from the result file of `benchmarks/xla_tpu.py`. Do not edit it.

**No TPU has run any of this, and no time of one is here, nor an estimate of one.** The dense part of each model is one
StableHLO program with an open number of rows. That program was run by XLA on the CPU, where its logits are held to the
float64 reference; and it was compiled by libtpu for one chip of each generation, which needs no chip. Random weights,
full shapes; tables are not in the program: [the host looks up](../explanation/lookups.md).
"""
NUMBERS = """\
FP32: the largest error of logits, relative above one. INT8 is the canonical form with integer products summed in int32:
the largest error of scores, and the mean. A rounding that falls the other way moves a score, so the bound is wider.
"""
COMPILER = """\
The compiler's own figures (`memory_analysis`, `cost_analysis`). Operations count a multiply-add as two; FP32 products
are asked for in full precision, and the compiler makes them of passes in bfloat16 that it does not count. Arguments are
weights and inputs as they lie in HBM, padded to tiles; HBM traffic is what the compiler counts as accessed. *Compiled
in* is what libtpu took on the machine below.
"""
ROOFLINE = """\
Computed from the graph and from what is published of a chip, without the compiler. Bytes are weights, inputs and
logits, each moved once and without padding; operations are two a multiply-add of the matrix products. Intensity is
operations over bytes; the ridge is the intensity from which a chip's peak and not its HBM is the limit. The floor,
the larger of the two, is a bound and no estimate: a call that reads its weights from HBM cannot take less, and may
take far more. No FP32 peak is published: the bfloat16 peak over six is taken, the passes of full precision. Copies
between host and chip are not in it.
"""
FP32_PASSES = 6


def render(result: XlaTpu) -> str:
    """The page."""
    generations = list(result.chips)
    lines = [INTRODUCTION, "## Numbers, on the CPU", "", NUMBERS, *_numbers(result)]
    lines += ["## What the compiler says", "", COMPILER]
    for generation in generations:
        lines += [f"### {generation}", "", *_figures(result, generation)]
    lines += ["## Rooflines", "", ROOFLINE, *_chips(result)]
    for generation in generations:
        lines += [f"### {generation}: the floor", "", *_roofline(result, generation)]
    return "\n".join([*lines, *_where(result)]).rstrip() + "\n"


def _numbers(result: XlaTpu) -> list[str]:
    rows = []
    for one in result.subjects:
        mean = f"{one.mean_error:.1e}"
        reached = "yes" if one.error <= one.limit else "**no**"
        cells = (f"{one.error:.1e}", mean, f"{one.limit:g}", reached)
        rows.append((one.model, one.numeric.upper(), str(one.verified_rows), *cells))
    return table(("model", "form", "rows", "largest error", "mean error", "bound", "held"), rows, names=2)


def _figures(result: XlaTpu, generation: str) -> list[str]:
    head = ("model", "form", "rows", "operations, M", "HBM traffic", "arguments", "temporary", "code", "compiled in")
    rows = []
    for subject, one in _of(result, generation):
        figures = one.figures
        sizes = (figures.bytes_accessed, figures.argument_bytes, figures.temporary_bytes, figures.code_bytes)
        cells = (str(figures.rows), f"{figures.flops / 1e6:,.1f}", *(_bytes(size) for size in sizes))
        rows.append((subject.model, subject.numeric.upper(), *cells, f"{one.compile_s:.1f} s"))
    return table(head, rows, names=2)


def _chips(result: XlaTpu) -> list[str]:
    head = ("chip", "INT8, TOPS", "bfloat16, TFLOPS", "FP32, derived", "HBM, GB/s", "HBM, GB", "published")
    rows = []
    for name, chip in result.chips.items():
        peaks = (chip.int8_operations_per_s, chip.bf16_operations_per_s, chip.bf16_operations_per_s / FP32_PASSES)
        told = f"[Google]({chip.source})" + (f", [INT8]({chip.int8_source})" if chip.int8_source else "")
        sizes = (f"{chip.hbm_bytes_per_s / 1e9:,.0f}", f"{chip.hbm_bytes / 1e9:.0f}")
        rows.append((name, *(f"{peak / 1e12:,.0f}" for peak in peaks), *sizes, told))
    return table(head, rows)


def _roofline(result: XlaTpu, generation: str) -> list[str]:
    chip = result.chips[generation]
    head = ("model", "form", "rows", "operations a byte", "ridge", "limit", "floor, µs")
    rows = []
    for subject, one in _of(result, generation):
        operations, peak = 2 * subject.macs_per_row * one.figures.rows, _peak(chip, subject)
        computing, moving = operations / peak, one.least_bytes / chip.hbm_bytes_per_s
        limit = "HBM" if moving >= computing else "peak"
        intensity, ridge = f"{operations / one.least_bytes:,.1f}", f"{peak / chip.hbm_bytes_per_s:,.0f}"
        cells = (str(one.figures.rows), intensity, ridge, limit, f"{1e6 * max(computing, moving):.2f}")
        rows.append((subject.model, subject.numeric.upper(), *cells))
    return table(head, rows, names=2)


def _peak(chip: Chip, subject: Subject) -> float:
    """Operations a second that the matrix products of a form can reach."""
    return chip.int8_operations_per_s if subject.numeric == "int8" else chip.bf16_operations_per_s / FP32_PASSES


def _of(result: XlaTpu, generation: str) -> list[tuple[Subject, Compiled]]:
    return [
        (subject, one)
        for subject in result.subjects
        for one in subject.compiled
        if one.figures.generation == generation
    ]


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.2f} MB" if size >= 1e4 else f"{size / 1e3:,.1f} kB"


def _where(result: XlaTpu) -> list[str]:
    here = result.environment
    versions = ", ".join(f"{name} {here[name]}" for name in ("jax", "libtpu", "onnx", "rankine") if name in here)
    return textwrap.wrap(f"Taken on {result.created:%Y-%m-%d}, {here['cpu']}; {versions}.", 120)


def read_result() -> XlaTpu:
    """The committed result."""
    return XlaTpu.model_validate_json(RESULT.read_text(encoding="utf-8"))


def render_committed() -> dict[Path, str]:
    """The page of the committed result."""
    return {PAGE: render(read_result())}


if __name__ == "__main__":
    write_pages(__doc__, render_committed())
