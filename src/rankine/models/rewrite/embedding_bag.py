"""``rankine.EmbeddingBag``, the node that stands for PyTorch's ``nn.EmbeddingBag``: its meaning, and its rewrite."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from rankine.models.rewrite.atoms import id_count
from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import attribute
from rankine.models.rewrite.probe import Layout
from rankine.models.rewrite.sources import Block
from rankine.models.schema import MultiHotFeature

if TYPE_CHECKING:
    from rankine.models.rewrite.walk import Walk

__all__ = ["EMBEDDING_BAG", "EmbeddingBag", "rewrite_bag"]

EMBEDDING_BAG = "rankine.EmbeddingBag"
_REDUCTIONS: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean, "max": np.max}


class EmbeddingBag(OpRun):  # type: ignore[misc, unused-ignore]
    """What the node computes, ``(bags, dim)``: ``torch.nn.functional.embedding_bag``. Named as the operator."""

    op_domain = "rankine"

    def _run(
        self,
        weight: np.ndarray,
        values: np.ndarray,
        offsets: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        mode: Any = None,
        include_last_offset: Any = None,
        padding_idx: Any = None,
    ) -> tuple[np.ndarray]:
        node = self.onnx_node
        mode, last = attribute(node, "mode", "mean"), attribute(node, "include_last_offset", 0)
        padding = attribute(node, "padding_idx", -1)
        if offsets is None:
            ends = np.arange(len(values) + 1) * values.shape[1]
            values = values.ravel()
            weights = None if weights is None else weights.ravel()
        else:
            ends = np.asarray(offsets) if last else np.append(offsets, len(values))
        bags = np.zeros((len(ends) - 1, weight.shape[1]), weight.dtype)
        for bag, (start, stop) in enumerate(pairwise(ends)):
            kept = np.arange(start, stop)[values[start:stop] != padding]
            rows = weight[values[kept]] if weights is None else weight[values[kept]] * weights[kept][:, None]
            if len(rows):
                bags[bag] = _REDUCTIONS[mode](rows, axis=0)
        return (bags,)


def rewrite_bag(walk: Walk, node: onnx.NodeProto) -> bool:
    """A bag over the parts of one multi-hot feature becomes that feature's input.

    Raises:
        RewriteError: the parts are of several features, or the schema pools otherwise than the model.
    """
    inputs = [*node.input, "", "", ""][:4]
    table = walk.graph.constants.get(inputs[0])
    parts = [walk.ragged.get(name) if name else None for name in inputs[1:]]
    if table is None or parts[0] is None or parts[1] is None:
        return False
    feature = walk.sources.features[parts[0][0]]
    if not isinstance(feature, MultiHotFeature):
        return False
    _check_parts(node, parts, bool(inputs[3]))
    _check_pooling(node, feature, bool(inputs[3]))
    _check_padding(walk, node, feature, table)
    columns = walk.sources.lookup(feature.name, Block(inputs[0], table))
    walk.emit(node.output[0], columns, Layout((-1, len(columns)), 0, table.dtype))
    walk.notes.append(f"{place(node)}: the {feature.pooling} over '{feature.name}' is taken outside of the graph")
    return True


def _check_parts(node: onnx.NodeProto, parts: list[tuple[str, str] | None], weighted: bool) -> None:
    given = [part for part in parts if part is not None]
    forms = [form for _, form in given]
    ends = "ends" if attribute(node, "include_last_offset", 0) else "offsets"
    wanted = ["values", ends] + ["weights"] * weighted
    if len({name for name, _ in given}) == 1 and forms == wanted:
        return
    raise RewriteError(
        "an EmbeddingBag must read the parts of one multi-hot feature",
        where=place(node),
        got=", ".join(f"{form} of '{name}'" for name, form in given),
        allowed=", ".join(wanted),
        hint="Correct feature and form of the arguments under 'call' (ends: offsets with the last end).",
    )


def _check_pooling(node: onnx.NodeProto, feature: MultiHotFeature, weighted: bool) -> None:
    mode = attribute(node, "mode", "mean")
    if feature.pooling != mode:
        raise RewriteError(
            "the schema pools otherwise than the model",
            where=f"{feature.name}, {place(node)}",
            got=f"pooling: {feature.pooling}",
            allowed=f"pooling: {mode}",
            hint=f"Write 'pooling: {mode}' for this feature.",
        )
    if feature.weights is not None and not weighted:
        raise RewriteError(
            "the schema weights the values, the model does not",
            where=f"{feature.name}, {place(node)}",
            got=f"weights: {feature.weights}",
            hint="Leave out 'weights' of this feature.",
        )


def _check_padding(walk: Walk, node: onnx.NodeProto, feature: MultiHotFeature, table: np.ndarray) -> None:
    """An id that the bag leaves out must be one that the feature cannot have, or one that adds zero to a sum."""
    padding = attribute(node, "padding_idx", -1)
    if padding < 0:
        return
    size = id_count(walk.sources.features[feature.name])
    never = size is not None and padding >= size
    if feature.encoding.type == "vocabulary":
        never = padding == 0 and feature.encoding.out_of_vocabulary == "error"
    if never or (feature.pooling == "sum" and not table[padding].any()):
        return
    raise RewriteError(
        f"the model leaves id {padding} out of the {feature.pooling} (padding_idx), which the feature can have",
        where=f"{feature.name}, {place(node)}",
        hint="Remove padding_idx from the EmbeddingBag: lists need no padding here.",
    )
