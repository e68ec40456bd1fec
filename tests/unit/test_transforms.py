"""Raw values to ids and numbers, and the way through an artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankine.artifact import Artifact, Draft
from rankine.errors import ArtifactError, DataError
from rankine.models.call import Argument, Call
from rankine.models.columns import Column, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Encoding,
    Hash,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Vocabulary,
)
from rankine.models.transforms import Transforms


def transforms(feature: Any, column: Column) -> Transforms:
    return Transforms.fit(Schema(features=(feature,), item_id="item"), {feature.name: column})


def encode(fitted: Transforms, column: Column) -> Any:
    (feature,) = fitted.schema.features
    return fitted.encode((feature,), {feature.name: column})[feature.name]


def category(dtype: Any = "int64", encoding: Encoding = Vocabulary()) -> CategoricalFeature:  # noqa: B008 - frozen
    return CategoricalFeature(name="x", side="item", dtype=dtype, encoding=encoding)


def number(**settings: Any) -> DenseFeature:
    return DenseFeature(name="x", side="item", **settings)


def test_vocabulary_numbers_sorted_values_from_one_when_fitted() -> None:
    fitted = transforms(category(), np.array([30, 10, 20, 10]))
    assert encode(fitted, np.array([10, 20, 30])).tolist() == [1, 2, 3]
    assert fitted.table_rows() == {"x": 4}


def test_ids_are_the_out_of_vocabulary_row_when_values_are_new() -> None:
    fitted = transforms(category(), np.array([10, 20]))
    ids = encode(fitted, np.array([-(2**63), 9, 15, 21, 2**63 - 1]))
    assert ids.tolist() == [0] * 5
    assert ids.dtype == np.int32


def test_new_value_is_refused_when_the_schema_says_error() -> None:
    fitted = transforms(category("string", Vocabulary(out_of_vocabulary="error")), np.array(["a", "b"]))
    with pytest.raises(DataError, match=r"x: value is not in the vocabulary .got ß"):
        encode(fitted, np.array(["a", "ß"]))


def test_rare_values_are_left_out_when_min_count_is_set() -> None:
    fitted = transforms(category(encoding=Vocabulary(min_count=2)), np.array([1, 1, 2]))
    assert encode(fitted, np.array([1, 2])).tolist() == [1, 0]


def test_every_id_is_out_of_vocabulary_when_the_vocabulary_is_empty() -> None:
    fitted = transforms(category(encoding=Vocabulary(min_count=5)), np.array([1, 2]))
    assert encode(fitted, np.array([1, 2])).tolist() == [0, 0]
    assert fitted.table_rows() == {"x": 1}


@pytest.mark.parametrize(
    "column",
    [
        np.array(["b", "zoë", "unseen and long"]),
        np.array(["b", "zoë", "unseen and long"], object),
        np.array([text.encode() for text in ("b", "zoë", "unseen and long")]),
    ],
    ids=["unicode", "objects", "bytes"],
)
def test_string_ids_are_equal_when_strings_come_in_different_forms(column: np.ndarray) -> None:
    fitted = transforms(category("string"), np.array(["zoë", "a", "b"]))
    assert encode(fitted, column).tolist() == [2, 3, 0]


def test_string_is_refused_when_it_is_not_valid_unicode() -> None:
    fitted = transforms(category("string"), np.array(["a"]))
    with pytest.raises(DataError, match="x: must be valid Unicode"):
        encode(fitted, np.array(["\ud800"], object))


@pytest.mark.parametrize(
    ("feature", "training", "wrong", "message"),
    [
        (category(), np.array([1]), np.array([1.5]), "must be integers"),
        (category(), np.array([1]), np.array(["1"]), "must be integers"),
        (category("string"), np.array(["1"]), np.array([1]), "must be strings"),
        (category("string"), np.array(["1"]), np.array([None], object), "must be strings"),
        (category(), np.array([1]), np.array([2**63], np.uint64), "must fit int64 .got 9223372036854775808"),
        (category(), np.array([1]), np.array([2**64 - 1], np.uint64), "must fit int64"),
        (category("string"), np.array(["1"]), np.array(["1\0"], object), "must not end in NUL"),
        (category(), np.array([1]), Ragged.from_lists([[1]]), "must be one value a row"),
        (MultiHotFeature(name="x", side="item"), Ragged.from_lists([[1]]), np.array([1]), "must be a list"),
        (number(), np.array([1.0]), np.array(["1"]), "must be numbers"),
        (number(), np.array([1.0]), Ragged.from_lists([[1]]), "must be numbers"),
        (number(), np.array([1.0]), np.array([np.nan]), "must be finite"),
        (number(), np.array([1.0]), np.array([1e300]), "must be finite"),
        (number(width=2), np.ones((1, 2)), np.ones((1, 3)), "has the wrong width.*got 3; allowed: 2"),
        (number(normalization="log1p"), np.array([1.0]), np.array([-1.0]), "must be above -1"),
    ],
)
def test_column_is_refused_with_the_feature_named_when_of_the_wrong_type(
    feature: Any, training: Column, wrong: Column, message: str
) -> None:
    fitted = transforms(feature, training)
    with pytest.raises(DataError, match=f"x: {message}"):
        encode(fitted, wrong)


def test_ids_are_found_when_they_come_as_unsigned_integers() -> None:
    fitted = transforms(category(), np.array([10, 2**63 - 1]))
    assert encode(fitted, np.array([10, 2**63 - 1, 3], np.uint64)).tolist() == [1, 2, 0]


def test_identity_keeps_ids_when_in_range() -> None:
    fitted = transforms(category(encoding=Identity(size=3)), np.array([0]))
    assert encode(fitted, np.array([2, 0, 1])).tolist() == [2, 0, 1]
    assert fitted.table_rows() == {"x": 3}


@pytest.mark.parametrize("value", [-1, 3, 2**40])
def test_identity_is_refused_when_out_of_range(value: int) -> None:
    fitted = transforms(category(encoding=Identity(size=3)), np.array([0]))
    with pytest.raises(DataError, match=rf"x: id out of range .got {value}; allowed: 0\.\.2"):
        encode(fitted, np.array([0, value]))


def test_hash_gives_the_published_ids_when_the_seed_is_fixed() -> None:
    """Frozen numbers: an artifact's tables are only right as long as no version and no machine changes them."""
    numbers = transforms(category(encoding=Hash(buckets=1000, seed=7)), np.array([0]))
    texts = transforms(category("string", Hash(buckets=1000, seed=7)), np.array(["a"]))
    assert encode(numbers, np.array([0, 1, -1, 2**62])).tolist() == [327, 674, 376, 841]
    assert encode(texts, np.array(["", "a", "zoë"])).tolist() == [744, 874, 351]


