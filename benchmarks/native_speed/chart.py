"""Horizontal bars as SVG: the same text for the same numbers, so that a page's picture can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_LABEL, _BAR, _LINE, _TOP = 250, 420, 22, 40
_OURS, _OTHERS = "#1f6f8b", "#b8c4cc"


def bar_chart(title: str, bars: Sequence[tuple[str, float, bool]], unit: str) -> str:
    """One bar a line, in this order.

    Args:
        bars: label, value, whether it is drawn in color.
    """
    longest = max(value for _, value, _ in bars)
    height = _TOP + _LINE * len(bars) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _BAR + 90}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="10" y="22" font-size="14">{escape(title)}</text>',
    ]
    for place, (label, value, ours) in enumerate(bars):
        top, width = _TOP + _LINE * place, _BAR * value / longest
        lines += [
            f'<text x="{_LABEL - 8}" y="{top + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="16" fill="{_OURS if ours else _OTHERS}"/>',
            f'<text x="{_LABEL + width + 6:.1f}" y="{top + 13}">{value:.2f} {escape(unit)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
