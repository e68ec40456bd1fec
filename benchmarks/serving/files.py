"""Result files: written as a whole, so that a run that is killed leaves what it had."""

from __future__ import annotations

from pathlib import Path

from rankine.config import Frozen


def write_record(path: Path, record: Frozen) -> None:
    """``record`` as indented JSON, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(path)
