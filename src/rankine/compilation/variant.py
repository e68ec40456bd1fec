"""Moved to :mod:`rankine.models.variant`; this name goes away once nothing imports it."""

from rankine.compilation.engine import Build
from rankine.models.variant import (
    BASELINE,
    Model,
    Numeric,
    Table,
    Variant,
    load_model,
    read_variant,
    variant_names,
    write_tables,
)

__all__ = [
    "BASELINE", "Build", "Model", "Numeric", "Table", "Variant", "load_model", "read_variant", "variant_names",
    "write_tables",
]
