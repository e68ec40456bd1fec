"""The blocks of README.md that programs write: each stands between two markers with its name."""

from __future__ import annotations

import textwrap
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"

_WIDTH = 120


def folded(line: str) -> str:
    """A paragraph or an item of a list in lines of at most 120 characters; a row of a table, which must be one, as it
    is."""
    if line.startswith("|"):
        return line
    indent = "  " if line.startswith("* ") else ""
    return textwrap.fill(line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def replace_block(text: str, name: str, block: str) -> str:
    """``text`` with ``block`` between the markers of ``name``."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"{README}: the markers {begin} and {end} are not there")
    return f"{before}{begin}\n{block}\n{end}{after}"


def write_block(name: str, block: str) -> None:
    """Put ``block`` into README.md."""
    README.write_text(replace_block(README.read_text(encoding="utf-8"), name, block), encoding="utf-8")
