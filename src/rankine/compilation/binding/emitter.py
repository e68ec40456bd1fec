"""A graph that is written anew node by node, each node judged as it comes and computed once where it occurs twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from rankine.compilation.binding.analysis import Refusal, judge
from rankine.compilation.binding.dims import Shape, Unprovable
from rankine.compilation.binding.facts import Fact, fact_of_constant, fact_of_input
from rankine.compilation.binding.lattice import Binding
from rankine.compilation.binding.rules.elementwise import ROUNDING
from rankine.models.rewrite.graph import Graph, evaluate, reads, renamed

__all__ = ["Emitter"]

_NO_ATTRIBUTES: Mapping[str, Any] = {}


class Emitter:
    """Writes a graph with the inputs, outputs and constants of another.

    Attributes:
        graph: what is written.
        facts: of its values.
        refusals: nodes of which nothing could be proved.
        aliases: values of the old graph that are others in the new one.
        producers: the node that computes each value.
        features: the inputs of the graph that each value depends on.
    """

    def __init__(self, source: Graph, sides: Mapping[str, Binding]) -> None:
        self.graph = replace(source, nodes=[], constants=dict(source.constants))
        self.facts: dict[str, Fact] = {name: fact_of_constant(values) for name, values in source.constants.items()}
        self.facts |= {value.name: fact_of_input(value, sides[value.name]) for value in source.inputs}
        self.refusals: list[Refusal] = []
        self.aliases: dict[str, str] = {}
        self.producers: dict[str, onnx.NodeProto] = {}
        self.features: dict[str, frozenset[str]] = defaultdict(frozenset)
        self.features |= {value.name: frozenset([value.name]) for value in source.inputs}
        self._made: dict[bytes, Sequence[str]] = {}
        self._constants: dict[tuple[str, Shape, bytes], str] = {}

    def shape(self, name: str) -> Shape:
        """Of a value of which rows are proved.

        Raises:
            Unprovable: they are not.
        """
        shape = self.facts[name].shape
        if shape is None:
            raise Unprovable("it is kept whole")
        return shape

    def binding(self, name: str) -> Binding:
        return self.facts[name].binding

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """The name of a constant, one for all that are the same."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = name = self.graph.constant(array)
            self.facts[name] = fact_of_constant(array)
        return self._constants[key]

    def emit(
        self,
        operator: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] = _NO_ATTRIBUTES,
        *,
        output: str | None = None,
    ) -> str:
        """The output of a node; of one that is there already, unless ``output`` gives its name. What reads constants
        only is computed at once."""
        name = output or self.graph.fresh(operator)
        node = onnx.helper.make_node(operator, list(inputs), [name])
        node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
        if output is None and operator not in ROUNDING and self.graph.constants.keys() >= set(inputs):
            feeds = {given: self.graph.constants[given] for given in inputs}
            (result,) = evaluate(node, feeds, self.graph.opset).values()
            return self.constant(result, result.dtype)
        self.keep(node)
        return self.aliases.get(name, name)

    def keep(self, node: onnx.NodeProto) -> None:
        """Write a node of the old graph, or note that its outputs are those of one that is there."""
        node = renamed(node, {name: self.aliases[name] for name in reads(node) if name in self.aliases})
        key = _key(node)
        if key in self._made and not set(node.output) & set(self.graph.outputs):
            self.aliases |= dict(zip(node.output, self._made[key], strict=True))
            return
        found, refusal = judge(node, self.facts, self.graph.constants)
        self.facts |= found
        self.features |= dict.fromkeys(node.output, frozenset().union(*(self.features[name] for name in reads(node))))
        if self._is_size(node, found):
            return
        self.graph.nodes.append(node)
        self.producers |= dict.fromkeys(node.output, node)
        self._made.setdefault(key, list(node.output))
        if refusal is not None:
            self.refusals.append(refusal)

    def _is_size(self, node: onnx.NodeProto, found: Mapping[str, Fact]) -> bool:
        """A size that does not depend on the rows becomes a constant, even if it was read off a value."""
        fact = found.get(node.output[0])
        if fact is None or fact.content is None or fact.binding is not Binding.CONSTANT or fact.shape is None:
            return False
        if node.output[0] in self.graph.outputs:
            return False
        self.aliases[node.output[0]] = self.constant(
            np.reshape(np.asarray(fact.content), [dim for dim in fact.shape if isinstance(dim, int)]), fact.dtype
        )
        return True


def _key(node: onnx.NodeProto) -> bytes:
    """The same for nodes that compute the same of the same."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.ClearField("output")
    copy.ClearField("name")
    copy.ClearField("doc_string")
    copy.ClearField("metadata_props")
    outputs = len(node.output).to_bytes(2, "big")
    attributes = sorted(copy.attribute, key=lambda entry: entry.name)
    del copy.attribute[:]
    copy.attribute.extend(attributes)
    return outputs + bytes(copy.SerializeToString(deterministic=True))
