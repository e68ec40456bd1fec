"""Requests that one process of a server hands over to another."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from e2e.counting_client import CountingConnection
from e2e.grpc_served import grpc_address, rank_message, rank_method
from e2e.process_group import LIMIT_S, counted, decisions, frozen, pids, scrape, wait_for
from e2e.serve_process import ServerProcess, run_server, start_server
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e


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
            calls = [rank_method(channel).future(message, timeout=LIMIT_S) for message in [good, bad] * 8]
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
    out, log = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (2, "")
    assert re.search(rf"127.0.0.1:{taken}: cannot listen: .* Give another --grpc-port", log)
