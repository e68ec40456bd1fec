"""Whether a request is let in: only if it, and everybody who was let in before, will be answered in time.

The order of the questions is that of their cost. What the server cannot do is told at once, with the time after which
to try again, and never after work was spent on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from rankine.policy.backlog import Backlog, Fit
from rankine.policy.batching import Limits, Waiting
from rankine.policy.cost import CostModel
from rankine.policy.fairness import FairShares, TokenBucket
from rankine.policy.gradient import GradientLimit
from rankine.policy.lanes import Lane, speed_of
from rankine.policy.margin import Margin
from rankine.policy.reason import Reason
from rankine.policy.standing import Standing

__all__ = ["AT_EASE", "DEADLINE_MISSED", "DEADLINE_PASSED", "Admission", "Gates", "admit"]

W = TypeVar("W", bound=Waiting)

DEADLINE_PASSED, DEADLINE_MISSED = "the deadline passed before the request ran", "the deadline cannot be met"
"""What a client is told, wherever on the way it is found."""
_LEAST_RETRY_S, _MOST_RETRY_S = 0.005, 60.0
_MARGIN_SHARE = 0.3
_PROBE_SHARE = 0.5
"""Of its time a request must have left to be let in against the prediction; else it is late for other reasons."""


class Admission(Struct, frozen=True):
    """The decision on one request.

    Attributes:
        status: 0 where it was admitted; 429 over its quota or share, 503 no capacity now, 504 could not even be done
            in time by an idle server.
        retry_after_s: when to try again; 0 where it was admitted or trying again is of no use.
        reason: of the decision; ``text`` says it to the client.
        would: for which the operator's rules would have refused it, were they in force; None where they would not.
        waits_s: where the queue stands: so long would wait whoever is due later, whatever its priority; else None.
    """

    admitted: bool
    status: int
    retry_after_s: float
    reason: Reason
    text: str
    would: Reason | None = None
    waits_s: float | None = None


AT_EASE = Admission(True, 0, 0.0, Reason.ADMITTED, "admitted")
"""Of a request for which there is time several times over, and that no rules are about."""


@dataclass(slots=True)
class Gates(Generic[W]):
    """What stands between a request and the queue; all of it is state of one front end.

    Attributes:
        quotas: requests per second by tenant; no limit for tenants that are not in it.
        shares: of computing time among tenants, where they compete; None: first come, first served.
        concurrency: a limit that knows nothing of models, in case the predictions are wrong; None: none.
        dry_run: quotas, shares, that limit and priorities are not in force: what they would do is told in ``would``.
        standing: tells whether the queue stands.
        margin: learned from :meth:`answered`.
        probed_s: when a request was last let in against the prediction.
    """

    backlog: Backlog[W]
    cost: CostModel
    limits: Limits
    quotas: Mapping[str, TokenBucket] | None = None
    shares: FairShares | None = None
    concurrency: GradientLimit | None = None
    dry_run: bool = False
    standing: Standing = field(default_factory=Standing)
    margin: Margin = field(default_factory=Margin)
    probed_s: float = -math.inf

    @property
    def margin_s(self) -> float:
        """Time by which everything must be predicted to be done before its deadline."""
        return self.margin.seconds(self._usual_s)

    def answered(self, *, on_time: int = 0, late: int = 0) -> None:
        """Learn from admitted requests that were answered, or dropped since they were (or would have been) late."""
        self.margin.observe(self._usual_s, on_time=on_time, late=late)

    @property
    def _usual_s(self) -> float:
        """How much longer than on the whole an efficient batch may take.

        One batch, whatever the queue's length: of many, the slow ones and the fast ones even out.
        """
        return (self.cost.tail_ratio - 1.0) * self.cost.mean_s(self.backlog.shape.target_rows)


def admit(
    gates: Gates[W],
    work: W,
    now_s: float,
    lanes: Sequence[Lane],
    *,
    in_flight: int,
    tenant: str = "",
    below_top: int = 0,
    rung: int | None = None,
    draining: bool = False,
    commit: bool = True,
    at_ease: bool = False,
    in_line: int = 0,
    line_s: float = 0.0,
    keep_short: bool = True,
) -> Admission:
    """Decide on ``work`` and, where it is admitted, queue it.

    Args:
        lanes: when each worker is free.
        below_top: priorities between this request's and the highest; each leaves some time to those above it.
        rung: of the ladder, that the request's session keeps to.
        draining: the server is going away and takes nothing new.
        commit: False asks only, for instance when the head of a request is there and its body is not: nothing changes.
        at_ease: there is time for it and for all others several times over: the rules decide, and it is not queued.
        in_flight: requests that wait or run.
        in_line: others that were let in by their heads, and come to the queue before it.
        line_s: predicted time for them. It counts if the queue stands; else not, since in a burst it pays to let in
            whoever may be in time, and to refuse a few later.
        keep_short: a queue that stands is kept short by refusing this one; not where something else may still be done
            about it, or where it was let in before. Of what comes without having been asked for, the queue is looked
            at here; else by whoever asks.
    """
    if draining:
        return _no(503, 1.0, Reason.DRAINING, "the server is shutting down and takes no new requests")
    if work.deadline_s <= now_s:
        return _no(504, 0.0, Reason.EXPIRED, DEADLINE_PASSED)
    ruled = _ruled(gates, work, now_s, in_flight, tenant)
    if ruled is not None and not gates.dry_run:
        return ruled
    left_s = min(work.deadline_s, work.arrived_s + gates.limits.max_wait_s) - now_s
    if keep_short and commit:
        gates.standing.look(gates.backlog.work_s / speed_of(lanes), left_s, now_s)
    found = AT_EASE if at_ease else _full(gates, work)
    idle = not in_flight + in_line
    would = None if ruled is None else ruled.reason
    if found is None and keep_short and not idle:
        found = _stands(gates, work, now_s, lanes, left_s, line_s, below_top)
        if found is not None and found.reason is Reason.PRIORITY and gates.dry_run:
            found, would = None, would or Reason.PRIORITY
    if found is None:
        if keep_short and line_s and gates.standing.stands(now_s):
            lanes = [Lane(lane.free_s + line_s * lane.slowdown, lane.slowdown) for lane in lanes]
        found = _fitted(gates, work, now_s, lanes, idle, below_top, rung, commit)
    if found.admitted and commit and ruled is None:
        _charge(gates, work, tenant, now_s)
    return found if would is None else replace(found, would=would)


def _ruled(gates: Gates[W], work: W, now_s: float, in_flight: int, tenant: str) -> Admission | None:
    """A refusal by the operator's rules, which need no prediction."""
    quota = gates.quotas.get(tenant) if gates.quotas else None
    if quota is not None and not quota.has(1.0, now_s):
        return _no(429, quota.wait_s(1.0, now_s), Reason.QUOTA, f"the quota of tenant {tenant!r} is used up")
    if gates.concurrency is not None and in_flight >= gates.concurrency.limit:
        text = f"{in_flight} requests are in flight, at most {int(gates.concurrency.limit)} may be"
        return _no(503, gates.backlog.work_s, Reason.CONCURRENCY, text)
    shares = gates.shares
    if shares is None:
        return None
    work_s = gates.cost.mean_s(work.rows, work.requests)
    if shares.may(tenant, work_s, now_s, waiting_s=gates.backlog.work_s):
        return None
    text = f"others wait and tenant {tenant!r} has used its share"
    return _no(429, shares.wait_s(tenant, work_s, now_s), Reason.FAIR_SHARE, text)


