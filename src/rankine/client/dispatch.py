"""Sends a request until it is answered: choice of server, retries and hedges within their budgets, never too late.

A ranking only reads, so that sending it twice does no harm but load. Sent again is what may be answered elsewhere: no
connection, a broken one, a refusal for want of room. An error of the request itself, or of the model, is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from time import monotonic

import msgspec

from rankine.client.balance import Balancer
from rankine.client.budget import Budget
from rankine.client.call import Call
from rankine.client.errors import RequestRefused, ServerUnreachable, TryElsewhere
from rankine.client.latencies import Latencies
from rankine.client.reply import RankReply
from rankine.client.servers import Server
from rankine.client.settings import ClientSettings
from rankine.client.wire import Answer, Broken, Transport
from rankine.errors import RankineError

__all__ = ["Dispatcher"]

_FIRST_BACKOFF_S = 0.01
Attempt = asyncio.Task[RankReply]


class Dispatcher:
    """The state that requests of one client share; used in one event loop."""

    def __init__(self, urls: Sequence[str], settings: ClientSettings, transport: Transport, random: Random) -> None:
        self._settings = settings
        self._transport = transport
        self._random = random
        self._balancer = Balancer([Server(url, settings) for url in urls], settings, random)
        self._retries = Budget(settings.retry_share, settings.retry_burst)
        self._hedges = Budget(settings.hedge_share, settings.hedge_burst)
        self._latencies = Latencies(settings.hedge_quantile)
        self._probes: set[asyncio.Task[None]] = set()

    @property
    def servers(self) -> tuple[Server, ...]:
        return self._balancer.servers

    async def send(self, call: Call) -> RankReply:
        """The first good answer.

        Raises:
            DeadlineExceeded: there was none in time.
            RequestRefused: the servers had no room, and the deadline or the budget left no more attempts.
            ServerUnreachable: likewise, where the last attempt had no whole answer.
            RankineError: what a server says of this request: see :func:`~rankine.client.errors.error_of`.
        """
        self._retries.deposit()
        self._hedges.deposit()
        try:
            async with asyncio.timeout(call.deadline_s - monotonic()):
                return await self._until_answered(call)
        except TimeoutError:
            raise call.too_late() from None

    async def close(self) -> None:
        """End the probes that are under way."""
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)

    async def _until_answered(self, call: Call) -> RankReply:
        while True:
            server = self._choose(call)
            try:
                return await self._hedged(call, server)
            except TryElsewhere as failure:
                wait_s = self._pause_s(call)
                if call.attempts >= self._settings.max_attempts or wait_s >= call.remaining_s():
                    raise failure.error from None
                if not self._retries.take():
                    failure.error.add_note("not sent again: the budget of retries is used up")
                    raise failure.error from None
            if wait_s > 0:
                await asyncio.sleep(wait_s)

    def _choose(self, call: Call) -> Server:
        now_s = monotonic()
        self._start_probes(now_s)
        pick = self._balancer.pick
        return (
            pick(now_s, session=call.session, avoid=call.tried)
            or pick(now_s, session=call.session)
            or self._balancer.last_resort(now_s)
        )

    def _pause_s(self, call: Call) -> float:
        """How long a failed call waits before it is sent again: not at all where another server can take it.

        Else until the first server that said when to come back wants it again, or for a random time that doubles.
        """
        now_s = monotonic()
        if self._balancer.pick(now_s, avoid=call.tried) is not None:
            return 0.0
        backoff_s = _FIRST_BACKOFF_S * 2.0 ** (call.attempts - 1) * self._random.uniform(0.5, 1.0)
        held_s = [server.retry_at_s - now_s for server in self.servers if not server.ejected]
        return max(backoff_s, min(held_s, default=0.0))

    async def _hedged(self, call: Call, server: Server) -> RankReply:
        """One attempt; and if it is slower than most, a second one elsewhere, of which the first answer counts."""
        slow_s = self._latencies.quantile_s(call.rows)
        if slow_s is None or len(self.servers) == 1 or not self._hedges:
            return await self._attempt(call, server)
        attempts = [asyncio.create_task(self._attempt(call, server))]
        try:
            await asyncio.wait(attempts, timeout=slow_s)
            if not attempts[0].done() and (other := self._hedge_server(call)) is not None:
                call.hedged = True
                attempts.append(asyncio.create_task(self._attempt(call, other)))
            return await _first_answer(attempts)
        finally:
            await _cancel(attempts)

    def _hedge_server(self, call: Call) -> Server | None:
        """Where to send a second time; None if there is no other server, no time or no budget."""
        if call.attempts >= self._settings.max_attempts or call.remaining_s() <= 0:
            return None
        other = self._balancer.pick(monotonic(), session=call.session, avoid=call.tried)
        return other if other is not None and self._hedges.take() else None

    async def _attempt(self, call: Call, server: Server) -> RankReply:
        """Send once and learn from how it went.

        Raises:
            TryElsewhere: another server may answer.
        """
        headers = call.headers_now()
        call.tried.append(server)
        server.outstanding += 1
        begin_s = monotonic()
        try:
            answer = await self._transport.rank(server.url, call.body, headers, call.remaining_s())
        except Broken as broken:
            server.failed(monotonic(), gone=broken.gone)
            raise TryElsewhere(ServerUnreachable(f"no answer: {broken}", where=server.url)) from None
        except (asyncio.CancelledError, TimeoutError):
            self._note_silence(call, server, begin_s)
            raise
        finally:
            server.outstanding -= 1
        return self._judge(call, server, answer, monotonic() - begin_s)

    def _note_silence(self, call: Call, server: Server, begin_s: float) -> None:
        """An attempt was taken back: its hedge was faster, its caller left, or its deadline passed without a word."""
        now_s = monotonic()
        self._latencies.observe(call.rows, now_s - begin_s)
        server.took_longer(now_s - begin_s, now_s)
        if call.remaining_s() <= 0:
            server.failed(now_s, gone=False)

    def _judge(self, call: Call, server: Server, answer: Answer, latency_s: float) -> RankReply:
        now_s, outcome = monotonic(), answer.outcome
        if answer.status in (500, 502):
            server.failed(now_s, gone=False)
        else:
            server.told(answer.headers, now_s)
        if not isinstance(outcome, RankineError):
            server.took(latency_s, now_s)
            self._latencies.observe(call.rows, latency_s)
            return msgspec.structs.replace(outcome, server=server.url, attempts=call.attempts, hedged=call.hedged)
        if answer.status == 503:
            server.refused(outcome.retry_after_s if isinstance(outcome, RequestRefused) else 0.0, now_s)
        raise TryElsewhere(outcome) if answer.status in (502, 503) else outcome

    def _start_probes(self, now_s: float) -> None:
        for server in self._balancer.due_for_probe(now_s):
            server.probing = True
            probe = asyncio.create_task(self._probe(server))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, server: Server) -> None:
        """Ask an ejected server whether it takes requests: no user's request is risked on it."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                ready = await self._transport.ready(server.url)
        except (Broken, TimeoutError):
            ready = False
        finally:
            server.probing = False
        if ready:
            server.told({}, monotonic())
        else:
            server.eject(monotonic())


async def _first_answer(attempts: Sequence[Attempt]) -> RankReply:
    """The first reply, or final error; if all should be tried elsewhere, such a failure."""
    pending = set(attempts)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        settled = [attempt for attempt in done if not isinstance(attempt.exception(), TryElsewhere)]
        if settled or not pending:
            return (settled or list(done))[0].result()


async def _cancel(attempts: Sequence[Attempt]) -> None:
    """Take back what is still under way, and wait until it is."""
    for attempt in attempts:
        attempt.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)
