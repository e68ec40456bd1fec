"""Rewrites that push work out of the candidate's graph, each with its own reason why nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from rankine.compilation.binding.analysis import judge
from rankine.compilation.binding.dims import Unprovable
from rankine.compilation.binding.emitter import Emitter
from rankine.compilation.binding.forms import Form, covers, is_worth_it, regrouped, scaled, total
from rankine.compilation.binding.lattice import Binding
from rankine.compilation.binding.rules.elementwise import ROUNDING, UNARY
from rankine.compilation.binding.splits.concat import concat
from rankine.compilation.binding.splits.dots import pairwise
from rankine.compilation.binding.splits.elementwise import product, quotient, unary
from rankine.compilation.binding.splits.linear import linear
from rankine.compilation.binding.splits.movement import gather, reshape, slices, squeeze, transpose, unsqueeze
from rankine.compilation.binding.splits.normalization import batch_norm
from rankine.compilation.binding.splits.runs import with_runs
from rankine.compilation.binding.splits.spreader import Late, Spreader
from rankine.compilation.binding.splits.sums import add, reduce_sum
from rankine.models.rewrite.graph import Graph, renamed

__all__ = ["SPLITS", "spread"]

Split = Callable[[onnx.NodeProto, Spreader], Form | None]


def _reshaped(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    return pairwise(node, spreader) or reshape(node, spreader)


SPLITS: Mapping[str, Split] = {
    **dict.fromkeys((*UNARY, *ROUNDING, "Max", "Min", "Pow"), unary),
    **dict.fromkeys(("Add", "Neg", "Sub", "Sum"), add),
    **dict.fromkeys(("Gemm", "MatMul"), linear),
    **dict.fromkeys(("ReduceMean", "ReduceSum"), reduce_sum),
    "BatchNormalization": batch_norm,
    "Concat": concat,
    "Div": quotient,
    "Gather": gather,
    "Mul": product,
    "Reshape": _reshaped,
    "Slice": slices,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
"""By operator: what is known of the parts of a node's output from the parts of its inputs."""


def spread(graph: Graph, sides: Mapping[str, Binding], late: Late = frozenset()) -> Spreader:
    """The graph with every sum of parts that are known at different times written as a sum of what is known when.

    Args:
        graph: normalized.
        late: layers that are not to be split, and by which sides.
    """
    emitter = Emitter(graph, sides)
    spreader = Spreader(emitter, late)
    for node in graph.nodes:
        node = with_runs(renamed(node, emitter.aliases), spreader)
        form = _form(node, spreader)
        if form is None or form.axis is not None or not covers(form, emitter):
            emitter.keep(node)
        else:
            total([scaled(term, emitter) for term in form.terms], emitter, output=node.output[0])
        if form is not None:
            spreader.forms[emitter.aliases.get(node.output[0], node.output[0])] = form
    emitter.graph.prune()
    return spreader


def _form(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """Of what is known per row, and has parts that are known before."""
    emitter = spreader.emitter
    facts, _ = judge(node, emitter.facts, emitter.graph.constants)
    fact = facts.get(node.output[0])
    rule = SPLITS.get(node.op_type)
    if rule is None or fact is None or fact.shape is None or fact.binding is not Binding.CANDIDATE:
        return None
    if fact.content is not None:
        return None
    spreader.shape = fact.shape
    try:
        form = rule(node, spreader)
    except Unprovable:
        return None
    if form is None or form.shape != fact.shape or not is_worth_it(form, emitter):
        return None
    return regrouped(form, emitter)
