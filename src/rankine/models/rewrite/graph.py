"""A graph while it is rewritten: nodes in topological order and constants as arrays, never copied as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["Graph", "attribute", "evaluate", "failures", "numbered", "reads", "renamed"]

failures = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What the reference evaluator raises for an operator that it lacks or that does not fit its inputs."""

_PREFIX = "rankine/"
_STRUCTURE = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


@dataclass
class Graph:
    """Nodes in topological order.

    Attributes:
        constants: initializers and what was computed from them, by name.
        inputs: of the graph, without those that are initializers.
        outputs: names.
        opset: of the default domain.
    """

    nodes: list[onnx.NodeProto]
    constants: dict[str, np.ndarray]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[str]
    opset: int
    _names: int = field(default=0, repr=False)

    @classmethod
    def read(cls, model: onnx.ModelProto) -> Graph:
        """The main graph of a model; its initializers become arrays."""
        graph = model.graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        inputs = [value for value in graph.input if value.name not in constants]
        outputs = [value.name for value in graph.output]
        return cls(list(graph.node), constants, inputs, outputs, opset, _last_number(graph))

    @classmethod
    def opened(cls, model: onnx.ModelProto) -> Graph:
        """A model to be rewritten, every constant of it an array, also those that nodes make or compute from others;
        ``model`` itself stays as it is."""
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        graph = cls.read(copied)
        graph.fold()
        return graph

    def closed(self, like: onnx.ModelProto) -> onnx.ModelProto:
        """The graph as a model with the outputs and the opset of ``like``, checked; nodes and constants that nothing
        reads are left out, inputs stay.

        Raises:
            onnx.checker.ValidationError, onnx.shape_inference.InferenceError: it is no valid graph.
        """
        self.prune()
        read = {name for node in self.nodes for name in reads(node)}.union(self.outputs)
        constants = [
            numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)
            for name, values in self.constants.items()
            if name in read
        ]
        model = onnx.helper.make_model(
            onnx.helper.make_graph(self.nodes, like.graph.name, self.inputs, list(like.graph.output), constants),
            opset_imports=list(like.opset_import),
            ir_version=like.ir_version,
            producer_name=like.producer_name,
        )
        taken: set[str] = set()
        for node in model.graph.node:  # names are optional in ONNX, but ONNX Runtime refuses two that are the same
            if node.name in taken:
                node.ClearField("name")
            taken.add(node.name)
        onnx.checker.check_model(model, full_check=True)
        return model

    def constant(self, values: Any, dtype: Any = None) -> str:
        """The name of a new constant."""
        name = self.fresh("constant")
        self.constants[name] = np.asarray(values, dtype)
        return name

    def fresh(self, what: str) -> str:
        """A name that no other value has: no exporter writes this prefix."""
        self._names += 1
        return f"{_PREFIX}{what}/{self._names}"

    def prune(self) -> None:
        """Drop nodes that nothing reads."""
        wanted = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(reads(node))
        self.nodes = kept[::-1]

    def fold(self) -> None:
        """Replace nodes that read constants only by their values."""
        kept = []
        for node in self.nodes:
            names = list(reads(node))
            if node.domain in ("", "ai.onnx") and node.op_type not in _RANDOM and self.constants.keys() >= set(names):
                results = _tried(node, {name: self.constants[name] for name in names}, self.opset)
                if results is not None:
                    self.constants.update(results)
                    continue
            kept.append(node)
        self.nodes = kept

    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each value."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in set(reads(node)):
                found.setdefault(name, []).append(node)
        return found

    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that computes each value."""
        return {name: node for node in self.nodes for name in node.output}


_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value; strings as ``str``."""
    for entry in node.attribute:
        if entry.name == name:
            value = onnx.helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values that a node reads, also those that a subgraph takes from outside of it."""
    yield from (name for name in node.input if name)
    for entry in node.attribute:
        if entry.type in _STRUCTURE:
            for graph in [entry.g] if entry.type == onnx.AttributeProto.GRAPH else entry.graphs:
                yield from _captured(graph)


def renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of a node with its values renamed, also inside of its subgraphs."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    _rename(copy, names)
    return copy


def evaluate(node: onnx.NodeProto, feeds: Mapping[str, np.ndarray], opset: int) -> dict[str, np.ndarray]:
    """A node's outputs for given inputs, by ONNX's own reference."""
    unknown = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in dict.fromkeys(reads(node))]
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "node", unknown, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    results: Any = ReferenceEvaluator(model).run(None, dict(feeds))
    return {value.name: np.asarray(result) for value, result in zip(outputs, results, strict=True)}


def numbered(names: Iterable[str], limit: int = 3) -> str:
    """Names for a message, the first few of many."""
    known = sorted(names)
    return ", ".join(f"'{name}'" for name in known[:limit]) + (f" and {len(known) - limit} more" * (len(known) > limit))


def _last_number(graph: onnx.GraphProto) -> int:
    """The largest number in the names that an earlier rewrite made."""
    names = [*(tensor.name for tensor in graph.initializer), *(name for node in graph.node for name in node.output)]
    made = [name.rpartition("/")[2] for name in names if name.startswith(_PREFIX)]
    return max((int(number) for number in made if number.isdecimal()), default=0)


def _tried(node: onnx.NodeProto, feeds: Mapping[str, np.ndarray], opset: int) -> dict[str, np.ndarray] | None:
    try:
        return evaluate(node, feeds, opset)
    except failures:
        return None  # stays a node: whoever runs the graph knows the operator


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
        own.update(node.output)
    yield from (value.name for value in graph.output if value.name not in own)


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    _rename_list(node.input, names)
    _rename_list(node.output, names)
    for entry in node.attribute:
        if entry.type in _STRUCTURE:
            for graph in [entry.g] if entry.type == onnx.AttributeProto.GRAPH else entry.graphs:
                for inner in graph.node:
                    _rename(inner, names)
                for value in (*graph.input, *graph.output, *graph.initializer):
                    value.name = names.get(value.name, value.name)


def _rename_list(values: Any, names: Mapping[str, str]) -> None:
    kept: Sequence[str] = list(values)
    values[:] = [names.get(value, value) for value in kept]
