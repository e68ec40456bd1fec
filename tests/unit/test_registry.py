"""A registry: a dictionary with a decorator and a good error."""

from __future__ import annotations

import pytest

from rankine.errors import UsageError
from rankine.registry import Registry


def make_shapes() -> Registry[type]:
    shapes: Registry[type] = Registry("shape")

    @shapes.register("square")
    class Square: ...

    @shapes.register("circle")
    class Circle: ...

    return shapes


def test_registry_returns_thing_when_registered() -> None:
    shapes = make_shapes()
    assert shapes["square"].__name__ == "Square"
    assert list(shapes) == ["square", "circle"]
    assert "circle" in shapes
    assert "sphere" not in shapes


def test_registry_suggests_name_when_unknown() -> None:
    with pytest.raises(UsageError) as caught:
        make_shapes()["sqare"]
    assert str(caught.value) == "unknown shape (got sqare). Did you mean 'square'?"


def test_registry_refuses_name_when_taken() -> None:
    shapes = make_shapes()
    kept = shapes["square"]
    with pytest.raises(UsageError, match="shape 'square' is registered twice"):
        shapes.register("square")(int)
    assert shapes["square"] is kept
