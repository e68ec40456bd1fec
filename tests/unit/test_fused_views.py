"""Strided views against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.compilation.fused.views import View, coalesced, constant_view


def _factors(random: np.random.Generator, size: int) -> tuple[int, ...]:
    """Random dimensions of so many elements."""
    dims = []
    while size > 1:
        dim = int(random.choice([d for d in range(2, size + 1) if size % d == 0]))
        dims.append(dim)
        size //= dim
    for _ in range(random.integers(0, 2)):
        dims.insert(int(random.integers(0, len(dims) + 1)), 1)
    return tuple(dims)


def _moved(random: np.random.Generator) -> tuple[View, np.ndarray]:
    """A view, turned, cut and repeated at random, and NumPy's."""
    array = np.arange(720, dtype=np.float32).reshape(_factors(random, 720))
    view = constant_view(array)
    for _ in range(random.integers(1, 5)):
        move = random.integers(0, 3)
        if move == 0:
            order = random.permutation(array.ndim)
            view, array = view.permuted(order), array.transpose(order)
        elif move == 1:
            axis = int(random.integers(0, array.ndim))
            start, step = int(random.integers(0, array.shape[axis])), int(random.integers(1, 3))
            array = array[(slice(None),) * axis + (slice(start, None, step),)]
            view = view.sliced(axis, start, array.shape[axis], step)
        elif array.size < 720:
            dims = (2, *array.shape)
            view, array = view.expanded(dims), np.broadcast_to(array, dims)
    return view, array


@pytest.mark.parametrize("seed", range(100))
def test_view_shows_what_numpy_shows_when_it_is_moved_and_reshaped(seed: int) -> None:
    random = np.random.default_rng(seed)
    view, array = _moved(random)
    np.testing.assert_array_equal(view.numbers(), array)
    dims = _factors(random, array.size)
    reshaped = view.reshaped(dims)
    if reshaped is not None:
        np.testing.assert_array_equal(reshaped.numbers(), array.reshape(dims))
    elif array.size > 1:
        assert not view.is_flat
    in_order = np.arange(array.size) + (array.flat[0] if array.size else 0)
    assert view.is_flat == np.array_equal(array.reshape(-1), in_order)


@pytest.mark.parametrize("seed", range(30))
def test_views_show_the_same_when_axes_are_joined(seed: int) -> None:
    view, array = _moved(np.random.default_rng(seed))
    other = constant_view(np.arange(array.size, dtype=np.float32).reshape(array.shape))
    dims, strides = coalesced([view, other])
    for own, numbers, of in zip((view, other), (array, other.numbers()), strides, strict=True):
        joined = View(own.base, own.offset, dims, of)
        np.testing.assert_array_equal(joined.numbers().reshape(-1), numbers.reshape(-1))
    assert len(dims) <= array.ndim


def test_reshape_is_no_view_when_elements_would_have_to_move() -> None:
    turned = constant_view(np.arange(6, dtype=np.float32).reshape(2, 3)).permuted((1, 0))
    assert turned.reshaped((6,)) is None
    assert turned.reshaped((3, 1, 2)) is not None
