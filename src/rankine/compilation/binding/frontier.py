"""Where to cut: which of the values known early are computed early, and which are computed again for every row.

For one side at a time a minimum cut finds the cheapest: a node that is run for every row costs its multiply-adds, and a
value that crosses costs the bytes that a row fetches. So a value is stored, or its partial sum of the first layer, or
it is recomputed from what crosses anyway, whichever is least. What is computed early costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from rankine.compilation.binding.costs import BYTES_OF, SCALE_BYTES, CostModel, Storage
from rankine.compilation.binding.dims import size_of_row
from rankine.compilation.binding.facts import Fact
from rankine.compilation.binding.lattice import EARLY, Binding
from rankine.compilation.binding.minimum_cut import SINK, SOURCE, Arc, minimum_cut
from rankine.compilation.binding.plan import Settings
from rankine.models.rewrite.graph import Graph, reads

__all__ = ["Cut", "best_cut"]


_SMALLEST_PRICE, _LARGEST_PRICE = 1e-3, 1e6
_STEPS = 30


@dataclass(frozen=True)
class Cut:
    """Of a graph.

    Attributes:
        crossing: computed values that are fetched for every row.
        late: nodes that are run for every row. A node may be run early as well, for what is computed early from it.
        inputs: of the graph, that the late nodes read.
        cost: of a row, in multiply-adds, by the cost model.
    """

    graph: Graph
    facts: Mapping[str, Fact]
    crossing: tuple[str, ...]
    late: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    cost: float

    @property
    def late_values(self) -> set[str]:
        """What is computed for every row."""
        return {name for node in self.late for name in node.output}


@dataclass(frozen=True)
class Prices:
    """Of one side.

    Attributes:
        fetched_byte: of every byte that a row fetches.
        held_byte: beside it, of every byte of a computed value: what makes a store smaller.
        storage: of computed values.
    """

    costs: CostModel
    fetched_byte: float
    held_byte: float = 0.0
    storage: Storage = "float32"

    def of(self, fact: Fact, *, computed: bool) -> float:
        """Of a value that crosses."""
        if not fact.crosses or fact.shape is None:
            return math.inf
        if not computed:
            return self.fetched_byte * bytes_of(fact, "float32")
        return (self.fetched_byte + self.held_byte) * bytes_of(fact, self.storage)


def best_cut(graph: Graph, facts: Mapping[str, Fact], settings: Settings) -> Cut:
    """The cheapest cut of both sides, in which what is stored fits into the catalog's bytes.

    The limit is met by a price on held bytes, the smallest that does (to one part in a thousand): the cut at a price is
    the cheapest of all that hold as little.
    """
    costs = settings.costs
    request = _again(graph, facts, Binding.REQUEST, Prices(costs, costs.request_byte))
    limit = math.inf if settings.catalog_bytes is None else settings.catalog_bytes / settings.items

    def at(price: float) -> Cut:
        prices = Prices(costs, costs.catalog_byte, price, settings.storage)
        return _cut(graph, facts, request | _again(graph, facts, Binding.CATALOG, prices), settings)

    def fits(cut: Cut) -> bool:
        stored = [facts[name] for name in cut.crossing if facts[name].binding is Binding.CATALOG]
        return sum(bytes_of(fact, settings.storage) for fact in stored) <= limit

    best = at(0.0)
    if fits(best):
        return best
    best, low, high = at(_LARGEST_PRICE), _SMALLEST_PRICE, _LARGEST_PRICE
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        tried = at(middle)
        if fits(tried):
            best, high = tried, middle
        else:
            low = middle
    return best


def _cut(graph: Graph, facts: Mapping[str, Fact], again: set[str], settings: Settings) -> Cut:
    """What is read late, from the outputs back to values that cross.

    Args:
        again: values known early that are computed for every row, where they are read late.
    """
    wanted, late, crossing = set(graph.outputs), [], []
    for node in reversed(graph.nodes):
        read = [name for name in node.output if name in wanted]
        early = facts[node.output[0]].binding in EARLY and not again.intersection(node.output)
        if read and early:
            crossing += read
        elif read:
            late.append(node)
            wanted.update(reads(node))
    inputs = tuple(value.name for value in graph.inputs if value.name in wanted)
    cut = Cut(graph, facts, tuple(crossing[::-1]), tuple(late[::-1]), inputs, 0.0)
    return replace(cut, cost=_cost(cut, settings))


def bytes_of(fact: Fact, storage: Storage) -> int:
    """Of one row of a computed value, as it is stored."""
    return size_of_row(fact.shape or ()) * BYTES_OF[storage] + (SCALE_BYTES if storage == "int8" else 0)


def _cost(cut: Cut, settings: Settings) -> float:
    """Of a row: what is computed for it, and what it fetches."""
    costs, facts = settings.costs, cut.facts
    fetched = {Binding.CATALOG: costs.catalog_byte, Binding.REQUEST: costs.request_byte}
    total = sum(costs.per_row(n, facts) for n in cut.late if facts[n.output[0]].binding is not Binding.CONSTANT)
    for name in cut.crossing:
        side = facts[name].binding
        storage: Storage = settings.storage if side is Binding.CATALOG else "float32"
        total += fetched[side] * bytes_of(facts[name], storage)
    return total + sum(fetched.get(facts[name].binding, 0.0) * bytes_of(facts[name], "float32") for name in cut.inputs)


def _again(graph: Graph, facts: Mapping[str, Fact], side: Binding, prices: Prices) -> set[str]:
    """Computed values of a side that are better computed for every row than fetched, where they are read late."""
    kept = minimum_cut(_arcs(graph, facts, side, prices))
    own = [name for node in graph.nodes for name in node.output if facts[name].binding is side]
    return {name for name in own if ("fetched", name) not in kept}


def _arcs(graph: Graph, facts: Mapping[str, Fact], side: Binding, prices: Prices) -> list[Arc]:
    """A value ``v`` is on the sink's side where it is read late; ``("fetched", v)`` where it is computed for that."""
    inputs = [value.name for value in graph.inputs if facts[value.name].binding is side]
    arcs = [Arc(SOURCE, name, prices.of(facts[name], computed=False)) for name in inputs]
    arcs += [Arc(name, SINK, math.inf) for name in graph.outputs]
    for node in graph.nodes:
        if facts[node.output[0]].binding is not side:
            arcs += [Arc(name, SINK, math.inf) for name in reads(node) if facts[name].binding is side]
            continue
        first = ("fetched", node.output[0])
        arcs.append(Arc(SOURCE, first, prices.costs.per_row(node, facts)))
        arcs += [Arc(name, first, math.inf) for name in reads(node) if facts[name].binding is side]
        for name in node.output:
            # What is rounded crosses as it was before: engines multiply integers only where they see the rounding.
            price = math.inf if node.op_type == "DequantizeLinear" else prices.of(facts[name], computed=True)
            arcs.append(Arc(("fetched", name), name, price))
            if name != node.output[0]:
                arcs += [Arc(first, ("fetched", name), math.inf), Arc(("fetched", name), first, math.inf)]
    return arcs
