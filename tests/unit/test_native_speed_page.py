"""The page on the native engine's speed: bars, noise, what counts, and its picture."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from unit.rendered import renderer

PEER = {"engine": "openvino", "numeric": "int8-nncf"}
CHAIN = "MLP 448-1024-512-256"
TIMING = {
    "model": "DCN-v2 (big)",
    "side": PEER,
    "baseline": PEER,
    "rows": 512,
    "turns": 3,
    "median_ms": 6.0,
    "low_ms": 5.0,
    "high_ms": 7.0,
    "ratio": 1.0,
    "ratio_low": 1.0,
    "ratio_high": 1.0,
    "control": 1.0,
}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_native", monkeypatch)


def result(page: ModuleType, section: str, timings: list[dict[str, Any]], **more: Any) -> Any:
    """A result with one section; of each timing, what is not as in ``TIMING``."""
    where = {"created": "2026-11-21T10:00:00Z", "environment": {"cpu": "x"}}
    found = {"timings": [TIMING | one for one in timings], **where, **more}
    return page.NativeLatency.model_validate({"sections": {section: found}})


def native(**more: Any) -> dict[str, Any]:
    return {"engine": "native", "numeric": "int8", **more}


def line(text: str, part: str) -> str:
    """The one line with this in it."""
    [found] = [one for one in text.splitlines() if part in one]
    return found


@pytest.mark.parametrize(("ratio", "told"), [(0.5, "2.00 times (1.67-2.50) | yes |"), (0.8, "(1.67-2.50) | **no** |")])
def test_page_tells_whether_a_bar_is_reached_when_it_was_raced(ratio: float, told: str, page: ModuleType) -> None:
    ours = {"side": native(), "ratio": ratio, "ratio_low": 0.4, "ratio_high": 0.6}
    rendered = page.render(result(page, "whole", [{}, ours]))
    assert line(rendered, "no split, INT8").endswith(told)
    assert line(rendered, "with the split, zipf").endswith("| not measured |  |")


def test_page_tells_what_the_peak_would_reach_when_it_was_measured(page: ModuleType) -> None:
    ours = {"side": native(), "median_ms": 4.0, "ratio": 0.5}
    facts = {"DCN-v2 (big)": {"operations_per_row": 10**6, "peak_operations_per_s": 512e9 / 2}}
    rendered = page.render(result(page, "whole", [{"median_ms": 8.0}, ours], facts=facts))
    assert "; at the INT8 peak: 4.00 |" in line(rendered, "no split, INT8")


@pytest.mark.parametrize(("control", "noise"), [(1.09, False), (1.11, True), (0.89, True)])
def test_page_says_noise_when_a_control_moved(control: float, noise: bool, page: ModuleType) -> None:
    ours = {"side": native(), "ratio": 0.5, "control": control}
    rendered = page.render(result(page, "whole", [{"control": control}, ours]))
    assert line(rendered, "no split, INT8").endswith("| yes (**noise**) |" if noise else "| yes |")
    assert line(rendered, "| control |") == f"| control | {control:.2f}{', **noise**' if noise else ''} |  |"


@pytest.mark.parametrize(("rows", "reached"), [(1, "yes"), (16, "**no**")])
def test_page_takes_the_fastest_of_the_others_when_rows_are_few(rows: int, reached: str, page: ModuleType) -> None:
    other = {"side": {"engine": "onnxruntime", "numeric": "fp32"}, "rows": rows, "median_ms": 3.0}
    ours = {"side": native(numeric="fp32"), "rows": rows, "median_ms": 2.0 if rows == 1 else 4.0}
    rendered = page.render(result(page, "whole", [{"rows": rows}, other, ours]))
    assert line(rendered, f"DCN-v2 (big), {'1 row' if rows == 1 else '16 rows'},").endswith(
        f"times as fast as onnxruntime fp32 | {reached} |"
    )


@pytest.mark.parametrize(("margin", "told"), [(0.001, "0.0200 (50 times as fast), small native"), (0.002, "not mea")])
def test_page_counts_a_variant_when_its_margin_is_the_one_asked_for(margin: float, told: str, page: ModuleType) -> None:
    eager = {"engine": "eager", "numeric": "fp32", "variant": "baseline"}
    side = native(form="parts", storage="float32", variant="small")
    timing = {"model": "MovieLens-1M", "side": side, "baseline": eager, "ratio": 0.02}
    found = result(page, "certified", [timing], facts={"MovieLens-1M": {"margin_small": margin}})
    assert f"| {told}" in line(page.render(found), "| MovieLens-1M, 512 rows")


def test_page_tells_a_single_row_in_microseconds_when_the_variant_is_the_fastest_at_512(page: ModuleType) -> None:
    fast, slow = (native(form="parts", storage="float32", variant=name) for name in ("fast", "slow"))
    timings = [
        {"side": fast, "median_ms": 0.1},
        {"side": slow, "median_ms": 0.2},
        {"side": fast, "rows": 1, "median_ms": 0.026, "low_ms": 0.025, "high_ms": 0.03},
        {"side": slow, "rows": 1, "median_ms": 0.01},
    ]
    facts = {"MovieLens-1M": {"margin_fast": 0.001, "margin_slow": 0.001}}
    found = result(page, "certified", [{"model": "MovieLens-1M", **one} for one in timings], facts=facts)
    assert line(page.render(found), "from Python, MovieLens-1M, the same variant in parts, warm").endswith(
        "| 26.0 µs (25.0-30.0) | **no** |"
    )


def test_page_tells_a_call_without_python_when_it_was_timed(page: ModuleType) -> None:
    side = native(form="parts", storage="float32", variant="fast")
    fact = "native_code_us: fast native int8, parts in float32"
    facts = {"MovieLens-1M": {"margin_fast": 0.001, fact: 15.04}}
    found = result(page, "certified", [{"model": "MovieLens-1M", "side": side}], facts=facts)
    assert line(page.render(found), "one row from C++").endswith("| 15.0 µs | **no** |")


def test_page_names_the_slowest_family_when_fp32_counts(page: ModuleType) -> None:
    names = ("dlrm", "deepfm", "wide_deep", "din", "mmoe")
    timings = [{"model": name} for name in names]
    timings += [{"model": name, "side": native(), "median_ms": 9.0, "counts": False} for name in names]
    timings += [{"model": name, "side": native(numeric="fp32"), "median_ms": 3.0} for name in names]
    told = line(page.render(result(page, "families", timings)), "native runs all")
    assert told.endswith("| slowest: 0.50 of its time, dlrm, 512 rows | yes |")
    without = [one for one in timings if one["model"] != "din" or one.get("side") is None]
    told = line(page.render(result(page, "families", without)), "native runs all")
    assert told.endswith("; not run: din | **no** |")


def test_page_tells_the_share_of_the_peak_when_it_was_measured(page: ModuleType) -> None:
    facts = {CHAIN: {"operations": 10**9, "peak_operations_per_s": 1e12}}
    rendered = page.render(result(page, "peak", [{"model": CHAIN, "side": native(), "median_ms": 2.0}], facts=facts))
    assert line(rendered, "share of the vpdpbusd peak").endswith("| 50%: 500 of 1000 GOPS | **no** |")
    assert "Of a peak of 1000 GOPS, by the median: native 50%." in rendered


def test_page_names_the_instruction_when_the_peak_is_that_of_tiles(page: ModuleType) -> None:
    facts = {CHAIN: {"operations": 10**9, "peak_operations_per_s": 1e12, "peak_instruction": "tdpbusd"}}
    timings = [{"model": CHAIN, "side": native(), "median_ms": 2.0}]
    rendered = page.render(result(page, "peak", timings, facts=facts))
    assert line(rendered, "share of the tdpbusd peak").endswith("| 50%: 500 of 1000 GOPS | **no** |")


def test_page_names_what_failed_when_a_side_was_not_run(page: ModuleType) -> None:
    failures = [{"model": "din", "side": native(), "error": "no such operator"}]
    rendered = page.render(result(page, "families", [], failures=failures))
    assert "* din, native int8, was not run: no such operator" in rendered


def test_picture_has_the_longest_bar_first_when_drawn(page: ModuleType) -> None:
    drawn = page.picture(result(page, "whole", [{"side": native(), "median_ms": 3.0}, {}]))
    assert drawn.index("openvino int8-nncf") < drawn.index('width="420.0"') < drawn.index(">native int8<")
    assert drawn.index(">native int8<") < drawn.index('width="210.0"')


def test_page_says_so_when_there_are_no_results(page: ModuleType) -> None:
    assert "No results are committed yet." in page.render(page.NativeLatency())
    assert page.picture(page.NativeLatency()) is None
