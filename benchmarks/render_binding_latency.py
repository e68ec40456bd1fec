"""Render what binding times give in time into docs/reference/binding-latency.md.

$ python benchmarks/render_binding_latency.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pages import table
from script import no_arguments

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "reference" / "binding-latency.md"
INTRODUCTION = """\
# What binding times give in time

Rendered by `python benchmarks/render_binding_latency.py` from the result files of `benchmarks/binding_latency.py`,
`binding_served.py`, `binding_auc.py` and `catalog_upserts.py`. Do not edit it. What is left to multiply is on
[a page of its own](binding-times.md); [how it works](../explanation/binding-times.md).
"""
LATENCY = """\
## DCN-v2 (big), one thread, 512 candidates

Milliseconds of a call, quartiles in brackets; *of whole* is the ratio of medians of the same run, lookups and the
request's part included. The forms are named by how what is stored of an item is stored; float32 loses nothing, the
others need a certificate. {gigabytes:g} GB are stored of {items:,} items (float32), ids are drawn anew for every call.
The control is the whole graph, timed a second time: where it is far from 1 the run is noise. *64 x 8*: rows a second of
64 requests of 8 candidates in one batch, of those of one request of 512.
"""
SERVED = """\
## Through a server

The variant of MovieLens-1M that `compression.py` certified and the plan serves, in parts and whole (`--no-split`), one
core, 512 candidates of one user: milliseconds that the server says its engine ran, and that its client waited.
"""
AUC = """\
## AUC on test rows, in parts against whole

Every variant of every family that is split, on ONNX Runtime. The bar is a difference below 0.00001; logits of INT8
variants may differ by a step of a rounding.
"""
UPSERTS = """\
## Upserts

Items a second that a catalog takes in, the catalog graphs of {variants} variants run for each item
({floats} floats stored of an item). Processor time counts all threads; on the clock the disk decides.
"""


def render(
    latency: Mapping[str, Any] | None,
    served: Sequence[Mapping[str, Any]],
    auc: Sequence[Mapping[str, Any]],
    upserts: Mapping[str, Any] | None,
) -> str:
    """The page; parts without a result are left out."""
    lines = [INTRODUCTION]
    if latency is None and not served and not auc and upserts is None:
        lines.append("No results are committed yet.")
    lines += _latency(latency) if latency else []
    lines += _served(served) if served else []
    lines += _auc(auc) if auc else []
    lines += _upserts(upserts) if upserts else []
    return "\n".join(lines).rstrip() + "\n"


def _latency(result: Mapping[str, Any]) -> list[str]:
    timings = result["timings"]
    stored = next(one for one in timings if one["form"] == "float32")
    lines = [LATENCY.format(gigabytes=stored["stored_gigabytes"], items=stored["items"])]
    head = (
        "engine",
        "",
        "ids",
        "whole",
        "control",
        "float32",
        "of whole",
        "float16",
        "of whole",
        "int8",
        "of whole",
        "64 x 8",
    )
    rows = []
    for (engine, numeric, ids), group in groupby(timings, key=lambda one: (one["engine"], one["numeric"], one["ids"])):
        forms = {one["form"]: one for one in group}
        cells = [engine, numeric.upper(), ids, _quartiles(forms["whole"]), f"{forms['whole, again']['ratio']:.2f}"]
        for form in ("float32", "float16", "int8"):
            cells += [_quartiles(forms[form]), f"**{forms[form]['ratio']:.2f}**"]
        rows.append((*cells, f"{min(forms['float32']['small_rows_share'], 9.99):.0%}"))
    before, after = result["macs_before"], result["macs_candidate"]
    left = f"Multiply-adds of a row: {before:,} whole, {after:,} in parts ({after / before:.0%})."
    return [*lines, *table(head, rows), left, "", _where(result), ""]


def _served(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            result["family"],
            result["variant"],
            one["engine"],
            one["form"],
            *(f"{middle:.3f} ({low:.3f}-{high:.3f})" for low, middle, high in (one["engine_ms"], one["request_ms"])),
        )
        for result in results
        for one in result["servers"]
    ]
    ratios = [
        f"{result['family']}: the fastest in parts takes **{result['ratio']:.2f}** of the fastest whole."
        for result in results
    ]
    head = ("family", "variant", "engine", "form", "engine, ms", "request, ms")
    return [SERVED, *table(head, rows), *ratios, "", _where(results[0]), ""]


def _auc(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            *(result["family"], one["variant"], one["task"], one["numeric"].upper()),
            *(f"{one['whole']:.6f}", f"{one['difference']:+.0e}", f"{one['largest']:.0e}"),
        )
        for result in results
        for one in result["variants"]
    ]
    head = ("family", "variant", "task", "", "AUC, whole", "difference", "largest difference of a logit")
    return [AUC, *table(head, rows)]


def _upserts(result: Mapping[str, Any]) -> list[str]:
    rows = [
        (f"{one['batch']:,}", f"{one['items_per_cpu_s']:,.0f}", f"{one['items_per_wall_s']:,.0f}")
        for one in result["upserts"]
    ]
    head = ("items an upsert", "items/s of processor time", "items/s by the clock")
    text = UPSERTS.format(variants=len(result["variants"]), floats=result["stored_floats"])
    return [text, *table(head, rows), _where(result), ""]


def _quartiles(one: Mapping[str, Any]) -> str:
    return f"{one['median_ms']:.2f} ({one['low_ms']:.2f}-{one['high_ms']:.2f})"


def _where(result: Mapping[str, Any]) -> str:
    here = result["environment"]
    return f"Taken on {result['created'][:10]}, {here['cpu']}, {here['cores']} cores."


def read_results(folder: Path) -> list[dict[str, Any]]:
    """All result files of a folder, or one file, by name."""
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def render_committed() -> str:
    """The page of the committed results."""
    latency, upserts = (read_results(RESULTS / name) for name in ("binding-latency.json", "catalog-upserts.json"))
    served, auc = read_results(RESULTS / "binding-served"), read_results(RESULTS / "binding-auc")
    return render(next(iter(latency), None), served, auc, next(iter(upserts), None))


if __name__ == "__main__":
    no_arguments(__doc__)
    PAGE.write_text(render_committed(), encoding="utf-8")