def _full(gates: Gates[W], work: W) -> Admission | None:
    """A refusal since the queue holds what it may."""
    queued, most = gates.backlog.rows, gates.limits.max_queue_rows
    if queued and queued + work.rows > most:
        text = f"the queue is full: {queued} rows wait, at most {most} may"
        return _no(503, gates.backlog.work_s, Reason.QUEUE_FULL, text)
    return None


def _stands(
    gates: Gates[W], work: W, now_s: float, lanes: Sequence[Lane], left_s: float, line_s: float, below_top: int
) -> Admission | None:
    """A refusal since the queue stands."""
    if not gates.standing.stands(now_s):
        return None
    wait_s = max(0.0, gates.backlog.begins_s(work, lanes) - now_s) + line_s
    kept_s = below_top * gates.limits.headroom_s
    if not gates.standing.is_much(wait_s + kept_s, left_s):
        return None
    queue_s = gates.backlog.work_s / speed_of(lanes) + line_s
    text = f"the queue stands: it has held {1000 * queue_s:.1f} ms of work and hardly ever little for a while"
    if kept_s and not gates.standing.is_much(wait_s, left_s):
        text = f"{text}, and what room is left is kept for higher priorities"
        return _no(503, wait_s + kept_s, Reason.PRIORITY, text)
    return replace(_no(503, wait_s, Reason.KEPT_SHORT, text), waits_s=wait_s)


