"""Who is let in: the promise to those already admitted, limits, quotas, fair shares, and the backstops."""

from __future__ import annotations

import heapq
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankine.errors import UsageError
from rankine.policy.admission import Admission, Gates, admit
from rankine.policy.backlog import Backlog
from rankine.policy.batching import Limits
from rankine.policy.codel import CoDel
from rankine.policy.cost import CostModel
from rankine.policy.fairness import FairShares, TokenBucket
from rankine.policy.gradient import GradientLimit
from rankine.policy.lanes import Lane
from rankine.policy.reason import Reason
from unit.policy_requests import NEVER, Ask, big, costs

IDLE = (Lane(0.0),)


class Certain(CostModel):
    """A model that is right: nothing has to be kept for the unforeseen."""

    @property
    def tail_ratio(self) -> float:
        return 1.0


def _gates(cost: CostModel | None = None, limits: Limits | None = None) -> Gates[Ask]:
    cost, limits = cost or Certain([(1, 0.0006), (2048, 0.0415)]), limits or Limits()
    return Gates(Backlog(cost, limits), cost, limits)


def _ask(gates: Gates[Ask], request: Ask, now_s: float = 0.0, in_flight: int = 1) -> Admission:
    return admit(gates, request, now_s, (Lane(now_s),), in_flight=in_flight)


@given(
    st.lists(st.tuples(st.floats(0.0, 0.02), st.integers(1, 3000), st.floats(0.001, 0.2)), min_size=1, max_size=60),
    costs(),
    st.integers(64, 2048),
)
@settings(max_examples=120, deadline=None)
def test_nobody_admitted_misses_its_deadline_when_the_cost_model_is_right(
    arrivals: list[tuple[float, int, float]], guess: CostModel, most: int
) -> None:
    cost = Certain(guess.curve, per_request_s=1e-4)
    limits = Limits(max_batch_rows=most, probe_s=NEVER)
    gates: Gates[Ask] = Gates(Backlog(cost, limits), cost, limits, probed_s=0.0)
    arrived_s, free_s = 0.0, 0.0
    finished: dict[int, float] = {}
    admitted: list[Ask] = []
    for gap_s, rows, budget_s in arrivals:
        arrived_s += gap_s
        free_s = _run(gates, cost, free_s, arrived_s, finished)
        request = Ask(rows, deadline_s=arrived_s + budget_s, arrived_s=arrived_s)
        if admit(gates, request, arrived_s, (Lane(max(arrived_s, free_s)),), in_flight=len(gates.backlog)).admitted:
            admitted.append(request)
            free_s = max(free_s, arrived_s)
    _run(gates, cost, free_s, NEVER, finished)
    assert all(finished[id(request)] <= request.deadline_s + 1e-7 for request in admitted)


def _run(gates: Gates[Ask], cost: CostModel, free_s: float, until_s: float, finished: dict[int, float]) -> float:
    """One worker that runs what is queued, as long as a batch starts before ``until_s``."""
    while len(gates.backlog) and free_s < until_s:
        decision = gates.backlog.take(free_s)
        assert not decision.expired
        assert not decision.hopeless
        free_s += cost.mean_s(decision.rows, decision.requests)
        for part in decision.slices:
            finished[id(part.work)] = free_s
    return free_s


def test_admit_tells_when_to_try_again_when_the_queue_holds_too_much_work() -> None:
    gates = _gates()
    for _ in range(4):
        assert _ask(gates, Ask(500, deadline_s=0.045)).admitted
    refused = _ask(gates, Ask(500, deadline_s=0.046))
    assert (refused.status, refused.reason) == (503, Reason.TOO_LATE)
    assert refused.retry_after_s == pytest.approx(5 * Certain([(1, 0.0006), (2048, 0.0415)]).mean_s(500) - 0.046)
    assert "ms of work" in refused.text


def test_admit_says_504_when_no_server_could_be_in_time() -> None:
    assert _ask(_gates(), Ask(2000, deadline_s=0.01)).status == 504
    assert _ask(_gates(), Ask(10, deadline_s=0.0)).reason is Reason.EXPIRED


