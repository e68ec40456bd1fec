"""Pages on engines, devices and Triton server are what the result files say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from unit.rendered import renderer


@pytest.fixture
def triton_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_triton_server", monkeypatch)


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_crossover", monkeypatch)
    sys.modules.pop("crossover_record", None)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_native", monkeypatch)


@pytest.fixture
def support(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_support", monkeypatch)


@pytest.fixture
def tvm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_tvm", monkeypatch)


@pytest.fixture
def qnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_qnn", monkeypatch)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_gpu", monkeypatch)


@pytest.fixture
def xla(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("render_xla", monkeypatch)


def test_page_of_support_is_what_the_results_say_when_rendered(support) -> None:
    assert support.PAGE.read_text(encoding="utf-8") == support.render_committed()


def test_page_of_support_keeps_three_columns_apart_when_an_engine_is_emulated(support) -> None:
    found = support.joined(support.read_conformance())
    record = {"name": "mine", "version": "1", "devices": ["htp"], "stand_ins": {"htp": "emulator"}}
    record |= {"compiles_for": ["HTP v75"], "numerics": ["int8"]}
    case = {"engine": "mine", "device": "htp", "runs_on": "emulator", "model": "dcn_v2", "numeric": "int8"}
    passed = {"check": "numbers-1", "passed": True, "figures": {"error": 0.004}}
    values = found.model_dump(mode="json")
    values["engines"] = [{"engine": "mine", "capabilities": record}]
    values["cases"] = [{**case, "checks": [passed]}]
    page = support.render(support.ConformanceResult.model_validate(values), None, None)
    assert (
        "| mine | 1 | htp | INT8 | HTP v75 | vendor's emulator | no: an emulator's time is none of the chip |" in page
    )
    assert "| model |  | mine, vendor's emulator |" in page
    assert "| dcn_v2 | INT8 | 1 of 1, 4e-03 |" in page
    failed = {"check": "bad-ids", "passed": False, "reason": "item out of range is not refused"}
    values["cases"] = [{**case, "checks": [passed, failed]}]
    values["engines"].append({"engine": "other", "missing": "No module named 'other'", "hint": "pip install other"})
    page = support.render(support.ConformanceResult.model_validate(values), None, None)
    assert "**fails** 1 of 1 (below)" in page
    assert "* mine on htp, dcn_v2 INT8, `bad-ids`: item out of range is not refused" in page
    assert "* `other` is not there: No module named 'other'. pip install other" in page


def test_page_of_tvm_is_what_the_results_say_when_rendered(tvm) -> None:
    for path, text in tvm.render_committed().items():
        assert path.read_text(encoding="utf-8") == text


def test_page_of_tvm_tells_a_bar_that_is_missed_when_a_peer_was_faster(tvm) -> None:
    result = tvm.read_result()
    slower = [one.model_copy(update={"ratio": 2.5}) for one in result.comparisons]
    text = tvm.render(result.model_copy(update={"comparisons": tuple(slower)}))
    assert text.count("2.50 (") == text.count("**no**") == 3
    noisy = [one.model_copy(update={"control": 1.5}) for one in result.timings]
    assert tvm.render(result.model_copy(update={"timings": tuple(noisy)})).count("(**noise**)") == 3


def test_page_of_qnn_is_what_the_results_say_when_rendered(qnn) -> None:
    assert qnn.PAGE.read_text(encoding="utf-8") == qnn.render(qnn.read_result())


def test_page_of_qnn_gives_the_reason_when_a_certificate_did_not_pass(qnn) -> None:
    result = qnn.read_result()
    first = result.models[0]
    failed = first.certificate.model_copy(update={"verdict": "fail", "reason": "AUC falls."})
    page = qnn.render(result.model_copy(update={"models": (first.model_copy(update={"certificate": failed}),)}))
    assert "| fail |" in page
    assert f"* `{first.model}`: AUC falls." in page


def test_page_of_gpus_is_what_the_results_say_when_rendered(gpu) -> None:
    for path, text in gpu.render_committed().items():
        assert path.read_text(encoding="utf-8") == text


def test_page_of_gpus_tells_what_was_not_timed_and_what_failed_when_it_is_so(gpu) -> None:
    result = gpu.read_result()
    first, second, *_ = result.rows
    timed = first.model_copy(update={"median_us": 3 * first.floor_us, "low_us": 1.0, "high_us": 2.0})
    missed = second.model_copy(update={"median_us": None, "why_not": "out of memory"})
    told = {"rows": (timed, missed), "gpu": "H100", "checks_failed": 2}
    text = gpu.render(result.model_copy(update=told))
    assert "On one H100: 1 of 2 rows are timed." in text
    assert "(1.00-2.00) | 3.0 |" in text
    assert text.count("not timed: out of memory") == 1
    assert "**2 failed**" in text


def test_page_of_xla_is_what_the_results_say_when_rendered(xla) -> None:
    for path, text in xla.render_committed().items():
        assert path.read_text(encoding="utf-8") == text


def test_page_of_xla_tells_a_bound_that_is_missed_and_what_limits_when_figures_are_others(xla) -> None:
    result = xla.read_result()
    assert "**no** |" not in xla.render(result)
    subject = result.subjects[0]
    worse = subject.model_copy(update={"error": 2 * subject.limit, "macs_per_row": 10**9})
    text = xla.render(result.model_copy(update={"subjects": (worse,)}))
    assert text.count("**no** |") == 1
    assert text.count("| peak |") == len(subject.compiled)


def test_page_of_the_native_engine_is_what_the_results_say_when_rendered(native) -> None:
    for path, text in native.render_committed().items():
        assert path.read_text(encoding="utf-8") == text


def test_page_of_the_simulated_accelerator_is_what_the_result_says_when_rendered(accelerator: ModuleType) -> None:
    [(page, text)] = accelerator.render_committed().items()
    assert page.read_text(encoding="utf-8") == text


def test_page_of_the_simulated_accelerator_says_what_was_missed_when_a_run_found_nothing(
    accelerator: ModuleType,
) -> None:
    result = accelerator.read_result()
    lost = result.learned[0].model_copy(update={"wrong": "all of it", "found": (1.05, None)})
    page = accelerator.render(result.model_copy(update={"learned": (lost,)}))
    assert "(1.05-inf) **missed**" in page
    assert "0 of 1 cells hold it in every run; not *all of it* at" in page


def test_page_of_triton_server_is_what_the_result_says_when_rendered(triton_server) -> None:
    assert triton_server.PAGE.read_text(encoding="utf-8") == triton_server.render(triton_server.read_result())
