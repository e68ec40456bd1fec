"""What a client knows of servers and what follows: pure functions of a clock that the tests hold."""

from __future__ import annotations

from random import Random

import pytest

from rankine.client.balance import Balancer
from rankine.client.budget import Budget
from rankine.client.errors import RequestRefused, ServerUnreachable, error_of, retry_after_of
from rankine.client.latencies import Latencies
from rankine.client.servers import Server, predicted_wait_of
from rankine.client.settings import ClientSettings
from rankine.errors import BadRequest, DeadlineExceeded, RankineError

SETTINGS = ClientSettings(half_life_s=1.0, eject_after=3, eject_s=1.0, max_eject_s=4.0)
BEST_S = 0.01


def server(name: str = "one") -> Server:
    return Server(f"http://{name}", SETTINGS)


def waiting(ms: float) -> dict[str, str]:
    return {"x-rankine-predicted-wait-ms": str(ms)}


def test_reported_wait_counts_half_when_a_half_life_has_passed() -> None:
    one = server()
    one.told(waiting(800), 100.0)
    one.took(BEST_S, 100.0)
    assert one.expected_s(100.0, BEST_S) == pytest.approx(0.8 + BEST_S)
    assert one.expected_s(101.0, BEST_S) == pytest.approx(0.4 + BEST_S)
    assert one.expected_s(111.0, BEST_S) == BEST_S


def test_silent_server_repels_for_ever_when_it_owes_answers() -> None:
    one = server()
    one.took(5.0, 100.0)
    one.outstanding = 3
    assert one.expected_s(1e6, BEST_S) == pytest.approx(4 * BEST_S)


def test_server_is_tried_when_nothing_is_known_of_it() -> None:
    two = balancer(2)
    known, unknown = two.servers
    known.took(0.001, 100.0)
    assert {two.pick(100.0) for _ in range(20)} == {unknown}
    unknown.outstanding = 1
    assert {two.pick(100.0) for _ in range(20)} == {known}


def test_old_slowness_is_forgotten_when_a_new_answer_is_fast() -> None:
    one = server()
    one.took(5.0, 100.0)
    assert one.expected_s(100.0, BEST_S) == pytest.approx(5.0)
    one.took(0.01, 110.0)
    assert one.expected_s(110.0, BEST_S) == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("raw", ["nan", "inf", "-1", "soon", ""])
def test_report_is_none_when_it_cannot_be_meant(raw: str) -> None:
    assert predicted_wait_of({"x-rankine-predicted-wait-ms": raw}) is None


def test_server_is_ejected_for_twice_as_long_when_it_fails_again() -> None:
    one, times = server(), []
    now_s = 100.0
    for _ in range(4):
        for _ in range(SETTINGS.eject_after):
            assert not one.ejected
            one.failed(now_s, gone=False)
        assert one.ejected
        one.failed(now_s, gone=False)  # late news of the same trouble
        times.append(one.probe_at_s - now_s)
        now_s = one.probe_at_s
        one.told({}, now_s)
    assert times == [1.0, 2.0, 4.0, 4.0]
    one.failed(now_s + 5.0, gone=True)  # well for longer than the longest time out
    assert one.probe_at_s == now_s + 5.0 + 1.0


def test_failures_count_only_in_a_row_when_answers_come_between() -> None:
    one = server()
    for _ in range(10):
        one.failed(100.0, gone=False)
        one.failed(100.0, gone=False)
        one.told({}, 100.0)
    assert not one.ejected


def test_server_is_paused_for_all_when_it_refuses_twice_in_a_row() -> None:
    one = server()
    one.refused(2.0, 100.0)
    assert (one.retry_at_s, one.paused_until_s) == (102.0, 0.0)
    one.took(0.01, 100.0)
    one.refused(2.0, 100.0)
    assert one.paused_until_s == 0.0
    one.refused(2.0, 101.0)
    assert one.paused_until_s == 103.0
    one.refused(86_400.0, 103.0)
    assert one.paused_until_s == 103.0 + SETTINGS.max_eject_s


