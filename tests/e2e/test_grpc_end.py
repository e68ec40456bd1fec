"""The end of a server that speaks gRPC, under load, and calls whose deadline is too short."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from conftest import end_without
from e2e.serve_process import ServerProcess, run_server, start_server
from rankine.serving import ServeConfig

try:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import grpc_address, rank_message, rank_method, tried

pytestmark = pytest.mark.e2e
ROWS = 300
WAIT_S = 20


class _Client(threading.Thread):
    """A closed loop on a channel of its own, until a call fails."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._address = grpc_address(server)
        self.answered = 0
        self.ended_by: grpc.RpcError | None = None
        self.wrong: list[int] = []

    def run(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(self._address, options=options) as channel:
            rank, message = rank_method(channel), rank_message(ROWS)
            while self.ended_by is None:
                try:
                    reply = rank(message)
                except grpc.RpcError as error:
                    self.ended_by = error
                    return
                self.answered += 1
                if len(reply.scores) != ROWS:
                    self.wrong.append(len(reply.scores))


def test_no_accepted_call_is_lost_when_the_server_is_terminated_under_load(config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"grpc_port": 0, "log_requests": True}))
    clients = [_Client(server) for _ in range(4)]
    for client in clients:
        client.start()
    end_s = time.monotonic() + WAIT_S
    while min(client.answered for client in clients) < 5 and time.monotonic() < end_s:
        time.sleep(0.01)
    server.terminate()
    for client in clients:
        client.join(30)
    assert server.wait() == 0
    ends: list[Any] = [client.ended_by for client in clients]
    assert {end.code() for end in ends} == {grpc.StatusCode.UNAVAILABLE}
    assert [client.wrong for client in clients] == [[]] * 4
    logged = sum('"status":200' in line and "/rankine.Ranker/Rank" in line for line in server.log)
    assert logged == sum(client.answered for client in clients)  # each that was answered came home, once


def test_health_says_not_serving_and_calls_are_answered_when_the_server_drains(config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"grpc_port": 0, "drain_s": 2.0}))
    with grpc.insecure_channel(grpc_address(server)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="rankine.Ranker"))
        assert any(told.status == health_pb2.HealthCheckResponse.SERVING for told in watched)  # may follow by 50 ms
        server.terminate()
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(service="live")).status == (
            health_pb2.HealthCheckResponse.SERVING
        )
        assert len(rank_method(channel)(rank_message(3)).scores) == 3
    assert server.wait() == 0


def test_call_expires_when_its_timeout_is_shorter_than_any_answer(config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"grpc_port": 0}))
    with grpc.insecure_channel(grpc_address(server)) as channel:
        assert len(rank_method(channel)(rank_message(ROWS), timeout=30).scores) == ROWS
        error: Any = tried(rank_method(channel), rank_message(2000), timeout=1e-4)
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(rank_method(channel)(rank_message(ROWS), timeout=30).scores) == ROWS
    assert server.stop() == 0


def test_server_names_the_address_when_the_grpc_port_is_taken(config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"grpc_port": 0}))
    address = grpc_address(server)
    process = run_server(config.model_copy(update={"grpc_port": int(address.rpartition(":")[2])}))
    _, log = process.communicate(timeout=60)
    assert server.stop() == 0
    assert process.returncode == 2
    assert address in log
    assert "--grpc-port" in log
