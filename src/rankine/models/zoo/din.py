"""DIN: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018 (arXiv 1706.06978)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from rankine.config import Frozen
from rankine.errors import ConfigError
from rankine.models.schema import CategoricalFeature, Schema, SequenceFeature
from rankine.models.transforms import table_of
from rankine.models.zoo.activations import Activation, activation
from rankine.models.zoo.base import RankingModel, Sizes, split_sequence

__all__ = ["Din", "DinConfig"]


class DinConfig(Frozen):
    """Sizes of a DIN.

    Attributes:
        attention: hidden layers of the MLP that weighs each value of a history.
        activation: of the hidden layers of both MLPs; ``prelu`` costs far less than ``dice`` over long histories.
    """

    architecture: Literal["din"] = "din"
    embedding_dim: int = Field(16, ge=1)
    attention: Sizes = Field((80, 40), min_length=1)
    hidden: Sizes = (200, 80)
    activation: Activation = "prelu"
    dropout: float = Field(0.0, ge=0, lt=1)


class Din(RankingModel):
    """Each history is summed with weights that depend on the item to be ranked; an MLP reads the sums and all other
    features."""

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: DinConfig) -> None:
        super().__init__(schema, table_rows, config, config.embedding_dim)
        self.queries = _queries(schema)
        self.attention = nn.ModuleDict({str(position): Attention(config) for position in self.queries})
        self.deep = _mlp(self.width, config.hidden, config.activation, config.dropout)
        self.head = nn.Linear(config.hidden[-1] if config.hidden else self.width, self.tasks)

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        vectors = list(parts)
        for position, query in self.queries.items():
            keys, mask = split_sequence(parts[position], self.columns)
            vectors[position] = self.attention[str(position)](parts[query], keys, mask)
        return cast(Tensor, self.head(self.deep(torch.cat(vectors, dim=1))))


class Attention(nn.Module):
    """The local activation unit: ``sum over i of MLP([q, k_i, q - k_i, q * k_i]) * k_i``.

    The weights are not normalized by a softmax: their sum tells how strong the interest is (section 4.3). The first
    layer's columns for ``q`` are a layer of their own, so that they are applied once, not once a position.
    """

    def __init__(self, config: DinConfig) -> None:
        super().__init__()
        dim, (first, *others) = config.embedding_dim, config.attention
        self.of_query = nn.Linear(dim, first)
        self.of_key = nn.Linear(3 * dim, first, bias=False)
        self.rest = nn.Sequential(
            activation(config.activation, first),
            *_mlp(first, others, config.activation, 0.0),
            nn.Linear(config.attention[-1], 1),
        )

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """``(rows, dim)`` from query ``(rows, dim)``, keys ``(rows, length, dim)`` and mask ``(rows, length)``."""
        _, length, dim = keys.shape
        asked = query.unsqueeze(1)
        joined = torch.cat([keys, asked - keys, asked * keys], dim=2).reshape(-1, 3 * dim)
        hidden = self.of_key(joined)
        width = hidden.shape[1]
        hidden = hidden.reshape(-1, length, width) + self.of_query(query).unsqueeze(1)
        weights = self.rest(hidden.reshape(-1, width)).reshape(-1, length) * mask
        return torch.bmm(weights.unsqueeze(1), keys).squeeze(1)


def _queries(schema: Schema) -> dict[int, int]:
    """Position of each sequence feature, and of the item's feature that it is compared with.

    Raises:
        ConfigError: there is no sequence, or one without such a feature.
    """
    found: dict[int, int] = {}
    items = {
        table_of(feature): position
        for position, feature in reversed(list(enumerate(schema.features)))
        if isinstance(feature, CategoricalFeature) and feature.side == "item"
    }
    for position, feature in enumerate(schema.features):
        if not isinstance(feature, SequenceFeature):
            continue
        table = table_of(feature)
        if table not in items:
            known = ", ".join(f"'{schema.features[at].name}' of table '{name}'" for name, at in items.items())
            raise ConfigError(
                f"compares the history '{feature.name}' with the item, and no categorical feature of side item "
                f"shares its table '{table}'",
                where="model: din",
                got=known or "no categorical feature of side item",
                hint=f"Give '{feature.name}' the table of the item's feature, or add the item's feature to the schema.",
            )
        found[position] = items[table]
    if not found:
        raise ConfigError(
            "needs a history to attend to, and the schema has no feature of kind sequence",
            where="model: din",
            hint="Add a feature of kind sequence that shares the table of the item's feature, or use another model.",
        )
    return found


def _mlp(width: int, sizes: Sequence[int], name: Activation, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in sizes:
        layers += [nn.Linear(width, size), activation(name, size)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers)
