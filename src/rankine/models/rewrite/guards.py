"""Guards of ids, such as ``clamp(0, rows - 1)`` or ``% rows``: dropped where they change no id that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from rankine.models.rewrite.atoms import id_count
from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import evaluate

if TYPE_CHECKING:
    from rankine.models.rewrite.walk import Walk

__all__ = ["GUARDS", "rewrite_guard"]

GUARDS = ("Abs", "Clip", "Max", "Min", "Mod", "Relu")


def rewrite_guard(walk: Walk, node: onnx.NodeProto) -> bool:
    """An operator with constant bounds that gives back every id of its features.

    Raises:
        RewriteError: it changes an id.
    """
    given = [name for name in node.input if name in walk.index]
    bounds = {name: walk.graph.constants.get(name) for name in node.input if name and name not in given}
    if len(given) != 1 or any(bound is None or bound.size != 1 for bound in bounds.values()):
        return False
    selection = walk.index[given[0]]
    found = {(int(n), float(o)) for n, o in zip(selection.atoms.ravel(), selection.offsets.ravel(), strict=True)}
    if any(number < 0 or walk.atom(number).kind != "id" for number, _ in found):
        return False
    for feature, offset in {(walk.atom(number).feature, offset) for number, offset in found}:
        count = id_count(walk.sources.features[feature])
        if count is None:
            return False
        ids = np.append(np.arange(count), walk.sources.pads.get(feature, 0)) + int(offset)
        feeds = {name: bound for name, bound in bounds.items() if bound is not None}
        kept = evaluate(node, {given[0]: ids.astype(selection.dtype), **feeds}, walk.graph.opset)[node.output[0]]
        changed = np.flatnonzero(kept != ids)
        if len(changed):
            raise RewriteError(
                f"'{node.op_type}' changes ids of '{feature}'",
                where=place(node),
                got=f"{ids[changed[0]]} becomes {kept[changed[0]]}",
                hint="Do it in the data, or correct the size of the feature's encoding.",
            )
    for values in walk.probes.values:
        values[node.output[0]] = values[given[0]]
    walk.index[node.output[0]] = selection
    return True
