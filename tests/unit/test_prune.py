"""The pruning pass on small models: what goes, how it is chosen, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from rankine.compression.context import Context
from rankine.compression.outcome import Outcome
from rankine.compression.prune import proof, prune
from rankine.compression.prune.costs import Costs
from rankine.compression.prune.groups import groups_of
from rankine.compression.prune.importance import importance
from rankine.compression.prune.labels import Atom
from rankine.compression.prune.shrink import shrink
from rankine.compression.prune.trace import Trace, trace
from rankine.compression.quantize import quantize
from rankine.compression.recipe import Prunable, Prune, Quantize
from rankine.errors import DataError, UsageError
from rankine.events import ignore
from rankine.models.inputs import torch_inputs
from rankine.models.macs import count_graph_macs
from rankine.models.network import Network, NetworkScorer, size_of
from rankine.models.schema import CategoricalFeature, Identity, Schema, Task
from rankine.models.tables import Table
from rankine.training.fit import Examples, predict_logits
from unit.small_networks import (
    FAMILIES,
    ITEM,
    ITEMS,
    batch_of,
    context_of,
    made_network,
    module_of,
    network,
    random_table,
    schema_of,
    tuning,
)
from unit.test_prune_graphs import CASES, network_of, rows_of

KINDS: tuple[Prunable, ...] = ("neurons", "dimensions", "fields")


@cache
def found_in(family: str) -> Trace:
    return trace(network(family))


@cache
def context(family: str) -> Context:
    return context_of(network(family))


@cache
def halved(family: str) -> Outcome:
    return prune(network(family), Prune(macs=0.5, steps=2, tune=None), context(family))


def group_of(found: Trace, atom: Atom) -> list[Atom]:
    """What goes with an atom; nothing where it cannot go."""
    return next((atoms for atoms in found.labels.groups().values() if atom in atoms), [])


def without(found: Trace, atom: Atom) -> Network:
    root = next(root for root, atoms in found.labels.groups().items() if atom in atoms)
    return shrink(found, frozenset([root]))


def nearly(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool((np.abs(found - wanted) <= 1e-5 * np.maximum(1, np.abs(wanted))).all())


# What depends on what


def test_columns_go_with_their_cross_layers_when_a_residual_ties_them() -> None:
    found = found_in("dcn_v2")
    column = found.network.schema.feature_names.index("item")
    group = group_of(found, Atom("dimension", "user", 2))
    assert sorted(atom.kind for atom in group) == ["dimension", "neuron", "neuron"]
    assert {atom.index for atom in group if atom.kind == "neuron"} == {2}
    assert column  # the history is pooled, and shares the item's table: both of its columns go
    of_item = group_of(found, Atom("dimension", "item", 1))
    assert sorted(atom.kind for atom in of_item) == ["dimension", *["neuron"] * 4]


def test_columns_of_all_tables_go_together_when_they_are_multiplied() -> None:
    found = found_in("deepfm")
    group = group_of(found, Atom("dimension", "user", 3))
    assert {(atom.source, atom.index) for atom in group} >= {("user", 3), ("item", 3), ("genre", 3)}
    first_order = group_of(found, Atom("dimension", "user", 6))
    assert {atom.index for atom in first_order} == {6}


def test_neurons_of_all_experts_go_together_when_gates_weigh_them() -> None:
    found = found_in("mmoe")
    stacks = [atoms for atoms in found.labels.groups().values() if len(atoms) == 3]
    assert len(stacks) == 16  # of the last layer of three experts
    assert all(len({atom.index for atom in atoms}) == 1 for atoms in stacks)
    gates = {node.input[0] for node in found.graph.nodes if node.op_type == "Softmax"}
    assert not any(atom.source in gates for atoms in found.labels.groups().values() for atom in atoms)


def test_attention_unit_goes_as_one_when_query_and_key_are_added() -> None:
    found = found_in("din")
    pairs = [atoms for atoms in found.labels.groups().values() if len(atoms) == 2]
    assert len(pairs) == 12  # the units of the first layer: one neuron that reads the query, one that reads the key
    fields = {atoms[0].source for atoms in found.labels.groups().values() if atoms[0].kind == "field"}
    assert "history" in fields
    assert "item" not in fields  # the attention asks with it


# Equal to the module with zeros, which knows nothing of labels


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_smaller_network_is_the_module_without_the_feature_when_a_field_goes(family: str) -> None:
    found, batch = found_in(family), batch_of(200)
    module = module_of(family)
    smaller = without(found, Atom("field", "user"))
    with torch.inference_mode():
        parts = module.embed(torch_inputs(batch, module.schema))
        at = module.schema.feature_names.index("user")
        parts[at] = torch.zeros_like(parts[at])
        wanted = module.dense(parts).numpy()
    assert "user" not in smaller.schema.feature_names
    assert "user" not in smaller.tables
    assert nearly(NetworkScorer(smaller).logits(batch), wanted)


@pytest.mark.parametrize("family", ["deepfm", "mmoe"])
def test_smaller_network_is_the_module_with_zero_columns_when_dimensions_go(family: str) -> None:
    found, batch = found_in(family), batch_of(200)
    module = module_of(family)
    smaller = without(found, Atom("dimension", "item", 1))
    gone = [atom for atom in group_of(found, Atom("dimension", "item", 1)) if atom.kind == "dimension"]
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    try:
        with torch.no_grad():
            for atom in gone:
                module.tables[f"table_{atom.source}"].weight[:, atom.index] = 0.0
        wanted = predict_logits(module, batch)
    finally:
        module.load_state_dict(before)
    assert smaller.tables["item"].dim == network(family).tables["item"].dim - 1
    assert nearly(NetworkScorer(smaller).logits(batch), wanted)


def test_smaller_network_is_the_module_with_a_silent_neuron_when_it_goes() -> None:
    found, batch = found_in("dcn_v2"), batch_of(200)
    module = module_of("dcn_v2")
    layer = next(node for node in found.graph.nodes if "deep.0.weight" in " ".join(node.input))
    smaller = without(found, Atom("neuron", layer.output[0], 5))

    def silence(_module: object, _inputs: object, output: Tensor) -> Tensor:
        return output * (torch.arange(output.shape[1]) != 5)

    handle = module.deep[0].register_forward_hook(silence)  # type: ignore[index, operator, unused-ignore]
    try:
        wanted = predict_logits(module, batch)
    finally:
        handle.remove()
    assert nearly(NetworkScorer(smaller).logits(batch), wanted)


# What is chosen


@pytest.mark.parametrize("method", ["taylor", "fisher"])
def test_importance_is_the_gates_gradient_when_measured_by_small_steps(method: Literal["taylor", "fisher"]) -> None:
    found = trace(network_of(CASES["bias-and-activations"]))
    rows = context_of_case(found.network)
    roots = groups_of(found, ("dimensions",))
    known = importance(found, roots, rows.train.select(np.arange(200)), method)

    def loss(root: int, by: float) -> float:
        (atom,) = found.labels.groups()[root]
        tables = {name: Table(table.dequantized().copy()) for name, table in found.network.tables.items()}
        tables[atom.source].rows[:, atom.index] *= by
        part = rows.train.select(np.arange(200))
        logits = NetworkScorer(replace(found.network, tables=tables)).logits(part.batch).astype(np.float64)
        return float(np.mean(np.logaddexp(0, logits) - part.targets * logits))

    slopes = np.array([(loss(root, 1.002) - loss(root, 0.998)) / 0.004 for root in roots])
    gradients = known if method == "taylor" else np.sqrt(2 * known / 200)
    np.testing.assert_allclose(gradients, np.abs(slopes), rtol=0.02, atol=5e-4)


def context_of_case(baseline: Network) -> Context:
    """Rows of the hand-made graphs' features, labels by chance."""
    batch = rows_of(600)
    labels = np.random.default_rng(0).integers(0, 2, (600, 1)).astype(np.float32)
    return Context(Examples(batch, labels), Examples(batch, labels), baseline, 0, ignore)


