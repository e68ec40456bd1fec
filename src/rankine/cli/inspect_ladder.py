"""The ladder, as `inspect` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rankine.cli.render import format_bytes, print_lines, print_table

if TYPE_CHECKING:
    from rankine.planning.ladder import Cost, Ladder, LadderStep

__all__ = ["print_ladder"]


def print_ladder(ladder: Ladder) -> None:
    """A line a rung, with shares of the baseline; then what else was tested: at other margins, and what is no rung."""
    rows = sorted(ladder.baseline.p50_ms, key=int)
    print_table(
        (
            "margin",
            "variant",
            "engine",
            "AUC change",
            "bounds",
            *(f"{r} row{'s' * (r != '1')}, ms" for r in rows),
            "MACs/row",
            "size",
        ),
        [_baseline(ladder.baseline, rows), *(_rung(ladder, rung, rows) for rung in ladder.rungs)],
        title="ladder",
    )
    lines = [(rung, _tests(rung)) for rung in ladder.rungs if len(rung.tests) > 1]
    lines += [(other, f"{_why(other)} {_tests(other)}".rstrip()) for other in ladder.others]
    if lines:
        print_lines([(f"{step.variant} on {step.engine}", text) for step, text in lines])
        click.echo()


def _baseline(baseline: Cost, rows: list[str]) -> tuple[str, ...]:
    times = [f"{baseline.p50_ms[count]:.3f}" for count in rows]
    size = format_bytes(baseline.size_bytes)
    return ("", baseline.variant, baseline.engine, "", "", *times, f"{baseline.macs_per_row:,}", size)


def _rung(ladder: Ladder, rung: LadderStep, rows: list[str]) -> tuple[str, ...]:
    from rankine.planning.ladder import shares

    of = shares(ladder, rung)
    return (
        f"{rung.margin:g}",
        rung.variant,
        rung.engine,
        f"{rung.delta:+.5f}",
        f"{rung.ci_low:+.5f} {rung.ci_high:+.5f}",
        *(f"{rung.p50_ms[count]:.3f} ({rung.p50_ms[count] / ladder.baseline.p50_ms[count]:.1%})" for count in rows),
        f"{rung.macs_per_row:,} ({of['macs']:.1%})",
        f"{format_bytes(rung.size_bytes)} ({of['bytes']:.1%})",
    )


def _why(tested: LadderStep) -> str:
    at = f"at {tested.margin:g}"
    if tested.verdict == "pass":
        return f"certified {at}, no cheaper than a rung of this margin or a smaller one."
    return f"not certified {at}: {tested.verdict}. {tested.reason}"


def _tests(tested: LadderStep) -> str:
    """Every test, in order, where there were several."""
    if len(tested.tests) < 2:
        return ""
    return f"Tested {', '.join(f'at {each.margin:g}: {each.verdict}' for each in tested.tests)}."
