"""What a pruning tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rankine.compression.prune.goal import Goal
from rankine.compression.prune.groups import kind_of
from rankine.compression.prune.operations.contraction import Contraction
from rankine.compression.prune.trace import Trace
from rankine.compression.recipe import Prune
from rankine.models.network import Network
from rankine.models.rewrite.graph import numbered

__all__ = ["details_of", "step_details", "text_of"]


def step_details(now: Trace, removed: Sequence[int], refused: int) -> dict[str, Any]:
    """What one step took out: groups by kind, features, and how many groups could not be proved to go."""
    groups = now.labels.groups()
    fields = [atom.source for root in removed for atom in groups[root] if atom.kind == "field"]
    return {"removed": dict(Counter(kind_of(groups[root]) for root in removed)), "fields": fields, "refused": refused}


def _widths(found: Trace) -> dict[str, int]:
    """Columns of every layer, of every table, and of every product of values."""
    layers = {
        operation.output: operation.extents[operation.neurons]
        for operation in found.operations
        if isinstance(operation, Contraction) and operation.neurons
    }
    return layers | {f"table {name}": table.dim for name, table in found.network.tables.items()}


def details_of(goal: Goal, end: Trace, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Multiply-adds and widths, before and after each, operators that keep what they read, and the steps."""
    after = _widths(end)
    return {
        "macs_per_row": [goal.macs, steps[-1]["macs_per_row"]],
        "widths": {name: [width, after.get(name, 0)] for name, width in _widths(goal.start).items()},
        "unknown": goal.start.unknown,
        "steps": list(steps),
    }


def text_of(goal: Goal, settings: Prune, end: Network, steps: Sequence[Mapping[str, Any]]) -> str:
    """One line; it says so where a budget could not be met."""
    removed = Counter[str]()
    for step in steps:
        removed.update(step["removed"])
    fields = [name for step in steps for name in step["fields"]]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(removed.items()))
    macs = steps[-1]["macs_per_row"]
    whole = max(goal.macs, 1)
    text = f"pruned to {_share('multiply-adds', macs / whole, settings.macs, 1 / whole)}"
    if settings.latency is not None:
        reached = settings.latency * goal.is_late(end, settings.latency)
        text += f" and to {_share('latency', reached, settings.latency)}"
    text += f": without {kinds or 'anything'}"
    return text + (f" ({numbered(fields)})" if fields else "")


def _share(what: str, reached: float, wanted: float, rounding: float = 0.0) -> str:
    """The share that was reached, and the wanted one where it was not."""
    text = f"{reached:.1%} of the {what}"
    return text + (f" ({wanted:.1%} was not within reach)" if reached > wanted + rounding else "")
