"""DeepFM: Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017
(arXiv 1703.04247)."""

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

__all__ = ["DeepFM", "DeepFMConfig"]

_INITIAL_STD = 0.01


class DeepFMConfig(Frozen):
    """Sizes of a DeepFM."""

    architecture: Literal["deepfm"] = "deepfm"
    embedding_dim: int = Field(16, ge=1)
    hidden: Sizes = (400, 400, 400)
    dropout: float = Field(0.2, ge=0, lt=1)


class DeepFM(FirstOrderModel):
    """First-order weights, a factorization machine and an MLP over the same embeddings, summed.

    In the factorization machine a number is a field too: a learned vector, times the number. The MLP reads the numbers
    themselves.
    """

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: DeepFMConfig) -> None:
        super().__init__(schema, table_rows, config, config.architecture, config.embedding_dim)
        numbers = self.fields.numbers
        self.factors = nn.Parameter(torch.randn(numbers, config.embedding_dim) * _INITIAL_STD) if numbers else None
        self.deep = mlp(self.deep_width, config.hidden, config.dropout)
        self.head = nn.Linear(config.hidden[-1] if config.hidden else self.deep_width, self.tasks)

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        embedded, dense, wide = self.terms(parts)
        fields, deep = embedded, embedded.reshape(-1, embedded.shape[1] * embedded.shape[2])
        if dense is not None and self.factors is not None:
            fields = torch.cat([embedded, dense.unsqueeze(2) * self.factors], dim=1)
            deep = torch.cat([deep, dense], dim=1)
        return cast(Tensor, wide + second_order(fields) + self.head(self.deep(deep)))


def second_order(fields: Tensor) -> Tensor:
    """Sum of the dot products of all pairs of fields: ``(rows, fields, dim)`` to ``(rows, 1)``.

    As half of (square of the sum - sum of the squares), linear in the number of fields (Rendle, "Factorization
    Machines", ICDM 2010, lemma 3.1).
    """
    total = fields.sum(dim=1)
    return 0.5 * (total * total - (fields * fields).sum(dim=1)).sum(dim=1, keepdim=True)
