"""From a model's graph to a program: lowered operator by operator, then fused, then placed."""

from __future__ import annotations

import onnx

from rankine.compilation.fused.coalesce import coalesce
from rankine.compilation.fused.drafting import Drafting, Refused
from rankine.compilation.fused.emit import emitted
from rankine.compilation.fused.fuse_linear import fuse_linears
from rankine.compilation.fused.fuse_rounding import fuse_factors, fuse_rectifiers
from rankine.compilation.fused.fuse_sums import fuse_sums
from rankine.compilation.fused.merge_layers import merge_layers
from rankine.compilation.fused.places import compute_in_place
from rankine.compilation.fused.prepare import prepared
from rankine.compilation.fused.program import Program
from rankine.compilation.fused.spread_constants import spread_constants
from rankine.compilation.fused.steps import Draft
from rankine.errors import EngineError
from rankine.models.variant import Model

__all__ = ["drafted", "lower", "lower_graph", "unsupported"]


def lower(model: Model) -> Program:
    """The program of a model's graph: its inputs are one a feature, or ``model.inputs``, in their order; or one of all
    of them side by side.

    Raises:
        EngineError: names each node that the engine cannot run, its operator and why; another engine runs the graph.
    """
    graph = onnx.load(str(model.graph))
    expected = [given.name for given in model.inputs] or [feature.name for feature in model.schema.features]
    found = [value.name for value in graph.graph.input]
    if found != expected and len(found) != 1:
        raise EngineError(
            "the graph reads other inputs than the model says",
            where=str(model.graph),
            got=", ".join(found),
            allowed=", ".join(expected),
        )
    return lower_graph(graph)


def unsupported(graph: onnx.ModelProto) -> list[str]:
    """Why the engine cannot run a graph: each node that stands in the way, with its operator and the reason; nothing
    where it can."""
    try:
        Drafting(prepared(graph)).draft()
    except Refused as refused:
        return list(refused.reasons)
    except EngineError as error:
        return [str(error)]
    return []


def lower_graph(graph: onnx.ModelProto) -> Program:
    """The program of a graph with one output ``(rows, tasks)``.

    Raises:
        EngineError: as :func:`lower`.
    """
    draft = drafted(graph)
    compute_in_place(draft)
    return emitted(draft)


def drafted(graph: onnx.ModelProto) -> Draft:
    """The steps of a graph, fused; nothing of them is native yet.

    Raises:
        EngineError: as :func:`lower`.
    """
    draft = Drafting(prepared(graph)).draft()
    draft.prune()
    fuse_factors(draft)
    fuse_sums(draft)
    draft.prune()
    fuse_linears(draft)
    fuse_rectifiers(draft)
    draft.prune()
    coalesce(draft)
    merge_layers(draft)
    spread_constants(draft)
    return draft
