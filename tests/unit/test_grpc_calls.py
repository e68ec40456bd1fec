"""Calls that wait, expire, are given up or refused: a gRPC server in this process, over a runner that waits for us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import end_without
from rankine.serving import ServeConfig
from rankine.serving.app import App
from rankine.serving.metrics import ServerMetrics
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from unit.numpy_served import NumpyRunner, numpy_model
from waiting import until

try:
    import grpc
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import rank_message, rank_method
from rankine.serving.grpc import rank as rank_module
from rankine.serving.grpc.messages import message_class
from rankine.serving.grpc.server import GrpcServer

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass
class Served:
    """A running server: its application, the runner that waits at its gate, and a channel to it."""

    app: App
    runner: NumpyRunner
    server: GrpcServer
    channel: grpc.aio.Channel

    def rank(self, rows: int, **options: Any) -> Any:
        return rank_method(self.channel)(rank_message(rows), **options)

    async def occupied(self) -> Any:
        """A call whose batch runs, at the closed gate."""
        self.runner.gate.clear()
        call = self.rank(3)
        await until(lambda: self.app.pool.busy and self.app.pool.queued_rows == 0)
        return call

    @property
    def counted(self) -> str:
        return self.app.metrics.render(0).decode()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def opened(model_folder: Path) -> ServedModel:
    return numpy_model(model_folder)


@asynccontextmanager
async def _serving(model: ServedModel, **options: Any) -> AsyncIterator[Served]:
    config = ServeConfig(artifact=model.artifact.path, grpc_port=0, **options)
    runner: Any = model.rungs[0].runner
    metrics = ServerMetrics()
    pool = Pool(model.rungs, tasks=1, workers=1, limits=config.limits, observe=metrics.ran)
    app = App(config, model, pool, metrics)
    runner.batches.clear()
    pool.start()
    app.open = True
    try:
        async with GrpcServer(app) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Served(app, runner, server, channel)
    finally:
        runner.gate.set()
        pool.close()
        app.close()


def _run(model: ServedModel, scenario: Callable[[Served], Awaitable[None]], **options: Any) -> None:
    async def whole() -> None:
        async with _serving(model, **options) as served:
            await scenario(served)

    asyncio.run(whole())


async def _error_of(call: Any) -> grpc.aio.AioRpcError:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call went well")


def test_call_ends_and_never_runs_when_its_deadline_passes_in_the_queue(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        first = await served.occupied()
        late = await _error_of(served.rank(5, timeout=0.2))
        assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        served.runner.gate.set()
        await first
        await served.rank(7)
        assert [batch.rows for batch in served.runner.batches] == [3, 7]
        assert 'rankine_requests_total{protocol="rank-grpc",status="504"} 1.0' in served.counted

    _run(opened, scenario)


def test_call_never_runs_and_is_counted_when_its_client_gives_it_up(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        first = await served.occupied()
        second = served.rank(5)
        await until(lambda: served.app.pool.queued_rows == 5)
        second.cancel()
        await until(lambda: 'status="499"} 1.0' in served.counted)
        served.runner.gate.set()
        await first
        await served.rank(7)
        assert [batch.rows for batch in served.runner.batches] == [3, 7]

    _run(opened, scenario)


def test_refusal_tells_when_to_come_back_when_the_queue_is_full(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        first = await served.occupied()
        second = served.rank(8)
        await until(lambda: served.app.pool.queued_rows == 8)
        for metadata in ((), (("x-rankine-candidates", "5"),)):
            full = await _error_of(served.rank(5, metadata=metadata))
            assert full.code() == grpc.StatusCode.UNAVAILABLE
            assert "queue is full" in (full.details() or "")
            trailers = dict(full.trailing_metadata())
            status = message_class("google.rpc.Status").FromString(trailers["grpc-status-details-bin"])
            info, retry = message_class("google.rpc.ErrorInfo")(), message_class("google.rpc.RetryInfo")()
            assert status.details[0].Unpack(info)
            assert status.details[1].Unpack(retry)
            assert (info.reason, info.domain) == ("CAPACITY", "rankine")
            assert retry.retry_delay.ToMilliseconds() == int(trailers["grpc-retry-pushback-ms"]) > 0
        served.runner.gate.set()
        assert len((await first).scores) == 3
        assert len((await second).scores) == 8

    _run(opened, scenario, max_candidates=10, max_queue_rows=10)


def test_what_was_taken_is_answered_when_the_server_stops(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        running = await served.occupied()
        queued = served.rank(5)
        await until(lambda: served.app.pool.queued_rows == 5)
        stopping = asyncio.ensure_future(served.server.stop(10))
        await asyncio.sleep(0.05)
        assert (await _error_of(served.rank(2, timeout=5))).code() == grpc.StatusCode.UNAVAILABLE
        served.runner.gate.set()
        assert len((await running).scores) == 3
        assert len((await queued).scores) == 5
        await stopping

    _run(opened, scenario)


def test_stream_answers_what_it_read_and_ends_as_unavailable_when_the_server_stops(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        first = await served.occupied()
        call = served.channel.stream_stream(STREAM)()
        await call.write(_infer_message("one"))
        await until(lambda: served.app.pool.queued_rows == 1)
        stopping = asyncio.ensure_future(served.server.stop(10))
        await asyncio.sleep(0.05)
        served.runner.gate.set()
        reply = message_class("inference.ModelStreamInferResponse").FromString(await call.read())
        assert (reply.infer_response.id, reply.error_message) == ("one", "")
        assert await call.code() == grpc.StatusCode.UNAVAILABLE
        await first
        await stopping

    _run(opened, scenario)


def test_stream_s_requests_never_run_when_the_client_gives_it_up(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        first = await served.occupied()
        call = served.channel.stream_stream(STREAM)()
        for name in ("one", "two"):
            await call.write(_infer_message(name))
        await until(lambda: served.app.pool.queued_rows == 2)
        call.cancel()
        await until(lambda: 'protocol="oip-grpc",status="499"} 2.0' in served.counted)
        served.runner.gate.set()
        await first
        await served.rank(7)
        assert [batch.rows for batch in served.runner.batches] == [3, 7]

    _run(opened, scenario)


def test_call_ends_when_its_message_does_not_come_in_time(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        call = served.channel.stream_unary("/rankine.Ranker/Rank")()  # opens the call, and sends nothing
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "did not come in time" in await call.details()

    _run(opened, scenario, max_read_s=0.05)


def test_message_is_refused_when_it_is_too_large_before_or_after_decompression(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        method = served.channel.unary_unary("/rankine.Ranker/Rank")
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            large = await _error_of(method(bytes(100_000), compression=compression))
            assert large.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    _run(opened, scenario, max_body_bytes=50_000)


def test_connection_is_refused_when_there_are_as_many_as_allowed(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        await served.rank(2)
        # A channel with other options has a connection of its own.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.server.port}", options=options) as second:
            refused = await _error_of(rank_method(second)(rank_message(2), timeout=10))
        assert refused.code() == grpc.StatusCode.UNAVAILABLE

    _run(opened, scenario, max_connections=1)


def test_error_comes_through_when_what_it_names_is_long(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        column = {"ö" * 20_000: {"integers": {"values": [7]}}}
        message = message_class("rankine.RankRequest")(request=column, candidates={"integers": {"values": [1000]}})
        error = await _error_of(rank_method(served.channel)(message))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (error.details() or "").startswith("request.ööö")

    _run(opened, scenario)


def test_internal_error_hides_its_cause_when_something_breaks(
    opened: ServedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> list[object]:
        raise ZeroDivisionError("of the house")

    async def scenario(served: Served) -> None:
        monkeypatch.setattr(rank_module, "rows_of_column", broken)
        error = await _error_of(served.rank(2))
        assert error.code() == grpc.StatusCode.INTERNAL
        assert "internal error" in (error.details() or "")
        assert "of the house" not in repr(error)

    _run(opened, scenario)
    assert "of the house" in caplog.text


def _infer_message(name: str) -> bytes:
    """One row of the flat form."""
    inputs = [
        ("user", "INT64", "int64_contents", [7]),
        ("country", "BYTES", "bytes_contents", [b"de"]),
        ("city", "BYTES", "bytes_contents", [b"Utrecht"]),
        ("recent.values", "INT64", "int64_contents", [1003]),
        ("recent.offsets", "INT32", "int_contents", [0, 1]),
        ("age", "FP32", "fp32_contents", [33.5, 1.0]),
        ("item", "INT64", "int64_contents", [1001]),
        ("tags.values", "BYTES", "bytes_contents", []),
        ("tags.offsets", "INT32", "int_contents", [0, 0]),
        ("price", "FP32", "fp32_contents", [2.5]),
        ("slot", "INT64", "int64_contents", [3]),
        ("match", "FP32", "fp32_contents", [0.5, 0.25]),
    ]
    message = message_class("inference.ModelInferRequest")(model_name="small", id=name)
    for tensor, datatype, field, values in inputs:
        shape = [1, 2] if tensor in ("age", "match") else [len(values)]
        added = message.inputs.add(name=tensor, datatype=datatype, shape=shape)
        getattr(added.contents, field).extend(values)
    return bytes(message.SerializeToString())
