"""What a conformance run says of its cases, and what of an earlier run it takes over."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rankine.cli import main
from rankine.compilation.conformance.continued import kept_cases, merged, missing_checks
from rankine.compilation.conformance.result import CaseOutcome, CheckOutcome, ConformanceResult, EngineOutcome
from rankine.compilation.conformance.run import code_digest, run_conformance
from rankine.compilation.engine import Capabilities
from rankine.environment import environment, instruction_set
from rankine.errors import EngineMissing, UsageError

RECORD = Capabilities(name="mine", version="1", devices=("cpu", "htp"), stand_ins={"htp": "emulator"})
ENGINE = EngineOutcome(engine="mine", capabilities=RECORD)
PASSED = (CheckOutcome(check="build", passed=True), CheckOutcome(check="no-rows", passed=True, figures={"error": 1e-7}))
FAILED = CheckOutcome(check="bad-ids", passed=False, reason="item out of range is not refused")


def case(**values: Any) -> CaseOutcome:
    known = {"engine": "mine", "device": "cpu", "runs_on": "chip", "model": "din", "numeric": "fp32", "checks": PASSED}
    return CaseOutcome(**{**known, **values})


def result(*cases: CaseOutcome, engine: EngineOutcome = ENGINE, **values: Any) -> ConformanceResult:
    known = {"created": datetime.now(UTC), "environment": environment(), "small": False}
    known |= {"code": code_digest(), "instruction_set": instruction_set()}
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
    assert (rows[0]["device"], rows[0]["largest error"], rows[1]["allowed"]) == (
        "htp (the vendor's emulator)",
        "1.0e-07",
        "",
    )


def kept(known: ConformanceResult, record: EngineOutcome = ENGINE, *, small: bool = False, **chosen: Any) -> Any:
    made = {"engine": ["mine"], "device": ["cpu", "htp"], "model": ["din"], "check": ["no-rows", "bad-ids"], **chosen}
    return list(kept_cases(known, code_digest(), [record], made, small=small).values())


def test_cases_stay_when_a_run_that_goes_on_does_not_make_them() -> None:
    cases = [case(), case(model="dlrm"), case(device="htp", checks=(*PASSED, FAILED))]
    assert kept(result(*cases)) == cases
    assert kept(result(*cases), engine=[], model=[], check=[]) == cases


def test_only_checks_that_did_not_pass_are_left_when_a_run_goes_on() -> None:
    wanted = ("no-rows", "bad-ids")
    earlier = case(checks=(*PASSED, FAILED))
    assert missing_checks(earlier, wanted) == ("bad-ids",)
    assert missing_checks(case(), ("no-rows",)) == ()
    assert missing_checks(None, wanted) == missing_checks(case(checks=PASSED[1:]), wanted) == wanted
    now = CheckOutcome(check="bad-ids", passed=True)
    assert merged(earlier, (PASSED[0], now)) == (*PASSED, now)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"small": True}, r"another size.*small models"),
        ({"instruction_set": "another"}, r"another machine.*another"),
        ({"environment": {**environment(), "cpu": "another"}}, r"another machine \(cpu\).*another"),
    ],
)
def test_file_is_refused_when_it_is_of_another_size_or_machine(known: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        kept(result(case(), **known))


def test_file_is_refused_when_results_that_hold_no_more_would_be_lost() -> None:
    newer = EngineOutcome(engine="mine", capabilities=RECORD.model_copy(update={"version": "2"}))
    other_python = {**environment(), "python": "2.7"}
    for known, engine, why in (
        (result(case(), code="of another day"), ENGINE, "own files"),
        (result(case(), environment=other_python), ENGINE, "python"),
        (result(case()), newer, "mine"),
    ):
        assert kept(known, engine) == [], "all is made again"
        for less in ({"model": ["dlrm"]}, {"check": ["bad-ids"]}, {"engine": []}):
            with pytest.raises(UsageError, match=f"hold no more.*{why}"):
                kept(known, engine, **less)


@pytest.mark.parametrize(
    ("text", "why"), [(None, "no result to go on with"), ("{", "is no result"), ("{}", "is no result")]
)
def test_going_on_is_refused_when_the_file_is_no_result(
    text: str | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "conformance.json"
    if text is not None:
        out.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["conformance", "--out", str(out), "--continue"])
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    assert why in said
    assert "--continue" in said


def test_what_is_kept_is_said_when_a_run_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*, keep: Any, **options: Any) -> None:
        keep(result(case()))
        raise KeyboardInterrupt

    monkeypatch.setattr("rankine.compilation.conformance.run.run_conformance", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["conformance", "--out", str(tmp_path / "it.json")])
    assert ended.value.code == 130
    assert "1 cases are kept in" in (said := capsys.readouterr().err)
    assert "--continue" in said


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ({"engines": ["natve"]}, "native"),
        ({"engines": ["native"], "devices": ["cpuu"]}, "cpu"),
        ({"models": ["dnc_v2"]}, "dcn_v2"),
        ({"checks": ["leak"]}, "leaks"),
    ],
)
def test_name_is_suggested_when_it_is_misspelt(names: Any, hint: str) -> None:
    with pytest.raises((UsageError, EngineMissing), match=f"Did you mean '{hint}'"):
        run_conformance(**names)
