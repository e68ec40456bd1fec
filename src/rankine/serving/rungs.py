"""The variants that a server may run: one, or those of the artifact's ladder within the operator's floor.

They share one catalog. What each stores of an item has its own columns there, under names that begin with the variant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rankine.compilation.engine import Runner
from rankine.models.columns import Batch, Columns
from rankine.serving.gate import Choice

__all__ = ["ServedRung", "VariantRunner", "own_name"]


@dataclass(frozen=True, slots=True)
class ServedRung:
    """A variant that may be served.

    Attributes:
        margin: at which it is certified; 0 where that does not matter, as there is no other.
        loss: certified upper bound of what it gives up in AUC.
        form: whether the runner takes it in parts.
        choice: by which right it is served; None where nobody asks (tests, benchmarks).
    """

    variant: str
    engine: str
    runner: Runner
    margin: float = 0.0
    loss: float = 0.0
    form: Literal["whole", "parts"] = "whole"
    choice: Choice | None = None


class VariantRunner:
    """A :class:`~rankine.compilation.engine.Runner` whose columns of items bear the variant's name."""

    def __init__(self, variant: str, runner: Runner) -> None:
        self._variant, self._runner = variant, runner

    def run(self, batch: Batch, out: np.ndarray) -> None:
        start = len(own_name(self._variant, ""))
        own = {name[start:]: column for name, column in batch.item.items() if self._is_own(name)}
        self._runner.run(replace(batch, item={**batch.item, **own}) if own else batch, out)

    def complete(self, items: Columns) -> Columns:
        found = self._runner.complete(items)
        added = {own_name(self._variant, name): column for name, column in found.items() if name not in items}
        return {**items, **added} if added else items

    def close(self) -> None:
        self._runner.close()

    def _is_own(self, name: str) -> bool:
        return name.startswith(own_name(self._variant, ""))


def own_name(variant: str, column: str) -> str:
    """Name of a variant's column where several share the items."""
    return f"{variant}/{column}"
