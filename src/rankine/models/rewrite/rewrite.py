"""A ranking model that reads ids, as an ONNX graph, becomes a dense graph, embedding tables, and links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rankine.models.columns import Batch
from rankine.models.export import OPSET, OUTPUT
from rankine.models.random_rows import random_batch
from rankine.models.rewrite.embedding_bag import EMBEDDING_BAG, rewrite_bag
from rankine.models.rewrite.errors import RewriteError
from rankine.models.rewrite.fold import fold_batch_norms, remove_dropout
from rankine.models.rewrite.graph import Graph, numbered
from rankine.models.rewrite.guards import GUARDS, rewrite_guard
from rankine.models.rewrite.link import Link, join_logits
from rankine.models.rewrite.lookups import rewrite_gather, rewrite_gather_elements, rewrite_gather_nd
from rankine.models.rewrite.masks import COMPARISONS, rewrite_comparison, rewrite_to_bool
from rankine.models.rewrite.one_hot import rewrite_concat, rewrite_gemm, rewrite_matmul, rewrite_one_hot
from rankine.models.rewrite.prepare import prepare
from rankine.models.rewrite.prove import TOLERANCE, largest_difference
from rankine.models.rewrite.shapes import Shapes
from rankine.models.rewrite.walk import Handler, Walk
from rankine.models.schema import Schema

__all__ = ["Rewritten", "check_equal", "rewrite"]

_PROOF_ROWS = 24

_HANDLERS: dict[str, Handler] = {
    "Gather": rewrite_gather,
    "GatherND": rewrite_gather_nd,
    "GatherElements": rewrite_gather_elements,
    "OneHot": rewrite_one_hot,
    "Cast": rewrite_to_bool,
    "Concat": rewrite_concat,
    "MatMul": rewrite_matmul,
    "Gemm": rewrite_gemm,
    EMBEDDING_BAG: rewrite_bag,
    **dict.fromkeys(COMPARISONS, rewrite_comparison),
    **dict.fromkeys(GUARDS, rewrite_guard),
}


@dataclass(frozen=True)
class Rewritten:
    """A model in the form that engines build from.

    Attributes:
        graph: one float32 input ``(rows, width)`` per feature, named after it, in the schema's order; output
            ``logits`` ``(rows, tasks)``; ``rows`` is dynamic.
        tables: by table name, float32 ``(vocabulary, dim)``.
        links: of each task: what makes a score of its logit.
        notes: what was rewritten, in sentences.
        difference: the largest on random rows, ``|a - b| / max(1, |b|)``.
    """

    graph: onnx.ModelProto
    tables: Mapping[str, np.ndarray]
    links: tuple[Link, ...]
    notes: tuple[str, ...]
    difference: float = 0.0


def rewrite(model: onnx.ModelProto, schema: Schema) -> Rewritten:
    """Move everything that reads ids out of a model's graph, and prove the two equal on random rows.

    Args:
        model: reads ids, as ``schema.call`` says; may have ``rankine.EmbeddingBag`` nodes.

    Raises:
        RewriteError: names the operator that cannot be rewritten, its place in the model, and what to change.
        ConfigError: the call does not fit the features.
    """
    graph = prepare(model, schema)
    shapes = Shapes(graph, schema)
    walk = Walk(graph, schema, shapes, _HANDLERS)
    walk.run()
    graph.nodes = walk.nodes
    links = join_logits(graph, schema, shapes)
    definitions, tables, widths = walk.sources.finish()
    graph.nodes = [*definitions, *graph.nodes]
    graph.prune()
    notes = [*walk.notes, *remove_dropout(graph), *fold_batch_norms(graph, shapes)]
    notes += [f"task '{task.name}': {_LINK_NOTES[link]}" for task, link in zip(schema.tasks, links, strict=True)]
    built = _built(graph, schema, widths)
    rewritten = Rewritten(built, tables, links, tuple(notes))
    difference = _proved(model, rewritten, schema, walk.guesses)
    return Rewritten(built, tables, links, tuple(notes), difference)


def check_equal(original: onnx.ModelProto, rewritten: Rewritten, schema: Schema, batch: Batch) -> float:
    """The largest difference of a rewritten model to its original on ``batch``, encoded rows.

    Returns:
        The largest ``|a - b| / max(1, |b|)``, at most 1e-5.

    Raises:
        RewriteError: it is larger.
    """
    difference = largest_difference(original, rewritten.graph, rewritten.tables, rewritten.links, schema, batch)
    if difference <= TOLERANCE:
        return difference
    raise RewriteError(
        "the rewritten model's outputs differ from the original's",
        got=f"{difference:.3g}",
        allowed=f"|a - b| <= {TOLERANCE} * max(1, |b|)",
        hint="Check that the features, their sizes and forms under 'call' are those of the model.",
    )


_LINK_NOTES: dict[Link, str] = {
    "sigmoid": "the final sigmoid is its link",
    "identity": "the output has no final sigmoid, its link is the identity",
}


def _proved(model: onnx.ModelProto, rewritten: Rewritten, schema: Schema, guesses: list[str]) -> float:
    batch = random_batch(schema, {name: len(rows) for name, rows in rewritten.tables.items()}, _PROOF_ROWS)
    try:
        return check_equal(model, rewritten, schema, batch)
    except RewriteError as error:
        if not guesses:
            raise
        raise RewriteError(
            "reads ids of the packed matrix as numbers",
            where=guesses[0],
            got=error.got,
            hint="Take the dense columns out of the matrix before they are used.",
        ) from None


def _built(graph: Graph, schema: Schema, widths: Mapping[str, int]) -> onnx.ModelProto:
    """The graph as a model, simplified and checked.

    Raises:
        RewriteError: it still reads ids.
    """
    inputs = [
        helper.make_tensor_value_info(f.name, onnx.TensorProto.FLOAT, ["rows", widths[f.name]]) for f in schema.features
    ]
    output = helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["rows", len(schema.tasks)])
    read = {name for node in graph.nodes for name in node.input}
    left = read & {value.name for value in graph.inputs}
    if left:
        raise TypeError(f"{numbered(left)}: every argument was replaced before")
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)
        for name, values in graph.constants.items()
        if name in read
    ]
    built = helper.make_model(
        helper.make_graph(graph.nodes, "dense", inputs, [output], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
        producer_name="rankine",
    )
    built = _simplified(built)
    onnx.checker.check_model(built, full_check=True)
    return built


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Equal nodes and constants merged, dead ones dropped, names of source files removed.

    Not by ``onnxscript.optimizer``: its patterns take ``x + 1e-8`` for ``x + 0``, and a mean over no values for NaN.
    """
    import onnx_ir.passes.common as passes
    from onnx_ir import serde

    simple = serde.deserialize_model(model)
    # The output of a subgraph must be made inside of it, if only by an Identity.
    nested = any(entry.HasField("g") for node in model.graph.node for entry in node.attribute)
    for simplify in (
        *(() if nested else (passes.IdentityEliminationPass(),)),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.ClearMetadataAndDocStringPass(),
    ):
        simplify(simple)
    result = serde.serialize_model(simple)
    del result.graph.value_info[:]
    return result
