"""The client against servers that misbehave on order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rankine.client import AsyncClient, ClientSettings, RequestRefused, ServerUnreachable
from rankine.errors import BadRequest, DeadlineExceeded, EngineError, RankineError, UsageError
from unit.client_server import GOOD, Behavior, TestServer, full

REQUEST = {"user": 7}
IDS = [1, 2, 3]
CALM = ClientSettings(deadline_s=20, hedge_share=0, network_allowance_s=0)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def until(condition: Any) -> None:
    """Wait for something that is bound to come; the test's own time limit is the limit."""
    while not condition():
        await asyncio.sleep(0.005)


def test_rank_sends_body_and_headers_when_all_arguments_are_given() -> None:
    async def test() -> None:
        async with TestServer() as server, AsyncClient([server.url + "/"], CALM) as client:
            candidates = {"ids": np.array([5, 6]), "features": {"slot": np.array([0, 1])}}
            request = {"user": np.int64(7), "age": np.array([1.5])}
            reply = await client.rank(
                request, candidates, top_k=1, deadline_s=5, session="s", tenant="t",
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
            sent = {name: received.headers[name] for name in ("x-rankine-session", "x-rankine-tenant")}
            assert sent == {"x-rankine-session": "s", "x-rankine-tenant": "t"}
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


def test_rank_picks_the_idle_server_when_the_other_tells_of_a_long_wait() -> None:
    async def test() -> None:
        busy = Behavior(headers={"x-rankine-predicted-wait-ms": "800"})
        settings = CALM.model_copy(update={"half_life_s": 1000.0})
        async with (
            TestServer(lambda number: busy) as one,
            TestServer() as two,
            AsyncClient([one.url, two.url], settings) as client,
        ):
            await until_each_was_asked(client, one, two)
            before = len(one.received)
            replies = [await client.rank(REQUEST, IDS) for _ in range(20)]
            assert {reply.server for reply in replies} == {two.url}
            assert len(one.received) == before

    run(test())


async def until_each_was_asked(client: AsyncClient, *servers: TestServer) -> None:
    """A session each: their servers differ, whatever was reported."""
    number = 0
    while not all(server.received for server in servers):
        await client.rank(REQUEST, IDS, session=f"user-{number}")
        number += 1


def test_requests_go_to_the_other_server_when_one_owes_answers() -> None:
    async def test() -> None:
        stuck = Behavior(delay_s=30)
        async with (
            TestServer(lambda number: stuck) as one,
            TestServer() as two,
            AsyncClient([one.url, two.url], CALM) as client,
        ):
            waiting = [asyncio.create_task(client.rank(REQUEST, IDS)) for _ in range(8)]
            await until(lambda: sum(task.done() for task in waiting) + len(one.received) == 8)
            for _ in range(20):
                await client.rank(REQUEST, IDS)
            assert (
                len(one.received) == 4
            )  # half of those that were sent while nothing was known, and none of the others
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(test())


@pytest.mark.parametrize(
    "bad",
    [full(), Behavior(cut=0), Behavior(cut=60), Behavior(502, b"<html>"), Behavior(200, b"not a ranking")],
    ids=["full", "closes before the reply", "closes mid-reply", "bad gateway", "no ranking"],
)
def test_request_is_answered_elsewhere_when_one_server_misbehaves(bad: Behavior) -> None:
    async def test() -> None:
        async with (
            TestServer(lambda number: bad) as one,
            TestServer() as two,
            AsyncClient([one.url, two.url], CALM) as client,
        ):
            replies = [await client.rank(REQUEST, IDS) for _ in range(10)]
            assert {reply.server for reply in replies} == {two.url}
            assert 1 <= len(one.received) <= CALM.eject_after
            assert sum(reply.attempts - 1 for reply in replies) == len(one.received)

    run(test())


def test_server_is_left_out_after_one_request_when_nobody_listens_there() -> None:
    async def test() -> None:
        async with TestServer() as one, TestServer() as two:
            await one.kill()
            async with AsyncClient([one.url, two.url], CALM) as client:
                replies = [await client.rank(REQUEST, IDS) for _ in range(20)]
                assert [reply.attempts for reply in replies].count(2) == 1

    run(test())


def test_server_comes_back_when_its_probe_is_answered() -> None:
    async def test() -> None:
        settings = CALM.model_copy(update={"eject_s": 0.05})
        async with TestServer() as one, TestServer() as two:
            await one.kill()
            async with AsyncClient([one.url, two.url], settings) as client:
                while (await client.rank(REQUEST, IDS)).attempts == 1:
                    pass
                one.ready = False
                await one.start()
                while one.probes < 2:
                    await client.rank(REQUEST, IDS)
                assert one.received == []  # it said that it takes no requests yet
                one.ready = True
                while not one.received:
                    await client.rank(REQUEST, IDS)

    run(test())


def test_rank_raises_where_and_why_when_no_server_listens() -> None:
    async def test() -> None:
        async with TestServer() as one:
            await one.kill()
            async with AsyncClient([one.url], CALM) as client:
                with pytest.raises(ServerUnreachable, match="no answer") as caught:
                    await client.rank(REQUEST, IDS)
                assert caught.value.where == one.url

    run(test())


def test_retries_end_when_their_budget_is_used_up() -> None:
    async def test() -> None:
        settings = CALM.model_copy(update={"retry_share": 0.1, "retry_burst": 2, "eject_after": 1000})
        async with TestServer(lambda number: Behavior(cut=0)) as one, AsyncClient([one.url], settings) as client:
            for _ in range(20):
                with pytest.raises(ServerUnreachable):
                    await client.rank(REQUEST, IDS)
            # The bucket starts full (2), and 20 requests bring 2 more.
            assert 22 <= len(one.received) <= 24

    run(test())


def test_retry_waits_as_long_as_retry_after_says_when_there_is_one_server() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        times: list[float] = []

        def behave(number: int) -> Behavior:
            times.append(loop.time())
            return full("1") if number == 0 else Behavior()

        async with TestServer(behave) as one, AsyncClient([one.url], CALM) as client:
            assert (await client.rank(REQUEST, IDS)).attempts == 2
            assert times[1] - times[0] >= 1.0

    run(test())


def test_refusal_is_told_at_once_when_the_deadline_leaves_no_time_to_come_back() -> None:
    async def test() -> None:
        async with TestServer(lambda number: full("30")) as one, AsyncClient([one.url], CALM) as client:
            with pytest.raises(RequestRefused, match="the queue is full") as caught:
                await client.rank(REQUEST, IDS, deadline_s=5)
            assert caught.value.retry_after_s == 30
            assert caught.value.hint == "Try again in 1 s."
            assert len(one.received) == 1

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


HEDGING = ClientSettings(deadline_s=20, hedge_share=0.05, hedge_burst=2, half_life_s=1000.0)


async def warm_up(client: AsyncClient, servers: list[TestServer]) -> None:
    """Answers enough to know what is slow; then some of another size, which bring back the budget of hedges."""
    for _ in range(60):
        await client.rank(REQUEST, IDS)
    for _ in range(40):
        await client.rank(REQUEST, IDS * 100)
    for server in servers:
        server.received.clear()


def test_hedge_wins_and_the_loser_is_taken_back_when_the_first_answer_is_slow() -> None:
    async def test() -> None:
        async with TestServer() as one, TestServer() as two, AsyncClient([one.url, two.url], HEDGING) as client:
            await warm_up(client, [one, two])
            asked: list[TestServer] = []

            def slow_if_first(server: TestServer) -> Behavior:
                asked.append(server)
                return Behavior(delay_s=30) if len(asked) == 1 else Behavior()

            one.behave = lambda number: slow_if_first(one)
            two.behave = lambda number: slow_if_first(two)
            reply = await client.rank(REQUEST, IDS)
            assert (reply.hedged, reply.attempts) == (True, 2)
            assert asked[0] is not asked[1]
            assert reply.server == asked[1].url
            await until(lambda: asked[0].abandoned == 1)

    run(test())


def test_hedges_end_when_their_budget_is_used_up() -> None:
    async def test() -> None:
        async with TestServer() as one, TestServer() as two, AsyncClient([one.url, two.url], HEDGING) as client:
            await warm_up(client, [one, two])
            slow = Behavior(delay_s=0.3)
            one.behave = two.behave = lambda number: slow
            replies = await asyncio.gather(*(client.rank(REQUEST, IDS) for _ in range(10)))
            assert sum(reply.hedged for reply in replies) == HEDGING.hedge_burst
            assert len(one.received) + len(two.received) == 10 + HEDGING.hedge_burst

    run(test())


def test_first_answer_counts_when_the_hedge_is_refused() -> None:
    async def test() -> None:
        async with TestServer() as one, TestServer() as two, AsyncClient([one.url, two.url], HEDGING) as client:
            await warm_up(client, [one, two])
            asked: list[TestServer] = []

            def slow_then_full(server: TestServer) -> Behavior:
                asked.append(server)
                return Behavior(delay_s=0.5) if len(asked) == 1 else full()

            one.behave = lambda number: slow_then_full(one)
            two.behave = lambda number: slow_then_full(two)
            reply = await client.rank(REQUEST, IDS)
            assert reply.server == asked[0].url
            assert len(asked) == 2

    run(test())


def test_session_stays_at_one_server_when_all_are_well() -> None:
    async def test() -> None:
        async with TestServer() as one, TestServer() as two, AsyncClient([one.url, two.url], CALM) as client:
            homes = set()
            for number in range(16):
                served = {(await client.rank(REQUEST, IDS, session=f"user-{number}")).server for _ in range(4)}
                assert len(served) == 1
                homes |= served
            assert homes == {one.url, two.url}

    run(test())


def test_session_spills_over_when_its_server_is_overloaded() -> None:
    async def test() -> None:
        settings = CALM.model_copy(update={"half_life_s": 1000.0})
        async with TestServer() as one, TestServer() as two, AsyncClient([one.url, two.url], settings) as client:
            home = (await client.rank(REQUEST, IDS, session="user")).server
            busy = Behavior(headers={"x-rankine-predicted-wait-ms": "5000"})
            (one if home == one.url else two).behave = lambda number: busy
            await client.rank(REQUEST, IDS, session="user")
            assert (await client.rank(REQUEST, IDS, session="user")).server != home

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
