"""Stage 1: data sets as column batches, loaded whole or streamed from disk."""

from rankine.data.behavior import load_behavior
from rankine.data.criteo import criteo_schema, stream_criteo
from rankine.data.dataset import Dataset, Splits
from rankine.data.load import load_dataset
from rankine.data.movielens import load_movielens
from rankine.data.synthetic import make_synthetic
from rankine.data.synthetic_criteo import make_synthetic_criteo
from rankine.data.table_stream import stream_table
from rankine.data.tabular import load_table

__all__ = [
    "Dataset",
    "Splits",
    "criteo_schema",
    "load_behavior",
    "load_dataset",
    "load_movielens",
    "load_table",
    "make_synthetic",
    "make_synthetic_criteo",
    "stream_criteo",
    "stream_table",
]
