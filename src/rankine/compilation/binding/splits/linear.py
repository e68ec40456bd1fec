"""Linear layers over a concatenation or a sum: a sum of products, one for each time at which a part is known.

``W [r; i; c] + b = W_r r + W_i i + W_c c + b``; and ``W (x + y) = W x + W y``. So ``W x0`` of the first cross layer of
a DCN-v2, the first layer of an MLP, and the gates and experts of an MMoE. A term that lies at several places, such as
``k`` of ``[k, q - k]`` in DIN, is multiplied once: ``W_1 k + W_2 (q - k) = (W_1 - W_2) k + W_2 q``.
Parts of a rounded weight keep its scales, and are multiplied with what is rounded right before: their accumulators add
up to those of the whole, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from rankine.compilation.binding.forms import Form, Term, along, cancels, concatenated, selected
from rankine.compilation.binding.lattice import EARLY, Binding
from rankine.compilation.binding.splits.spreader import Spreader
from rankine.compilation.binding.weights import PlainWeight, RoundedWeight, Weight, read_weight
from rankine.models.rewrite.graph import attribute

__all__ = ["linear"]

_MOVES = ("Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def linear(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """``Gemm`` or ``MatMul`` with constant weights; None where as much would be left to do per row as before."""
    layer = node.output[0]
    weight = read_weight(spreader.emitter, node)
    form = spreader.form(node.input[0])
    lying = along(form, len(form.shape) - 1, spreader.emitter)
    if weight is None or lying is None or cancels(lying, spreader.emitter):
        return None
    early = [term for term in lying.terms if _is_early(term, layer, spreader)]
    late = [term for term in lying.terms if not _is_early(term, layer, spreader)]
    if not any(spreader.binding(term) in EARLY for term in early) or _width(late) >= lying.length:
        return None
    if isinstance(weight, PlainWeight):
        late = _side_by_side(late, lying, spreader)
    terms: list[Term] = []
    for value in dict.fromkeys(term.value for term in (*early, *late)):
        own = _products([term for term in (*early, *late) if term.value == value], node, lying, weight, spreader)
        if own is None:
            return None
        terms += own
    for term in terms:
        spreader.products.setdefault((layer, spreader.binding(term)), []).append(term.value)
    return Form(spreader.shape, None, (*terms, *_bias(node, spreader)))


def _is_early(term: Term, layer: str, spreader: Spreader) -> bool:
    binding = spreader.binding(term)
    return binding is not Binding.CANDIDATE and (layer, binding) not in spreader.late


def _width(late: Sequence[Term]) -> int:
    """Columns that are multiplied for every row."""
    return len({(term.value, int(place)) for term in late for place in term.places[0]})


def _side_by_side(late: Sequence[Term], form: Form, spreader: Spreader) -> list[Term]:
    """Terms that are multiplied for every row as one, where they do not overlap: one product instead of several."""
    positions = [int(place) for term in late for place in term.places[1]]
    others = {spreader.emitter.shape(term.value)[:-1] for term in late}
    apart = len(set(positions)) == len(positions) and len({term.value for term in late}) == len(late)
    if len(late) < 2 or not apart or len(others) > 1 or any(term.scale != 1 for term in late):
        return list(late)
    return [concatenated(late, len(form.shape) - 1, spreader.emitter)]


def _products(
    own: Sequence[Term], node: onnx.NodeProto, form: Form, weight: Weight, spreader: Spreader
) -> list[Term] | None:
    """What one value contributes. Where it lies at several places, and is known per row, their weights are added up,
    so that it is multiplied once; before, one product a place is as good, and keeps the weights as they are."""
    axis = len(form.shape) - 1
    distinct = all(len(set(term.places[0].tolist())) == len(term.places[0]) for term in own)
    if distinct and (len(own) == 1 or spreader.binding(own[0]) is not Binding.CANDIDATE):
        values = [_rounded(selected(term, axis, spreader.emitter), node.input[0], spreader) for term in own]
        rows = [weight.rows(term.places[1]) for term in own]
        return [
            Term(spreader.emit("MatMul", [value, part]), term.scale)
            for value, part, term in zip(values, rows, own, strict=True)
        ]
    if isinstance(weight, RoundedWeight):
        return None
    used = np.unique(np.concatenate([term.places[0] for term in own]))
    pairs = [(term.scale, np.searchsorted(used, term.places[0]), term.places[1]) for term in own]
    chosen = selected(Term(own[0].value, source=used, positions=used), axis, spreader.emitter)
    return [Term(spreader.emit("MatMul", [chosen, weight.mixed(pairs, len(used))]))]


def _rounded(value: str, like: str, spreader: Spreader) -> str:
    """A value whose elements are some of ``like``'s: rounded once more if that is rounded, which changes nothing.
    Engines multiply integers only where they see the rounding; ONNX Runtime else rounds by a scale of its own."""
    producers = spreader.emitter.producers
    rounding = producers.get(like)
    while rounding is not None and rounding.op_type in _MOVES:
        rounding = producers.get(rounding.input[0])
    if rounding is None or rounding.op_type != "DequantizeLinear" or len(rounding.input) < 3:
        return value
    if spreader.emitter.shape(rounding.input[1]) not in ((), (1,)):
        return value
    if value in producers and producers[value].op_type == "DequantizeLinear":
        return value
    codes = spreader.emit("QuantizeLinear", [value, *rounding.input[1:]])
    return spreader.emit("DequantizeLinear", [codes, *rounding.input[1:]])


def _bias(node: onnx.NodeProto, spreader: Spreader) -> tuple[Term, ...]:
    if len(node.input) < 3 or not node.input[2]:
        return ()
    return (Term(node.input[2], scale=attribute(node, "beta", 1.0)),)
