"""A graph as the lowering reads it: sizes are constants, and of every value it is proved where its rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from rankine.compilation.binding.analysis import Refusal, analyze
from rankine.compilation.binding.dims import Rows, Shape
from rankine.compilation.binding.facts import Fact
from rankine.compilation.binding.lattice import Binding
from rankine.compilation.binding.normalize import normalized
from rankine.errors import EngineError
from rankine.models.rewrite.graph import Graph

__all__ = ["Prepared", "dims_of_row", "prepared"]

_OLDEST_OPSET = 13
"""From here on a softmax works along one axis, and sizes are inputs."""


@dataclass(frozen=True)
class Prepared:
    """A graph, and what is proved of its values.

    Attributes:
        facts: by value; one without a shape depends on several rows, or nothing is known of it.
        refusals: why, by the value that a node computes.
    """

    graph: Graph
    facts: Mapping[str, Fact]
    refusals: tuple[Refusal, ...]


def prepared(model: onnx.ModelProto) -> Prepared:
    """The graph of ``model`` with the same results, and its facts.

    Raises:
        EngineError: the opset is too old.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < _OLDEST_OPSET:
        raise EngineError("the graph's opset is too old", got=opset, allowed=f"{_OLDEST_OPSET} or newer")
    sides = {value.name: Binding.CANDIDATE for value in model.graph.input}
    graph = normalized(model, sides)
    analysis = analyze(graph, sides)
    return Prepared(graph, analysis.facts, analysis.refusals)


def dims_of_row(shape: Shape) -> tuple[int, ...]:
    """Sizes within a row: where the rows lie, how many places of that axis a row has."""
    return tuple(dim.factor if isinstance(dim, Rows) else dim for dim in shape)
