"""The pass as a recipe runs it: which layers become INT8 and why, what is learned, and which form tables take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from rankine.compression.context import Context
from rankine.compression.outcome import Outcome
from rankine.compression.quantize import loss as judging
from rankine.compression.quantize import quantize
from rankine.compression.quantize.aware import learn_quantized
from rankine.compression.quantize.loss import Judge
from rankine.compression.quantize.tables import hot_share, quantized_tables
from rankine.compression.quantize.write import calibrate
from rankine.compression.recipe import Quantize, Tuning
from rankine.compression.table_forms import quotient_remainder
from rankine.errors import UsageError
from rankine.models.network import Network, NetworkScorer, size_of
from rankine.models.tables import AnyTable
from rankine.training.config import FitConfig
from rankine.training.fit import Examples
from unit.small_networks import ITEM, USER, context_of, made_network, network, schema_of

TUNING = Tuning(
    drawn_rows=0,
    fit=FitConfig(
        learning_rate=3e-4, embedding_l2=0, max_epochs=4, batch_rows=128, patience=4, average_decay=0.9, threads=1
    ),
)


@cache
def context(family: str) -> Context:
    return judged_context(network(family))


def judged_context(baseline: Network) -> Context:
    """Labels tell whether the baseline's score is above the middle: whatever changes scores costs quality."""
    found = context_of(baseline, rows=4500)
    train, validation = (_judged(baseline, part) for part in (found.train, found.validation))
    return replace(found, train=train, validation=validation)


def _judged(baseline: Network, examples: Examples) -> Examples:
    logits = NetworkScorer(baseline).logits(examples.batch)
    return Examples(examples.batch, (logits > np.median(logits, axis=0)).astype(np.float32))


@cache
def plain() -> Outcome:
    return quantize(network("dcn_v2"), Quantize(calibration_rows=512), context("dcn_v2"))


def total_cost(sensitivity: Mapping[str, Any]) -> float:
    """Of all layers in INT8 and of the tables."""
    together, tables = sensitivity["together"][0], sensitivity["tables"]
    return float(max(together["auc"] + tables["auc"], (together["entropy"] + tables["entropy"]) / 3))


@dataclass(frozen=True)
class Cost:
    """INT8 takes half of the time, but a layer never less than a floor."""

    floor: float
    int8_graph_ms: float = 0.5

    def latency_ms(self, network: Network, rows: int) -> float:
        return self.int8_graph_ms if network.numeric == "int8" else 1.0

    def layer_ms(self, rows: int, width: int, columns: int, numeric: str) -> float:
        macs = float(rows * width * columns)
        return max(macs / 2, self.floor) if numeric == "int8" else macs


def test_details_tell_layers_and_ranges_when_quantized() -> None:
    found = plain()
    details = json.loads(json.dumps(found.details))
    assert found.network.numeric == "int8"
    assert len(details["int8"]) == 4, "two cross layers and two hidden layers"
    assert details["fp32"] == {}
    reads = {node.input[0] for node in found.network.graph.graph.node if node.op_type == "QuantizeLinear"}
    assert set(details["ranges"]) == reads
    assert all(entry["low"] <= 0 <= entry["high"] for entry in details["ranges"].values())
    assert set(details["tables"].values()) == {"int8"}
    assert size_of(found.network).parameters == size_of(network("dcn_v2")).parameters, "scales are none"


def test_pass_is_deterministic_when_run_twice() -> None:
    again = quantize(network("dcn_v2"), Quantize(calibration_rows=512), context("dcn_v2"))
    assert again.details == plain().details
    first, second = (found.network.graph.SerializeToString(deterministic=True) for found in (again, plain()))
    assert first == second


def test_layers_stay_in_float_when_int8_is_not_faster() -> None:
    settings = Quantize(calibration_rows=512, only_where_faster=True)
    found = quantize(network("dcn_v2"), settings, replace(context("dcn_v2"), cost=Cost(floor=512 * 24 * 16 + 1)))
    assert found.network.numeric == "int8"
    assert len(found.details["int8"]) == 3, "the smallest layer, 24 x 16, is left out"
    assert set(found.details["fp32"].values()) == {"INT8 is not faster here"}


def test_graph_stays_in_float_when_int8_pays_for_no_layer() -> None:
    settings = Quantize(calibration_rows=512, only_where_faster=True, sensitivity=1e-3)
    found = quantize(network("dcn_v2"), settings, replace(context("dcn_v2"), cost=Cost(floor=1e9)))
    assert found.network.numeric == "fp32"
    assert found.network.graph == network("dcn_v2").graph
    assert found.text == "INT8 in 0 of 4 layers, tables int8"
    assert {table.form for table in found.network.tables.values()} == {"int8"}


@pytest.mark.parametrize(("int8_graph_ms", "layers"), [(0.99, 4), (1.0, 0)])
def test_graph_stays_in_float_when_its_layers_are_faster_in_int8_and_the_whole_is_not(
    int8_graph_ms: float, layers: int
) -> None:
    settings = Quantize(calibration_rows=512, only_where_faster=True)
    found = quantize(network("dcn_v2"), settings, replace(context("dcn_v2"), cost=Cost(0, int8_graph_ms)))
    assert len(found.details["int8"]) == layers
    assert found.network.numeric == ("int8" if layers else "fp32")
    assert {table.form for table in found.network.tables.values()} == {"int8"}


def test_tables_are_learned_in_int4_when_they_cost_too_much_and_no_layer_is_int8() -> None:
    settings = Quantize(calibration_rows=512, only_where_faster=True, sensitivity=1e-9, tables="int4", tune=TUNING)
    found = quantize(network("dcn_v2"), settings, replace(context("dcn_v2"), cost=Cost(floor=1e9)))
    assert found.network.numeric == "fp32"
    assert found.details["int8"] == []
    assert found.details["fit"]["best_epoch"] > 0
    assert found.network.graph != network("dcn_v2").graph
    assert found.text == "INT8 in 0 of 4 layers, learned again, tables int4"


