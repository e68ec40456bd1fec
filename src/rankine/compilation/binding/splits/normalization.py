"""Batch normalization with the statistics of training: one factor and one summand a channel.

``(x - mean) / sqrt(variance + epsilon) * scale + bias``, of each part alone. (A normalization over the columns of
a row, a softmax among them, needs all of the row: it is not split.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from rankine.compilation.binding.forms import Form, Term, along
from rankine.compilation.binding.splits.elementwise import times
from rankine.compilation.binding.splits.spreader import Spreader
from rankine.models.rewrite.graph import attribute

__all__ = ["batch_norm"]


def batch_norm(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """Of ``(rows, channels, ...)``."""
    given = [spreader.emitter.graph.constants.get(name) for name in node.input[1:5]]
    known = [values.astype(np.float64) for values in given if values is not None]
    form = spreader.form(node.input[0])
    if len(known) < 4:
        return None
    scale, bias, mean, variance = known
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    sizes = (1, -1, *[1] * (len(form.shape) - 2))
    found = times(form, factor.reshape(sizes), spreader)
    if found is None:
        return None
    offset = spreader.emitter.constant((bias - mean * factor).reshape(sizes))
    whole = Form(found.shape, None, (Term(offset),))
    shift = whole if found.axis is None else along(whole, found.axis, spreader.emitter)
    return None if shift is None else replace(found, terms=(*found.terms, *shift.terms))
