"""A tensor can lose whole slabs only: what vanishes in it is made to be one, by tying what must go together."""

from __future__ import annotations

import numpy as np

from rankine.compression.prune.labels import Ids, Labels

__all__ = ["axis_labels", "make_rectangular"]


def make_rectangular(labels: Labels, ids: Ids) -> Ids:
    """Tie atoms until whatever is removed takes whole slabs out of a value; returns the sets as they are then.

    Where the elements of a matrix ``(fields, dim)`` are the columns of tables, column 3 of one field must go with
    column 3 of the others; where they are neurons of experts that are stacked, neuron 3 of all experts. So the axis is
    taken along which the fewest atoms of one source are tied together.
    """
    ids = labels.normal(ids)
    while (missing := _missing(labels, ids)) is not None:  # each round ties or fixes something
        choices = [_Slabs(labels, missing, axis) for axis, size in enumerate(ids.shape) if size > 1]
        min(choices, key=lambda slabs: slabs.price).settle()
        ids = labels.normal(ids)
    return ids


def axis_labels(labels: Labels, ids: Ids) -> tuple[Ids, ...]:
    """For every axis the sets that whole slabs have in common, ``(extent,)`` each."""
    axes = range(ids.ndim)
    return tuple(labels.all_along(ids, [other for other in axes if other != axis]) for axis in axes)


def _missing(labels: Labels, ids: Ids) -> list[tuple[tuple[int, ...], frozenset[int]]] | None:
    """For every element the roots that are not those of a slab; None where there is none such."""
    combined = np.zeros_like(ids)
    for axis, own in enumerate(axis_labels(labels, ids)):
        shape = [-1 if other == axis else 1 for other in range(ids.ndim)]
        combined = labels.either(combined, own.reshape(shape))
    if np.array_equal(combined, ids):
        return None
    known = {
        pair: labels.roots(pair[0]) - labels.roots(pair[1])
        for pair in labels.pairs(ids, np.broadcast_to(combined, ids.shape))
    }
    if not any(known.values()):
        return None
    return [(at, known[int(ids[at]), int(combined[at])]) for at in np.ndindex(ids.shape)]


class _Slabs:
    """What is tied where the slabs of one axis are the units.

    Attributes:
        price: (slabs and fields that are fixed, atoms of one source that are tied, minus the number of slabs).
    """

    def __init__(self, labels: Labels, missing: list[tuple[tuple[int, ...], frozenset[int]]], axis: int) -> None:
        self._labels = labels
        self._fixed: set[int] = set()
        slabs: dict[int, set[int]] = {}
        holes: set[int] = set()
        for at, roots in missing:
            channels = {root for root in roots if not labels.is_field(root)}
            self._fixed |= roots - channels
            slabs.setdefault(at[axis], set()).update(channels)
            if not channels:
                holes.add(at[axis])
        self._tied = [roots for at, roots in slabs.items() if at not in holes]
        for hole in holes:
            self._fixed |= slabs[hole]
        same = sum(len(roots) - len({labels.source(root) for root in roots}) for roots in self._tied)
        self.price = (len(self._fixed), same, -len(self._tied))

    def settle(self) -> None:
        self._labels.fix(self._fixed)
        for roots in self._tied:
            self._labels.tie(roots)
