"""Sums, and sums along an axis: the terms of all operands, those known at the same time added before.

So the second order of a factorization machine: ``sum of v = sum over the request's v + sum over the item's v + ...``,
the same for ``sum of v^2``; and where what follows is a sum again, up to the logits, one number an item is left. (Not
through ``(sum of v)^2 - sum of v^2``: a difference is taken before it is summed, or its error would grow.)
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx

from rankine.compilation.binding.forms import Form, Term, along, cancels, selected
from rankine.compilation.binding.splits.spreader import Spreader
from rankine.models.rewrite.graph import attribute

__all__ = ["add", "reduce_sum"]


def add(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """``Add``, ``Sub``, ``Sum`` and ``Neg``."""
    forms = [_operand(name, spreader) for name in node.input]
    if node.op_type == "Sub":
        forms[1] = _negative(forms[1])
    elif node.op_type == "Neg":
        forms = [_negative(forms[0])]
    axes = {form.axis for form in forms if form.axis is not None}
    if len(axes) > 1 or any(len(form.shape) != len(spreader.shape) for form in forms):
        return None
    if not axes:
        return Form(spreader.shape, None, tuple(term for form in forms for term in form.terms))
    (axis,) = axes
    terms: list[Term] = []
    for form in forms:
        if form.shape[axis] != spreader.shape[axis]:
            return None  # it is broadcast along the axis of the terms
        lying = along(form, axis, spreader.emitter)
        if lying is None:
            return None
        terms += lying.terms
    return Form(spreader.shape, axis, tuple(terms))


def reduce_sum(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """``ReduceSum`` and ``ReduceMean``."""
    form = spreader.form(node.input[0])
    given = spreader.emitter.graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    if given is None or not given.size:
        return None
    if cancels(form, spreader.emitter):
        return None
    rank = len(form.shape)
    axes = sorted(int(axis) % rank for axis in given.reshape(-1))
    lengths = [form.shape[axis] for axis in axes]
    keep = int(attribute(node, "keepdims", 1))
    share = 1 / math.prod(length for length in lengths if isinstance(length, int))
    scale = share if node.op_type == "ReduceMean" else 1.0
    terms = []
    for term in form.terms:
        times = _times_repeated(term, form, axes, spreader)
        if times is None:
            return None
        value = term.value if form.axis not in axes else selected(term, form.axis or 0, spreader.emitter)
        constant = spreader.emitter.constant(axes, np.int64)
        reduced = spreader.emit("ReduceSum", [value, constant], {"keepdims": keep})
        terms.append(replace(term, value=reduced, scale=term.scale * scale * times))
    if form.axis is None or form.axis in axes:
        return Form(spreader.shape, None, tuple(Term(term.value, term.scale) for term in terms))
    axis = form.axis if keep else form.axis - sum(other < form.axis for other in axes)
    return Form(spreader.shape, axis, tuple(terms))


def _times_repeated(term: Term, form: Form, axes: list[int], spreader: Spreader) -> int | None:
    """How often a term that is broadcast along reduced axes is added."""
    shape = spreader.emitter.shape(term.value)
    if len(shape) != len(form.shape):
        return None
    times = 1
    for axis in axes:
        length = form.shape[axis]
        if axis != form.axis and shape[axis] == 1 and isinstance(length, int):
            times *= length
    return times


def _operand(name: str, spreader: Spreader) -> Form:
    """A value's form; a constant with as many axes as the sum."""
    values = spreader.emitter.graph.constants.get(name)
    rank = len(spreader.shape)
    if values is not None and values.ndim < rank:
        name = spreader.emitter.constant(values.reshape((1,) * (rank - values.ndim) + values.shape), values.dtype)
    return spreader.form(name)


def _negative(form: Form) -> Form:
    return replace(form, terms=tuple(replace(term, scale=-term.scale) for term in form.terms))
