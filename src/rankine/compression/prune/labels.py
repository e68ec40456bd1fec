"""Labels: which removals make an element of a value vanish, and which removals must go together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

__all__ = ["Atom", "Ids", "Labels"]

Ids = np.ndarray[Any, np.dtype[np.int64]]
"""Numbers of label sets, in the shape of a value at one row."""

_FIXED = 0


@dataclass(frozen=True, slots=True)
class Atom:
    """What can be taken out by itself, before dependencies.

    Attributes:
        kind: ``field``: a whole feature; ``dimension``: a column of a table; ``neuron``: a place of an axis
            that comes from a weight.
        source: the feature, the table, or the value in which a weight meets others.
        index: of the column; 0 for a field.
    """

    kind: Literal["field", "dimension", "neuron"]
    source: str
    index: int = 0


class Labels:
    """Sets of atoms by number, and a union-find over atoms.

    An element with the set S vanishes as soon as one atom of S is removed. Atoms that were tied go together; fixed ones
    stay. Set 0 is empty: an element that never vanishes.
    """

    def __init__(self) -> None:
        self._atoms: list[Atom | None] = [None]
        self._numbers: dict[Atom, int] = {}
        self._parents = [_FIXED]
        self._sets: list[frozenset[int]] = [frozenset()]
        self._ids: dict[frozenset[int], int] = {frozenset(): 0}
        self.changes = 0

    def only(self, atom: Atom) -> int:
        """The set of one atom."""
        if atom not in self._numbers:
            self._numbers[atom] = len(self._atoms)
            self._atoms.append(atom)
            self._parents.append(len(self._parents))
        return self._id(frozenset((self._numbers[atom],)))

    def neurons(self, source: str, count: int) -> Ids:
        """The sets of the single neurons of a value, ``(count,)``."""
        return np.array([self.only(Atom("neuron", source, index)) for index in range(count)], np.int64)

    def root(self, number: int) -> int:
        """What stands for all atoms that are tied to this one; 0: fixed."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def roots(self, label: int) -> frozenset[int]:
        """A set, by its roots, without the fixed ones."""
        return frozenset(root for number in self._sets[label] if (root := self.root(number)) != _FIXED)

    def groups(self) -> dict[int, list[Atom]]:
        """All atoms that can be removed, by root."""
        found: dict[int, list[Atom]] = {}
        for number, atom in enumerate(self._atoms):
            if atom is not None and (root := self.root(number)) != _FIXED:
                found.setdefault(root, []).append(atom)
        return found

    def is_field(self, root: int) -> bool:
        """Whether a root is a whole feature: fields are never tied to channels."""
        atom = self._atoms[root]
        return atom is not None and atom.kind == "field"

    def source(self, root: int) -> str:
        atom = self._atoms[root]
        return "" if atom is None else f"{atom.kind}/{atom.source}"

    def normal(self, ids: Ids) -> Ids:
        """The same sets, by their roots."""
        found, inverse = np.unique(ids, return_inverse=True)
        return np.array([self._id(self.roots(label)) for label in found], np.int64)[inverse].reshape(ids.shape)

    def whole(self, ids: Ids) -> frozenset[int]:
        """The roots with which all of a value vanishes at once."""
        return reduce(frozenset.intersection, [self.roots(label) for label in np.unique(ids)])

    def either(self, a: Ids, b: Ids) -> Ids:
        """Vanishes where one of both does; broadcast."""
        a, b = np.broadcast_arrays(a, b)
        pairs, inverse = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1, return_inverse=True)
        found = [self._id(self._sets[one] | self._sets[other]) for one, other in pairs.T]
        return np.array(found, np.int64)[inverse.ravel()].reshape(a.shape)

    def without(self, ids: Ids, roots: frozenset[int]) -> Ids:
        """The same sets less these roots."""
        found, inverse = np.unique(ids, return_inverse=True)
        return np.array([self._id(self.roots(label) - roots) for label in found], np.int64)[inverse].reshape(ids.shape)

    def all_along(self, ids: Ids, axes: Sequence[int], *, keepdims: bool = False) -> Ids:
        """Vanishes where all elements along ``axes`` do, for a reason that they have in common."""
        axes = sorted(axis % ids.ndim for axis in axes)
        kept = [axis for axis in range(ids.ndim) if axis not in axes]
        rows = ids.transpose(*kept, *axes).reshape(int(np.prod([ids.shape[axis] for axis in kept])), -1)
        known: dict[bytes, int] = {}
        found = np.empty(len(rows), np.int64)
        for position, row in enumerate(np.sort(rows, axis=1)):
            key = row.tobytes()
            if key not in known:
                sets = [self._sets[label] for label in np.unique(row)]
                known[key] = self._id(reduce(frozenset.intersection, sets))
            found[position] = known[key]
        shape = [1 if axis in axes else size for axis, size in enumerate(ids.shape)]
        return found.reshape(shape if keepdims else [ids.shape[axis] for axis in kept])

    def tie(self, roots: Iterable[int]) -> None:
        """These go together from now on; with a fixed one none goes."""
        known = {self.root(number) for number in roots}
        if len(known) > 1:
            first = min(known)  # 0, where one of them is fixed
            for root in known:
                self._parents[root] = first
            self.changes += 1

    def fix(self, roots: Iterable[int]) -> None:
        """These stay."""
        for root in roots:
            self.tie((root, _FIXED))

    def fix_all(self, ids: Ids) -> None:
        """Whatever is in these sets stays."""
        for label in np.unique(ids):
            self.fix(self.roots(label))

    def fix_along(self, ids: Ids, axis: int) -> None:
        """What differs along an axis stays, so that the axis keeps its extent."""
        common = np.broadcast_to(self.all_along(ids, [axis], keepdims=True), ids.shape)
        for label, shared in self.pairs(ids, common):
            self.fix(self.roots(label) - self.roots(shared))

    def pairs(self, a: Ids, b: Ids) -> list[tuple[int, int]]:
        """The different pairs of sets in two arrays of one shape."""
        found = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
        return [(int(one), int(other)) for one, other in found.T]

    def gone(self, ids: Ids, removed: frozenset[int]) -> np.ndarray:
        """Which elements vanish when these roots are removed; booleans."""
        found, inverse = np.unique(ids, return_inverse=True)
        dead = np.array([not removed.isdisjoint(self.roots(label)) for label in found], bool)
        vanish: np.ndarray = dead[inverse].reshape(ids.shape)
        return vanish

    def _id(self, atoms: frozenset[int]) -> int:
        if atoms not in self._ids:
            self._ids[atoms] = len(self._sets)
            self._sets.append(atoms)
        return self._ids[atoms]
