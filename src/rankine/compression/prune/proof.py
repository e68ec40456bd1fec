"""Only what is proved goes: the smaller network against the original with zeros in the places that vanish."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx.shape_inference import InferenceError
from onnxruntime.capi import onnxruntime_pybind11_state as states

from rankine.compression.prune.plan import Unshrinkable
from rankine.compression.prune.shrink import differs, shrink
from rankine.compression.prune.trace import Trace
from rankine.models.columns import Batch
from rankine.models.network import Network

__all__ = ["Roots", "take_out"]

Roots = tuple[int, ...]
"""Of groups, in the order in which they went."""
_NOT_MADE = (
    Unshrinkable,
    InferenceError,
    onnx.checker.ValidationError,
    states.Fail,
    states.InvalidArgument,
    states.InvalidGraph,
    states.RuntimeException,
    RuntimeError,
)
"""What is raised where a smaller graph cannot be made, or not be run."""


def take_out(now: Trace, base: Roots, roots: Sequence[int], proof: Batch) -> tuple[Network, Roots, Roots]:
    """The network without ``base`` and as many of ``roots`` as are proved to leave what they should; what is left,
    what went, and what did not."""
    network = _proved(now, (*base, *roots), proof)
    if network is not None:
        return network, (*base, *roots), ()
    if len(roots) == 1:
        left = _proved(now, base, proof) if base else now.network
        return left if left is not None else now.network, base, tuple(roots)
    half = len(roots) // 2
    _, base, first = take_out(now, base, roots[:half], proof)
    network, base, second = take_out(now, base, roots[half:], proof)
    return network, base, (*first, *second)


def _proved(now: Trace, removed: Roots, proof: Batch) -> Network | None:
    """The smaller network; None where it cannot be made, or does not compute what it should."""
    try:
        smaller = shrink(now, frozenset(removed))
        return smaller if differs(now, frozenset(removed), smaller, proof) <= 1 else None
    except _NOT_MADE:
        return None
