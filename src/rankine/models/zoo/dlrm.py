"""DLRM: Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", 2019
(arXiv 1906.00091)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from rankine.config import Frozen
from rankine.errors import ConfigError
from rankine.models.schema import Schema
from rankine.models.zoo.base import RankingModel, Sizes, mlp
from rankine.models.zoo.fields import Fields

__all__ = ["Dlrm", "DlrmConfig"]


class DlrmConfig(Frozen):
    """Sizes of a DLRM.

    Attributes:
        bottom: hidden layers over the dense features; a last one of ``embedding_dim`` follows.
        hidden: hidden layers of the top MLP, over the products.
    """

    architecture: Literal["dlrm"] = "dlrm"
    embedding_dim: int = Field(16, ge=1)
    bottom: Sizes = (512, 256, 64)
    hidden: Sizes = (512, 256)
    dropout: float = Field(0.0, ge=0, lt=1)


class Dlrm(RankingModel):
    """A bottom MLP makes the dense features one more embedding; the top MLP reads it and the dot products of all
    pairs.

    The paper's data always have dense features. Without them a learned vector takes the place of the bottom MLP's
    output in the products, which gives every embedding a first-order term: products of embeddings that are all close to
    zero alone would barely start to learn.
    """

    pairs: Tensor

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: DlrmConfig) -> None:
        super().__init__(schema, table_rows, config, config.embedding_dim)
        self.fields = Fields(schema, config.architecture, config.embedding_dim)
        numbers = self.fields.numbers
        self.vectors = self.fields.tables + bool(numbers)
        if self.vectors == 1:
            raise ConfigError(
                "needs two features to multiply, and the schema has one",
                where=f"model: {config.architecture}",
                hint="Add a feature to the schema, or use dcn_v2.",
            )
        dim = config.embedding_dim
        self.bottom = mlp(numbers, (*config.bottom, dim) if numbers else (), 0.0)
        self.constant = None if numbers else nn.Parameter(torch.randn(dim) / dim**0.5)
        row, column = torch.tril_indices(self.vectors, self.vectors, offset=-1)
        self.register_buffer("pairs", row * self.vectors + column, persistent=False)
        width = len(self.pairs) + (dim if numbers else self.vectors)
        self.top = mlp(width, config.hidden, config.dropout)
        self.head = nn.Linear(config.hidden[-1] if config.hidden else width, self.tasks)

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        pooled = self.pooled(parts)
        vectors = self.fields.rows_of_tables(pooled)
        if self.constant is not None:
            first = (vectors * self.constant).sum(dim=2)
        else:
            first = self.bottom(self.fields.dense(pooled))
            vectors = torch.cat([first.unsqueeze(1), vectors], dim=1)
        return cast(Tensor, self.head(self.top(torch.cat([first, self._products(vectors)], dim=1))))

    def _products(self, vectors: Tensor) -> Tensor:
        """Dot products of all pairs: ``(rows, vectors, dim)`` to ``(rows, vectors * (vectors - 1) / 2)``."""
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        return products.reshape(-1, self.vectors * self.vectors).index_select(1, self.pairs)
