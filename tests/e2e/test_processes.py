"""Several server processes behind one port: faults of one are not faults of the server."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from e2e.counting_client import Counted, CountingClient, CountingConnection
from e2e.grpc_served import grpc_address, rank_message, rank_method
from e2e.serve_process import ServerProcess, run_server, start_server
from e2e.small_served import certify_small, write_small_artifact, write_small_catalog
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e
_WAIT_S = 60.0


@pytest.fixture(scope="module")
def two_config(config: ServeConfig, tmp_path_factory: pytest.TempPathFactory) -> ServeConfig:
    """Of a model that is slow on any processor: a dozen large requests are more than one process should keep."""
    path = tmp_path_factory.mktemp("slow") / "small"
    write_small_catalog(path)
    certify_small(write_small_artifact(path.with_name("compiled"), hidden=(512, 256)), path)
    return config.model_copy(update={"processes": 2, "artifact": path})


@pytest.fixture
def two(two_config: ServeConfig) -> Iterator[ServerProcess]:
    started = start_server(two_config)
    try:
        yield started
    finally:
        assert started.stop() == 0


def pids(server: ServerProcess) -> dict[int, int]:
    """The newest process of each number, as the log has it."""
    ready = [line for line in map(json.loads, list(server.log)) if line["message"] == "ready"]
    return {line["process"]: line["pid"] for line in ready}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def counted(server: ServerProcess, name: str) -> dict[int, float]:
    """A metric by process, its other labels added up."""
    found: dict[int, float] = {}
    for number, value in re.findall(rf'^{name}\{{process="(\d+)".*\}} (\S+)$', scrape(server), re.MULTILINE):
        found[int(number)] = found.get(int(number), 0.0) + float(value)
    return found


def decisions(server: ServerProcess, reason: str) -> float:
    found = re.findall(rf'^rankine_decisions_total\{{process="\d+",reason="{reason}"\}} (\S+)$', scrape(server), re.M)
    return sum(map(float, found))


def scrape(server: ServerProcess) -> str:
    return server.ask("GET", "/metrics").body.decode()


def answer_of(server: ServerProcess) -> Counted:
    """One small request on a connection of its own."""
    connection = CountingConnection(server.port)
    try:
        return connection.ask()
    finally:
        connection.connection.close()


def start_clients(server: ServerProcess, count: int = 6) -> list[CountingClient]:
    clients = [CountingClient(server.port) for _ in range(count)]
    for client in clients:
        client.start()
    wait_for(lambda: min(len(client.answers) for client in clients) >= 5)
    return clients


def stop_clients(clients: list[CountingClient]) -> None:
    for client in clients:
        client.over.set()
    for client in clients:
        client.join(_WAIT_S)
        assert not client.is_alive()


def test_each_process_serves_when_the_other_one_is_frozen(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    for number, other in ((0, 1), (1, 0)):
        with frozen(pids(two)[number]):
            for _ in range(20):  # each on a connection of its own: none waits for the frozen one
                answer = answer_of(two)
                assert (answer.status, answer.accepted_by, answer.ranked_by) == (200, other, other)
    assert two.ask("GET", "/v2/health/ready").status == 200


def test_any_process_tells_the_metrics_of_all_when_it_is_scraped(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    for number in (0, 1):
        with frozen(pids(two)[1 - number]):
            answer_of(two)
    seen: list[dict[int, float]] = []

    def settled() -> bool:
        """Nothing is under way: what was handed to a frozen process, and taken back, may run there once it is awake."""
        seen.append(counted(two, "rankine_batch_requests_count"))
        return len(seen) > 20 and set(seen[-1]) == {0, 1} and all(one == seen[-1] for one in seen[-20:])

    wait_for(settled)
    counts = seen[-1]
    assert min(counts.values()) >= 1
    for _ in range(10):  # on connections of their own, to whichever process accepts
        assert counted(two, "rankine_batch_requests_count") == counts
    text = scrape(two)
    assert len(re.findall(r"^# TYPE rankine_batch_requests ", text, re.M)) == 1
    assert len(re.findall(r"^rankine_desired_replicas \S+$", text, re.M)) == 1


def test_processes_tell_each_other_all_when_clients_need_a_key(two_config: ServeConfig, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-more-than-thirty-two-characters shop\n")
    keys.chmod(0o600)
    server = start_server(two_config.model_copy(update={"api_keys": keys}))
    try:
        wait_for(lambda: len(pids(server)) == 2)
        assert server.ask("GET", "/metrics").status == 401
        assert server.ask("GET", "/metrics", headers={"x-rankine-arrived": "1"}).status == 401
        key = {"authorization": "Bearer a-key-of-more-than-thirty-two-characters"}
        text = server.ask("GET", "/metrics", headers=key).body.decode()
        assert set(re.findall(r'^rankine_model_info\{process="(\d)"', text, re.M)) == {"0", "1"}
    finally:
        assert server.stop() == 0


def test_one_process_s_connections_alone_are_lost_when_it_is_killed_under_load(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    clients = start_clients(two)
    before = pids(two)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: pids(two)[0] != before[0])
    with frozen(before[1]):
        assert answer_of(two).ranked_by == 0  # the new one
    wait_for(lambda: {client.answers[-1].accepted_by for client in clients} == {0, 1})  # some have connected anew
    answered = [len(client.answers) for client in clients]
    wait_for(lambda: all(len(one.answers) > count for one, count in zip(clients, answered, strict=True)))
    stop_clients(clients)
    statuses = [answer.status for client in clients for answer in client.answers]
    assert set(statuses) <= {200, 500}  # one that the process had begun with is not run again
    assert statuses.count(500) <= len(clients)
    assert [client.extra for client in clients] == [b""] * len(clients)
    lost = [by for client in clients for by in client.lost]
    assert set(lost) <= {0, None}
    assert max(len(client.lost) for client in clients) <= 1
    assert pids(two)[1] == before[1]


def test_a_process_is_replaced_when_it_hangs_for_long(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    before = pids(two)
    os.kill(before[1], signal.SIGSTOP)
    wait_for(lambda: pids(two)[1] != before[1])
    assert any("a process hangs" in line for line in two.log)
    assert counted(two, "rankine_process_starts_total") == {0: 1.0, 1: 2.0}
    assert pids(two)[0] == before[0]


def children_of(pid: int) -> set[int]:
    """The processes that one has started and that live."""
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_process_is_replaced_when_it_hangs_while_it_starts(two_config: ServeConfig) -> None:
    server = start_server(two_config.model_copy(update={"start_limit_s": 15.0}))
    try:
        wait_for(lambda: len(pids(server)) == 2)
        before = pids(server)
        os.kill(before[1], signal.SIGKILL)
        wait_for(lambda: bool(children_of(server.process.pid) - set(before.values())))
        [stuck] = children_of(server.process.pid) - set(before.values())
        # Stopped before it is a program of its own, it would keep whoever starts it, too.
        wait_for(lambda: command_of(stuck) not in (b"", command_of(server.process.pid)))
        os.kill(stuck, signal.SIGSTOP)
        wait_for(lambda: pids(server)[1] not in (before[1], stuck))
        hangs = [line for line in map(json.loads, list(server.log)) if line["message"] == "a process hangs"]
        assert [(line["process"], line["pid"], line["state"]) for line in hangs] == [(1, stuck, "starting")]
        assert answer_of(server).status == 200
    finally:
        assert server.stop() == 0


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def connected(server: ServerProcess, number: int, count: int = 12) -> list[CountingConnection]:
    """Connections that one process has accepted, for requests that take long."""
    found: list[CountingConnection] = []
    with frozen(pids(server)[1 - number]):
        while len(found) < count:
            connection = CountingConnection(server.port, rows=2000)
            answer = connection.ask()
            assert answer.accepted_by == number
            if answer.closes:  # it has more than its share; the other one tells nothing any more in a moment
                connection.connection.close()
            else:
                found.append(connection)
    return found


def wait_for_both(server: ServerProcess) -> None:
    """Until scrapes have both processes, whichever is asked: one that was frozen a moment ago is left out by the other.

    Twenty in a row, on connections of their own: to have asked but one of the two that often is most unlikely.
    """
    seen: list[set[int]] = []

    def both() -> bool:
        seen.append(set(counted(server, "rankine_batch_requests_count")))
        return len(seen) >= 20 and all(one == {0, 1} for one in seen[-20:])

    wait_for(both)


@contextmanager
def crowd(server: ServerProcess) -> Iterator[list[CountingConnection]]:
    """Connections of process 0; the other one has as many, which are idle."""
    busy, idle = connected(server, 0), connected(server, 1)
    try:
        wait_for_both(server)
        yield busy
        assert [connection.finish() for connection in busy] == [b""] * len(busy)
    finally:
        for connection in (*busy, *idle):
            connection.connection.close()


def ranked_requests(server: ServerProcess) -> float:
    return sum(map(float, re.findall(r'^rankine_requests_total\{.*protocol="rank".*\} (\S+)$', scrape(server), re.M)))


def test_requests_are_handed_over_when_one_process_has_all_the_load(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    ranked: set[int] = set()
    with crowd(two) as connections:
        before = ranked_requests(two) - sum(connection.sent for connection in connections)

        def a_round() -> bool:
            for connection in connections:
                connection.send()
            answers = [connection.receive() for connection in connections]
            assert {(answer.status, answer.accepted_by) for answer in answers} == {(200, 0)}
            ranked.update(answer.ranked_by for answer in answers)
            return ranked == {0, 1}

        wait_for(a_round)
        assert decisions(two, "handed_over") > 0
        # Each is counted once, by the process that ranked.
        assert ranked_requests(two) == before + sum(connection.sent for connection in connections)


def test_requests_are_taken_back_when_the_process_that_has_them_freezes(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    with crowd(two) as connections:

        def a_round() -> bool:
            wait_for_both(two)
            with frozen(pids(two)[1]):
                for connection in connections:
                    connection.send()
                answers = [connection.receive() for connection in connections]
                assert {(answer.status, answer.ranked_by) for answer in answers} == {(200, 0)}
                return decisions(two, "taken_back") > 0

        wait_for(a_round)


def test_no_answer_is_lost_when_the_process_that_requests_were_handed_to_is_killed(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    before = pids(two)
    seen: set[int] = set()
    with crowd(two) as connections:

        def a_round() -> bool:
            for connection in connections:
                connection.send()
            time.sleep(0.02)  # some are handed over meanwhile
            os.kill(pids(two)[1], signal.SIGKILL)
            answers = [connection.receive() for connection in connections]
            assert {answer.accepted_by for answer in answers} == {0}
            seen.update(answer.status for answer in answers)
            found = decisions(two, "taken_back") + decisions(two, "process_lost")
            wait_for_both(two)
            # The new process has no connections, so some of these are to come anew.
            for connection in [one for one, answer in zip(connections, answers, strict=True) if answer.closes]:
                assert connection.finish() == b""
                connections.remove(connection)
            connections.extend(connected(two, 0, 12 - len(connections)))
            return found > 0

        wait_for(a_round)
        assert (500 in seen) == (decisions(two, "process_lost") > 0)
    assert seen <= {200, 500}
    assert pids(two)[0] == before[0]


def large_message(ids: int = 300) -> Any:
    """A request of 1,800 candidates."""
    message = rank_message(ids)
    candidates = message.candidates
    for _ in range(5):
        candidates.integers.values.extend(range(1000, 1000 + ids))
        candidates.features["slot"].integers.values.extend([1] * ids)
        candidates.features["match"].floats.values.extend([0.5] * (2 * ids))
    return message


@pytest.fixture
def two_over_grpc(two_config: ServeConfig) -> Iterator[ServerProcess]:
    started = start_server(two_config.model_copy(update={"grpc_port": 0}))
    try:
        yield started
    finally:
        assert started.stop() == 0


def test_grpc_calls_are_handed_over_when_one_process_has_the_connection(two_over_grpc: ServerProcess) -> None:
    good, bad = large_message(), large_message()
    bad.candidates.integers.values[0] = 7
    seen: set[tuple[grpc.StatusCode, bool]] = set()
    with grpc.insecure_channel(grpc_address(two_over_grpc)) as channel:

        def a_round() -> bool:
            calls = [rank_method(channel).future(message, timeout=_WAIT_S) for message in [good, bad] * 8]
            for call, asked in zip(calls, [good, bad] * 8, strict=True):
                trailers = dict(call.trailing_metadata() or ())
                seen.add((call.code(), "x-rankine-handed-over-by" in trailers))
                if asked is good:
                    assert len(call.result().integers.values) == len(good.candidates.integers.values)
                else:
                    assert "candidates.ids[0]: unknown item" in call.details()
            return len(seen) == 4

        wait_for(a_round)
    assert {code for code, _ in seen} == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


def test_second_server_is_refused_when_the_grpc_port_is_taken(
    two_over_grpc: ServerProcess, two_config: ServeConfig
) -> None:
    taken = int(grpc_address(two_over_grpc).rsplit(":", 1)[1])
    process = run_server(two_config.model_copy(update={"grpc_port": taken}))
    out, log = process.communicate(timeout=_WAIT_S)
    assert (process.returncode, out) == (2, "")
    assert re.search(rf"127.0.0.1:{taken}: cannot listen: .* Give another --grpc-port", log)


def test_no_request_is_lost_when_one_process_is_terminated_under_load(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    clients = start_clients(two)
    before = pids(two)
    os.kill(before[0], signal.SIGTERM)
    wait_for(lambda: pids(two)[0] != before[0])
    stop_clients(clients)
    assert [(client.lost, client.extra) for client in clients] == [([], b"")] * len(clients)
    assert {answer.status for client in clients for answer in client.answers} == {200}
    assert pids(two)[1] == before[1]


@pytest.mark.parametrize("one_before", [False, True])
def test_no_request_is_cut_when_all_processes_are_terminated_under_load(
    two_config: ServeConfig, *, one_before: bool
) -> None:
    server = start_server(two_config)
    clients = start_clients(server)
    wait_for(lambda: len(pids(server)) == 2)
    if one_before:
        os.kill(pids(server)[0], signal.SIGTERM)
        wait_for(lambda: any('"draining"' in line for line in list(server.log)))
    server.terminate()
    for client in clients:
        client.join(_WAIT_S)
        assert not client.is_alive()
    assert server.wait() == 0
    assert [(client.lost, client.extra) for client in clients] == [([], b"")] * len(clients)
    assert {answer.status for client in clients for answer in client.answers} <= {200, 503}


@pytest.mark.parametrize("processes", [1, 2])
def test_no_request_is_cut_when_the_terminal_of_a_server_under_load_is_closed(
    two_config: ServeConfig, *, processes: int
) -> None:
    server = start_server(two_config.model_copy(update={"processes": processes}))
    connections = [CountingConnection(server.port, rows=2000) for _ in range(4)]
    for connection in connections:
        connection.send()
    for _ in range(2):  # the kernel sends one, a shell another
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    assert server.wait() == 0
    assert {connection.receive().status for connection in connections} == {200}
    for connection in connections:
        connection.connection.close()


def test_all_processes_end_when_the_supervisor_is_killed(two_config: ServeConfig, tmp_path: Path) -> None:
    server = start_server(two_config, {"TMPDIR": str(tmp_path)})
    wait_for(lambda: len(pids(server)) == 2)
    assert len(list(tmp_path.glob("rankine-*/*.sock"))) == 2
    server.process.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids(server).values()))
    assert list(tmp_path.glob("rankine-*/*.sock")) == []
    assert server.wait() == -signal.SIGKILL


def test_serve_ends_with_the_error_of_a_process_when_none_can_start(two_config: ServeConfig, tmp_path: Path) -> None:
    process = run_server(two_config.model_copy(update={"artifact": tmp_path / "none"}))
    out, log = process.communicate(timeout=_WAIT_S)
    assert process.returncode == 2
    assert out == ""
    assert "none" in log.splitlines()[-1]
