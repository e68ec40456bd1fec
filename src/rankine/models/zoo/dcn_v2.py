"""DCN-v2: Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021 (arXiv 2008.13535)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from rankine.config import Frozen
from rankine.models.schema import Schema
from rankine.models.zoo.base import RankingModel, Sizes, mlp

__all__ = ["DcnV2", "DcnV2Config"]


class DcnV2Config(Frozen):
    """Sizes of a DCN-v2.

    Attributes:
        structure: the MLP beside the cross layers, or on top of them.
        low_rank: rank of every cross layer's matrix, ``W = U V^T``; None for full matrices.
    """

    architecture: Literal["dcn_v2"] = "dcn_v2"
    embedding_dim: int = Field(16, ge=1)
    hidden: Sizes = (1024, 512, 256)
    cross_layers: int = Field(3, ge=0)
    structure: Literal["parallel", "stacked"] = "parallel"
    low_rank: int | None = Field(default=None, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)


class DcnV2(RankingModel):
    """Cross layers ``x[l+1] = x[0] * (W x[l] + b) + x[l]`` over the concatenated features, and an MLP."""

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: DcnV2Config) -> None:
        super().__init__(schema, table_rows, config, config.embedding_dim)
        width = self.width
        self.stacked = config.structure == "stacked"
        self.cross = nn.ModuleList([_cross(width, config.low_rank) for _ in range(config.cross_layers)])
        self.deep = mlp(width, config.hidden, config.dropout)
        deep = config.hidden[-1] if config.hidden else width
        self.head = nn.Linear(deep if self.stacked else width + deep, self.tasks)

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        x0 = torch.cat(self.pooled(parts), dim=1)
        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        last = self.deep(x) if self.stacked else torch.cat([x, self.deep(x0)], dim=1)
        return cast(Tensor, self.head(last))


def _cross(width: int, rank: int | None) -> nn.Module:
    if rank is None:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
