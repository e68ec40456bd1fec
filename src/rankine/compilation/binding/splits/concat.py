"""A concatenation as a sum of its parts, those known at the same time side by side.

``Concat(a, b, c) = P_a a + P_b b + P_c c`` with places ``P`` that do not overlap: no arithmetic at all. (A part
that is a difference of values of the same features stays one.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from rankine.compilation.binding.forms import Form, Term, along, cancels, regrouped
from rankine.compilation.binding.splits.spreader import Spreader
from rankine.models.rewrite.graph import attribute

__all__ = ["concat"]


def concat(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """The parts, and where they lie. What has to work place by place (an activation, a rounding) finds in
    ``spreader.apart`` the same with each part whole that is a sum itself, such as ``q - k`` of DIN's ``[k, q - k]``."""
    axis = attribute(node, "axis") % len(spreader.shape)
    forms = [spreader.form(name) for name in node.input]
    wholes = [Form(spreader.emitter.shape(name), None, (Term(name),)) for name in node.input]
    fine = [
        whole if cancels(form, spreader.emitter) or along(form, axis, spreader.emitter) is None else form
        for form, whole in zip(forms, wholes, strict=True)
    ]
    found = _side_by_side(fine, axis, spreader)
    if found is not None and not found.is_disjoint:
        single = [form if _is_apart(form, axis, spreader) else whole for form, whole in zip(fine, wholes, strict=True)]
        apart = _side_by_side(single, axis, spreader)
        if apart is not None:
            spreader.apart[node.output[0]] = regrouped(apart, spreader.emitter)
    return found


def _is_apart(form: Form, axis: int, spreader: Spreader) -> bool:
    lying = along(form, axis, spreader.emitter)
    return lying is not None and lying.is_disjoint


def _side_by_side(forms: Sequence[Form], axis: int, spreader: Spreader) -> Form | None:
    terms: list[Term] = []
    start = 0
    for form in forms:
        lying = along(form, axis, spreader.emitter)
        if lying is None:
            return None
        for term in lying.terms:
            source, positions = term.places
            terms.append(replace(term, source=source, positions=np.asarray(positions) + start))
        start += lying.length
    return Form(spreader.shape, axis, tuple(terms))
