"""The schema: what a model reads, where each feature comes from, and how raw values become ids and numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from rankine.config import Frozen

__all__ = [
    "CategoricalFeature",
    "DenseFeature",
    "Feature",
    "Hash",
    "Identity",
    "MultiHotFeature",
    "Schema",
    "Side",
    "Split",
    "Vocabulary",
]

Side = Literal["request", "item", "pair"]


class Vocabulary(Frozen):
    """Ids from the values seen in training: 0 is the out-of-vocabulary row, then the values in sorted order."""

    type: Literal["vocabulary"] = "vocabulary"
    min_count: int = Field(default=1, ge=1, description="values seen less often are out of vocabulary")
    out_of_vocabulary: Literal["row", "error"] = "row"


class Hash(Frozen):
    """Ids by hashing into ``buckets`` (BLAKE2b of the value, keyed by ``seed``)."""

    type: Literal["hash"] = "hash"
    buckets: int = Field(ge=1, le=2**31 - 1)
    seed: int = 0


class Identity(Frozen):
    """The value is the id, in ``[0, size)``."""

    type: Literal["identity"] = "identity"
    size: int = Field(ge=1, le=2**31 - 1)
    out_of_vocabulary: Literal["error"] = "error"


Encoding = Annotated[Vocabulary | Hash | Identity, Field(discriminator="type")]


class _FeatureBase(Frozen):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    side: Side
    freshness: Literal["static", "live"] = "static"

    @model_validator(mode="after")
    def _live_is_item(self) -> _FeatureBase:
        if self.freshness == "live" and self.side != "item":
            raise ValueError("only item features can be live")
        return self

    @property
    def per_row(self) -> bool:
        """Whether the value is given for every (request, candidate) row: pair features and live item features."""
        return self.side == "pair" or self.freshness == "live"


class CategoricalFeature(_FeatureBase):
    """One value out of many."""

    kind: Literal["categorical"] = "categorical"
    dtype: Literal["int64", "string"] = "int64"
    encoding: Encoding = Vocabulary()
    table: str | None = Field(default=None, description="embedding table; features that name the same one share it")
    default: int | str | None = Field(default=None, description="used where a request leaves the feature out")


class MultiHotFeature(_FeatureBase):
    """A set of values out of many, of any length, pooled; travels as ``(values, offsets, weights)``."""

    kind: Literal["multi_hot"] = "multi_hot"
    dtype: Literal["int64", "string"] = "int64"
    encoding: Encoding = Vocabulary()
    table: str | None = None
    pooling: Literal["mean", "sum"] = "mean"
    max_length: int = Field(default=1024, ge=1, description="a longer list in a request is refused")
    default: tuple[int | str, ...] | None = None


class DenseFeature(_FeatureBase):
    """``width`` numbers."""

    kind: Literal["dense"] = "dense"
    dtype: Literal["float32"] = "float32"
    width: int = Field(default=1, ge=1)
    normalization: Literal["none", "standard", "log1p"] = "standard"
    default: float | None = None


Feature = Annotated[CategoricalFeature | MultiHotFeature | DenseFeature, Field(discriminator="kind")]


class Split(Frozen):
    """How rows become train, validation and test: at random by row, or by time where there is a timestamp."""

    by: Literal["random", "time"] = "random"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0 or abs(sum(value) - 1) > 1e-9:
            raise ValueError("fractions must be positive and sum to 1")
        return value


class Schema(Frozen):
    """Features in the order in which the model concatenates them, and the special columns."""

    schema_version: Literal[1] = 1
    features: tuple[Feature, ...] = Field(min_length=1)
    item_id: str = Field(description="column with the external id of an item (int64 or string)")
    item_id_dtype: Literal["int64", "string"] = "int64"
    label: str = "label"
    label_threshold: float | None = Field(default=None, description="the label is 1 where the column is >= this")
    task: str = Field(default="label", description="name of the output")
    group: str | None = Field(default=None, description="column of the user: rows of one user are not independent")
    timestamp: str | None = None
    split: Split = Split()

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        names = [feature.name for feature in self.features]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"feature '{name}' is given twice")
        tables: dict[str, object] = {}
        for feature in self.features:
            if isinstance(feature, DenseFeature):
                continue
            if feature.encoding.type == "identity" and feature.dtype != "int64":
                raise ValueError(f"feature '{feature.name}': identity encoding needs dtype int64")
            key = (feature.dtype, feature.encoding)
            if tables.setdefault(feature.table or feature.name, key) != key:
                raise ValueError(f"features of table '{feature.table}' differ in dtype or encoding")
        if self.split.by == "time" and self.timestamp is None:
            raise ValueError("a split by time needs 'timestamp', the column that holds it")
        return self

    def of_side(self, side: Side, *, per_row: bool | None = None) -> tuple[Feature, ...]:
        """Features of a side; ``per_row`` narrows item features to live (True) or static (False) ones."""
        return tuple(f for f in self.features if f.side == side and per_row in (None, f.per_row))

    @property
    def request_features(self) -> tuple[Feature, ...]:
        """Known once a request."""
        return self.of_side("request")

    @property
    def catalog_features(self) -> tuple[Feature, ...]:
        """Static item features: kept in the catalog."""
        return self.of_side("item", per_row=False)

    @property
    def row_features(self) -> tuple[Feature, ...]:
        """Given per candidate with the request: pair features and live item features."""
        return tuple(f for f in self.features if f.per_row)
