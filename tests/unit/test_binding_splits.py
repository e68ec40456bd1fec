"""Each split alone: it computes the same, and it leaves to the candidate what only the candidate can do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from rankine.compilation.binding import Binding, CostModel, Settings, SplitModel, split_graph
from unit.binding_graphs import Sketch, in_float64, random_rows

_FREE = Settings(costs=CostModel(catalog_byte=0.01, request_byte=0.01))
_SIDES = {"i": Binding.CATALOG, "r": Binding.REQUEST, "p": Binding.CANDIDATE}
_WIDTH = 6


def _sketch(*, pair: bool = True) -> Sketch:
    sketch = Sketch(np.random.default_rng(0))
    for name in ("i", "r", "p")[: 2 + pair]:
        sketch.feature(name, _WIDTH)
    return sketch


def _joined(sketch: Sketch) -> str:
    return sketch.node("Concat", list(sketch.widths), (_WIDTH * len(sketch.widths),), axis=1)


def _proved(model: onnx.ModelProto, sides: Mapping[str, Binding] = _SIDES, *, error: float = 1e-12) -> SplitModel:
    sides = {value.name: sides[value.name] for value in model.graph.input}
    split = split_graph(model, sides, _FREE)
    rows = random_rows(model, sides, 11, seed=0)
    (expected,) = in_float64(model, rows.gathered())
    assert np.abs(rows.split(split, in_float64) - expected).max() <= error * max(1, np.abs(expected).max())
    return split


def _operators(split: SplitModel) -> list[str]:
    return [node.op_type for node in split.parts.candidate.graph.node]


def test_layer_multiplies_the_pairs_features_only_when_its_input_is_a_concatenation() -> None:
    sketch = _sketch()
    hidden = sketch.node("Gemm", [_joined(sketch), sketch.weight(18, 5), sketch.weight(5)], (5,))
    split = _proved(sketch.model(sketch.node("Relu", [hidden], (5,))))
    assert (split.plan.work.before, split.plan.work.candidate) == (18 * 5, 6 * 5)
    assert split.plan.stored_bytes_per_item == 5 * 4


def test_layer_is_gone_when_no_feature_is_of_the_pair() -> None:
    sketch = _sketch(pair=False)
    hidden = sketch.node("Gemm", [_joined(sketch), sketch.weight(12, 5), sketch.weight(5)], (5,))
    split = _proved(sketch.model(sketch.node("Relu", [hidden], (5,))))
    assert split.plan.work.candidate == 0
    assert _operators(split)[:1] == ["Add"]


def test_product_of_a_sum_is_a_sum_of_products_when_both_are_known_before() -> None:
    sketch = _sketch(pair=False)
    total = sketch.node("Sub", ["i", "r"], (6,))
    split = _proved(sketch.model(sketch.node("MatMul", [total, sketch.weight(6, 3)], (3,))))
    assert split.plan.work.candidate == 0
    assert split.plan.stored_bytes_per_item == 3 * 4


def test_low_rank_cross_layer_leaves_no_first_factor_when_no_feature_is_of_the_pair() -> None:
    sketch = _sketch(pair=False)
    x = _joined(sketch)
    low = sketch.node("Gemm", [x, sketch.weight(12, 2)], (2,))
    wide = sketch.node("Gemm", [low, sketch.weight(2, 12), sketch.weight(12)], (12,))
    crossed = sketch.node("Add", [sketch.node("Mul", [x, wide], (12,)), x], (12,))
    split = _proved(sketch.model(crossed))
    assert split.plan.work.candidate <= 2 * 12


def _pairwise(sketch: Sketch, vectors: str) -> str:
    """``((sum of v)^2 - sum of v^2) / 2`` of nine vectors of two."""
    one = sketch.sizes(1)
    total = sketch.node("ReduceSum", [vectors, one], (2,), keepdims=0)
    squares = sketch.node("ReduceSum", [sketch.node("Mul", [vectors, vectors], (9, 2)), one], (2,), keepdims=0)
    difference = sketch.node("Sub", [sketch.node("Mul", [total, total], (2,)), squares], (2,))
    return sketch.node("Mul", [difference, sketch.constant(0.5)], (2,))


def test_factorization_machine_stores_its_sums_when_split() -> None:
    sketch = _sketch()
    vectors = sketch.node("Reshape", [_joined(sketch), sketch.sizes(-1, 9, 2)], (9, 2))
    order = sketch.node("ReduceSum", [_pairwise(sketch, vectors), sketch.sizes(1)], (1,), keepdims=1)
    split = _proved(sketch.model(order))
    assert [column.shape for column in split.plan.catalog] == [(2,), (2,)]  # sum v^2, and sum v
    assert [column.source for column in split.plan.catalog] == ["computed", "computed"]
    assert [column.source for column in split.plan.request] == ["computed", "computed"]


def test_difference_is_taken_before_a_layer_when_its_parts_are_of_the_same_features() -> None:
    """As in NFM: multiplied one by one, parts much larger than their difference would keep their errors."""
    sketch = _sketch()
    fields = _joined(sketch)
    vectors = sketch.node("Reshape", [fields, sketch.sizes(-1, 9, 2)], (9, 2))
    joined = sketch.node("Concat", [_pairwise(sketch, vectors), fields], (20,), axis=1)
    split = _proved(sketch.model(sketch.node("MatMul", [joined, sketch.weight(20, 5)], (5,))))
    assert split.plan.work.candidate == (2 + 6) * 5  # the difference, and the pair's features
    assert sorted(column.shape for column in split.plan.catalog) == [(2,), (2,), (5,)]  # sum v^2, sum v, the layer's


@pytest.mark.parametrize(("shared", "columns"), [(False, 12), (True, 18)])
def test_layer_over_a_difference_is_split_when_no_feature_is_on_both_sides(shared: bool, columns: int) -> None:
    sketch = _sketch()
    first = sketch.node("Mul", ["i", "p"], (6,)) if shared else "p"
    sides = [sketch.node("Concat", names, (18,), axis=1) for names in (["i", "r", "p"], [first, "p", "r"])]
    difference = sketch.node("Sub", sides, (18,))
    split = _proved(sketch.model(sketch.node("MatMul", [difference, sketch.weight(18, 5)], (5,))), error=1e-6)
    assert split.plan.work.candidate == columns * 5


def test_dot_products_of_one_side_are_computed_before_when_all_pairs_are_multiplied() -> None:
    sketch = _sketch()
    vectors = sketch.node("Reshape", [_joined(sketch), sketch.sizes(-1, 9, 2)], (9, 2))
    turned = sketch.node("Transpose", [vectors], (2, 9), perm=[0, 2, 1])
    products = sketch.node("MatMul", [vectors, turned], (9, 9))
    flat = sketch.node("Reshape", [products, sketch.sizes(-1, 81)], (81,))
    row, column = np.tril_indices(9, -1)
    pairs = sketch.node("Gather", [flat, sketch.constant(row * 9 + column, np.int64)], (36,), axis=1)
    split = _proved(sketch.model(sketch.node("Gemm", [pairs, sketch.weight(36, 3), sketch.weight(3)], (3,))))
    of_the_row = 9 + 3 * 9  # request x item, and the pair's three with all nine
    assert split.plan.work.candidate <= of_the_row * 2 + 36 * 3
    assert split.plan.work.candidate < split.plan.work.before / 1.5


def test_columns_of_vectors_keep_their_places_when_flattened() -> None:
    """``(rows, 3, [2; 2; 2]) -> (rows, 18)``: the parts lie in every vector, not one after the other."""
    sketch = _sketch()
    parts = [sketch.node("Reshape", [name, sketch.sizes(-1, 3, 2)], (3, 2)) for name in sketch.widths]
    joined = sketch.node("Concat", parts, (3, 6), axis=2)
    flat = sketch.node("Reshape", [joined, sketch.sizes(-1, 18)], (18,))
    split = _proved(sketch.model(sketch.node("MatMul", [flat, sketch.weight(18, 4)], (4,))))
    assert split.plan.work.candidate == 6 * 4


def _rounded_layer(sketch: Sketch, picked: np.ndarray) -> onnx.ModelProto:
    """Of some columns of the features. Scales are powers of two: a float holds every sum exactly, so a single wrong
    accumulator would be seen."""
    scale, zero = sketch.constant(1 / 16), sketch.constant(100, np.uint8)
    codes = sketch.node("QuantizeLinear", [_joined(sketch), scale, zero], (18,))
    value = sketch.node("DequantizeLinear", [codes, scale, zero], (18,))
    if len(picked) < 18:
        value = sketch.node("Gather", [value, sketch.constant(picked, np.int64)], (len(picked),), axis=1)
    matrix = sketch.constant(sketch.random.integers(-127, 128, (5, len(picked))), np.int8)
    scales = [sketch.constant(2.0 ** -np.arange(5)), sketch.constant(np.zeros(5), np.int8)]
    weight = sketch.node("DequantizeLinear", [matrix, *scales], (5, len(picked)), axis=0)
    del sketch.values[codes], sketch.values[weight]
    return sketch.model(sketch.node("Gemm", [value, weight, sketch.constant(np.arange(5))], (5,), transB=1))


@pytest.mark.parametrize("picked", [np.arange(18), np.arange(0, 18, 2)], ids=["all", "some"])
def test_rounded_layer_gives_the_very_same_sums_when_its_parts_share_their_scale(picked: np.ndarray) -> None:
    model = _rounded_layer(_sketch(), picked)
    split = _proved(model)
    rows = random_rows(model, _SIDES, 200, seed=3)
    (expected,) = in_float64(model, rows.gathered())
    assert np.array_equal(rows.split(split), expected)  # in FP32, by ONNX Runtime
    assert split.plan.work.candidate == len(picked) / 3 * 5
    for part in (split.parts.catalog, split.parts.request, split.parts.candidate):
        made_by = {node.output[0]: node.op_type for node in part.graph.node} if part else {}
        products = [node for node in part.graph.node if node.op_type == "MatMul"] if part else []
        assert [made_by[name] for node in products for name in node.input] == ["DequantizeLinear"] * 2


def test_gate_is_split_before_its_softmax_when_it_reads_all_features() -> None:
    sketch = _sketch()
    gate = sketch.node("Gemm", [_joined(sketch), sketch.weight(18, 3), sketch.weight(3)], (3,))
    split = _proved(sketch.model(sketch.node("Softmax", [gate], (3,), axis=1)))
    assert split.plan.work.candidate == 6 * 3


def test_split_operator_is_read_as_slices_when_its_parts_are_known_at_different_times() -> None:
    sketch = _sketch(pair=False)
    joined = _joined(sketch)
    sketch.nodes.append(onnx.helper.make_node("Split", [joined, sketch.sizes(6, 6)], ["one", "two"], axis=1))
    sketch.values |= {"one": (6,), "two": (6,)}
    hidden = [sketch.node("MatMul", [name, sketch.weight(6, 4)], (4,)) for name in ("one", "two")]
    split = _proved(sketch.model(sketch.node("Mul", hidden, (4,))))
    assert split.plan.work.candidate == 0


def test_same_value_is_computed_once_when_two_layers_read_it() -> None:
    sketch = _sketch()
    weight = sketch.weight(18, 4)
    hidden = [sketch.node("MatMul", [_joined(sketch), weight], (4,)) for _ in range(2)]
    split = _proved(sketch.model(sketch.node("Mul", hidden, (4,))))
    assert _operators(split).count("MatMul") == 1


@pytest.mark.parametrize("name", ["i", "r"])
def test_output_is_given_for_every_row_when_it_is_known_before(name: str) -> None:
    sketch = _sketch()
    split = _proved(sketch.model(sketch.node("MatMul", [name, sketch.weight(6, 1)], (1,))))
    assert split.plan.work.candidate == 0
    assert split.plan.row == ()


def test_batch_norm_is_split_with_its_layer_when_it_comes_after_a_concatenation() -> None:
    sketch = _sketch()
    statistics = [sketch.constant(sketch.random.random(18) + 0.5) for _ in range(4)]
    normal = sketch.node("BatchNormalization", [_joined(sketch), *statistics], (18,))
    split = _proved(sketch.model(sketch.node("MatMul", [normal, sketch.weight(18, 4)], (4,))), error=1e-6)
    assert split.plan.work.candidate == 6 * 4


def test_neighbors_are_fetched_as_one_when_a_concatenation_stays() -> None:
    sketch = _sketch()
    for name in ("j", "s"):
        sketch.feature(name, 2)
    joined = sketch.node("Concat", ["i", "j", "r", "s", "p"], (22,), axis=1)
    squared = sketch.node("Mul", [joined, sketch.node("Softmax", [joined], (22,))], (22,))
    split = _proved(sketch.model(squared), _SIDES | {"j": Binding.CATALOG, "s": Binding.REQUEST})
    assert [(column.source, column.shape) for column in split.plan.catalog] == [("computed", (8,))]
    assert [(column.source, column.shape) for column in split.plan.request] == [("computed", (8,))]


def _number_of_rows(sketch: Sketch, name: str) -> str:
    """``[x.shape[0]]`` as exporters write it."""
    rows = sketch.node("Gather", [sketch.node("Shape", [name], (2,)), sketch.constant(0, np.int64)], (), axis=0)
    return sketch.node("Reshape", [rows, sketch.sizes(1)], (1,))


def test_mask_of_a_history_is_the_requests_when_its_positions_are_written_out_for_every_row() -> None:
    """``torch.arange(6).repeat(x.shape[0], 1) < length``, where ``x`` is of the item."""
    sketch = _sketch(pair=False)
    sizes = sketch.node("Concat", [_number_of_rows(sketch, "i"), sketch.sizes(1)], (2,), axis=0)
    positions = sketch.node("Tile", [sketch.constant([range(6)]), sizes], (6,))
    mask = sketch.node("Cast", [sketch.node("Less", [positions, "r"], (6,))], (6,), to=onnx.TensorProto.FLOAT)
    split = _proved(sketch.model(sketch.node("MatMul", [mask, sketch.weight(6, 3)], (3,))))
    assert split.plan.kept_whole == ()
    assert split.plan.work.candidate == 0
    assert split.plan.catalog == ()


def test_zeros_for_every_row_need_no_feature_when_they_are_only_added() -> None:
    """What exporters write for ``torch.zeros(x.shape[0], 1)``: of ``i`` the number of rows only is read."""
    sketch = _sketch(pair=False)
    sizes = sketch.node("Concat", [_number_of_rows(sketch, "i"), sketch.sizes(1)], (2,), axis=0)
    zeros = sketch.node("ConstantOfShape", [sizes], (1,))
    products = [sketch.node("MatMul", [name, sketch.weight(6, 1)], (1,)) for name in ("i", "r")]
    for product in products:
        zeros = sketch.node("Add", [zeros, product], (1,))
    split = _proved(sketch.model(zeros))
    assert [column.source for column in (*split.plan.catalog, *split.plan.request)] == ["computed", "computed"]
    assert _operators(split) == ["Add", "Identity"]
