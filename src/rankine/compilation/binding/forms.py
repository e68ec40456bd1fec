"""A value as a sum of terms, each known at its own time: what pushes work out of the candidate's graph.

``value = sum over k of scale_k * place_k(term_k)``, where ``place_k`` puts the places ``source`` of a term, along one
axis, at ``positions`` of the value. A concatenation is such a sum, of terms whose positions are disjoint; so is a sum,
of terms that cover everything. Linear operators work on the terms one by one; others on disjoint terms only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from rankine.compilation.binding.dims import Shape, Unprovable, broadcast
from rankine.compilation.binding.emitter import Emitter
from rankine.compilation.binding.lattice import EARLY, Binding

__all__ = [
    "Form",
    "Term",
    "along",
    "cancels",
    "concatenated",
    "covers",
    "is_worth_it",
    "regrouped",
    "scaled",
    "selected",
    "total",
]

_ORDER = (Binding.CONSTANT, Binding.CATALOG, Binding.REQUEST, Binding.CANDIDATE)


@dataclass(frozen=True, eq=False)
class Term:
    """One term.

    Attributes:
        source: places along the form's axis of the term's value, ``positions``: where they go to. None for both where
            the term covers the form's value as a whole; there it may be broadcast.
    """

    value: str
    scale: float = 1.0
    source: np.ndarray | None = None
    positions: np.ndarray | None = None

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """``source`` and ``positions`` of a term that has them."""
        if self.source is None or self.positions is None:
            raise TypeError("the term covers the whole")
        return self.source, self.positions


@dataclass(frozen=True, eq=False)
class Form:
    """Terms, and the axis along which they lie; None where each of them covers the whole.

    Attributes:
        shape: of the value.
    """

    shape: Shape
    axis: int | None
    terms: tuple[Term, ...]

    @property
    def length(self) -> int:
        """Of the axis."""
        dim = self.shape[self.axis] if self.axis is not None else 0
        if not isinstance(dim, int):
            raise TypeError("terms lie along the rows")
        return dim

    @property
    def is_disjoint(self) -> bool:
        """Whether every position comes from one place of one term, and every place goes to one position."""
        if self.axis is None or any(term.scale != 1 for term in self.terms):
            return False
        taken = np.concatenate([term.places[1] for term in self.terms])
        unique = all(len(set(term.places[0].tolist())) == len(term.places[0]) for term in self.terms)
        values = {term.value for term in self.terms}
        return unique and len(values) == len(self.terms) and sorted(taken.tolist()) == list(range(self.length))


def along(form: Form, axis: int, emitter: Emitter) -> Form | None:
    """The same with terms that lie along ``axis``; None where they lie along another."""
    if form.axis is not None:
        return form if form.axis == axis else None
    length = form.shape[axis]
    if not isinstance(length, int):
        return None
    terms = []
    for term in form.terms:
        shape = emitter.shape(term.value)
        if len(shape) != len(form.shape):
            return None
        source = np.zeros(length, int) if shape[axis] == 1 else np.arange(length)
        terms.append(replace(term, source=source, positions=np.arange(length)))
    return Form(form.shape, axis, tuple(terms))


def is_worth_it(form: Form, emitter: Emitter) -> bool:
    """Whether some of a value that is known per row is known before."""
    return any(emitter.binding(term.value) in EARLY for term in form.terms)


def regrouped(form: Form, emitter: Emitter) -> Form:
    """The same with one term for those that are known at the same time, wherever they can be joined."""
    terms: list[Term] = []
    for binding in _ORDER:
        own = [term for term in form.terms if emitter.binding(term.value) is binding]
        terms += _joined(own, form, emitter) if form.axis is not None else _added(own, emitter)
    return replace(form, terms=tuple(terms))


def cancels(form: Form, emitter: Emitter) -> bool:
    """Whether terms of the same features, one of them known per row, are subtracted from each other: what follows is
    better done after that, since the error of a difference is that of its larger parts."""
    return any(_opposed(one, other, emitter) for one, other in combinations(form.terms, 2))


def concatenated(terms: Sequence[Term], axis: int, emitter: Emitter) -> Term:
    """Terms of disjoint positions and scale 1 as one, in the order given."""
    if len(terms) == 1:
        return terms[0]
    values = list(dict.fromkeys(term.value for term in terms))
    lengths = [emitter.shape(value)[axis] for value in values]
    starts = dict(zip(values, np.cumsum([0, *(dim for dim in lengths if isinstance(dim, int))]), strict=False))
    return Term(
        emitter.emit("Concat", values, {"axis": axis}),
        source=np.concatenate([starts[term.value] + term.places[0] for term in terms]),
        positions=np.concatenate([term.places[1] for term in terms]),
    )


def selected(term: Term, axis: int, emitter: Emitter) -> str:
    """The value at a term's places, in the order of its positions' list: itself where those are all of it."""
    source, _ = term.places
    if emitter.shape(term.value)[axis] == len(source) and np.array_equal(source, np.arange(len(source))):
        return term.value
    return emitter.emit("Gather", [term.value, emitter.constant(source, np.int64)], {"axis": axis})


def scaled(term: Term, emitter: Emitter) -> str:
    """A term's value times its scale."""
    if term.scale == 1:
        return term.value
    if term.scale == -1:
        return emitter.emit("Neg", [term.value])
    return emitter.emit("Mul", [term.value, emitter.constant(term.scale)])


