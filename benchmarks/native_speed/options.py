"""What `native_latency.py` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Of a run.

    Attributes:
        turns: of each race; each calls every side once.
        gigabytes: stored of all items, in the section `split`.
        artifacts: folder with ``<family>/compressed``; None leaves the section `certified` out.
        data_root: folder with the real data sets.
        models: names; of the section `families`, only these. Empty: all.
    """

    turns: int
    gigabytes: float
    artifacts: Path | None
    data_root: Path
    models: tuple[str, ...] = ()