def _fitted(
    gates: Gates[W],
    work: W,
    now_s: float,
    lanes: Sequence[Lane],
    idle: bool,
    below_top: int,
    rung: int | None,
    commit: bool,
) -> Admission:
    """Admitted where the plan has room."""
    # Never more than a share of the time that there is: a margin that noise has driven up would refuse everything, and
    # what is never let in can never show that it is in time again.
    margin_s = min(gates.margin_s, _MARGIN_SHARE * (work.deadline_s - now_s))
    left_s = below_top * gates.limits.headroom_s
    would = None
    fit = gates.backlog.offer(work, lanes, margin_s=margin_s + left_s, rung=rung, commit=commit)
    if not fit.fits and fit.lacks_s <= left_s:
        if not gates.dry_run:
            return _no(503, fit.lacks_s, Reason.PRIORITY, "what time is left is kept for higher priorities")
        would = Reason.PRIORITY if commit else None  # it is told once
        fit = gates.backlog.offer(work, lanes, margin_s=margin_s, rung=rung, commit=commit)
    reason = Reason.ADMITTED
    if not fit.fits:
        waited_long = work.deadline_s - now_s < _PROBE_SHARE * (work.deadline_s - work.arrived_s)  # it tells nothing
        if not idle or waited_long or now_s < gates.probed_s + gates.limits.probe_s:
            return _too_late(gates, work, now_s, fit)
        reason = Reason.PROBE
        if commit:
            gates.probed_s = now_s
            gates.backlog.push(work, lanes, rung=rung, keep=True)
    return Admission(True, 0, 0.0, reason, "admitted", would)


def _charge(gates: Gates[W], work: W, tenant: str, now_s: float) -> None:
    if gates.quotas and tenant in gates.quotas:
        gates.quotas[tenant].take(1.0, now_s)
    if gates.shares is not None:
        gates.shares.charge(tenant, gates.cost.mean_s(work.rows, work.requests), now_s)


def _too_late(gates: Gates[W], work: W, now_s: float, fit: Fit) -> Admission:
    work_s = gates.cost.mean_s(work.rows, work.requests)
    if fit.reason is Reason.TOO_LATE and now_s + work_s > work.deadline_s:
        text = f"it takes about {1000 * work_s:.1f} ms, which is more than its deadline leaves"
        return _no(504, 0.0, Reason.TOO_LATE, text)
    who = "it" if fit.reason is Reason.TOO_LATE else "another request"
    text = f"{who} would be late: the queue holds {1000 * gates.backlog.work_s:.1f} ms of work"
    return _no(503, fit.lacks_s, fit.reason, text)


def _no(status: int, retry_after_s: float, reason: Reason, text: str) -> Admission:
    retry_s = min(_MOST_RETRY_S, max(_LEAST_RETRY_S, retry_after_s)) if retry_after_s else 0.0
    return Admission(False, status, retry_s, reason, text)
