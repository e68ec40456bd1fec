"""Binding times: for every value of a graph when it is known, and the proof that its rows do not mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from rankine.compilation.binding.dims import Rows, Unprovable, row_axis
from rankine.compilation.binding.facts import Fact, Out, Reading, fact_of_constant, fact_of_input
from rankine.compilation.binding.lattice import Binding, join
from rankine.compilation.binding.rules import RULES
from rankine.models.rewrite.graph import Graph, failures, reads

__all__ = ["Analysis", "Refusal", "analyze", "judge"]

_WHOLE = Fact(Binding.CANDIDATE, None)


@dataclass(frozen=True)
class Refusal:
    """Why a node, and all that depends on it, is kept whole in the candidate's graph.

    Attributes:
        node: its name, or the name of what it computes.
        operator: of the node.
        reason: what could not be proved.
    """

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} '{self.node}': {self.reason}"


@dataclass(frozen=True)
class Analysis:
    """Of a graph.

    Attributes:
        facts: by value.
        refusals: the first nodes on each way of which nothing could be proved, in the order of the graph.
    """

    facts: Mapping[str, Fact]
    refusals: tuple[Refusal, ...]


def analyze(graph: Graph, sides: Mapping[str, Binding]) -> Analysis:
    """When each value of ``graph`` is known.

    Args:
        graph: inputs are ``(rows, ...)``, rows dynamic.
        sides: when each input is known.

    By induction over the nodes: for every operator there is a rule that says where the rows of its outputs lie if row
    ``r`` of each input depends on row ``r`` of the graph's inputs only. Where there is no rule, or the rule does not
    hold (a softmax over rows), the outputs are kept whole at ``candidate``: there the graph has the rows that the
    unsplit graph had.
    """
    facts = {name: fact_of_constant(values) for name, values in graph.constants.items()}
    facts |= {value.name: fact_of_input(value, sides[value.name]) for value in graph.inputs}
    refusals: list[Refusal] = []
    for node in graph.nodes:
        found, refusal = judge(node, facts, graph.constants)
        facts |= found
        if refusal is not None:
            refusals.append(refusal)
    return Analysis(facts, tuple(refusals))


def judge(
    node: onnx.NodeProto, facts: Mapping[str, Fact], constants: Mapping[str, np.ndarray]
) -> tuple[dict[str, Fact], Refusal | None]:
    """What holds of a node's outputs; a refusal where it is this node of which nothing can be proved."""
    names = [name for name in node.output if name]
    given = [facts[name] for name in reads(node)]
    if any(fact.shape is None for fact in given):
        return dict.fromkeys(names, _WHOLE), None
    binding = join(fact.binding for fact in given)
    try:
        outs = _rule(node, facts, constants)
        found = {name: _fact(out, binding, given) for name, out in zip(node.output, outs, strict=False) if name}
    except Unprovable as reason:
        return dict.fromkeys(names, _WHOLE), Refusal(node.name or node.output[0], node.op_type, str(reason))
    except failures as error:
        told = f"its rule does not fit it: {error}"
        return dict.fromkeys(names, _WHOLE), Refusal(node.name or node.output[0], node.op_type, told)
    return {name: found.get(name, _WHOLE) for name in names}, None


def _rule(node: onnx.NodeProto, facts: Mapping[str, Fact], constants: Mapping[str, np.ndarray]) -> list[Out]:
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        raise Unprovable("nothing is known of this operator")
    given = tuple(facts[name] if name else None for name in node.input)
    known = {position: constants[name] for position, name in enumerate(node.input) if name in constants}
    return rule(Reading(node, given, known))


def _fact(out: Out, binding: Binding, given: list[Fact]) -> Fact:
    dtype = out.dtype if out.dtype is not None else next((fact.dtype for fact in given), np.dtype(np.float32))
    if out.content is not None and any(isinstance(dim, Rows) for dim in out.content):
        return Fact(Binding.CANDIDATE, out.shape, dtype, out.content)  # the number of rows is the candidate's
    if out.content is not None:
        return Fact(Binding.CONSTANT, out.shape, dtype, out.content)
    if binding is not Binding.CONSTANT and row_axis(out.shape) is None:
        raise Unprovable("the rows are gone")
    return Fact(binding, out.shape, dtype)
