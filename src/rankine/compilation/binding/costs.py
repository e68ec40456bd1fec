"""What it costs to compute a value for every row, and what to fetch it, in multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rankine.compilation.binding.dims import Rows, Shape, size_of_row
from rankine.config import Frozen

if TYPE_CHECKING:
    import onnx

    from rankine.compilation.binding.facts import Fact

__all__ = ["BYTES_OF", "SCALE_BYTES", "CostModel", "Storage", "row_macs"]

Storage = Literal["float32", "float16", "int8"]
BYTES_OF: Mapping[Storage, int] = {"float32": 4, "float16": 2, "int8": 1}
SCALE_BYTES = 8
"""Of the scale and the bias of a row of INT8."""

_FREE = ("Cast", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze")
"""Views, and what engines fuse."""
_PRODUCTS = ("Einsum", "Gemm", "MatMul")
_SLOW = ("Erf", "Exp", "Gelu", "Log", "LogSoftmax", "Pow", "Sigmoid", "Softmax", "Softplus", "Tanh")


class CostModel(Frozen):
    """Prices, all in multiply-adds of a linear layer.

    Where they come from: a core does about 45 multiply-adds a nanosecond in FP32, reads about 10 bytes a nanosecond of
    rows scattered in memory, and some 30 out of a cache.

    Attributes:
        catalog_byte: for each byte of an item's row, fetched from anywhere in the catalog.
        request_byte: for each byte of what all rows of a request share: it stays in the cache.
        element: for each element that an elementwise operator writes; ``slow_element`` where it is transcendental.
    """

    catalog_byte: float = Field(default=4.0, ge=0)
    request_byte: float = Field(default=1.0, ge=0)
    element: float = Field(default=2.0, ge=0)
    slow_element: float = Field(default=16.0, ge=0)

    def per_row(self, node: onnx.NodeProto, facts: Mapping[str, Fact]) -> float:
        """Of a node that is run for every row."""
        if node.op_type in _FREE:
            return 0.0
        if node.op_type in _PRODUCTS:
            return row_macs(node, facts)
        price = self.slow_element if node.op_type in _SLOW else self.element
        shapes = [facts[name].shape for name in (*node.input, *node.output) if name]
        return price * max((size_of_row(shape) for shape in shapes if shape is not None), default=0)


def row_macs(node: onnx.NodeProto, facts: Mapping[str, Fact]) -> float:
    """Multiply-adds of a node for one row."""
    from rankine.models.macs import node_macs  # needs onnx, which a server, which reads plans, does not have

    shapes = {name: _of_one_row(facts[name].shape) for name in (*node.input, *node.output) if name}
    return node_macs(node, {name: shape for name, shape in shapes.items() if shape is not None}, set(), 1)


def _of_one_row(shape: Shape | None) -> tuple[int, ...] | None:
    return None if shape is None else tuple(dim.factor if isinstance(dim, Rows) else dim for dim in shape)
