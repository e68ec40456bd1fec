"""Stage 1: data sets as column batches: MovieLens, synthetic, Parquet and CSV through the schema."""

from rankine.data.dataset import Dataset, Splits
from rankine.data.load import load_dataset
from rankine.data.movielens import load_movielens
from rankine.data.synthetic import make_synthetic
from rankine.data.tabular import load_table

__all__ = ["Dataset", "Splits", "load_dataset", "load_movielens", "load_table", "make_synthetic"]
