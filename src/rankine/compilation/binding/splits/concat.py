"""A concatenation as a sum of its parts, those known at the same time side by side.

``Concat(a, b, c) = P_a a + P_b b + P_c c`` with places ``P`` that do not overlap: no arithmetic at all. (A part
that is a difference of values of the same features stays one.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from rankine.compilation.binding.forms import Form, Term, along, cancels
from rankine.compilation.binding.splits.spreader import Spreader
from rankine.models.rewrite.graph import attribute

__all__ = ["concat"]


def concat(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """The parts, and where they lie."""
    axis = attribute(node, "axis") % len(spreader.shape)
    terms: list[Term] = []
    start = 0
    for name in node.input:
        own = spreader.form(name)
        form = None if cancels(own, spreader.emitter) else along(own, axis, spreader.emitter)
        if form is None:
            whole = Form(spreader.emitter.shape(name), None, (Term(name),))
            form = along(whole, axis, spreader.emitter)
        if form is None:
            return None
        for term in form.terms:
            source, positions = term.places
            terms.append(replace(term, source=source, positions=np.asarray(positions) + start))
        start += form.length
    return Form(spreader.shape, axis, tuple(terms))
