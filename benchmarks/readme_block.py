"""The blocks of README.md that programs write: each stands between two markers with its name."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


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