def total(values: Iterable[str], emitter: Emitter, *, output: str | None = None) -> str:
    """The sum of values: those known at the same time first, then small ones before those they are broadcast to."""
    names = sorted(values, key=lambda name: (_ORDER.index(emitter.binding(name)), len(emitter.shape(name))))
    first, *others = names
    for number, name in enumerate(others, 1):
        first = emitter.emit("Add", [first, name], output=output if number == len(others) else None)
    if not others and output is not None:
        return emitter.emit("Identity", [first], output=output)
    return first


def _opposed(one: Term, other: Term, emitter: Emitter) -> bool:
    if one.scale * other.scale > 0 or Binding.CANDIDATE not in map(emitter.binding, (one.value, other.value)):
        return False
    if emitter.features[one.value].isdisjoint(emitter.features[other.value]):
        return False
    return one.positions is None or other.positions is None or bool(np.isin(one.positions, other.positions).any())


def _joined(own: list[Term], form: Form, emitter: Emitter) -> list[Term]:
    """Disjoint terms of the same other sizes as one concatenation."""
    axis = form.axis
    if axis is None:
        return own
    groups: dict[Shape, list[Term]] = {}
    kept: list[Term] = []
    taken: set[int] = set()
    for term in own:
        positions = set(term.places[1].tolist())
        if term.scale != 1 or taken & positions or emitter.facts[term.value].dtype != np.float32:
            kept.append(term)
            continue
        taken |= positions
        shape = emitter.shape(term.value)
        groups.setdefault((*shape[:axis], *shape[axis + 1 :]), []).append(term)
    return [*kept, *(concatenated(terms, axis, emitter) for terms in groups.values())]


def _added(own: list[Term], emitter: Emitter) -> list[Term]:
    """Terms that cover the whole as one sum for each size: a broadcast one is not made larger before it is stored."""
    groups: dict[Shape, list[Term]] = {}
    for term in own:
        groups.setdefault(emitter.shape(term.value), []).append(term)
    return [
        terms[0] if len(terms) == 1 else Term(total([scaled(term, emitter) for term in terms], emitter))
        for terms in groups.values()
    ]


def covers(form: Form, emitter: Emitter) -> bool:
    """Whether the terms of a sum together have its whole shape."""
    try:
        return broadcast([emitter.shape(term.value) for term in form.terms]) == form.shape
    except Unprovable:
        return False
