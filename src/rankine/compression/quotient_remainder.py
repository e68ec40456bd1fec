"""The pass that replaces giant tables by quotient-remainder tables, and tunes both parts in that form."""

from __future__ import annotations

import math
from typing import Any

from rankine.compression.context import Context
from rankine.compression.fine_tune import tuned
from rankine.compression.outcome import Outcome
from rankine.compression.recipe import QuotientRemainder
from rankine.compression.table_forms import quotient_remainder as fit_table
from rankine.compression.table_forms import reads_of_tables
from rankine.errors import UsageError
from rankine.models.network import Network
from rankine.models.tables import AnyTable, Table

__all__ = ["quotient_remainder"]


def quotient_remainder(network: Network, settings: QuotientRemainder, context: Context) -> Outcome:
    """Fit each giant table as two small ones, then tune.

    Raises:
        UsageError: no table is large enough, or an operator of the graph has no gradient here.
    """
    buckets = {
        name: settings.buckets or math.isqrt(table.count - 1) + 1
        for name, table in network.tables.items()
        if table.count >= settings.smallest
    }
    giant = {name: count for name, count in buckets.items() if _is_smaller(network.tables[name], count)}
    if not giant:
        sizes = ", ".join(f"'{name}' {table.count}" for name, table in network.tables.items())
        raise UsageError(
            "no table would get smaller as quotient and remainder",
            where="recipe: quotient_remainder",
            got=f"rows of the tables: {sizes or 'there are none'}",
            allowed=f"plain tables of {settings.smallest} rows or more, and more rows than both parts have",
            hint="Lower 'smallest', change 'buckets', or leave the pass out of the recipe.",
        )
    reads = reads_of_tables(
        context.train.batch, network.schema, {name: table.count for name, table in network.tables.items()}
    )
    tables = dict(network.tables)
    for name, count in giant.items():
        tables[name] = fit_table(tables[name], count, reads[name], combine=settings.combine, seed=context.seed)
    details: dict[str, Any] = {"tables": {name: _row(network.tables[name], tables[name]) for name in giant}}
    changes = ", ".join(
        f"{name} {network.tables[name].count} to {-(-network.tables[name].count // count)} + {count}"
        for name, count in giant.items()
    )
    network = network.changed(tables=tables)
    text = f"quotient and remainder (rows of {changes})"
    return tuned(Outcome(network, text, details), settings.tune, context, task="tune quotient and remainder")


def _is_smaller(table: AnyTable, buckets: int) -> bool:
    """Whether a plain float table has more rows than its two parts would have."""
    if not isinstance(table, Table) or table.form not in ("float32", "float16"):
        return False
    return -(-table.count // buckets) + buckets < table.count


def _row(before: AnyTable, after: AnyTable) -> dict[str, Any]:
    """A table in the report."""
    return {"rows": before.count, "bytes_before": before.size_bytes, "bytes": after.size_bytes}
