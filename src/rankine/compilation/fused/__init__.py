"""The native engine's compiler (``lower``: a dense graph becomes a program of tile operations) and its runner.

What works on graphs is imported from its own module: it needs onnx, which a server may not have.
"""

from __future__ import annotations

from rankine.compilation.fused.program import Program, read_program, write_program

__all__ = ["Program", "read_program", "write_program"]
