"""Records of a model from elsewhere: where it came from, and what was proved of it. Read without ONNX and PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from rankine.config import Frozen

__all__ = ["Origin", "Proof"]


class Origin(Frozen):
    """Where a model came from.

    Attributes:
        reference: ``module:function``, a file's name, or the class of an object.
        sha256: of the file; of a module, of its parameters and buffers by name.
    """

    kind: Literal["module", "pt2", "onnx"]
    reference: str
    sha256: str


class Proof(Frozen):
    """What was compared: ``rows`` by kind of rows, and the largest relative difference of logits."""

    rows: Mapping[str, int]
    max_error: float
    limit: float
