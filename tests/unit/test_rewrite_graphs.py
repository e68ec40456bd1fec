"""Hand-made graphs: forms that other frameworks' exporters write, and embedding bags."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from rankine.models.arguments import call_arguments
from rankine.models.call import Argument
from rankine.models.columns import Batch, Ragged
from rankine.models.random_rows import random_batch
from rankine.models.rewrite import RewriteError, check_equal, rewrite
from rankine.models.schema import Schema, Task, Vocabulary
from unit.rewrite_models import (
    categorical,
    dense,
    graph_of,
    logits_of,
    multi_hot,
    operators,
    packed,
    schema_of,
    sequence,
    weight,
)

USER = Argument(name="user", feature="user")
PRICE = Argument(name="price", feature="price", dtype="float32")


def bag_schema(pooling: str, *, weighted: bool = False, ends: bool = True, size: int = 6) -> Schema:
    weights = "weight" if weighted else None
    arguments = [
        Argument(name="values", feature="tags", form="values"),
        Argument(name="offsets", feature="tags", form="ends" if ends else "offsets"),
    ]
    if weighted:
        arguments.append(Argument(name="weights", feature="tags", form="weights", dtype="float32"))
    return schema_of([multi_hot("tags", size, pooling=pooling, weights=weights)], arguments)


def bag_graph(mode: str, *, weighted: bool = False, ends: bool = True, attributes: str = "") -> onnx.ModelProto:
    given = "int64[m] values, int64[n] offsets" + (", float[m] weights" if weighted else "")
    options = f'mode: string = "{mode}", include_last_offset: int = {int(ends)}{attributes}'
    inputs = "T, values, offsets" + (", weights" if weighted else "")
    body = f"bag = rankine.EmbeddingBag <{options}> ({inputs}) y = MatMul(bag, W)"
    return graph_of(f"({given}) => (float[rows,1] y)", body, T=weight(6, 4), W=weight(4, 1))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("ends", [True, False])
def test_rewrite_makes_a_bag_the_input_when_it_pools_one_feature(mode: str, ends: bool) -> None:
    schema = bag_schema(mode, ends=ends)
    rewritten = rewrite(bag_graph(mode, ends=ends), schema)
    assert operators(rewritten) == ["MatMul"]
    tags = Ragged(np.array([2, 5, 5], np.int32), np.array([0, 0, 3], np.int32))
    batch = Batch({}, {"tags": tags}, {}, np.zeros(2, np.int32), np.array([0, 1], np.int32))
    rows = weight(6, 4)[[2, 5, 5]]
    pooled = np.stack([np.zeros(4), {"sum": rows.sum(0), "mean": rows.mean(0), "max": rows.max(0)}[mode]])
    np.testing.assert_allclose(logits_of(rewritten, schema, batch), pooled @ weight(4, 1), rtol=1e-5)


def test_rewrite_keeps_weights_of_values_when_a_bag_has_them() -> None:
    schema = bag_schema("sum", weighted=True)
    rewritten = rewrite(bag_graph("sum", weighted=True), schema)
    tags = Ragged(np.array([2, 5], np.int32), np.array([0, 2], np.int32), np.array([0.5, -2], np.float32))
    batch = Batch({}, {"tags": tags}, {}, np.zeros(1, np.int32), np.zeros(1, np.int32))
    expected = (0.5 * weight(6, 4)[2] - 2 * weight(6, 4)[5]) @ weight(4, 1)
    np.testing.assert_allclose(logits_of(rewritten, schema, batch)[0], expected, rtol=1e-5)


def test_rewrite_takes_a_padded_bag_when_the_feature_cannot_have_the_padding() -> None:
    model = bag_graph("mean", attributes=", padding_idx: int = 5")
    assert rewrite(model, bag_schema("mean", size=5)).tables["tags"].shape == (5, 4)


def test_rewrite_computes_shapes_from_the_features_when_the_graph_asks_for_those_of_lists() -> None:
    body = """
        bag = rankine.EmbeddingBag <mode: string = "sum", include_last_offset: int = 1> (T, values, offsets)
        shape = Shape(offsets)
        rows = Sub(shape, one)
        target = Concat <axis = 0> (rows, four)
        shaped = Reshape(bag, target)
        y = MatMul(shaped, W)"""
    constants = {"one": np.array([1]), "four": np.array([4]), "T": weight(6, 4), "W": weight(4, 1)}
    model = graph_of("(int64[m] values, int64[n] offsets) => (float[rows,1] y)", body, **constants)
    assert rewrite(model, bag_schema("sum")).difference < 1e-6


def test_rewrite_looks_up_rows_when_one_hot_is_an_operator_beside_computed_values() -> None:
    body = """
        hot = OneHot <axis = -1> (user, depth, values)
        squared = Mul(price, price)
        both = Concat <axis = -1> (squared, hot, price)
        y = Gemm <alpha: float = 2.0, transB: int = 1> (both, W, b)"""
    constants = {"depth": np.array(4), "values": np.array([0, 1], np.float32), "W": weight(3, 8), "b": weight(3)}
    model = graph_of("(int64[rows] user, float[rows,2] price) => (float[rows,3] y)", body, **constants)
    tasks = tuple(Task(name=name, label=f"is_{name}") for name in "abc")
    schema = schema_of([categorical("user", 4), dense("price", 2)], [USER, PRICE], tasks=tasks)
    rewritten = rewrite(model, schema)
    np.testing.assert_allclose(rewritten.tables["user"], 2 * weight(3, 8)[:, 2:6].T)
    assert "OneHot" not in operators(rewritten)


def test_rewrite_makes_flags_columns_of_the_table_when_ids_are_compared_with_one() -> None:
    body = """
        known = Equal(user, zero)
        flag = Cast <to = 1> (known)
        column = Unsqueeze(flag, one)
        row = Gather(T, user)
        y = Mul(row, column)"""
    constants = {"zero": np.array(0), "one": np.array([1]), "T": weight(4, 1)}
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", body, **constants)
    rewritten = rewrite(model, schema_of([categorical("user", 4)], [USER]))
    assert sorted(map(tuple, rewritten.tables["user"].T.tolist())) == sorted(
        [(1, 0, 0, 0), tuple(weight(4, 1)[:, 0].tolist())]
    )


@pytest.mark.parametrize(
    ("layer", "left"),
    [
        ("x = Gemm(price, W, b) y = BatchNormalization(x, s, b, m, v)", ["Gemm"]),
        ("x = Gemm <alpha: float = 2.0, beta: float = 0.5, transB: int = 1> (price, V, b) "
         "y = BatchNormalization(x, s, b, m, v)", ["Gemm"]),
        ("p = MatMul(price, W) x = Add(b, p) y = BatchNormalization(x, s, b, m, v)", ["Gemm"]),
        ("p = MatMul(price, W) x = Dropout(p) y = BatchNormalization <epsilon: float = 0.1> (x, s, b, m, v)", ["Gemm"]),
        ("p = MatMul(price, W) x = Relu(p) y = BatchNormalization(x, s, b, m, v)", ["MatMul", "Relu", "Mul", "Add"]),
        ("p = MatMul(price, W) n = BatchNormalization(p, s, b, m, v) y = Sub(n, p)", ["MatMul", "Mul", "Add", "Sub"]),
    ],
)  # fmt: skip
def test_rewrite_folds_batch_norm_when_only_it_reads_the_layer(layer: str, left: list[str]) -> None:
    constants = {"W": weight(2, 3), "V": weight(3, 2), "b": weight(3), "s": weight(3, seed=1), "m": weight(3, seed=2)}
    body = f"{layer} row = Gather(T, user) sum = Add(y, row)"
    constants |= {"v": np.array([0.5, 1, 2], np.float32), "T": weight(4, 3)}
    model = graph_of("(int64[rows] user, float[rows,2] price) => (float[rows,3] sum)", body, **constants)
    tasks = tuple(Task(name=name, label=f"is_{name}") for name in "abc")
    schema = schema_of([categorical("user", 4), dense("price", 2)], [USER, PRICE], tasks=tasks)
    assert operators(rewrite(model, schema)) == [*left, "Add"]


def test_rewrite_feeds_zeros_for_ids_when_a_whole_matrix_is_read_and_they_do_not_matter() -> None:
    body = """
        ids = Gather <axis = 1> (x, first)
        whole = Cast <to = 7> (ids)
        row = Gather(T, whole)
        all = MatMul(x, W)
        y = Add(row, all)"""
    zeros = np.array([[0.0], [1.5]], np.float32)
    model = graph_of("(float[rows,2] x) => (float[rows,1] y)", body, first=np.array(0), T=weight(4, 1), W=zeros)
    schema = schema_of([categorical("user", 4), dense("price")], [packed("x", "user", "price", dtype="float32")])
    assert rewrite(model, schema).difference < 1e-6
    reads_ids = graph_of(
        "(float[rows,2] x) => (float[rows,1] y)", body, first=np.array(0), T=weight(4, 1), W=weight(2, 1)
    )
    with pytest.raises(RewriteError, match=r"MatMul.*reads ids of the packed matrix as numbers"):
        rewrite(reads_ids, schema)


@pytest.mark.parametrize(
    ("tail", "links"),
    [
        ("s = Sigmoid(z) y = Squeeze(s, one)", ("sigmoid",)),
        ("s = Sigmoid(z) f = Flatten(s) c = Cast <to = 11> (f) y = Cast <to = 1> (c)", ("sigmoid",)),
        ("s = Sigmoid(z) n = Neg(s) y = Sigmoid(n)", ("sigmoid",)),
        ("s = Sigmoid(z) y = Neg(s)", ("identity",)),
        ("s = Sigmoid(z) y = Concat <axis = 1> (s, z)", ("sigmoid", "identity")),
        ("s = Sigmoid(z) two = Concat <axis = -1> (s, s) y = Reshape(two, shape)", ("sigmoid", "sigmoid")),
        ("two = Concat <axis = 1> (z, z) s = Sigmoid(two) y = Gather <axis = 1> (s, one)", ("sigmoid",)),
    ],
)
def test_rewrite_takes_the_final_sigmoid_as_link_when_only_shapes_follow(tail: str, links: tuple[str, ...]) -> None:
    constants = {"one": np.array([1]), "shape": np.array([-1, 2]), "T": weight(4, 1)}
    model = graph_of("(int64[rows] user) => (float y)", f"z = Gather(T, user) {tail}", **constants)
    tasks = tuple(Task(name=f"task_{place}", label=f"label_{place}") for place in range(len(links)))
    rewritten = rewrite(model, schema_of([categorical("user", 4)], [USER], tasks=tasks))
    assert rewritten.links == links


def test_rewrite_orders_outputs_by_task_when_they_have_their_names() -> None:
    model = graph_of(
        "(int64[rows] user) => (float[rows,1] buy, float[rows,1] click)",
        "z = Gather(T, user) buy = Neg(z) click = Sigmoid(z)",
        T=weight(4, 1),
    )
    tasks = (Task(name="click", label="clicked"), Task(name="buy", label="bought"))
    schema = schema_of([categorical("user", 4)], [USER], tasks=tasks)
    rewritten = rewrite(model, schema)
    assert rewritten.links == ("sigmoid", "identity")
    batch = random_batch(schema, {"user": 4}, 24)
    logits = logits_of(rewritten, schema, batch)
    np.testing.assert_allclose(logits[:, 0], -logits[:, 1])


def test_rewrite_takes_the_rest_of_a_table_when_a_vocabulary_does_not_say_its_size() -> None:
    body = "shifted = Add(x, offsets) rows = Gather(T, shifted) y = ReduceSum <keepdims: int = 0> (rows, axis)"
    constants = {"offsets": np.array([0, 5]), "T": weight(9, 1), "axis": np.array([1])}
    model = graph_of("(int64[rows,2] x) => (float[rows,1] y)", body, **constants)
    first, second = (categorical(name, 1).model_copy(update={"encoding": Vocabulary()}) for name in ("a", "b"))
    rewritten = rewrite(model, schema_of([first, second], [packed("x", "a", "b")]))
    assert {name: rows.shape for name, rows in rewritten.tables.items()} == {"a": (5, 1), "b": (4, 1)}


def test_rewrite_makes_a_table_of_zeros_when_the_model_does_not_read_a_column() -> None:
    model = graph_of(
        "(int64[rows,2] x) => (float[rows,1] y)",
        "id = Gather <axis = 1> (x, first) y = Gather(T, id)",
        first=np.array(0),
        T=weight(4, 1),
    )
    rewritten = rewrite(model, schema_of([categorical("a", 4), categorical("b", 3)], [packed("x", "a", "b")]))
    np.testing.assert_array_equal(rewritten.tables["b"], np.zeros((3, 1)))


def test_rewrite_folds_layers_when_features_share_names_with_values_of_the_graph() -> None:
    model = graph_of(
        "(int64[rows] user) => (float[rows,1] logits)", "item = Gather(user_table, user) logits = Neg(item)",
        user_table=weight(4, 1),
    )  # fmt: skip
    schema = schema_of([categorical("item", 4)], [Argument(name="user", feature="item")])
    rewritten = rewrite(model, schema)
    assert [value.name for value in rewritten.graph.graph.input] == ["item"]
    np.testing.assert_array_equal(rewritten.tables["item"], weight(4, 1))


@pytest.mark.parametrize("seed", range(6))
def test_rewrite_finds_every_field_when_columns_are_cut_and_shifted_at_random(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(2, 9, 4)
    order = random.permutation(4)
    offsets = np.concatenate([[0], np.cumsum(sizes[order])[:-1]])
    body = """
        some = Gather <axis = 1> (x, order)
        left, right = Split <axis = 1, num_outputs: int = 2> (some)
        joined = Concat <axis = 1> (right, left)
        ids = Add(joined, offsets)
        turned = Transpose <perm = [1, 0]> (ids)
        rows = Gather(T, turned)
        back = Transpose <perm = [1, 0, 2]> (rows)
        flat = Flatten(back)
        y = MatMul(flat, W)"""
    moved = np.roll(order, 2)
    starts = np.empty(4, np.int64)
    starts[order] = offsets
    constants = {"order": order, "offsets": starts[moved], "T": weight(int(sizes.sum()), 3), "W": weight(12, 1)}
    model = graph_of("(int64[rows,4] x) => (float[rows,1] y)", body, **constants)
    names = [f"c{field}" for field in range(4)]
    features = [categorical(name, int(size)) for name, size in zip(names, sizes, strict=True)]
    schema = schema_of(features, [packed("x", *names)])
    rewritten = rewrite(model, schema)
    for field, size in enumerate(sizes):
        expected = constants["T"][starts[field] : starts[field] + size]
        np.testing.assert_array_equal(rewritten.tables[f"c{field}"], expected)


@pytest.mark.parametrize("guard", ["Clip(user, low, high)", "Mod(user, size)", "Max(low, user)", "Sub(user, low)"])
def test_rewrite_drops_a_guard_when_it_changes_no_id(guard: str) -> None:
    constants = {"low": np.array(0), "high": np.array(3), "size": np.array(4), "T": weight(4, 1)}
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", f"ids = {guard} y = Gather(T, ids)", **constants)
    rewritten = rewrite(model, schema_of([categorical("user", 4)], [USER]))
    np.testing.assert_array_equal(rewritten.tables["user"], weight(4, 1))


def test_rewrite_counts_rows_from_the_end_when_ids_begin_at_one() -> None:
    body = "ids = Sub(user, one) y = Gather(T, ids)"
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", body, one=np.array(1), T=weight(4, 1))
    rewritten = rewrite(model, schema_of([categorical("user", 4)], [USER]))
    np.testing.assert_array_equal(rewritten.tables["user"], np.roll(weight(4, 1), 1))


def test_rewrite_keeps_half_precision_inside_when_the_table_has_it() -> None:
    half = weight(4, 2).astype(np.float16)
    body = "row = Gather(T, user) wide = Cast <to = 1> (row) y = ReduceSum(wide, axis)"
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", body, T=half, axis=np.array([1]))
    rewritten = rewrite(model, schema_of([categorical("user", 4)], [USER]))
    np.testing.assert_array_equal(rewritten.tables["user"], half.astype(np.float32))


def test_rewrite_reads_no_ids_when_a_value_is_cast_to_the_type_of_their_matrix() -> None:
    body = """
        shape = Shape <start: int = 0, end: int = 1> (x)
        target = Concat <axis = 0> (shape, one)
        made = ConstantOfShape(target)
        zeros = CastLike(made, x)
        column = Slice(x, zero, one, one)
        user = Cast <to = 7> (column)
        row = Gather(T, user)
        found = Squeeze(row, one)
        y = Add(zeros, found)"""
    model = graph_of(
        "(float[rows,2] x) => (float[rows,1] y)", body, one=np.array([1]), zero=np.array([0]), T=weight(4, 1)
    )
    argument = packed("x", "user", "item", dtype="float32")
    rewritten = rewrite(model, schema_of([categorical("user", 4), categorical("item", 5)], [argument]))
    assert "CastLike" not in operators(rewritten)
    np.testing.assert_array_equal(rewritten.tables["user"], weight(4, 1))


def test_check_equal_refuses_when_a_table_was_changed() -> None:
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", "y = Gather(T, user)", T=weight(4, 1))
    schema = schema_of([categorical("user", 4)], [USER])
    rewritten = rewrite(model, schema)
    batch = random_batch(schema, {"user": 4}, 24, seed=3)
    assert check_equal(model, rewritten, schema, batch) == 0
    rewritten.tables["user"][:] += 1e-3
    with pytest.raises(RewriteError, match=r"differ from the original's \(got 0.001"):
        check_equal(model, rewritten, schema, batch)


def test_check_equal_refuses_when_a_list_holds_its_padding() -> None:
    body = "rows = Gather(T, seen) y = ReduceSum <keepdims: int = 0> (rows, axis)"
    model = graph_of("(int64[rows,3] seen) => (float[rows,1] y)", body, T=weight(4, 1), axis=np.array([1]))
    schema = schema_of([sequence("seen", 4, 3)], [Argument(name="seen", feature="seen", form="padded")])
    rewritten = rewrite(model, schema)
    seen = Ragged(np.array([1, 0], np.int32), np.array([0, 2], np.int32))
    batch = Batch({"seen": seen}, {}, {}, np.zeros(1, np.int32), np.zeros(1, np.int32))
    assert call_arguments(schema.call, schema, batch)["seen"].tolist() == [[1, 0, 0]]
    with pytest.raises(RewriteError, match="seen: a list holds the id 0"):
        check_equal(model, rewritten, schema, batch)


@pytest.mark.parametrize(("dim", "expected"), [(1, "Relu"), (4, "Neg")])
def test_rewrite_takes_the_branch_when_an_if_asks_for_a_shape(dim: int, expected: str) -> None:
    body = """
    u = Gather(T, user)
    sizes = Shape(u)
    axis = Constant <value = int64[1] {1}> ()
    size = Gather(sizes, axis)
    one = Constant <value = int64[1] {1}> ()
    same = Equal(size, one)
    v = If (same) <
      then_branch = narrow () => (thin) { thin = Relu(u) },
      else_branch = keeps () => (wide) { wide = Neg(u) }
    >
    y = MatMul(v, W)
    """
    schema = schema_of([categorical("user", 5)], [USER])
    rewritten = rewrite(
        graph_of("(int64[rows] user) => (float[rows,1] y)", body, T=weight(5, dim), W=weight(dim, 1)), schema
    )
    assert operators(rewritten) == [expected, "MatMul"]


def test_rewrite_keeps_an_if_when_it_asks_for_values() -> None:
    body = """
    u = Gather(T, user)
    top = ReduceMax <keepdims = 0> (u)
    zero = Constant <value = float {0.0}> ()
    some = Greater(top, zero)
    v = If (some) <
      then_branch = doubles () => (twice) { twice = Add(u, u) },
      else_branch = keeps () => (once) { once = Identity(u) }
    >
    y = MatMul(v, W)
    """
    schema = schema_of([categorical("user", 5)], [USER])
    rewritten = rewrite(
        graph_of("(int64[rows] user) => (float[rows,1] y)", body, T=weight(5, 4), W=weight(4, 1)), schema
    )
    assert operators(rewritten).count("If") == 1
