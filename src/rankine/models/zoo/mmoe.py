"""MMoE: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018
(doi 10.1145/3219819.3220007)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rankine.config import Frozen
from rankine.models.schema import Schema
from rankine.models.zoo.base import RankingModel, Sizes, mlp

__all__ = ["Mmoe", "MmoeConfig"]


class MmoeConfig(Frozen):
    """Sizes of an MMoE.

    Attributes:
        experts: number of experts.
        hidden: layers of each expert; the last is what the gates mix.
        tower: hidden layers of each task's tower.
    """

    architecture: Literal["mmoe"] = "mmoe"
    embedding_dim: int = Field(16, ge=1)
    experts: int = Field(4, ge=1)
    hidden: Sizes = Field((256, 128), min_length=1)
    tower: Sizes = (64,)
    dropout: float = Field(0.2, ge=0, lt=1)


class Mmoe(RankingModel):
    """Experts that all tasks share; each task mixes them by a gate of its own and has a tower of its own."""

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: MmoeConfig) -> None:
        super().__init__(schema, table_rows, config, config.embedding_dim)
        self.experts = nn.ModuleList([mlp(self.width, config.hidden, config.dropout) for _ in range(config.experts)])
        self.gates = nn.ModuleList([nn.Linear(self.width, config.experts) for _ in range(self.tasks)])
        mixed = config.hidden[-1]
        last = config.tower[-1] if config.tower else mixed
        self.towers = nn.ModuleList([mlp(mixed, config.tower, config.dropout) for _ in range(self.tasks)])
        self.heads = nn.ModuleList([nn.Linear(last, 1) for _ in range(self.tasks)])

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        x = torch.cat(self.pooled(parts), dim=1)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        logits = []
        for gate, tower, head in zip(self.gates, self.towers, self.heads, strict=True):
            shares = torch.softmax(gate(x), dim=1)
            mixed = torch.bmm(shares.unsqueeze(1), experts).squeeze(1)
            logits.append(head(tower(mixed)))
        return torch.cat(logits, dim=1)
