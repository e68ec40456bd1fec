"""The pass that makes giant tables quotient-remainder tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rankine.artifact import Draft
from rankine.compression.quotient_remainder import quotient_remainder
from rankine.compression.recipe import QuotientRemainder
from rankine.compression.table_forms import quantize_table
from rankine.errors import UsageError
from rankine.models.network import Network, NetworkScorer, size_of
from rankine.models.table_files import read_table, write_table
from rankine.models.tables import QuotientRemainderTable, Table
from unit.small_networks import DIM, ITEMS, USERS, batch_of, context_of, network, tuning


def logits(of: Network) -> np.ndarray:
    return NetworkScorer(of).logits(batch_of(100))


def settings(**values: Any) -> QuotientRemainder:
    return QuotientRemainder(**{"smallest": ITEMS, "tune": None, **values})


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_scores_stay_when_a_table_is_of_that_form_already(combine: Any) -> None:
    random, buckets = np.random.default_rng(0), 10
    left, right = random.normal(size=(ITEMS // buckets, DIM)) + 2, random.normal(size=(buckets, DIM)) + 2
    ids = np.arange(ITEMS)
    parts = left[ids // buckets], right[ids % buckets]
    rows = (parts[0] * parts[1] if combine == "product" else parts[0] + parts[1]).astype(np.float32)
    whole = network("dcn_v2")
    before = whole.changed(tables={**whole.tables, "item": Table(rows)})
    outcome = quotient_remainder(before, settings(combine=combine, buckets=buckets), context_of(before))
    table = outcome.network.tables["item"]
    assert isinstance(table, QuotientRemainderTable)
    assert (table.quotient.count, table.remainder.count, table.combine) == (9, 10, combine)
    np.testing.assert_allclose(logits(outcome.network), logits(before), rtol=1e-2, atol=2e-2)
    assert logits(before).std() > 0.5


def test_only_giant_tables_change_when_a_smallest_is_set() -> None:
    before = network("dcn_v2")
    outcome = quotient_remainder(before, settings(), context_of(before))
    kinds = {name: type(table) for name, table in outcome.network.tables.items()}
    assert kinds == {"user": Table, "item": QuotientRemainderTable, "genre": Table}
    assert outcome.details["tables"] == {
        "item": {"rows": ITEMS, "bytes_before": ITEMS * DIM * 4, "bytes": (9 + 10) * DIM * 4}
    }
    assert outcome.text == "quotient and remainder (rows of item 90 to 9 + 10)"
    saved = (ITEMS - (9 + 10)) * DIM
    assert size_of(outcome.network).parameters == size_of(before).parameters - saved
    both = quotient_remainder(before, settings(smallest=USERS), context_of(before))
    assert set(both.details["tables"]) == {"user", "item"}


@pytest.mark.parametrize("values", [{"smallest": 91}, {"buckets": 89}, {"buckets": 500}])
def test_pass_is_refused_when_no_table_would_get_smaller(values: dict[str, Any]) -> None:
    before = network("dcn_v2")
    with pytest.raises(UsageError, match=r"got rows of the tables: 'user' 60, 'item' 90, .*Lower 'smallest'"):
        quotient_remainder(before, settings(**values), context_of(before))


def test_table_is_left_as_it_is_when_it_was_composed_before() -> None:
    before = network("dcn_v2")
    once = quotient_remainder(before, settings(), context_of(before)).network
    twice = quotient_remainder(once, settings(smallest=USERS), context_of(before))
    assert set(twice.details["tables"]) == {"user"}
    assert twice.network.tables["item"] is once.tables["item"]


def test_both_parts_learn_when_tuned() -> None:
    before = network("dcn_v2")
    context = context_of(before, rows=3000)
    cut = quotient_remainder(before, settings(), context).network
    tuned = quotient_remainder(before, settings(tune=tuning()), context)
    fitted, learned = cut.tables["item"], tuned.network.tables["item"]
    assert isinstance(fitted, QuotientRemainderTable)
    assert isinstance(learned, QuotientRemainderTable)
    assert not np.allclose(learned.quotient.rows, fitted.quotient.rows)
    assert not np.allclose(learned.remainder.rows, fitted.remainder.rows)
    assert size_of(tuned.network).table_bytes == size_of(cut).table_bytes
    assert context.validation_auc(tuned.network) > context.validation_auc(cut)
    assert tuned.details["fit"]["best_epoch"] > 0


def test_scores_are_close_when_the_parts_are_quantized_and_stored(tmp_path: Any) -> None:
    before = network("dcn_v2")
    composed = quotient_remainder(before, settings(), context_of(before)).network
    table = quantize_table(composed.tables["item"], "int8")
    assert table.form == "quotient-remainder int8"
    draft = Draft("compress", name="kept")
    write_table(draft, "tables/item", table)
    stored = read_table(draft.commit(tmp_path / "kept"), "tables/item")
    quantized = composed.changed(tables={**composed.tables, "item": stored})
    np.testing.assert_allclose(logits(quantized), logits(composed), atol=0.05 * logits(composed).std())
    assert size_of(quantized).table_bytes < size_of(composed).table_bytes
