"""Render the committed result of the certificate's simulation into docs/reference/certificate-simulation.md.

$ python benchmarks/render_certificate_simulation.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from script import no_arguments

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "certificate-simulation.json"
PAGE = ROOT / "docs" / "reference" / "certificate-simulation.md"
TITLES = {
    "auc": "AUC",
    "normalized_entropy": "normalized entropy",
    "calibration": "calibration",
    "group_auc": "group AUC",
    "ndcg_at_10": "NDCG@10",
}


def render(result: Mapping[str, Any]) -> str:
    """The page from the result file."""
    world, runs = result["world"], result["levels"][0]["runs"]
    parts = [
        _introduction(world, result["pairs"][0]["error_b"], runs),
        _levels(result["levels"], result["pairs"]),
        _powers(result["powers"]),
        _intervals(result["intervals"]),
        _closing(result),
    ]
    return "\n".join(parts).rstrip() + "\n"


def read_result(path: Path = RESULT) -> dict[str, Any]:
    """The result file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _introduction(world: Mapping[str, Any], error: float, runs: int) -> str:
    own = ", ".join(f"{value:g}" for value in world["own"])
    length = round(math.exp(world["list_log_mean"]))
    return f"""\
# Does the certificate hold what it promises?

A certificate says that a variant which loses the margin passes in at most 5 of 100 tests, although rows of one user and
rows of one item are not independent. Here that is tried out, on {runs:,} data sets a row, in a world whose truth is
known: {world["users"]} users with lists of about {length} of {world["items"]} items, popular items more often; the
truth and both models have effects of the user, of the item and of the row. The two models share most of what they say;
what each gets wrong on its own has standard deviations of {own} logits by user, item and row, times
{error:g} for the variant that loses the margin.

This page is rendered by `python benchmarks/render_certificate_simulation.py` from
[the result file](../../benchmarks/results/certificate-simulation.json), which
`python benchmarks/certificate_simulation.py --work FOLDER` makes. Do not edit it. Why the tests are made so is told in
[Certificates](../explanation/certificates.md).
"""


def _levels(levels: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            TITLES[one["metric"]],
            one["scenario"],
            f"{one['difference']:+.4f}" + (f" ± {one['population_se']:.4f}" if one["population_se"] else ""),
            f"**{one['rate']:.1%}**",
            f"{one['rate_ignoring']:.1%}",
            f"{one['spread']:.4f}",
            f"{one['se_mean']:.4f}",
        )
        for one in levels
    ]
    error = levels[0]["rate_se"]
    ratios = (pairs[0]["log_ratio_b"], pairs[1]["log_ratio_a"], pairs[1]["log_ratio_b"])
    kink, away, further = (math.exp(ratio) for ratio in ratios)
    return f"""\
## False passes

The true difference *is* minus the margin: every pass is false. The simulation's own standard error is {error:.1%},
so up to {0.05 + 2 * error:.1%} is in agreement with 5 %. The true differences are computed by quadrature, or (with ±)
from some hundred thousand users. *Ignoring* takes rows as independent; for group AUC and NDCG it takes users as
independent, and forgets that they share items; for calibration it compares the two mean predictions alone. *Spread* is
the standard deviation of the difference over the data sets: the truth that the standard error, beside it as the mean
over the data sets, should meet.

{_table(("metric", "variant", "true difference", "false passes", "ignoring", "spread", "standard error"), rows)}

The first calibration row is at the kink of `|log c|`: the baseline's ratio is 1, the variant's {kink:.2f}. There a
variant can pass in two ways, each of which gets half of the 5 %. In the last row both predict too much, {away:.2f} and
{further:.2f} times the truth, and one of the two ways is closed: the test is conservative. Its standard error is of
the difference of the logs, not of their absolute values, whose spread is shown.
"""


def _powers(powers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (TITLES[one["metric"]], f"{one['margin']:g}", f"{one['rate']:.1%}", f"{one['predicted']:.1%}") for one in powers
    ]
    return f"""\
## Power

A variant that is different but no worse: how often it passes, and how often each certificate's own figure for the power
(their mean) says that it would, over {powers[0]["runs"]:,} data sets. Calibration's is a lower limit: it counts one of
the two ways to pass.

{_table(("metric", "margin", "passes", "predicted power"), rows)}
"""


def _intervals(intervals: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            TITLES[one["metric"]],
            f"{one['delta']:+.4f}",
            f"{one['ci_low']:+.4f} … {one['ci_high']:+.4f}",
            f"{one['bootstrap_low']:+.4f} … {one['bootstrap_high']:+.4f}",
            f"{one['se']:.4f}",
            f"{one['bootstrap_se']:.4f}",
        )
        for one in intervals
    ]
    resamples = intervals[0]["resamples"]
    head = ("metric", "difference", "bounds", "bootstrap's", "standard error", "bootstrap's")
    return f"""\
## Bounds against a large bootstrap

One data set of the first table, clustered by user alone (crossed clusters have no plain bootstrap): one-sided 95 %
bounds of the certificate, and the 5 % and 95 % points of {resamples:,} resamples of whole users with every metric
computed anew. Calibration's bounds are wider on purpose, see above.

{_table(head, rows)}
"""


def _closing(result: Mapping[str, Any]) -> str:
    environment, day = result["environment"], result["created"][:10]
    made = f"NumPy {environment.get('numpy', '?')} and Python {environment.get('python', '?')}"
    return f"Seed {result['seed']}, {result['resamples']:,} resamples a certificate, made on {day} with {made}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def main() -> None:
    PAGE.write_text(render(read_result()), encoding="utf-8")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
