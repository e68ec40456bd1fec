"""Figures of runs under load: each gives an ``<svg>`` element, or None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from rankine.observation.load import LoadResult, SweepResult
from rankine.observation.report.canvas import BAD, ROLE_COLORS, SURFACE, canvas, finish, plain_log
from rankine.observation.report.labels import LABELS, milliseconds
from rankine.observation.result import Role

__all__ = ["draw_cdf", "draw_rates"]


def draw_cdf(http: Mapping[Role, LoadResult]) -> Markup | None:
    """The share of requests answered within a latency, one line a contestant."""
    drawn = [(role, result, result.latency) for role, result in http.items() if result.latency and result.cdf]
    if not drawn:
        return None
    told = []
    with canvas() as (figure, (axes,)):
        for role, result, latency in drawn:
            p50, p99 = milliseconds(latency.p50_ms), milliseconds(latency.p99_ms)
            told.append(f"{LABELS[role]}: p50 {p50} ms, p99 {p99} ms")
            latencies_ms, shares = zip((result.cdf[0][0], 0.0), *result.cdf, strict=True)
            color, width = ROLE_COLORS[role], 2.6 if role == "best" else 1.8
            percents = [100 * share for share in shares]
            axes.step(latencies_ms, percents, where="post", color=color, lw=width, label=told[-1])
        axes.set_xlabel("latency seen by the client, ms (log scale)")
        axes.set_ylabel("requests answered, %")
        axes.set_ylim(0, 101)
        plain_log(axes, "x")
        figure.legend(loc="outside upper left", ncols=1, fontsize=9)
        return finish(figure, "cdf", "Distribution of latency over HTTP", "; ".join(told))


def draw_rates(sweeps: Mapping[Role, SweepResult]) -> Markup | None:
    """p50 and p99 against the offered rate, with the SLO; hollow marks are trials that did not hold."""
    lines = {role: points for role, found in sweeps.items() if (points := _points(found))}
    if not lines:
        return None
    slo_ms = max(found.slo_ms for found in sweeps.values())
    rates = [rate for points in lines.values() for rate, *_ in points]
    wide = max(rates) > 12 * min(rates)
    with canvas(height=4.8) as (figure, (axes,)):
        for role, points in lines.items():
            color = ROLE_COLORS[role]
            rate, p50, p99, held = zip(*points, strict=True)
            axes.plot(rate, p99, color=color, lw=2, label=f"{LABELS[role]}, p99")
            axes.plot(rate, p50, color=color, lw=1.2, ls=(0, (4, 2.5)), label=f"{LABELS[role]}, p50")
            faces = [color if good else SURFACE for good in held]
            axes.scatter(rate, p99, s=34, facecolors=faces, edgecolors=color, linewidths=1.5, zorder=3)
        axes.axhline(slo_ms, color=BAD, lw=1.4, ls=(0, (1, 1.6)), label=f"SLO: p99 within {slo_ms:g} ms")
        axes.set_xlabel("offered rate, requests per second" + (" (log scale)" if wide else ""))
        axes.set_ylabel("latency from the due time, ms (log scale)")
        plain_log(axes, "y")
        if wide:
            plain_log(axes, "x")
        else:
            axes.set_xlim(left=0)
        figure.legend(loc="outside upper left", ncols=len(lines) + 1, fontsize=9)
        told = "; ".join(f"{LABELS[role]}: {found.reason}" for role, found in sweeps.items())
        return finish(figure, "rates", "Latency against offered rate", told)


def _points(found: SweepResult) -> list[tuple[float, float, float, bool]]:
    """``(offered rate, p50, p99, held)`` of the trials that have latencies, by rate."""
    points = []
    for trial in found.trials:
        latency = trial.result.latency
        if latency is not None:
            points.append((trial.result.offered_rps or trial.rate_rps, latency.p50_ms, latency.p99_ms, trial.held))
    return sorted(points)
