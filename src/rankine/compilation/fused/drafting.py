"""A graph as steps: node by node, each by the lowering of its operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from rankine.compilation.binding.dims import Rows, row_axis
from rankine.compilation.binding.facts import Fact
from rankine.compilation.fused.builder import Builder
from rankine.compilation.fused.operators import LOWERINGS, Call
from rankine.compilation.fused.prepare import Prepared, dims_of_row
from rankine.compilation.fused.program import Element
from rankine.compilation.fused.steps import Draft
from rankine.compilation.fused.values import Codes, Unsupported, Value
from rankine.compilation.fused.views import Constants, Storage, View, constant_view, whole_view
from rankine.errors import EngineError
from rankine.models.rewrite.graph import failures, numbered, reads

__all__ = ["Drafting", "Refused"]

_INPUTS = {np.dtype(np.float32): Element.F32, np.dtype(np.uint8): Element.U8}


class Refused(EngineError):
    """Nodes that a graph's output depends on have no lowering.

    Attributes:
        reasons: of each, its operator, its name and why.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(
            "the native engine cannot run the graph",
            got="; ".join(reasons),
            hint="Another engine runs it: `rankine doctor` lists those that are installed.",
        )


class Drafting:
    """One graph on its way to steps.

    What cannot be lowered is remembered and matters only where the output depends on it: exporters compute sizes with
    operators that no row ever runs through.

    """

    def __init__(self, prepared: Prepared) -> None:
        self._graph, self._facts = prepared.graph, prepared.facts
        self._refusals = {refusal.node: refusal for refusal in prepared.refusals}
        self._build = Builder()
        self._constants: dict[str, np.ndarray] = dict(self._graph.constants)
        self._values: dict[str, Value] = {}
        self._inputs: dict[str, View] = {}
        self._reasons: dict[str, str] = {}

    def draft(self) -> Draft:
        """The steps of the graph.

        Raises:
            Refused: nodes that the output depends on have no lowering; tells of all such nodes.
            EngineError: an input or the output is not as models have them.
        """
        for value in self._graph.inputs:
            self._input(value)
        for node in self._graph.nodes:
            self._node(node)
        if len(self._graph.outputs) != 1:
            raise EngineError("the native engine gives one output", got=", ".join(self._graph.outputs))
        (name,) = self._graph.outputs
        if reasons := self._roots(name):
            raise Refused(reasons)
        return Draft(self._build.steps, self._inputs, self._output(name))

    def _input(self, value: onnx.ValueInfoProto) -> None:
        fact = self._facts[value.name]
        element = _INPUTS.get(np.dtype(fact.dtype))
        if fact.shape is None or fact.shape[0] != Rows() or len(fact.shape) != 2 or element is None:
            raise EngineError(
                "the native engine cannot read this input",
                where=value.name,
                got=f"{np.dtype(fact.dtype)} of {fact.shape}",
                allowed="float32 or uint8 (rows, width)",
            )
        view = whole_view(Storage(element, dims_of_row(fact.shape)[1]), dims_of_row(fact.shape))
        self._inputs[value.name] = view
        self._values[value.name] = Value(view) if element is Element.F32 else Value(codes=Codes(view))

    def _node(self, node: onnx.NodeProto) -> None:
        facts = [self._facts[name] for name in node.output if name]
        if all(fact.content is not None for fact in facts):
            return  # sizes, which no row runs through
        missing = [name for name in node.input if name in self._reasons]
        try:
            call = self._call(node, facts, missing)
            outputs = LOWERINGS[node.op_type](call)
        except (Unsupported, *failures) as reason:  # a graph that fits no rule is another engine's, not an accident
            told = "" if missing else f"{node.op_type} '{node.name or node.output[0]}': {reason}"
            self._reasons.update(dict.fromkeys(node.output, told))
            return
        for name, value, fact in zip(node.output, outputs, facts, strict=False):
            self._values[name] = value
            if fact.shape is not None and row_axis(fact.shape) is None and isinstance(_base(value), Constants):
                self._constants[name] = self._build.numbers(value).numbers()

    def _call(self, node: onnx.NodeProto, facts: list[Fact], missing: list[str]) -> Call:
        """What the lowering of a node reads.

        Raises:
            Unsupported: there is none, or its rows are not proved, or it reads what could not be lowered.
        """
        refusal = self._refusals.get(node.name or node.output[0])
        if refusal is not None and refusal.operator == node.op_type:
            raise Unsupported(refusal.reason)
        if node.op_type not in LOWERINGS or node.domain not in ("", "ai.onnx"):
            raise Unsupported("the engine has no such operator")
        shapes = [fact.shape for fact in facts]
        if missing or any(shape is None for shape in shapes):
            raise Unsupported("it reads what cannot be computed")
        return Call(
            node,
            self._build,
            {at: value for at, name in enumerate(node.input) if (value := self._value(name)) is not None},
            {at: self._constants[name] for at, name in enumerate(node.input) if name in self._constants},
            tuple(dims_of_row(shape) for shape in shapes if shape is not None),
            tuple(fact.dtype for fact in facts),
            {at: self._facts[name].dtype for at, name in enumerate(node.input) if name},
        )

    def _value(self, name: str) -> Value | None:
        """What a name stands for; None where it is no float32, bool or code."""
        if name in self._values:
            return self._values[name]
        numbers = self._constants.get(name)
        if numbers is None or numbers.dtype not in (np.dtype(np.float32), np.dtype(bool)) or not numbers.size:
            return None
        self._values[name] = Value(constant_view(numbers))
        return self._values[name]

    def _output(self, name: str) -> View:
        fact, value = self._facts[name], self._value(name)
        if value is None or fact.shape is None or fact.shape[0] != Rows() or len(fact.shape) != 2:
            raise EngineError("the graph's output is no float32 (rows, tasks)", where=name, got=repr(fact.shape))
        view = self._build.flat(self._build.numbers(value))
        if isinstance(view.base, Constants):
            raise EngineError("the graph's output depends on no input", where=name)
        return view

    def _roots(self, name: str) -> list[str]:
        """Why a value cannot be computed: the reasons of the first nodes on each way to it."""
        if name not in self._reasons:
            return []
        producers = self._graph.producers()
        waiting, seen, found = [name], {name}, []
        while waiting:
            current = waiting.pop()
            if reason := self._reasons.get(current):
                found.append(reason)
                continue
            for read in reads(producers[current]):
                if read in self._reasons and read not in seen:
                    seen.add(read)
                    waiting.append(read)
        return list(dict.fromkeys(found)) or [f"'{name}' cannot be computed ({numbered(seen)})"]


def _base(value: Value) -> Storage | Constants | None:
    return None if value.view is None else value.view.base
