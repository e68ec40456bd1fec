"""Render what binding times give, and their proofs, into docs/reference/binding-times.md.

$ python benchmarks/render_binding.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pages
from script import no_arguments

from rankine.compilation.binding.plan import pays

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TABLE, PROOFS = RESULTS / "binding-table.json", RESULTS / "binding-proofs.json"
PAGE = ROOT / "docs" / "reference" / "binding-times.md"
INTRODUCTION = """\
# What binding times give

Multiply-adds and bytes of a row before and after [the split](../explanation/binding-times.md), and what was proved.

This page is rendered by `python benchmarks/render_binding.py` from
[binding-table.json](../../benchmarks/results/binding-table.json), which `python benchmarks/binding_table.py` makes, and
[binding-proofs.json](../../benchmarks/results/binding-proofs.json), which `python benchmarks/binding_proofs.py` makes.
Do not edit it.
"""
LEGEND = """\
A row's *MACs* and *bytes* are those of the whole graph, then those of the candidate's part; *an item* and *a request*
are what the two other parts take, once each. Bytes are what a row reads of features, and with the split what it
gathers of what was computed early, FP32: more of them, but those of the request stay in the cache. *Stored* is what the
catalog holds of an item beside its features. At the compiler's own prices. *(whole)*: so little is saved that
`rankine compile` leaves the variant whole.
"""
FIELDS = {
    "Criteo": "13 numbers and 26 fields, 6 and 13 of them the request's. `dcn_v2` is DCN-v2 (big).",
    "history": "A history of 50 items, an item and four fields.",
}
PROOF = """\
## Proof

Every variant that lay in the work folders of the other benchmarks, on rows that nothing was trained on, split twice: at
the compiler's own prices, and with everything taken out that can be. *FP32*: the largest error of a logit against
float64, with the split over without it; the bar is 2. *Accumulators*: the largest difference of the integer sums behind
the first rounded layers, evaluated in float64, in steps of one; the bar is 0.001, which makes them equal. *Codes*: how
many of those that come next differ: a float sum may fall on either side of a border; *by*: the largest difference of
two, the bar is 1. *AUC*: the largest difference; the bar is 0.00001.
"""


def render(table: Mapping[str, Any] | None, proofs: Mapping[str, Any] | None) -> str:
    """The page from the two results; None for one that is not there."""
    lines = [INTRODUCTION, LEGEND if table else "No results are committed yet.\n"]
    by_fields = sorted(table["rows"] if table else (), key=lambda row: row["fields"])
    for fields, rows in groupby(by_fields, key=lambda row: row["fields"]):
        lines += [f"## {fields}", ""]
        lines += [FIELDS[fields], ""] if fields in FIELDS else []
        lines += pages.table(
            ("model", "", "MACs a row", "split", "left", "an item", "a request", "bytes a row", "split", "stored"),
            [_row(row) for row in rows],
        )
    if proofs:
        kept = sorted(proofs["proofs"], key=lambda found: (found["origin"] == "foreign", found["model"]))
        models = [list(group) for _, group in groupby(kept, key=lambda found: (found["origin"], found["model"]))]
        lines += [PROOF]
        head = ("model", "variants", "FP32", "accumulators", "codes", "of", "by", "AUC")
        lines += pages.table(head, [_proved(group) for group in models])
        lines += [f"* Not proved: {found['model']}, {_why(found)}." for found in proofs.get("unproved", ())]
    return "\n".join(lines).rstrip() + "\n"


def read_result(path: Path) -> dict[str, Any] | None:
    """A result file; None where it is not there."""
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    split = row["split"]
    before, after = split["macs_before"], split["macs_candidate"]
    others = ("macs_catalog", "macs_request", "bytes_before", "bytes_after", "stored_bytes")
    return (
        split["model"],
        row["numeric"].upper(),
        f"{before:,}",
        f"{after:,}",
        f"{after / before:.0%}" + ("" if pays(before, after) else " (whole)"),
        *(f"{split[name]:,}" for name in others),
    )


def _proved(found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    proofs = [one["proof"] for one in found]
    plain = [one["proof"] for one in found if one["numeric"] == "fp32"]
    ratios = [proof["error_after"] / proof["error_before"] for proof in plain if proof["error_before"]]
    rounded = [proof for proof in proofs if proof["sums"]]
    stepped = [proof["stepped"] for proof in rounded]
    return (
        found[0]["model"],
        f"{len({one['variant'] for one in found})}",
        f"{max(ratios):.2f}" if ratios else "",
        f"{max(proof['accumulator_difference'] for proof in rounded):.0e}" if rounded else "",
        f"{sum(stepped):,}" if rounded else "",
        f"{sum(proof['codes'] for proof in rounded):,}" if rounded else "",
        f"{max(proof['steps'] for proof in rounded)}" if rounded else "",
        f"{max(one['auc_difference'] for one in found):.0e}",
    )


def _why(found: Mapping[str, Any]) -> str:
    return "which `load` refuses" if found["origin"] == "foreign" else str(found["reason"])


def main() -> None:
    PAGE.write_text(render(read_result(TABLE), read_result(PROOFS)), encoding="utf-8")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
