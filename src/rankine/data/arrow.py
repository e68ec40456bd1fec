"""Columns of Parquet and CSV files as NumPy columns; every complaint names the file, the column and the row.

The only place that imports pyarrow, and only when a file is read.
"""

from rankine.data.arrow_files import column_names, read_columns, refuse_missing
from rankine.data.arrow_lists import dense, lists
from rankine.data.arrow_times import times
from rankine.data.arrow_values import at, factorize, integers, numbers, strings

__all__ = [
    "at",
    "column_names",
    "dense",
    "factorize",
    "integers",
    "lists",
    "numbers",
    "read_columns",
    "refuse_missing",
    "strings",
    "times",
]
