"""What every group costs in multiply-adds, at the widths that are left, and which groups may still go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from rankine.compression.prune.labels import Ids, Labels
from rankine.compression.prune.operations.along import Reduction
from rankine.compression.prune.operations.contraction import Contraction
from rankine.compression.prune.trace import Trace
from rankine.models.schema import DenseFeature
from rankine.models.transforms import table_of

__all__ = ["Costs", "Price", "linear_shape"]

Price = Callable[[Contraction], float]
"""What one multiply-add of a product costs, in any unit."""


class Costs:
    """Multiply-adds for one row, and their price, as groups are taken out.

    Args:
        roots: of the groups, in order; what is given and returned about groups is in this order.
        price: of a multiply-add of each product; None: all cost the same.
    """

    def __init__(self, trace: Trace, roots: Sequence[int], price: Price | None = None) -> None:
        self._numbers = {root: number for number, root in enumerate(roots)}
        self._count = len(roots)
        self._axes: list[_Axis] = []
        self._products: list[tuple[list[_Axis], float]] = []
        for operation in trace.operations:
            if isinstance(operation, Contraction):
                axes = [self._axis(trace.labels, ids) for ids in operation.axes(trace).values()]
                self._products.append((axes, price(operation) if price is not None else 1.0))
            elif isinstance(operation, Reduction):
                for axis, ids in enumerate(trace.axes(operation.data[0])):
                    if axis in operation.axes:
                        self._axis(trace.labels, ids)  # a sum keeps a term
        for ids in _table_columns(trace):
            self._axis(trace.labels, ids)  # a table keeps a column
        whole = [trace.labels.all_along(trace.ids[value.name], (0, 1), keepdims=True) for value in trace.graph.inputs]
        self._axis(trace.labels, np.concatenate(whole))  # and the model a feature

    @property
    def macs(self) -> int:
        """Multiply-adds that are left."""
        return sum(prod(axis.left for axis in axes) for axes, _ in self._products)

    def saved(self) -> tuple[np.ndarray, np.ndarray]:
        """What taking out each group would save now: multiply-adds, and their price; both ``(groups,)``."""
        macs, cost = np.zeros(self._count), np.zeros(self._count)
        for axes, price in self._products:
            then = np.ones(self._count)
            for axis in axes:
                then *= axis.left - axis.loss
            saved = prod(axis.left for axis in axes) - then
            macs += saved
            cost += price * saved
        return macs, cost

    def allowed(self, share: float = 0.0) -> np.ndarray:
        """Which groups can go and leave of every axis this share of what it was, and one place; ``(groups,)``."""
        found = np.ones(self._count, bool)
        for axis in self._axes:
            found &= (axis.loss == 0) | (axis.left - axis.loss >= max(1, share * axis.size))
        return found

    def remove(self, number: int) -> None:
        """Take a group out."""
        for axis in self._axes:
            axis.remove(number)

    def _axis(self, labels: Labels, ids: Ids) -> _Axis:
        places, groups = [], []
        for place, label in enumerate(ids.ravel()):
            for root in labels.roots(int(label)):
                if root in self._numbers:
                    places.append(place)
                    groups.append(self._numbers[root])
        axis = _Axis(ids.size, np.array(places, int), np.array(groups, int), self._count)
        self._axes.append(axis)
        return axis


class _Axis:
    """Places of an axis, and the groups with which they go.

    Attributes:
        size: places that there were.
        left: places that there are.
        loss: places that each group would take, ``(groups,)``.
    """

    def __init__(self, size: int, places: np.ndarray, groups: np.ndarray, count: int) -> None:
        self.size = size
        self._alive = np.ones(size, bool)
        self._places, self._groups = places, groups
        self.left = size
        self.loss = np.bincount(groups, minlength=count)

    def remove(self, number: int) -> None:
        if not self.loss[number]:
            return
        self._alive[self._places[self._groups == number]] = False
        self.left = int(self._alive.sum())
        self.loss = np.bincount(self._groups[self._alive[self._places]], minlength=len(self.loss))


def linear_shape(operation: Contraction) -> tuple[int, int, int]:
    """Rows for one row of the model, inner width and columns of a product, as if it were one linear layer."""
    extents, result = operation.extents, operation.equation.result
    inner = prod(size for letter, size in extents.items() if letter not in result)
    columns = extents[operation.neurons] if operation.neurons else extents[result[-1]]
    return max(prod(extents.values()) // (inner * columns), 1), inner, columns


def _table_columns(trace: Trace) -> list[Ids]:
    """For each table the sets of its columns, without the features that read it."""
    found: dict[str, Ids] = {}
    for feature in trace.network.schema.features:
        if not isinstance(feature, DenseFeature):
            table = table_of(feature)
            ids = trace.axes(feature.name)[1][: trace.network.tables[table].dim]
            fields = frozenset(
                root for label in ids for root in trace.labels.roots(label) if trace.labels.is_field(root)
            )
            found[table] = trace.labels.without(ids, fields)
    return list(found.values())
