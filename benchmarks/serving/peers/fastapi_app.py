"""FastAPI handlers: each request runs alone, in a pool of threads; as the documentation has it, or tuned."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from serving.peers.process_arguments import parser_of, ranker_of
from serving.ranker import Ranker


class Candidates(BaseModel):
    ids: list[int]


class RankBody(BaseModel):
    request: dict[str, Any]
    candidates: Candidates
    top_k: int


class Timings(BaseModel):
    run_ms: float


class RankReply(BaseModel):
    ids: list[int]
    scores: list[float]
    timings: Timings


def plain(ranker: Ranker) -> FastAPI:
    """Models of pydantic in and out; the handler is no coroutine, so Starlette runs it in its pool of 40 threads."""
    app = _with_ready()

    @app.post("/rank")
    def rank(body: RankBody) -> RankReply:
        ids = body.candidates.ids
        one = ranker.prepare(body.request, ids, np.array(ids, np.int64), body.top_k)
        [ranked] = ranker.run([one])
        best = [ids[at] for at in ranked.order.tolist()]
        return RankReply(ids=best, scores=ranked.scores.tolist(), timings=Timings(run_ms=ranked.run_ms))

    return app


def tuned(ranker: Ranker, threads: int) -> FastAPI:
    """Bytes in and out, encoded by msgspec, and a pool of as many threads as are asked for."""
    app, pool = _with_ready(), ThreadPoolExecutor(threads)

    def answer(raw: bytes) -> bytes:
        one = ranker.prepare_json(raw)
        [ranked] = ranker.run([one])
        return ranker.reply_json(one, ranked)

    @app.post("/rank")
    async def rank(request: Request) -> Response:
        raw = await request.body()
        content = await asyncio.get_running_loop().run_in_executor(pool, answer, raw)
        return Response(content, media_type="application/json")

    return app


def _with_ready() -> FastAPI:
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {}

    return app


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, help="of the tuned handler; the plain one without it")
    given = parser.parse_args()
    ranker = ranker_of(given)
    app = plain(ranker) if given.threads is None else tuned(ranker, given.threads)
    uvicorn.run(app, port=given.port, loop="uvloop", http="httptools", lifespan="off", access_log=False)


if __name__ == "__main__":
    main()
