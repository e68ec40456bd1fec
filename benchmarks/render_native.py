"""Render how fast the native engine is into docs/reference/native-engine-speed.md, and its picture beside it.

$ python benchmarks/render_native.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from native_speed.bars import Bar, bars, is_noisy
from native_speed.chart import bar_chart
from native_speed.record import BIG, CHAIN, NativeLatency, Section, Timing, read_result
from pages import table
from script import no_arguments

_Key = TypeVar("_Key")
ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "native-latency.json"
WITHOUT_AMX = ROOT / "benchmarks" / "results" / "native-latency-without-amx.json"
PAGE = ROOT / "docs" / "reference" / "native-engine-speed.md"
PICTURE = ROOT / "docs" / "images" / "native-engine-speed.svg"
INTRODUCTION = """\
# How fast the native engine is

Rendered by `python benchmarks/render_native.py` from the result file of `benchmarks/native_latency.py`. Do not edit it.

One thread, all sides in turn in one process, and each timed call after an untimed one of the same side. A call begins
with the ids of one request and its candidates, drawn anew, and ends with the logits: lookups are included, by the
host's lookup where an engine has none. Cells are medians in milliseconds with quartiles, and the ratio to the first
line's median of the same run, in bold. The first line is timed a second time as the control: where that moved by more
than 10 %, the run is **noise**, and so are ratios from it. Every engine reads the same INT8 graph (canonical QDQ);
*int8-nncf* is the form that NNCF makes for OpenVINO, all layers and sums in INT8. Before it is timed, a side is held to
the float64 reference. *At the INT8 peak* is the ratio of a program that did nothing but the processor's fastest INT8
instruction (`vpdpbusd`, or `tdpbusd` of AMX), at the rate that it reached in the same run: no engine can be faster.

Sections may be of different processors, which their last lines name. Where there is AMX, OpenVINO and native both use
it. The last section has what was measured without.
"""
WITHOUT_AMX_TEXT = """\
## Without AMX

The same table of a processor that has AVX-512 VNNI and no AMX; kernels for such have not changed since it was taken.
"""
SECTIONS: Mapping[str, str] = {
    "whole": """\
## DCN-v2 (big), whole

13 dense and 26 categorical fields of 20,000 values, 16 columns each; 3 full cross layers beside an MLP of 1024-512-256.
Random weights; 20,000 items; tables in FP32.
""",
    "split": """\
## DCN-v2 (big), in parts

What depends on the item alone is stored: {stored_gigabytes:g} GB of it in each storage type, and items are drawn from
all of them, uniformly or by Zipf's law (exponent 1.05, places shuffled). A call has one request, whose part is computed
in it. The first line runs the whole graph; it took part in four runs, one for each storage and
numeric form, and shows the range of their medians.
""",
    "families": """\
## Other families

Full shapes (those of `benchmarks/families.py`), and the layers that the baselines of `benchmarks/compression.py` have;
random weights. What an engine is judged by, its fastest, has a star: for the native engine of FP32 and INT8, for the
others of their INT8 forms.
""",
    "certified": """\
## Certified variants against their baseline

Variants of `benchmarks/compression.py` with a passed certificate, on real rows (of validation), in parts and whole,
against PyTorch eager FP32 of the baseline. Cold: before each call 8 MB are written and another model runs.
""",
    "threads": """\
## Threads

Rows a second of DCN-v2 (big), whole, 512 rows a call, from two threads with batches of their own on two cores, and from
one.
""",
    "peak": """\
## Share of the processor's INT8 peak

