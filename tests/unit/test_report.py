"""The report's words and its page, without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rankine.errors import ConfigError, UsageError
from rankine.observation.report import render_report
from rankine.observation.report.labels import human_bytes, milliseconds, signed
from rankine.observation.report.view import comparison, engine_table, headlines, metric_table, split_table
from rankine.observation.result import DemoResult
from sample_result import full_result, minimal_result, swept

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Balance(HTMLParser):
    """Checks that tags nest, and collects ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    return full_result()


@pytest.fixture(scope="module")
def page(full: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_report(full, tmp_path_factory.mktemp("report") / "deep" / "report.html").read_text(encoding="utf-8")


def parsed(**changes: object) -> DemoResult:
    return DemoResult.model_validate(minimal_result() | changes)


def test_page_is_well_formed_and_ids_are_unique_when_full(page: str) -> None:
    checked = Balance()
    checked.feed(page)
    assert checked.open == []
    assert len(checked.ids) == len(set(checked.ids))
    referenced = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page))
    assert {first or second for first, second in referenced} <= set(checked.ids)


def test_page_has_all_figures_with_descriptions_when_full(page: str) -> None:
    for name in ("cdf", "rates", "pareto", "certificate", "sizes", "training"):
        assert f'aria-labelledby="{name}-title {name}-desc"' in page
    assert page.count("<svg") == page.count("<desc") == 6
    assert "Not measured." not in page


def test_page_names_no_resource_outside_when_full(page: str) -> None:
    assert "://" not in page.replace("http://127.0.0.1:8000", "")
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|src=", page)


def test_text_is_escaped_when_it_holds_markup(page: str) -> None:
    assert "<script>" not in page
    assert "ml-1m &lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in page


