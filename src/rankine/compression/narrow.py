"""Narrower inputs of a graph: a linear map from few columns back to all, merged into the layers that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.compression.surgery import Linear, gemm, linear_layers

if TYPE_CHECKING:
    import onnx

    from rankine.models.rewrite.graph import Graph

__all__ = ["is_read_by_layers", "narrow_sequence", "narrow_vector"]

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def narrow_vector(graph: Graph, feature: str, back: Floats, offset: Floats, widths: dict[str, int]) -> bool:
    """Let a feature's input ``(rows, few)`` stand for ``input back + offset``.

    Args:
        back: ``(few, all)``.
        offset: ``(all,)``.
        widths: last dimension of values of the graph; kept up to date.

    Returns:
        Whether no multiply-add was added: every path from the input leads through concatenations to linear layers.
    """
    few, many = back.shape
    found = _readers(graph, feature, 0, widths)  # before anything of the graph changes
    if found is None:
        wide = _renamed(graph, feature)
        graph.nodes.insert(0, gemm(graph, feature, wide, back, offset, name=wide))
        widths[wide] = many
    else:
        for layer, start in found:
            _merge(graph, layer, start, back, offset)
        for name in _concatenations(graph, feature):
            widths[name] -= many - few
    widths[feature] = few
    _set_width(graph, feature, few)
    return found is not None


def is_read_by_layers(graph: Graph, feature: str, widths: dict[str, int]) -> bool:
    """Whether every path from a feature's input leads through concatenations to linear layers, so that a map back can
    be merged into them."""
    return _readers(graph, feature, 0, widths) is not None


def narrow_sequence(graph: Graph, feature: str, back: Floats, length: int) -> None:
    """Let a sequence's input ``(rows, length * few + 1)`` stand for its values times ``back (few, all)``; padding stays
    zero, and the number of values as it is."""
    from onnx import helper

    few, many = back.shape
    wide = _renamed(graph, feature)
    values, count, flat, mapped, joined = (f"{wide}.{part}" for part in ("values", "count", "flat", "mapped", "joined"))
    constants = {
        "zero": np.array([0]),
        "end": np.array([length * few]),
        "past": np.array([length * few + 1]),
        "axis": np.array([1]),
        "rows": np.array([-1, few]),
        "joint": np.array([-1, length * many]),
    }
    names = {key: f"{wide}.{key}" for key in constants}
    graph.constants.update({names[key]: shape.astype(np.int64) for key, shape in constants.items()})
    graph.nodes[:0] = [
        helper.make_node("Slice", [feature, names["zero"], names["end"], names["axis"]], [values]),
        helper.make_node("Slice", [feature, names["end"], names["past"], names["axis"]], [count]),
        helper.make_node("Reshape", [values, names["rows"]], [flat]),
        gemm(graph, flat, mapped, back, None, name=mapped),
        helper.make_node("Reshape", [mapped, names["joint"]], [joined]),
        helper.make_node("Concat", [joined, count], [wide], axis=1),
    ]
    _set_width(graph, feature, length * few + 1)


def _readers(graph: Graph, value: str, start: int, widths: dict[str, int]) -> list[tuple[Linear, int]] | None:
    """The linear layers that read a value, and at which column it starts there; None where anything else reads it."""
    linear = {id(layer.node): layer for layer in linear_layers(graph)}
    found: list[tuple[Linear, int]] = []
    for node in graph.readers().get(value, []):
        if id(node) in linear and value not in node.input[1:]:
            found.append((linear[id(node)], start))
        elif _joins(node, value, widths):
            at = list(node.input).index(value)
            inner = _readers(graph, node.output[0], start + sum(widths[name] for name in node.input[:at]), widths)
            if inner is None:
                return None
            found += inner
        else:
            return None
    twice = len({id(layer.node) for layer, _ in found}) < len(found)
    return None if value in graph.outputs or not found or twice else found


def _joins(node: onnx.NodeProto, value: str, widths: dict[str, int]) -> bool:
    """Whether a node concatenates columns, the value once, and all widths are known."""
    from rankine.models.rewrite.graph import attribute

    return (
        node.op_type == "Concat"
        and attribute(node, "axis") in (1, -1)
        and list(node.input).count(value) == 1
        and widths.keys() >= {*node.input, node.output[0]}
    )


def _concatenations(graph: Graph, value: str) -> list[str]:
    """The concatenations that a value is a part of, directly or not."""
    direct = [node.output[0] for node in graph.readers().get(value, []) if node.op_type == "Concat"]
    return direct + [name for one in direct for name in _concatenations(graph, one)]


def _merge(graph: Graph, layer: Linear, start: int, back: Floats, offset: Floats) -> None:
    """Rows ``start …`` of a layer's matrix read the narrow input instead: they are multiplied by the map back."""
    rows = layer.matrix[start : start + back.shape[1]]
    matrix = np.concatenate([layer.matrix[:start], back @ rows, layer.matrix[start + back.shape[1] :]])
    bias = offset @ rows + (0 if layer.bias is None else layer.bias)
    at = next(position for position, node in enumerate(graph.nodes) if node is layer.node)
    graph.nodes[at] = gemm(graph, layer.source, layer.result, matrix, bias, name=layer.result)


def _renamed(graph: Graph, feature: str) -> str:
    """A name for the wide form of an input, which all of its readers now read instead."""
    from rankine.models.rewrite.graph import renamed

    taken = {value.name for value in graph.inputs}.union(*(node.output for node in graph.nodes))
    wide = f"{feature}.wide"
    while wide in taken:
        wide += ".wide"
    graph.nodes = [renamed(node, {feature: wide}) for node in graph.nodes]
    return wide


def _set_width(graph: Graph, feature: str, width: int) -> None:
    value = next(value for value in graph.inputs if value.name == feature)
    value.type.tensor_type.shape.dim[1].dim_value = width