def test_hash_changes_when_the_seed_changes() -> None:
    values = np.arange(100)
    ids = [encode(transforms(category(encoding=Hash(buckets=50, seed=s)), values), values) for s in (0, 1)]
    assert (ids[0] != ids[1]).sum() > 80
    assert all(part.min() >= 0 and part.max() < 50 for part in ids)


def test_dense_has_mean_zero_and_unit_spread_when_standardized() -> None:
    values = np.random.default_rng(0).normal(50, 8, (1000, 3))
    encoded = encode(transforms(number(width=3), values), values)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(encoded.std(axis=0), 1, atol=1e-5)


def test_dense_is_standardized_after_the_logarithm_when_log1p() -> None:
    values = np.array([0.0, 1.0, 10.0, 1000.0])
    logs = np.log1p(values)
    encoded = encode(transforms(number(normalization="log1p"), values), values)
    np.testing.assert_allclose(encoded[:, 0], (logs - logs.mean()) / logs.std(), rtol=1e-5)


def test_dense_is_unchanged_when_normalization_is_none() -> None:
    values = np.array([3.5, -2.0], np.float32)
    assert encode(transforms(number(normalization="none"), values), values)[:, 0].tolist() == [3.5, -2.0]


def test_dense_stays_finite_when_the_training_column_is_constant() -> None:
    fitted = transforms(number(), np.full(1003, 0.1))
    assert np.abs(encode(fitted, np.array([0.1, 0.2]))).max() < 1


