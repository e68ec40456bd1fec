"""The ladder: which variants are tested at which margins, and which become rungs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from markupsafe import Markup

from rankine.certification.metric_tests import Verdict
from rankine.compression.search import SearchSettings
from rankine.config import parse
from rankine.observation.report import ladder_figure, render_ladder, render_report
from rankine.observation.report.canvas import finish
from rankine.observation.result import DemoResult
from rankine.planning.ladder import Cost, Ladder, LadderStep, cheapest_first, plan_tests, rungs_of, shares
from rankine.planning.search import _with_largest_loss_at_least
from sample_result import minimal_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = ["tiny", "small", "large"]


def cost(variant: str, ms: float) -> Cost:
    times = {"1": ms / 10, "64": ms / 4, "512": ms}
    return Cost(variant=variant, engine="onnxruntime", p50_ms=times, macs_per_row=int(1000 * ms), size_bytes=4000)


def step_at(variant: str, margin: float, verdict: Verdict = "pass", ms: float = 1.0) -> LadderStep:
    return LadderStep(
        **dict(cost(variant, ms)),
        margin=margin,
        verdict=verdict,
        reason="as the certificate says",
        delta=-margin / 2,
        ci_low=-0.9 * margin,
        ci_high=0.0,
        certificates=(f"variants/{variant}/certificates/quality-onnxruntime.label.json",),
    )


def p_values(**by_variant: tuple[float, float, float]) -> dict[tuple[str, float], float]:
    margins = (0.0005, 0.001, 0.005)
    return {(name, margin): p for name, found in by_variant.items() for margin, p in zip(margins, found, strict=True)}


def test_each_margin_gets_the_cheapest_likely_variant_when_tests_are_planned() -> None:
    found = p_values(tiny=(0.9, 0.4, 0.001), small=(0.5, 0.002, 0.0), large=(0.003, 0.0, 0.0))
    tests = plan_tests(found, COSTS, margin=0.001)
    assert [(test.variant, test.margin) for test in tests] == [
        ("large", 0.005),
        ("small", 0.005),
        ("large", 0.001),
        ("tiny", 0.005),
        ("small", 0.001),
        ("large", 0.0005),
    ]


def test_possible_variants_come_last_when_tests_are_planned() -> None:
    found = p_values(tiny=(0.9, 0.04, 0.02), small=(0.5, 0.3, 0.2), large=(0.003, 0.0, 0.0))
    tests = plan_tests(found, COSTS, margin=0.001)
    assert [(test.variant, test.margin) for test in tests] == [
        ("large", 0.005),
        ("large", 0.001),
        ("large", 0.0005),
        ("tiny", 0.005),
        ("tiny", 0.001),
    ]


def test_likeliest_is_tested_at_the_margin_asked_for_when_none_is_possible() -> None:
    found = p_values(tiny=(0.9, 0.8, 0.001), small=(0.5, 0.4, 0.2), large=(0.6, 0.5, 0.4))
    tests = plan_tests(found, COSTS, margin=0.001)
    assert [(test.variant, test.margin) for test in tests] == [("tiny", 0.005), ("small", 0.005), ("small", 0.001)]


def test_larger_margin_has_no_test_of_its_own_when_nothing_cheaper_would_pass() -> None:
    found = p_values(tiny=(0.002, 0.0, 0.0), small=(0.0, 0.0, 0.0), large=(0.0, 0.0, 0.0))
    tests = plan_tests(found, COSTS, margin=0.001)
    assert {test.variant for test in tests} == {"tiny"}
    assert [test.margin for test in tests] == [0.005, 0.001, 0.0005]


def test_variant_is_tested_where_it_is_possible_when_it_is_likely_at_a_larger_margin() -> None:
    found = p_values(tiny=(0.4, 0.03, 0.001), small=(0.9, 0.3, 0.3), large=(0.9, 0.9, 0.9))
    tests = plan_tests(found, COSTS, margin=0.001)
    assert [(test.variant, test.margin) for test in tests] == [("tiny", 0.005), ("tiny", 0.001)]


def test_likeliest_is_the_one_that_is_planned_already_when_none_is_possible_at_the_margin_asked_for() -> None:
    found = p_values(tiny=(0.9, 0.1, 0.001), small=(0.9, 0.3, 0.3), large=(0.9, 0.9, 0.9))
    tests = plan_tests(found, COSTS, margin=0.001)
    assert [(test.variant, test.margin) for test in tests] == [("tiny", 0.005), ("tiny", 0.001)]


def test_larger_margin_of_a_variant_comes_first_when_p_values_disagree() -> None:
    found = p_values(tiny=(0.001, 0.003, 0.0), small=(0.9, 0.002, 0.002), large=(0.9, 0.9, 0.9))
    tests = [(test.variant, test.margin) for test in plan_tests(found, COSTS, margin=0.001)]
    assert tests.index(("tiny", 0.001)) < tests.index(("tiny", 0.0005))


def test_rungs_get_cheaper_with_the_margin_when_variants_passed() -> None:
    tight, loose = step_at("large", 0.0005), step_at("tiny", 0.005)
    failed, pointless = step_at("small", 0.001, "inconclusive"), step_at("huge", 0.002)
    rungs, others = rungs_of([loose, pointless, failed, tight], [*COSTS, "huge"])
    assert rungs == (tight, loose)
    assert set(map(id, others)) == set(map(id, (failed, pointless)))


def test_one_rung_a_margin_when_several_passed_at_it() -> None:
    cheap, dear = step_at("tiny", 0.001), step_at("small", 0.001)
    assert rungs_of([dear, cheap], COSTS) == ((cheap,), (dear,))


def test_smaller_variant_is_the_cheaper_one_when_timing_cannot_tell_them_apart() -> None:
    fp32, int8, slow = cost("fp32", 1.0), cost("int8", 1.01), cost("slow", 1.2)
    int8 = int8.model_copy(update={"size_bytes": fp32.size_bytes // 3})
    slow = slow.model_copy(update={"size_bytes": 1})
    assert cheapest_first([slow, fp32, int8]) == ["int8", "fp32", "slow"]
    assert cheapest_first([]) == []


@pytest.mark.parametrize(("margin", "expected"), [(0.0004, None), (0.0005, "large"), (0.001, "large"), (0.5, "tiny")])
def test_ladder_gives_the_cheapest_rung_within_a_margin_when_asked(margin: float, expected: str | None) -> None:
    rung = ladder().at(margin)
    assert (None if rung is None else rung.variant) == expected


def test_shares_are_of_the_baseline_at_most_rows_when_measured() -> None:
    found = ladder()
    assert shares(found, found.rungs[1]) == {"latency": 0.1, "macs": 0.1, "bytes": 1.0}


def test_page_shows_every_rung_and_its_bounds_when_rendered(tmp_path: Path) -> None:
    page = render_ladder(ladder(), "movies", tmp_path / "ladder.html").read_text(encoding="utf-8")
    for told in ("Ladder of movies", "large", "tiny", "0.0005", "−0.00045", "baseline", "<svg", "(10.0%)"):
        assert told in page


def test_figure_has_a_bar_from_bound_to_bound_when_a_variant_was_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[tuple[float, float, float]] = []

    def look(figure: Figure, name: str, title: str, description: str) -> Markup:
        for line in figure.axes[0].lines:
            places, ends = np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()
            if len(places) == 2 and places[0] == places[1]:
                bars.append((places[0], *ends))
        return finish(figure, name, title, description)

    monkeypatch.setattr(ladder_figure, "finish", look)
    found = ladder()
    ladder_figure.draw_ladder(found)
    tested = (*found.rungs, *found.others)
    assert sorted(bars) == sorted((step.p50_ms["512"], step.ci_low, step.ci_high) for step in tested)


def test_report_has_a_part_on_the_ladder_when_the_record_has_one(tmp_path: Path) -> None:
    without = parse(DemoResult, minimal_result())
    pages = [
        render_report(record, tmp_path / name).read_text(encoding="utf-8")
        for name, record in (("without", without), ("with", without.model_copy(update={"ladder": ladder()})))
    ]
    assert ['<section id="ladder">' in page for page in pages] == [False, True]
    assert "certified at increasing margins" in pages[1]


def test_losses_within_the_margin_are_handed_on_when_it_is_large() -> None:
    assert _with_largest_loss_at_least(SearchSettings(), 0.02).largest_loss == 0.02
    assert _with_largest_loss_at_least(SearchSettings(), 0.001) == SearchSettings()


def test_ladder_reads_back_equal_when_dumped() -> None:
    assert Ladder.model_validate_json(ladder().model_dump_json()) == ladder()


def ladder() -> Ladder:
    return Ladder(
        baseline=cost("baseline", 10.0),
        rungs=(step_at("large", 0.0005, ms=4.0), step_at("tiny", 0.005, ms=1.0)),
        others=(step_at("small", 0.001, "fail", ms=2.0),),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
