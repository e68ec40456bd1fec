"""Buffers that become parts of others: what is read there is what was read before."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.compilation.fused.program import Code, Element, Unary
from rankine.compilation.fused.relocate import relocate
from rankine.compilation.fused.steps import Draft, Step
from rankine.compilation.fused.views import Storage, View, whole_view


def _places(view: View) -> np.ndarray:
    """Which elements of its buffer a view shows, in its order."""
    found = np.array(view.offset)
    for dim, stride in zip(view.dims, view.strides, strict=True):
        found = found[..., None] + np.arange(dim) * stride
    return found


def _draft(view: View, dims: tuple[int, ...], base: Storage) -> Draft:
    """A step that reads a view of a buffer which another fills."""
    source, result = Storage(Element.F32, base.width), Storage(Element.F32, view.size)
    fill = Step(Code.UNARY, {0: whole_view(base, dims), 2: whole_view(source, dims)}, Unary.RELU)
    read = Step(Code.MATMUL, {0: whole_view(result, view.dims), 2: view})
    return Draft([fill, read], {"x": whole_view(source, (base.width,))}, whole_view(result, (view.size,)))


@pytest.mark.parametrize("seed", range(80))
def test_elements_are_the_same_when_a_buffer_becomes_a_part_of_another(seed: int) -> None:
    random = np.random.default_rng(seed)
    dims = tuple(int(dim) for dim in random.integers(1, 5, 3))
    base = Storage(Element.F32, int(np.prod(dims)))
    view = whole_view(base, dims)
    for axis in range(3):
        start = int(random.integers(0, view.dims[axis]))
        view = view.sliced(axis, start, int(random.integers(1, view.dims[axis] - start + 1)))
    view = view.permuted(random.permutation(3))
    apart = [int(stride) for stride in random.integers(1, 4, 2)]
    inner = dims[2] * apart[0]
    part = View(Storage(Element.F32, 9999), 7, dims, (dims[1] * inner * apart[1], inner, 1))
    draft = _draft(view, dims, base)
    assert relocate(draft, {base: part})
    fill, read = draft.steps
    assert fill.views[0].base is read.views[2].base is part.base
    np.testing.assert_array_equal(_places(read.views[2]), _places(part).reshape(-1)[_places(view)])
    np.testing.assert_array_equal(_places(fill.views[0]), _places(part))


def test_nothing_changes_when_an_operation_could_not_read_its_operand_there() -> None:
    base = Storage(Element.F32, 6)
    view = whole_view(base, (2, 3))
    source = Storage(Element.F32, 6)
    layer = Step(Code.LINEAR_F32, {0: whole_view(Storage(Element.F32, 2), (2, 1)), 2: view}, groups=2)
    fill = Step(Code.UNARY, {0: view, 2: whole_view(source, (2, 3))}, Unary.RELU)
    draft = Draft([fill, layer], {"x": whole_view(source, (6,))}, layer.views[0])
    wide = Storage(Element.F32, 12)
    assert not relocate(draft, {base: View(wide, 3, (6,), (1,))})
    assert fill.views[0] == layer.views[2] == view
