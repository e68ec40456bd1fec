"""Tables in the form that a recipe asks for."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rankine.compression.context import Context
from rankine.compression.table_forms import mixed_table, quantize_table, reads_of_tables
from rankine.models.network import Network
from rankine.models.tables import AnyTable, QuotientRemainderTable

__all__ = ["HOT_READS", "TableForm", "hot_share", "quantized_tables"]

TableForm = Literal["int4", "mixed", "int8", "float16", "float32"]

HOT_READS = 0.8
"""Of the reads of a mixed table that its INT8 rows answer: rows of rare ids are the most of a table, and have seen so
few examples that four bits hold what they know."""


def quantized_tables(network: Network, form: TableForm, context: Context) -> dict[str, AnyTable]:
    """The tables of ``network`` with rows of this form.

    Where a mixed table would be no smaller than one in INT8, as a table of few rows or of narrow ones, all of it is
    INT8; a table that is put together from two has INT8 parts.
    """
    sizes = {name: table.count for name, table in network.tables.items()}
    reads = reads_of_tables(context.train.batch, network.schema, sizes) if form == "mixed" else {}
    return {name: _quantized(table, form, reads.get(name)) for name, table in network.tables.items()}


def hot_share(reads: np.ndarray) -> float:
    """Share of a table's rows, the most read first, that answer ``HOT_READS`` of its reads ``(vocabulary,)``."""
    total = reads.sum()
    if not total:
        return 0.0
    answered = np.cumsum(np.sort(reads)[::-1]) / total
    return (int(np.searchsorted(answered, HOT_READS)) + 1) / len(reads)


def _quantized(table: AnyTable, form: TableForm, reads: np.ndarray | None) -> AnyTable:
    if form != "mixed":
        return quantize_table(table, form)
    plain = quantize_table(table, "int8")
    if reads is None or isinstance(table, QuotientRemainderTable):
        return plain
    mixed = mixed_table(table, reads, hot_share=hot_share(reads))
    return mixed if mixed.size_bytes < plain.size_bytes else plain
