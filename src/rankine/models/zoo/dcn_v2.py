"""DCN-v2, parallel structure: Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021 (arXiv 2008.13535)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from rankine.config import Frozen
from rankine.models.schema import Schema
from rankine.models.zoo.base import RankingModel, mlp

__all__ = ["DcnV2", "DcnV2Config"]


class DcnV2Config(Frozen):
    """Sizes of a DCN-v2."""

    architecture: Literal["dcn_v2"] = "dcn_v2"
    embedding_dim: int = Field(16, ge=1)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (1024, 512, 256)
    cross_layers: int = Field(3, ge=0)
    dropout: float = Field(0.2, ge=0, lt=1)


class DcnV2(RankingModel):
    """Cross layers ``x[l+1] = x[0] * (W x[l] + b) + x[l]`` beside an MLP, both over the concatenated features."""

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: DcnV2Config) -> None:
        super().__init__(schema, table_rows, config, config.embedding_dim)
        self.cross = nn.ModuleList([nn.Linear(self.width, self.width) for _ in range(config.cross_layers)])
        self.deep = mlp(self.width, config.hidden, config.dropout)
        self.head = nn.Linear(self.width + (config.hidden[-1] if config.hidden else self.width), self.tasks)

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        x0 = torch.cat(list(parts), dim=1)
        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        return cast(Tensor, self.head(torch.cat([x, self.deep(x0)], dim=1)))