def test_useless_neurons_go_first_when_there_are_some() -> None:
    made = network_of(CASES["concat"])
    for tensor in made.graph.graph.initializer:
        if tensor.name == "V":
            values = np.frombuffer(tensor.raw_data, np.float32).copy()
            values[[1, 4]] = 0.0  # nothing reads these two
            tensor.raw_data = values.tobytes()
    outcome = prune(made, Prune(macs=0.67, steps=1, what=("neurons",), tune=None), context_of_case(made))
    assert outcome.details["steps"][0]["removed"] == {"neurons": 2}
    rows = rows_of()
    assert nearly(NetworkScorer(outcome.network).logits(rows), NetworkScorer(made).logits(rows))


def test_costs_are_those_of_the_graph_when_groups_are_taken_out() -> None:
    found = found_in("mmoe")
    roots = groups_of(found, KINDS)
    costs = Costs(found, roots)
    assert costs.macs == count_graph_macs(found.network.graph)
    removed: set[int] = set()
    for number in np.random.default_rng(0).permutation(len(roots))[:60]:
        if costs.allowed()[number]:
            saved, before = costs.saved()[0][number], costs.macs
            costs.remove(int(number))
            removed.add(roots[number])
            assert costs.macs == before - saved
    assert count_graph_macs(shrink(found, frozenset(removed)).graph) == costs.macs


