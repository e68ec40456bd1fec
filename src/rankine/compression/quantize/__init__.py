"""INT8: linear layers in the canonical QDQ form, ranges by measured error, and tables in INT8 or INT4 row by row."""

from rankine.compression.quantize.apply import quantize
from rankine.compression.quantize.write import quantize_graph

__all__ = ["quantize", "quantize_graph"]
