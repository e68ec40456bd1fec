"""What the pages say of certificates and sizes in result files, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = {
    "auc": "AUC",
    "normalized_entropy": "normalized entropy",
    "calibration": "calibration",
    "group_auc": "group AUC",
    "ndcg_at_10": "NDCG@10",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def auc(certificate: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its test of AUC, which is the first."""
    found: Mapping[str, Any] = certificate["metrics"][0]
    return found


def change(certificate: Mapping[str, Any]) -> tuple[str, str]:
    """Of AUC, and its lower bound."""
    found = auc(certificate)
    return f"{found['delta']:+.5f}", f"{found['ci_low']:+.5f}"


def worst(certificates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The task that decides: the worst verdict, then the lowest bound."""
    verdicts = ("fail", "inconclusive", "pass")
    return min(certificates, key=lambda one: (verdicts.index(one["verdict"]), auc(one)["ci_low"]))


def passed(certificates: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every task did."""
    return bool(certificates) and all(one["verdict"] == "pass" for one in certificates)


def verdict(certificate: Mapping[str, Any]) -> str:
    """With the metric that decides where that is not AUC."""
    found = str(certificate["verdict"])
    names = [test["name"] for test in certificate["metrics"] if found != "pass" and test["verdict"] == found]
    return found if not names or "auc" in names else f"{found} ({NAMES[names[0]]})"


def share(size: Mapping[str, Any], whole: Mapping[str, Any], what: str) -> str:
    """Of the multiply-adds (``macs``) or of the ``bytes``."""
    if what == "macs":
        found = size["macs_per_row"] / whole["macs_per_row"]
        return f"{found:.2%}" if found < 0.01 else f"{found:.1%}"
    stored, before = ((one["graph_bytes"] + one["table_bytes"]) for one in (size, whole))
    return f"{stored / before:.1%}"