# The pass


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_network_is_really_smaller_when_pruned_to_half(family: str) -> None:
    before = size_of(network(family))
    outcome = halved(family)
    after = size_of(outcome.network)
    assert after.macs_per_row <= 0.51 * before.macs_per_row
    assert after.bytes < before.bytes
    assert after.parameters < before.parameters
    assert outcome.details["macs_per_row"] == [before.macs_per_row, after.macs_per_row]
    assert np.isfinite(NetworkScorer(outcome.network).logits(batch_of(50))).all()
    assert outcome.text.startswith("pruned to 4") or outcome.text.startswith("pruned to 5")


def test_pruned_network_is_the_same_when_done_again() -> None:
    one, two = halved("dcn_v2"), halved.__wrapped__("dcn_v2")
    assert one.details == two.details
    batch = batch_of(50)
    assert np.array_equal(NetworkScorer(one.network).logits(batch), NetworkScorer(two.network).logits(batch))


def test_ranking_is_kept_better_than_by_chance_when_pruned_by_importance() -> None:
    rows = context("dcn_v2")
    baseline = rows.validation_auc(rows.baseline)
    pruned = halved("dcn_v2").network
    found = found_in("dcn_v2")
    roots, losses = groups_of(found, KINDS), []
    for seed in range(3):
        costs, removed = Costs(found, roots), set()
        for number in np.random.default_rng(seed).permutation(len(roots)):
            if costs.allowed()[number] and costs.macs > 0.5 * size_of(rows.baseline).macs_per_row:
                costs.remove(int(number))
                removed.add(roots[number])
        losses.append(baseline - rows.validation_auc(shrink(found, frozenset(removed))))
    assert baseline - rows.validation_auc(pruned) < 0.5 * min(losses)


def test_lost_quality_comes_back_when_fine_tuned() -> None:
    rows = context("deepfm")
    hard = Prune(macs=0.15, steps=1)
    cut = prune(rows.baseline, hard.model_copy(update={"tune": None}), rows)
    tuned = prune(rows.baseline, hard.model_copy(update={"tune": tuning(2)}), rows)
    assert tuned.details["steps"][0]["fit"]["history"]
    assert rows.validation_auc(tuned.network) > rows.validation_auc(cut.network)


def test_network_learns_between_steps_too_when_there_are_several() -> None:
    rows = context("deepfm")
    outcome = prune(rows.baseline, Prune(macs=0.3, steps=2, tune=tuning(2)), rows)
    epochs = [len(step["fit"]["history"]) for step in outcome.details["steps"]]
    assert epochs == [1, 2], "an epoch between the steps, all of it after the last"


def test_only_asked_kinds_go_when_others_are_left_out() -> None:
    outcome = prune(network("mmoe"), Prune(macs=0.6, steps=1, what=("neurons",), tune=None), context("mmoe"))
    assert set(outcome.details["steps"][0]["removed"]) == {"neurons"}
    assert outcome.network.schema == network("mmoe").schema
    assert {name: table.dim for name, table in outcome.network.tables.items()} == {
        name: table.dim for name, table in network("mmoe").tables.items()
    }


def test_text_says_so_when_the_budget_is_out_of_reach() -> None:
    outcome = prune(network("dcn_v2"), Prune(macs=0.01, steps=1, what=("neurons",), tune=None), context("dcn_v2"))
    assert "1.0% was not within reach" in outcome.text


def test_nothing_goes_when_the_engine_refuses_the_smaller_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """No removal is known to make such a graph, so one is handed in: the checker of ONNX does not know it is wrong."""
    whole = network("dcn_v2")
    broken = whole.changed(tables={name: random_table(table.count, 2) for name, table in whole.tables.items()})
    monkeypatch.setattr(proof, "shrink", lambda now, removed: broken)
    found = found_in("dcn_v2")
    roots = groups_of(found, KINDS)[:2]
    assert proof.take_out(found, (), roots, batch_of(20)) == (whole, (), tuple(roots))


