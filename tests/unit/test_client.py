"""What a client sends of one request and what it tells of the answer, against servers that misbehave on order."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rankine.client import AsyncClient, ClientSettings, RequestRefused
from rankine.errors import BadRequest, DeadlineExceeded, EngineError, RankineError, UsageError
from unit.client_server import CALM, GOOD, IDS, REQUEST, Behavior, TestServer, run
from waiting import until


def test_rank_sends_body_and_headers_when_all_arguments_are_given() -> None:
    async def test() -> None:
        async with TestServer() as server, AsyncClient([server.url + "/"], CALM) as client:
            candidates = {"ids": np.array([5, 6]), "features": {"slot": np.array([0, 1])}}
            request = {"user": np.int64(7), "age": np.array([1.5])}
            reply = await client.rank(
                request, candidates, top_k=1, deadline_s=5, session="s", tenant="t", priority="low",
                prior=np.array([0.5, 0.25]), timings=True,
            )  # fmt: skip
            [received] = server.received
            assert received.path == "/v1/rank"
            assert received.body == {
                "request": {"user": 7, "age": [1.5]},
                "candidates": {"ids": [5, 6], "features": {"slot": [0, 1]}, "prior": [0.5, 0.25]},
                "top_k": 1,
                "timings": True,
            }
            sent = {
                name: received.headers[name] for name in ("x-rankine-session", "x-rankine-tenant", "x-rankine-priority")
            }
            assert sent == {"x-rankine-session": "s", "x-rankine-tenant": "t", "x-rankine-priority": "low"}
            assert received.headers["x-rankine-candidates"] == "2"
            assert received.headers["content-type"] == "application/json"
            assert 0 < float(received.headers["x-rankine-deadline-ms"]) <= 5000
            assert (reply.ids, reply.scores, reply.generation) == ([3, 1], [0.9, 0.25], 4)
            assert (reply.server, reply.attempts, reply.hedged) == (server.url, 1, False)

    run(test())


def test_rank_names_the_model_and_sends_its_headers_when_the_settings_say_so() -> None:
    async def test() -> None:
        settings = ClientSettings(model="a b", headers={"authorization": "Bearer key"})
        async with TestServer() as server, AsyncClient([server.url], settings) as client:
            await client.rank(REQUEST, ["x"])
            [received] = server.received
            assert received.path == "/v1/models/a%20b/rank"
            assert received.headers["authorization"] == "Bearer key"

    run(test())


def test_deadline_is_what_remains_less_the_allowance_when_a_request_is_sent_again() -> None:
    async def test() -> None:
        slow_refusal = Behavior(503, {}, {"retry-after": "0"}, delay_s=0.1)
        settings = CALM.model_copy(update={"network_allowance_s": 4.0})
        async with TestServer(lambda number: slow_refusal) as one, AsyncClient([one.url], settings) as client:
            with pytest.raises(RequestRefused):
                await client.rank(REQUEST, IDS, deadline_s=10)
            told = [float(received.headers["x-rankine-deadline-ms"]) for received in one.received]
            assert len(told) == settings.max_attempts
            assert told[0] <= 6000
            assert all(later <= earlier - 100 for earlier, later in pairwise(told))

    run(test())


def test_rank_raises_deadline_and_tells_the_server_when_an_answer_does_not_come() -> None:
    async def test() -> None:
        async with TestServer(lambda number: Behavior(delay_s=30)) as one, AsyncClient([one.url], CALM) as client:
            with pytest.raises(DeadlineExceeded, match="deadline passed before an answer came"):
                await client.rank(REQUEST, IDS, deadline_s=0.2)
            await until(lambda: one.abandoned == 1)
            assert len(one.received) == 1

    run(test())


def test_rank_sends_nothing_when_the_deadline_is_within_the_allowance() -> None:
    async def test() -> None:
        settings = CALM.model_copy(update={"network_allowance_s": 1.0})
        async with TestServer() as one, AsyncClient([one.url], settings) as client:
            with pytest.raises(DeadlineExceeded, match="It was not sent"):
                await client.rank(REQUEST, IDS, deadline_s=0.5)
            assert one.received == []

    run(test())


def test_rank_ends_when_the_client_is_closed_meanwhile() -> None:
    async def test() -> None:
        async with TestServer(lambda number: Behavior(delay_s=30)) as one:
            client = AsyncClient([one.url], CALM)
            waiting = asyncio.create_task(client.rank(REQUEST, IDS))
            await until(lambda: one.received)
            await client.close()
            with pytest.raises(UsageError, match="the client is closed"):
                await waiting

    run(test())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(400, "bad_request", BadRequest), (500, "engine", EngineError), (504, "deadline", DeadlineExceeded)],
)
def test_error_has_the_server_s_words_and_is_final_when_it_is_the_request_s(
    status: int, code: str, kind: type[RankineError]
) -> None:
    async def test() -> None:
        told = {"code": code, "message": "is wrong", "where": "request.usr", "got": "1", "allowed": "2", "hint": "Go."}
        bad = Behavior(status, {"error": told, "request_id": "r-9"})
        async with (
            TestServer(lambda number: bad) as one,
            TestServer(lambda number: bad) as two,
            AsyncClient([one.url, two.url], CALM) as client,
        ):
            with pytest.raises(kind) as caught:
                await client.rank(REQUEST, IDS)
            assert caught.value.as_dict() == told
            assert "r-9" in caught.value.__notes__[0]
            assert len(one.received) + len(two.received) == 1

    run(test())


def test_rank_reads_the_reply_when_a_later_server_says_more() -> None:
    async def test() -> None:
        more = {**GOOD, "ids": ["a", "b"], "tasks": {"ctr": [0.5, 0.25]}, "timings": {"run_ms": 0.5}, "rung": 2}
        async with TestServer(lambda number: Behavior(body=more)) as one, AsyncClient([one.url], CALM) as client:
            reply = await client.rank(REQUEST, ["a", "b"])
            assert reply.ids == ["a", "b"]
            assert (reply.tasks, reply.timings) == ({"ctr": [0.5, 0.25]}, {"run_ms": 0.5})

    run(test())


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"deadline_s": 0.0}, "deadline_s"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"session": "a\r\nx: y"}, "session"),
        ({"tenant": ""}, "tenant"),
        ({"priority": "urgent"}, "priority"),
        ({"candidates": {"features": {}}}, "candidates"),
    ],
)
def test_rank_refuses_and_sends_nothing_when_an_argument_cannot_be_sent(arguments: dict[str, Any], where: str) -> None:
    async def test() -> None:
        async with TestServer() as one, AsyncClient([one.url], CALM) as client:
            with pytest.raises(UsageError) as caught:
                await client.rank(REQUEST, **({"candidates": IDS} | arguments))
            assert caught.value.where == where
            assert one.received == []

    run(test())


def test_rank_says_what_it_cannot_write_when_a_value_is_no_json() -> None:
    async def test() -> None:
        async with AsyncClient(["http://127.0.0.1:1"], CALM) as client:
            with pytest.raises(BadRequest, match="a value of type object"):
                await client.rank({"user": object()}, IDS)

    run(test())


@pytest.mark.parametrize(
    ("servers", "where"),
    [
        ([], "servers"),
        ("http://one", "servers"),
        (["one:8080"], "servers[0]"),
        (["http://one", "http://one/"], "servers[1]"),
    ],
)
def test_client_refuses_servers_when_they_are_no_urls(servers: list[str], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        AsyncClient(servers)
    assert caught.value.where == where
