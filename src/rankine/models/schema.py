"""The schema: what a model reads, where each feature comes from, and how raw values become ids and numbers."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from rankine.config import Frozen
from rankine.models.call import Call
from rankine.models.ranking import Ranking, parse_ranking

__all__ = [
    "CategoricalFeature",
    "DenseFeature",
    "Feature",
    "Hash",
    "Identity",
    "MultiHotFeature",
    "RaggedFeature",
    "Schema",
    "SequenceFeature",
    "Side",
    "Split",
    "TableFeature",
    "Task",
    "Vocabulary",
]

Side = Literal["request", "item", "pair"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

RESERVED = ("features", "logits")
"""Names that the exported graph gives to its packed input and to its output; no feature can have them."""

_INT64 = range(-(2**63), 2**63)
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


class Vocabulary(Frozen):
    """Ids from the values seen in training: 0 is the out-of-vocabulary row, then the values in sorted order."""

    type: Literal["vocabulary"] = "vocabulary"
    min_count: int = Field(default=1, ge=1, description="values seen less often are out of vocabulary")
    out_of_vocabulary: Literal["row", "error"] = "row"


class Hash(Frozen):
    """Ids by hashing into ``buckets`` (BLAKE2b of the value, keyed by ``seed``)."""

    type: Literal["hash"] = "hash"
    buckets: int = Field(ge=1, le=2**31 - 1)
    seed: int = Field(default=0, ge=_INT64.start, lt=_INT64.stop)


class Identity(Frozen):
    """The value is the id, in ``[0, size)``."""

    type: Literal["identity"] = "identity"
    size: int = Field(ge=1, le=2**31 - 1)
    out_of_vocabulary: Literal["error"] = "error"


Encoding = Annotated[Vocabulary | Hash | Identity, Field(discriminator="type")]


class _FeatureBase(Frozen):
    name: Name
    side: Side
    freshness: Literal["static", "live"] = "static"

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value in RESERVED:
            raise ValueError(f"'{value}' is reserved for the model's own tensors: give the column another name")
        return value

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
    table: Name | None = Field(default=None, description="embedding table; features that name the same one share it")
    default: int | str | None = Field(default=None, description="used where a request leaves the feature out")

    @model_validator(mode="after")
    def _default_fits(self) -> CategoricalFeature:
        if self.default is not None:
            _check_default(self.default, self.dtype, self.encoding)
        return self


class MultiHotFeature(_FeatureBase):
    """A set of values out of many, of any length, pooled; travels as ``(values, offsets, weights)``."""

    kind: Literal["multi_hot"] = "multi_hot"
    dtype: Literal["int64", "string"] = "int64"
    encoding: Encoding = Vocabulary()
    table: Name | None = None
    pooling: Literal["mean", "sum", "max"] = "mean"
    max_length: int = Field(default=1024, ge=1, description="a longer list in a request is refused")
    weights: Name | None = Field(default=None, description="column of the data with one weight a value")
    default: tuple[int | str, ...] | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> MultiHotFeature:
        _check_list_default(self.default, self.dtype, self.encoding, self.max_length)
        if self.weights is not None and self.pooling == "max":
            raise ValueError("pooling by max takes no weights")
        return self


class SequenceFeature(_FeatureBase):
    """Values in their order, oldest first, such as a behavior history: what a model attends to.

    Travels as ``(values, offsets, weights)``. The dense graph reads ``max_length`` embeddings, those after the last
    value zero, and then the number of values: ``(rows, max_length * dim + 1)``.
    """

    kind: Literal["sequence"] = "sequence"
    dtype: Literal["int64", "string"] = "int64"
    encoding: Encoding = Vocabulary()
    table: Name | None = Field(default=None, description="a history shares its item's table")
    max_length: int = Field(default=50, ge=1, le=4096, description="a longer list is truncated")
    truncation: Literal["left", "right"] = Field(
        default="left", description="where a longer list is cut: left keeps the last values, the newest"
    )
    default: tuple[int | str, ...] | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> SequenceFeature:
        _check_list_default(self.default, self.dtype, self.encoding, self.max_length)
        return self


class DenseFeature(_FeatureBase):
    """``width`` numbers."""

    kind: Literal["dense"] = "dense"
    dtype: Literal["float32"] = "float32"
    width: int = Field(default=1, ge=1, le=65_536)
    normalization: Literal["none", "standard", "log1p"] = "standard"
    default: float | None = Field(default=None, ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32)

    @model_validator(mode="after")
    def _default_has_a_logarithm(self) -> DenseFeature:
        # As float32, in which it is used: what rounds to -1 has none either.
        if self.normalization == "log1p" and self.default is not None and np.float32(self.default) <= -1:
            raise ValueError(f"the default {self.default} must be above -1 for log1p")
        return self


Feature = Annotated[CategoricalFeature | MultiHotFeature | SequenceFeature | DenseFeature, Field(discriminator="kind")]
RaggedFeature = MultiHotFeature | SequenceFeature
"""Features that travel as ``(values, offsets, weights)``."""
TableFeature = CategoricalFeature | MultiHotFeature | SequenceFeature
"""Features that read an embedding table."""


class Task(Frozen):
    """What one output of the model predicts. The label is 1 where ``label >= threshold``, else 0.

    ``link`` turns the model's output into a score: the sigmoid of a logit, or the output as it is. ``weight`` is that
    of its loss in training.
    """

    name: Name = "label"
    label: str = Field(default="label", description="column of the data")
    threshold: Finite | None = Field(default=None, description="the label is 1 where the column is >= this")
    weight: Finite = Field(default=1.0, gt=0)
    link: Literal["sigmoid", "identity"] = "sigmoid"


class Split(Frozen):
    """How rows become train, validation and test.

    ``random``: by row. ``time``: the newest rows are the test. ``leave_last_out``: of each group (user), the rows of
    the last time are the test, those of the one before validation; a group with fewer than three times only trains.
    """

    by: Literal["random", "time", "leave_last_out"] = "random"
    fractions: tuple[Finite, Finite, Finite] = (0.8, 0.1, 0.1)
    seed: int = Field(default=0, ge=0)

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
    tasks: tuple[Task, ...] = Field(default=(Task(),), min_length=1)
    ranking: str | None = Field(
        default=None, description="what candidates are sorted by, such as 'ctr * cvr'; the first task if left out"
    )
    group: str | None = Field(default=None, description="column of the user: rows of one user are not independent")
    timestamp: str | None = None
    split: Split = Split()
    call: Call | None = Field(default=None, description="how a model from elsewhere is called")

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        names = [feature.name for feature in self.features]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"feature '{name}' is given twice")
            if name == self.timestamp:
                hint = "it orders the rows; give features of the time (hour, weekday) columns of their own"
                raise ValueError(f"feature '{name}' is the timestamp: {hint}")
        tables: dict[str, object] = {}
        for feature in self.features:
            if isinstance(feature, DenseFeature):
                continue
            if feature.encoding.type == "identity" and feature.dtype != "int64":
                raise ValueError(f"feature '{feature.name}': identity encoding needs dtype int64")
            table, key = feature.table or feature.name, (feature.dtype, feature.encoding)
            if tables.setdefault(table, key) != key:
                raise ValueError(f"features of table '{table}' differ in dtype or encoding")
        if self.split.by != "random" and self.timestamp is None:
            raise ValueError(f"a split by {self.split.by} needs 'timestamp', the column that holds the time")
        if self.split.by == "leave_last_out" and self.group is None:
            raise ValueError("a split by leave_last_out needs 'group', the column that holds the user")
        return self

    @model_validator(mode="after")
    def _reads_no_label(self) -> Schema:
        labels = {task.label for task in self.tasks}
        for feature in self.features:
            if feature.name in labels:
                raise ValueError(f"feature '{feature.name}' is the label: a model must not read what it predicts")
            if isinstance(feature, MultiHotFeature) and feature.weights in labels:
                raise ValueError(f"the weights of feature '{feature.name}' are the label, which it must not read")
        return self

    @model_validator(mode="after")
    def _tasks_are_distinct_and_ranked(self) -> Schema:
        names = self.task_names
        if len(set(names)) < len(names):
            raise ValueError("tasks must have names of their own")
        self.ranking_function()
        return self

    @model_validator(mode="after")
    def _call_covers_features(self) -> Schema:
        if self.call is None:
            return self
        names = {feature.name for feature in self.features}
        called = {name for argument in self.call.arguments for name in argument.features}
        if called - names:
            raise ValueError(f"call: '{min(called - names)}' is no feature")
        if names - called:
            raise ValueError(f"call: no argument holds feature '{min(names - called)}'")
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        """In the schema's order."""
        return tuple(feature.name for feature in self.features)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the model's outputs."""
        return tuple(task.name for task in self.tasks)

    @property
    def padding(self) -> dict[str, int]:
        """By sequence feature that a model from elsewhere takes padded, the id that fills it up."""
        arguments = () if self.call is None else self.call.arguments
        found = {a.feature: a.pad for a in arguments if a.form == "padded" and a.feature is not None}
        found |= {c.feature: c.pad for a in arguments for c in a.columns if c.part == "value"}
        return {f.name: found[f.name] for f in self.features if isinstance(f, SequenceFeature) and f.name in found}

    def takes_weights(self, feature: RaggedFeature) -> bool:
        """Whether the model reads weights of the values: not where it takes their maximum, nor where a model from
        elsewhere is called without them."""
        if isinstance(feature, MultiHotFeature) and feature.pooling == "max":
            return False
        arguments = () if self.call is None else self.call.arguments
        return self.call is None or any(a.form == "weights" and a.feature == feature.name for a in arguments)

    def ranking_function(self) -> Ranking:
        """What candidates are sorted by: scores (after the link) by task to one number a row."""
        return parse_ranking(self.ranking or self.tasks[0].name, self.task_names)

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


def _check_list_default(
    default: tuple[int | str, ...] | None, dtype: Literal["int64", "string"], encoding: Encoding, max_length: int
) -> None:
    for value in default or ():
        _check_default(value, dtype, encoding)
    if len(default or ()) > max_length:
        raise ValueError(f"the default is longer than max_length, {max_length}")


def _check_default(value: int | str, dtype: Literal["int64", "string"], encoding: Encoding) -> None:
    """Refuse a default that could not be the value of a request."""
    if isinstance(value, str) != (dtype == "string"):
        hint = "put quotes around it" if dtype == "string" else "set dtype: string, or give a number"
        raise ValueError(f"the default {value!r} is not of dtype {dtype}: {hint}")
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"the default {value!r} must not hold the character NUL")
    if isinstance(value, int) and value not in _INT64:
        raise ValueError(f"the default {value} does not fit int64")
    if isinstance(encoding, Identity) and value not in range(encoding.size):
        raise ValueError(f"the default {value!r} is out of range: the ids are 0 to {encoding.size - 1}")
