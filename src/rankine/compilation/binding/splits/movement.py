"""Operators that move elements: each term is moved as the whole was, or only its places change.

A selection of places costs nothing: ``Gather([a; b], places)`` is the same two terms at other positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from rankine.compilation.binding.facts import Reading
from rankine.compilation.binding.forms import Form, Term
from rankine.compilation.binding.rules.movement import slice_indices
from rankine.compilation.binding.splits.spreader import Spreader
from rankine.models.rewrite.graph import attribute

__all__ = ["gather", "reshape", "slices", "squeeze", "transpose", "unsqueeze"]


def transpose(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """Every term transposed alike."""
    form = spreader.form(node.input[0])
    rank = len(form.shape)
    order = [int(axis) for axis in attribute(node, "perm") or range(rank)[::-1]]
    axis = None if form.axis is None else order.index(form.axis)
    return _moved(form, axis, lambda value: spreader.emit("Transpose", [value], {"perm": order}), spreader)


def unsqueeze(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """New axes before, between or after those of every term."""
    form = spreader.form(node.input[0])
    given = _constant(node, 1, spreader)
    if given is None:
        return None
    rank = len(spreader.shape)
    new = sorted(int(axis) % rank for axis in given)
    kept = [axis for axis in range(rank) if axis not in new]
    axis = None if form.axis is None else kept[form.axis]
    return _moved(form, axis, lambda value: spreader.emit("Unsqueeze", [value, node.input[1]]), spreader)


def squeeze(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """Axes of one place leave every term; not the one along which the terms lie."""
    form = spreader.form(node.input[0])
    given = _constant(node, 1, spreader)
    if given is None:
        return None
    rank = len(form.shape)
    gone = {int(axis) % rank for axis in given}
    if form.axis in gone:
        return None
    axis = None if form.axis is None else form.axis - sum(other < form.axis for other in gone)
    return _moved(form, axis, lambda value: spreader.emit("Squeeze", [value, node.input[1]]), spreader)


def gather(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """Constant places along one axis: a list of them, or one, with which the axis goes."""
    places = spreader.emitter.graph.constants.get(node.input[1])
    form = spreader.form(node.input[0])
    axis = attribute(node, "axis", 0) % len(form.shape)
    length = form.shape[axis]
    if places is None or places.ndim > 1 or not isinstance(length, int):
        return None
    if places.ndim == 0:
        return _one_place(form, axis, int(places) % length, spreader)
    return _places(form, axis, places % length, spreader)


def slices(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """A ``Slice``: places along each of its axes."""
    emitter = spreader.emitter
    facts = tuple(emitter.facts[name] if name else None for name in node.input)
    known = {at: emitter.graph.constants[name] for at, name in enumerate(node.input) if spreader.constant(name)}
    form: Form | None = spreader.form(node.input[0])
    for axis, places in slice_indices(Reading(node, facts, known)).items():
        form = None if form is None else _places(form, axis, places, spreader)
    return form


def reshape(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """``(rows, k * d) -> (rows, k, d)`` of terms made of whole vectors of ``d``, and any ``(rows, k, d) -> (rows, k *
    d)``."""
    form, shape = spreader.form(node.input[0]), spreader.shape
    if form.shape[0] != shape[0]:
        return None
    if form.axis is None:
        return _moved(form, None, lambda value: spreader.emit("Reshape", [value, node.input[1]]), spreader, full=True)
    if len(form.shape) == 2 and len(shape) == 3:
        return _cut_into_vectors(form, spreader)
    if len(form.shape) == 3 and len(shape) == 2:
        return _joined_vectors(form, spreader)
    return None


def _moved(
    form: Form, axis: int | None, move: Callable[[str], str], spreader: Spreader, *, full: bool = False
) -> Form | None:
    """The form after ``move`` of each term; ``full`` where terms that are broadcast cannot be moved."""
    shapes = [spreader.emitter.shape(term.value) for term in form.terms]
    if any(len(shape) != len(form.shape) or (full and shape != form.shape) for shape in shapes):
        return None
    return Form(spreader.shape, axis, tuple(replace(term, value=move(term.value)) for term in form.terms))


def _places(form: Form, axis: int, places: np.ndarray, spreader: Spreader) -> Form | None:
    shape = (*form.shape[:axis], len(places), *form.shape[axis + 1 :])
    if axis == form.axis:
        terms = [_at_places(term, places) for term in form.terms]
        return Form(shape, axis, tuple(term for term in terms if len(term.places[0])))
    index = spreader.emitter.constant(places, np.int64)
    terms = []
    for term in form.terms:
        own = spreader.emitter.shape(term.value)
        if len(own) != len(form.shape):
            return None
        if own[axis] != 1 or form.shape[axis] == 1:  # one that is broadcast along the axis stays so
            term = replace(term, value=spreader.emit("Gather", [term.value, index], {"axis": axis}))
        terms.append(term)
    return Form(shape, form.axis, tuple(terms))


def _at_places(term: Term, places: np.ndarray) -> Term:
    source, positions = term.places
    pairs = [(s, new) for new, place in enumerate(places) for s in source[positions == place]]
    return replace(term, source=np.array([s for s, _ in pairs], int), positions=np.array([p for _, p in pairs], int))


def _one_place(form: Form, axis: int, place: int, spreader: Spreader) -> Form | None:
    terms = []
    for term in form.terms:
        if len(spreader.emitter.shape(term.value)) != len(form.shape):
            return None
        if axis == form.axis:
            source, positions = term.places
            found = source[positions == place]
            terms += [Term(_taken(term.value, axis, int(at), spreader), term.scale) for at in found]
            continue
        broadcast = spreader.emitter.shape(term.value)[axis] == 1
        terms.append(replace(term, value=_taken(term.value, axis, 0 if broadcast else place, spreader)))
    if axis == form.axis or form.axis is None:
        return Form(spreader.shape, None, tuple(terms)) if terms else None
    return Form(spreader.shape, form.axis - (axis < form.axis), tuple(terms))


def _taken(value: str, axis: int, place: int, spreader: Spreader) -> str:
    return spreader.emit("Gather", [value, spreader.emitter.constant(place, np.int64)], {"axis": axis})


def _cut_into_vectors(form: Form, spreader: Spreader) -> Form | None:
    """Terms along the columns become terms along the vectors."""
    width = spreader.shape[2]
    if form.axis != 1 or not isinstance(width, int):
        return None
    terms = []
    for term in form.terms:
        length = spreader.emitter.shape(term.value)[1]
        source, positions = (_vectors(places, width) for places in term.places)
        if not isinstance(length, int) or length % width or source is None or positions is None:
            return None
        target = spreader.emitter.constant([-1, length // width, width], np.int64)
        terms.append(
            replace(term, value=spreader.emit("Reshape", [term.value, target]), source=source, positions=positions)
        )
    return Form(spreader.shape, 1, tuple(terms))


def _vectors(places: np.ndarray, width: int) -> np.ndarray | None:
    """Numbers of the vectors that columns make up; None where one is not whole, or does not begin where it should."""
    if len(places) % width:
        return None
    rows = places.reshape(-1, width)
    whole = (rows[:, 0] % width == 0).all() and (rows == rows[:, :1] + np.arange(width)).all()
    numbers: np.ndarray = rows[:, 0] // width
    return numbers if whole else None


def _joined_vectors(form: Form, spreader: Spreader) -> Form | None:
    """Terms along the vectors, or along their columns, become terms along all columns."""
    terms = []
    for term in form.terms:
        own = spreader.emitter.shape(term.value)
        other = 2 if form.axis == 1 else 1
        if len(own) != 3 or own[other] != form.shape[other]:
            return None
        source, positions = (
            _flat(places, form.axis or 0, shape) for places, shape in zip(term.places, (own, form.shape), strict=True)
        )
        size = np.prod([dim for dim in own[1:] if isinstance(dim, int)], dtype=int)
        target = spreader.emitter.constant([-1, size], np.int64)
        terms.append(
            replace(term, value=spreader.emit("Reshape", [term.value, target]), source=source, positions=positions)
        )
    return Form(spreader.shape, 1, tuple(terms))


def _flat(places: np.ndarray, axis: int, shape: tuple[object, ...]) -> np.ndarray:
    """Columns of ``(rows, k * d)`` at which ``places`` along an axis of ``(rows, k, d)`` lie."""
    vectors, width = shape[1], shape[2]
    if not isinstance(vectors, int) or not isinstance(width, int):
        raise TypeError("terms lie along the rows")
    if axis == 1:
        return np.ravel(places[:, None] * width + np.arange(width))
    return np.ravel(np.arange(vectors)[:, None] * width + places)


def _constant(node: onnx.NodeProto, position: int, spreader: Spreader) -> list[int] | None:
    if len(node.input) <= position:
        return None
    values = spreader.emitter.graph.constants.get(node.input[position])
    return None if values is None else [int(value) for value in values.reshape(-1)]
