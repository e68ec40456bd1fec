"""Figures of quality, size and training: each gives an ``<svg>`` element, or None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from rankine.observation.report.canvas import BAD, GRID, INK, MUTED, ROLE_COLORS, SURFACE, canvas, finish, plain_log
from rankine.observation.report.labels import FORM_LABELS, LABELS, human_bytes, milliseconds, signed
from rankine.observation.result import CertificateSummary, DemoResult, Measured, Point, Role, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_certificate", "draw_pareto", "draw_sizes", "draw_training"]

_MARKERS = "osD^vPX*hp"


def draw_pareto(result: DemoResult) -> Markup | None:
    """Every variant on every engine: latency at 512 rows against AUC, certified ones filled."""
    points = result.points
    if not points:
        return None
    markers = {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(dict.fromkeys(p.engine for p in points))}
    with canvas(height=4.8) as (figure, (axes,)):
        _limit_of_margin(axes, result)
        for form in dict.fromkeys((point.variant, point.form) for point in points):
            _draw_variant(axes, [p for p in points if (p.variant, p.form) == form], markers, result)
        for engine, marker in markers.items():
            axes.plot([], [], marker=marker, ls="", color=MUTED, label=engine)
        axes.plot([], [], marker="o", ls="", mfc=SURFACE, mec=MUTED, label="hollow: not certified")
        axes.set_xlabel("p50 of one call at 512 rows, one thread, ms (log scale; left is faster)")
        axes.set_ylabel("AUC on held-out data (up is better)")
        axes.margins(x=0.12, y=0.18)
        axes.ticklabel_format(axis="y", useOffset=False)
        plain_log(axes, "x")
        figure.legend(loc="outside upper left", ncols=min(4, len(markers) + 1), fontsize=9)
        told = "; ".join(
            f"{_named(p, result)} on {p.engine}: {milliseconds(p.p50_ms_512)} ms, AUC {p.auc:.4f}" for p in points
        )
        return finish(figure, "pareto", "Latency and quality of every variant on every engine", told)


def draw_certificate(certificate: CertificateSummary) -> Markup:
    """The change of the metric with its bounds, against the margin that it must not cross."""
    delta, low, high, margin = certificate.delta, certificate.ci_low, certificate.ci_high, certificate.margin
    ends = [-margin, 0.0, delta, low, delta if high is None else high]
    room = 0.3 * (max(ends) - min(ends))
    left, right = min(ends) - room, max(ends) + room
    color = ROLE_COLORS["best"] if certificate.verdict == "pass" else BAD
    with canvas(height=2.1) as (figure, (axes,)):
        axes.axvspan(left, -margin, color=BAD, alpha=0.13, lw=0)
        axes.axvline(-margin, color=BAD, lw=1.6)
        axes.axvline(0, color=MUTED, lw=1.2, ls=(0, (3, 2)))
        axes.plot([low, delta if high is None else high], [0, 0], color=color, lw=3.2)
        axes.plot(
            [low] if high is None else [low, high], [0] if high is None else [0, 0], "|", color=color, ms=15, mew=2.4
        )
        axes.plot([delta], [0], "o", color=color, ms=9, mec=SURFACE, mew=1.5, zorder=3)
        axes.annotate(signed(delta), (delta, 0), (0, 12), textcoords="offset points", ha="center", weight="bold")
        axes.annotate(
            f"lower bound {signed(low)}", (low, 0), (0, -22), textcoords="offset points", ha="center", fontsize=9
        )
        for place, words, shade in ((-margin, f"margin −{margin:g}", BAD), (0.0, "no change", MUTED)):
            axes.annotate(words, (place, 1), (5, -3), textcoords="offset points", color=shade, fontsize=9, va="top")
        axes.set(xlim=(left, right), ylim=(-1, 1), yticks=[], xlabel=f"change of {certificate.metric.upper()}")
        axes.spines["left"].set_visible(False)
        axes.ticklabel_format(axis="x", useOffset=False, style="plain")
        axes.locator_params(axis="x", nbins=6)
        told = f"Change {signed(delta)}, 95 % lower bound {signed(low)}, margin {margin:g}: {certificate.verdict}"
        return finish(figure, "certificate", "The certificate as a picture", told)


def draw_sizes(contestants: Mapping[Role, Measured]) -> Markup | None:
    """What each contestant takes on disk."""
    sizes = {role: measured.size_bytes for role, measured in contestants.items() if measured.size_bytes}
    if not sizes:
        return None
    told = [f"{LABELS[role]}: {human_bytes(size)}" for role, size in sizes.items()]
    with canvas(height=0.75 + 0.42 * len(sizes)) as (figure, (axes,)):
        places = range(len(sizes))
        megabytes = [size / 1e6 for size in sizes.values()]
        axes.barh(places, megabytes, height=0.62, color=[ROLE_COLORS[role] for role in sizes])
        for place, size, width in zip(places, sizes.values(), megabytes, strict=True):
            axes.annotate(human_bytes(size), (width, place), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(places, [LABELS[role] for role in sizes], color=INK)
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("MB")
        return finish(figure, "sizes", "Size of the model", "; ".join(told))


def draw_training(training: Training) -> Markup | None:
    """Loss and validation AUC by epoch, side by side."""
    curves: Sequence[tuple[str, list[tuple[int, float]]]] = [
        ("validation AUC", [(e.epoch, e.validation_auc) for e in training.history if e.validation_auc is not None]),
        ("training loss", [(e.epoch, e.train_loss) for e in training.history if e.train_loss is not None]),
    ]
    curves = [(name, points) for name, points in curves if points]
    if not curves:
        return None
    with canvas(height=2.9, columns=len(curves)) as (figure, panels):
        for axes, (name, points) in zip(panels, curves, strict=True):
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, color=ROLE_COLORS["baseline"], lw=2, marker="o", ms=4)
            best = epochs[values.index(max(values))] if name == "validation AUC" else None
            if best is not None:
                axes.plot([best], [max(values)], "o", color=ROLE_COLORS["best"], ms=8)
                axes.annotate(
                    f"{max(values):.4f}", (best, max(values)), (0, 8), textcoords="offset points", ha="center"
                )
                axes.margins(y=0.25)
            axes.set_title(name, fontsize=10, loc="left", color=MUTED)
            axes.set_xlabel("epoch")
            axes.locator_params(axis="x", integer=True)
        told = f"{len(training.history)} epochs"
        return finish(figure, "training", "Training of the baseline", told)


def _limit_of_margin(axes: Axes, result: DemoResult) -> None:
    """Where a variant would have lost the whole margin."""
    baseline, certificate = result.baseline.auc, result.certificate
    if baseline is None or certificate is None:
        return
    limit = baseline - certificate.margin
    axes.axhline(limit, color=BAD, lw=1.2, ls=(0, (1, 1.6)))
    beside = axes.get_yaxis_transform()
    axes.text(
        0.995,
        limit,
        f"baseline − margin {certificate.margin:g}",
        color=BAD,
        fontsize=9,
        ha="right",
        va="bottom",
        transform=beside,
    )


def _draw_variant(axes: Axes, points: Sequence[Point], markers: Mapping[str, str], result: DemoResult) -> None:
    """The points of one variant in one form, tied by a line: its engines differ in speed, hardly in quality."""
    ordered = sorted(points, key=lambda point: point.p50_ms_512)
    color = _color_of(ordered[0], result)
    axes.plot([p.p50_ms_512 for p in ordered], [p.auc for p in ordered], color=GRID, lw=1.5, zorder=1)
    for p in ordered:
        face = color if p.certified else SURFACE
        axes.plot(
            [p.p50_ms_512], [p.auc], marker=markers[p.engine], ls="", ms=9, mfc=face, mec=color, mew=1.6, zorder=3
        )
    first = ordered[0]
    name = _named(first, result)
    below = first.form == "whole" and name != first.variant  # both forms have one AUC: their names stay apart
    axes.annotate(
        name,
        (first.p50_ms_512, first.auc),
        (0, -18 if below else 10),
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )


def _named(point: Point, result: DemoResult) -> str:
    """The variant, with its form where it is shown in both."""
    forms = {other.form for other in result.points if other.variant == point.variant}
    return point.variant if len(forms) == 1 else f"{point.variant}, {FORM_LABELS[point.form]}"


def _color_of(point: Point, result: DemoResult) -> str:
    for role, measured in reversed(result.contestants().items()):
        if (measured.variant, measured.form) == (point.variant, point.form):
            return ROLE_COLORS[role]
    return MUTED
