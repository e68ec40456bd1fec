"""``ModelStreamInfer``: many requests and replies over one call, in order, several under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from rankine.errors import CapacityExceeded, RankineError
from rankine.serving.grpc.calls import Calls, parse
from rankine.serving.grpc.infer import LABEL, STREAM_PATH, InferenceService
from rankine.serving.grpc.messages import message_class
from rankine.serving.http import Request

__all__ = ["InferenceStream"]

_AT_ONCE = 16
"""Requests of one stream that are under way; more wait in the connection, which gRPC then stops filling."""
_InferRequest = message_class("inference.ModelInferRequest")
_Response = message_class("inference.ModelStreamInferResponse")
_Pending = asyncio.Queue["asyncio.Task[bytes] | None"]


class InferenceStream:
    """The handler of the stream.

    A request that fails is answered by its error; the stream goes on. Where the server goes away, what was read is
    answered, then the stream ends as unavailable, so that its client goes elsewhere.
    """

    def __init__(self, service: InferenceService, calls: Calls) -> None:
        self._service = service
        self._calls = calls
        self._closing = asyncio.Event()

    def handler(self) -> Any:
        """For the method ``ModelStreamInfer``."""
        return grpc.stream_stream_rpc_method_handler(self._handle)

    def close(self) -> None:
        """Read nothing more from any stream."""
        self._closing.set()

    async def _handle(self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        first = self._calls.request(STREAM_PATH, context)
        await self._calls.admit(first, context)
        pending: _Pending = asyncio.Queue(_AT_ONCE)
        reader = asyncio.create_task(self._read(messages, context, pending))
        try:
            while (task := await pending.get()) is not None:
                yield await task
            await reader
        finally:
            reader.cancel()
            while not pending.empty():
                left = pending.get_nowait()
                if left is not None:
                    left.cancel()
        if self._closing.is_set():
            gone = CapacityExceeded("the server is going away", hint="Open the stream again: another one answers.")
            await self._calls.abort(context, first, gone)

    async def _read(self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext, pending: _Pending) -> None:
        """Put the answer of each message in order, until there are no more or the server goes away."""
        closing = asyncio.create_task(self._closing.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(messages, None))
                await asyncio.wait({following, closing}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    break
                raw = following.result()
                if raw is None:
                    break
                request = self._calls.request(STREAM_PATH, context)
                await pending.put(asyncio.create_task(self._answer(request, raw, context)))
        finally:
            closing.cancel()
        await pending.put(None)

    async def _answer(self, request: Request, raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        async def read() -> bytes:
            return raw

        try:
            return await self._calls.run(
                request, LABEL, lambda: self._service.answer_in_stream(request, read), context.time_remaining
            )
        except RankineError as error:
            response = _Response(error_message=str(error))
            response.infer_response.id = _id_of(raw)
            return bytes(response.SerializeToString())


def _id_of(raw: bytes) -> str:
    """By which a client knows which of its requests failed."""
    try:
        return str(parse(_InferRequest, raw).id)
    except RankineError:
        return ""
