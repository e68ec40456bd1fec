"""Binding times: when each value of a model is known, and the model cut by it into three graphs.

``split_graph`` is the verb. See docs/explanation/binding-times.md.
"""

from typing import TYPE_CHECKING, Any

from rankine.compilation.binding.costs import CostModel
from rankine.compilation.binding.lattice import Binding, sides_of
from rankine.compilation.binding.plan import BindingPlan, Column, Settings, Work

if TYPE_CHECKING:
    from rankine.compilation.binding.split import SplitModel, split_graph

__all__ = ["Binding", "BindingPlan", "Column", "CostModel", "Settings", "SplitModel", "Work", "sides_of", "split_graph"]


def __getattr__(name: str) -> Any:
    """What works on graphs is imported when it is asked for: it needs onnx, which a server may not have."""
    if name in ("SplitModel", "split_graph"):
        from rankine.compilation.binding import split

        return getattr(split, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
