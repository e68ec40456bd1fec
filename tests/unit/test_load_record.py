"""The record of a load run: percentiles, misses, goodput, and the verdict on the generator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankine.config import parse
from rankine.environment import environment, processor
from rankine.errors import ConfigError
from rankine.observation.load import LoadConfig, LoadResult
from rankine.observation.load.answer import Answer, Body, Timings, read_reply
from rankine.observation.load.bodies import POOL, bodies_from_examples
from rankine.observation.load.generator import Run
from rankine.observation.load.record import cdf_points, judge_generator, summarize

MACHINE: dict[str, str | int | float] = {"cpu": "test"}


def config(**changes: object) -> LoadConfig:
    values = {"url": "http://127.0.0.1:1", "rate_rps": 100, "duration_s": 10, "warmup_s": 1, "slo_ms": 50}
    return LoadConfig.model_validate(values | changes)


def answered(latency_ms: float, due_s: float = 2.0, outcome: str = "200", correct: bool = True) -> Answer:
    return Answer(due_s, due_s, due_s + latency_ms / 1e3, outcome, correct, 512)


def run_of(answers: list[Answer], requests: int | None = None, cpu_share: float = 0.1, stopped: bool = False) -> Run:
    return Run(answers, len(answers) if requests is None else requests, 10.0, cpu_share, stopped)


def test_percentiles_are_ranks_when_latencies_are_known() -> None:
    order = np.random.default_rng(0).permutation(1000) + 1
    result = summarize(config(slo_ms=2000), run_of([answered(float(ms)) for ms in order]), MACHINE)
    assert result.latency is not None
    shown = result.latency.model_dump()
    expected = {"p50_ms": 500, "p90_ms": 900, "p95_ms": 950, "p99_ms": 990, "p99_9_ms": 999, "max_ms": 1000}
    assert {name: shown[name] for name in expected} == pytest.approx(expected)
    assert result.latency.mean_ms == pytest.approx(500.5)


def test_warmup_is_left_out_when_answers_were_due_in_it() -> None:
    result = summarize(config(), run_of([answered(900, due_s=0.5), answered(10)], requests=1), MACHINE)
    assert result.latency is not None
    assert result.latency.max_ms == pytest.approx(10)
    assert result.requests == 1


def test_latency_counts_from_due_time_when_sent_late() -> None:
    late = Answer(2.0, 2.030, 2.040, "200", True, 512)
    result = summarize(config(), run_of([late]), MACHINE)
    assert result.latency is not None
    assert result.latency.p50_ms == pytest.approx(40)
    assert result.generator.late_sends == 1
    assert result.generator.send_lag_p99_ms == pytest.approx(30)
    assert result.generator_bound


def test_goodput_leaves_out_late_refused_and_wrong_answers_when_bound_is_given() -> None:
    answers = [
        *[answered(10)] * 70,
        *[answered(60)] * 10,
        *[answered(1, outcome="503", correct=False)] * 8,
        *[answered(5, correct=False)] * 7,
        *[answered(9000, outcome="timeout", correct=False)] * 5,
    ]
    result = summarize(config(), run_of(answers), MACHINE)
    assert result.goodput_rps == pytest.approx(7.0)
    assert result.misses == 30
    assert result.miss_share == pytest.approx(0.3)
    assert (result.correct, result.wrong) == (80, 7)
    assert result.outcomes == {"200": 87, "503": 8, "timeout": 5}
    assert result.offered_rps == pytest.approx(10)
    assert result.rows_per_s == pytest.approx(80 * 512 / 10)


def test_given_up_requests_are_misses_when_run_was_stopped() -> None:
    result = summarize(config(), run_of([answered(10)] * 600, requests=1000, stopped=True), MACHINE)
    assert result.unfinished == 400
    assert result.misses == 400
    assert not result.supports_p99


def test_deadline_bounds_goodput_when_both_bounds_are_given() -> None:
    result = summarize(config(deadline_ms=20), run_of([answered(10), answered(30)]), MACHINE)
    assert result.bound_ms == 20
    assert result.misses == 1


def test_achieved_rate_counts_the_drain_when_answers_come_after_the_window() -> None:
    result = summarize(config(), run_of([answered(19_000, due_s=2.0)] * 100), MACHINE)
    assert result.achieved_rps == pytest.approx(100 / 20)


@pytest.mark.parametrize(("requests", "supported"), [(458, False), (459, True)])
def test_p99_claim_is_supported_when_queries_are_enough(requests: int, supported: bool) -> None:
    result = summarize(config(), run_of([answered(10)] * requests), MACHINE)
    assert result.supports_p99 is supported
    assert any(label == "caution" for label, _ in result.table()) is not supported


def test_record_stays_whole_when_nothing_was_answered() -> None:
    result = summarize(config(), run_of([answered(1, outcome="disconnected", correct=False)]), MACHINE)
    assert result.latency is None
    assert result.cdf == ()
    assert result.goodput_rps == 0
    assert dict(result.table())["misses"] == "1 (100.00%)"


def test_record_reads_back_equal_when_saved_as_json() -> None:
    told = Answer(2.0, 2.0, 2.01, "200", True, 512, Timings(run_ms=3.0, queue_ms=1.0, batch_rows=1024))
    result = summarize(config(), run_of([told]), MACHINE)
    assert LoadResult.model_validate_json(result.model_dump_json()) == result
    assert result.server is not None
    assert (result.server.run_p50_ms, result.server.batch_rows_mean) == (3.0, 1024)


def test_cdf_keeps_ends_and_tail_when_thinned() -> None:
    points = cdf_points(np.arange(100_000, dtype=np.float64))
    assert len(points) <= 400
    assert points[0] == (0.0, 0.00001)
    assert points[-1] == (99_999.0, 1.0)
    assert sum(share > 0.98 for _, share in points) >= 90
    shares = [share for _, share in points]
    assert shares == sorted(shares)


def test_cdf_is_exact_when_answers_are_few() -> None:
    assert cdf_points(np.array([3.0, 1.0])) == ((1.0, 0.5), (3.0, 1.0))


@pytest.mark.parametrize(
    ("lag_ms", "cpu_share", "p99_ms", "bound"),
    [
        (0.2, 0.3, 10.0, False),
        (0.2, 0.86, 10.0, True),  # busy
        (1.5, 0.3, 10.0, True),  # late by more than a tenth of what it measured
        (1.5, 0.3, 20.0, False),  # late, but the latencies are long
        (0.9, 0.3, 2.0, False),  # under a millisecond is on time
        (5.0, 0.3, None, True),
    ],
)
def test_generator_is_judged_by_lag_and_load_when_run_ends(
    lag_ms: float, cpu_share: float, p99_ms: float | None, bound: bool
) -> None:
    judged, reason = judge_generator(lag_ms, cpu_share, p99_ms)
    assert judged is bound
    assert reason.startswith("the generator was" if bound else "not the")


@pytest.mark.parametrize(
    ("raw", "correct"),
    [
        (b'{"ids": [1, 2], "scores": [0.5, 0.4], "variant": "x"}', True),
        (b'{"ids": ["a", "b"], "scores": [1, 0]}', True),
        (b'{"ids": [1], "scores": [0.5]}', False),
        (b'{"ids": [1, 2], "scores": [0.5]}', False),
        (b'{"ids": [1, 2], "scores": [null, 0.5]}', False),
        (b'{"outputs": []}', False),
        (b"<html>", False),
    ],
)
def test_answer_is_correct_when_ids_and_scores_are_as_many_as_asked(raw: bytes, correct: bool) -> None:
    assert read_reply(raw, Body(b"", rows=5, expected_ids=2))[0] is correct


def test_bodies_are_cut_with_their_columns_when_candidates_vary() -> None:
    example = {
        "request": {"user": 7},
        "candidates": {
            "ids": list(range(700)),
            "prior": [0.5] * 700,
            "features": {"price": [1.0] * 700, "tags": [[1, 2]] * 700},
        },
    }
    bodies = bodies_from_examples([example], config(candidates="mlperf", top_k=150, timings=True))
    assert len(bodies) == POOL
    smallest = min(bodies, key=lambda body: body.rows)
    sent = json.loads(smallest.payload)
    assert smallest.rows == smallest.expected_ids == len(sent["candidates"]["ids"]) == 100
    assert len(sent["candidates"]["prior"]) == len(sent["candidates"]["features"]["tags"]) == 100
    assert (sent["top_k"], sent["timings"], sent["request"]) == (150, True, {"user": 7})
    assert max(body.expected_ids for body in bodies) == 150


@pytest.mark.parametrize(
    ("key", "value"),
    [("url", "127.0.0.1:80"), ("rate_rps", 0), ("candidates", "many"), ("clients", 0), ("stop_over_miss_share", 0.1)],
)
def test_config_names_key_when_value_is_wrong(key: str, value: object) -> None:
    values = {"url": "http://127.0.0.1:1", "rate_rps": 1, key: value}
    with pytest.raises(ConfigError, match=key):
        parse(LoadConfig, values)


def test_environment_names_machine_and_versions_when_asked() -> None:
    found = environment()
    assert found["cpu"]
    assert int(found["cores"]) >= 1
    assert float(found["memory_gib"]) > 0
    assert found["numpy"] == np.__version__


def test_processor_is_read_when_cpuinfo_is_of_x86(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: Xeon X\nflags\t\t: fpu avx2 avx512f amx_int8\nflags : avx\n")
    assert processor(path) == ("Xeon X", ["avx2", "avx512f", "amx_int8"])
    assert processor(tmp_path / "none")[1] == []
