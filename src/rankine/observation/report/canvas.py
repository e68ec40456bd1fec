"""Figures as inline SVG: responsive, in the page's own colors (light and dark), labeled for screen readers.

matplotlib draws; what it writes is then made fit for a page: fixed sizes and namespaces go, its colors become the
page's CSS variables, and its ids get a prefix, because one page holds many figures.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BAD", "GRID", "INK", "MUTED", "ROLE_COLORS", "SURFACE", "canvas", "finish", "plain_log", "style_axes"]

# Colors that only stand for CSS variables: matplotlib takes hex values, the page decides what they look like.
INK, MUTED, GRID, SURFACE, BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
ROLE_COLORS = {"baseline": "#060606", "bare_engine": "#070707", "best": "#080808"}
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    SURFACE: "--surface",
    BAD: "--bad",
    ROLE_COLORS["baseline"]: "--baseline",
    ROLE_COLORS["bare_engine"]: "--bare",
    ROLE_COLORS["best"]: "--best",
}
_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and needs no glyph outlines
    "svg.hashsalt": "rankine",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}


@contextmanager
def canvas(width: float = 9.2, height: float = 4.2, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with ``columns`` axes side by side, sizes in inches at 72 px, in the page's style."""
    import matplotlib
    from matplotlib.figure import Figure

    # A Figure of its own, not pyplot: no global state, no backend that could want a display.
    with matplotlib.rc_context(_SETTINGS):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = [figure.add_subplot(1, columns, index + 1) for index in range(columns)]
        for each in axes:
            style_axes(each)
        yield figure, axes


def style_axes(axes: Axes) -> None:
    """Light grid behind the data, no box around it."""
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def plain_log(axes: Axes, which: str) -> None:
    """A logarithmic axis (``x`` or ``y``) with ticks at 1, 2, 5 that read as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / max(low, 1e-12) < 300 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def finish(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as an ``<svg>`` element; ``name`` prefixes its ids, ``title`` and ``description`` are read aloud."""
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):  # type: ignore[arg-type]
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"(font: (?:[\w.]+ )*?[\d.]+px) [^;\"]*", r"\1 var(--sans)", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    view = re.search(r'viewBox="[^"]+"', svg)
    opening = f'<svg {view.group(0) if view else ""} role="img" aria-labelledby="{name}-title {name}-desc">'
    # matplotlib escapes the text it writes.
    labels = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    return Markup(opening + labels + svg[svg.index(">") + 1 :])