def test_admit_lets_one_in_against_the_prediction_when_the_server_is_idle() -> None:
    gates = _gates(limits=Limits(probe_s=1.0))
    probe = _ask(gates, Ask(2000, deadline_s=0.01), in_flight=0)
    assert (probe.admitted, probe.reason) == (True, Reason.PROBE)
    gates.backlog.take(0.0)
    assert not _ask(gates, Ask(2000, deadline_s=0.51, arrived_s=0.5), 0.5, in_flight=0).admitted
    assert not _ask(gates, Ask(2000, deadline_s=1.21, arrived_s=1.0), 1.2, in_flight=0).admitted  # it came late
    assert _ask(gates, Ask(2000, deadline_s=1.21, arrived_s=1.2), 1.2, in_flight=0).admitted


@pytest.mark.parametrize(("stood_s", "left_s", "refused"), [(0.4, 0.1, False), (0.6, 0.1, True), (0.6, 0.05, False)])
def test_admit_keeps_a_queue_short_when_it_has_stood_for_a_while(
    *, stood_s: float, left_s: float, refused: bool
) -> None:
    gates = _gates()
    for _ in range(5):  # 50 ms of work
        assert _ask(gates, Ask(500, deadline_s=stood_s + 0.09)).admitted
    for turn in range(int(20 * stood_s)):
        gates.standing.look(0.05, 0.1, 0.05 * turn)
    ask = Ask(1, deadline_s=stood_s + left_s, arrived_s=stood_s)  # it is the last of all, or the first
    assert (_ask(gates, ask, stood_s).reason is Reason.KEPT_SHORT) == refused


def test_low_priorities_are_refused_first_when_the_queue_stands() -> None:
    gates = _gates()
    for _ in range(5):  # 50 ms of work
        assert _ask(gates, Ask(500, deadline_s=0.69)).admitted
    for turn in range(12):
        gates.standing.look(0.05, 0.14, 0.05 * turn)
    ask = Ask(1, deadline_s=0.735, arrived_s=0.6)  # it waits for somewhat less than four tenths of its time
    lanes, later = (Lane(0.6),), Ask(1, deadline_s=0.7, arrived_s=0.6)
    found = {
        below: admit(gates, ask, 0.6, lanes, in_flight=5, below_top=below, commit=False).reason for below in (0, 1)
    }
    assert found == {0: Reason.ADMITTED, 1: Reason.PRIORITY}
    refused = admit(gates, later, 0.6, lanes, in_flight=5, below_top=1, commit=False)
    assert refused.reason is Reason.KEPT_SHORT
    assert refused.waits_s == pytest.approx(gates.backlog.work_s)  # of which nothing is kept for anybody


def test_one_worker_that_is_busy_for_long_refuses_nobody_when_another_is_free() -> None:
    gates = _gates()
    for turn in range(12):
        gates.standing.look(0.05, 0.1, 0.05 * turn)
    ask = Ask(1, deadline_s=0.7, arrived_s=0.6)
    assert admit(gates, ask, 0.6, (Lane(1.6), Lane(0.6)), in_flight=5, commit=False).admitted


def test_a_slow_worker_that_is_free_is_no_reason_to_let_a_queue_stand() -> None:
    gates = _gates()
    for _ in range(5):
        assert _ask(gates, Ask(500, deadline_s=0.69)).admitted
    for turn in range(12):
        gates.standing.look(0.05, 0.1, 0.05 * turn)
    ask, lanes = Ask(500, deadline_s=0.72, arrived_s=0.6), (Lane(0.6), Lane(0.6, 40.0))
    found = admit(gates, ask, 0.6, lanes, in_flight=5, commit=False)
    assert found.reason is Reason.KEPT_SHORT
    assert found.waits_s == pytest.approx(gates.backlog.work_s)


