"""Lookups: a Gather of a constant table by a feature's ids becomes the feature's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import attribute, numbered
from rankine.models.rewrite.probe import Layout, Selection
from rankine.models.rewrite.sources import Block, Column

if TYPE_CHECKING:
    from rankine.models.rewrite.walk import Walk

__all__ = ["rewrite_gather", "rewrite_gather_elements", "rewrite_gather_nd"]


def rewrite_gather(walk: Walk, node: onnx.NodeProto) -> bool:
    """``Gather(table, ids)``: how every exporter writes an embedding."""
    table = walk.graph.constants.get(node.input[0])
    index = walk.index.get(node.input[1])
    if table is None or index is None or attribute(node, "axis", 0) not in (0, -table.ndim):
        return False
    _look_up(walk, node, table, index)
    return True


def rewrite_gather_nd(walk: Walk, node: onnx.NodeProto) -> bool:
    """``GatherND(table, ids[..., None])``: an indexed tensor."""
    table = walk.graph.constants.get(node.input[0])
    index = walk.index.get(node.input[1])
    if table is None or index is None or attribute(node, "batch_dims", 0) or index.atoms.ndim < 2:
        return False
    if index.atoms.shape[-1] != 1:
        return False
    _look_up(walk, node, table, Selection(index.atoms[..., 0], index.offsets[..., 0], index.axis, index.dtype))
    return True


def rewrite_gather_elements(walk: Walk, node: onnx.NodeProto) -> bool:
    """``GatherElements(table, ids expanded to the table's columns)``: ``torch.gather`` by row."""
    table = walk.graph.constants.get(node.input[0])
    index = walk.index.get(node.input[1])
    if table is None or index is None or table.ndim != 2 or attribute(node, "axis", 0) not in (0, -2):
        return False
    if index.axis or index.atoms.shape[1:] != table.shape[1:] or len(index.atoms) != 1:
        return False
    if (index.atoms != index.atoms[:, :1]).any() or (index.offsets != index.offsets[:, :1]).any():
        return False
    _look_up(walk, node, table, Selection(index.atoms[:, 0], index.offsets[:, 0], 0, index.dtype))
    return True


def _look_up(walk: Walk, node: onnx.NodeProto, table: np.ndarray, index: Selection) -> None:
    source = node.input[0]
    if table.dtype.kind != "f":
        raise RewriteError(
            f"the table '{source}' holds {table.dtype}",
            where=place(node),
            allowed="a table of floats",
            hint="Map the ids in the data: a model that maps ids to other ids cannot be taken apart.",
        )
    rows = table.reshape(len(table), -1)
    columns: list[Column] = []
    features = set()
    for number, offset in zip(index.atoms.ravel(), index.offsets.ravel(), strict=True):
        if number < 0:
            columns += walk.sources.constant(rows[int(offset)])
            continue
        atom = walk.atom(int(number))
        if atom.kind != "id":
            raise RewriteError(
                f"the table '{source}' is looked up by numbers of '{atom.feature}', which are no ids",
                where=place(node),
                hint="Make the feature categorical.",
            )
        features.add(atom.feature)
        columns += walk.sources.lookup(atom.feature, Block(source, rows, int(offset)), atom.position)
    layout = Layout((*index.shape, *table.shape[1:]), index.axis, table.dtype)
    walk.emit(node.output[0], columns, layout)
    walk.notes.append(
        f"{place(node)}: '{source}' {table.shape} is looked up outside of the graph by {numbered(features)}"
    )
