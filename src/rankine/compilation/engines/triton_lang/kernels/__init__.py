"""Kernels of our own in Triton-lang, each in a file with the function that launches it.

Every one takes torch tensors, on a GPU or, where ``TRITON_INTERPRET=1`` was set before Triton-lang was first imported,
in the host's memory: then its interpreter runs the kernel in NumPy, which is for correctness and nothing else.
"""

from __future__ import annotations

from rankine.compilation.engines.triton_lang.kernels.attention import (
    History,
    Unit,
    softmax_attention,
    unit_attention,
)
from rankine.compilation.engines.triton_lang.kernels.cross import low_rank_cross
from rankine.compilation.engines.triton_lang.kernels.interaction import dot_interaction, pairs_below
from rankine.compilation.engines.triton_lang.kernels.linear import Weights, linear, weights
from rankine.compilation.engines.triton_lang.kernels.lookup import lookup
from rankine.compilation.engines.triton_lang.kernels.spread import spread
from rankine.compilation.engines.triton_lang.kernels.top import top_scores

__all__ = [
    "History",
    "Unit",
    "Weights",
    "dot_interaction",
    "linear",
    "lookup",
    "low_rank_cross",
    "pairs_below",
    "softmax_attention",
    "spread",
    "top_scores",
    "unit_attention",
    "weights",
]
