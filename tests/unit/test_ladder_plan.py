"""The plan of a ladder's tests, by the certificate's own p-values on validation rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankine.certification import Margins, certify_quality
from rankine.compression.search import Evaluation, Found
from rankine.events import Event, Note, ignore
from rankine.models.network import Network, NetworkScorer
from rankine.planning.judge import ValidationJudge
from rankine.planning.ladder import MARGINS
from rankine.planning.plan_on_validation import plan_on_validation
from unit.counted import counted
from unit.small_networks import context_of, network

MARGIN = 0.05


@pytest.fixture(scope="module")
def judge() -> ValidationJudge:
    """Of a network with two tasks, on a few hundred rows."""
    baseline = network("mmoe")
    rows = context_of(baseline, rows=1800).validation
    users = {"user": np.arange(rows.batch.rows) % 40}
    return ValidationJudge(rows.batch, rows.targets, baseline.schema.tasks, users, baseline)


@pytest.fixture(scope="module")
def noisy(judge: ValidationJudge) -> Network:
    """The baseline with tables that are a little off."""
    random = np.random.default_rng(1)
    tables = {
        name: replace(table, rows=table.rows + 0.02 * random.normal(size=table.rows.shape).astype(np.float32))
        for name, table in judge.baseline.tables.items()
    }
    return replace(judge.baseline, tables=tables, module=None)


def found(of: Network) -> Found:
    evaluation = Evaluation(key="a", passes=(), fidelity="full", refused="is not read here", seconds=1.0)
    return Found(evaluation=evaluation, network=of, cost=1.0, shares={})


def test_p_values_are_those_of_the_certificate_of_the_worst_task_when_tests_are_planned(
    judge: ValidationJudge, noisy: Network
) -> None:
    events: list[Event] = []
    tests = plan_on_validation({"noisy": found(noisy)}, judge, MARGIN, events.append)
    logits = NetworkScorer(noisy).logits(judge.batch)
    for test in tests:
        certificates = [
            certify_quality(
                judge.labels[:, column],
                judge.baseline_logits[:, column],
                logits[:, column],
                margin=Margins.of(test.margin),
                clusters=judge.clusters,
                groups=judge.clusters["user"],
                variant="noisy",
                engine="onnxruntime",
                provenance={},
                resamples=1000,
            )
            for column in range(2)
        ]
        assert test.p_value == max(certificate.p_value for certificate in certificates)
    assert MARGIN in {test.margin for test in tests}
    notes = [event.figures["validation p"] for event in events if isinstance(event, Note)]
    assert notes == [test.p_value for test in tests]


def test_statistics_are_computed_once_a_task_when_there_are_many_margins(
    judge: ValidationJudge, noisy: Network
) -> None:
    names = [f"rankine.certification.judging.{name}" for name in ("paired_delong", "bootstrap_t", "bootstrap_all")]
    with counted(*names) as calls:
        plan_on_validation({"noisy": found(noisy)}, judge, MARGIN, ignore)
    assert len(MARGINS) > 1
    assert calls == dict.fromkeys(names, len(judge.tasks))
