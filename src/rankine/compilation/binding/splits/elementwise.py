"""Elementwise operators on parts that do not overlap: activations, products, and the rounding of a quantized graph.

``f([a; b]) = [f(a); f(b)]``: no arithmetic changes. A pair of ``QuantizeLinear`` and ``DequantizeLinear`` with one
scale for all is such an ``f``, so that rounded graphs are split like others. Products meet place by place:
``[a; b] * [c; d] = [a * c; b * d]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from rankine.compilation.binding.dims import broadcast
from rankine.compilation.binding.forms import Form, Term, cancels, selected
from rankine.compilation.binding.lattice import EARLY, Binding, join
from rankine.compilation.binding.splits.spreader import Spreader, attributes

__all__ = ["product", "quotient", "times", "unary"]


def unary(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """One operand; the others are single numbers."""
    form = spreader.form(node.input[0])
    if not form.is_disjoint:
        form = spreader.apart.get(node.input[0], form)
    others = [name for name in node.input[1:] if name]
    if not form.is_disjoint or any(
        not spreader.constant(name) or spreader.emitter.graph.constants[name].size != 1 for name in others
    ):
        return None
    terms = [
        replace(term, value=spreader.emit(node.op_type, [term.value, *node.input[1:]], attributes(node)))
        for term in form.terms
    ]
    return Form(spreader.shape, form.axis, tuple(terms))


def product(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """``Mul``: by a constant of every term, else of parts at the same place."""
    left, right = node.input
    if spreader.constant(left):
        left, right = right, left
    if spreader.constant(right):
        return times(spreader.form(left), spreader.emitter.graph.constants[right], spreader)
    forms = spreader.form(left), spreader.form(right)
    shapes = {spreader.emitter.shape(name) for name in (left, right)}
    if forms[0].axis != forms[1].axis or len(shapes) > 1 or not all(form.is_disjoint for form in forms):
        return None
    return _place_by_place((left, right), forms, spreader)


def quotient(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """``Div`` by a single constant number."""
    divisor = spreader.emitter.graph.constants.get(node.input[1])
    if divisor is None or divisor.size != 1 or not divisor.all():
        return None
    return times(spreader.form(node.input[0]), 1 / divisor.astype(np.float64), spreader)


def times(form: Form, factor: np.ndarray, spreader: Spreader) -> Form | None:
    """Every term times its part of a constant that is broadcast to the value; None where a place needs several."""
    exact = factor.size == 1 and np.frexp(float(factor.reshape(())))[0] in (0.5, -0.5)
    if cancels(form, spreader.emitter) and not exact:
        return None
    if factor.size == 1:
        scale = float(factor.reshape(()))
        terms = [replace(term, scale=term.scale * scale) for term in form.terms]
        return Form(spreader.shape, form.axis, tuple(terms)) if form.shape == spreader.shape else None
    if factor.ndim > len(form.shape):
        return None
    padded = factor.reshape((1,) * (len(form.shape) - factor.ndim) + factor.shape)
    terms = []
    for term in form.terms:
        part = _factor_of(term, form, padded, spreader)
        if part is None or len(spreader.emitter.shape(term.value)) != padded.ndim:
            return None
        terms.append(replace(term, value=spreader.emit("Mul", [term.value, spreader.emitter.constant(part)])))
    return Form(spreader.shape, form.axis, tuple(terms))


def _factor_of(term: Term, form: Form, factor: np.ndarray, spreader: Spreader) -> np.ndarray | None:
    """What a term's value is multiplied with; None where one place would need several factors."""
    shape = spreader.emitter.shape(term.value)
    if form.axis is None:
        return factor if broadcast([shape, factor.shape]) == shape else None
    if factor.shape[form.axis] == 1:
        return factor
    source, positions = term.places
    if len(set(source.tolist())) < len(source):
        return None
    sizes = list(factor.shape)
    length = shape[form.axis]
    sizes[form.axis] = length if isinstance(length, int) else 0
    part = np.zeros(sizes, factor.dtype)
    moved = np.moveaxis(part, form.axis, 0)
    moved[source] = np.moveaxis(factor, form.axis, 0)[positions]
    return part


def _place_by_place(names: Sequence[str], forms: Sequence[Form], spreader: Spreader) -> Form | None:
    known = [_bindings(form, spreader) for form in forms]
    times = [join(pair) for pair in zip(*known, strict=True)]
    terms = []
    for binding in (Binding.CONSTANT, *EARLY, Binding.CANDIDATE):
        order = [int(place) for term in forms[0].terms for place in term.places[1]]
        places = np.array([place for place in order if times[place] is binding], int)
        if len(places):
            parts = [_pick(name, form, places, spreader) for name, form in zip(names, forms, strict=True)]
            terms.append(Term(spreader.emit("Mul", parts), source=np.arange(len(places)), positions=places))
    return Form(spreader.shape, forms[0].axis, tuple(terms))


def _bindings(form: Form, spreader: Spreader) -> list[Binding]:
    found = [Binding.CONSTANT] * form.length
    for term in form.terms:
        for place in term.places[1]:
            found[place] = spreader.binding(term)
    return found


def _pick(name: str, form: Form, places: np.ndarray, spreader: Spreader) -> str:
    """A value's elements at ``places``, of the term that holds them all, or of the value."""
    axis = form.axis or 0
    for term in form.terms:
        local = {int(position): int(source) for source, position in zip(*term.places, strict=True)}
        if local.keys() >= set(places.tolist()):
            source = np.array([local[int(place)] for place in places])
            return selected(Term(term.value, source=source, positions=places), axis, spreader.emitter)
    return selected(Term(name, source=places, positions=places), axis, spreader.emitter)
