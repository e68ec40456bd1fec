"""Render how fast the engine tvm is into docs/reference/tvm-engine-speed.md.

$ python benchmarks/render_tvm.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from native_speed.record import NOISE_LIMIT, Side, Timing
from pages import table, write_pages
from tvm_record import Comparison, TvmLatency

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "tvm-latency.json"
PAGE = ROOT / "docs" / "reference" / "tvm-engine-speed.md"
INTRODUCTION = """\
# How fast the engine tvm is

Rendered by `python benchmarks/render_tvm.py` from the result file of `benchmarks/tvm_latency.py`. Do not edit it.

DCN-v2 (big): 13 dense and 26 categorical fields of 20,000 values, 16 columns each; 3 full cross layers beside an MLP of
1024-512-256; random weights, tables in FP32. One thread, all sides in turn in one process, and each timed call after an
untimed one of the same side. A call begins with the ids of one request and its candidates, drawn anew, and ends with
the logits: lookups are included. Cells are medians in milliseconds with quartiles. The first line is timed a second
time as the control: where that moved by more than 10 %, the run is **noise**. Every engine reads the same INT8 graph
(canonical QDQ); *int8-nncf* is the form that NNCF makes for OpenVINO. Before it is timed, a side is held to the float64
reference. [How the schedules work](../explanation/tvm-engine.md).
"""
FP32_LIMIT, INT8_LIMIT, ONE_ROW_LIMIT = 1.3, 1.0, 2.0


def render(result: TvmLatency) -> str:
    """The page."""
    lines = [INTRODUCTION, "## What was to be reached", "", *_bars(result)]
    main = result.timings[0].baseline
    lines += ["## Beside other engines", "", *_grid(result, [one for one in result.timings if one.baseline == main])]
    lines += [f"* {one.side.label} was not run: {one.error}" for one in result.failures]
    lines += ["## By instruction set", "", "Of one processor, INT8, raced by themselves.", ""]
    lines += _grid(result, [one for one in result.timings if one.baseline != main])
    lines += ["## The floor", "", *_floor(result), "## Builds", "", *_builds(result), *_where(result)]
    return "\n".join(lines).rstrip() + "\n"


def _bars(result: TvmLatency) -> list[str]:
    openvino = [one for one in result.comparisons if one.rows == 512 and one.peer.engine == "openvino"]
    integer = [one for one in openvino if one.peer.numeric != "fp32"]
    found = [
        ("FP32, 512 rows, against ONNX Runtime FP32", FP32_LIMIT, _against(result, "fp32", 512)),
        ("INT8, 512 rows, against OpenVINO INT8 in its best form", INT8_LIMIT, max(integer, key=lambda one: one.ratio)),
        ("INT8, 1 row, against ONNX Runtime INT8", ONE_ROW_LIMIT, _against(result, "int8", 1)),
    ]
    rows = []
    for name, limit, one in found:
        reached = "yes" if one.ratio <= limit else "**no**"
        noise = " (**noise**)" if _noisy(result, one.rows) else ""
        measured = f"{one.ratio:.2f} ({one.low:.2f}-{one.high:.2f}) of {one.peer.label}"
        rows.append((name, f"at most {limit:g} of its time", measured, reached + noise))
    return table(("", "bar", "measured", "reached"), rows)


def _against(result: TvmLatency, numeric: str, rows: int) -> Comparison:
    [found] = [
        one
        for one in result.comparisons
        if (one.rows, one.peer.engine, one.peer.numeric) == (rows, "onnxruntime", numeric)
    ]
    return found


def _noisy(result: TvmLatency, rows: int) -> bool:
    main = result.timings[0].baseline
    return any(
        abs(one.control - 1) > NOISE_LIMIT for one in result.timings if one.rows == rows and one.baseline == main
    )


def _grid(result: TvmLatency, timings: Sequence[Timing]) -> list[str]:
    counts = list(dict.fromkeys(one.rows for one in timings))
    best = str(result.facts["instruction_set"])
    rows = []
    for side in dict.fromkeys(one.side for one in timings):
        cells = [_cell(one) for one in timings if one.side == side]
        rows.append([_label(side, best), *cells])
    controls = {one.rows: one.control for one in timings}
    rows.append(["control", *(f"{controls[count]:.2f}" for count in counts)])
    return table(["", *("1 row" if count == 1 else f"{count} rows" for count in counts)], rows)


def _label(side: Side, best: str) -> str:
    if side.engine != "tvm":
        return side.label
    return f"**tvm {side.numeric}**, {side.variant or best}"


def _cell(one: Timing) -> str:
    return f"{_ms(one.median_ms)} ({_ms(one.low_ms)}-{_ms(one.high_ms)})"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _floor(result: TvmLatency) -> list[str]:
    """What a program at the processor's peak would take for 512 rows, and the sides of ours."""
    operations = float(result.facts["operations_per_row"]) * 512
    rows = []
    peaks = (("fp32", "fp32_peak_operations_per_s", "fused multiply-add"), ("int8", "peak_operations_per_s", ""))
    for numeric, key, told in peaks:
        if key not in result.facts:
            continue
        rate = float(result.facts[key])
        [ours] = [
            one
            for one in result.timings
            if one.rows == 512
            and one.baseline != one.side
            and (one.side.engine, one.side.numeric, one.side.variant) == ("tvm", numeric, "")
        ]
        name = told or f"`{result.facts['peak_instruction']}`"
        least = 1e3 * operations / rate
        share = f"{100 * least / ours.median_ms:.0f} %"
        rows.append((f"{numeric}, {name}", f"{rate / 1e9:.0f}", _ms(least), _ms(ours.median_ms), share))
    head = ("the processor's peak", "GOPS", "512 rows at the peak, ms", "tvm, ms", "share")
    text = (
        "The matrix products of 512 rows at the rate that the instruction alone reached in the same run: lookups and "
        "all else come on top."
    )
    return [*_wrapped(text), "", *table(head, rows)]


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 120)


def _builds(result: TvmLatency) -> list[str]:
    """Seconds from a graph to a library."""
    seconds = [f"{label} {took:.1f} s" for label, took in result.build_s.items()]
    return [*_wrapped(f"Compiled once, by `rankine compile`: {', '.join(seconds)}."), ""]


def _where(result: TvmLatency) -> list[str]:
    here = result.environment
    names = ("apache-tvm", "onnxruntime", "openvino", "nncf", "rankine")
    versions = ", ".join(f"{name} {here[name]}" for name in names if name in here)
    turns = sorted({one.turns for one in result.timings})
    tiles = " with AMX" if "amx_int8" in str(here.get("instruction_sets", "")).split() else ""
    return [f"Taken on {result.created:%Y-%m-%d}, {here['cpu']}{tiles}, {turns[0]}-{turns[-1]} turns; {versions}.", ""]


def read_result() -> TvmLatency:
    """The committed result."""
    return TvmLatency.model_validate_json(RESULT.read_text(encoding="utf-8"))


def render_committed() -> dict[Path, str]:
    """The page of the committed result."""
    return {PAGE: render(read_result())}


if __name__ == "__main__":
    write_pages(__doc__, render_committed())
