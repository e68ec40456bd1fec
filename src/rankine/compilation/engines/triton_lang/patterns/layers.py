"""Low-rank cross layers and dot interactions in a program."""

from __future__ import annotations

import numpy as np

from rankine.compilation.engines.triton_lang.kernels.cross import WIDEST_RANK
from rankine.compilation.engines.triton_lang.kernels.interaction import MOST_VECTORS
from rankine.compilation.engines.triton_lang.patterns.flow import Flow
from rankine.compilation.engines.triton_lang.patterns.matches import Cross, Interaction
from rankine.compilation.fused.program import ABSENT, Code, Operation

__all__ = ["cross", "interaction"]

_ADDEND, _FACTOR, _ADDED = 3, 4, 5


def cross(flow: Flow, at: int) -> Cross | None:
    """``x0 * (U (V x) + b) + x`` where the second of its layers is."""
    up = flow.operations[at]
    if not _is_layer(up) or up.kind or _has(up, _ADDEND) or not (_has(up, _FACTOR) and _has(up, _ADDED)):
        return None
    rank, width = up.dims[:2]
    before = flow.writer(at, flow.region(up.operands[2], rank))
    if before is None or rank > WIDEST_RANK:
        return None
    down = flow.operations[before]
    written = down.operands[0 if up.code is Code.LINEAR_F32 else 1]
    if down.code is not up.code or down.groups != 1 or down.kind or any(_has(down, slot) for slot in (3, 4, 5)):
        return None
    if written != up.operands[2] or down.dims[:2] != (width, rank):
        return None
    reads = (down.operands[2], width, before), (up.operands[_FACTOR], width, at), (up.operands[_ADDED], width, at)
    alone = frozenset((before,))
    return Cross(at, alone, alone, reads, down=before, up=at)


def interaction(flow: Flow, at: int) -> Interaction | None:
    """A choice of the products of a matrix with itself, each once at most."""
    take = flow.operations[at]
    if take.code is not Code.TAKE or take.dims[0] != 1 or take.dims[2] != 1:
        return None
    _, chosen, _, length = take.dims
    before = flow.writer(at, flow.region(take.operands[2], length))
    if before is None:
        return None
    product = flow.operations[before]
    batch, count, width, other = product.dims
    if product.code is not Code.MATMUL or batch != 1 or count != other or count * count != length:
        return None
    vectors, places = product.operands[2], flow.array(take, 0, chosen, np.int32)
    of_left, of_right = product.strides[1][1:3], product.strides[2][1:3]
    if vectors != product.operands[3] or of_left != (width, 1) or of_right != (1, width) or count > MOST_VECTORS:
        return None
    if product.operands[0] != take.operands[2] or product.strides[0][1:3] != (count, 1):
        return None
    if places is None or len(np.unique(places)) != chosen:
        return None
    columns = np.full(length, -1, np.int32)
    columns[places] = np.arange(chosen)
    alone = frozenset((before,))
    return Interaction(
        at,
        alone,
        alone,
        ((vectors, count * width, before),),
        vectors=vectors,
        target=take.operands[0],
        width=width,
        columns=columns.reshape(count, count),
    )


def _is_layer(operation: Operation) -> bool:
    return operation.code in (Code.LINEAR_F32, Code.LINEAR_I8) and operation.groups == 1


def _has(operation: Operation, slot: int) -> bool:
    return operation.operands[slot].buffer != ABSENT
