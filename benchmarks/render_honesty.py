"""The part of the page of compression that doubts it: networks from scratch, and students that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certificate_cells import auc, change, passed, share, table, verdict, worst
from readme_block import folded

HONESTY = """\
## Could a small network have been trained right away?

For each family: networks trained from scratch on the labels with the default settings of training, one seed each, in a
handful of the sizes of `benchmarks/compression_sizes.py`, up to the baseline's own sizes with another seed; the small
ones without dropout. Each is tested alone, at the full level, without correction for their number: that is generous to
them. They stay FP32. *Smallest that certifies* is the one with the fewest multiply-adds, of those tried, whose
certificate passed; a verdict that AUC does not decide names the metric that does.
"""
REFUSED = """\
## The gate refuses

A student that is too small, made by the passes that are named, in the same run and under the same procedure.
"""


def honesty(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Both sections."""
    better = [line for name, result in results.items() for line in _better(name, result)]
    return [HONESTY, *_scratch(results), *better, "", REFUSED, *_refused(results)]


def smallest(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The network from scratch with the fewest multiply-adds among those that certified."""
    return min((one for one in result["scratch"] if passed(one["certificates"])), key=_macs, default=None)


def _scratch(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = (
        "family",
        "compressed: MACs",
        "smallest from scratch that certifies: MACs",
        "its AUC",
        "fewer MACs",
        "tried",
    )
    rows = []
    for name, result in results.items():
        ours, found = _macs(result["ours"]), smallest(result)
        compared = (
            ("none", "", "none certifies")
            if found is None
            else (
                f"{_macs(found):,}",
                change(worst(found["certificates"]))[0],
                "yes" if ours < _macs(found) else "**no**",
            )
        )
        tried = "; ".join(_tried(one) for one in sorted(result["scratch"], key=_macs))
        rows.append((f"`{name}`", f"{ours:,}", *compared, tried))
    return table(head, rows)


def _better(name: str, result: Mapping[str, Any]) -> list[str]:
    """A paragraph on the networks from scratch whose AUC is shown to be above the baseline's, if there are any."""
    found = [
        f"{_macs(one):,} multiply-adds by {auc(worst(one['certificates']))['delta']:.4f}"
        for one in sorted(result["scratch"], key=_macs)
        if all(auc(certificate)["ci_low"] > 0 for certificate in one["certificates"])
    ]
    if not found:
        return []
    told = (
        f"`{name}`: the baseline has {result['baseline']['macs_per_row']:,} multiply-adds and was trained until "
        f"validation AUC stopped improving, and yet networks from scratch have a higher AUC: that of "
        f"{', that of '.join(found)}. It is not the best of its family, and what is compressed from it is held against "
        "it, not against the best."
    )
    return ["", folded(told)]


def _refused(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = ("family", "passes", "MACs", "AUC", "bound", "verdict", "reason")
    rows = []
    for name, result in results.items():
        small = result["too_small"]
        decides = worst(small["certificates"])
        passes = ", ".join(report["type"] for report in small["reports"])
        macs = share(small["size"], result["baseline"], "macs")
        rows.append((f"`{name}`", passes, macs, *change(decides), f"**{decides['verdict']}**", decides["reason"]))
    return table(head, rows)


def _macs(made: Mapping[str, Any]) -> int:
    return int(made["size"]["macs_per_row"])


def _tried(one: Mapping[str, Any]) -> str:
    decides = worst(one["certificates"])
    return f"{_macs(one):,}: {change(decides)[0]} {verdict(decides)}"
