"""``nn.EmbeddingBag`` in an exported program: one operator of our own, which the ONNX exporter keeps as one node.

PyTorch's exporter would write a bag as a Loop over sequences, which engines run many times slower, or not at all. As
a node it can be recognized by its inputs and becomes a lookup, outside of the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["DOMAIN", "NODE", "keep_embedding_bags", "translation_table"]

DOMAIN = "rankine"
NODE = "EmbeddingBag"

_MODES = ("sum", "mean", "max")
_NO_PADDING = -1
_SIGNATURE = (
    "embedding_bag(Tensor weight, Tensor values, Tensor offsets, Tensor? per_sample_weights, str mode, "
    "bool include_last_offset, int padding_idx) -> Tensor"
)
_RESHAPES = (torch.ops.aten.reshape.default, torch.ops.aten.view.default)

Given = Mapping[str, Any]
"""Arguments of one ``aten.embedding_bag`` by name, defaults filled in."""


def keep_embedding_bags(program: torch.export.ExportedProgram) -> int:
    """Replace every ``aten.embedding_bag`` of ``program``, in place; returns how many there were.

    A bag of a matrix of ids, which has no offsets of its own, becomes an embedding and a reduction over its columns.
    """
    graph = program.graph
    bags = [node for node in graph.nodes if node.op == "call_function" and node.target in _BAGS]
    for node in bags:
        given = _arguments(node)
        before = set(graph.nodes)
        with graph.inserting_before(node):
            ids = _matrix(given)
            pooled = _kept(graph, given) if ids is None else _reduced(graph, given, ids)
        for new in set(graph.nodes) - before:  # where in the model it came from
            new.meta |= {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}
        for user in list(node.users):
            if user.target is operator.getitem and user.args[1] == 0:
                pooled.meta["val"] = user.meta["val"]
                user.replace_all_uses_with(pooled)
            graph.erase_node(user)
        graph.erase_node(node)
    if bags:
        graph.eliminate_dead_code()
        graph.lint()
        program.graph_module.recompile()
    return len(bags)


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """How ``torch.onnx.export`` writes our operator: ``rankine.EmbeddingBag(weight, values, offsets[, weights])``."""
    node = _onnx_operator()

    def translate(
        weight: Any, values: Any, offsets: Any, weights: Any, mode: str, include_last_offset: bool, padding_idx: int
    ) -> Any:
        inputs = (weight, values, offsets) if weights is None else (weight, values, offsets, weights)
        return node(*inputs, mode=mode, include_last_offset=int(include_last_offset), padding_idx=padding_idx)

    return {_operator(): translate}


_BAGS = (torch.ops.aten.embedding_bag.default, torch.ops.aten.embedding_bag.padding_idx)


def _arguments(node: fx.Node) -> Given:
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    defaults = {argument.name: argument.default_value for argument in node.target._schema.arguments}  # type: ignore[union-attr]
    return {"padding_idx": None, **defaults, **dict(zip(names, node.args, strict=False)), **node.kwargs}


def _kept(graph: fx.Graph, given: Given) -> fx.Node:
    padding = _NO_PADDING if given["padding_idx"] is None else given["padding_idx"]
    arguments = (
        given["weight"],
        given["indices"],
        given["offsets"],
        given["per_sample_weights"],
        _MODES[given["mode"]],
        given["include_last_offset"],
        padding,
    )
    return graph.call_function(_operator(), arguments)


def _matrix(given: Given) -> fx.Node | None:
    """The matrix of ids ``(rows, n)`` of a bag that ``functional.embedding_bag`` flattened; None where it did not."""
    indices, offsets, weights = given["indices"], given["offsets"], given["per_sample_weights"]
    made = offsets.target is torch.ops.aten.arange.start_step and indices.target in _RESHAPES
    if not made or (weights is not None and weights.target not in _RESHAPES):
        return None
    if given["padding_idx"] is not None and _MODES[given["mode"]] == "max":
        return None  # a maximum over fewer ids, of none zero: left to whoever reads the node
    ids: fx.Node = indices.args[0]
    return ids if ids.meta["val"].dim() == 2 else None


def _reduced(graph: fx.Graph, given: Given, ids: fx.Node) -> fx.Node:
    """Sum, mean or maximum over the columns of ``embedding(ids)``, ``(rows, n, dim)``."""
    aten = torch.ops.aten
    mode = _MODES[given["mode"]]
    rows = graph.call_function(aten.embedding.default, (given["weight"], ids))
    if given["per_sample_weights"] is not None:
        weights = graph.call_function(aten.unsqueeze.default, (given["per_sample_weights"].args[0], -1))
        rows = graph.call_function(aten.mul.Tensor, (rows, weights))
    if given["padding_idx"] is None:
        reduce = {"sum": aten.sum.dim_IntList, "mean": aten.mean.dim, "max": aten.amax.default}[mode]
        return graph.call_function(reduce, (rows, [1]))
    valid = graph.call_function(aten.ne.Scalar, (ids, given["padding_idx"]))
    column = graph.call_function(aten.unsqueeze.default, (valid, -1))
    mask = graph.call_function(aten._to_copy.default, (column,), {"dtype": torch.float32})
    total = graph.call_function(aten.sum.dim_IntList, (graph.call_function(aten.mul.Tensor, (rows, mask)), [1]))
    if mode == "sum":
        return total
    count = graph.call_function(aten.clamp.default, (graph.call_function(aten.sum.dim_IntList, (mask, [1])), 1))
    return graph.call_function(aten.div.Tensor, (total, count))


@cache
def _library() -> torch.library.Library:
    """Holds the operator's registration; it has no implementation, since it is exported and never run."""
    library = torch.library.Library(DOMAIN, "FRAGMENT")
    library.define(_SIGNATURE)

    def shape(
        weight: Tensor,
        values: Tensor,
        offsets: Tensor,
        per_sample_weights: Tensor | None,
        mode: str,
        include_last_offset: bool,
        padding_idx: int,
    ) -> Tensor:
        return weight.new_empty((offsets.shape[0] - int(include_last_offset), weight.shape[1]))

    torch.library.register_fake(f"{DOMAIN}::embedding_bag", shape, lib=library)
    return library


def _operator() -> Any:
    _library()
    return torch.ops.rankine.embedding_bag.default


@cache
def _onnx_operator() -> Any:
    import onnx
    import onnxscript

    schema = onnx.defs.OpSchema
    parameter, optional = schema.FormalParameter, schema.FormalParameterOption.Optional
    inputs = [parameter("weight", "T"), parameter("values", "I"), parameter("offsets", "I")]
    return onnxscript.values.Op(
        onnxscript.values.Opset(DOMAIN, 1),
        NODE,
        schema(
            NODE,
            DOMAIN,
            1,
            inputs=[*inputs, parameter("per_sample_weights", "T", param_option=optional)],
            outputs=[parameter("pooled", "T")],
            type_constraints=[("T", ["tensor(float)"], ""), ("I", ["tensor(int32)", "tensor(int64)"], "")],
            attributes=[
                schema.Attribute("mode", schema.AttrType.STRING),
                schema.Attribute("include_last_offset", schema.AttrType.INT),
                schema.Attribute("padding_idx", schema.AttrType.INT),
            ],
        ),
    )
