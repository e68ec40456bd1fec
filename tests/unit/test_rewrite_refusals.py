"""What cannot be rewritten is named with its place in the model and what to change."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from rankine.models.call import Argument
from rankine.models.rewrite import RewriteError, rewrite
from rankine.models.schema import CategoricalFeature, Schema, Vocabulary
from unit.rewrite_models import categorical, dense, graph_of, multi_hot, packed, schema_of, sequence, weight

USER = Argument(name="user", feature="user")
T = weight(4, 1)


def users(size: int = 4) -> Schema:
    return schema_of([categorical("user", size)], [USER])


def refusal(model: onnx.ModelProto, schema: Schema) -> str:
    with pytest.raises(RewriteError) as caught:
        rewrite(model, schema)
    assert caught.value.hint, "an error says what to change"
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("n = Cast <to = 1> (user) m = Mul(n, s) y = Unsqueeze(m, one)", "Mul.*computes with the ids of 'user'"),
        ("big = Greater(user, two) c = Cast <to = 1> (big) y = Unsqueeze(c, one)", "Greater.*reads the ids of 'user'"),
        ("f = Cast <to = 1> (user) e = Equal(f, half) c = Cast <to = 1> (e) u = Unsqueeze(c, one) y = Sigmoid(u)",
         "Equal.*reads the ids of 'user'"),
        ("n = NonZero(user) t = Transpose(n) y = Cast <to = 1> (t)", "'NonZero' depends on the ids of 'user'"),
        ("two_ids = Mul(user, two) y = Gather(T, two_ids)", "Mul.*computes with the ids of 'user'"),
        ("other = Gather(map, user) y = Gather(T, other)", "Gather.*the table 'map' holds int64"),
        ("ids = Mod(user, two) y = Gather(T, ids)", "'Mod' changes ids of 'user' .got 2 becomes 0"),
        ("y = example.Magic(user)", "the operator 'example.Magic' is not one of ONNX"),
        ("hot = OneHot <axis = -1> (user, huge, values) y = MatMul(hot, T)", "too wide"),
        ("f = Cast <to = 1> (user) g = Unsqueeze(f, one) h = Gather(T, user) y = Concat <axis = 1> (g, h)",
         "Concat.*reads the ids of 'user'"),
    ],
)  # fmt: skip
def test_rewrite_names_the_operator_when_it_reads_ids_in_an_unknown_way(body: str, told: str) -> None:
    constants = {
        "s": np.float32(3),
        "one": np.array([1]),
        "two": np.array(2),
        "half": np.float32(1.5),
        "map": np.array([3, 1, 2, 0]),
        "T": T,
    }
    constants |= {"huge": np.array(10**6), "values": np.array([0, 1], np.float32)}
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", body, **constants)
    for position, node in enumerate(model.graph.node):
        node.name = f"/layer/step_{position}"
    if "example" in body:
        model.opset_import.append(onnx.helper.make_opsetid("example", 1))
    message = refusal(model, users())
    assert "in module 'layer'" in message
    assert re.search(told, message), message


def test_rewrite_asks_for_the_module_when_the_file_has_a_loop_over_a_list() -> None:
    body = """
        first = SequenceConstruct(values)
        item = SequenceAt(first, zero)
        rows = Gather(T, item)
        y = Add(rows, rows)"""
    model = graph_of("(int64[m] values, int64[n] offsets) => (float y)", body, zero=np.array(0), T=T)
    arguments = [Argument(name=name, feature="tags", form=name) for name in ("values", "offsets")]
    message = refusal(model, schema_of([multi_hot("tags", 4)], arguments))
    assert "'SequenceConstruct' reads the list of values of 'tags'" in message
    assert "Bring the nn.Module or the .pt2 file instead" in message


def test_rewrite_says_both_numbers_when_the_schema_has_more_ids_than_the_table() -> None:
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", "y = Gather(T, user)", T=T)
    message = refusal(model, users(size=6))
    assert "user: the schema has 6 ids" in message
    assert "'T' has 4 rows" in message


def test_rewrite_refuses_when_a_field_runs_over_the_end_of_a_shared_table() -> None:
    body = "ids = Add(x, offsets) rows = Gather(T, ids) y = ReduceSum <keepdims: int = 0> (rows, axis)"
    constants = {"offsets": np.array([0, 2]), "axis": np.array([1]), "T": T}
    model = graph_of("(int64[rows,2] x) => (float[rows,1] y)", body, **constants)
    schema = schema_of([categorical("a", 2), categorical("b", 3)], [packed("x", "a", "b")])
    assert "'T' has 4 rows, the feature begins at row 2; allowed: a size of at most 2" in refusal(model, schema)


def test_rewrite_refuses_when_features_share_a_table_that_the_model_does_not() -> None:
    body = "left = Gather(A, a) right = Gather(B, b) y = Add(left, right)"
    model = graph_of("(int64[rows] a, int64[rows] b) => (float[rows,1] y)", body, A=T, B=weight(4, 1, seed=1))
    features = [categorical("a", 4, table="shared"), categorical("b", 4, table="shared")]
    schema = schema_of(features, [Argument(name=name, feature=name) for name in "ab"])
    message = refusal(model, schema)
    assert "table 'shared': features 'a' and 'b' share it in the schema, but not in the model" in message


def test_rewrite_refuses_when_vocabularies_are_looked_up_in_tables_of_different_sizes() -> None:
    body = "left = Gather(A, user) right = Gather(B, user) y = Add(left, right)"
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", body, A=T, B=weight(5, 1))
    feature = CategoricalFeature(name="user", side="request", encoding=Vocabulary())
    assert "tables of different sizes (got 4, 5)" in refusal(model, schema_of([feature], [USER]))


def test_rewrite_refuses_when_a_table_is_looked_up_by_numbers() -> None:
    body = """
        whole = Cast <to = 7> (price)
        looked = Gather(T, whole)
        row = Squeeze(looked, one)
        other = Gather(T, user)
        y = Add(row, other)"""
    model = graph_of("(float[rows,1] price, int64[rows] user) => (float y)", body, T=T, one=np.array([1]))
    price = Argument(name="price", feature="price", dtype="float32")
    message = refusal(model, schema_of([dense("price"), categorical("user", 4)], [price, USER]))
    assert "the table 'T' is looked up by 'whole', which is not a feature" in message


@pytest.mark.parametrize(
    ("given", "schema", "told"),
    [
        ("(int64[rows] visitor)", users(), "no argument for the graph's input 'visitor'"),
        ("(int64[4] user)", users(), "the input 'user' has a fixed number of rows"),
        ("(int64[rows,1] user)", users(), "the graph's input has 2 dimensions, the call gives it 1"),
    ],
)
def test_rewrite_refuses_when_the_call_is_not_that_of_the_graph(given: str, schema: Schema, told: str) -> None:
    name = given.split()[-1].rstrip(")")
    model = graph_of(f"{given} => (float y)", f"y = Gather(T, {name})", T=T)
    assert told in refusal(model, schema)


def test_rewrite_refuses_when_the_schema_has_no_call() -> None:
    model = graph_of("(int64[rows] user) => (float[rows,1] y)", "y = Gather(T, user)", T=T)
    schema = users().model_copy(update={"call": None})
    assert "the schema does not say how the model is called" in refusal(model, schema)


def test_rewrite_refuses_when_outputs_are_not_as_many_as_tasks() -> None:
    model = graph_of("(int64[rows] user) => (float[rows,2] y)", "y = Gather(T, user)", T=weight(4, 2))
    assert "got 2 outputs, 1 tasks" in refusal(model, users())


def test_rewrite_refuses_when_an_output_is_not_by_row() -> None:
    body = "row = Gather(T, user) y = ReduceMean <keepdims: int = 0> (row)"
    model = graph_of("(int64[rows] user) => (float y)", body, T=T)
    assert "an output of the model is not by row" in refusal(model, users())


def test_rewrite_refuses_when_the_padding_is_not_in_the_table() -> None:
    body = "rows = Gather(T, seen) y = ReduceSum <keepdims: int = 0> (rows, axis)"
    model = graph_of("(int64[rows,3] seen) => (float[rows,1] y)", body, T=T, axis=np.array([1]))
    schema = schema_of([sequence("seen", 4, 3)], [Argument(name="seen", feature="seen", form="padded", pad=7)])
    message = refusal(model, schema)
    assert "seen: the id that fills it up is not in the table (got 7; allowed: 0..3)" in message


def test_rewrite_refuses_when_a_sequence_is_compared_with_another_id_than_its_padding() -> None:
    body = """
        odd = Equal(seen, three)
        flags = Cast <to = 1> (odd)
        y = ReduceSum (flags, axis)"""
    constants = {"three": np.array(3), "axis": np.array([1])}
    model = graph_of("(int64[rows,3] seen) => (float[rows,1] y)", body, **constants)
    schema = schema_of([sequence("seen", 4, 3)], [Argument(name="seen", feature="seen", form="padded")])
    assert "compares the ids of 'seen' with 3, which is not their padding" in refusal(model, schema)


def bag(**attributes: object) -> onnx.ModelProto:
    options = {"mode": "mean", "include_last_offset": 1, **attributes}
    node = onnx.helper.make_node("EmbeddingBag", ["T", "values", "offsets"], ["y"], domain="rankine", **options)
    model = graph_of("(int64[m] values, int64[n] offsets) => (float[rows,1] y)", "y = Identity(T)", T=T)
    model.graph.node[0].CopyFrom(node)
    return model


def bags(second: str = "ends", feature: str = "tags", **options: object) -> Schema:
    arguments = [
        Argument(name="values", feature="tags", form="values"),
        Argument(name="offsets", feature=feature, form=second),
    ]
    features = [multi_hot("tags", 4, **options)] + ([multi_hot(feature, 4)] if feature != "tags" else [])
    return schema_of(features, arguments)


@pytest.mark.parametrize(
    ("model", "schema", "told"),
    [
        (bag(mode="sum"), bags(), "Write 'pooling: sum' for this feature"),
        (bag(padding_idx=2), bags(), "leaves id 2 out of the mean"),
        (bag(), bags(second="offsets"), "got values of 'tags', offsets of 'tags'; allowed: values, ends"),
        (bag(), bags(feature="genres"), "got values of 'tags', ends of 'genres'"),
        (bag(mode="sum"), bags(pooling="sum", weights="weight"), "the schema weights the values, the model does not"),
    ],
)
def test_rewrite_refuses_a_bag_when_it_is_not_what_the_schema_says(
    model: onnx.ModelProto, schema: Schema, told: str
) -> None:
    message = refusal(model, schema)
    assert "EmbeddingBag" in message
    assert told in message
