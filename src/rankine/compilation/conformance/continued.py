"""Going on with an earlier run: what of its result stays, and what the checks of this run add to it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from rankine.compilation.conformance.checks import CHECKS
from rankine.compilation.conformance.process import BUILD
from rankine.compilation.conformance.result import CaseOutcome, CheckOutcome, ConformanceResult, EngineOutcome
from rankine.environment import environment, instruction_set
from rankine.errors import UsageError

__all__ = ["CaseKey", "case_key", "kept_cases", "merged", "missing_checks"]

CaseKey = tuple[str, str, str, str]
_MACHINE = ("cpu", "instruction_sets", "machine")
_OPTION = "--continue"


def kept_cases(
    known: ConformanceResult,
    code: str,
    engines: Sequence[EngineOutcome],
    chosen: Mapping[str, Container[str]],
    *,
    small: bool,
) -> dict[CaseKey, CaseOutcome]:
    """The cases of ``known`` that were found by the same code, versions and capability records as there are now.

    Args:
        code: hash of Rankine's own files now.
        engines: all, as they are found now.
        chosen: what this run makes: names by ``engine``, ``device``, ``model``, ``check``.

    Raises:
        UsageError: ``known`` is of models of another size, of another machine, or has cases that hold no more and that
            this run does not make again: its result would mix what does not belong together, or lose them.
    """
    here = environment()
    _refuse_other("models of another size", _size(known.small), _size(small))
    _refuse_other("another machine", known.instruction_set, instruction_set())
    for name in _MACHINE:
        _refuse_other(f"another machine ({name})", known.environment.get(name), here.get(name))
    changed = sorted(name for name in {*known.environment, *here} if known.environment.get(name) != here.get(name)) + [
        "Rankine's own files"
    ] * (known.code != code)
    if changed:
        stale, kept = list(known.cases), {}
    else:
        same = {one.engine for one in engines if one in known.engines}
        stale = [case for case in known.cases if case.engine not in same]
        kept = {case_key(case): case for case in known.cases if case.engine in same}
    lost = [case for case in stale if not _made_again(case, engines, chosen)]
    if lost:
        raise UsageError(
            f"the file has {len(lost)} cases that hold no more, and that this run does not make again",
            where=_OPTION,
            got=f"another state of {', '.join(changed or sorted({case.engine for case in lost}))}",
            hint="Run it without --engine, --model and --check, or give another --out.",
        )
    return kept


def missing_checks(earlier: CaseOutcome | None, checks: Sequence[str]) -> tuple[str, ...]:
    """Which of ``checks`` are to be run: all but those that passed earlier on what was built."""
    passed = {outcome.check for outcome in earlier.checks if outcome.passed} if earlier is not None else set()
    return tuple(check for check in checks if BUILD not in passed or check not in passed)


def merged(earlier: CaseOutcome | None, outcomes: Iterable[CheckOutcome]) -> tuple[CheckOutcome, ...]:
    """What was found earlier, and now; what was found now counts where there are both."""
    found = {outcome.check: outcome for outcome in (*(earlier.checks if earlier is not None else ()), *outcomes)}
    order = {name: place for place, name in enumerate((BUILD, *CHECKS))}
    return tuple(sorted(found.values(), key=lambda outcome: order.get(outcome.check, len(order))))


def case_key(case: CaseOutcome) -> CaseKey:
    """What tells a case from others."""
    return case.engine, case.device, case.model, case.numeric


def _made_again(case: CaseOutcome, engines: Iterable[EngineOutcome], chosen: Mapping[str, Container[str]]) -> bool:
    records = [one.capabilities for one in engines if one.engine == case.engine and one.engine in chosen["engine"]]
    return (
        any(record is not None and case.device in record.verifiable for record in records)
        and case.device in chosen["device"]
        and case.model in chosen["model"]
        and all(outcome.check == BUILD or outcome.check in chosen["check"] for outcome in case.checks)
    )


def _size(small: bool) -> str:
    return "small models (--small)" if small else "models of the default size"


def _refuse_other(what: str, got: object, here: object) -> None:
    if got != here:
        raise UsageError(
            f"the file is a result of {what}", where=_OPTION, got=got, allowed=str(here), hint="Give another --out."
        )
