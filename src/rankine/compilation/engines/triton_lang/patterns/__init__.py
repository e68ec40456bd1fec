"""Which steps of a program one kernel does together: found in the program, so that nothing else has to know of it."""

from __future__ import annotations

from rankine.compilation.engines.triton_lang.patterns.find import Fusion, find
from rankine.compilation.engines.triton_lang.patterns.matches import (
    Cross,
    Interaction,
    Match,
    SoftmaxAttention,
    UnitAttention,
    UnitLayer,
)

__all__ = ["Cross", "Fusion", "Interaction", "Match", "SoftmaxAttention", "UnitAttention", "UnitLayer", "find"]
