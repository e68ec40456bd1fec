"""Render what runs where, how fast, and how far it was verified, into docs/reference/support-matrix.md.

$ python benchmarks/render_support.py
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pages import table
from script import no_arguments

from rankine.artifact import read_record
from rankine.certification.parity_here import ParityReport
from rankine.compilation.conformance import CHECKS
from rankine.compilation.conformance.result import CaseOutcome, ConformanceResult, EngineOutcome
from rankine.compilation.conformance.zoo import MODELS
from rankine.compilation.engine import Capabilities, RunsOn
from rankine.compilation.engines import engine_names
from rankine.config import Frozen
from rankine.observation.timings import EngineBench

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CONFORMANCE = tuple(RESULTS / name for name in ("conformance.json", "conformance-chips.json", "conformance-slow.json"))
TIMES, PARITY = RESULTS / "support-times.json", RESULTS / "support-parity.json"
PAGE = ROOT / "docs" / "reference" / "support-matrix.md"
INTRODUCTION = """\
# What runs where, and how far it was verified

This page is rendered by `python benchmarks/render_support.py` from
[conformance.json](../../benchmarks/results/conformance.json),
[conformance-chips.json](../../benchmarks/results/conformance-chips.json) and
[conformance-slow.json](../../benchmarks/results/conformance-slow.json) (of what an emulator or an interpreter computes,
over small models), which `rankine conformance --out FILE` makes and which hold every engine's capability record, and
where they are there from `support-times.json`, by
`rankine bench engines ARTIFACT --out FILE`, and `support-parity.json`, by
`rankine certify ARTIFACT --data DATA --parity --out FILE`. Do not edit it.
"""
LEGEND = """\
Three things that are not the same stand in three columns. *Compiles for*: what an engine can write code for, whether it
is here or not; *what it opens* is what it finds when a model is opened. *Numerically verified on*: what computed the
numbers that every check was held to: the chip itself, the vendor's emulator in its place, an interpreter, or the same
program on the CPU. *Timed on the chip*: milliseconds of a call that ran on the chip. What was emulated or
simulated has no time.
"""
SUBSTRATES = {
    "chip": "chip",
    "emulator": "vendor's emulator",
    "interpreter": "interpreter",
    "cpu": "same program on the CPU",
    "simulated": "simulated accelerator",
}
NO_TIME = {
    "emulator": "an emulator's time is none of the chip",
    "interpreter": "an interpreter's time is none of the chip",
    "cpu": "ran on the CPU",
    "simulated": "its time is simulated",
}
_TIMED_ROWS = 512

Column = tuple[str, RunsOn]
"""An engine, and what it ran on."""
Record = TypeVar("Record", bound=Frozen)


def render(
    found: ConformanceResult,
    times: EngineBench | None,
    parity: ParityReport | None,
    small: Container[Column] = (),
) -> str:
    """The page.

    Args:
        small: engines, with what they ran on, that were held to small models where the others' have their default size.
    """
    size = "small models" if found.small else "their default sizes"
    where = f"{_machine(found.environment)}, by which engines choose `{found.instruction_set}`"
    lines = [
        INTRODUCTION,
        LEGEND,
        f"Verified on {where}, {found.created:%Y-%m-%d}, over {_count(found)} at {size}.",
        "",
    ]
    head = ("engine", "version", "device", "forms", "compiles for", "numerically verified on", "timed on the chip")
    lines += table(head, _engine_rows(found, times), names=None)
    lines += _missing(found.engines)
    lines += _times(times)
    lines += ["## Model by model", "", _BOUNDS.format(checks=len(CHECKS)), ""]
    columns = _columns(found)
    heads = [_head(column, small=column in small) for column in columns]
    lines += table(("model", "", *heads), _model_rows(found.cases, columns), names=None)
    lines += _failures(found.cases)
    lines += ["## What an engine is asked", "", *_checks(), ""]
    lines += _parity(parity)
    return "\n".join(lines).rstrip() + "\n"


_BOUNDS = """\
How many passed, of the build and {checks} checks on each device (of those about numbers where the CPU stands in for a
device that is not here), and the largest error against the float64 reference over all of them: of FP32 logits
`|a - b| / max(1, |b|)`, at most 1e-05; of INT8 scores `|sigmoid(a) - sigmoid(b)|`, at most 0.05 (0.1 for an
INT8 form of an engine's own, which has a quality certificate of its own), and 0.005 in the mean.
Empty: the capability record leaves it out. *Not run*: it would not, and was not checked yet."""


def _engine_rows(found: ConformanceResult, times: EngineBench | None) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in found.engines:
        record = one.capabilities
        if record is None:
            rows.append((one.engine, "not installed", "", "", "", "", ""))
            continue
        for device in record.verifiable:
            cases = [case for case in found.cases if (case.engine, case.device) == (one.engine, device)]
            rows.append(
                (
                    one.engine,
                    record.version,
                    device,
                    ", ".join(numeric.upper() for numeric in record.numerics),
                    record.builds_told or "what it opens",
                    _verified(record, device, cases),
                    _timed(one.engine, record, device, times),
                )
            )
    return rows


def _verified(record: Capabilities, device: str, cases: Sequence[CaseOutcome]) -> str:
    checked = [case for case in cases if case.checks]
    if not checked:
        return "no"
    failed = [case for case in checked if case.failures]
    told = SUBSTRATES[record.runs_on(device)]
    return f"**fails** {len(failed)} of {len(checked)} (below)" if failed else told


def _timed(engine: str, record: Capabilities, device: str, times: EngineBench | None) -> str:
    if record.oracle:
        return "never: exact, not served from"
    if record.runs_on(device) != "chip":
        return f"no: {NO_TIME[record.runs_on(device)]}"
    found = [
        timing
        for timing in (times.served if times and device == "cpu" else ())
        if (timing.engine, timing.rows, timing.threads) == (engine, _TIMED_ROWS, times.threads if times else 1)
    ]
    told = [f"{t.variant} {t.p50_ms:.2f} ms" if t.p50_ms is not None else f"{t.variant}: {t.error}" for t in found]
    return ", ".join(told) or "not yet"


def _times(times: EngineBench | None) -> list[str]:
    """Of what the times are, and whether they can be trusted."""
    if times is None:
        return []
    noisy = (
        f" The control's quartiles lay {times.control_spread:.0%} apart: take the times as rough."
        if times.noisy
        else ""
    )
    return [
        f"Times: the median call of {_TIMED_ROWS} rows with {times.threads} thread, lookup included, of the variants "
        f"of `{times.artifact}` as they are served, on {_machine(times.environment)}, all engines interleaved.{noisy}",
        "",
    ]


def _missing(engines: Iterable[EngineOutcome]) -> list[str]:
    told = [
        f"* `{one.engine}` is not there: {one.missing}. {one.hint or ''}".rstrip() for one in engines if one.missing
    ]
    return [*told, ""] if told else []


def _columns(found: ConformanceResult) -> list[Column]:
    """An engine has a column for the chips that it ran on, and one for each kind of what stood in for a chip."""
    records = [one.capabilities for one in found.engines if one.capabilities is not None]
    run = {(case.engine, case.runs_on) for case in found.cases}
    columns = dict.fromkeys((one.name, one.runs_on(device)) for one in records for device in one.verifiable)
    return [column for column in columns if column in run]


def _head(column: Column, *, small: bool) -> str:
    engine, runs_on = column
    told = "" if runs_on == "chip" else SUBSTRATES[runs_on]
    named = [told] if told.startswith(engine) else [engine, told]
    return ", ".join(part for part in (*named, "small models" if small else "") if part)


def _model_rows(cases: Sequence[CaseOutcome], columns: Sequence[Column]) -> list[tuple[str, ...]]:
    of: dict[tuple[str, str], dict[Column, list[CaseOutcome]]] = {(case.model, case.numeric): {} for case in cases}
    for case in cases:
        of[case.model, case.numeric].setdefault((case.engine, case.runs_on), []).append(case)
    return [
        (model, numeric.upper(), *(_cell(found.get(column)) for column in columns))
        for (model, numeric), found in of.items()
    ]


def _cell(cases: Sequence[CaseOutcome] | None) -> str:
    """Of all devices of a column."""
    if cases is None:
        return "*not run*"
    outcomes = [outcome for case in cases for outcome in case.checks]
    if not outcomes:
        return ""
    passed = sum(outcome.passed for outcome in outcomes)
    error = max((case.error for case in cases if case.error is not None), default=None)
    told = f"{passed} of {len(outcomes)}" + ("" if error is None else f", {error:.0e}")
    return told if passed == len(outcomes) else f"**{told}**"


def _failures(cases: Iterable[CaseOutcome]) -> list[str]:
    told = [
        f"* {case.engine} on {case.device}, {case.model} {case.numeric.upper()}, `{outcome.check}`: {outcome.reason}"
        for case in cases
        for outcome in case.failures
    ]
    return ["Failed:", "", *told, ""] if told else []


def _checks() -> list[str]:
    first: dict[str, list[str]] = {}
    for name, check in CHECKS.items():
        function = getattr(check, "func", check)  # of those that are made for a number of rows
        first.setdefault(str(function.__doc__).split("\n\n")[0], []).append(f"`{name}`")
    return [f"* {', '.join(names)}: {' '.join(text.split())}" for text, names in first.items()]


def _parity(report: ParityReport | None) -> list[str]:
    lines = ["## Parity", ""]
    if report is None:
        return [*lines, "No parity certificates are committed."]
    lines += [
        "Every engine that a certified artifact was built for, held to the scores that were certified, on",
        f"{_machine(report.environment)} (`{report.instruction_set}`):",
        "",
    ]
    rows = report.table_rows()
    return [*lines, *table(tuple(rows[0]), [tuple(row.values()) for row in rows], names=None)]


def _count(found: ConformanceResult) -> str:
    models = {case.model for case in found.cases}
    return f"{len(models)} reference model{'s' if len(models) > 1 else ''}"


def _machine(environment: Mapping[str, Any]) -> str:
    return f"{environment['cpu']} ({environment['cores']} cores)"


def read(path: Path, kind: type[Record]) -> Record | None:
    """A result file; None where it is not there."""
    return read_record(path, kind) if path.exists() else None


def joined(found: Iterable[ConformanceResult]) -> ConformanceResult:
    """Several runs on one kind of machine as one, of the first one's size: of what several have, the latest."""
    first, *others = found
    results = sorted((first, *others), key=lambda one: one.created)
    if len(sets := {one.instruction_set for one in results}) > 1:
        raise ValueError(f"runs of several kinds of machines: {', '.join(sorted(sets))}")
    cases = {(c.engine, c.device, c.model, c.numeric): c for one in results for c in one.cases}
    engines: dict[str, EngineOutcome] = {}
    for outcome in (outcome for one in results for outcome in one.engines):
        if outcome.capabilities is not None or outcome.engine not in engines:
            engines[outcome.engine] = outcome
    names, models = list(engine_names()), list(MODELS)
    return results[-1].model_copy(
        update={
            "small": first.small,
            "engines": tuple(sorted(engines.values(), key=lambda one: names.index(one.engine))),
            "cases": tuple(sorted(cases.values(), key=lambda c: (names.index(c.engine), models.index(c.model)))),
        }
    )


def read_conformance() -> list[ConformanceResult]:
    """All that is committed."""
    return [read_record(path, ConformanceResult) for path in CONFORMANCE if path.exists()]


def render_committed() -> str:
    """The page from the files that are there."""
    found = read_conformance()
    small = {(case.engine, case.runs_on) for one in found if one.small for case in one.cases}
    return render(joined(found), read(TIMES, EngineBench), read(PARITY, ParityReport), small)


def main() -> None:
    PAGE.write_text(render_committed(), encoding="utf-8")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