def test_dense_is_empty_when_there_are_no_rows() -> None:
    assert encode(transforms(number(width=2), np.ones((1, 2))), np.zeros((0, 2))).shape == (0, 2)
    assert encode(transforms(number(), np.ones(1)), np.zeros(0)).shape == (0, 1)


def test_multi_hot_keeps_lengths_and_weights_when_encoded() -> None:
    feature = MultiHotFeature(name="x", side="item", dtype="string")
    fitted = transforms(feature, Ragged.from_lists([["b", "a"], []]))
    weights = np.array([1.0, 2.0, 3.0], np.float32)
    encoded = encode(fitted, Ragged(np.array(["a", "new", "b"]), np.array([0, 0, 3], np.int32), weights))
    assert encoded.values.tolist() == [1, 0, 2]
    assert encoded.offsets.tolist() == [0, 0, 3]
    assert encoded.weights is weights


@pytest.mark.parametrize(("truncation", "kept"), [("left", [[2, 3], [], [1]]), ("right", [[1, 2], [], [1]])])
def test_sequence_is_cut_at_the_asked_end_when_it_is_too_long(truncation: Any, kept: list[list[int]]) -> None:
    feature = SequenceFeature(name="x", side="request", max_length=2, truncation=truncation)
    column = Ragged.from_lists([[10, 20, 30], [], [10]], np.int64)
    found = encode(transforms(feature, column), column)
    bounds = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    assert [found.values[start:end].tolist() for start, end in bounds] == kept
    assert found.offsets.dtype == np.int32


def test_sequence_is_refused_when_it_holds_the_padding_of_a_model_from_elsewhere() -> None:
    feature = SequenceFeature(name="x", side="request", encoding=Identity(size=5))
    call = Call(arguments=(Argument(name="ids", form="padded", feature="x", pad=3),))
    fitted = Transforms(Schema(features=(feature,), item_id="item", call=call), {}, {})
    assert encode(fitted, Ragged.from_lists([[1, 0], []], np.int64)).values.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"x: a list holds the id that the model takes for padding .got 3"):
        encode(fitted, Ragged.from_lists([[1, 3]], np.int64))


def test_list_is_refused_when_its_weights_would_not_reach_the_model() -> None:
    features = (
        MultiHotFeature(name="x", side="request", pooling="sum", encoding=Identity(size=5)),
        MultiHotFeature(name="y", side="request", pooling="sum", encoding=Identity(size=5)),
    )
    forms = {"x": ("values", "offsets", "weights"), "y": ("values", "offsets")}
    arguments = tuple(
        Argument(name=f"{name}_{form}", form=form, feature=name)  # type: ignore[arg-type]
        for name, parts in forms.items()
        for form in parts
    )
    fitted = Transforms(Schema(features=features, item_id="item", call=Call(arguments=arguments)), {}, {})
    weighted = Ragged(np.array([1, 2]), np.array([0, 2], np.int32), np.array([0.5, 2.0], np.float32))
    assert fitted.encode(features[:1], {"x": weighted})["x"].weights is weighted.weights  # type: ignore[union-attr]
    with pytest.raises(DataError, match="y: the model takes no weights of this list"):
        fitted.encode(features[1:], {"y": weighted})


def test_sequence_is_refused_when_it_is_no_list() -> None:
    feature = SequenceFeature(name="x", side="request")
    with pytest.raises(DataError, match="x: must be a list of values a row"):
        encode(transforms(feature, Ragged.from_lists([[1]], np.int64)), np.array([1]))


