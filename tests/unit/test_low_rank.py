"""Low-rank factorization: exact where a rank is enough, weighted by what is read, within its budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rankine.compression.low_rank import low_rank
from rankine.compression.recipe import LowRank
from rankine.errors import DataError, UsageError
from rankine.models.macs import count_graph_macs
from rankine.models.network import Network
from rankine.models.tables import Table
from unit.small_networks import (
    ITEM,
    ITEMS,
    USER,
    USERS,
    assert_same_scores,
    context_of,
    logits_of,
    made_network,
    network,
    operators,
    random_table,
    schema_of,
    tuning,
)

RANDOM = np.random.default_rng(1)
WHOLE = LowRank(energy=0.999999, tune=None)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def product(rows: int, columns: int, rank: int) -> np.ndarray:
    return normal(rows, rank) @ normal(rank, columns)


def one_layer(body: str, table: Table | None = None, **constants: np.ndarray) -> Network:
    """A network over one feature of 8 columns, with the output layer ``V``."""
    signature = "(float[rows,8] user) => (float[rows,1] logits)"
    tables = {"user": table or random_table(USERS, 8)}
    return made_network(schema_of(USER), signature, body, tables=tables, V=normal(12, 1), **constants)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("h = MatMul(user, W) r = Relu(h) logits = MatMul(r, V)", {}),
        ("h = Gemm(user, W, b) r = Relu(h) logits = MatMul(r, V)", {"b": normal(12)}),
        ("h = Gemm <alpha = 0.5, beta = 2.0> (user, W, b) r = Relu(h) logits = MatMul(r, V)", {"b": normal(1, 12)}),
    ],
)
def test_scores_stay_when_a_layer_has_a_low_rank(body: str, constants: dict[str, np.ndarray]) -> None:
    before = one_layer(body, W=product(8, 12, 2), **constants)
    outcome = low_rank(before, WHOLE, context_of(before))
    assert outcome.details["layers"] == [
        {"layer": "h", "inputs": 8, "outputs": 12, "macs_per_row": 96, "rank": 2, "kept": 1.0}
    ]
    assert count_graph_macs(outcome.network.graph) == 2 * (8 + 12) + 12
    assert_same_scores(outcome.network, before)


def test_scores_stay_when_a_weight_is_written_transposed() -> None:
    body = "h = Gemm <transB = 1> (user, W, b) r = Tanh(h) logits = MatMul(r, V)"
    before = one_layer(body, W=product(12, 8, 3), b=normal(12))
    outcome = low_rank(before, WHOLE, context_of(before))
    assert outcome.details["layers"][0]["rank"] == 3
    assert_same_scores(outcome.network, before)


def test_other_weights_stay_when_one_has_the_name_of_a_new_one() -> None:
    body = 'h = MatMul(user, W) r = Tanh(h) g = Mul(r, "h.down.weight") logits = MatMul(g, V)'
    before = one_layer(body, W=product(8, 12, 2), **{"h.down.weight": normal(12)})
    assert_same_scores(low_rank(before, WHOLE, context_of(before)).network, before)


def test_rank_is_that_of_the_input_when_it_varies_in_one_direction_only() -> None:
    table = Table(normal(USERS, 1) @ normal(1, 8) + 3 * normal(8))
    before = one_layer("h = MatMul(user, W) r = Relu(h) logits = MatMul(r, V)", table, W=normal(8, 12))
    outcome = low_rank(before, WHOLE, context_of(before))
    assert outcome.details["layers"][0]["rank"] == 1  # the mean, a second direction, is in the bias
    assert_same_scores(outcome.network, before)


def test_loss_is_less_than_of_the_plain_decomposition_when_inputs_have_unlike_sizes() -> None:
    sizes = np.array([9, 5, 3, 1, 0.5, 0.2, 0.1, 0.1], np.float32)
    matrix = normal(8, 12) / sizes[:, None]
    before = one_layer(
        "h = MatMul(user, W) r = Relu(h) logits = MatMul(r, V)", Table(normal(USERS, 8) * sizes), W=matrix
    )
    outcome = low_rank(before, LowRank(energy=0.9, tune=None), context_of(before))
    rank = outcome.details["layers"][0]["rank"]
    left, values, right = np.linalg.svd(matrix)
    plain = onnx.ModelProto()
    plain.CopyFrom(before.graph)
    (weight,) = [tensor for tensor in plain.graph.initializer if tensor.name == "W"]
    weight.CopyFrom(numpy_helper.from_array((left[:, :rank] * values[:rank]) @ right[:rank], "W"))
    errors = [
        np.square(logits_of(found) - logits_of(before)).mean()
        for found in (outcome.network, before.changed(graph=plain))
    ]
    assert rank < 6
    assert errors[0] < 0.5 * errors[1]


def test_layers_are_one_when_they_follow_each_other_directly() -> None:
    body = "d = MatMul(user, W) h = Gemm(d, U, b) r = Relu(h) logits = MatMul(r, V)"
    down, up = product(8, 4, 2), normal(4, 12)
    before = one_layer(body, W=down, U=up, b=normal(12))
    outcome = low_rank(before, WHOLE, context_of(before))
    assert [(row["layer"], row["rank"]) for row in outcome.details["layers"]] == [("h", 2)]
    assert operators(outcome.network.graph) == ["Gemm", "Gemm", "Relu", "MatMul"]
    assert_same_scores(outcome.network, before)


def test_second_time_changes_nothing_when_the_rank_is_found() -> None:
    before = one_layer("h = MatMul(user, W) r = Relu(h) logits = MatMul(r, V)", W=product(8, 12, 2))
    context = context_of(before)
    once = low_rank(before, WHOLE, context)
    twice = low_rank(once.network, WHOLE, context)
    assert twice.text == "low rank: every layer needs its full rank"
    assert twice.network is once.network


def test_layer_is_applied_at_every_position_when_its_input_has_three_dimensions() -> None:
    body = """cube = Reshape(both, shape) h = MatMul(cube, W) r = Relu(h) s = ReduceSum <keepdims = 0> (r, one)
        logits = MatMul(s, V)"""
    before = made_network(
        schema_of(USER, ITEM),
        "(float[rows,8] user, float[rows,8] item) => (float[rows,1] logits)",
        "both = Concat <axis = 1> (user, item) " + body,
        tables={"user": random_table(USERS, 8), "item": random_table(ITEMS, 8, seed=1)},
        shape=np.array([-1, 2, 8]),
        one=np.array([1]),
        W=product(8, 12, 2),
        V=normal(12, 1),
    )
    outcome = low_rank(before, WHOLE, context_of(before))
    assert outcome.details["layers"][0]["macs_per_row"] == 2 * 96
    assert outcome.details["layers"][0]["rank"] == 2
    assert operators(outcome.network.graph).count("MatMul") == 3
    assert_same_scores(outcome.network, before)


def test_layer_is_left_whole_when_its_weights_are_read_twice() -> None:
    body = "h = MatMul(user, W) r = Relu(h) g = MatMul(user, W) t = Tanh(g) s = Add(r, t) logits = MatMul(s, V)"
    before = one_layer(body, W=product(8, 12, 2))
    with pytest.raises(UsageError, match=r"low_rank: there is no linear layer .*which no other node reads\)\. Leave"):
        low_rank(before, WHOLE, context_of(before))


def test_pass_is_refused_when_there_is_nothing_to_factorize() -> None:
    before = one_layer("r = Relu(user) logits = ReduceSum(r, one)", one=np.array([1]))
    with pytest.raises(UsageError, match="got 0 linear layers"):
        low_rank(before, WHOLE, context_of(before))


def test_pass_names_the_layer_when_its_input_is_not_finite() -> None:
    body = "l = Log(user) h = MatMul(l, W) r = Relu(h) logits = MatMul(r, V)"
    before = one_layer(body, W=product(8, 12, 2))
    context = context_of(network("dcn_v2"))
    with pytest.raises(DataError, match="input 'l' of layer 'h': is not finite on the calibration rows"):
        low_rank(before, WHOLE, context)


@pytest.mark.parametrize("family", ["dcn_v2", "din", "mmoe"])
@pytest.mark.parametrize("share", [0.7, 0.4])
def test_multiply_adds_are_within_the_budget_when_one_is_given(family: str, share: float) -> None:
    before = network(family)
    outcome = low_rank(before, LowRank(macs=share, tune=None), context_of(before))
    found = count_graph_macs(outcome.network.graph) / count_graph_macs(before.graph)
    assert 0.75 * share < found <= share
    assert sum(row["rank"] is not None for row in outcome.details["layers"]) >= 2


def test_less_is_lost_when_the_budget_is_larger() -> None:
    before, context = network("dcn_v2"), context_of(network("dcn_v2"))

    def error(share: float) -> float:
        found = low_rank(before, LowRank(macs=share, tune=None), context).network
        return float(np.square(logits_of(found) - logits_of(before)).mean())

    errors = [error(share) for share in (0.3, 0.5, 0.8)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_text_says_so_when_the_budget_cannot_be_met() -> None:
    before = network("dcn_v2")
    outcome = low_rank(before, LowRank(macs=0.01, tune=None), context_of(before))
    assert "of the multiply-adds: rank 1 everywhere is no less" in outcome.text
    assert {row["rank"] for row in outcome.details["layers"]} == {1}


def test_validation_gets_better_when_tuned() -> None:
    before = network("dcn_v2")
    context = context_of(before, rows=3000)
    settings: dict[str, Any] = {"macs": 0.3}
    cut = low_rank(before, LowRank(**settings, tune=None), context)
    tuned = low_rank(before, LowRank(**settings, tune=tuning()), context)
    assert context.validation_auc(tuned.network) > context.validation_auc(cut.network)
    assert tuned.details["fit"]["best_epoch"] > 0
    assert tuned.text.startswith(cut.text + ", tuned ")
    assert count_graph_macs(tuned.network.graph) == count_graph_macs(cut.network.graph)


def test_result_is_the_same_when_run_twice() -> None:
    before = network("dcn_v2")
    first, second = (low_rank(before, LowRank(macs=0.3, tune=tuning(1)), context_of(before)) for _ in range(2))
    np.testing.assert_array_equal(logits_of(first.network), logits_of(second.network))
