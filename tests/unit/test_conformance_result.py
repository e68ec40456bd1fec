"""What a conformance run says of its cases, and what of an earlier run it takes over."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rankine.compilation.conformance.result import CaseOutcome, CheckOutcome, ConformanceResult, EngineOutcome
from rankine.compilation.conformance.run import _Known, code_digest, run_conformance
from rankine.compilation.engine import Capabilities
from rankine.environment import environment
from rankine.errors import UsageError

RECORD = Capabilities(name="mine", version="1", devices=("cpu", "htp"), stand_ins={"htp": "emulator"})
ENGINE = EngineOutcome(engine="mine", capabilities=RECORD)
PASSED = (CheckOutcome(check="build", passed=True), CheckOutcome(check="no-rows", passed=True, figures={"error": 1e-7}))
FAILED = CheckOutcome(check="bad-ids", passed=False, reason="item out of range is not refused")


def case(**values: Any) -> CaseOutcome:
    known = {"engine": "mine", "device": "cpu", "runs_on": "chip", "model": "din", "numeric": "fp32", "checks": PASSED}
    return CaseOutcome(**{**known, **values})


def result(*cases: CaseOutcome, engine: EngineOutcome = ENGINE, **values: Any) -> ConformanceResult:
    known = {"created": datetime.now(UTC), "environment": environment(), "instruction_set": "x", "small": False}
    known["code"] = code_digest()
    return ConformanceResult(**{**known, "engines": (engine,), "cases": cases, **values})


def test_result_passes_when_all_that_was_checked_did() -> None:
    left_out = case(numeric="int8", checks=(), left_out="does not run INT8")
    assert result(case(), left_out).passed
    assert not result(case(checks=(*PASSED, FAILED)), left_out).passed
    assert not result(left_out).passed, "nothing was checked"


def test_table_tells_reasons_and_what_stands_in_for_a_chip_when_rendered() -> None:
    missing = EngineOutcome(engine="other", missing="no such library", hint="pip install other")
    failed = case(device="htp", runs_on="emulator", checks=(*PASSED, FAILED))
    left_out = case(numeric="int8", checks=(), left_out="does not run INT8")
    rows = result(failed, left_out, engines=(ENGINE, missing)).table_rows()
    assert len({tuple(row) for row in rows}) == 1
    assert [row["result"] for row in rows] == [
        "2 of 3 passed; bad-ids: item out of range is not refused",
        "does not run INT8",
        "missing: no such library",
    ]
    assert (rows[0]["device"], rows[0]["largest error"], rows[1]["allowed"]) == ("htp (emulator)", "1.0e-07", "")


def test_case_of_an_earlier_run_is_taken_over_when_it_passed_the_same_checks_here() -> None:
    checks = ("no-rows",)
    assert _Known(result(case()), [ENGINE], checks, small=False).like(case(checks=())) == case()
    assert _Known(None, [ENGINE], checks, small=False).like(case()) is None
    newer = EngineOutcome(engine="mine", capabilities=RECORD.model_copy(update={"version": "2"}))
    for known, engine, wanted, small in (
        (result(case(checks=(*PASSED, FAILED))), ENGINE, ("no-rows", "bad-ids"), False),
        (result(case()), ENGINE, ("no-rows", "bad-ids"), False),
        (result(case()), newer, checks, False),
        (result(case()), ENGINE, checks, True),
        (result(case(), environment={"cpu": "another"}), ENGINE, checks, False),
        (result(case(), code="of another day"), ENGINE, checks, False),
        (result(case(device="htp")), ENGINE, checks, False),
    ):
        assert _Known(known, [engine], wanted, small=small).like(case()) is None


@pytest.mark.parametrize(
    ("names", "hint"),
    [({"engines": ["natve"]}, "native"), ({"models": ["dnc_v2"]}, "dcn_v2"), ({"checks": ["leak"]}, "leaks")],
)
def test_name_is_suggested_when_it_is_misspelt(names: Any, hint: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean '{hint}'"):
        run_conformance(**names)
