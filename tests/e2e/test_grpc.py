"""``tritonclient.grpc``, as it comes, and the rank service, against the server."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conftest import end_without
from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import rank_body
from e2e.triton_inputs import ROWS, flat_values, rank_values, ranked
from rankine.serving import ServeConfig

try:
    import grpc
    import tritonclient.grpc as triton
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
    from tritonclient.grpc import aio
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import grpc_address, rank_message, rank_method, tried

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def grpc_server(config: ServeConfig) -> Iterator[ServerProcess]:
    started = start_server(config.model_copy(update={"grpc_port": 0}))
    yield started
    assert started.stop() == 0


@pytest.fixture
def client(grpc_server: ServerProcess) -> Iterator[Any]:
    made = triton.InferenceServerClient(grpc_address(grpc_server))
    yield made
    made.close()


@pytest.fixture
def channel(grpc_server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address(grpc_server)) as made:
        yield made


def _inputs(values: list[tuple[str, str, np.ndarray]]) -> list[Any]:
    made = []
    for name, datatype, array in values:
        made.append(triton.InferInput(name, list(array.shape), datatype))
        made[-1].set_data_from_numpy(array)
    return made


def test_metadata_and_health_are_read_when_asked(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.is_model_ready("small.rank")
    assert not client.is_model_ready("large")
    assert client.get_server_metadata().name == "rankine"
    metadata = client.get_model_metadata("small.rank")
    assert (metadata.inputs[0].name, metadata.inputs[0].datatype, list(metadata.inputs[0].shape)) == (
        "ids", "INT64", [-1],
    )  # fmt: skip
    assert [output.name for output in metadata.outputs] == ["ids", "scores", "logits"]
    assert client.get_model_metadata("small", metadata.versions[0]).name == "small"
    config = client.get_model_config("small").config
    types = {tensor.name: triton.model_config_pb2.DataType.Name(tensor.data_type) for tensor in config.input}
    assert (types["user"], types["country"], types["price"]) == ("TYPE_INT64", "TYPE_STRING", "TYPE_FP32")
    assert config.max_batch_size == 0


@pytest.mark.parametrize("named", [False, True])
def test_rank_form_agrees_with_the_rank_endpoint_when_asked(
    grpc_server: ServerProcess, client: Any, named: bool
) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("scores", "ids")] if named else None
    result = client.infer(
        "small.rank", _inputs(rank_values()), outputs=wanted, request_id="r1", parameters={"top_k": 20}
    )
    expected = ranked(grpc_server)
    assert result.as_numpy("ids").tolist() == list(expected)[:20]
    assert result.as_numpy("scores").tolist() == pytest.approx(list(expected.values())[:20], abs=1e-6)
    assert result.get_response().id == "r1"
    assert (result.as_numpy("logits") is None) is named


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_flat_form_agrees_with_the_rank_endpoint_when_messages_are_packed(
    grpc_server: ServerProcess, client: Any, packing: str | None
) -> None:
    result = client.infer("small", _inputs(flat_values()), compression_algorithm=packing)
    expected = ranked(grpc_server)
    scores = dict(zip(range(1000, 1000 + ROWS), result.as_numpy("scores").tolist(), strict=True))
    assert [scores[item] for item in expected] == pytest.approx(list(expected.values()), abs=1e-6)


def test_scores_agree_when_the_asyncio_client_asks(grpc_server: ServerProcess) -> None:
    async def ask() -> list[Any]:
        async with aio.InferenceServerClient(grpc_address(grpc_server)) as client:
            asked = [client.infer("small.rank", _inputs(rank_values()), parameters={"top_k": k}) for k in (1, 5, 20)]
            return list(await asyncio.gather(*asked))

    expected = list(ranked(grpc_server))
    assert [result.as_numpy("ids").tolist() for result in asyncio.run(ask())] == [
        expected[:1], expected[:5], expected[:20],
    ]  # fmt: skip


def test_stream_answers_in_order_and_goes_on_when_a_request_in_it_fails(
    grpc_server: ServerProcess, client: Any
) -> None:
    replies: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: replies.put((result, error)))
    for number in range(40):
        inputs = _inputs(rank_values()) if number != 7 else _inputs(rank_values()[:-1])
        client.async_stream_infer("small.rank", inputs, request_id=str(number), parameters={"top_k": number + 1})
    got = [replies.get(timeout=30) for _ in range(40)]
    client.stop_stream()
    expected = list(ranked(grpc_server))
    for number, (result, error) in enumerate(got):
        if number == 7:
            assert "match: required input is missing" in str(error)
            continue
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("ids").tolist() == expected[: number + 1]


def test_error_names_the_input_and_has_a_code_when_one_is_missing(client: Any) -> None:
    with pytest.raises(Exception, match="match: required input is missing") as caught:
        client.infer("small.rank", _inputs(rank_values()[:-1]))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_error_names_what_is_served_when_the_model_is_unknown(client: Any) -> None:
    with pytest.raises(Exception, match="Did you mean 'small'") as caught:
        client.infer("smal", _inputs(flat_values()))
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_rank_service_agrees_with_the_rank_endpoint_when_asked(
    grpc_server: ServerProcess, channel: grpc.Channel
) -> None:
    reply, call = rank_method(channel).with_call(
        rank_message(ROWS, top_k=20, timings=True), metadata=[("x-request-id", "abc")]
    )
    expected = grpc_server.ask("POST", "/v1/rank", rank_body(ROWS, top_k=20)).json
    assert list(reply.integers.values) == expected["ids"]
    assert list(reply.scores) == pytest.approx(expected["scores"], abs=1e-7)
    assert (reply.artifact, reply.variant, reply.engine, reply.generation) == tuple(
        expected[name] for name in ("artifact", "variant", "engine", "generation")
    )
    assert reply.timings.batch_rows == ROWS
    assert reply.timings.run_ms > 0
    trailers = dict(call.trailing_metadata())
    assert reply.request_id == trailers["x-request-id"] == "abc"
    assert float(trailers["x-rankine-predicted-wait-ms"]) >= 0


@pytest.mark.parametrize(
    ("options", "metadata", "code", "text"),
    [
        ({"model": "large"}, (), grpc.StatusCode.NOT_FOUND, "no such model"),
        ({"version": "0"}, (), grpc.StatusCode.NOT_FOUND, "version is not served"),
        ({}, (("x-rankine-candidates", "4"),), grpc.StatusCode.INVALID_ARGUMENT, "another length than announced"),
        ({}, (("x-rankine-candidates", "9999"),), grpc.StatusCode.INVALID_ARGUMENT, "too many candidates"),
        (
            {},
            (("x-rankine-deadline-ms", "-1"),),
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "deadline passed before the request ran",
        ),
    ],
)
def test_call_is_refused_with_its_code_when_it_cannot_be_answered(
    channel: grpc.Channel, options: dict[str, Any], metadata: Any, code: Any, text: str
) -> None:
    error: Any = tried(rank_method(channel), rank_message(5, **options), metadata=metadata)
    assert error.code() == code
    assert text in error.details()


def test_call_is_refused_when_the_message_is_none(channel: grpc.Channel) -> None:
    error: Any = tried(channel.unary_unary("/rankine.Ranker/Rank"), b"\xff\xff")
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "rankine.RankRequest" in error.details()


def test_calls_are_counted_when_they_are_answered(grpc_server: ServerProcess, channel: grpc.Channel) -> None:
    rank_method(channel)(rank_message(5))
    text = grpc_server.ask("GET", "/metrics").body.decode()
    assert 'rankine_requests_total{protocol="rank-grpc",status="200"}' in text


def test_health_says_serving_when_the_server_is_ready(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "ready", "live", "rankine.Ranker", "inference.GRPCInferenceService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    error: Any = tried(stub.Check, health_pb2.HealthCheckRequest(service="other"))
    assert error.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_tells_services_and_messages_when_asked(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="rankine.Ranker"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
    ]
    listed, ranker, health = stub.ServerReflectionInfo(iter(asked))
    names = {service.name for service in listed.list_services_response.service}
    assert {"rankine.Ranker", "inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    assert b"RankRequest" in ranker.file_descriptor_response.file_descriptor_proto[0]
    assert health.file_descriptor_response.file_descriptor_proto
