"""TLS, mutual TLS and API keys over both transports, on a real server."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import end_without
from e2e.serve_process import ServerProcess, run_server, start_server
from e2e.small_served import rank_body
from rankine.serving import ServeConfig

try:
    import grpc
    import tritonclient.grpc as triton
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    from e2e.certificates import Authority, Pair
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import grpc_address, rank_message, rank_method, tried

pytestmark = pytest.mark.e2e
OLD, NEW = "k3Yf8xQv1TzR7mWcL0pB", "new-key-of-enough-letters"
ROTATED_S = 10


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"{OLD} shop\n")
    return path


@pytest.fixture(scope="module")
def secured(config: ServeConfig, authority: Authority, keys: Path) -> Iterator[ServerProcess]:
    """A server with mutual TLS and keys, which logs its requests."""
    pair = authority.sign("server")
    options = {
        "grpc_port": 0, "tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": authority.cert,
        "api_keys": keys, "log_requests": True,
    }  # fmt: skip
    started = start_server(config.model_copy(update=options))
    assert started.url.startswith("https://")
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def mine(authority: Authority) -> Pair:
    return authority.sign("client")


def _channel(server: ServerProcess, authority: Authority, mine: Pair | None) -> grpc.Channel:
    pair = () if mine is None else (mine.key.read_bytes(), mine.cert.read_bytes())
    return grpc.secure_channel(grpc_address(server), grpc.ssl_channel_credentials(authority.cert.read_bytes(), *pair))


def _ask(
    server: ServerProcess, authority: Authority, mine: Pair | None, path: str, key: str | None = None
) -> tuple[int, Any]:
    """Status and JSON of a request over TLS: a rank request if ``path`` is that, else a GET."""
    context = ssl.create_default_context(cafile=str(authority.cert))
    if mine is not None:
        context.load_cert_chain(mine.cert, mine.key)
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=30)
    headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    try:
        if path == "/v1/rank":
            connection.request("POST", path, json.dumps(rank_body(5)), headers)
        else:
            connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_server_waits_for_no_goodbye_when_clients_over_tls_are_idle(config: ServeConfig, authority: Authority) -> None:
    pair = authority.sign("server")
    server = start_server(config.model_copy(update={"tls_cert": pair.cert, "tls_key": pair.key}))
    context = ssl.create_default_context(cafile=str(authority.cert))
    idle = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=30)
    idle.request("GET", "/v2/health/live")
    assert idle.getresponse().read()
    assert server.stop() == 0
    idle.close()
    assert not [line for line in server.log if "exceeded" in line]  # as the HTTP server says when it waits no longer


def test_clients_are_answered_when_they_show_certificate_and_key(
    secured: ServerProcess, authority: Authority, mine: Pair
) -> None:
    status, reply = _ask(secured, authority, mine, "/v1/rank", OLD)
    assert status == 200
    with _channel(secured, authority, mine) as channel:
        ranked = rank_method(channel)(rank_message(5), metadata=[("authorization", f"Bearer {OLD}")])
    assert list(ranked.integers.values) == reply["ids"]


def test_tritonclient_is_answered_when_it_shows_certificate_and_key(
    secured: ServerProcess, authority: Authority, mine: Pair
) -> None:
    client = triton.InferenceServerClient(
        grpc_address(secured), ssl=True, root_certificates=str(authority.cert), private_key=str(mine.key),
        certificate_chain=str(mine.cert),
    )  # fmt: skip
    assert client.is_server_ready()  # health needs no key
    assert client.get_model_metadata("small", headers={"authorization": f"Bearer {OLD}"}).name == "small"
    with pytest.raises(Exception, match="an API key is needed") as caught:
        client.get_model_metadata("small")
    assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
    client.close()


@pytest.mark.parametrize("stranger", [False, True])
def test_connection_is_refused_when_the_certificate_is_missing_or_a_stranger_s(
    secured: ServerProcess, authority: Authority, tmp_path: Path, stranger: bool
) -> None:
    other = Authority(tmp_path, "stranger").sign("client") if stranger else None
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        _ask(secured, authority, other, "/v2/health/live")
    with _channel(secured, authority, other) as channel:
        error: Any = tried(rank_method(channel), rank_message(5), timeout=10)
    assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_client_refuses_when_it_does_not_trust_the_server(secured: ServerProcess, tmp_path: Path, mine: Pair) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _ask(secured, Authority(tmp_path, "other"), mine, "/v2/health/live")


def test_health_is_open_and_all_else_is_closed_when_no_key_is_shown(
    secured: ServerProcess, authority: Authority, mine: Pair
) -> None:
    assert _ask(secured, authority, mine, "/v2/health/ready") == (200, {"ready": True})
    for path in ("/v1/rank", "/v1/models", "/metrics", "/", "/v2/models/small", "/nowhere"):
        status, reply = _ask(secured, authority, mine, path)
        assert status == 401, path
        assert "an API key is needed" in json.dumps(reply)
    with _channel(secured, authority, mine) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        calls: list[Callable[[], Any]] = [
            lambda: rank_method(channel)(rank_message(5)),
            lambda: list(reflection.ServerReflectionInfo(iter([asked]))),
            lambda: list(channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b""]))),
        ]
        for call in calls:
            error: Any = tried(call)
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED


def test_tenant_is_that_of_the_key_when_a_header_names_another(
    secured: ServerProcess, authority: Authority, mine: Pair
) -> None:
    metadata = [("x-api-key", OLD), ("x-rankine-tenant", "other"), ("x-request-id", "whose")]
    with _channel(secured, authority, mine) as channel:
        rank_method(channel)(rank_message(5), metadata=metadata)
    end_s = time.monotonic() + ROTATED_S
    while time.monotonic() < end_s:
        lines = [json.loads(line) for line in list(secured.log)]
        found = [line for line in lines if line.get("request_id") == "whose"]
        if found:
            assert (found[0]["tenant"], found[0]["status"], found[0]["path"]) == ("shop", 200, "/rankine.Ranker/Rank")
            return
        time.sleep(0.02)
    raise AssertionError("the request is not in the log")


def test_keys_rotate_without_a_restart_when_the_file_is_replaced(
    secured: ServerProcess, authority: Authority, mine: Pair, keys: Path
) -> None:
    def statuses() -> tuple[int, int]:
        return tuple(_ask(secured, authority, mine, "/v1/models", key)[0] for key in (OLD, NEW))  # type: ignore[return-value]

    def replaced_by(*lines: str) -> tuple[int, int]:
        before = statuses()
        fresh = keys.with_suffix(".new")
        fresh.write_text("\n".join(lines))
        os.replace(fresh, keys)
        end_s = time.monotonic() + ROTATED_S
        while statuses() == before and time.monotonic() < end_s:
            time.sleep(0.1)
        return statuses()

    assert statuses() == (200, 401)
    assert replaced_by(OLD, f"sha256:{hashlib.sha256(NEW.encode()).hexdigest()}") == (200, 200)
    assert replaced_by(NEW) == (401, 200)
    assert replaced_by(f"{OLD} shop") == (200, 401)


def test_server_does_not_start_when_the_keys_file_is_wrong(config: ServeConfig, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("short\n")
    process = run_server(config.model_copy(update={"api_keys": path}))
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"{path}:1: is no API key" in log
