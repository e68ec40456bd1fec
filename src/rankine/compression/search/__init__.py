"""Search over recipes: cheap estimates first, training only for promising ones, every evaluation kept on disk."""

from rankine.compression.search.evaluate import COST_ROWS, Evaluator
from rankine.compression.search.records import (
    Evaluation,
    Fidelity,
    Judge,
    Judged,
    SearchCost,
    SearchSettings,
    Target,
)
from rankine.compression.search.screen import Costing
from rankine.compression.search.search import Found, search
from rankine.compression.search.space import SearchSpace, space_of
from rankine.compression.search.work import WorkFolder

__all__ = [
    "COST_ROWS",
    "Costing",
    "Evaluation",
    "Evaluator",
    "Fidelity",
    "Found",
    "Judge",
    "Judged",
    "SearchCost",
    "SearchSettings",
    "SearchSpace",
    "Target",
    "WorkFolder",
    "search",
    "space_of",
]
