"""What is decided of a request by its head alone, and by how far behind the event loop is with those before it."""

from __future__ import annotations

import math
from time import perf_counter

from rankine.errors import CapacityExceeded, DeadlineExceeded
from rankine.policy.front_end import FrontEnd
from rankine.policy.priorities import Priority
from rankine.policy.reason import Reason
from rankine.policy.refused import RefusedLately
from rankine.serving.bodies import ClientGone
from rankine.serving.config import ServeConfig
from rankine.serving.desk import Asked
from rankine.serving.entry import EntryLine
from rankine.serving.http import Head, Request, candidates_header, deadline_of, priority_header
from rankine.serving.lag import LoopLag
from rankine.serving.metrics import ServerMetrics
from rankine.serving.pool import Pool
from rankine.serving.refusals import QueueRefused, refusal
from rankine.serving.rulebook import RuleBook

__all__ = ["ANONYMOUS", "Reception"]

ANONYMOUS = b"anonymous"
"""The tenant of requests that come without a name."""
_SAME_S = 1e-3
_IN_TIME = {200: True, CapacityExceeded.http_status: False, DeadlineExceeded.http_status: False}
"""Whether a request that was let in and is answered so was in time; of other statuses the client's is the fault."""


class Reception:
    """Lets requests in, or refuses them; on the event loop only.

    Attributes:
        line: of those that were let in and have not begun. ``lag``: of the event loop.
        lately: what those that were refused by their heads tell of others.
    """

    def __init__(self, config: ServeConfig, pool: Pool, metrics: ServerMetrics) -> None:
        self._config, self._pool, self._metrics = config, pool, metrics
        self._front_end = FrontEnd(pool.standing)
        self.line = EntryLine(self._front_end)
        self.lag = LoopLag()
        self.lately = RefusedLately()
        self._book = RuleBook(config.policy, lambda policy: pool.govern(policy.rules(config)), perf_counter())
        self._same, self._same_until_s = QueueRefused("", 0.0), -math.inf
        self._told: dict[Reason, QueueRefused] = {}
        self._behind_s = 0.0
        self.line.emptied = pool.rest.soon
        pool.here.crowded = pool.rest.crowded = pool.turns.crowded = lambda: self.line.moves
        pool.here.busy = lambda: self.lag.busy
        pool.here.watch(self.lag.work.per_s)

    @property
    def wait_s(self) -> float:
        """How long a request that came now would take beside the engine and its queue."""
        return max(self.lag.seconds, self._front_end.wait_s(len(self.line)))

    def admit(self, request: Request, *, in_line: bool = False) -> Head:
        """What headers tell of a request that is let in.

        One that cannot be in time is refused before its body costs anything. It was due since its first bytes came in,
        and has before it what the event loop has still to do for others, then the engine's queue, then all replies.

        Args:
            in_line: it will begin in its turn; else with all others that are ready, in one turn of the event loop.

        Raises:
            BadRequest, PayloadTooLarge, DeadlineExceeded, QueueRefused: they tell enough to refuse the request.
        """
        if request.head is not None:
            return self._still_in_time(request, request.head)
        deadline_s = deadline_of(request, self._config.default_deadline_ms)
        announced = candidates_header(request, self._config.max_candidates)
        policy = self._book.policy_at(request.arrived_s)
        name = request.headers.get(b"x-rankine-tenant", ANONYMOUS).decode("latin-1")
        tenant, priority = policy.known(name), policy.priority(name, priority_header(request))
        least = (None if policy.dry_run else policy.truncate_to) or self._config.truncate_by_prior
        rows = min(announced or 1, least or self._config.max_candidates)
        line = self.line
        now_s = perf_counter()
        last_s = min(deadline_s, request.arrived_s + self._config.max_wait_ms / 1000)
        if in_line and priority < Priority.HIGH:
            self._refuse_alike(last_s, rows, now_s - request.arrived_s, now_s)
        lag_s = None if in_line else self.lag.seconds
        ahead = self._pool.ahead(line.rows, len(line), priority)
        terms = self._front_end.terms(
            request.arrived_s,
            deadline_s,
            now_s,
            last_s=last_s,
            waiting=len(line),
            lag_s=lag_s,
            ahead=ahead,
        )
        if terms.is_long and ahead is None:
            self._pool.here.line_is_long()
        if terms.refuses:
            if in_line:
                waits_s = terms.line_s if terms.is_kept_out else None
                self.lately.behind(terms.alike_by_s, terms.alike_left_s, terms.alike_waited_s, now_s, waits_s)
            self._pool.refused(rows, 1)
            self._behind_s = terms.behind_s
            raise self._behind(terms.behind_s)
        asked = Asked(
            rows, 1, request.arrived_s, terms.plan_s, tenant, priority, False, line.rows, len(line), terms.line_s
        )
        found = self._pool.ask(asked)
        if found is not None:
            if terms.is_behind and found.status == DeadlineExceeded.http_status:
                raise self._behind(terms.behind_s)
            if in_line and found.status == CapacityExceeded.http_status and last_s == deadline_s:
                self.lately.planned(found.reason, deadline_s, rows, now_s, found.waits_s)
            self._metrics.decided(found.reason)
            error = refusal(found)
            if isinstance(error, QueueRefused):
                self._told[error.reason] = error
            raise error
        self._front_end.let_in(now_s)
        request.head = Head(deadline_s, terms.scores_s, announced, tenant, priority, least, rows)
        return request.head

    def scored_rows(self, request: Request, rows: int) -> int:
        """How many candidates of a request with prior scores are scored: all, unless there is no time for them."""
        head = request.head
        if head is None or head.least is None or rows <= head.least:
            return rows
        asked = Asked(rows, 1, request.arrived_s, head.plan_s, head.tenant, head.priority, let_in=True)
        found = self._pool.rows_that_fit(head.least, asked)
        if found < rows:
            self._metrics.truncated(rows - found)
        return found

    def answered(self, request: Request, status: int, now_s: float) -> None:
        """Learn from a request that is over."""
        if request.marks is not None:
            self._front_end.replied(now_s - request.marks.scored_s)
        if request.head is not None and status in _IN_TIME:
            self._front_end.answered(_IN_TIME[status] is False or now_s > request.head.deadline_s, now_s)

    def _refuse_alike(self, due_s: float, rows: int, waited_s: float, now_s: float) -> None:
        """Refuse a request that is like one that was refused a moment ago: those are that nobody looks at, and whoever
        is looked at would have what room there is to himself. High priorities may.

        Raises:
            QueueRefused: it is.
        """
        like = self.lately.like(due_s, rows, waited_s, now_s)
        if like is None:
            return
        self._pool.refused(rows, 1)
        if like.reason is Reason.FRONT_END:
            raise self._behind(self._behind_s)
        self._metrics.decided(like.reason)
        raise self._told[like.reason].with_traceback(None)

    def _still_in_time(self, request: Request, head: Head) -> Head:
        """``head`` of a request that was let in at the door, and whose turn it is now."""
        if request.presence is not None and request.presence.gone:
            raise ClientGone
        now_s = perf_counter()
        if now_s > head.plan_s:
            raise self._behind(now_s - request.arrived_s)
        return head

    def _behind(self, behind_s: float) -> QueueRefused:
        """The refusal of a server that is behind with what it has; for a millisecond it is one and the same."""
        self._metrics.decided(Reason.FRONT_END)
        now_s = perf_counter()
        if now_s >= self._same_until_s:
            text = f"the server is {1000 * behind_s:.0f} ms behind with its requests"
            self._same, self._same_until_s = QueueRefused(text, behind_s, Reason.FRONT_END), now_s + _SAME_S
        return self._same.with_traceback(None)
