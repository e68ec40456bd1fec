"""Fixed batch and window: a batch starts when it has so many rows, or when its first request has waited so long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from serving.peers.process_arguments import parser_of, ranker_of
from serving.ranker import Prepared, Ranked, Ranker

Message = MutableMapping[str, Any]
_HEADERS = [(b"content-type", b"application/json")]


class Batcher:
    """Joins requests; one batch runs at a time, in a thread of its own.

    Args:
        rows: of a full batch, which starts at once.
        wait_s: of the first request of a batch that is not full.
    """

    def __init__(self, run: Callable[[list[Prepared]], list[Ranked]], *, rows: int, wait_s: float) -> None:
        self._run, self._rows, self._wait_s = run, rows, wait_s
        self._waiting: deque[tuple[Prepared, asyncio.Future[Ranked]]] = deque()
        self._waiting_rows = 0
        self._busy = self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1)

    async def rank(self, one: Prepared) -> Ranked:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ranked] = loop.create_future()
        self._waiting.append((one, future))
        self._waiting_rows += len(one.rows)
        if self._timer is None:
            self._timer = loop.call_later(self._wait_s, self._window_ends)
        self._start()
        return await future

    def _window_ends(self) -> None:
        self._due = True
        self._start()

    def _start(self) -> None:
        if self._busy or not self._waiting or not (self._due or self._waiting_rows >= self._rows):
            return
        loop = asyncio.get_running_loop()
        batch, rows = [self._waiting.popleft()], 0
        while self._waiting and (rows := rows + len(batch[-1][0].rows)) < self._rows:
            batch.append(self._waiting.popleft())
        self._waiting_rows -= sum(len(one.rows) for one, _ in batch)
        self._busy, self._due = True, False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self._wait_s, self._window_ends) if self._waiting else None
        running = loop.run_in_executor(self._thread, self._run, [one for one, _ in batch])
        running.add_done_callback(lambda done: self._finish(done, [future for _, future in batch]))

    def _finish(self, done: asyncio.Future[list[Ranked]], futures: list[asyncio.Future[Ranked]]) -> None:
        self._busy = False
        failure = done.exception()
        for number, future in enumerate(futures):
            if future.done():  # its client has left
                continue
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(done.result()[number])
        self._start()


def application(ranker: Ranker, batcher: Batcher) -> Callable[..., Awaitable[None]]:
    """The ASGI application: POST ranks, everything else says that the server is there."""

    async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            return
        raw, more = b"", True
        while more:
            part = await receive()
            raw, more = raw + part.get("body", b""), part.get("more_body", False)
        content = b"{}"
        if scope["method"] == "POST":
            one = ranker.prepare_json(raw)
            content = ranker.reply_json(one, await batcher.rank(one))
        headers = [*_HEADERS, (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--wait-us", type=int, required=True)
    given = parser.parse_args()
    ranker = ranker_of(given)
    batcher = Batcher(ranker.run, rows=given.rows, wait_s=given.wait_us / 1e6)
    app = application(ranker, batcher)
    uvicorn.run(app, port=given.port, loop="uvloop", http="httptools", lifespan="off", log_level="warning")


if __name__ == "__main__":
    main()
