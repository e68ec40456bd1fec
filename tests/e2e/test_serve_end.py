"""How a server ends: what it has begun is answered, what comes later hears so, and the log tells what was."""

from __future__ import annotations

import http.client
import json
import threading
import time

import pytest

from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import rank_body
from rankine.serving import ServeConfig
from waiting import wait_until

pytestmark = pytest.mark.e2e
RANK = "/v1/models/small/rank"


def test_last_line_of_the_log_tells_what_was_answered_when_the_server_has_stopped(config: ServeConfig) -> None:
    server = start_server(config)
    server.ask("GET", "/v2/health/live")  # counts as no request for the engine
    for deadline_ms, body in ((10_000, rank_body(3)), (10_000, rank_body(3)), (0, rank_body(3)), (10_000, {})):
        server.ask("POST", RANK, body, {"x-rankine-deadline-ms": str(deadline_ms)})
    assert server.stop() == 0
    last = json.loads(server.log[-1])
    assert last["message"] == "stopped"
    counts = {name: last[name] for name in ("answered", "refused", "failed", "left")}
    assert counts == {"answered": 2, "refused": 1, "failed": 1, "left": 0}
    assert last["seconds"] > 0


class _Client(threading.Thread):
    """A closed loop, on one connection until the server closes it or on a new one each time, until it is refused."""

    def __init__(self, server: ServerProcess, *, fresh: bool) -> None:
        super().__init__()
        self._server = server
        self._fresh = fresh
        self.statuses: list[int] = []
        self.lost: list[str] = []

    def run(self) -> None:
        connection = self._server.connect()
        raw = json.dumps(rank_body(300))
        connected = False
        while True:
            try:
                if not connected:
                    connection.connect()
                    connected = True
            except ConnectionRefusedError:
                return  # nothing was sent: nothing is lost
            except OSError as error:
                self.lost.append(f"while connecting: {error!r}")
                return
            try:
                connection.request("POST", RANK, raw, {"content-type": "application/json"})
                response = connection.getresponse()
                reply = response.read()
                self.statuses.append(response.status)
                if response.status == 200 and len(json.loads(reply)["ids"]) != 300:
                    self.lost.append("an answer that is not whole")
                if self._fresh or response.getheader("connection") == "close":
                    connection.close()
                    connected = False
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                return


@pytest.mark.parametrize("fresh", [False, True])
def test_no_accepted_request_is_lost_when_the_server_is_terminated_under_load(
    config: ServeConfig, *, fresh: bool
) -> None:
    server = start_server(config)
    clients = [_Client(server, fresh=fresh) for _ in range(8)]
    for client in clients:
        client.start()
    deadline = time.monotonic() + 20
    while min(len(client.statuses) for client in clients) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.terminate()
    for client in clients:
        client.join(30)
    assert server.wait() == 0
    assert [client.lost for client in clients] == [[]] * 8
    statuses = [status for client in clients for status in client.statuses]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 40


def test_probe_on_a_new_connection_sees_503_when_the_server_drains(config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"drain_s": 1.5}))
    assert server.ask("GET", "/v2/health/ready").status == 200
    server.terminate()
    deadline = time.monotonic() + 10
    answer = server.ask("GET", "/v2/health/ready")
    while answer.status == 200 and time.monotonic() < deadline:  # the signal is on its way
        answer = server.ask("GET", "/v2/health/ready")
    assert answer.status == 503
    assert answer.headers["connection"] == "close"
    assert server.ask("POST", RANK, rank_body(3)).status == 200
    assert server.wait() == 0


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_request_is_answered_when_its_body_comes_after_the_server_has_drained(
    config: ServeConfig, content_type: str
) -> None:
    server = start_server(config)
    raw = json.dumps(rank_body(3)).encode()
    slow = server.connect()
    slow.putrequest("POST", RANK)
    slow.putheader("content-type", content_type)
    slow.putheader("content-length", str(len(raw)))
    slow.endheaders(raw[:-10])
    server.ask("GET", "/v2/health/live")  # by now the head before it was read
    server.terminate()
    wait_until(lambda: not is_listening(server))
    time.sleep(1.5)  # and from then on the pool takes nothing new
    slow.send(raw[-10:])
    response = slow.getresponse()
    assert (response.status, len(json.loads(response.read())["ids"])) == (200, 3)
    assert server.wait() == 0


def is_listening(server: ServerProcess) -> bool:
    probe = server.connect()
    try:
        probe.connect()
    except ConnectionRefusedError:
        return False
    finally:
        probe.close()
    return True


def test_serve_exits_with_zero_when_idle_connections_are_open(config: ServeConfig) -> None:
    server = start_server(config)
    idle = server.connect()
    idle.connect()
    assert server.stop() == 0
    idle.close()
