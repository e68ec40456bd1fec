"""The native engine's compiler: a dense graph becomes a program of tile operations."""

from __future__ import annotations

from rankine.compilation.fused.lower import lower, lower_graph
from rankine.compilation.fused.program import Program, read_program, write_program

__all__ = ["Program", "lower", "lower_graph", "read_program", "write_program"]