def test_names_are_escaped_when_they_are_drawn(tmp_path: Path) -> None:
    name = "a<b & $x$ \"'"
    point = {"variant": name, "engine": name, "auc": 0.8, "p50_ms_512": 3.0, "certified": True}
    page = render_report(minimal_result() | {"points": [point]}, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "a<b" not in page
    assert "a&lt;b &amp; $x$" in page
    checked = Balance()
    checked.feed(page)
    assert checked.open == []


def test_missing_parts_are_said_when_record_is_minimal(tmp_path: Path) -> None:
    page = render_report(minimal_result(), tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Not measured.") == 9
    assert page.count("<svg") == 0
    assert "may rank worse" in page


def test_page_is_the_same_when_rendered_twice(full: dict[str, Any], page: str, tmp_path: Path) -> None:
    assert render_report(DemoResult.model_validate(full), tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_record_reads_back_equal_when_saved_as_json(full: dict[str, Any]) -> None:
    record = DemoResult.model_validate(full)
    assert DemoResult.model_validate_json(record.model_dump_json()) == record


def test_headlines_say_ratios_when_measured(full: dict[str, Any]) -> None:
    latency, throughput, size, verdict = headlines(DemoResult.model_validate(full))
    assert (latency.value, size.value, verdict.value) == ("5.84×", "12.1×", "pass")
    assert "27.0 → 4.62 ms" in latency.detail
    assert "0.171" in latency.detail
    assert "p99 within 50 ms" in throughput.detail
    assert {each.tone for each in (latency, throughput, size, verdict)} == {"good"}


def test_headlines_are_bad_when_nothing_was_gained() -> None:
    certificate = {"metric": "auc", "delta": -0.01, "ci_low": -0.02, "margin": 0.001, "verdict": "fail", "rows": 10}
    shown = headlines(parsed(ratios={"latency_512": 1.2, "throughput": 0.9}, certificate=certificate))
    assert [each.tone for each in shown] == ["bad", "bad", "none", "bad"]
    assert "≤ −0.001" in shown[3].detail


def test_every_metric_is_shown_when_the_certificate_has_several(full: dict[str, Any], page: str) -> None:
    rows = metric_table(DemoResult.model_validate(full))
    assert rows[0] == ("AUC", "0.79000", "0.78979", "−0.00021", "−0.00058", "0.001", "pass")
    assert rows[1][0] == "NDCG@10"
    assert rows[1][-2:] == ("", "not judged")
    for text in ("NDCG@10", "+0.00040", "not judged", "zip=94110"):
        assert text in page


def test_relaxed_slo_is_told_when_baseline_had_none(tmp_path: Path) -> None:
    ratios = {
        "throughput": 3.0,
        "throughput_slo_ms": 200,
        "note": "No rate of the baseline held 50 ms: both at 200 ms.",
    }
    page = render_report(minimal_result() | {"ratios": ratios}, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "both at 200 ms" in page
    assert "p99 within 200 ms" in page


def test_goodput_says_no_rate_held_when_sweep_found_none() -> None:
    record = parsed(sweeps={"baseline": swept(500.0)})
    cells = dict(comparison(record))["goodput with p99 within 50 ms, requests/s"]
    assert cells["baseline"].text == "no rate held"
    assert cells["best"].text == "not measured"


def test_fastest_is_marked_in_each_column_when_engines_differ() -> None:
    timing = {"variant": "v", "rows": 1}
    record = parsed(
        engines=[
            {**timing, "engine": "a", "p50_ms": 2.0, "p25_ms": 1.9, "p75_ms": 2.1},
            {**timing, "engine": "b", "p50_ms": 1.0},
            {**timing, "engine": "c", "error": "not installed"},
            {**timing, "engine": "a", "rows": 64, "p50_ms": 5.0},
        ]
    )
    counts, rows = engine_table(record.engines)
    assert counts == [1, 64]
    assert [[cell.best for cell in row.cells] for row in rows] == [[False, True], [True, False], [False, False]]
    assert rows[0].cells[0].detail == "1.90 – 2.10"
    assert rows[2].cells[0].detail == "not installed"


def test_forms_are_lines_of_their_own_when_a_variant_was_timed_in_parts(full: dict[str, Any], page: str) -> None:
    record = DemoResult.model_validate(full)
    _, rows = engine_table(record.engines)
    forms = [row.form for row in rows if (row.variant, row.engine) == ("student-int8", "openvino")]
    assert forms == ["in parts", "whole"]
    assert [row.form for row in rows if row.engine == "pytorch"] == ["whole"]
    engines = dict(comparison(record))["engine"]
    assert {role: cell.detail for role, cell in engines.items()} == {
        "baseline": "", "bare_engine": "", "best": "in parts",
    }  # fmt: skip
    assert "baseline-int8, whole on openvino: 7.26 ms" in page
    assert "baseline-int8, in parts on openvino: 5.08 ms" in page
    assert "student-int8 on openvino: 4.62 ms" in page


def test_gain_of_the_split_is_shown_when_the_served_variant_has_parts(full: dict[str, Any], page: str) -> None:
    counts, [whole, parts, ratio] = split_table(DemoResult.model_validate(full))
    assert counts == [1, 64, 512]
    assert [cell.text for cell in whole[1]] == ["0.297", "1.32", "6.60"]
    assert [cell.text for cell in parts[1]] == ["0.208", "0.924", "4.62"]
    assert [(cell.text, cell.best) for cell in ratio[1]] == [("0.700", True)] * 3
    assert "62% of the multiply-adds are left for a row; 4.8 MB are stored of all items." in page
    assert "runs whole" not in page


def test_page_says_that_the_variant_is_whole_when_it_has_no_parts(tmp_path: Path) -> None:
    page = render_report(minimal_result(), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The variant that is served runs whole" in page
    assert split_table(parsed()) == ([], [])


def test_caution_is_shown_when_generator_was_the_bottleneck(full: dict[str, Any], tmp_path: Path) -> None:
    result = full["http"]["best"]
    slow = {**result, "generator": {**result["generator"], "bound": True, "reason": "the generator was the bottleneck"}}
    page = render_report(minimal_result() | {"http": {"best": slow}}, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Rankine over HTTP: the generator was the bottleneck." in page


def test_record_is_refused_by_key_when_a_part_is_misspelt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'sweeps'"):
        render_report(minimal_result() | {"sweep": {}}, tmp_path / "report.html")


def test_report_is_refused_by_path_when_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        render_report(minimal_result(), tmp_path)


def test_numbers_have_three_digits_when_written() -> None:
    assert [milliseconds(value) for value in (0.4123, 7.481, 26.83, 1432.0)] == ["0.412", "7.48", "26.8", "1,432"]
    assert [human_bytes(size) for size in (0, 999, 75_300_000, 579_000_000, 2_300_000_000)] == [
        "0 B", "999 B", "75.3 MB", "579 MB", "2.3 GB",
    ]  # fmt: skip
    assert signed(-0.00021) == "−0.00021"
