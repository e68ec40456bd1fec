"""HTTP as the generator needs it: keep-alive connections that are never waited for, outcomes instead of exceptions."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Any, Self

import msgspec

from rankine.errors import UsageError
from rankine.observation.load.answer import Answer, Body, read_reply
from rankine.observation.load.config import LoadConfig

try:
    import aiohttp
except ModuleNotFoundError:
    raise UsageError("the load generator needs aiohttp", hint="Run: pip install 'rankine[bench]'.") from None

__all__ = ["Transport"]


class Transport:
    """One HTTP session to one server; use as an asynchronous context manager."""

    def __init__(self, config: LoadConfig) -> None:
        self._config = config
        self._target = f"{config.url}/v1/models/{config.model}/rank" if config.model else f"{config.url}/v1/rank"
        headers = {"content-type": "application/json"}
        if config.deadline_ms is not None:
            headers["x-rankine-deadline-ms"] = f"{config.deadline_ms:g}"
        # As many connections as there can be: in an open loop a request that waits for a free one is not yet sent.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_connection_limit(), keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=config.timeout_s),
            headers=headers,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def rank(self, body: Body, due_s: float, start: float) -> Answer:
        """Send ``body`` and wait for its answer; times count from ``start`` (a ``perf_counter`` reading)."""
        sent_s = perf_counter() - start
        try:
            async with self._session.post(self._target, data=body.payload) as response:
                raw = await response.read()
                done_s = perf_counter() - start
        except TimeoutError:
            return Answer(due_s, sent_s, perf_counter() - start, "timeout", False, body.rows)
        except aiohttp.ClientConnectorError:
            return Answer(due_s, sent_s, perf_counter() - start, "unreachable", False, body.rows)
        except (aiohttp.ClientError, OSError):
            return Answer(due_s, sent_s, perf_counter() - start, "disconnected", False, body.rows)
        if response.status != 200:
            return Answer(due_s, sent_s, done_s, str(response.status), False, body.rows)
        correct, timings = read_reply(raw, body)
        return Answer(due_s, sent_s, done_s, "200", correct, body.rows, timings)

    async def examples(self, count: int, candidates: int) -> list[dict[str, Any]]:
        """Valid requests that the server makes up, ``candidates`` each.

        Raises:
            UsageError: nobody listens at the URL, or the server has no such model or no examples.
        """
        name = self._config.model or await self._default_model()
        query = f"count={count}&candidates={candidates}&seed={self._config.seed}"
        reply = await self._get(f"/v1/models/{name}/examples?{query}")
        return list(reply["examples"])

    async def _default_model(self) -> str:
        reply = await self._get("/v1/models")
        default = reply.get("default")
        return str(default or reply["models"][0]["name"])

    async def _get(self, path: str) -> dict[str, Any]:
        url = self._config.url + path
        try:
            async with self._session.get(url) as response:
                raw = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UsageError(
                "no answer", where=url, got=f"{type(error).__name__}: {error}", hint="Is the server running?"
            ) from None
        if response.status != 200:
            text = raw.decode("utf-8", errors="replace")
            raise UsageError(f"the server said {response.status}", where=url, got=text, hint="Or pass `requests_file`.")
        return msgspec.json.decode(raw, type=dict[str, Any])


def _connection_limit() -> int:
    """Half the file descriptors that this process may have: beyond its limit, requests would fail on our side."""
    try:
        import resource
    except ModuleNotFoundError:  # not a Unix
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 16_384 if soft == resource.RLIM_INFINITY else max(64, min(16_384, soft // 2))
