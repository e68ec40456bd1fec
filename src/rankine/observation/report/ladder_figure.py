"""The ladder as a figure and as a table: quality against latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup

from rankine.observation.report.canvas import BAD, GRID, MUTED, ROLE_COLORS, SURFACE, canvas, finish, plain_log
from rankine.observation.report.labels import human_bytes, milliseconds, signed
from rankine.planning.ladder import Ladder, LadderStep, shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LADDER_HEADER", "draw_ladder", "ladder_rows"]

LADDER_HEADER = (
    "margin",
    "variant",
    "engine",
    "change of AUC",
    "95 % bounds",
    "1 row, ms",
    "64",
    "512",
    "MACs",
    "size",
)


def draw_ladder(ladder: Ladder) -> Markup:
    """Change of AUC with its bounds against latency at the most rows that were timed, one thread, logarithmic."""
    rows = most_rows(ladder)
    with canvas(height=4.4) as (figure, (axes,)):
        axes.axhline(0, color=MUTED, lw=1.2, ls=(0, (3, 2)))
        start = ladder.baseline.p50_ms[rows]
        axes.plot([start], [0], "s", color=ROLE_COLORS["baseline"], ms=9, mec=SURFACE, zorder=3)
        axes.annotate(
            f"baseline on {ladder.baseline.engine}", (start, 0), (0, 10), textcoords="offset points", ha="center"
        )
        steps = sorted(ladder.rungs, key=lambda rung: rung.p50_ms[rows])
        axes.plot([s.p50_ms[rows] for s in steps], [s.delta for s in steps], color=GRID, lw=1.6, zorder=1)
        for rung in ladder.rungs:
            _draw(axes, rung, rows, ROLE_COLORS["best"], hollow=False)
            words = f"{rung.variant}, margin {rung.margin:g}"
            axes.annotate(words, (rung.p50_ms[rows], rung.ci_high), (0, 6), textcoords="offset points", ha="center")
        for other in ladder.others:
            _draw(axes, other, rows, MUTED if other.verdict == "pass" else BAD, hollow=True)
        axes.set_xlabel(f"p50 of one call at {rows} rows, one thread, ms (log scale; left is faster)")
        axes.set_ylabel("change of AUC on held-out data")
        axes.margins(x=0.16, y=0.2)
        axes.ticklabel_format(axis="y", useOffset=False)
        plain_log(axes, "x")
        told = "; ".join(
            f"{rung.variant} on {rung.engine}: {milliseconds(rung.p50_ms[rows])} ms, change {signed(rung.delta)}, "
            f"certified at {rung.margin:g}"
            for rung in ladder.rungs
        )
        return finish(figure, "ladder", "The ladder: quality against latency", told or "nothing passed")


def ladder_rows(ladder: Ladder) -> list[tuple[str, ...]]:
    """A line a rung, after one of the baseline; shares are of the baseline's."""
    base = ladder.baseline
    first = ("", base.variant, base.engine, "", "", *_times(base.p50_ms), f"{base.macs_per_row:,}")
    return [(*first, human_bytes(base.size_bytes)), *(_row(ladder, rung) for rung in ladder.rungs)]


def most_rows(ladder: Ladder) -> str:
    """The most rows of a call that was timed."""
    return max(ladder.baseline.p50_ms, key=int)


def _row(ladder: Ladder, rung: LadderStep) -> tuple[str, ...]:
    of = shares(ladder, rung)
    return (
        f"{rung.margin:g}",
        rung.variant,
        rung.engine,
        signed(rung.delta),
        f"{signed(rung.ci_low)} … {signed(rung.ci_high)}",
        *_times(rung.p50_ms)[:-1],
        f"{milliseconds(rung.p50_ms[most_rows(ladder)])} ({of['latency']:.1%})",
        f"{rung.macs_per_row:,} ({of['macs']:.1%})",
        f"{human_bytes(rung.size_bytes)} ({of['bytes']:.1%})",
    )


def _times(p50_ms: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(milliseconds(p50_ms[rows]) for rows in sorted(p50_ms, key=int))


def _draw(axes: Axes, tested: LadderStep, rows: str, color: str, *, hollow: bool) -> None:
    place = tested.p50_ms[rows]
    axes.plot([place, place], [tested.ci_low, tested.ci_high], color=color, lw=2.2, zorder=2)
    axes.plot([place], [tested.delta], "o", mfc=SURFACE if hollow else color, mec=color, ms=8, mew=1.6, zorder=3)
