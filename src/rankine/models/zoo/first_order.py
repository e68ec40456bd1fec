"""A weight for every value of every feature, as linear models have it: the wide part of DeepFM and of Wide & Deep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from rankine.config import Frozen
from rankine.models.schema import Schema
from rankine.models.zoo.base import RankingModel
from rankine.models.zoo.fields import Fields

__all__ = ["FirstOrderModel", "Terms"]


class Terms(NamedTuple):
    """What such a model combines.

    Attributes:
        embedded: ``(rows, tables, embedding_dim)``, the embeddings of the features with a table.
        dense: ``(rows, numbers)``, or None where the schema has no dense feature.
        wide: ``(rows, 1)``, the sum of the first-order terms.
    """

    embedded: Tensor
    dense: Tensor | None
    wide: Tensor


class FirstOrderModel(RankingModel):
    """Tables with one column more than the embedding, the weight of the value: one lookup a feature gives both.

    Dense features are multiplied by a weight each. The weights are the same for all tasks; the bias is the head's.
    """

    def __init__(
        self, schema: Schema, table_rows: Mapping[str, int], config: Frozen, architecture: str, embedding_dim: int
    ) -> None:
        super().__init__(schema, table_rows, config, embedding_dim + 1)
        self.embedding_dim = embedding_dim
        self.fields = Fields(schema, architecture, self.columns)
        numbers = self.fields.numbers
        self.deep_width = self.fields.tables * embedding_dim + numbers
        self.linear = nn.Linear(numbers, 1, bias=False) if numbers else None

    def terms(self, parts: Sequence[Tensor]) -> Terms:
        """Embeddings, numbers and first-order sum from the dense part's inputs."""
        pooled = self.pooled(parts)
        rows = self.fields.rows_of_tables(pooled)
        embedded, wide = rows[:, :, : self.embedding_dim], rows[:, :, self.embedding_dim].sum(dim=1, keepdim=True)
        if self.linear is None:
            return Terms(embedded, None, wide)
        dense = self.fields.dense(pooled)
        return Terms(embedded, dense, wide + self.linear(dense))
