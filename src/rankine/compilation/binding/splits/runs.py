"""Neighbors in a concatenation that are known at the same time, put side by side before: one value to fetch, not many.

``Concat(a, b, c) = Concat(Concat(a, b), c)``, exactly.
"""

from __future__ import annotations

from itertools import groupby

import onnx

from rankine.compilation.binding.lattice import EARLY, Binding
from rankine.compilation.binding.splits.spreader import Spreader
from rankine.models.rewrite.graph import attribute

__all__ = ["with_runs"]


def with_runs(node: onnx.NodeProto, spreader: Spreader) -> onnx.NodeProto:
    """A concatenation of what is known per row, its early neighbors joined; any other node as it is."""
    emitter = spreader.emitter
    sides = [emitter.binding(name) for name in node.input if name]
    if node.op_type != "Concat" or Binding.CONSTANT in sides or len({*sides} & {*EARLY}) == len({*sides}) == 1:
        return node
    if any(not emitter.facts[name].crosses for name in node.input):
        return node
    joined: list[str] = []
    axis = attribute(node, "axis")
    for side, group in groupby(node.input, key=emitter.binding):
        run = list(group)
        if len(run) > 1 and side in EARLY:
            run = [emitter.emit("Concat", run, {"axis": axis})]
        joined += run
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = joined
    return copy
