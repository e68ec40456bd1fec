"""Slices of rows that were computed before, gathered natively, against NumPy; and where such rows are laid out."""

from __future__ import annotations

import numpy as np
import pytest

from rankine import _native
from rankine.compilation.binding.places import Part, Places
from rankine.compilation.binding.storage import stored
from rankine.compilation.product_runner import product_of
from rankine.models.graph_inputs import Piece

_ROWS, _ITEMS, _REQUESTS, _WIDTH = 50, 30, 3, 40


def _gather(
    parts: dict[str, np.ndarray], start: int, width: int, index: np.ndarray, added: tuple[np.ndarray, ...] | None = None
) -> tuple[int, np.ndarray]:
    out = np.full((len(index), width + 5), np.nan, np.float32)
    more = (None, None, 0) if added is None else (added[0], added[1], 2)
    bad = _native.gather_slice(parts[""], parts.get(".scale"), parts.get(".bias"), start, width, index, out, 3, *more)
    assert np.isnan(out[:, :3]).all()
    assert np.isnan(out[:, 3 + width :]).all()
    return bad, out[:, 3 : 3 + width]


@pytest.mark.parametrize("width", [1, 4, 5, 8, 16, 33])
@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_slice_is_numpys_when_rows_are_gathered(storage: str, width: int) -> None:
    random = np.random.default_rng(width)
    values = random.normal(size=(_ITEMS, _WIDTH)).astype(np.float32)
    parts = stored(values, storage, "values")  # type: ignore[arg-type]
    index = random.integers(0, _ITEMS, _ROWS, np.int32)
    expected = parts[""].astype(np.float32)
    if storage == "int8":
        expected = expected * parts[".scale"][:, None] + parts[".bias"][:, None]
    bad, out = _gather(parts, 7, width, index)
    assert bad == -1
    np.testing.assert_array_equal(out, expected[index, 7 : 7 + width])
    shared = random.normal(size=(_REQUESTS, _WIDTH)).astype(np.float32)
    of = random.integers(0, _REQUESTS, _ROWS, np.int32)
    bad, out = _gather(parts, 7, width, index, (shared, of))
    assert bad == -1
    np.testing.assert_array_equal(out, expected[index, 7 : 7 + width] + shared[of, 2 : 2 + width])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_codes_are_those_of_quantize_linear_when_rows_are_rounded(storage: str, relu: bool) -> None:
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    random = np.random.default_rng(3)
    values = random.normal(size=(_ITEMS, _WIDTH)).astype(np.float32)
    values[:, :8] = np.arange(-4, 4) * 0.0078125  # on the border of two codes: half to even
    parts = stored(values, storage, "values")  # type: ignore[arg-type]
    shared = random.normal(size=(_REQUESTS, _WIDTH)).astype(np.float32)
    shared[:, 2:10] = 0.0
    index, of = random.integers(0, _ITEMS, _ROWS, np.int32), random.integers(0, _REQUESTS, _ROWS, np.int32)
    _, floats = _gather(parts, 0, 30, index, (shared, of))
    out = np.zeros((_ROWS, 33), np.uint8)
    more = (shared, of, 2, 0.0 if relu else -np.inf, 0.015625, 128)
    bad = _native.gather_rounded(parts[""], parts.get(".scale"), parts.get(".bias"), 0, 30, index, out, 3, *more)
    assert bad == -1
    nodes = [helper.make_node("QuantizeLinear", ["raised", "step", "zero"], ["codes"])]
    nodes.insert(0, helper.make_node("Relu" if relu else "Identity", ["x"], ["raised"]))
    constants = [numpy_helper.from_array(np.array(0.015625, np.float32), "step")]
    constants.append(numpy_helper.from_array(np.array(128, np.uint8), "zero"))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    codes = helper.make_tensor_value_info("codes", TensorProto.UINT8, None)
    graph = helper.make_graph(nodes, "g", [given], [codes], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (expected,) = ReferenceEvaluator(model).run(None, {"x": floats})
    np.testing.assert_array_equal(out[:, 3:], expected)
    assert {128 if relu else 0, 255} <= set(out[:, 3:].ravel().tolist())


@pytest.mark.parametrize("wrong", [-1, _ITEMS, 2**31 - 1])
@pytest.mark.parametrize("at", [0, 49])
def test_first_bad_row_is_told_when_an_index_is_out_of_range(wrong: int, at: int) -> None:
    values = {"": np.zeros((_ITEMS, _WIDTH), np.float32)}
    index = np.zeros(_ROWS, np.int32)
    bad_index = index.copy()
    bad_index[at] = wrong
    assert _gather(values, 0, 8, bad_index)[0] == at
    shared = np.zeros((_ITEMS, _WIDTH), np.float32)
    assert _gather(values, 0, 8, index, (shared, bad_index))[0] == at


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"start": 33}, "start"),
        ({"start": -1}, "start"),
        ({"width": 0}, "width"),
        ({"column": 1}, "column"),
        ({"scale": np.zeros(_ITEMS, np.float32)}, "scale and bias"),
        ({"rows": np.zeros((_ITEMS, _WIDTH), np.uint8)}, "scale and bias"),
        ({"added": np.zeros((2, 4), np.float32)}, "added_start"),
        ({"added_index": np.zeros(3, np.int32)}, "added_index"),
        ({"index": np.zeros(3, np.int32)}, "out"),
    ],
)
def test_argument_is_named_when_it_does_not_fit(change: dict[str, object], named: str) -> None:
    given: dict[str, object] = {
        "rows": np.zeros((_ITEMS, _WIDTH), np.float32),
        "scale": None,
        "bias": None,
        "start": 0,
        "width": 8,
        "index": np.zeros(_ROWS, np.int32),
        "out": np.zeros((_ROWS, 8), np.float32),
        "column": 0,
        "added": np.zeros((2, 8), np.float32),
        "added_index": np.zeros(_ROWS, np.int32),
        "added_start": 0,
    }
    with pytest.raises(ValueError, match=named):
        _native.gather_slice(**{**given, **change})  # type: ignore[arg-type]


