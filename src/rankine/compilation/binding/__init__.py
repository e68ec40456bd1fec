"""Binding times: when each value of a model is known, and the model cut by it into three graphs.

``split_graph`` is the verb. See docs/explanation/binding-times.md.
"""

from rankine.compilation.binding.costs import CostModel
from rankine.compilation.binding.lattice import Binding, sides_of
from rankine.compilation.binding.plan import BindingPlan, Column, Settings, Work
from rankine.compilation.binding.split import SplitModel, split_graph

__all__ = ["Binding", "BindingPlan", "Column", "CostModel", "Settings", "SplitModel", "Work", "sides_of", "split_graph"]
