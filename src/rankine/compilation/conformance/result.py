"""What a conformance run found: a record an engine, a record a case, and in it one a check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Field

from rankine.compilation.engine import Capabilities, Numeric, RunsOn, stand_in_told
from rankine.config import Frozen

__all__ = ["CaseOutcome", "CheckOutcome", "ConformanceResult", "EngineOutcome"]


class CheckOutcome(Frozen):
    """One check of one case.

    Attributes:
        reason: why it did not pass: what, where, got and allowed in a sentence.
        figures: what it measured: ``error``, the largest in the measure that the numeric form bounds;
            ``difference`` of logits; ``bytes_a_runner`` of memory.
    """

    check: str
    passed: bool
    reason: str | None = None
    figures: Mapping[str, float] = Field(default_factory=dict)


class CaseOutcome(Frozen):
    """One engine on one device, with one form of one model.

    Attributes:
        runs_on: what the numbers were computed on.
        left_out: why the engine's capability record leaves the model out; then there are no checks.
    """

    engine: str
    device: str
    runs_on: RunsOn
    model: str
    numeric: Numeric
    left_out: str | None = None
    checks: tuple[CheckOutcome, ...] = ()

    @property
    def failures(self) -> tuple[CheckOutcome, ...]:
        return tuple(check for check in self.checks if not check.passed)

    @property
    def error(self) -> float | None:
        """The largest error of all checks that compare with the reference."""
        return max((check.figures["error"] for check in self.checks if "error" in check.figures), default=None)


class EngineOutcome(Frozen):
    """An engine as it was found here: its capability record, or why it cannot be used and what to do about it."""

    engine: str
    capabilities: Capabilities | None = None
    missing: str | None = None
    hint: str | None = None


class ConformanceResult(Frozen):
    """All of one run.

    Attributes:
        small: whether the models were small ones.
        code: hash of Rankine's own files, which change between versions too; empty in results from before it was kept.
    """

    schema_version: Literal[1] = 1
    created: AwareDatetime
    environment: dict[str, str | int | float]
    code: str = ""
    instruction_set: str
    small: bool
    engines: tuple[EngineOutcome, ...]
    cases: tuple[CaseOutcome, ...]

    @property
    def passed(self) -> bool:
        """Whether something was checked, and all of it passed. An engine that is not installed is no failure."""
        return any(case.checks for case in self.cases) and not any(case.failures for case in self.cases)

    def table_rows(self) -> list[dict[str, str]]:
        """One row a case, those that were left out as well, and one an engine that is missing; ready to render."""
        return [
            *(_row(case) for case in self.cases),
            *(
                {"engine": one.engine, "device": "", "model": "", "form": "", "result": f"missing: {one.missing}"}
                | {"largest error": "", "allowed": ""}
                for one in self.engines
                if one.capabilities is None
            ),
        ]


def _row(case: CaseOutcome) -> dict[str, str]:
    failures = case.failures
    passed = f"{len(case.checks) - len(failures)} of {len(case.checks)} passed"
    return {
        "engine": case.engine,
        "device": stand_in_told(case.device, case.runs_on),
        "model": case.model,
        "form": case.numeric.upper(),
        "result": case.left_out or passed + "".join(f"; {one.check}: {one.reason}" for one in failures),
        "largest error": "" if case.error is None else f"{case.error:.1e}",
        "allowed": "" if case.left_out else "1e-05, relative" if case.numeric == "fp32" else "0.05 of a score",
    }
