"""What the splits share: the graph as it is written, and the form of each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from rankine.compilation.binding.dims import Shape
from rankine.compilation.binding.emitter import Emitter
from rankine.compilation.binding.forms import Form, Term
from rankine.compilation.binding.lattice import Binding

__all__ = ["Late", "Spreader", "attributes"]

Late = frozenset[tuple[str, Binding]]
"""Linear layers, by the name of what they compute, and sides of which nothing is taken out of them."""


class Spreader:
    """Attributes:
    emitter: writes the graph.
    forms: of values that are known per row, of which a part is known before.
    late: linear layers, and of which side they are to take nothing out: it would cost more than it saves.
    products: by layer and side, what was taken out.
    apart: of concatenations whose form has several terms at one place, a form that has one at each.
    shape: of what the node in hand computes.
    """

    def __init__(self, emitter: Emitter, late: Late) -> None:
        self.emitter = emitter
        self.late = late
        self.products: dict[tuple[str, Binding], list[str]] = {}
        self.forms: dict[str, Form] = {}
        self.apart: dict[str, Form] = {}
        self.shape: Shape = ()

    def form(self, name: str) -> Form:
        """Of any value: the value itself where nothing else is known."""
        return self.forms.get(name) or Form(self.emitter.shape(name), None, (Term(name),))

    def constant(self, name: str) -> bool:
        """Whether a value is a constant array."""
        return name in self.emitter.graph.constants

    def binding(self, term: Term) -> Binding:
        return self.emitter.binding(term.value)

    def emit(self, operator: str, inputs: Sequence[str], given: Mapping[str, object] | None = None) -> str:
        return self.emitter.emit(operator, inputs, given or {})


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """All of a node's attributes."""
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
