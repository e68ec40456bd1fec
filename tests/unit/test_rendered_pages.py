"""Pages that are rendered from result files are what the files say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import render_families

    yield render_families
    sys.modules.pop("render_families")


def test_page_of_families_is_what_the_results_say_when_rendered(families) -> None:
    assert families.PAGE.read_text(encoding="utf-8") == families.render(families.read_results())


def test_page_of_families_gives_the_reason_when_a_certificate_did_not_pass(families) -> None:
    results = families.read_results()
    name, result = next(iter(results.items()))
    failed = {**result["certificates"][0], "verdict": "fail", "reason": "AUC falls."}
    page = families.render({name: {**result, "certificates": [failed], "explanation": " The cross layers do it."}})
    assert "**fail**" in page
    assert "AUC falls. The cross layers do it." in page


def test_page_of_families_shows_auc_when_certificates_have_several_metrics(families) -> None:
    results = families.read_results()
    name, result = next(iter(results.items()))
    older = result["certificates"][0]
    auc = {"name": "auc", "baseline": 0.7, **{key: older[key] for key in ("delta", "ci_low", "margin")}}
    kept = ("variant", "task", "verdict", "reason")
    newer = {"schema_version": 2, "metrics": [auc], **{key: older[key] for key in kept}}
    page = families.render({name: {**result, "certificates": [newer]}})
    assert f"| 0.70000 | {result['training']['result']['best_epoch']} of" in page
    assert f"| {older['ci_low']:+.5f} |" in page
