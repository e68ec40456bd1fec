"""Pages on what is made of a model are what the result files say: compression, families, binding times."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from unit.rendered import renderer

KINDS = ("ours", "too_small")


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_families", monkeypatch)


@pytest.fixture
def compression(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_compression", monkeypatch)


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_ablation", monkeypatch)


@pytest.fixture
def binding_latency(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_binding_latency", monkeypatch)


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_binding", monkeypatch)


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


def test_page_of_compression_is_what_the_results_say_when_rendered(compression) -> None:
    folders = (compression.RESULTS, compression.LATENCY, compression.SEARCH, compression.FOREIGN)
    rendered = compression.render(*(compression.read_results(folder) for folder in folders))
    assert compression.PAGE.read_text(encoding="utf-8") == rendered


def test_readme_on_compression_is_what_the_results_say_when_rendered(compression) -> None:
    block = importlib.import_module("readme_block")
    readme = block.README.read_text(encoding="utf-8")
    assert readme == block.replace_block(readme, "compression", compression.summary(compression.read_results()))


def test_page_of_compression_says_no_when_a_network_from_scratch_is_smaller(compression) -> None:
    name, result = next(iter(compression.read_results().items()))
    ours = {**result["ours"], "size": result["baseline"]}
    tiny = {**result["baseline"], "macs_per_row": 7}
    scratch = [{**result["ours"], "name": "scratch", "size": tiny}]
    page = compression.render({name: {**result, "ours": ours, "scratch": scratch}}, {}, {}, {})
    [row] = [line for line in page.splitlines() if "| 7 |" in line]
    assert row.split(" | ")[4] == "**no**"


def test_page_of_compression_tells_the_task_that_decides_when_there_are_several(compression) -> None:
    name, result = next(iter(compression.read_results().items()))
    [passed] = result["ours"]["certificates"]
    failed = {**passed, "task": "other", "verdict": "fail"}
    block = compression.summary({name: {**result, "ours": {**result["ours"], "certificates": [passed, failed]}}})
    assert "(**fail**)" in block


def test_page_of_compression_says_none_when_no_network_from_scratch_certifies(compression) -> None:
    name, result = next(iter(compression.read_results().items()))
    tests = [{**test, "verdict": "pass"} for test in result["ours"]["certificates"][0]["metrics"]]
    tests[1] = {**tests[1], "verdict": "fail"}
    failed = {**result["ours"]["certificates"][0], "verdict": "fail", "metrics": tests}
    scratch = [{**result["ours"], "size": {**result["baseline"], "macs_per_row": 7}, "certificates": [failed]}]
    page = compression.render({name: {**result, "scratch": scratch}}, {}, {}, {})
    [row] = [line for line in page.splitlines() if "| none certifies |" in line]
    assert f"| 7: {tests[0]['delta']:+.5f} fail (normalized entropy) |" in row


@pytest.mark.parametrize(("low", "told"), [(0.001, True), (-0.001, False)])
def test_page_of_compression_tells_that_the_baseline_is_weak_when_one_from_scratch_is_better(
    low: float, told: bool, compression
) -> None:
    name, result = next(iter(compression.read_results().items()))
    [one] = result["ours"]["certificates"]
    better = {**one, "metrics": [{**one["metrics"][0], "delta": 0.002, "ci_low": low}]}
    scratch = [{**result["ours"], "size": {**result["baseline"], "macs_per_row": 7}, "certificates": [better]}]
    page = compression.render({name: {**result, "scratch": scratch}}, {}, {}, {})
    assert ("that of 7 multiply-adds by 0.0020" in page.replace("\n", " ")) == told


def test_page_of_compression_tells_uses_and_the_rung_when_a_variant_certified(compression) -> None:
    name, result = next(iter(compression.read_results().items()))
    [one] = result["ours"]["certificates"]
    certificate = {**one, "split_uses": 77, "multiplicity": {**one["multiplicity"], "p_adjusted": 0.0312}}
    rung = {**result["ladder"]["rungs"][0], "variant": "another", "size_bytes": 1}
    ladder = {**result["ladder"], "baseline": {**result["ladder"]["baseline"], "size_bytes": 4}}
    ours = {**result["ours"], "certificates": [certificate]}
    for rungs, served in (([rung], "`another`, 25.0% of the bytes"), ([], "none")):
        page = compression.render({name: {**result, "ours": ours, "ladder": {**ladder, "rungs": rungs}}}, {}, {}, {})
        assert f"| 0.0312 | 77 | {one['engine']} | {served} |" in page


def test_page_of_compression_tells_a_second_try_when_it_is_of_the_variant_in_the_file(compression) -> None:
    name, result = next(iter(compression.read_results().items()))
    [one] = result["ours"]["certificates"]
    for served, told in ((next(iter(compression.SECOND_TRIES)), True), ("another", False)):
        certificate = {**one, "provenance": {**one["provenance"], "served": served}}
        page = compression.render(
            {name: {**result, "ours": {**result["ours"], "certificates": [certificate]}}}, {}, {}, {}
        )
        assert (f"`{name}`: this is the second recipe" in page) == told


def test_page_of_compression_names_families_when_two_recipes_have_one_hash(compression) -> None:
    results = compression.read_results()
    name, result = next(iter(results.items()))
    [one] = result["ours"]["certificates"]
    [other] = result["too_small"]["certificates"]
    for theirs, told in (("a", True), ("b", False)):
        certificates = [{**one, "provenance": {"recipe": "a"}}], [{**other, "provenance": {"recipe": theirs}}]
        ours, small = ({**result[key], "certificates": each} for key, each in zip(KINDS, certificates, strict=True))
        page = compression.render({name: {**result, "ours": ours, "too_small": small}}, {}, {}, {})
        assert (f"files of `{name}` name the last recipe" in page) == told


def test_page_of_compression_keeps_searches_apart_when_there_are_several(compression) -> None:
    found = next(iter(compression.read_results(compression.SEARCH).values()))
    page = compression.render({}, {}, {"one": {**found, "same": True}, "two": {**found, "same": False}}, {})
    first, second = page.index("`one` on"), page.index("`two` on")
    assert page[second - 2 : second] == "\n\n"
    assert "gave the same ladder" in page[first:second].replace("\n", " ")
    assert "**gave another ladder**" in page[second:].replace("\n", " ")


@pytest.mark.parametrize(
    ("target", "margin", "told"),
    [
        ("macs=0.9", 0.1, "the target was met: macs 0.500."),
        ("macs=0.4", 0.1, "the target was **missed**: macs 0.500."),
        ("macs=0.9", 0.01, "**Nothing certified at the margin of 0.01** that was asked for."),
    ],
)
def test_page_of_compression_says_whether_a_search_met_its_target_when_it_had_one(
    target: str, margin: float, told: str, compression
) -> None:
    found = next(iter(compression.read_results(compression.SEARCH).values()))
    rung = {**found["ladder"]["rungs"][0], "margin": 0.05, "macs_per_row": 4}
    baseline = {**found["ladder"]["baseline"], "macs_per_row": 8}
    ladder = {**found["ladder"], "baseline": baseline, "rungs": [rung]}
    page = compression.render({}, {}, {"one": {**found, "target": target, "margin": margin, "ladder": ladder}}, {})
    assert told in page.replace("\n", " ")


def test_page_of_the_ablation_is_what_the_results_say_when_rendered(ablation) -> None:
    assert ablation.PAGE.read_text(encoding="utf-8") == ablation.render(ablation.read_results())


def test_page_of_the_ablation_begins_with_the_whole_recipe_when_rendered(ablation) -> None:
    family, runs = next(iter(ablation.read_results().items()))
    page = ablation.render({family: list(reversed(runs))})
    assert page.index("| whole |") < page.index("| only-distill |") < page.index("| without-distill |")


def test_page_of_binding_times_is_what_the_results_say_when_rendered(binding) -> None:
    rendered = binding.render(binding.read_result(binding.TABLE), binding.read_result(binding.PROOFS))
    assert binding.PAGE.read_text(encoding="utf-8") == rendered


def test_page_of_binding_times_tells_the_worst_when_a_model_has_several_proofs(binding) -> None:
    proof = {"error_before": 1.0, "sums": 1, "accumulator_difference": 1e-9, "codes": 10, "steps": 0, "stepped": 0}
    of = {"origin": "zoo", "model": "mine", "numeric": "fp32", "auc_difference": 0.0}
    worse = proof | {"error_after": 3.0, "steps": 2, "stepped": 4}
    proofs = [
        of | {"variant": "one", "proof": proof | {"error_after": 0.5}},
        of | {"variant": "two", "auc_difference": 0.1, "proof": worse},
    ]
    assert "| mine | 2 | 3.00 | 1e-09 | 4 | 20 | 2 | 1e-01 |" in binding.render(None, {"proofs": proofs})


def test_page_of_binding_latency_is_what_the_results_say_when_rendered(binding_latency) -> None:
    assert binding_latency.PAGE.read_text(encoding="utf-8") == binding_latency.render_committed()


def test_page_of_binding_latency_has_ratio_and_control_when_a_run_is_rendered(binding_latency) -> None:
    timing = {"engine": "mine", "numeric": "int8", "ids": "zipf", "items": 10, "stored_gigabytes": 2.0}
    timing |= {"median_ms": 2.0, "low_ms": 1.0, "high_ms": 3.0, "small_rows_share": 0.93}
    ratios = {"whole": 1.0, "float32": 0.5, "float16": 0.6, "int8": 0.7, "whole, again": 1.25}
    run = {"timings": [{**timing, "form": form, "ratio": ratio} for form, ratio in ratios.items()]}
    run |= {
        "macs_before": 100,
        "macs_candidate": 51,
        "created": "2026-11-21T10",
        "environment": {"cpu": "x", "cores": 2},
    }
    page = binding_latency.render(run, [], [], None)
    cells = ["mine", "INT8", "zipf", "2.00 (1.00-3.00)", "1.25"]
    for form in ("float32", "float16", "int8"):
        cells += ["2.00 (1.00-3.00)", f"**{ratios[form]:.2f}**"]
    assert f"| {' | '.join(cells)} | 93% |" in page
    assert "100 whole, 51 in parts (51%)" in page


def test_page_of_the_ablation_has_bounds_of_entropy_when_the_task_is_a_probability(ablation) -> None:
    family, runs = next(iter(ablation.read_results().items()))
    [(task, tests)] = runs[0]["tasks"].items()
    entropy = next(test for test in tests if test["name"] == "normalized_entropy")
    page = ablation.render({family: runs[:1]})
    assert f"| {entropy['delta']:+.5f} | {entropy['ci_low']:+.5f} … {entropy['ci_high']:+.5f} |" in page
    without = {**runs[0], "tasks": {task: [test for test in tests if test is not entropy]}}
    [row] = [line for line in ablation.render({family: [without]}).splitlines() if runs[0]["run"] in line]
    assert row.split(" | ")[5:7] == ["", ""]


def test_page_of_compression_says_noise_when_the_control_of_a_timing_moved(compression) -> None:
    timings = [
        {"variant": variant, "engine": engine, "rows": 512, "error": None, "p50_ms": ms, "p25_ms": ms, "p75_ms": ms}
        for variant, engine, ms in (
            ("baseline", "eager", 2.0),
            ("baseline", "openvino", 1.0),
            ("small-fp32", "openvino", 0.2),
            ("small-int8", "onnxruntime", 0.1),
            ("small-int8", "openvino", 0.5),
        )
    ]
    run = {"timings": timings, "control_spread": 0.2}
    noisy, quiet = (compression.render({}, {"mine": {**run, "noisy": moved}}, {}, {}) for moved in (True, False))
    assert "| 0.050 | 0.100 |" in noisy
    assert "20.0%, **noise**" in noisy
    assert "| **0.050** | 0.100 |" in quiet
    assert "noise**" not in quiet


def test_pages_say_so_when_there_are_no_results(compression, ablation, binding, tmp_path: Path) -> None:
    told = "No results are committed yet."
    none = compression.read_results(tmp_path / "none")
    assert told in compression.render(none, none, none, none)
    assert told in compression.summary(none)
    assert told in ablation.render(ablation.read_results(tmp_path / "none"))
    assert told in binding.render(binding.read_result(tmp_path / "none"), None)
