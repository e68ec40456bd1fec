"""What the scripts share that render a page of docs/ from result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from script import no_arguments

__all__ = ["table", "write_pages"]

ROOT = Path(__file__).resolve().parent.parent


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, names: int | None = 1) -> list[str]:
    """Lines of a table in Markdown, and an empty one.

    Args:
        names: so many of the first columns are text, and to the left; all others are numbers, and to the right. None:
            all are text.
    """
    left = len(head) if names is None else names
    lines = [head, [*["---"] * left, *["---:"] * (len(head) - left)], *rows]
    return [*("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines), ""]


def write_pages(description: str | None, pages: Mapping[Path, str]) -> None:
    """The command line of such a script: write each page, and tell which."""
    no_arguments(description)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