An MLP of 448-1024-512-256 in INT8 and a head of one column in FP32, which reads bytes, as the parts of a split do; 512
rows. The peak is what the processor's fastest INT8 instruction alone (`vpdpbusd`, or `tdpbusd` of AMX) reached in the
same run, the best of several; multiplications and additions count one each.
""",
}


def render(result: NativeLatency, without_amx: NativeLatency | None = None) -> str:
    """The page; sections that were not run are left out."""
    if not result.sections:
        return f"{INTRODUCTION}\nNo results are committed yet.\n"
    lines = [INTRODUCTION, "## What was to be reached", "", *_bars(bars(result))]
    if _bars_of_picture(result):
        lines += [f"![DCN-v2 (big), 512 rows](../images/{PICTURE.name})", ""]
    for name, text in SECTIONS.items():
        if name in result.sections:
            section = result.sections[name]
            lines += [text.format(**section.facts.get(BIG, {})), *_section(section), *_where(section)]
    if without_amx is not None:
        lines += [WITHOUT_AMX_TEXT, *_bars(bars(without_amx)), *_where(without_amx.sections["whole"])]
    return "\n".join(lines).rstrip() + "\n"


def picture(result: NativeLatency) -> str | None:
    """DCN-v2 (big), 512 rows: all sides whole and, where it was run, in parts; None without results."""
    found = _bars_of_picture(result)
    return bar_chart("DCN-v2 (big), 512 rows, one thread, milliseconds a call", found, "ms") if found else None


def _bars_of_picture(result: NativeLatency) -> list[tuple[str, float, bool]]:
    whole = [one for one in _timings(result, "whole") if one.rows == 512]
    parts = [
        one
        for one in _timings(result, "split")
        if (one.rows, one.ids, one.side.form, one.side.storage) == (512, "zipf", "parts", "float32")
    ]
    shown = sorted((*whole, *parts), key=lambda one: -one.median_ms)
    return [(one.side.label, one.median_ms, one.side.engine == "native") for one in shown]


def _bars(found: Sequence[Bar]) -> list[str]:
    def told(bar: Bar) -> str:
        word = {None: "", True: "yes", False: "**no**"}[bar.reached]
        return f"{word} (**noise**)" if bar.noisy else word

    rows = [(one.name, one.bar, one.measured, told(one)) for one in found]
    return table(("", "bar", "measured", "reached"), rows)


def _section(section: Section) -> list[str]:
    lines: list[str] = []
    for model, timings in _grouped(section.timings, lambda one: one.model):
        many = len({one.model for one in section.timings}) > 1
        lines += [f"### {model}", ""] if many else []
        for ids, drawn in _grouped(timings, lambda one: one.ids):
            lines += [f"{ids.capitalize()} ids:", ""] if len({one.ids for one in timings}) > 1 else []
            lines += _grid(drawn, star=any(not one.counts for one in section.timings))
        lines += _facts(model, section)
    if section.scalings:
        head = ("", "one thread, rows/s", "two threads, rows/s", "ratio", "control")
        rows = [
            (
                one.side.label,
                f"{one.rows_per_s_one:,.0f}",
                f"{one.rows_per_s_all:,.0f}",
                f"**{one.ratio:.2f}** ({one.ratio_low:.2f}-{one.ratio_high:.2f})",
                _control(one.control),
            )
            for one in section.scalings
        ]
        lines += table(head, rows)
    failures = [f"* {one.model}, {one.side.label}, was not run: {one.error}" for one in section.failures]
    return [*lines, *failures, *([""] if failures else [])]


def _grid(timings: Sequence[Timing], *, star: bool) -> list[str]:
    """A line a side; two columns for each number of rows, and the controls last."""
    columns = [key for key, _ in _grouped(timings, _column)]
    head = [
        "",
        *(cell for rows, cache in columns for cell in (f"{_rows(rows)}{', cold' if cache == 'cold' else ''}", "")),
    ]
    rows = []
    for side, own in _grouped(timings, lambda one: one.side):
        cells = [side.label]
        for column in columns:
            cells += _cells([one for one in own if _column(one) == column], star=star)
        rows.append(cells)
    controls = ["control"]
    for column in columns:
        found = [one.control for one in timings if _column(one) == column]
        controls += [_control(max(found, key=lambda value: abs(value - 1))), ""]
    return table(head, [*rows, controls])


def _column(one: Timing) -> tuple[int, str]:
    return one.rows, one.cache


def _cells(found: Sequence[Timing], *, star: bool) -> tuple[str, str]:
    """Milliseconds and ratio; of a side of several runs, the range of its medians."""
    if not found:
        return "", ""
    one, *others = found
    if others:
        medians = [each.median_ms for each in found]
        return f"{_ms(min(medians))} … {_ms(max(medians))}", f"**{one.ratio:.2f}**"
    mark = " *" if star and one.counts and one.side.engine in ("native", "openvino", "onnxruntime") else ""
    mark = mark if one.side.engine == "native" or one.side.numeric != "fp32" else ""
    return f"{_ms(one.median_ms)} ({_ms(one.low_ms)}-{_ms(one.high_ms)}){mark}", f"**{one.ratio:.2f}**"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _control(value: float) -> str:
    return f"{value:.2f}, **noise**" if is_noisy(value) else f"{value:.2f}"


def _facts(model: str, section: Section) -> list[str]:
    facts = section.facts.get(model, {})
    lines: list[str] = []
    if "linear" in facts:
        lines.append(
            f"NNCF's form: OpenVINO executed {facts['linear_int8']} of {facts['linear']} linear layers and "
            f"{facts['elementwise_int8']} of {facts['elementwise']} elementwise operators in INT8; scores differ from "
            f"those of FP32 by {facts['score_difference_mean']:.4f} on average, "
            f"by {facts['score_difference_largest']:.4f} at most."
        )
    margins = [
        f"`{key.removeprefix('margin_')}` at {value:g}" for key, value in facts.items() if key.startswith("margin_")
    ]
    lines += [f"Certified: {', '.join(margins)}."] if margins else []
    if model == CHAIN and "peak_operations_per_s" in facts:
        peak = float(facts["peak_operations_per_s"])
        shares = [
            f"{one.side.engine} {float(facts['operations']) / one.median_ms * 1e3 / peak:.0%}"
            for one in section.timings
        ]
        lines.append(f"Of a peak of {peak / 1e9:.0f} GOPS, by the median: {', '.join(shares)}.")
    return [*lines, ""] if lines else []


def _where(section: Section) -> list[str]:
    here = section.environment
    names = ("onnxruntime", "openvino", "nncf", "torch", "rankine")
    versions = ", ".join(f"{name} {here[name]}" for name in names if name in here)
    turns = sorted({one.turns for one in (*section.timings, *section.scalings)})
    told = f"{turns[0]}-{turns[-1]}" if len(turns) > 1 else str(turns[0]) if turns else "no"
    tiles = " with AMX" if "amx_int8" in str(here.get("instruction_sets", "")).split() else ""
    return [f"Taken on {section.created:%Y-%m-%d}, {here['cpu']}{tiles}, {told} turns; {versions}.", ""]


def _timings(result: NativeLatency, section: str) -> tuple[Timing, ...]:
    found = result.sections.get(section)
    return () if found is None else found.timings


def _grouped(timings: Iterable[Timing], key: Callable[[Timing], _Key]) -> list[tuple[_Key, list[Timing]]]:
    """Timings by key, in the order in which keys come first."""
    found: dict[_Key, list[Timing]] = {}
    for one in timings:
        found.setdefault(key(one), []).append(one)
    return list(found.items())


def render_committed() -> dict[Path, str]:
    """The page and the picture of the committed result, by where they lie."""
    result = read_result(RESULT)
    drawn = picture(result)
    return {PAGE: render(result, read_result(WITHOUT_AMX))} | ({} if drawn is None else {PICTURE: drawn})


if __name__ == "__main__":
    no_arguments(__doc__)
    for path, text in render_committed().items():
        path.write_text(text, encoding="utf-8")
