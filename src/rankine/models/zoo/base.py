"""What reference models share: embedding tables by the schema, and a dense part that is exported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from rankine.config import Frozen
from rankine.models.inputs import TorchInput, TorchInputs
from rankine.models.lookup_plan import input_width
from rankine.models.schema import DenseFeature, Feature, Schema, SequenceFeature
from rankine.models.torch_lookup import look_up
from rankine.models.transforms import table_of

__all__ = ["RankingModel", "Sizes", "mlp", "split_sequence", "tables_of"]

Sizes = tuple[Annotated[int, Field(ge=1)], ...]
"""Widths of an MLP's hidden layers, first to last."""

_INITIAL_STD = 0.01


class RankingModel(nn.Module, ABC):
    """Tables, then a dense part: ``forward(inputs) = dense(embed(inputs))``.

    Subclasses implement :meth:`dense`, which is what is exported to ONNX: the tables stay outside of the graph.

    Args:
        schema: gives the features and their order.
        table_rows: rows of every embedding table.
        config: sizes of the model, from which it can be built again.
        columns: of every table, which are a feature's embedding and what a model keeps beside it.

    Attributes:
        widths: columns of each feature's input of the dense part, in the order of the schema.
        pooled_widths: the same after :meth:`pooled`.
        tasks: columns of the logits.
    """

    config: Frozen

    def __init__(self, schema: Schema, table_rows: Mapping[str, int], config: Frozen, columns: int) -> None:
        super().__init__()
        self.schema = schema
        self.config = config
        self.table_rows = dict(table_rows)
        self.tables = nn.ModuleDict({_key(name): nn.Embedding(rows, columns) for name, rows in table_rows.items()})
        for table in self.tables.values():
            nn.init.normal_(cast(nn.Embedding, table).weight, std=_INITIAL_STD)
        self.columns = columns
        self.tasks = len(schema.tasks)
        self.widths = [input_width(feature, columns) for feature in schema.features]
        self.pooled_widths = [
            columns if isinstance(feature, SequenceFeature) else width
            for feature, width in zip(schema.features, self.widths, strict=True)
        ]

    @property
    def width(self) -> int:
        """Width of the concatenation of all features, sequences pooled."""
        return sum(self.pooled_widths)

    def embed(self, inputs: TorchInputs) -> list[Tensor]:
        """Float32 ``(rows, width)`` per feature, in the order of the schema."""
        return [self._embed(feature, inputs[feature.name]) for feature in self.schema.features]

    def pooled(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """One vector a feature: the parts, a sequence as the mean of its embeddings (zero where it is empty)."""
        return [
            _mean_of_sequence(part, self.columns) if isinstance(feature, SequenceFeature) else part
            for feature, part in zip(self.schema.features, parts, strict=True)
        ]

    def _embed(self, feature: Feature, value: TorchInput) -> Tensor:
        if isinstance(feature, DenseFeature):
            return look_up(feature, value, None)
        return look_up(feature, value, cast(nn.Embedding, self.tables[_key(table_of(feature))]).weight)

    @abstractmethod
    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        """Logits ``(rows, tasks)`` from one float32 ``(rows, width)`` tensor per feature."""

    def forward(self, inputs: TorchInputs) -> Tensor:
        return self.dense(self.embed(inputs))


def split_sequence(part: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """A sequence's input as its embeddings ``(rows, length, columns)`` and ``(rows, length)``, 1 where there is a
    value."""
    values, count = part[:, :-1], part[:, -1:]
    length = values.shape[1] // columns
    positions = torch.arange(length, dtype=part.dtype, device=part.device)
    return values.reshape(-1, length, columns), (positions < count).to(part.dtype)


def mlp(width: int, sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each of ``sizes``."""
    layers: list[nn.Module] = []
    for size in sizes:
        layers += [nn.Linear(width, size), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers)


def tables_of(model: RankingModel) -> dict[str, torch.Tensor]:
    """The embedding weights, ``(vocabulary, columns)`` per table."""
    return {name: cast(nn.Embedding, model.tables[_key(name)]).weight.detach() for name in model.table_rows}


def _mean_of_sequence(part: Tensor, columns: int) -> Tensor:
    """``(rows, columns)``. No mask is needed: what comes after the last value is zero."""
    values, count = part[:, :-1], part[:, -1:]
    return values.reshape(-1, values.shape[1] // columns, columns).sum(dim=1) / count.clamp(min=1)


def _key(table: str) -> str:
    """A ``ModuleDict`` refuses the names of its own attributes, such as ``type`` and ``items``."""
    return f"table_{table}"
