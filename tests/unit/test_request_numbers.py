"""Dense request features are encoded together, and are what they are one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rankine.errors import BadRequest
from rankine.models.schema import DenseFeature, Schema, Task
from rankine.models.transforms import Transforms
from rankine.serving.protocols.rank_encode import RequestEncoder, encode_given

KINDS = ("standard", "log1p", "none", "log1p")


@pytest.fixture(scope="module")
def transforms() -> Transforms:
    features = [DenseFeature(name=f"n{at}", side="request", normalization=kind) for at, kind in enumerate(KINDS)]
    features.append(DenseFeature(name="wide", side="request", width=3))
    features.append(DenseFeature(name="usual", side="request", default=0.5))
    schema = Schema(features=features, tasks=[Task(name="click")], item_id="item")
    generator = np.random.default_rng(0)
    columns = {each.name: generator.gamma(2.0, 3.0, (500, each.width)).astype(np.float32) for each in features}
    return Transforms.fit(schema, columns)


def given(generator: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {f"n{at}": float(generator.gamma(2.0, 10.0 ** (2 * at))) for at in range(len(KINDS))}
    return values | {"wide": [1.0, 2.0, 3.0], "usual": 2.0}


def one_by_one(transforms: Transforms, values: dict[str, Any]) -> dict[str, np.ndarray]:
    features = transforms.schema.request_features
    return {each.name: encode_given(transforms, (each,), values, None, "request")[each.name] for each in features}


def test_numbers_are_the_same_to_the_bit_when_they_are_encoded_together(transforms: Transforms) -> None:
    encoder, generator = RequestEncoder(transforms), np.random.default_rng(1)
    for number in range(200):
        values = given(generator)
        if number % 3 == 0:
            del values["usual"]
        found, expected = encoder.encode(values), one_by_one(transforms, values)
        assert found.keys() == expected.keys()
        for name, column in expected.items():
            assert isinstance(found[name], np.ndarray)
            assert (found[name].dtype, found[name].shape) == (column.dtype, column.shape)
            assert found[name].tobytes() == column.tobytes()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("n0", 1e39, "must be finite"), ("n1", -1.0, "above -1"), ("n2", float("nan"), "must be finite")],
)
def test_number_is_refused_by_its_name_when_it_cannot_be_encoded(
    transforms: Transforms, name: str, value: float, told: str
) -> None:
    values = given(np.random.default_rng(2)) | {name: value}
    with pytest.raises(BadRequest, match=told) as found:
        RequestEncoder(transforms).encode(values)
    assert found.value.where == f"request.{name}"


def test_number_is_named_when_it_is_missing(transforms: Transforms) -> None:
    values = given(np.random.default_rng(3))
    del values["n2"]
    with pytest.raises(BadRequest, match="missing") as found:
        RequestEncoder(transforms).encode(values)
    assert found.value.where == "request.n2"
