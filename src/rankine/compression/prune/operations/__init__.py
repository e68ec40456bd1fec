"""Operators by how pruning sees them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import onnx

from rankine.compression.prune.operation import Free, Opaque, Operation
from rankine.compression.prune.operations.along import ALONG, along
from rankine.compression.prune.operations.contraction import contraction
from rankine.compression.prune.operations.elementwise import ELEMENTWISE, Elementwise
from rankine.compression.prune.operations.movement import movement
from rankine.models.rewrite.graph import reads

if TYPE_CHECKING:
    from rankine.compression.prune.trace import Trace

__all__ = ["operation_of"]

_MEASURES = ("Shape", "Size")


def operation_of(trace: Trace, node: onnx.NodeProto, dependent: AbstractSet[str]) -> Operation:
    """How pruning sees a node, given the values that depend on the inputs; what is not known keeps all it reads."""
    data = tuple(dict.fromkeys(name for name in reads(node) if name in dependent))
    if not data or node.op_type in _MEASURES:
        return Free(node, data)
    if node.op_type in ELEMENTWISE:
        return Elementwise(trace, node, data)
    if node.op_type in ALONG:
        return along(trace, node, data) or Opaque(node, data)
    return movement(trace, node, data) or contraction(trace, node, data) or Opaque(node, data)
