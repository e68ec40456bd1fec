"""The schema as users write it: what is refused, how the message helps, and the way through YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankine.config import dump_yaml, load_yaml, parse
from rankine.data.movielens import MOVIELENS
from rankine.data.synthetic import SYNTHETIC
from rankine.errors import ConfigError
from rankine.models.schema import (
    RESERVED,
    CategoricalFeature,
    DenseFeature,
    Hash,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Split,
    Task,
    Vocabulary,
)

USER = {"name": "user", "kind": "categorical", "side": "request"}
ITEM = {"name": "item", "kind": "categorical", "side": "item"}


def schema(*features: dict[str, Any], **rest: Any) -> Schema:
    return parse(Schema, {"features": list(features), "item_id": "item", **rest}, source="schema.yaml")


EVERYTHING = Schema(
    features=(
        CategoricalFeature(name="user", side="request", encoding=Hash(buckets=1000, seed=3), default=7),
        CategoricalFeature(name="hour", side="request", encoding=Identity(size=24)),
        MultiHotFeature(name="liked", side="request", table="items", pooling="sum", default=(1, 2)),
        SequenceFeature(name="viewed", side="request", table="items", max_length=20, truncation="right", default=()),
        CategoricalFeature(name="item", side="item", table="items"),
        CategoricalFeature(
            name="shop", side="item", dtype="string", encoding=Vocabulary(min_count=3, out_of_vocabulary="error")
        ),
        DenseFeature(name="stock", side="item", freshness="live", normalization="log1p", default=0.0),
        DenseFeature(name="embedding", side="pair", width=4, normalization="none"),
    ),
    item_id="item",
    tasks=(Task(name="click", label="clicks", threshold=1.0), Task(name="buy", weight=0.5, link="identity")),
    ranking="click * buy ** 0.5",
    group="user",
    timestamp="when",
    split=Split(by="time", fractions=(0.6, 0.2, 0.2)),
)


@pytest.mark.parametrize("given", [EVERYTHING, MOVIELENS, SYNTHETIC], ids=["everything", "movielens", "synthetic"])
def test_schema_is_equal_when_it_went_through_yaml(given: Schema, tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(dump_yaml(given), encoding="utf-8")
    assert load_yaml(Schema, path) == given


def test_unknown_key_is_refused_with_a_suggestion_when_misspelt() -> None:
    with pytest.raises(ConfigError, match=r"schema\.yaml: item_idd: unknown key.*Did you mean 'item_id'\?"):
        schema(USER, ITEM, item_idd="item")


def test_unknown_key_of_a_feature_is_refused_with_a_suggestion_when_misspelt() -> None:
    with pytest.raises(ConfigError, match=r"features\.1.*poolling: unknown key.*Did you mean 'pooling'\?"):
        schema(USER, {"name": "tags", "kind": "multi_hot", "side": "item", "poolling": "sum"})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "at least 1"),
        ([USER, USER], "'user' is given twice"),
        ([{**USER, "name": "a b"}], "features.0.*name"),
        ([{**USER, "kind": "sequenze"}], "features.0"),
        ([{**USER, "side": "both"}], "side"),
        ([{**USER, "freshness": "live"}], "only item features can be live"),
        ([{**USER, "dtype": "string", "encoding": {"type": "identity", "size": 3}}], "identity encoding needs dtype"),
        ([{**USER, "table": "t"}, {**ITEM, "table": "t", "dtype": "string"}], "table 't' differ"),
        ([{**USER, "table": "t"}, {**ITEM, "table": "t", "encoding": {"type": "hash", "buckets": 9}}], "'t' differ"),
        ([{"name": "price", "kind": "dense", "side": "item", "width": 0}], "width"),
        ([{**USER, "table": "a.b"}], "features.0.table"),
        ([{**USER, "table": "../users"}], "features.0.table"),
        ([{**USER, "name": "logits"}], "'logits' is reserved"),
        ([{**USER, "name": "features"}], "'features' is reserved"),
        ([USER, {**ITEM, "name": "label"}], "'label' is the label: a model must not read what it predicts"),
        ([{**USER, "encoding": {"type": "hash", "buckets": 9, "seed": 2**63}}], "encoding.seed"),
        ([{**USER, "encoding": {"type": "hash", "buckets": 9, "seed": -(2**63) - 1}}], "encoding.seed"),
    ],
)
def test_features_are_refused_with_the_place_when_wrong(features: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schema(*features)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "categorical", "default": "unknown"}, "default 'unknown' is not of dtype int64: set dtype: string"),
        ({"kind": "categorical", "dtype": "string", "default": 7}, "default 7 is not of dtype string: put quotes"),
        ({"kind": "categorical", "default": 2**63}, "does not fit int64"),
        ({"kind": "categorical", "dtype": "string", "default": "a\0"}, "NUL"),
        ({"kind": "categorical", "default": 24, "encoding": {"type": "identity", "size": 24}}, "0 to 23"),
        ({"kind": "multi_hot", "default": [1, "b"]}, "default 'b' is not of dtype int64"),
        ({"kind": "multi_hot", "default": [1, 2], "max_length": 1}, "longer than max_length, 1"),
        ({"kind": "dense", "default": float("inf")}, "default"),
        ({"kind": "dense", "default": float("nan")}, "default"),
        ({"kind": "dense", "default": 1e300}, "default"),
        ({"kind": "dense", "default": -1.0, "normalization": "log1p"}, "above -1 for log1p"),
    ],
)
def test_default_is_refused_when_no_request_could_hold_it(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"features\.0.*{message}"):
        schema({"name": "x", "side": "item", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": [{"name": "ctr"}, {"name": "ctr"}]}, "names of their own"),
        ({"tasks": [{"name": "ctr", "weight": 0}]}, "weight"),
        ({"tasks": [{"label": "user"}]}, "'user' is the label"),
        ({"ranking": "ctr"}, "names 'ctr', which is no task: the tasks are label"),
        ({"ranking": "label +"}, "is not an expression"),
        ({"ranking": "label.real"}, r"has 'label\.real' in it: allowed are names of tasks"),
        ({"ranking": "__import__('os')"}, "allowed are names of tasks"),
        ({"ranking": "label / (label - label)"}, "no finite value for any scores: does it divide by zero"),
        ({"ranking": "1 / 0 + label"}, "no finite value for any scores"),
        ({"ranking": "log(label, label)"}, "log takes 1 value"),
        ({"ranking": "9" * 400}, "too large"),
        ({"ranking": "-" * 900 + "label"}, "nested too deeply"),
        ({"ranking": "label" + " + label" * 110}, "nested too deeply"),
        ({"split": {"by": "time"}}, "needs 'timestamp'"),
        ({"split": {"by": "leave_last_out"}, "timestamp": "when"}, "needs 'group'"),
        ({"call": {"arguments": [{"name": "x", "feature": "user"}]}}, "no argument holds feature 'item'"),
        ({"call": {"arguments": [{"name": "x", "feature": "usr"}]}}, "'usr' is no feature"),
        ({"call": {"arguments": [{"name": "x", "form": "packed"}]}}, "'columns' are needed"),
        ({"call": {"arguments": [{"name": "x"}]}}, "'feature' is needed"),
        ({"call": {"arguments": [{"name": "x", "feature": "user"}] * 2}}, "argument 'x' is given twice"),
    ],
)
def test_schema_is_refused_with_the_reason_when_parts_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schema(USER, ITEM, **settings)


def test_weights_are_refused_when_they_are_the_label() -> None:
    tags = {"kind": "multi_hot", "name": "tags", "side": "item", "weights": "clicked"}
    with pytest.raises(ConfigError, match="the weights of feature 'tags' are the label"):
        schema(tags, tasks=[{"label": "clicked"}])


def test_ranking_combines_scores_when_it_is_an_expression() -> None:
    found = schema(USER, tasks=[{"name": "ctr"}, {"name": "cvr"}], ranking="ctr * max(cvr, 0.5) ** 2 - (-1)")
    scores = {"ctr": np.array([0.5, 1.0], np.float32), "cvr": np.array([0.1, 1.0], np.float32)}
    np.testing.assert_allclose(found.ranking_function()(scores), [1.125, 2.0])
    np.testing.assert_array_equal(schema(USER).ranking_function()({"label": scores["ctr"]}), scores["ctr"])


def test_default_is_kept_when_it_fits() -> None:
    text = {"name": "t", "side": "item", "kind": "multi_hot", "dtype": "string", "default": ["7", ""]}
    hour = {**USER, "default": 23, "encoding": {"type": "identity", "size": 24}}
    assert [feature.default for feature in schema(text, hour).features] == [("7", ""), 23]


def test_reserved_names_are_those_of_the_graph_when_exported() -> None:
    from rankine.compilation.pack_inputs import PACKED
    from rankine.models.export import OUTPUT

    assert {PACKED, OUTPUT} == set(RESERVED)


def test_timestamp_is_refused_when_it_is_a_feature() -> None:
    with pytest.raises(ConfigError, match="feature 'user' is the timestamp"):
        schema(USER, ITEM, timestamp="user")


@pytest.mark.parametrize("bad", [{"tasks": [{"threshold": float("nan")}]}, {"split": {"seed": -1}}])
def test_number_is_refused_with_its_key_when_it_could_only_crash_later(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"schema\.yaml: (tasks\.0\.threshold|split\.seed)"):
        schema(USER, **bad)


@pytest.mark.parametrize("share", [float("nan"), float("inf")])
def test_split_is_refused_when_a_fraction_is_not_finite(share: float) -> None:
    with pytest.raises(ConfigError, match=r"split\.fractions\.1: input should be a finite number"):
        schema(USER, split={"fractions": (0.5, share, 0.5)})


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.9, 0.2, -0.1)])
def test_split_is_refused_when_fractions_are_no_partition(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="fractions must be positive and sum to 1"):
        schema(USER, split={"fractions": fractions})


def test_split_by_time_is_refused_when_no_timestamp_is_named() -> None:
    with pytest.raises(ConfigError, match="needs 'timestamp'"):
        schema(USER, split={"by": "time"})


def test_version_is_refused_when_unknown() -> None:
    with pytest.raises(ConfigError, match="schema_version"):
        schema(USER, schema_version=2)


def test_sides_partition_the_features_when_some_are_live() -> None:
    names = [
        [feature.name for feature in part]
        for part in (EVERYTHING.request_features, EVERYTHING.catalog_features, EVERYTHING.row_features)
    ]
    assert names == [["user", "hour", "liked", "viewed"], ["item", "shop"], ["stock", "embedding"]]
    assert [feature.name for feature in EVERYTHING.of_side("item", per_row=True)] == ["stock"]


def test_schema_cannot_be_changed_when_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        EVERYTHING.item_id = "other"  # type: ignore[misc]