def test_queue_does_not_stand_when_bursts_come_and_most_find_it_short() -> None:
    gates = _gates()
    for burst in range(20):  # of three that come at ease and two that do not; then all is done
        now_s = 0.08 * burst
        for number in range(5):
            ask = Ask(500, deadline_s=now_s + 0.1, arrived_s=now_s)
            found = admit(gates, ask, now_s, (Lane(now_s),), in_flight=number, at_ease=number < 3)
            assert found.reason is Reason.ADMITTED
            if number < 3:
                gates.backlog.put(ask, (Lane(now_s),))
        while len(gates.backlog):
            gates.backlog.take(now_s)


def test_others_in_line_do_not_count_when_there_is_a_cheaper_rung_since_the_queue_stood() -> None:
    gates = _gates()
    for turn in range(12):
        gates.standing.look(0.05, 0.1, 0.05 * turn)
    ask, lanes = Ask(500, deadline_s=0.65, arrived_s=0.6), (Lane(0.6),)
    admitted = [
        admit(gates, ask, 0.6, lanes, in_flight=5, in_line=8, line_s=0.045, commit=False, keep_short=keeps).admitted
        for keeps in (True, False)
    ]
    assert admitted == [False, True]


@pytest.mark.parametrize("commit", [False, True])
def test_dry_run_tells_of_priorities_once_when_the_queue_stands(*, commit: bool) -> None:
    gates = _gates()
    for _ in range(5):
        assert _ask(gates, Ask(500, deadline_s=0.69)).admitted
    for turn in range(12):
        gates.standing.look(0.05, 0.14, 0.05 * turn)
    gates.dry_run = True
    ask = Ask(1, deadline_s=0.735, arrived_s=0.6)
    found = admit(gates, ask, 0.6, (Lane(0.6),), in_flight=5, below_top=1, commit=commit)
    assert (found.admitted, found.would) == (True, Reason.PRIORITY)
    again = admit(gates, ask, 0.6, (Lane(0.6),), in_flight=5, below_top=1, keep_short=False)
    assert (again.admitted, again.would) == (True, None)


def test_those_in_line_take_nothing_of_a_limit_of_requests_in_flight() -> None:
    gates = _gates()
    gates.concurrency = GradientLimit()
    ask = Ask(1, deadline_s=0.1)
    assert admit(gates, ask, 0.0, IDLE, in_flight=0, in_line=10_000, commit=False).admitted


def test_admit_lets_a_queue_stand_when_something_else_may_be_done_about_it() -> None:
    gates = _gates()
    for _ in range(5):
        assert _ask(gates, Ask(500, deadline_s=0.69)).admitted
    for now_s in (0.05 * turn for turn in range(13)):
        ask = Ask(1, deadline_s=now_s + 0.1, arrived_s=now_s)
        found = admit(gates, ask, now_s, (Lane(now_s),), in_flight=1, keep_short=False, commit=False)
        assert found.admitted


def test_admit_recovers_when_the_model_has_learned_far_too_much() -> None:
    cost = big()
    gates = _gates(cost)
    for _ in range(300):
        cost.observe(300, 1, 0, 20 * big().mean_s(300))
    now_s, first_try = 0.0, _ask(gates, Ask(300, deadline_s=0.05))
    assert not first_try.admitted
    admitted = 0
    for _ in range(4000):
        now_s += 0.02
        if _ask(gates, Ask(300, deadline_s=now_s + 0.05, arrived_s=now_s), now_s, in_flight=0).admitted:
            admitted += 1
            gates.backlog.take(now_s)
            cost.observe(300, 1, 0, big().mean_s(300))
    assert admitted > 3000


def test_admit_bounds_rows_and_waits_when_requests_have_no_deadline() -> None:
    gates = _gates(limits=Limits(max_queue_rows=1000, max_wait_s=0.05))
    assert _ask(gates, Ask(900)).admitted
    assert _ask(gates, Ask(200)).reason is Reason.QUEUE_FULL
    gates = _gates(limits=Limits(max_wait_s=0.02))
    answers = [_ask(gates, Ask(300)) for _ in range(5)]
    assert [answer.admitted for answer in answers] == [True, True, True, False, False]
    assert answers[-1].status == 503


