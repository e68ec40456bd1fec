"""Features as fields, for models that combine them one by one instead of over their concatenation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankine.errors import ConfigError
from rankine.models.schema import DenseFeature, Schema

__all__ = ["Fields"]


class Fields:
    """Which features of a schema have a table, and which are numbers.

    Args:
        architecture: what needs them, for the error.
        columns: of every table.

    Attributes:
        tables: number of features with a table.
        numbers: columns of all dense features together.

    Raises:
        ConfigError: no feature has a table.
    """

    def __init__(self, schema: Schema, architecture: str, columns: int) -> None:
        dense = [isinstance(feature, DenseFeature) for feature in schema.features]
        self._tables = [position for position, is_dense in enumerate(dense) if not is_dense]
        self._dense = [position for position, is_dense in enumerate(dense) if is_dense]
        self.columns = columns
        self.tables = len(self._tables)
        self.numbers = sum(feature.width for feature in schema.features if isinstance(feature, DenseFeature))
        if not self.tables:
            raise ConfigError(
                "combines features that have embeddings, and the schema has none",
                where=f"model: {architecture}",
                got=", ".join(feature.name for feature in schema.features) + ": all dense",
                hint="Add a categorical feature to the schema, or use dcn_v2.",
            )

    def rows_of_tables(self, pooled: Sequence[Tensor]) -> Tensor:
        """``(rows, tables, columns)``, in the order of the schema."""
        return torch.cat([pooled[position] for position in self._tables], dim=1).reshape(-1, self.tables, self.columns)

    def dense(self, pooled: Sequence[Tensor]) -> Tensor:
        """``(rows, numbers)``, in the order of the schema; only where there are any."""
        return torch.cat([pooled[position] for position in self._dense], dim=1)
