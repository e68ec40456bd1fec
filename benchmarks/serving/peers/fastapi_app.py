"""A plain FastAPI handler: each request runs alone, in a pool of threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI, Request, Response

from serving.peers.process_arguments import parser_of, ranker_of
from serving.ranker import Ranker


def application(ranker: Ranker, threads: int) -> FastAPI:
    """``POST /rank`` takes and gives JSON, both encoded by msgspec: quicker than models of pydantic."""
    app, pool = FastAPI(), ThreadPoolExecutor(threads)

    def answer(raw: bytes) -> bytes:
        one = ranker.prepare_json(raw)
        [ranked] = ranker.run([one])
        return ranker.reply_json(one, ranked)

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {}

    @app.post("/rank")
    async def rank(request: Request) -> Response:
        raw = await request.body()
        content = await asyncio.get_running_loop().run_in_executor(pool, answer, raw)
        return Response(content, media_type="application/json")

    return app


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    app = application(ranker_of(given), given.threads)
    uvicorn.run(app, port=given.port, loop="uvloop", http="httptools", lifespan="off", access_log=False)


if __name__ == "__main__":
    main()
