"""What is known of each operator: where the rows of its outputs lie, or why that cannot be said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from rankine.compilation.binding.facts import Out, Reading
from rankine.compilation.binding.rules import along, contraction, elementwise, movement, sizes

__all__ = ["RULES", "Rule"]

Rule = Callable[[Reading], list[Out]]

RULES = cast(
    Mapping[str, Rule],
    {**elementwise.rules, **along.rules, **contraction.rules, **movement.rules, **sizes.rules},
)
"""By operator of the default domain."""
