"""Wide & Deep: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016 (arXiv 1606.07792)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from rankine.config import Frozen
from rankine.models.schema import Schema
from rankine.models.zoo.base import Sizes, mlp
from rankine.models.zoo.first_order import FirstOrderModel

__all__ = ["WideDeep", "WideDeepConfig"]


class WideDeepConfig(Frozen):
    """Sizes of a Wide & Deep."""

    architecture: Literal["wide_deep"] = "wide_deep"
    embedding_dim: int = Field(16, ge=1)
    hidden: Sizes = (1024, 512, 256)
    dropout: float = Field(0.2, ge=0, lt=1)


class WideDeep(FirstOrderModel):
    """A linear model over the raw features, plus an MLP over their embeddings.

    The paper's wide part also reads crossed features; such a cross is a categorical feature of the data here.
    """

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: WideDeepConfig) -> None:
        super().__init__(schema, table_rows, config, config.architecture, config.embedding_dim)
        self.deep = mlp(self.deep_width, config.hidden, config.dropout)
        self.head = nn.Linear(config.hidden[-1] if config.hidden else self.deep_width, self.tasks)

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        embedded, dense, wide = self.terms(parts)
        deep = embedded.reshape(-1, embedded.shape[1] * embedded.shape[2])
        if dense is not None:
            deep = torch.cat([deep, dense], dim=1)
        return cast(Tensor, wide + self.head(self.deep(deep)))
