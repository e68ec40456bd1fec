"""A part that is one product of its features with constants: looked up and multiplied, by no engine.

The request's part of a small model often is: its layers over the request's embeddings, side by side. For one row the
call of an engine takes many times as long as the product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankine.compilation.host_runner import check_out, parts_of
from rankine.compilation.lookup import HostLookup
from rankine.models.columns import Batch, Columns

if TYPE_CHECKING:
    import onnx

__all__ = ["ProductRunner", "product_of"]


class ProductRunner:
    """A :class:`~rankine.compilation.engine.Runner`.

    Args:
        lookup: gives the features, ``(rows, width)``.
        matrix: float32 ``(width, columns)``.
    """

    def __init__(self, lookup: HostLookup, matrix: np.ndarray) -> None:
        self._lookup, self._matrix = lookup, matrix

    def run(self, batch: Batch, out: np.ndarray) -> None:
        check_out(out, batch, self._matrix.shape[1])
        for rows, part in parts_of(batch, self._lookup.width):
            features = np.empty((part.rows, self._lookup.width), np.float32)
            self._lookup.run(part, features)
            np.matmul(features, self._matrix, out=out[rows])

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        """It holds nothing."""


def product_of(model: onnx.ModelProto) -> np.ndarray | None:
    """The constants ``(width, columns)`` of a graph that is one product of its inputs side by side, in their order.

    None for any other graph.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = [value.name for value in graph.input]
    nodes = list(graph.node)
    if len(names) > 1:
        first = nodes.pop(0) if nodes else None
        if first is None or first.op_type != "Concat" or list(first.input) != names:
            return None
        names = list(first.output)
    if len(nodes) != 1 or nodes[0].op_type != "MatMul" or nodes[0].input[0] != names[0]:
        return None
    weights = constants.get(nodes[0].input[1])
    return None if weights is None else np.ascontiguousarray(numpy_helper.to_array(weights), np.float32)
