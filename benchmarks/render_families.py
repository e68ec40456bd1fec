"""Render the committed results of the model families into docs/reference/families.md.

$ python benchmarks/render_families.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from script import no_arguments

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "families"
PAGE = ROOT / "docs" / "reference" / "families.md"
INTRODUCTION = """\
# Model families

Every family of the zoo, trained on its data until validation AUC stopped improving, then quantized as it is (INT8
linear layers and INT8 tables, nothing made smaller) and certified on its fastest engine against itself in FP32.

This page is rendered by `python benchmarks/render_families.py` from the files in
[benchmarks/results/families](../../benchmarks/results/families), which
`python benchmarks/families_quality.py --work FOLDER` makes. Do not edit it.
"""
LEGEND = """\
*Change* is the AUC of the INT8 variant minus the baseline's on the test split; *bound* is its one-sided 95 % lower
bound, with rows clustered by user and item where both are known. *FP32 error* is the largest difference of a logit from
the float64 reference on 2,048 rows.
"""


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page from the result files, by family."""
    lines = [INTRODUCTION, *_table(results), "", LEGEND]
    for name, result in results.items():
        lines += _reasons(name, result)
    return "\n".join(lines).rstrip() + "\n"


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """All result files, in the order of their names."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def _table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = ("family", "data", "task", "test AUC", "best epoch", "MACs/row", "bytes INT8/FP32", "change", "bound",
            "margin", "verdict", "FP32 error")  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + [_row(name, result, one) for name, result in results.items() for one in result["certificates"]]


def _row(name: str, result: Mapping[str, Any], certificate: Mapping[str, Any]) -> str:
    fitted, variants = result["training"]["result"], result["variants"]
    small, whole = variants[certificate["variant"]], variants["baseline"]
    auc = _auc(certificate)
    errors = [f"{engine} {error:.0e}" for engine, error in whole["max_logit_error"].items()]
    ended = "" if fitted["converged"] else ", NOT converged"
    cells = (
        f"`{name}`",
        result["dataset"],
        certificate["task"],
        f"{auc['baseline']:.5f}",
        f"{fitted['best_epoch']} of {len(fitted['history'])}{ended}",
        f"{whole['macs_per_row']:,}",
        f"{small['size_bytes'] / whole['size_bytes']:.2f}",
        f"{auc['delta']:+.5f}",
        f"{auc['ci_low']:+.5f}",
        f"{auc['margin']:g}",
        f"**{certificate['verdict']}**",
        ", ".join(errors),
    )
    return "| " + " | ".join(cells) + " |"


def _auc(certificate: Mapping[str, Any]) -> Mapping[str, Any]:
    """The test of AUC; a certificate of schema version 1 has no other, and its figures at the top."""
    if certificate["schema_version"] == 1:
        return {**certificate, "baseline": certificate["baseline_value"]}
    found: Mapping[str, Any] = certificate["metrics"][0]
    return found


def _reasons(name: str, result: Mapping[str, Any]) -> list[str]:
    """Why a certificate did not pass, where it did not."""
    return [
        f"* `{name}`, {certificate['task']}: {certificate['reason']}{result.get('explanation', '')}"
        for certificate in result["certificates"]
        if certificate["verdict"] != "pass"
    ]


def main() -> None:
    PAGE.write_text(render(read_results()), encoding="utf-8")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
