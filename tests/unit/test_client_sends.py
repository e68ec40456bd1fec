"""Which server gets a request, and when it is sent again, against servers that misbehave on order."""

from __future__ import annotations

import asyncio

import pytest

from rankine.client import AsyncClient, ClientSettings, RequestRefused, ServerUnreachable
from unit.client_server import CALM, IDS, REQUEST, Behavior, TestServer, full, run
from waiting import until


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
