"""Render the committed runs of the ablation into docs/reference/ablation.md.

$ python benchmarks/render_ablation.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from script import no_arguments

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "ablation"
PAGE = ROOT / "docs" / "reference" / "ablation.md"
INTRODUCTION = """\
# What each pass is worth

The whole recipe, each of its passes alone and, where it was run, the recipe without each pass, applied to the converged
baselines of [the families](families.md) that have a table below. A row tells what the code of its day did: a pass that
was changed since is worth what a new run says.

This page is rendered by `python benchmarks/render_ablation.py` from the files in
[benchmarks/results/ablation](../../benchmarks/results/ablation), which
`python benchmarks/compression_ablation.py --work FOLDER` makes. Do not edit it.
"""
LEGEND = """\
*MACs* and *bytes* are shares of the baseline's. *AUC* is the change of the worst task's AUC, *entropy* the relative
change of its normalized entropy, each with its one-sided 95 % bounds; positive is better. All on validation rows, rows
clustered as in a certificate: the test split is not spent on this page. Passes that train do so on the baseline's
probabilities, with early stopping; runs are single, so differences below the width of the bounds say nothing.
"""
_ORDER = ("whole", "only", "without")


def render(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page from the runs of each family."""
    lines = [INTRODUCTION, LEGEND if results else "No results are committed yet."]
    for family, runs in results.items():
        head = ("run", "MACs", "bytes", "AUC", "bounds", "entropy", "bounds", "within the margin")
        lines += [f"## `{family}` on {runs[0]['dataset']}, margin {runs[0]['margin']:g}", ""]
        lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        lines += [_row(run) for run in sorted(runs, key=_place)]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def read_results(folder: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """All runs by family; a folder that is empty or not there has none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*/*.json")):
        found.setdefault(path.parent.name, []).append(json.loads(path.read_text(encoding="utf-8")))
    return found


def _row(run: Mapping[str, Any]) -> str:
    before, after = run["baseline"], run["size"]
    tests = min(run["tasks"].values(), key=lambda found: float(found[0]["delta"]))
    auc = tests[0]
    entropy = next((test for test in tests if test["name"] == "normalized_entropy"), None)
    verdicts = [test["verdict"] for found in run["tasks"].values() for test in found if test["verdict"]]
    cells = (
        run["run"],
        f"{after['macs_per_row'] / before['macs_per_row']:.1%}",
        f"{_bytes(after) / _bytes(before):.1%}",
        *_change(auc),
        *(("", "") if entropy is None else _change(entropy)),
        "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "yes",
    )
    return "| " + " | ".join(cells) + " |"


def _change(test: Mapping[str, Any]) -> tuple[str, str]:
    return f"{test['delta']:+.5f}", f"{test['ci_low']:+.5f} … {test['ci_high']:+.5f}"


def _bytes(size: Mapping[str, Any]) -> int:
    return int(size["graph_bytes"]) + int(size["table_bytes"])


def _place(run: Mapping[str, Any]) -> tuple[int, str]:
    return _ORDER.index(run["run"].partition("-")[0]), run["run"]


def main() -> None:
    PAGE.write_text(render(read_results()), encoding="utf-8")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
