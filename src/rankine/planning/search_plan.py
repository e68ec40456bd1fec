"""What is asked of a search, and the record of it that an artifact keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from rankine.compression.search import SearchSettings, SearchSpace, Target
from rankine.config import Frozen

__all__ = ["SEARCH_FILE", "SearchPlan", "SearchRecord"]

SEARCH_FILE = "search.json"


class SearchRecord(Frozen):
    """What was searched: with the same table of latencies and no time budget it gives the same variants again.

    Attributes:
        latency_table: hash of the table.
        baseline_512_ms: to what the shares of latency refer.
        variants: of each that was found, its loss on validation rows and its predicted shares of the baseline.
    """

    schema_version: Literal[1] = 1
    space: SearchSpace
    settings: SearchSettings
    target: Target
    seed: int
    time_budget_s: float | None
    latency_table: str
    baseline_512_ms: float
    variants: Mapping[str, Mapping[str, float]]


class SearchPlan(Frozen):
    """What is asked of a search.

    Attributes:
        margin: the loss of AUC that is accepted of what is served by default; the ladder has others too.
        target: how small it should be.
        space: None for that of the model, see :func:`rankine.compression.search.space_of`.
        work: folder of the evaluations; a search that was interrupted goes on from there.
        time_budget_s: of the search, without compiling and certifying.
    """

    margin: float
    work: Path
    target: Target = Target()
    space: SearchSpace | None = None
    settings: SearchSettings = SearchSettings()
    seed: int = 0
    time_budget_s: float | None = None