def test_ids_agree_when_features_share_a_table() -> None:
    schema = Schema(
        features=(
            MultiHotFeature(name="history", side="request", table="items"),
            CategoricalFeature(name="item", side="item", table="items"),
        ),
        item_id="item",
    )
    fitted = Transforms.fit(schema, {"history": Ragged.from_lists([[5, 9]]), "item": np.array([7, 5])})
    encoded = fitted.encode(schema.features, {"history": Ragged.from_lists([[7]]), "item": np.array([7])})
    assert fitted.table_rows() == {"items": 4}
    assert encoded["history"].values.tolist() == encoded["item"].tolist() == [2]  # type: ignore[union-attr]


FULL = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        CategoricalFeature(name="city", side="request", dtype="string"),
        CategoricalFeature(name="rare", side="request", encoding=Vocabulary(min_count=9)),
        MultiHotFeature(name="tags", side="item", dtype="string"),
        DenseFeature(name="price", side="item", width=2),
    ),
    item_id="item",
)
COLUMNS: dict[str, Column] = {
    "user": np.array([4, 2, 4]),
    "city": np.array(["Köln", "Bern", "Rome"]),
    "rare": np.array([1, 2, 3]),
    "tags": Ragged.from_lists([["x"], [], ["y", "x"]]),
    "price": np.array([[0.1, 5], [0.2, 7], [0.7, 5]]),
}


def test_transforms_encode_alike_when_read_back_from_an_artifact(tmp_path: Path) -> None:
    fitted = Transforms.fit(FULL, COLUMNS)
    draft = Draft("train", name="model")
    fitted.write(draft)
    read = Transforms.read(Artifact.open(draft.commit(tmp_path / "model").path))
    assert read.schema == FULL
    assert read.fingerprint() == fitted.fingerprint()
    before, after = (one.encode(FULL.features, COLUMNS) for one in (fitted, read))
    for name, column in before.items():
        other = after[name]
        if isinstance(column, Ragged):
            assert isinstance(other, Ragged)
            np.testing.assert_array_equal(column.offsets, other.offsets)
            column, other = column.values, other.values
        np.testing.assert_array_equal(column, other)


@pytest.mark.parametrize("part", ["normalization", "vocabularies"])
def test_read_is_refused_with_the_file_named_when_something_fitted_is_missing(tmp_path: Path, part: str) -> None:
    draft = Draft("train", name="model")
    Transforms.fit(FULL, COLUMNS).write(draft)
    artifact = draft.commit(tmp_path / "model")
    name = "transforms/transforms.json"
    damaged = Draft("train", parent=artifact)
    damaged.put_bytes(name, json.dumps(json.loads(artifact.read_bytes(name)) | {part: None}).encode())
    with pytest.raises(ArtifactError, match=r"transforms\.json"):
        Transforms.read(damaged.commit(tmp_path / "damaged"))
    damaged = Draft("train", parent=artifact)
    without = json.loads(artifact.read_bytes(name))
    del without[part]
    damaged.put_bytes(name, json.dumps(without).encode())
    with pytest.raises(ArtifactError, match=r"transforms\.json: lacks what was fitted for feature"):
        Transforms.read(damaged.commit(tmp_path / "lacking"))


@pytest.mark.parametrize(("name", "value"), [("user", np.array([4, 2, 5])), ("price", np.full((3, 2), 2.0))])
def test_fingerprint_changes_when_anything_fitted_changes(name: str, value: np.ndarray) -> None:
    assert Transforms.fit(FULL, COLUMNS).fingerprint() != Transforms.fit(FULL, {**COLUMNS, name: value}).fingerprint()


def test_fingerprint_changes_when_the_schema_changes() -> None:
    other = FULL.model_copy(update={"item_id": "other"})
    assert Transforms.fit(FULL, COLUMNS).fingerprint() != Transforms.fit(other, COLUMNS).fingerprint()
