"""The harness of the serving proof: its traffic, queries, HTTP, batcher, record and page."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from time import perf_counter
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from rankine.errors import EngineError, UsageError
from rankine.observation.load.answer import Answer
from rankine.observation.load.config import LoadConfig
from rankine.observation.load.generator import Run
from rankine.observation.load.record import summarize
from unit.test_rendered_pages import ROOT

CASE = {"server": "rankine", "model": "big", "traffic": "exponential", "candidates": "mlperf"}
WHERE = {"settings": {}, "created": "2026-11-21T10:00:00Z", "environment": {"cpu": "x"}}
GOODPUT = {
    "case": CASE,
    "slo_ms": 50,
    "sustainable_rps": 200.0,
    "goodput_rps": 199.0,
    "failed_rps": 210.0,
    "p50_ms": 8.0,
    "p99_ms": 40.0,
    "requests": 2000,
    "supports_p99": True,
    "confirmed": (3, 3),
    "capped": False,
    "reason": "it held",
    "attempts": [],
    **WHERE,
}


class Harness:
    """The modules of `benchmarks/serving`, by name."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(f"serving.{name}")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield Harness()
    for name in [name for name in sys.modules if name == "serving" or name.startswith("serving.")]:
        sys.modules.pop(name)


# Traffic


@pytest.mark.parametrize("kind", ["exponential", "bursts", "day"])
def test_arrivals_have_the_rate_that_was_asked_for_when_counted(kind: str, serving: Any) -> None:
    shape = serving.traffic.intensity(kind, 20.0, seed=3)
    due_s = serving.traffic.due_times(500.0, shape, seed=3)
    assert abs(len(due_s) - 10_000) < 5 * 100  # five standard deviations of a Poisson number
    assert (np.diff(due_s) > 0).all()
    assert 0 < due_s[0] < due_s[-1] < 20.0


def test_arrivals_are_exponential_when_asked_for(serving: Any) -> None:
    shape = serving.traffic.intensity("exponential", 20.0, seed=1)
    gaps = np.diff(serving.traffic.due_times(1000.0, shape, seed=1))
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1.0, abs=0.03)


def test_bursts_have_five_times_the_intensity_when_they_come(serving: Any) -> None:
    shape = serving.traffic.intensity("bursts", 2000.0, seed=1)
    levels = np.unique(shape.levels)
    assert len(levels) == 2
    assert levels[1] / levels[0] == pytest.approx(5.0)
    lengths = np.diff(shape.edges_s)
    assert lengths[shape.levels == levels[1]].sum() / 2000.0 == pytest.approx(0.1, abs=0.02)


def test_day_has_a_flash_crowd_when_it_is_compressed(serving: Any) -> None:
    shape = serving.traffic.intensity("day", 25.0, seed=0)
    jumps = shape.levels[1:] / shape.levels[:-1]
    assert jumps.max() == pytest.approx(3.0, rel=0.05)
    assert shape.integral_s[-1] == pytest.approx(25.0)


def test_arrivals_are_the_same_but_denser_when_the_rate_rises(serving: Any) -> None:
    shape = serving.traffic.intensity("bursts", 10.0, seed=2)
    slow = serving.traffic.due_times(100.0, shape, seed=2)
    fast = serving.traffic.due_times(200.0, shape, seed=2)
    integral = np.interp(slow, shape.edges_s, shape.integral_s)
    assert np.allclose(np.interp(fast[: len(slow)], shape.edges_s, shape.integral_s), integral / 2)


@pytest.mark.parametrize(("kind", "duration_s"), [("burst", 1.0), ("day", 0.0)])
def test_traffic_is_refused_when_it_makes_no_sense(kind: str, duration_s: float, serving: Any) -> None:
    with pytest.raises(UsageError):
        serving.traffic.intensity(kind, duration_s, seed=0)


# Queries


def test_queries_have_the_exact_shares_when_drawn(serving: Any) -> None:
    mix = serving.queries.Mix(short_share=0.3)
    users = [{"user": number} for number in range(50)]
    drawn = serving.queries.draw_queries(users, np.arange(1000), mix, seed=0)
    sizes = [len(query.ids) for query in drawn]
    assert {size: sizes.count(size) for size in set(sizes)} == {
        100: 96, 200: 576, 300: 96, 400: 48, 500: 48, 600: 48, 700: 48
    }  # fmt: skip
    assert sum(query.deadline_ms == mix.short_ms for query in drawn) == 288
    assert all(len(set(query.ids.tolist())) == len(query.ids) for query in drawn)


