"""Several server processes behind one port: faults of one are not faults of the server."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from e2e.process_group import LIMIT_S, answer_of, counted, frozen, pids, scrape, start_clients, stop_clients, wait_for
from e2e.serve_process import ServerProcess, run_server, start_server
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e


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


def test_serve_ends_with_the_error_of_a_process_when_none_can_start(two_config: ServeConfig, tmp_path: Path) -> None:
    process = run_server(two_config.model_copy(update={"artifact": tmp_path / "none"}))
    out, log = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert out == ""
    assert "none" in log.splitlines()[-1]
