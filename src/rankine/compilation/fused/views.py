"""A value of a row as a strided view: dimensions and strides in elements over a buffer or over constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankine.compilation.fused.program import Element

__all__ = ["Constants", "Storage", "View", "coalesced", "constant_view", "row_major", "whole_view"]


@dataclass(eq=False)
class Storage:
    """A buffer, before it has a place: ``width`` elements a row."""

    element: Element
    width: int


@dataclass(frozen=True, eq=False)
class Constants:
    """Numbers that are the same in all rows, float32 ``(n,)``."""

    numbers: np.ndarray


@dataclass(frozen=True)
class View:
    """Elements ``offset + sum(index * strides)`` of a row of ``base``. The axis of the rows is not in it."""

    base: Storage | Constants
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def last(self) -> int:
        """The last element of the row that it reaches."""
        return self.offset + sum((dim - 1) * stride for dim, stride in zip(self.dims, self.strides, strict=True))

    @property
    def is_flat(self) -> bool:
        """Whether its elements lie one after the other, in their order."""
        return all(dim == 1 or stride == near for dim, stride, near in self._with(row_major(self.dims)))

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a buffer, in its order."""
        return isinstance(self.base, Storage) and self.is_flat and self.offset == 0 and self.size == self.base.width

    @property
    def element(self) -> Element:
        return self.base.element if isinstance(self.base, Storage) else Element.F32

    def numbers(self) -> np.ndarray:
        """Of constants: what is seen of them, float32 ``dims``."""
        if not isinstance(self.base, Constants):
            raise TypeError("a buffer has no numbers before it is filled")
        strides = [4 * stride for stride in self.strides]
        return np.lib.stride_tricks.as_strided(self.base.numbers[self.offset :], self.dims, strides)

    def permuted(self, order: Sequence[int]) -> View:
        return replace(
            self, dims=tuple(self.dims[axis] for axis in order), strides=tuple(self.strides[axis] for axis in order)
        )

    def sliced(self, axis: int, start: int, count: int, step: int = 1) -> View:
        dims, strides = list(self.dims), list(self.strides)
        dims[axis], strides[axis] = count, self.strides[axis] * step
        return View(self.base, self.offset + start * self.strides[axis], tuple(dims), tuple(strides))

    def expanded(self, dims: Sequence[int]) -> View:
        """Broadcast to ``dims``: new axes come first."""
        missing = len(dims) - len(self.dims)
        own = zip((1,) * missing + self.dims, (0,) * missing + self.strides, dims, strict=True)
        strides = tuple(stride if dim == wanted else 0 for dim, stride, wanted in own)
        return View(self.base, self.offset, tuple(dims), strides)

    def reshaped(self, dims: Sequence[int]) -> View | None:
        """The same elements in the same order with other dimensions; None where that is no view."""
        ((merged, (strides,)),) = [coalesced([self])]
        blocks = list(zip(merged, strides, strict=True))
        found = []
        left, stride = blocks.pop(0) if blocks else (1, 1)
        for dim in dims:
            if left == 1 and dim != 1:
                left, stride = blocks.pop(0)
            if left % dim:
                return None
            left //= dim
            found.append(0 if dim == 1 else stride * left)
        return View(self.base, self.offset, tuple(dims), tuple(found))

    def _with(self, strides: tuple[int, ...]) -> zip[tuple[int, int, int]]:
        return zip(self.dims, self.strides, strides, strict=True)


def row_major(dims: Sequence[int]) -> tuple[int, ...]:
    """Strides of elements that lie one after the other."""
    return tuple(math.prod(dims[axis + 1 :]) for axis in range(len(dims)))


def whole_view(base: Storage, dims: Sequence[int]) -> View:
    """All of a buffer."""
    return View(base, 0, tuple(dims), row_major(dims))


def constant_view(numbers: np.ndarray) -> View:
    """Numbers ``dims`` that all rows read."""
    flat = np.ascontiguousarray(numbers, np.float32).reshape(-1)
    return View(Constants(flat), 0, numbers.shape, row_major(numbers.shape))


def coalesced(views: Sequence[View]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Dimensions and strides of views of equal dimensions with as few axes as all of them allow."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for axis, dim in enumerate(views[0].dims):
        strides = tuple(view.strides[axis] for view in views)
        if dim == 1:
            continue
        if axes and axes[-1][1] == tuple(stride * dim for stride in strides):
            axes[-1] = (axes[-1][0] * dim, strides)
        else:
            axes.append((dim, strides))
    dims = tuple(dim for dim, _ in axes)
    return dims, [tuple(strides[which] for _, strides in axes) for which in range(len(views))]