def test_admit_takes_nothing_new_when_draining() -> None:
    answer = admit(_gates(), Ask(1), 0.0, IDLE, in_flight=0, draining=True)
    assert (answer.status, answer.reason) == (503, Reason.DRAINING)


def test_admit_leaves_room_for_higher_priorities_when_a_low_one_asks() -> None:
    gates = _gates(limits=Limits(headroom_s=0.01))
    assert _ask(gates, Ask(700, deadline_s=0.05)).admitted
    low, high = Ask(500, deadline_s=0.02), Ask(500, deadline_s=0.02)
    assert not admit(gates, low, 0.0, IDLE, in_flight=1, below_top=1).admitted
    assert admit(gates, high, 0.0, IDLE, in_flight=1).admitted


def test_admit_changes_nothing_when_it_only_asks() -> None:
    gates = _gates()
    gates.quotas = {"a": TokenBucket(1.0, 1.0)}
    for _ in range(3):
        assert admit(gates, Ask(100, 0.05), 0.0, IDLE, in_flight=0, tenant="a", commit=False).admitted
    assert len(gates.backlog) == 0


def test_admit_says_429_when_a_quota_is_used_up_and_lets_others_in() -> None:
    gates = _gates()
    gates.quotas = {"a": TokenBucket(rate_per_s=2.0, burst=1.0)}
    answers = [admit(gates, Ask(1), 0.0, IDLE, in_flight=1, tenant=tenant) for tenant in "aab"]
    assert [answer.status for answer in answers] == [0, 429, 0]
    assert answers[1].retry_after_s == pytest.approx(0.5)
    assert admit(gates, Ask(1), 0.6, IDLE, in_flight=1, tenant="a").admitted


def test_admit_refuses_by_concurrency_when_the_limit_is_reached() -> None:
    gates = _gates()
    gates.concurrency = GradientLimit(first=10.0)
    assert _ask(gates, Ask(1), in_flight=9).admitted
    assert _ask(gates, Ask(1), in_flight=10).reason is Reason.CONCURRENCY


def _compete(weights: dict[str, float], offered_per_s: dict[str, float], work_s: float = 0.005) -> dict[str, float]:
    """Seconds of work done by tenant in 20 s on one worker whose queue holds 50 ms at most."""
    shares = FairShares(weights)
    arrivals = [(at / rate, tenant) for tenant, rate in offered_per_s.items() for at in range(int(20 * rate))]
    heapq.heapify(arrivals)
    done = dict.fromkeys(offered_per_s, 0.0)
    free_s = 0.0
    while arrivals:
        now_s, tenant = heapq.heappop(arrivals)
        waiting_s = max(0.0, free_s - now_s)
        if shares.may(tenant, work_s, now_s, waiting_s=waiting_s) and waiting_s < 0.05:
            shares.charge(tenant, work_s, now_s)
            free_s = max(free_s, now_s) + work_s
            done[tenant] += work_s
    return done


def test_fair_shares_protect_who_stays_below_his_when_another_floods() -> None:
    done = _compete({}, {"modest": 60.0, "greedy": 2000.0})
    assert done["modest"] >= 0.97 * 20 * 60 * 0.005
    assert sum(done.values()) >= 0.97 * 20


@given(st.floats(0.2, 5.0))
@settings(max_examples=5, deadline=None)
def test_fair_shares_follow_weights_when_all_ask_for_too_much(weight: float) -> None:
    done = _compete({"a": weight}, {"a": 900.0, "b": 900.0})
    assert done["a"] / done["b"] == pytest.approx(weight, rel=0.15)
    assert sum(done.values()) >= 0.97 * 20


def test_fair_shares_withhold_nothing_when_a_tenant_is_alone() -> None:
    assert _compete({}, {"a": 1000.0})["a"] >= 0.97 * 20


