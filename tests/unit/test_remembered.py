"""Ids that the encoder of chunks remembers."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.data.remembered import ChunkEncoder
from rankine.errors import DataError
from rankine.models.schema import (
    CategoricalFeature,
    Hash,
    Schema,
)
from rankine.models.transforms import Transforms
from unit.streamed_files import assert_same


@pytest.mark.parametrize(("dtype", "width"), [("int64", 8), ("string", 4), ("string", 30)])
def test_remembered_ids_are_those_of_the_transforms_when_values_come_again(
    monkeypatch: pytest.MonkeyPatch, dtype: str, width: int
) -> None:
    monkeypatch.setattr("rankine.data.remembered._REMEMBERED", 40)
    feature = CategoricalFeature.model_validate(
        {"name": "f", "side": "pair", "dtype": dtype, "encoding": Hash(buckets=1000, seed=5)}
    )
    transforms = Transforms(Schema(features=(feature,), item_id="item"), {}, {})
    encoder = ChunkEncoder(transforms, (feature,))
    rng = np.random.default_rng(0)
    for _ in range(5):
        numbers = rng.integers(-60, 60, 200)
        values = numbers if dtype == "int64" else np.array([str(number).rjust(width).encode() for number in numbers])
        found, expected = encoder.encode({"f": values})["f"], transforms.encode((feature,), {"f": values})["f"]
        assert_same(found, expected, "f")


def test_remembered_feature_refuses_values_when_they_are_of_another_kind() -> None:
    feature = CategoricalFeature(name="f", side="pair", encoding=Hash(buckets=10))
    encoder = ChunkEncoder(Transforms(Schema(features=(feature,), item_id="item"), {}, {}), (feature,))
    with pytest.raises(DataError, match="must be integers"):
        encoder.encode({"f": np.array([b"text"])})
