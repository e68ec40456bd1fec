"""The harness of the serving proof: its traffic, queries, HTTP, wires and batcher."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import pytest

from rankine.errors import EngineError, UsageError
from rankine.observation.load.answer import Answer

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
