"""Where to cut: which of the values known early are computed early, and which are computed again for every row.

For one side at a time a minimum cut finds the cheapest: a node that is run for every row costs its
multiply-adds, and a value that crosses costs the bytes that a row fetches. So a value is stored, or its partial sum of
the first layer, or it is recomputed from what crosses anyway, whichever is least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rankine.compilation.binding.costs import BYTES_OF, SCALE_BYTES, CostModel, Storage
from rankine.compilation.binding.dims import size_of_row
from rankine.compilation.binding.facts import Fact
from rankine.compilation.binding.lattice import Binding
from rankine.compilation.binding.minimum_cut import SINK, SOURCE, Arc, minimum_cut
from rankine.compilation.binding.plan import Settings
from rankine.models.rewrite.graph import Graph, reads

__all__ = ["Cut", "best_cut", "crossing", "read_late"]


_SMALLEST_PRICE, _LARGEST_PRICE = 1e-3, 1e6
_STEPS = 30


@dataclass(frozen=True)
class Cut:
    """A graph and what of it is computed early.

    Attributes:
        early: names of computed values.
        cost: of a row, in multiply-adds, by the cost model.
    """

    graph: Graph
    facts: Mapping[str, Fact]
    early: set[str]
    cost: float


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
    request = _early(graph, facts, Binding.REQUEST, Prices(costs, costs.request_byte))
    limit = math.inf if settings.catalog_bytes is None else settings.catalog_bytes / settings.items

    def at(price: float) -> set[str]:
        return _early(graph, facts, Binding.CATALOG, Prices(costs, costs.catalog_byte, price, settings.storage))

    def fits(early: set[str]) -> bool:
        return sum(bytes_of(facts[name], settings.storage) for name in crossing(graph, early)) <= limit

    low, high = 0.0, _LARGEST_PRICE
    catalog = at(low)
    if not fits(catalog):
        catalog = at(high)
        if not fits(catalog):
            catalog = set()
        for _ in range(_STEPS):
            middle = math.sqrt(max(low, _SMALLEST_PRICE) * high)
            tried = at(middle)
            if fits(tried):
                catalog, high = tried, middle
            else:
                low = middle
    early = catalog | request
    return Cut(graph, facts, early, _cost(graph, facts, early, settings))


def crossing(graph: Graph, early: set[str]) -> list[str]:
    """Values of ``early`` that something late reads, in the order of the graph."""
    late = [node for node in graph.nodes if node.output[0] not in early]
    read = {name for node in late for name in reads(node)}.union(graph.outputs)
    return [name for node in graph.nodes for name in node.output if name in early and name in read]


def read_late(graph: Graph, early: set[str]) -> list[str]:
    """Inputs of the graph that something late reads."""
    read = {name for node in graph.nodes if node.output[0] not in early for name in reads(node)}
    return [value.name for value in graph.inputs if value.name in read.union(graph.outputs)]


def bytes_of(fact: Fact, storage: Storage) -> int:
    """Of one row of a computed value, as it is stored."""
    return size_of_row(fact.shape or ()) * BYTES_OF[storage] + (SCALE_BYTES if storage == "int8" else 0)


def _cost(graph: Graph, facts: Mapping[str, Fact], early: set[str], settings: Settings) -> float:
    """Of a row: what is computed for it, and what it fetches."""
    costs = settings.costs
    fetched = {Binding.CATALOG: costs.catalog_byte, Binding.REQUEST: costs.request_byte}
    total = 0.0
    for node in graph.nodes:
        if node.output[0] not in early and facts[node.output[0]].binding is not Binding.CONSTANT:
            total += costs.per_row(node, facts)
    for name in crossing(graph, early):
        side = facts[name].binding
        storage: Storage = settings.storage if side is Binding.CATALOG else "float32"
        total += fetched[side] * bytes_of(facts[name], storage)
    for name in read_late(graph, early):
        total += fetched.get(facts[name].binding, 0.0) * bytes_of(facts[name], "float32")
    return total


def _early(graph: Graph, facts: Mapping[str, Fact], side: Binding, prices: Prices) -> set[str]:
    """Computed values of a side that are best computed early."""
    found = {node[1] for node in minimum_cut(_arcs(graph, facts, side, prices)) if isinstance(node, tuple)}
    return {str(name) for name in found}


def _arcs(graph: Graph, facts: Mapping[str, Fact], side: Binding, prices: Prices) -> list[Arc]:
    """A value ``v`` is the node ``("early", v)``, on the source's side where it is computed early, and ``v`` alone, on
    the sink's side where somebody reads it late."""
    inputs = [value.name for value in graph.inputs if facts[value.name].binding is side]
    arcs = [Arc(SOURCE, name, prices.of(facts[name], computed=False)) for name in inputs]
    arcs += [Arc(name, SINK, math.inf) for name in graph.outputs]
    for node in graph.nodes:
        if facts[node.output[0]].binding is not side:
            arcs += [Arc(name, SINK, math.inf) for name in reads(node) if facts[name].binding is side]
            continue
        first = ("early", node.output[0])
        arcs.append(Arc(SOURCE, first, prices.costs.per_row(node, facts)))
        for name in node.output:
            arcs.append(Arc(("early", name), name, prices.of(facts[name], computed=True)))
            if name != node.output[0]:
                arcs += [Arc(first, ("early", name), math.inf), Arc(("early", name), first, math.inf)]
        for name in reads(node):
            if facts[name].binding is side:
                arcs.append(Arc(name, first, math.inf))
                if name not in inputs:
                    arcs.append(Arc(first, ("early", name), math.inf))
    return arcs
