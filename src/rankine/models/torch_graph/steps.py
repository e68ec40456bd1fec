"""The nodes of a graph as PyTorch calls, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import numpy_helper

from rankine.models.node_forms import Operator, unknown_form
from rankine.models.torch_graph.operators import DTYPES, OPERATORS

__all__ = ["Step", "node_attribute", "step_of", "unknown_operators"]


@dataclass(frozen=True, slots=True)
class Step:
    """One node; ``inputs`` are names, empty where an optional input is left out."""

    run: Operator
    attributes: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def step_of(node: onnx.NodeProto) -> Step:
    """A node as a call; its operator is one that is known."""
    attributes = {entry.name: node_attribute(entry) for entry in node.attribute}
    return Step(OPERATORS[node.op_type], attributes, tuple(node.input), tuple(node.output))


def node_attribute(entry: onnx.AttributeProto) -> Any:
    """The value of an attribute, a tensor as an array."""
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode()
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def unknown_operators(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Operators that are not known here, sorted: by their names, and those of which a form is not by that too."""
    found = (_unknown(node) for node in nodes if node.op_type != "Constant")
    return sorted({name for name in found if name is not None})


def _unknown(node: onnx.NodeProto) -> str | None:
    if node.op_type not in OPERATORS:
        return node.op_type
    return unknown_form(node.op_type, {entry.name: node_attribute(entry) for entry in node.attribute}, DTYPES)