def test_values_lie_in_the_order_in_which_they_are_read_when_they_are_stored_together() -> None:
    places = Places(together=True)
    first = places.pieces([Part(4, item="a", request="p"), Part(2, item="b", request="q"), Part(3, feature="f")])
    assert first == (
        Piece(column=0, width=6, item="0", item_start=0, request=0),
        Piece(column=6, width=3, feature="f"),
    )
    again = places.pieces([Part(2, item="b"), Part(5, request="r"), Part(4, request="p")])
    assert again == (
        Piece(column=0, width=2, item="0", item_start=4),
        Piece(column=2, width=5, request=6),
        Piece(column=7, width=4, request=0),
    )
    assert places.stored == (6,)


def test_values_have_columns_of_their_own_when_each_has_a_scale() -> None:
    places = Places(together=False)
    pieces = places.pieces([Part(4, item="a"), Part(2, item="b")])
    assert pieces == (Piece(column=0, width=4, item="0"), Piece(column=4, width=2, item="1"))
    assert places.stored == (4, 2)


def test_product_is_found_when_a_graph_is_nothing_else() -> None:
    from onnx import TensorProto, helper, numpy_helper

    weights = np.arange(10, dtype=np.float32).reshape(5, 2)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", n]) for name, n in (("a", 2), ("b", 3))]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])
    join = helper.make_node("Concat", ["a", "b"], ["x"], axis=1)
    other_way = helper.make_node("Concat", ["b", "a"], ["x"], axis=1)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    bent = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]

    def found(nodes: list[object]) -> np.ndarray | None:
        graph = helper.make_graph(nodes, "g", inputs, [output], [numpy_helper.from_array(weights, "w")])
        return product_of(helper.make_model(graph))

    matrix = found([join, product])
    assert matrix is not None
    assert np.array_equal(matrix, weights)
    assert found([other_way, product]) is None
    assert found([join, *bent]) is None


def test_nan_is_the_floor_and_bad_rows_and_arguments_are_told_when_rows_are_rounded() -> None:
    values = np.full((2, 3), np.nan, np.float32)
    out, index = np.full((2, 3), 9, np.uint8), np.zeros(2, np.int32)

    def rounded(at: np.ndarray = index, step: float = 0.5, zero: int = 7, to: np.ndarray = out) -> int:
        return _native.gather_rounded(values, None, None, 0, 3, at, to, 0, None, None, 0, 0.0, step, zero)

    assert rounded() == -1
    assert (out == 7).all()
    assert rounded(np.array([0, 2], np.int32)) == 1
    with pytest.raises(ValueError, match="step"):
        rounded(step=0.0)
    with pytest.raises(ValueError, match="zero"):
        rounded(zero=256)
    with pytest.raises(TypeError, match="out"):
        rounded(to=np.zeros((2, 3), np.float32))
