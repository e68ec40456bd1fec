"""How each operator becomes steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rankine.compilation.fused.operators import along, elementwise, movement, products, rounding
from rankine.compilation.fused.operators.call import Call
from rankine.compilation.fused.values import Value

__all__ = ["LOWERINGS", "Call"]

LOWERINGS: Mapping[str, Callable[[Call], list[Value]]] = {
    **elementwise.lowerings,
    **movement.lowerings,
    **products.lowerings,
    **along.lowerings,
    **rounding.lowerings,
}
"""By operator of the default domain: a node to the values of its outputs."""
