"""Narrower tables: exact where columns are not needed, maps merged where they can be, the logit decides what goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rankine.compression.recipe import ShrinkTables
from rankine.compression.shrink_tables import shrink_tables
from rankine.compression.table_forms import quantize_table, quotient_remainder
from rankine.errors import DataError, UsageError
from rankine.models.macs import count_graph_macs
from rankine.models.network import Network, size_of
from rankine.models.tables import AnyTable, Table
from unit.small_networks import (
    DIM,
    FAMILIES,
    GENRE,
    GENRES,
    ITEM,
    ITEMS,
    PRICE,
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

EXACT = ShrinkTables(energy=1 - 1e-9, tune=None)
RANDOM = np.random.default_rng(2)
READ = "(float[rows,6] user, float[rows,6] item) => (float[rows,1] logits)"


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def thin_table(rows: int, rank: int, *, mean: float = 0.0, dim: int = DIM) -> Table:
    """A table whose rows lie in a few directions, and around a mean."""
    return Table(normal(rows, rank) @ normal(rank, dim) + mean * normal(dim))


def two_tables(body: str, **constants: np.ndarray) -> Network:
    tables: dict[str, AnyTable] = {"user": thin_table(USERS, 2, mean=3.0), "item": thin_table(ITEMS, 3, mean=3.0)}
    return made_network(schema_of(USER, ITEM), READ, body, tables=tables, **constants)


def columns(of: Network) -> dict[str, int]:
    return {name: table.dim for name, table in of.tables.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_stay_when_tables_have_fewer_directions_than_columns(family: str) -> None:
    whole = network(family)
    dim = whole.tables["user"].dim
    thin: dict[str, AnyTable] = {
        "user": thin_table(USERS, 2, mean=1.0, dim=dim),
        "item": thin_table(ITEMS, 3, dim=dim),
        "genre": whole.tables["genre"],
    }
    before = whole.changed(tables={name: thin[name] for name in whole.tables})
    outcome = shrink_tables(before, EXACT, context_of(before))
    found = columns(outcome.network)
    assert (found["user"], found["item"]) == (2, 3)
    assert outcome.details["tables"]["user"] == {"columns_before": dim, "columns": 2, "lost_share": 0.0}
    assert size_of(outcome.network).table_bytes < 0.6 * size_of(before).table_bytes
    assert_same_scores(outcome.network, before)


@pytest.mark.parametrize(
    "layer", ["h = MatMul(x, W)", "h = Gemm(x, W)", "h = Gemm <alpha = 2.0, beta = 0.5> (x, W, b)"]
)
def test_no_layer_is_added_when_only_linear_layers_read_the_tables(layer: str) -> None:
    before = two_tables(
        f"x = Concat <axis = 1> (user, item) {layer} r = Tanh(h) logits = MatMul(r, V)",
        W=normal(12, 8),
        b=normal(8),
        V=normal(8, 1),
    )
    outcome = shrink_tables(before, EXACT, context_of(before))
    assert operators(outcome.network.graph) == ["Concat", "Gemm", "Tanh", "MatMul"]
    assert outcome.details["map"] == {"user": "merged", "item": "merged"}
    assert columns(outcome.network) == {"user": 2, "item": 3}
    assert count_graph_macs(outcome.network.graph) == (2 + 3) * 8 + 8
    assert_same_scores(outcome.network, before)


def test_other_weights_stay_when_an_exporter_named_one_as_a_value() -> None:
    """As of ``self.linear`` in a module whose first layer is another one: its output is called ``linear`` too."""
    random = np.random.default_rng(7)
    first, head = (random.normal(size=shape).astype(np.float32) for shape in ((12, 8), (8, 1)))
    before = two_tables(
        'x = Concat <axis = 1> (user, item) h = MatMul(x, W) r = Tanh(h) logits = MatMul(r, "h.weight")',
        W=first,
        **{"h.weight": head},
    )
    assert_same_scores(shrink_tables(before, EXACT, context_of(before)).network, before)


def test_map_is_merged_into_every_layer_when_several_read_a_table_through_nested_concatenations() -> None:
    body = """h0 = MatMul(user, K) x = Concat <axis = 1> (user, item) y = Concat <axis = 1> (h0, x)
        h = MatMul(x, W) g = Gemm(y, U) s = Add(h, g) r = Tanh(s) logits = MatMul(r, V)"""
    before = two_tables(body, W=normal(12, 8), U=normal(16, 8), V=normal(8, 1), K=normal(6, 4))
    outcome = shrink_tables(before, EXACT, context_of(before))
    assert outcome.details["map"] == {"user": "merged", "item": "merged"}
    assert count_graph_macs(outcome.network.graph) == 2 * 4 + 5 * 8 + 9 * 8 + 8
    assert_same_scores(outcome.network, before)


@pytest.mark.parametrize(
    "body",
    [
        "x = Concat <axis = 1> (user, item) h = MatMul(x, W) g = Mul(x, x) s = MatMul(g, W) t = Add(h, s)",
        "m = Mul(user, item) x = Concat <axis = 1> (m, user) t = MatMul(x, W)",
        "x = Concat <axis = 1> (user, item) y = Concat <axis = 1> (x, user, item) t = MatMul(y, W2)",
    ],
)
def test_map_stays_in_the_graph_when_something_else_reads_the_table(body: str) -> None:
    constants = {"W": normal(12, 8), "W2": normal(24, 8), "V": normal(8, 1)}
    used = {name: values for name, values in constants.items() if f"{name})" in body or name == "V"}
    before = two_tables(f"{body} r = Tanh(t) logits = MatMul(r, V)", **used)
    outcome = shrink_tables(before, EXACT, context_of(before))
    assert outcome.details["map"] == {"user": "in the graph", "item": "in the graph"}
    assert columns(outcome.network) == {"user": 2, "item": 3}
    assert [value.type.tensor_type.shape.dim[1].dim_value for value in outcome.network.graph.graph.input] == [2, 3]
    assert_same_scores(outcome.network, before)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_scores_stay_when_lists_are_empty_and_rows_have_a_mean(pooling: Any) -> None:
    genre = GENRE.model_copy(update={"pooling": pooling})
    before = made_network(
        schema_of(USER, genre),
        "(float[rows,6] user, float[rows,6] genre) => (float[rows,1] logits)",
        "x = Concat <axis = 1> (user, genre) h = MatMul(x, W) r = Tanh(h) logits = MatMul(r, V)",
        tables={"user": random_table(USERS, DIM), "genre": thin_table(GENRES, 2, mean=4.0)},
        W=normal(12, 8),
        V=normal(8, 1),
    )
    outcome = shrink_tables(before, EXACT, context_of(before))
    assert columns(outcome.network) == {"user": DIM, "genre": 3}  # the mean is a direction here
    assert_same_scores(outcome.network, before)


def test_direction_goes_first_when_the_model_does_not_read_it() -> None:
    rows = normal(USERS, DIM) * np.array([1, 1, 1, 1, 1, 10], np.float32)
    matrix = normal(DIM, 8)
    matrix[5] = 0
    before = made_network(
        schema_of(USER),
        "(float[rows,6] user) => (float[rows,1] logits)",
        "h = MatMul(user, W) r = Tanh(h) logits = MatMul(r, V)",
        tables={"user": Table(rows)},
        W=matrix,
        V=normal(8, 1),
    )
    outcome = shrink_tables(before, ShrinkTables(bytes=5 / 6, tune=None), context_of(before))
    assert columns(outcome.network) == {"user": 5}
    assert np.corrcoef(logits_of(outcome.network)[:, 0], logits_of(before)[:, 0])[0, 1] > 0.999


@pytest.mark.parametrize("share", [0.75, 0.5])
def test_bytes_of_tables_are_within_the_budget_when_one_is_given(share: float) -> None:
    before = network("mmoe")
    outcome = shrink_tables(before, ShrinkTables(bytes=share, tune=None), context_of(before))
    found = size_of(outcome.network).table_bytes / size_of(before).table_bytes
    assert share - 0.1 < found <= share


def test_less_is_lost_when_more_energy_is_kept() -> None:
    before = network("dcn_v2")
    context = context_of(before)

    def error(energy: float) -> float:
        found = shrink_tables(before, ShrinkTables(energy=energy, tune=None), context).network
        return float(np.square(logits_of(found) - logits_of(before)).mean())

    errors = [error(energy) for energy in (0.3, 0.6, 0.8)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_table_stays_whole_when_its_form_or_its_pooling_forbids_it() -> None:
    genre = GENRE.model_copy(update={"pooling": "max"})
    item = random_table(ITEMS, DIM)
    before = made_network(
        schema_of(USER, ITEM, genre),
        "(float[rows,6] user, float[rows,6] item, float[rows,6] genre) => (float[rows,1] logits)",
        "x = Concat <axis = 1> (user, item, genre) h = MatMul(x, W) r = Tanh(h) logits = MatMul(r, V)",
        tables={
            "user": thin_table(USERS, 2),
            "item": quotient_remainder(item, 9, np.ones(ITEMS)),
            "genre": random_table(GENRES, DIM),
        },
        W=normal(18, 8),
        V=normal(8, 1),
    )
    context = context_of(before)
    outcome = shrink_tables(before, EXACT, context)
    assert columns(outcome.network) == {"user": 2, "item": DIM, "genre": DIM}
    assert outcome.network.tables["item"] is before.tables["item"]
    assert outcome.details["left_whole"] == {
        "item": "is quotient-remainder float32",
        "genre": "is pooled by its maximum, which no linear map leaves as it is",
    }
    quantized = before.changed(tables={**before.tables, "user": quantize_table(before.tables["user"], "int8")})
    with pytest.raises(UsageError, match=r"shrink_tables: no embedding table can be narrower \(got 'user' is int8; "):
        shrink_tables(quantized, EXACT, context)


def test_table_stays_whole_when_its_map_would_cost_more_than_it_saves() -> None:
    before = made_network(
        schema_of(USER, GENRE),
        "(float[rows,6] user, float[rows,2] genre) => (float[rows,1] logits)",
        "g = Mul(genre, genre) u = Mul(user, user) x = Concat <axis = 1> (u, g) r = Tanh(x) logits = MatMul(r, V)",
        tables={"user": random_table(USERS, DIM), "genre": random_table(GENRES, 2)},
        V=normal(8, 1),
    )
    outcome = shrink_tables(before, ShrinkTables(energy=0.1, tune=None), context_of(before))
    assert columns(outcome.network) == {"user": 1, "genre": 2}
    asked = shrink_tables(before, ShrinkTables(bytes=0.1, tune=None), context_of(before))
    assert columns(asked.network) == {"user": 1, "genre": 2}
    reached = (USERS + 2 * GENRES) / (USERS * DIM + 2 * GENRES)
    assert asked.text == f"narrower tables (user 6 to 1), {reached:.2f} of their bytes: fewer columns save no more"


def test_validation_gets_better_when_tuned() -> None:
    before = network("dcn_v2")
    context = context_of(before, rows=3000)
    cut = shrink_tables(before, ShrinkTables(bytes=0.5, tune=None), context)
    tuned = shrink_tables(before, ShrinkTables(bytes=0.5, tune=tuning()), context)
    assert context.validation_auc(tuned.network) > context.validation_auc(cut.network)
    assert columns(tuned.network) == columns(cut.network)
    assert tuned.text.startswith(cut.text + ", tuned ")


def test_pass_is_refused_when_there_are_no_tables() -> None:
    numbers = made_network(
        schema_of(PRICE),
        "(float[rows,2] price) => (float[rows,1] logits)",
        "logits = MatMul(price, w)",
        tables={},
        w=normal(2, 1),
    )
    with pytest.raises(UsageError, match=r"no embedding table can be narrower \(got no tables"):
        shrink_tables(numbers, EXACT, context_of(numbers, rows=200))


def test_pass_is_refused_when_a_gradient_is_not_finite() -> None:
    body = "a = Sub(item, item) b = Sqrt(a) c = Add(b, item) d = Add(c, user) logits = MatMul(d, h)"
    rooted = two_tables(body, h=normal(DIM, 1))  # the root of zero has no slope
    with pytest.raises(DataError, match=r"value 'item': the gradient of the logit is not finite"):
        shrink_tables(rooted, EXACT, context_of(rooted, rows=200))
