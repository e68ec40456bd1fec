"""An encoded batch in the forms in which models from elsewhere take it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rankine.errors import BadRequest, ConfigError
from rankine.models.arguments import call_arguments
from rankine.models.call import Argument, Call, PackedColumn
from rankine.models.columns import Batch, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
)

IDS = Identity(size=100)
SCHEMA = Schema(
    features=(
        CategoricalFeature(name="user", side="request", encoding=IDS),
        CategoricalFeature(name="item", side="item", encoding=IDS),
        DenseFeature(name="age", side="request", normalization="none"),
        DenseFeature(name="price", side="item", width=2, normalization="none"),
        MultiHotFeature(name="tags", side="pair", encoding=IDS),
        SequenceFeature(name="history", side="request", encoding=IDS, max_length=3),
    ),
    item_id="item",
)
BATCH = Batch(
    request={
        "user": np.array([5, 6], np.int32),
        "age": np.array([[30], [40]], np.float32),
        "history": Ragged(np.array([1, 2, 3, 4, 9], np.int32), np.array([0, 4, 5], np.int32)),
    },
    item={"item": np.array([7, 8, 9], np.int32), "price": np.arange(6, dtype=np.float32).reshape(3, 2) + 0.5},
    pair={"tags": Ragged(np.array([10, 11, 12], np.int32), np.array([0, 2, 2, 3], np.int32))},
    request_index=np.array([0, 0, 1], np.int32),
    item_index=np.array([2, 0, 1], np.int32),
)


def build(schema: Schema = SCHEMA, batch: Batch = BATCH, **argument: Any) -> np.ndarray:
    """The one argument of a call; the call of a whole schema holds every feature, this need not."""
    return call_arguments(Call(arguments=(Argument(name="x", **argument),)), schema, batch)["x"]


@pytest.mark.parametrize(
    ("argument", "expected", "dtype"),
    [
        ({"feature": "user"}, [5, 5, 6], "int64"),
        ({"feature": "item", "form": "column", "dtype": "int32"}, [[9], [7], [8]], "int32"),
        ({"feature": "age", "form": "flat"}, [30, 30, 40], "float32"),
        ({"feature": "user", "form": "flat"}, [5, 5, 6], "int64"),
        ({"feature": "price"}, [[4.5, 5.5], [0.5, 1.5], [2.5, 3.5]], "float32"),
        ({"feature": "tags", "form": "values"}, [10, 11, 12], "int64"),
        ({"feature": "tags", "form": "offsets"}, [0, 2, 2], "int64"),
        ({"feature": "tags", "form": "ends"}, [0, 2, 2, 3], "int64"),
        ({"feature": "tags", "form": "weights"}, [1, 1, 1], "float32"),
        ({"feature": "history", "form": "length"}, [3, 3, 1], "int64"),
        ({"feature": "history", "form": "padded", "pad": 99}, [[2, 3, 4], [2, 3, 4], [9, 99, 99]], "int64"),
        ({"feature": "history", "form": "mask", "dtype": "bool"}, [[1, 1, 1], [1, 1, 1], [1, 0, 0]], "bool"),
    ],
)
def test_argument_has_its_form_when_a_feature_is_handed_over(
    argument: dict[str, Any], expected: list[Any], dtype: str
) -> None:
    found = build(**argument)
    assert found.dtype == dtype
    assert found.tolist() == np.array(expected, dtype).tolist()


def test_first_values_stay_when_a_sequence_is_cut_on_the_right() -> None:
    history = SequenceFeature(name="history", side="request", encoding=IDS, max_length=3, truncation="right")
    schema = SCHEMA.model_copy(update={"features": (*SCHEMA.features[:-1], history)})
    assert build(schema, feature="history", form="padded").tolist() == [[1, 2, 3], [1, 2, 3], [9, 0, 0]]


def test_given_weights_are_passed_on_when_a_bag_has_them() -> None:
    weighted = Ragged(BATCH.pair["tags"].values, BATCH.pair["tags"].offsets, np.array([1, 2, 3], np.float32))  # type: ignore[union-attr]
    batch = Batch(BATCH.request, BATCH.item, {"tags": weighted}, BATCH.request_index, BATCH.item_index)
    assert build(batch=batch, feature="tags", form="weights").tolist() == [1, 2, 3]


def test_matrix_has_the_columns_in_order_when_features_are_packed() -> None:
    columns = (
        PackedColumn(feature="item"),
        PackedColumn(feature="price"),
        PackedColumn(feature="history", pad=-1),
        PackedColumn(feature="history", part="length"),
    )
    found = build(form="packed", columns=columns, dtype="float32")
    assert found.dtype == np.float32
    assert found.tolist() == [[9, 4.5, 5.5, 2, 3, 4, 3], [7, 0.5, 1.5, 2, 3, 4, 3], [8, 2.5, 3.5, 9, -1, -1, 1]]


def test_packed_ids_stay_integers_when_no_dense_feature_is_among_them() -> None:
    found = build(form="packed", columns=(PackedColumn(feature="user"), PackedColumn(feature="item")))
    assert found.dtype == np.int64
    assert found.tolist() == [[5, 9], [5, 7], [6, 8]]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            {"feature": "user", "form": "padded"},
            r"argument 'x': feature 'user' of kind categorical has no form 'padded'",
        ),
        ({"feature": "tags"}, r"kind multi_hot has no form 'value' \(allowed: values, offsets, ends, weights\)"),
        ({"form": "packed", "columns": ({"feature": "tags"},)}, r"cannot hold the value of 'tags'"),
        ({"form": "packed", "columns": ({"feature": "user", "part": "length"},)}, r"the length of 'user'"),
    ],
)
def test_form_is_refused_when_the_kind_does_not_have_it(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**argument)


def test_missing_column_is_named_when_the_batch_lacks_it() -> None:
    batch = Batch({}, BATCH.item, BATCH.pair, BATCH.request_index, BATCH.item_index)
    with pytest.raises(BadRequest, match="user: the batch lacks this column"):
        build(batch=batch, feature="user")


def test_call_is_refused_when_a_flat_argument_has_several_numbers() -> None:
    with pytest.raises(ConfigError, match=r"'price' has 2 numbers a row.*Write form 'value'"):
        build(feature="price", form="flat")