def test_queries_favor_few_users_and_items_when_drawn_by_zipf(serving: Any) -> None:
    users = [{"user": number} for number in range(200)]
    mix = serving.queries.Mix(candidates="10")
    drawn = serving.queries.draw_queries(users, np.arange(5000), mix, seed=0)
    of_user = np.bincount([query.request["user"] for query in drawn], minlength=200)
    of_item = np.bincount(np.concatenate([query.ids for query in drawn]), minlength=5000)
    assert np.sort(of_user)[-20:].sum() > 0.4 * of_user.sum()
    assert np.sort(of_item)[-500:].sum() > 0.4 * of_item.sum()


def test_queries_are_refused_when_there_are_too_few_items(serving: Any) -> None:
    with pytest.raises(UsageError, match="more candidates than items"):
        serving.queries.draw_queries([{"user": 1}], np.arange(600), serving.queries.Mix(), seed=0)


# HTTP


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> Any:
    """A server that handles each connection by ``handler``, and ends when all are closed."""
    tasks: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):  # the client may leave
            await handler(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
        await asyncio.gather(*(task for task in tasks if task is not None))


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


def reply_to(body: bytes, status: int = 200, *more: str) -> bytes:
    lines = (f"HTTP/1.1 {status} X", *more, f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


RANKED = b'{"ids":[3,1],"scores":[0.5,0.25],"timings":{"run_ms":1.5}}'


def query_of(serving: Any, deadline_ms: float = 50.0) -> Any:
    return serving.queries.Query({"user": 7, "gender": "M", "age": 0.5}, np.array([1, 2, 3]), 2, deadline_ms)


def answers(serving: Any, handler: Handler, count: int, deadline_ms: float = 50.0, **options: Any) -> list[Answer]:
    """What the client makes of a server's replies to the same query, one after the other, each due at once."""
    wire = serving.wires.rank_json("/rank", own_headers=True)
    message = wire.encode(query_of(serving, deadline_ms))

    async def run() -> list[Answer]:
        settings = {"deadline_header": wire.deadline_header, "bound_ms": 50.0, "timeout_s": 5.0} | options
        async with listening(handler) as url, serving.client.Client(url, wire.read, **settings) as client:
            start = perf_counter()
            return [await client.rank(message, perf_counter() - start, start) for _ in range(count)]

    return asyncio.run(run())


def test_client_keeps_its_connection_and_tells_the_time_left_when_it_ranks(serving: Any) -> None:
    heads: list[bytes] = []
    connections: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        for _ in range(3):
            head, body = await read_request(reader)
            assert msgspec.json.decode(body)["candidates"] == {"ids": [1, 2, 3]}
            heads.append(head)
            raw = reply_to(RANKED)
            writer.write(raw[:20])  # replies come in pieces
            await writer.drain()
            writer.write(raw[20:])

    found = answers(serving, handle, 3)
    assert [(one.outcome, one.correct) for one in found] == [("200", True)] * 3
    assert found[0].timings is not None
    assert found[0].timings.run_ms == 1.5
    assert len(connections) == 1
    assert all(b"x-rankine-candidates: 3" in head for head in heads)
    left_ms = [float(head.split(b"x-rankine-deadline-ms: ")[1].split(b"\r\n")[0]) for head in heads]
    assert all(0 < value <= 50.0 for value in left_ms)


def test_client_asks_again_when_a_kept_connection_was_closed(serving: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(reply_to(RANKED))
        await writer.drain()

    assert [one.outcome for one in answers(serving, handle, 3)] == ["200"] * 3


@pytest.mark.parametrize(
    ("reply", "outcome", "correct"),
    [
        (reply_to(b"{}", 503), "503", False),
        (reply_to(b'{"ids":[3],"scores":[0.5]}'), "200", False),
        (reply_to(b"not JSON"), "200", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "disconnected", False),
        (b"", "disconnected", False),
    ],
)
def test_client_tells_the_outcome_when_it_is_no_answer(reply: bytes, outcome: str, correct: bool, serving: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(reply)
        await writer.drain()

    [found] = answers(serving, handle, 1)
    assert (found.outcome, found.correct) == (outcome, correct)


def test_client_gives_up_when_nothing_comes(serving: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    [found] = answers(serving, handle, 1, timeout_s=0.05)
    assert found.outcome == "timeout"


def test_client_counts_an_answer_as_late_when_its_own_deadline_has_passed(serving: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.03)
        writer.write(reply_to(RANKED))
        await writer.drain()

    [found] = answers(serving, handle, 1, deadline_ms=10.0)
    assert (found.outcome, found.correct) == ("late", False)


# Wires


def test_binary_wire_packs_features_by_their_type_when_sent(serving: Any) -> None:
    query = query_of(serving)
    groups = serving.wires.tensor_groups(query.request)
    message = serving.wires.oip_binary("/infer", groups).encode(query)
    start = int(message.head.split(b"inference-header-content-length: ")[1].split(b"\r\n")[0])
    inputs = msgspec.json.decode(message.payload[:start])["inputs"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in inputs] == [
        ("ids", "INT64", [1, 3]), ("values", "INT64", [1, 1]), ("words", "UINT8", [1, 1]), ("numbers", "FP32", [1, 1])
    ]  # fmt: skip
    raw = message.payload[start:]
    assert np.frombuffer(raw, np.int64, 4).tolist() == [1, 2, 3, 7]
    assert serving.wires.split_words(raw[32:33]) == ["M"]
    assert np.frombuffer(raw[33:], np.float32).tolist() == [0.5]
    assert len(message.payload) == int(message.head.rsplit(b"content-length: ", 1)[1])


def test_binary_wire_reads_outputs_in_any_order_when_answered(serving: Any) -> None:
    parts = [("run_ms", "FP32", np.array([2.5], np.float32)), ("scores", "FP32", np.array([0.5, 0.25], np.float32))]
    parts += [("ids", "INT64", np.array([3, 1]))]
    outputs = [
        {"name": name, "datatype": kind, "parameters": {"binary_data_size": values.nbytes}}
        for name, kind, values in parts
    ]
    start = msgspec.json.encode({"outputs": outputs})
    head = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d\r\n\r\n" % len(start)
    read = serving.wires.oip_binary("/infer", {}).read
    assert read(head, start + b"".join(values.tobytes() for *_, values in parts)) == ([3, 1], [0.5, 0.25], 2.5)
    assert read(b"HTTP/1.1 200 OK\r\n\r\n", b"{}") is None


def test_binary_wire_refuses_a_feature_when_it_is_a_list(serving: Any) -> None:
    with pytest.raises(UsageError, match="genres"):
        serving.wires.tensor_groups({"genres": [1, 2]})


def test_lists_wire_wraps_one_body_when_sent(serving: Any) -> None:
    wire = serving.wires.rank_lists("/rank")
    body = msgspec.json.decode(wire.encode(query_of(serving)).payload)
    assert body["queries"][0]["top_k"] == 2
    assert wire.read(b"", b"[" + RANKED + b"]") == ([3, 1], [0.5, 0.25], 1.5)


# The peer with a fixed window


class Prepared:
    def __init__(self, rows: int) -> None:
        self.rows = np.zeros(rows)


def batches_of(serving: Any, rows: list[int], *, full_rows: int, wait_s: float) -> list[list[int]]:
    """Rows of the requests of each batch, all of which come at once."""
    window = importlib.import_module("serving.peers.window_app")
    seen: list[list[int]] = []

    def run(batch: list[Any]) -> list[Any]:
        seen.append([len(one.rows) for one in batch])
        return [len(one.rows) for one in batch]

    async def ask() -> list[int]:
        batcher = window.Batcher(run, rows=full_rows, wait_s=wait_s)
        return await asyncio.gather(*(batcher.rank(Prepared(number)) for number in rows))

    assert asyncio.run(ask()) == rows
    return seen


def test_window_starts_a_batch_at_once_when_it_is_full(serving: Any) -> None:
    assert batches_of(serving, [60, 40, 70, 30], full_rows=100, wait_s=600.0) == [[60, 40], [70, 30]]


def test_window_starts_a_batch_that_is_not_full_when_its_time_is_over(serving: Any) -> None:
    assert batches_of(serving, [10, 20], full_rows=100, wait_s=0.01) == [[10, 20]]


def test_window_hands_on_the_failure_when_a_batch_fails(serving: Any) -> None:
    window = importlib.import_module("serving.peers.window_app")

    def run(batch: list[Any]) -> list[Any]:
        raise EngineError("it failed")

    async def ask() -> None:
        await window.Batcher(run, rows=1, wait_s=1.0).rank(Prepared(5))

    with pytest.raises(EngineError, match="it failed"):
        asyncio.run(ask())


# Sections


def refused_and_served() -> Run:
    good = [Answer(1, 1, 1.010, "200", True, 1)] * 90
    late = [Answer(1, 1, 1.060, "200", True, 1)] * 5
    refused = [Answer(1, 1, 1.002, "503", False, 1)] * 99 + [Answer(1, 1, 1.004, "504", False, 1)]
    return Run([*good, *late, *refused], 200, 10.0, 0.1)


def test_overload_tells_refusals_apart_from_what_was_admitted_when_counted(serving: Any) -> None:
    class Overloaded:
        def drain(self) -> None:
            """Nothing waits."""

        def open(self, rate_rps: float, duration_s: float) -> tuple[LoadConfig, Run]:
            assert (rate_rps, duration_s) == (400.0, 5.0)
            return LoadConfig(url="http://x", rate_rps=400, slo_ms=50, warmup_s=0), refused_and_served()

        def record(self, config: LoadConfig, run: Run) -> Any:
            return summarize(config, run, {})

    peak = serving.record.Goodput.model_validate(GOODPUT)
    found = serving.sections.run_overload(Overloaded(), peak.case, peak, 2.0, 5.0, {})
    assert (found.refused, found.requests) == (100, 200)
    assert found.refusal_p99_ms == pytest.approx(2.0)
    assert found.admitted_in_time_share == pytest.approx(0.9)  # five late, five never answered
    assert found.goodput_share == pytest.approx(9.0 / 199.0)


class Listening:
    url = "http://127.0.0.1:1"


@dataclass
class Fickle:
    """Sustains 1,000 requests per second with seed 0, and ``other_rps`` with others; one trial is hit by a hiccup."""

    other_rps: float
    guess_rps: float = 1000.0
    hiccup_at: int = -1
    seed: int = 0
    slo_ms: float = 50.0
    running: Listening = field(default_factory=Listening)
    offered: list[tuple[float, float]] = field(default_factory=list)

    def reseeded(self, seed: int) -> Fickle:
        return replace(self, seed=seed)

    def estimate(self) -> float:
        return self.guess_rps

    def offer(self, rate_rps: float, duration_s: float) -> Any:
        limit_rps = self.other_rps if self.seed else 1000.0
        holds = rate_rps <= limit_rps and len(self.offered) != self.hiccup_at
        self.offered.append((rate_rps, duration_s))
        outcome = Answer(0, 0, 0.01 if holds else 0.2, "200", True, 1)
        config = LoadConfig(url="http://x", rate_rps=rate_rps, slo_ms=50, warmup_s=0)
        requests = round(rate_rps * duration_s)
        return summarize(config, Run([outcome] * requests, requests, duration_s, 0.1), {})

    def drain(self) -> None:
        """Nothing waits."""


@pytest.mark.parametrize("other_rps", [2000.0, 800.0])
@pytest.mark.parametrize("guess_rps", [40.0, 1000.0, 9000.0])
def test_goodput_holds_under_two_of_three_arrivals_when_they_differ(
    other_rps: float, guess_rps: float, serving: Any
) -> None:
    case = serving.record.Case.model_validate(CASE)
    found = serving.sections.find_goodput(Fickle(other_rps, guess_rps), case, serving.search.Effort(), {})
    assert found.sustainable_rps is not None
    assert 0.9 * min(1000.0, other_rps) < found.sustainable_rps <= other_rps * 1.001
    assert found.confirmed[0] == 2
    assert not found.capped


@pytest.mark.parametrize("hiccup_at", range(8))
def test_rate_is_found_when_a_probe_is_hit_by_a_hiccup(hiccup_at: int, serving: Any) -> None:
    load = LoadConfig(url="http://x", slo_ms=50)
    found = serving.search.find_rate(Fickle(1000.0, 900.0, hiccup_at), load, serving.search.Effort())
    assert found.best.offered_rps > 920


def test_search_takes_about_a_minute_when_the_guess_is_fair(serving: Any) -> None:
    driven = Fickle(1000.0, 1200.0)
    found = serving.search.find_rate(driven, LoadConfig(url="http://x", slo_ms=50), serving.search.Effort())
    assert found.failed_rps <= 1.045 * found.best.offered_rps
    assert sum(duration_s for _, duration_s in driven.offered) < 80


def test_search_is_coarse_when_a_rival_is_out_of_reach(serving: Any) -> None:
    load, effort, driven = LoadConfig(url="http://x", slo_ms=50), serving.search.Effort(), Fickle(1000.0, 1200.0)
    fine = serving.search.find_rate(driven, load, effort, rival_rps=2000.0)
    trials = len(driven.offered)
    coarse = serving.search.find_rate(driven, load, effort, rival_rps=5000.0)
    assert len(driven.offered) - trials < trials
    assert coarse.best.offered_rps == pytest.approx(fine.best.offered_rps, rel=0.12)


def test_search_finds_nothing_when_no_rate_holds(serving: Any) -> None:
    found = serving.search.find_rate(
        Fickle(1.0, 6.0, seed=1), LoadConfig(url="http://x", slo_ms=50), serving.search.QUICK
    )
    assert found.best is None
    assert found.confirmed == (0, 0)
    assert "no rate held" in found.reason


# The ladder


def test_back_up_counts_from_the_fall_of_the_load_when_a_cheaper_rung_answered_last(serving: Any) -> None:
    ladder = serving.ladder
    answers = [Answer(one, one, one + 0.01, "200", True, 1) for one in (9.0, 10.5, 11.0, 12.0)]
    by = ladder.named([answers[0], Answer(9, 9, 9.1, "503", False, 1), *answers[1:]], ["low", "low", "low", "best"])
    assert ladder.back_up_s(by, 10.0, "best") == pytest.approx(1.01)
    assert ladder.back_up_s(by[:1], 10.0, "best") == 0.0


def test_load_falls_when_its_time_has_come(serving: Any) -> None:
    due_s = serving.ladder.two_loads(1000.0, 100.0, 9.0, seed=0)
    assert (np.diff(due_s) > 0).all()
    assert (due_s < 10.0).sum() == pytest.approx(10_000, rel=0.05)
    assert (due_s >= 10.0).sum() == pytest.approx(100 * serving.ladder.CALM_S, rel=0.15)


# The soak


def test_growth_is_that_of_the_whole_time_when_there_is_a_spike(serving: Any) -> None:
    soak = importlib.import_module("serving_soak")
    sample = soak.Sample
    flat = [sample(5.0 * at, 100 + 90 * (at == 30), 20 + at % 2, 7) for at in range(60)]
    leaks = [sample(5.0 * at, 100 + at, 20 + at, 7) for at in range(60)]
    assert soak.growths(flat, 60.0) == pytest.approx((0.0, 0.0, 0.0))
    memory, descriptors, threads = soak.growths(leaks, 60.0)
    assert memory == pytest.approx(47 / 113, rel=0.01)
    assert (descriptors, threads) == (47, 0)
    sys.modules.pop("serving_soak")


# The oracle


def test_oracle_leaves_out_the_largest_when_not_all_can_be_in_time(serving: Any) -> None:
    service = serving.oracle.Service(call_s=0.0, row_s=0.001)
    due_s, rows = np.array([0.0, 0.001, 0.002, 1.0]), np.array([20.0, 45.0, 20.0, 50.0])
    assert serving.oracle.left_out(due_s, rows, service, 0.050, most=9) == 1
    assert serving.oracle.left_out(due_s, rows[[0, 2, 2, 3]] / 2, service, 0.050, most=9) == 0
    assert serving.oracle.left_out(due_s, np.full(4, 60.0), service, 0.050, most=2) == 3


def test_oracle_pays_for_a_call_when_it_was_idle(serving: Any) -> None:
    service = serving.oracle.Service(call_s=0.02, row_s=0.001)
    assert serving.oracle.left_out(np.array([0.0, 1.0]), np.full(2, 30.0), service, 0.0501, most=9) == 0
    assert serving.oracle.left_out(np.array([0.0, 1.0]), np.full(2, 31.0), service, 0.0501, most=9) == 2


def test_oracle_is_near_the_capacity_when_deadlines_are_long(serving: Any) -> None:
    service = serving.oracle.Service(call_s=0.0, row_s=1e-5, request_s=1e-3)
    users = [{"user": 1}]
    queries = serving.queries.draw_queries(users, np.arange(200), serving.queries.Mix(candidates="100"), seed=0)
    found = serving.oracle.oracle_rps("exponential", queries, service, 1.0, duration_s=20.0, seed=0)
    assert found == pytest.approx(500.0, rel=0.05)


def test_server_is_well_when_two_windows_in_a_row_are(serving: Any) -> None:
    bad = {0.0, 0.2, 0.6}  # windows in which requests were late
    answers = [Answer(5 + at, 5 + at, 5 + at + (0.3 if at in bad else 0.01), "200", True, 1) for at in
               (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)]  # fmt: skip
    assert serving.faults.well_after_s(answers, 4.999, 50.0, 7.0) == pytest.approx(0.8)
    assert serving.faults.well_after_s(answers[:4], 4.999, 50.0, 5.7) is None


def test_page_tells_of_soak_and_faults_when_there_are_results(tmp_path: Any, serving: Any) -> None:
    soak = {"model": "small", "duration_s": 900, "rate_rps": 700, "warmup_s": 120, "samples": [[5, 2**30, 20, 7]]}
    soak |= {"memory_growth": 0.03, "descriptors_growth": 0.0, "threads_growth": 0.0}
    fault = {"title": "SIGTERM", "rate_rps": 200, "ends": False, "recovery_s": 0.4, "lost": 0, "refused": 3}
    for name, told in (("soak", soak), ("faults", {"runs": [fault | {"requests": 1800}]})):
        (tmp_path / name).write_text(msgspec.json.encode(told).decode())
    assert "+3.00% of 1,024 MiB | +0.0 | +0.0 |" in "".join(serving.endurance.soak_lines(tmp_path / "soak"))
    assert "**missed**" in "".join(serving.endurance.soak_lines(tmp_path / "soak"))
    assert "| SIGTERM | 200 | 0.4 | 0 | 3 of 1,800 | < 2 s | met |" in serving.endurance.fault_lines(
        tmp_path / "faults"
    )
    assert serving.endurance.fault_lines(tmp_path / "none") == []


# Record and page


def test_record_replaces_a_row_when_the_same_case_is_measured_again(serving: Any) -> None:
    record = serving.record
    first = record.Goodput.model_validate(GOODPUT)
    other = first.model_copy(update={"case": first.case.model_copy(update={"traffic": "bursts"})})
    again = first.model_copy(update={"sustainable_rps": 300.0})
    found = record.ServingProof()
    for row in (first, other, again):
        found = record.merged(found, "goodput", row)
    assert found.goodput == (again, other)
    assert found.overload == ()


def test_record_reads_back_equal_when_written(tmp_path: Any, serving: Any) -> None:
    record = serving.record
    found = record.merged(record.ServingProof(), "goodput", record.Goodput.model_validate(GOODPUT))
    record.write_result(tmp_path / "x" / "result.json", found)
    assert record.read_result(tmp_path / "x" / "result.json") == found
    assert record.read_result(tmp_path / "none.json") == record.ServingProof()


@pytest.fixture
def page(serving: Any) -> Iterator[ModuleType]:
    yield importlib.import_module("render_serving")
    sys.modules.pop("render_serving")


def test_page_is_what_the_results_say_when_rendered(page: ModuleType) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.read_result(page.RESULT))


def test_page_shows_how_many_times_faster_when_a_peer_was_measured(page: ModuleType) -> None:
    peer = {**GOODPUT, "case": CASE | {"server": "triton"}, "sustainable_rps": 100.0, "capped": True}
    titles = {"rankine": "Rankine", "triton": "Triton server", "bentoml": "BentoML", "window": "window"}
    given = {"goodput": [peer, GOODPUT], "titles": titles, "missing": {"bentoml": "bentoml not installed"}}
    rendered = page.render(page.ServingProof.model_validate(given))
    own, other = [line for line in rendered.splitlines() if "| big |" in line]
    assert own.startswith("| **Rankine** | big | **200** (3 of 3) | 1.00 |")
    assert other.startswith("| Triton server | big | **100** (3 of 3) or more | 2.00 |")
    assert "* BentoML: bentoml not installed." in rendered
    assert "* Goodput, big, Exponential, MLPerf's numbers of candidates: window." in rendered
    assert (
        "| goodput at SLO, big, exponential | most of all servers | 200, next Triton server with 100 | met |"
        in rendered
    )


def test_page_says_so_when_there_are_no_results(page: ModuleType) -> None:
    assert "No results are committed yet." in page.render(page.ServingProof())