class Stepped:
    """Costs of an engine that computes sixteen columns at once."""

    def layer_ms(self, rows: int, width: int, columns: int, numeric: str) -> float:
        return rows * width * -(-columns // 16) * 16 * 1e-6

    def latency_ms(self, network: Network, rows: int) -> float:
        shapes = [tuple(tensor.dims) for tensor in network.graph.graph.initializer if len(tensor.dims) == 2]
        return sum(self.layer_ms(rows, width, columns, "fp32") for columns, width in shapes)


def test_latency_is_met_too_when_there_is_a_budget() -> None:
    rows = replace(context("dcn_v2"), cost=Stepped())
    outcome = prune(rows.baseline, Prune(macs=1.0, latency=0.5, steps=2, tune=None), rows)
    assert Stepped().latency_ms(outcome.network, 512) <= 0.5 * Stepped().latency_ms(rows.baseline, 512)
    assert "of the latency" in outcome.text
    assert "was not within reach" not in outcome.text


@pytest.mark.parametrize(("macs", "latency"), [(0.3, 0.9), (0.9, 0.4)])
def test_both_budgets_are_met_when_either_is_the_tighter_one(macs: float, latency: float) -> None:
    rows = replace(context("dcn_v2"), cost=Stepped())
    pruned = prune(rows.baseline, Prune(macs=macs, latency=latency, steps=2, tune=None), rows).network
    assert size_of(pruned).macs_per_row <= macs * size_of(rows.baseline).macs_per_row
    assert Stepped().latency_ms(pruned, 512) <= latency * Stepped().latency_ms(rows.baseline, 512)


def test_text_says_so_when_the_latency_is_out_of_reach() -> None:
    rows = replace(context("deepfm"), cost=Stepped())
    outcome = prune(rows.baseline, Prune(macs=1.0, latency=0.01, steps=1, what=("neurons",), tune=None), rows)
    reached = Stepped().latency_ms(outcome.network, 512) / Stepped().latency_ms(rows.baseline, 512)
    assert f"to {reached:.1%} of the latency" in outcome.text
    assert "1.0% was not within reach" in outcome.text


def test_pass_is_refused_when_a_latency_is_asked_for_and_no_cost_is_known() -> None:
    with pytest.raises(UsageError, match=r"prune\.latency: .*cost model.*rankine optimize"):
        prune(network("deepfm"), Prune(latency=0.5), context("deepfm"))


def test_pass_is_refused_when_the_graph_has_no_gradient() -> None:
    int8 = quantize(network("deepfm"), Quantize(), context("deepfm")).network
    with pytest.raises(UsageError, match=r"recipe: prune: .*gradients.*INT8 already"):
        prune(int8, Prune(), context("deepfm"))


def test_pass_is_refused_when_nothing_can_go() -> None:
    user = CategoricalFeature(name="user", side="request", encoding=Identity(size=60))
    schema = Schema(features=(user,), item_id="sku", tasks=(Task(name="click"),))
    body = "m = ReduceMax<keepdims = 0>(user, one) e = Unsqueeze(m, one) logits = Identity(e)"
    made = made_network(
        schema,
        "(float[rows, 6] user) => (float[rows, 1] logits)",
        body,
        tables={"user": random_table(60, 6)},
        one=np.array([1]),
    )
    with pytest.raises(UsageError, match=r"nothing in this model that can be taken out.*0 multiply-adds"):
        prune(made, Prune(), context("deepfm"))


def test_pass_is_refused_when_a_gradient_is_not_finite() -> None:
    weights = {"w": np.eye(6, 8, dtype=np.float32), "h": np.ones((8, 1), np.float32)}
    body = "a = MatMul(item, w) b = Sub(a, a) c = Sqrt(b) d = Add(a, c) logits = MatMul(d, h)"
    rooted = made_network(
        schema_of(ITEM),
        "(float[rows,6] item) => (float[rows,1] logits)",
        body,
        tables={"item": random_table(ITEMS, 6)},
        **weights,
    )
    with pytest.raises(DataError, match=r"recipe: prune: the gradients .* not finite .*got 12 of 14 groups"):
        prune(rooted, Prune(tune=None), context_of(rooted, rows=200))
