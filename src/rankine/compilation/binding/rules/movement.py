"""Operators that move elements. The rows stay whole, and in their order, or the operator is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rankine.compilation.binding.dims import Dim, Rows, Shape, Unprovable, broadcast, row_axis, size_of_row
from rankine.compilation.binding.facts import Out, Reading

__all__ = ["rules", "slice_indices"]

_MOVES = "it moves or leaves out rows"


def _reshape(read: Reading) -> list[Out]:
    target = list(read.content(1))
    shape = read.shape()
    if not read.attribute("allowzero", 0):
        target = [shape[axis] if dim == 0 else dim for axis, dim in enumerate(target)]
    return [Out(reshaped(shape, target), content=_content(read))]


def _flatten(read: Reading) -> list[Out]:
    shape, axis = read.shape(), read.attribute("axis", 1)
    axis = axis if axis >= 0 else axis + len(read.shape())
    if any(isinstance(dim, Rows) for dim in shape[axis:]):
        raise Unprovable("it folds the rows with other axes")
    return [Out(reshaped(shape, [-1, math.prod(dim for dim in shape[axis:] if isinstance(dim, int))]))]


def reshaped(shape: Shape, target: Sequence[Dim]) -> Shape:
    """The shape that a reshape gives.

    Elements keep their order. So the rows stay whole where no axis before theirs is longer than one, before and after:
    a row is then a run of elements of one length.
    """
    axis = row_axis(shape)
    size = size_of_row(shape)
    fixed = math.prod(dim.factor if isinstance(dim, Rows) else dim for dim in target if dim != -1)
    if axis is None or -1 not in target:
        filled = tuple(target) if -1 not in target else tuple(size // fixed if dim == -1 else dim for dim in target)
        if size_of_row(filled) != size or (row_axis(filled) is None) != (axis is None):
            raise Unprovable("it gives a fixed number of rows")
    else:
        has_rows = any(isinstance(dim, Rows) for dim in target)
        if size % fixed:
            raise Unprovable("it folds the rows with other axes")
        rest: Dim = size // fixed if has_rows else Rows(size // fixed)
        filled = tuple(rest if dim == -1 else dim for dim in target)
    for found in (shape, filled):
        before = found[: row_axis(found)] if axis is not None else ()
        if any(dim != 1 for dim in before):
            raise Unprovable("it folds the rows with other axes")
    return filled


def _transpose(read: Reading) -> list[Out]:
    shape = read.shape()
    order = read.attribute("perm") or range(len(shape))[::-1]
    return [Out(tuple(shape[axis] for axis in order))]


def _unsqueeze(read: Reading) -> list[Out]:
    given = read.constant(1)
    found = read.attribute("axes") if given is None else given.reshape(-1).tolist()
    shape = list(read.shape())
    rank = len(shape) + len(found)
    for axis in sorted(int(axis) % rank for axis in found):
        shape.insert(axis, 1)
    return [Out(tuple(shape), content=_content(read))]


def _squeeze(read: Reading) -> list[Out]:
    axes, shape = read.axes(1, "axes"), read.shape()
    if axes is None:
        if row_axis(shape) is not None:
            raise Unprovable("it drops the rows where there is one")
        axes = tuple(axis for axis, dim in enumerate(shape) if dim == 1)
    if any(shape[axis] != 1 for axis in axes):
        raise Unprovable("it drops the rows")
    return [Out(tuple(dim for axis, dim in enumerate(shape) if axis not in axes), content=_content(read))]


def _concat(read: Reading) -> list[Out]:
    shapes = read.shapes()
    axis = read.attribute("axis") % len(shapes[0])
    dims = [shape[axis] for shape in shapes]
    fixed = [dim for dim in dims if isinstance(dim, int)]
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(fixed) < len(dims) or len(rest) > 1:
        raise Unprovable("it puts rows one after the other")
    contents = [fact.content for fact in read.facts if fact is not None]
    joined = None if None in contents else tuple(dim for content in contents for dim in content or ())
    return [Out((*shapes[0][:axis], sum(fixed), *shapes[0][axis + 1 :]), content=joined)]


def _split(read: Reading) -> list[Out]:
    shape, given = read.shape(), read.constant(1)
    axis = read.attribute("axis", 0) % len(shape)
    length, outputs = shape[axis], len(read.node.output)
    if isinstance(length, Rows):
        raise Unprovable(_MOVES)
    sizes = read.attribute("split") if given is None else given.tolist()
    if sizes is None:
        size = -(-length // outputs)
        sizes = [min(size, length - start) for start in range(0, length, size)]
    return [Out((*shape[:axis], int(size), *shape[axis + 1 :])) for size in sizes]


def slice_indices(read: Reading) -> dict[int, np.ndarray]:
    """By axis, the places that a Slice takes; axes that it takes whole are left out.

    Raises:
        Unprovable: the places are computed, or the axis is that of the rows.
    """
    shape = read.shape()
    starts, ends, axes, steps = (read.constant(position) for position in (1, 2, 3, 4))
    if starts is None or ends is None:
        raise Unprovable("its places are attributes, of an old opset")
    chosen = range(len(starts)) if axes is None else axes.tolist()
    found = {}
    for at, axis in enumerate(chosen):
        step = 1 if steps is None else int(steps[at])
        dim = shape[int(axis)]
        if isinstance(dim, Rows):
            if (int(starts[at]), step) != (0, 1) or int(ends[at]) < 2**31 - 1:
                raise Unprovable(_MOVES)
            continue
        places = np.arange(dim)[slice(int(starts[at]), int(ends[at]) if ends[at] > -(2**31) else None, step)]
        if len(places) != dim or step != 1:
            found[int(axis) % len(shape)] = places
    return found


def _slice(read: Reading) -> list[Out]:
    shape, content = read.shape(), _content(read)
    found = slice_indices(read)
    if content is not None:
        places = found.get(0, np.arange(len(content)))
        content = tuple(content[place] for place in places)
    return [Out(tuple(len(found[axis]) if axis in found else dim for axis, dim in enumerate(shape)), content=content)]


def _gather(read: Reading) -> list[Out]:
    """Places that are the same for all rows, along another axis; or, out of a constant, places that rows hold."""
    data, places = read.shape(0), read.shape(1)
    axis = read.attribute("axis", 0) % len(data)
    if isinstance(data[axis], Rows):
        raise Unprovable(_MOVES)
    shape = (*data[:axis], *places, *data[axis + 1 :])
    row_axis(shape)
    content, index = _content(read), read.constants.get(1)
    if content is not None and index is not None:
        content = tuple(content[int(place)] for place in index.reshape(-1))
        return [Out(shape, content=content)]
    return [Out(shape)]


def _gather_elements(read: Reading) -> list[Out]:
    data, places = read.shape(0), read.shape(1)
    axis = read.attribute("axis", 0) % len(data)
    if isinstance(data[axis], Rows) or row_axis(data) != row_axis(places):
        raise Unprovable(_MOVES)
    return [Out(places)]


def _expand(read: Reading) -> list[Out]:
    return [Out(broadcast([read.shape(), tuple(read.content(1))]))]


def _tile(read: Reading) -> list[Out]:
    return [Out(tuple(_times(dim, time) for dim, time in zip(read.shape(), read.content(1), strict=True)))]


def _pad(read: Reading) -> list[Out]:
    shape, pads, axes = read.shape(), read.constant(1), read.axes(3, "axes")
    chosen = axes if axes is not None else range(len(shape))
    sizes = [0] * 2 * len(chosen) if pads is None else [int(pad) for pad in pads]
    grown = list(shape)
    for at, axis in enumerate(chosen):
        dim, more = grown[axis], sizes[at] + sizes[at + len(chosen)]
        if isinstance(dim, Rows):
            if sizes[at] or sizes[at + len(chosen)]:
                raise Unprovable(_MOVES)
            continue
        grown[axis] = dim + more
    return [Out(tuple(grown))]


def _times(dim: Dim, times: Dim) -> Dim:
    if isinstance(dim, Rows):
        if times != 1:
            raise Unprovable(_MOVES)
        return dim
    return Rows(dim * times.factor) if isinstance(times, Rows) else dim * times


def _content(read: Reading) -> tuple[Dim, ...] | None:
    return None if read.facts[0] is None else read.facts[0].content


rules: Mapping[str, object] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