def balancer(count: int) -> Balancer:
    return Balancer([server(f"s{number}") for number in range(count)], SETTINGS, Random(1))


def test_pick_takes_every_server_but_the_worst_when_many_are_alike() -> None:
    many = balancer(5)
    many.servers[0].told(waiting(500), 100.0)
    picked = {many.pick(100.0) for _ in range(200)}
    assert picked == set(many.servers[1:])


def test_pick_gives_none_and_the_last_resort_a_server_when_none_is_well() -> None:
    three = balancer(3)
    paused, ejected, avoided = three.servers
    for _ in range(2):
        paused.refused(1.0, 100.0)
    ejected.failed(100.0, gone=True)
    assert three.pick(100.0) is avoided
    assert three.pick(100.0, avoid=[avoided]) is None
    avoided.failed(100.0, gone=True)
    assert three.last_resort(100.0) is paused
    paused.failed(100.0, gone=True)
    assert three.last_resort(100.0) in three.servers
    assert three.due_for_probe(100.5) == []
    assert three.due_for_probe(101.0) == list(three.servers)


def test_session_stays_when_its_server_is_slow_and_the_other_unknown() -> None:
    two = balancer(2)
    home = two.pick(100.0, session="user")
    assert home is not None
    home.took(0.5, 100.0)
    assert two.pick(100.0, session="user") is home
    home.outstanding = 1
    assert two.pick(100.0, session="user") is not home


def test_only_its_sessions_move_when_a_server_leaves() -> None:
    five = balancer(5)
    sessions = [f"user-{number}" for number in range(500)]
    before = {session: five.pick(100.0, session=session) for session in sessions}
    assert min(list(before.values()).count(one) for one in five.servers) > 50
    gone = five.servers[2]
    gone.failed(100.0, gone=True)
    after = {session: five.pick(100.0, session=session) for session in sessions}
    assert {session for session in sessions if after[session] is not before[session]} == {
        session for session in sessions if before[session] is gone
    }


def test_budget_gives_its_burst_and_then_its_share_when_it_is_asked_always() -> None:
    budget = Budget(0.1, 3)
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    taken = 0
    for _ in range(1000):
        budget.deposit()
        taken += budget.take()
    assert taken == 100


def test_budget_gives_nothing_when_its_share_is_zero() -> None:
    budget = Budget(0.0, 5)
    budget.deposit()
    assert not budget
    assert not budget.take()


def test_quantile_is_of_requests_of_like_size_when_sizes_differ() -> None:
    latencies = Latencies(0.9)
    assert latencies.quantile_s(10) is None
    for number in range(1, 51):
        latencies.observe(10, number / 1000)
        latencies.observe(1000, number / 10)
    assert latencies.quantile_s(12) == 0.045
    assert latencies.quantile_s(600) == 4.5
    assert latencies.quantile_s(100) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (418, BadRequest),
        (429, RequestRefused),
        (500, RankineError),
        (502, ServerUnreachable),
        (503, RequestRefused),
        (504, DeadlineExceeded),
    ],
)
def test_error_goes_by_the_status_when_the_body_is_a_proxy_s(status: int, kind: type[RankineError]) -> None:
    error = error_of(status, b"<html>", {"retry-after": "7"}, "http://one")
    assert type(error) is kind
    assert str(status) in error.message
    if isinstance(error, RequestRefused):
        assert error.retry_after_s == 7


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [({}, 0.0), ({"retry-after": "12"}, 12.0), ({"retry-after": "Sat, 21 Nov 2026 20:00:00 GMT"}, 1.0)],
)
def test_retry_after_is_read_when_it_is_seconds_or_a_date(raw: dict[str, str], seconds: float) -> None:
    assert retry_after_of(raw) == seconds
