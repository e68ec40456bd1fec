"""Pruning of graphs in ONNX's text form: what is tied by each operator, and that what is left computes the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest

from rankine.compression.prune.costs import Costs
from rankine.compression.prune.groups import groups_of
from rankine.compression.prune.labels import Atom
from rankine.compression.prune.plan import Unshrinkable
from rankine.compression.prune.shrink import differs, shrink
from rankine.compression.prune.trace import Trace, trace
from rankine.compression.recipe import Prunable
from rankine.models.columns import Batch, Ragged
from rankine.models.network import Network
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, Identity, Schema, SequenceFeature, Task
from rankine.models.tables import QuotientRemainderTable
from unit.small_networks import made_network, operators, random_table

KINDS: tuple[Prunable, ...] = ("neurons", "dimensions", "fields")
A, B, C = (CategoricalFeature(name=name, side="item", encoding=Identity(size=9)) for name in "abc")
H = SequenceFeature(name="h", side="request", encoding=Identity(size=9), table="a", max_length=3)
D = DenseFeature(name="d", side="item", width=2)


@dataclass(frozen=True)
class Case:
    """A graph from features ``a`` and ``b`` of four columns (``c`` of two), a history of three of ``a``, two numbers.

    Attributes:
        together: for some atoms, written ``table.column``, ``value.neuron`` or ``feature``, all that goes with it; an
            empty text where it cannot go.
    """

    body: str
    together: dict[str, str] = field(default_factory=dict)
    features: tuple[Feature, ...] = (A, B)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def ints(**values: list[int] | int) -> str:
    """Constants of a graph."""
    return ";".join(
        f"{name} = Constant<value = int64 {{{value}}}>()"
        if isinstance(value, int)
        else f"{name} = Constant<value = int64[{len(value)}] {{{', '.join(map(str, value))}}}>()"
        for name, value in values.items()
    )


HEAD = "n = MatMul(x, W) m = Relu(n) logits = MatMul(m, V)"
TO_HEAD = {"W": (8, 6), "V": (6, 1)}
FREE = {f"{table}.{column}": f"{table}.{column}" for table in "ab" for column in range(4)} | {"a": "a", "n.2": "n.2"}
FIELDS = f"f = Concat<axis = 1>(a, b); {ints(s=[-1, 2, 4])}; v = Reshape(f, s)"
BY_COLUMN = {f"a.{column}": f"a.{column} b.{column}" for column in range(4)} | {"a": "a"}

CASES = {
    "concat": Case(f"x = Concat<axis = 1>(a, b) {HEAD}", FREE, weights=TO_HEAD),
    "concat-with-constant": Case(
        "y = Concat<axis = 1>(a, b) r = Shape<start = 0, end = 1>(a) "
        f"{ints(two=[2], zero=[0])}; e = Concat<axis = 0>(r, two) k = Expand(K, e) x = Concat<axis = 1>(y, k) {HEAD}",
        FREE,
        weights={"W": (10, 6), "V": (6, 1), "K": (1, 2)},
    ),
    "bias-and-activations": Case(
        "x = Concat<axis = 1>(a, b) n = Gemm<transB = 1>(x, W, c0) p = PRelu(n, s0) q = Mul(p, s1) t = Sigmoid(q) "
        "m = Mul(t, q) logits = Gemm(m, V)",
        FREE,
        weights={"W": (6, 8), "c0": (6,), "s0": (6,), "s1": (1, 6), "V": (6, 1)},
    ),
    "residual": Case(
        "x = Concat<axis = 1>(a, b) n = MatMul(x, W) r = Relu(n) y = Add(x, r) logits = MatMul(y, V)",
        {"a.1": "a.1 n.1", "b.1": "b.1 n.5", "a": ""},
        weights={"W": (8, 8), "V": (8, 1)},
    ),
    "cross": Case(
        "x = Concat<axis = 1>(a, b) n = Gemm(x, W, c0) p = Mul(x, n) y = Add(p, x) k = Gemm(y, U) q = Mul(x, k) "
        "z = Add(q, y) logits = MatMul(z, V)",
        {"a.1": "a.1 k.1 n.1", "b.3": "b.3 k.7 n.7", "a": "a", "b": "b"},
        weights={"W": (8, 8), "c0": (8,), "U": (8, 8), "V": (8, 1)},
    ),
    "product-of-two-towers": Case(
        "n = MatMul(a, W) k = MatMul(b, U) y = Mul(n, k) logits = MatMul(y, V)",
        {"n.3": "n.3", "k.3": "k.3", "a": ""},
        weights={"W": (4, 5), "U": (4, 5), "V": (5, 1)},
    ),
    "sum-of-two-towers": Case(
        "n = MatMul(a, W) k = MatMul(b, U) y = Add(n, k) logits = MatMul(y, V)",
        {"n.3": "k.3 n.3", "a.0": "a.0", "a": "a", "b": "b"},
        weights={"W": (4, 5), "U": (4, 5), "V": (5, 1)},
    ),
    "difference": Case(
        "n = MatMul(a, W) k = MatMul(b, U) y = Sub(n, k) logits = MatMul(y, V)",
        {"n.3": "k.3 n.3", "a": "a", "b": "b"},
        weights={"W": (4, 5), "U": (4, 5), "V": (5, 1)},
    ),
    "gate-of-one-column": Case(
        "g = MatMul(b, U) s = Sigmoid(g) y = Mul(s, a) logits = MatMul(y, V)",
        {"a.1": "a.1", "b.1": "b.1"},
        weights={"U": (4, 1), "V": (4, 1)},
    ),
    "factorization-machine": Case(
        f"{FIELDS}; {ints(one=[1])}; t = ReduceSum<keepdims = 0>(v, one) t2 = Mul(t, t) v2 = Mul(v, v) "
        "q = ReduceSum<keepdims = 0>(v2, one) w = Sub(t2, q) logits = ReduceSum<keepdims = 1>(w, one)",
        BY_COLUMN,
    ),
    "dot-interaction": Case(
        f"{FIELDS}; vt = Transpose<perm = [0, 2, 1]>(v) i = MatMul(v, vt) {ints(s4=[-1, 4], at=[2, 1])}; "
        "w = Reshape(i, s4) p = Gather<axis = 1>(w, at) x = Concat<axis = 1>(a, b, p) logits = MatMul(x, V)",
        BY_COLUMN,
        weights={"V": (10, 1)},
    ),
    "pairs-of-fields": Case(
        f"{ints(s1=[-1, 1, 4], two=[2])}; va = Reshape(a, s1) vb = Reshape(b, s1) l = Concat<axis = 1>(va, va, vb) "
        "r = Concat<axis = 1>(va, vb, vb) p = Mul(l, r) q = ReduceSum<keepdims = 0>(p, two) logits = MatMul(q, V)",
        BY_COLUMN,
        weights={"V": (3, 1)},
    ),
    "einsum": Case(
        f"{FIELDS}; i = Einsum<equation = 'bfd,bgd->bfg'>(v, v) {ints(s4=[-1, 4])}; w = Reshape(i, s4) "
        "logits = MatMul(w, V)",
        BY_COLUMN,
        weights={"V": (4, 1)},
    ),
    "weight-from-the-left": Case(
        f"{FIELDS}; n = MatMul(W, v) {ints(s12=[-1, 12])}; w = Reshape(n, s12) logits = MatMul(w, V)",
        {**{f"a.{column}": f"a.{column} b.{column}" for column in range(4)}, "n.1": "n.1", "a": "a"},
        weights={"W": (3, 2), "V": (12, 1)},
    ),
    "weight-for-every-field": Case(
        f"{FIELDS}; n = MatMul(v, W) y = Add(n, c0) r = Relu(y) {ints(s6=[-1, 6])}; w = Reshape(r, s6) "
        "logits = MatMul(w, V)",
        {"n.1": "n.1", "a": "a", **BY_COLUMN},
        weights={"W": (4, 3), "c0": (3,), "V": (6, 1)},
    ),
    "rows-merged-with-fields": Case(
        f"{FIELDS}; {ints(s2=[-1, 4], s3=[-1, 2, 3], s6=[-1, 6])}; f2 = Reshape(v, s2) n = Gemm(f2, W, c0) "
        "y = Reshape(n, s3) w = Reshape(y, s6) logits = MatMul(w, V)",
        {"n.1": "n.1", **BY_COLUMN},
        weights={"W": (4, 3), "c0": (3,), "V": (6, 1)},
    ),
    "convolution-over-one-place": Case(
        f"{FIELDS}; n = Conv(v, W, c0) r = Relu(n) {ints(s12=[-1, 12])}; w = Reshape(r, s12) logits = MatMul(w, V)",
        {"n.1": "n.1", **BY_COLUMN},
        weights={"W": (3, 2, 1), "c0": (3,), "V": (12, 1)},
    ),
    "softmax-of-a-gate": Case(
        "n = MatMul(b, G) g = Softmax<axis = 1>(n) e = MatMul(a, W) k = MatMul(a, U) "
        f"{ints(one=[1])}; e1 = Unsqueeze(e, one) k1 = Unsqueeze(k, one) s = Concat<axis = 1>(e1, k1) "
        "g1 = Unsqueeze(g, one) m = MatMul(g1, s) y = Squeeze(m, one) logits = MatMul(y, V)",
        {"e.2": "e.2 k.2", "n.0": "", "a.1": "a.1", "b.1": "b.1"},
        weights={"G": (4, 2), "W": (4, 5), "U": (4, 5), "V": (5, 1)},
    ),
    "attention-over-a-history": Case(
        f"{ints(zero=[0], cut=[-1], end=[99], one=[1], s=[-1, 3, 4], s1=[-1, 3])}; e = Slice(h, zero, cut, one, one) "
        "count = Slice(h, cut, end, one, one) v = Reshape(e, s) q = MatMul(b, Q) n = MatMul(v, W) "
        "q1 = Unsqueeze(q, one) y = Add(n, q1) r = Relu(y) w = MatMul(r, U) w1 = Reshape(w, s1) "
        "mask = Less(places, count) m = Cast<to = 1>(mask) "
        "g = Mul(w1, m) g1 = Unsqueeze(g, one) p = MatMul(g1, v) o = Squeeze(p, one) "
        "x = Concat<axis = 1>(o, a) logits = MatMul(x, V)",
        {"a.1": "a.1", "n.2": "n.2 q.2", "h": "h", "a": "a", "b.0": "b.0"},
        features=(A, B, H),
        weights={"Q": (4, 5), "W": (4, 5), "U": (5, 1), "V": (8, 1), "places": (1, 3)},
    ),
    "split": Case(
        f"x0 = Concat<axis = 1>(a, b) {ints(sizes=[3, 5])}; p, q = Split<axis = 1>(x0, sizes) "
        f"x = Concat<axis = 1>(q, p) {HEAD}",
        FREE,
        weights=TO_HEAD,
    ),
    "slices-and-gathers": Case(
        f"x0 = Concat<axis = 1>(a, b) {ints(zero=[0], three=[3], eight=[8], two=[2], one=[1], at=[-1, 1, 4])}; "
        "p = Slice(x0, zero, three, one, one) q = Slice(x0, three, eight, one, two) r = Gather<axis = 1>(x0, at) "
        f"x = Concat<axis = 1>(p, q, r) {HEAD}",
        {"a.0": "a.0", "b.3": "b.3", "b": "b"},
        weights={"W": (9, 6), "V": (6, 1)},
    ),
    "column-without-its-axis": Case(
        f"{ints(last=3, minus=[-1])}; w = Gather<axis = 1>(a, last) w1 = Unsqueeze(w, minus) "
        "y = MatMul(b, V) logits = Add(w1, y)",
        {"a.3": "a.3", "b.1": "b.1", "b": "b"},
        weights={"V": (4, 1)},
    ),
    "expand-and-tile": Case(
        f"{ints(one=[1], e=[1, 3, 1], t=[1, 2, 1], s=[-1, 24])}; a1 = Unsqueeze(a, one) w = Expand(a1, e) "
        "b1 = Unsqueeze(b, one) k = Tile(b1, t) c1 = Concat<axis = 1>(b1, k) p = Mul(w, c1) x = Concat<axis = 1>(p, w) "
        "y = Reshape(x, s) logits = MatMul(y, V)",
        {"a.1": "a.1", "b.1": "b.0 b.1 b.2 b.3", "b": "b"},
        weights={"V": (24, 1)},
    ),
    "mask-repeated-for-every-column": Case(
        f"{FIELDS}; {ints(e=[1, 1, 4], two=[2], s8=[-1, 8])}; g = MatMul(f, G) g1 = Unsqueeze(g, two) "
        "w = Expand(g1, e) p = Mul(v, w) y = Reshape(p, s8) logits = MatMul(y, V)",
        {"a.1": "a.1 b.1", "g.1": "g.1", "a": "a"},
        weights={"G": (8, 2), "V": (8, 1)},
    ),
    "factors-of-a-number": Case(
        f"{ints(two=[2], one=[1], s=[-1, 1, 4])}; d1 = Unsqueeze(d, two) p = Mul(d1, W) v = Reshape(a, s) "
        "c1 = Concat<axis = 1>(v, p) t = ReduceSum<keepdims = 0>(c1, one) t2 = Mul(t, t) logits = MatMul(t2, V)",
        {"a.1": "a.1 p.1", "a": "a", "d": "d"},
        features=(A, D),
        weights={"W": (2, 4), "V": (4, 1)},
    ),
    "padding": Case(
        f"{FIELDS}; {ints(pads=[0, 1, 0, 0, 0, 0], s12=[-1, 12])}; p = Pad(v, pads) w = Reshape(p, s12) "
        "logits = MatMul(w, V)",
        {"a.1": "a.0 a.1 a.2 a.3 b.0 b.1 b.2 b.3", "a": "a"},
        weights={"V": (12, 1)},
    ),
    "where": Case(
        "k = Greater(b, zero) n = MatMul(a, W) y = Where(k, n, c0) logits = MatMul(y, V)",
        {"n.1": "n.1", "b.1": "b.1"},
        weights={"zero": (1,), "W": (4, 4), "c0": (4,), "V": (4, 1)},
    ),
    "mean-keeps-its-terms": Case(
        f"{FIELDS}; {ints(one=[1])}; t = ReduceMean<keepdims = 0>(v, one) logits = MatMul(t, V)",
        {"a": "", "a.1": "a.1 b.1"},
        weights={"V": (4, 1)},
    ),
    "normalization-keeps-its-axis": Case(
        "n = MatMul(a, W) y = LayerNormalization(n, s0, c0) m = MatMul(y, U) r = Relu(m) logits = MatMul(r, V)",
        {"n.1": "", "m.1": "m.1", "a.1": "a.1"},
        weights={"W": (4, 5), "s0": (5,), "c0": (5,), "U": (5, 6), "V": (6, 1)},
    ),
    "batch-normalization": Case(
        "n = MatMul(a, W) y = BatchNormalization(n, s0, c0, mean, var) r = Relu(y) logits = MatMul(r, V)",
        {"n.1": "n.1"},
        features=(A,),
        weights={"W": (4, 5), "s0": (5,), "c0": (5,), "mean": (5,), "var": (5,), "V": (5, 1)},
    ),
    "division": Case(
        f"n = MatMul(a, W) k = MatMul(b, U) u = Softplus(k) {ints(one=[1])}; s = ReduceSum<keepdims = 1>(u, one) "
        "y = Div(n, s) logits = MatMul(y, V)",
        {"n.1": "n.1", "k.1": "k.1", "a": "", "b": ""},
        weights={"W": (4, 5), "U": (4, 3), "V": (5, 1)},
    ),
    "dense-and-first-order": Case(
        f"{ints(one=[1])}; x0 = Concat<axis = 1>(a, c) w = ReduceSum<keepdims = 1>(x0, one) k = MatMul(d, U) "
        "y = Add(w, k) x = Concat<axis = 1>(a, d) n = MatMul(x, W) r = Relu(n) z = MatMul(r, V) logits = Add(y, z)",
        {"d": "d", "a": "a", "c": "c", "c.1": "c.1", "a.2": "a.2"},
        features=(A, C, D),
        weights={"U": (2, 1), "W": (6, 6), "V": (6, 1)},
    ),
    "shape-of-a-feature": Case(
        f"r = Shape<start = 0, end = 1>(a) {ints(eight=[8])}; s = Concat<axis = 0>(r, eight) "
        f"x0 = Concat<axis = 1>(a, b) x = Reshape(x0, s) {HEAD}",
        FREE,
        weights=TO_HEAD,
    ),
    "unknown-operator": Case(
        f"n = MatMul(a, W) {ints(three=[3])}; y, place = TopK(n, three) m = MatMul(b, U) r = Relu(m) "
        "x = Concat<axis = 1>(y, r) logits = MatMul(x, V)",
        {"n.1": "", "a.1": "a.1", "m.1": "m.1", "b": "b"},
        weights={"W": (4, 5), "U": (4, 6), "V": (9, 1)},
        unknown=("TopK",),
    ),
}


def network_of(case: Case) -> Network:
    schema = Schema(features=case.features, item_id="sku", tasks=(Task(name="click"),))
    widths = {"a": 4, "b": 4, "c": 2, "d": 2, "h": 13}
    given = ", ".join(f"float[rows, {widths[feature.name]}] {feature.name}" for feature in case.features)
    random = np.random.default_rng(0)
    constants = {name: random.normal(size=shape).astype(np.float32) for name, shape in case.weights.items()}
    if "places" in constants:
        constants["places"] = np.arange(3, dtype=np.float32)[None]
    if "var" in constants:
        constants["var"] = np.abs(constants["var"]) + 0.5
    tables = {name: random_table(9, widths[name], seed) for seed, name in enumerate("abc")}
    body = case.body.replace(";", " ").replace("'", '"')
    network = made_network(schema, f"({given}) => (float[rows, 1] logits)", body, tables=tables, **constants)
    return network.changed()  # without the tables that nothing reads


@cache
def traced(name: str) -> Trace:
    return trace(network_of(CASES[name]))


def rows_of(count: int = 40) -> Batch:
    random = np.random.default_rng(1)
    items = {name: random.integers(0, 9, count).astype(np.int32) for name in "abc"}
    lengths = random.integers(0, 4, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    history = Ragged(random.integers(0, 9, offsets[-1], dtype=np.int32), offsets)
    numbers = {"d": random.normal(size=(count, 2)).astype(np.float32)}
    at = np.arange(count, dtype=np.int32)
    return Batch({"h": history}, {**items, **numbers}, {}, at, at)


def atom_of(text: str) -> Atom:
    source, _, index = text.partition(".")
    if not index:
        return Atom("field", source)
    return Atom("dimension" if source in "abc" else "neuron", source, int(index))


def together(found: Trace) -> dict[str, str]:
    """For every atom that can go what goes with it, as cases write it."""
    written = {}
    for atoms in found.labels.groups().values():
        names = sorted(atom.source if atom.kind == "field" else f"{atom.source}.{atom.index}" for atom in atoms)
        written |= dict.fromkeys(names, " ".join(names))
    return written


@pytest.mark.parametrize("name", CASES)
def test_atoms_go_together_when_operators_tie_them(name: str) -> None:
    found = traced(name)
    known = together(found)
    assert {atom: known.get(atom, "") for atom in CASES[name].together} == CASES[name].together
    assert found.unknown == CASES[name].unknown


@pytest.mark.parametrize("name", CASES)
def test_smaller_graph_computes_what_the_masked_one_does_when_any_group_goes(name: str) -> None:
    found, rows = traced(name), rows_of()
    groups = groups_of(found, KINDS)
    allowed = Costs(found, groups).allowed()
    taken = [group for group, can in zip(groups, allowed, strict=True) if can]
    assert taken or not any(CASES[name].together.values())
    for group in taken[:: max(1, len(taken) // 5)]:
        smaller = shrink(found, frozenset([group]))
        assert differs(found, frozenset([group]), smaller, rows) <= 1, found.labels.groups()[group]


@pytest.mark.parametrize("name", CASES)
def test_smaller_graph_computes_what_the_masked_one_does_when_half_of_all_goes(name: str) -> None:
    found, rows = traced(name), rows_of()
    groups = groups_of(found, KINDS)
    for seed in range(3):
        costs, removed = Costs(found, groups), set()
        for number in np.random.default_rng(seed).permutation(len(groups))[: (len(groups) + 1) // 2]:
            if costs.allowed()[number]:
                costs.remove(int(number))
                removed.add(groups[number])
        smaller = shrink(found, frozenset(removed))
        assert differs(found, frozenset(removed), smaller, rows) <= 1


def test_weights_and_tables_are_narrower_when_channels_go() -> None:
    found = traced("cross")
    removed = frozenset(
        root for root, atoms in found.labels.groups().items() if atom_of("a.1") in atoms or atom_of("b.3") in atoms
    )
    smaller = shrink(found, removed)
    shapes = sorted(tuple(tensor.dims) for tensor in smaller.graph.graph.initializer)
    assert shapes == [(6,), (6, 1), (6, 6), (6, 6)]
    assert {name: table.dim for name, table in smaller.tables.items()} == {"a": 3, "b": 3}
    assert not any(operator in operators(smaller.graph) for operator in ("Gather", "Slice", "Where"))


def test_feature_leaves_schema_tables_and_graph_when_it_goes() -> None:
    found = traced("cross")
    (removed,) = (root for root, atoms in found.labels.groups().items() if atoms == [atom_of("b")])
    smaller = shrink(found, frozenset([removed]))
    assert smaller.schema.feature_names == ("a",)
    assert set(smaller.tables) == {"a"}
    assert sorted(tuple(tensor.dims) for tensor in smaller.graph.graph.initializer) == [(4,), (4, 1), (4, 4), (4, 4)]


def test_table_keeps_its_form_when_it_is_two_small_ones() -> None:
    network = network_of(CASES["concat"])
    parts = (random_table(3, 4, 1), random_table(3, 4, 2))
    network = replace(network, tables={**network.tables, "a": QuotientRemainderTable(*parts, 9, "product")})
    found = trace(network)
    removed = frozenset(root for root, atoms in found.labels.groups().items() if atom_of("a.1") in atoms)
    smaller = shrink(found, removed)
    assert isinstance(smaller.tables["a"], QuotientRemainderTable)
    assert smaller.tables["a"].dim == 3
    assert differs(found, removed, smaller, rows_of()) <= 1


def test_shrinking_is_refused_when_nothing_would_be_left() -> None:
    found = traced("concat")
    with pytest.raises(Unshrinkable):
        shrink(found, frozenset(found.labels.groups()))