def test_text_tells_the_forms_that_tables_have_when_rows_are_too_narrow_for_int8() -> None:
    before = network("dcn_v2")
    tables: dict[str, AnyTable] = {
        **before.tables,
        "genre": quotient_remainder(before.tables["genre"], 3, np.ones(before.tables["genre"].count)),
    }
    found = quantize(before.changed(tables=tables), Quantize(calibration_rows=512), context("dcn_v2"))
    assert found.text.endswith("tables int8, quotient-remainder int8")


def test_only_tables_become_small_when_no_layer_is_large_enough() -> None:
    narrow = made_network(
        schema_of(USER, ITEM),
        "(float[rows, 6] user, float[rows, 6] item) => (float[rows, 1] logits)",
        "both = Concat <axis = 1> (user, item) logits = Gemm (both, w, b)",
        tables={name: network("dcn_v2").tables[name] for name in ("user", "item")},
        w=np.ones((12, 1), np.float32),
        b=np.zeros(1, np.float32),
    )
    outcome = quantize(narrow, Quantize(tables="int4"), context_of(narrow, rows=600))
    assert outcome.network.graph == narrow.graph
    assert outcome.network.numeric == "fp32"
    assert {table.form for table in outcome.network.tables.values()} == {"int4"}
    with pytest.raises(UsageError, match="no layer that could be INT8"):
        quantize(narrow, Quantize(tables="float32"), context_of(narrow, rows=600))


def test_pass_is_refused_when_no_cost_was_measured() -> None:
    with pytest.raises(UsageError, match=r"only_where_faster: .*measured cost"):
        quantize(network("dcn_v2"), Quantize(only_where_faster=True), context("dcn_v2"))


def test_costliest_layers_go_back_to_float_when_together_they_cost_too_much() -> None:
    settings = Quantize(calibration_rows=512, tables="float32", sensitivity=1e-7)
    found = quantize(network("dcn_v2"), settings, context("dcn_v2"))
    measured = found.details["sensitivity"]
    judge = Judge(network("dcn_v2"), context("dcn_v2"))
    loss = judge.with_tables(found.network.tables)(found.network.graph)
    assert measured["rows"] == judge.rows == context("dcn_v2").validation.batch.rows
    assert loss.cost <= 1e-7 < max(measured["together"][0]["auc"], measured["together"][0]["entropy"] / 3)
    costs = {name: max(one["auc"], one["entropy"] / 3) for name, one in measured["alone"].items()}
    kept = [costs[name] for name in found.details["fp32"]]
    assert min(kept) >= max((costs[name] for name in found.details["int8"]), default=-1.0)


def test_fewer_rows_are_judged_when_the_graph_reads_much_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = context("dcn_v2")
    inputs = NetworkScorer(rows.baseline).inputs(rows.calibration(1))
    monkeypatch.setattr(judging, "_INPUT_BYTES", 300 * sum(values.nbytes for values in inputs.values()))
    judge = Judge(rows.baseline, rows)
    assert judge.rows == 300 < rows.validation.batch.rows
    assert judge.with_tables(rows.baseline.tables)(rows.baseline.graph).cost == 0


def test_learned_form_costs_less_when_ranges_and_int4_rows_are_trained() -> None:
    settings = Quantize(calibration_rows=512, tables="int4", sensitivity=1e-6)
    calibrated, found = (
        quantize(network("dcn_v2"), settings.model_copy(update={"tune": tune}), context("dcn_v2"))
        for tune in (None, TUNING)
    )
    before, after = (total_cost(one.details["sensitivity"]) for one in (calibrated, found))
    assert after < 0.8 * before
    trained = found.details["fit"]["validation_auc"]
    assert context("dcn_v2").validation_auc(found.network) == pytest.approx(trained, abs=5e-5)
    assert {entry["method"] for entry in found.details["ranges"].values()} == {"learned"}
    assert {table.form for table in found.network.tables.values()} == {"int4"}


def test_mixed_tables_answer_most_reads_in_int8_when_ids_are_read_unevenly() -> None:
    found = quantize(network("dcn_v2"), Quantize(calibration_rows=512, tables="mixed"), context("dcn_v2"))
    for name, table in found.network.tables.items():
        assert table.size_bytes <= plain().network.tables[name].size_bytes
    assert hot_share(np.array([1, 80, 2, 10, 7])) == pytest.approx(1 / 5)
    assert hot_share(np.zeros(3)) == 0


def test_parts_are_trained_in_int4_when_a_table_is_put_together_from_two() -> None:
    whole = network("dcn_v2")
    parts = {
        name: quotient_remainder(table, 8, np.ones(table.count)) if table.count > 16 else table
        for name, table in whole.tables.items()
    }
    composed = replace(whole, tables=parts, module=None)
    rows = judged_context(composed)
    inputs = NetworkScorer(composed).inputs(rows.calibration(512))
    calibrated = calibrate(composed.graph, inputs)
    tables = quantized_tables(composed, "int4", rows)
    assert {table.form for table in tables.values()} == {"quotient-remainder int4", "int4"}
    tuned, learned, fit = learn_quantized(composed, calibrated, calibrated.layers, tables, TUNING, rows)
    served = replace(tuned, graph=learned.in_int8(), tables=quantized_tables(tuned, "int4", rows), numeric="int8")
    assert fit.best_epoch > 0
    assert rows.validation_auc(served) == pytest.approx(fit.validation_auc, abs=5e-5)
