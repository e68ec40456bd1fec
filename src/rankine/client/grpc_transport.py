"""gRPC: the service ``rankine.Ranker`` with its typed columns; the load report comes in the trailers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from rankine.client.body import Candidates
from rankine.client.columns import columns_of, typed_values
from rankine.client.errors import ServerUnreachable, told_error
from rankine.client.reply import RankReply
from rankine.client.settings import ClientSettings
from rankine.client.wire import Answer, Broken
from rankine.errors import BadRequest, UsageError

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError
except ModuleNotFoundError as error:
    raise UsageError(
        f"the client needs {error.name} for gRPC", hint="Run: pip install 'rankine[client,grpc]'."
    ) from None

__all__ = ["GrpcTransport"]

_RANK = "/rankine.Ranker/Rank"
_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""``HealthCheckResponse(status=SERVING)``, in bytes."""
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_OPTIONS = (
    ("grpc.enable_retries", 0),  # ours have a budget and another server
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),  # when to try again is the balancer's to say
    ("grpc.max_receive_message_length", -1),
)


class GrpcTransport:
    """One channel to each server, made at its first request, in that request's event loop.

    Raises:
        UsageError: a certificate of the settings cannot be read.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        pool = descriptor_pool.DescriptorPool()
        # The server's own description, read as a file: nothing of the server is imported.
        raw = files("rankine").joinpath("serving", "grpc", "protos", "messages.binpb").read_bytes()
        for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file:
            pool.Add(file)
        self._request, self._reply, self._status, self._info, self._retry = (
            message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            for name in (
                "rankine.RankRequest",
                "rankine.RankReply",
                "google.rpc.Status",
                "google.rpc.ErrorInfo",
                "google.rpc.RetryInfo",
            )
        )
        self._credentials = _credentials_of(settings)
        self._metadata = tuple((name.lower(), value) for name, value in settings.headers.items())
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closed = False

    def encode(
        self,
        request: Mapping[str, Any],
        candidates: Candidates,
        *,
        top_k: int | None,
        prior: Sequence[float] | None,
        timings: bool,
    ) -> tuple[bytes, int]:
        """See :class:`~rankine.client.wire.Transport`. Columns take their types from the values."""
        given: dict[str, Any] = dict(candidates) if isinstance(candidates, Mapping) else {"ids": candidates}
        if "ids" not in given:
            raise UsageError("there are no ids", where="candidates", allowed="a list of ids, or {ids, features}")
        ids = typed_values(given["ids"], "candidates.ids")
        columns: dict[str, Any] = {"features": columns_of(given.get("features", {}), "candidates.features", one=False)}
        columns |= ids
        if prior is not None:
            columns["prior"] = list(prior)
        body = {"model": self._settings.model, "request": columns_of(request, "request", one=True), "timings": timings}
        try:
            message = self._request(candidates=columns, top_k=top_k, **body)
        except (TypeError, ValueError) as error:
            raise BadRequest(f"cannot be written as a message: {error}", where="request or candidates") from None
        return message.SerializeToString(), len(given["ids"])

    async def rank(self, server: str, body: bytes, headers: Mapping[str, str], remaining_s: float) -> Answer:
        """See :class:`~rankine.client.wire.Transport`; the call's own timeout is the deadline."""
        try:
            call = self._channel(server).unary_unary(_RANK)(
                body, timeout=max(remaining_s, 0.0), metadata=(*self._metadata, *headers.items())
            )
            raw = await call
            trailers = _texts(await call.trailing_metadata())
        except grpc.aio.AioRpcError as failure:
            return self._failed(failure, server)
        except asyncio.CancelledError:
            if self._closed:  # by closing its channel, which looks the same
                raise UsageError("the client is closed") from None
            raise
        try:
            return Answer(200, trailers, _ranking(self._reply.FromString(raw)))
        except DecodeError:
            return Answer(502, trailers, ServerUnreachable("the answer is no ranking", where=server))

    async def ready(self, server: str) -> bool:
        """See :class:`~rankine.client.wire.Transport`; asks ``grpc.health.v1``."""
        try:
            call = self._channel(server).unary_unary(_HEALTH)
            return bool(await call(b"", timeout=self._settings.connect_timeout_s) == _SERVING)
        except grpc.aio.AioRpcError as failure:
            raise Broken(failure.details() or failure.code().name, gone=True) from None

    async def close(self) -> None:
        self._closed = True
        for channel in self._channels.values():
            await channel.close()

    def _channel(self, server: str) -> grpc.aio.Channel:
        if self._closed:
            raise UsageError("the client is closed")
        if server not in self._channels:
            url = urlsplit(server)
            self._channels[server] = (
                grpc.aio.secure_channel(url.netloc, self._credentials, _OPTIONS)
                if url.scheme == "grpcs"
                else grpc.aio.insecure_channel(url.netloc, _OPTIONS)
            )
        return self._channels[server]

    def _failed(self, failure: grpc.aio.AioRpcError, server: str) -> Answer:
        """The error that a server told; a call that none has answered is broken or too late."""
        trailers = _texts(failure.trailing_metadata())
        text = failure.details() or failure.code().name
        if "x-request-id" not in trailers:
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError
            if failure.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise Broken(text, gone="failed to connect" in text)
        status = _STATUS.get(failure.code(), 500)
        fields, retry_after_s = self._details(failure.trailing_metadata())
        error = told_error(status, {"message": text, **fields}, server, trailers.get("x-request-id", ""), retry_after_s)
        return Answer(status, trailers, error)

    def _details(self, metadata: Any) -> tuple[dict[str, str], float]:
        """Fields of the error, and seconds after which to come back, of ``grpc-status-details-bin``."""
        raw = next((value for name, value in metadata or () if name == "grpc-status-details-bin"), b"")
        fields: dict[str, str] = {}
        retry_after_s = 0.0
        try:
            details = self._status.FromString(raw).details
        except DecodeError:  # a proxy's
            details = ()
        info, retry = self._info(), self._retry()
        for detail in details:
            if detail.Unpack(info):
                fields = {"code": info.reason.lower(), **info.metadata}
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        return fields, retry_after_s


def _ranking(message: Any) -> RankReply:
    """The reply in a message."""
    field = message.WhichOneof("ids")
    timings = {part.name: value for part, value in message.timings.ListFields()} if message.HasField("timings") else {}
    return RankReply(
        ids=list(getattr(message, field).values) if field else [],
        scores=list(message.scores),
        request_id=message.request_id,
        artifact=message.artifact,
        generation=message.generation,
        variant=message.variant,
        engine=message.engine,
        tasks={name: list(scores.values) for name, scores in message.tasks.items()},
        timings=timings,
    )


def _texts(metadata: Any) -> dict[str, str]:
    return {name: value for name, value in metadata or () if isinstance(value, str)}


def _credentials_of(settings: ClientSettings) -> grpc.ChannelCredentials:
    def read(path: Any) -> bytes | None:
        return None if path is None else path.read_bytes()

    try:
        return grpc.ssl_channel_credentials(
            read(settings.ca_file), read(settings.key_file), read(settings.certificate_file)
        )
    except OSError as error:
        where = "settings.ca_file, certificate_file or key_file"
        raise UsageError("cannot be read as a certificate", where=where, got=str(error)) from None