def test_fair_shares_let_one_alone_wait_for_itself_when_its_account_is_empty() -> None:
    shares = FairShares({})
    shares.charge("a", 1.0, 0.0)
    assert shares.may("a", 0.01, 0.0, waiting_s=1.0)
    shares.may("b", 0.01, 0.0, waiting_s=1.0)
    assert not shares.may("a", 0.01, 0.0, waiting_s=1.0)


def test_fair_shares_forget_a_tenant_when_it_went_away() -> None:
    shares = FairShares({}, active_s=1.0)
    shares.charge("gone", 0.1, 0.0)
    shares.charge("stays", 0.2, 0.0)
    waited_together_s = shares.wait_s("stays", 0.1, 0.0)
    shares.may("stays", 0.01, 5.0, waiting_s=1.0)
    shares.charge("stays", 0.2, 5.0)
    assert shares.wait_s("stays", 0.1, 5.0) == pytest.approx(waited_together_s / 2)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_fair_shares_refuse_when_a_weight_is_not_positive(weight: float) -> None:
    with pytest.raises(UsageError, match=r"weights\.a"):
        FairShares({"a": weight})


def test_token_bucket_refuses_when_its_rate_is_not_positive() -> None:
    with pytest.raises(UsageError, match="rate_per_s"):
        TokenBucket(0.0, 1.0)


def test_gradient_limit_falls_when_latency_rises_and_recovers_when_it_falls() -> None:
    limit = GradientLimit(first=100.0, least=5.0, window=1000)
    for _ in range(200):
        limit.observe(0.01, int(limit.limit))
    grown = limit.limit
    assert grown > 100.0
    for _ in range(50):
        limit.observe(0.2, int(limit.limit))
    fallen = limit.limit
    assert fallen < grown / 3
    for _ in range(400):
        limit.observe(0.01, int(limit.limit))
    assert limit.limit > 2 * fallen


def test_gradient_limit_stays_when_it_is_not_what_holds_the_load_back() -> None:
    limit = GradientLimit(first=100.0)
    for _ in range(100):
        limit.observe(0.01, 5)
    assert limit.limit == 100.0


def test_codel_drops_nothing_when_a_burst_drains_within_the_interval() -> None:
    codel = CoDel(target_s=0.1, interval_s=1.0)
    waits = [(0.01 * at, 0.5 if at < 90 else 0.01) for at in range(300)]
    assert not any(codel.drops(wait_s, now_s, last=False) for now_s, wait_s in waits)


def test_codel_drops_ever_more_often_when_the_queue_stands() -> None:
    codel = CoDel(target_s=0.1, interval_s=1.0)
    drops = [now / 100 for now in range(2000) if codel.drops(0.3, now / 100, last=False)]
    assert drops[0] == pytest.approx(1.0, abs=0.02)
    gaps = [later - sooner for sooner, later in pairwise(drops)]
    assert gaps[0] == pytest.approx(1.0, abs=0.02)
    assert gaps[8] == pytest.approx(1 / 3, abs=0.02)
    assert not codel.drops(0.3, 20.0, last=True)


def test_noise_does_not_refuse_for_ever_when_it_has_gone() -> None:
    """Batches that took twenty times as long for a while: once they do not, requests are let in again soon."""
    cost = CostModel([(1, 0.0005), (512, 0.003)])
    limits = Limits()
    gates: Gates[Ask] = Gates(Backlog(cost, limits), cost, limits)
    for _ in range(300):
        cost.observe(300, 1, 0, 0.05)
        gates.answered(late=1)
    now_s, admitted = 100.0, []
    while now_s < 110.0:  # 100 requests a second, one worker, each takes what it took before the noise
        now_s += 0.01
        found = admit(gates, Ask(300, now_s + 0.05, arrived_s=now_s), now_s, [Lane(now_s)], in_flight=0)
        admitted.append(found.admitted)
        if found.admitted:
            decision = gates.backlog.take(now_s)
            if decision.slices:
                cost.observe(300, 1, 0, 0.002)
            gates.answered(late=not decision.slices, on_time=bool(decision.slices))
    assert not all(admitted[:50])
    assert all(admitted[-200:])
