"""What a simulated server decides of requests by their heads, as :class:`rankine.serving.reception.Reception` does."""

from __future__ import annotations

from collections.abc import Callable

from rankine.planning.simulate_entry import SimulatedLine
from rankine.planning.simulate_rungs import SimulatedRungs
from rankine.planning.simulate_worker import Request
from rankine.policy.admission import Admission, Gates
from rankine.policy.front_end import Ahead, FrontEnd
from rankine.policy.reason import Reason
from rankine.policy.refused import RefusedLately

__all__ = ["SimulatedHeads"]


class SimulatedHeads:
    """Refuses requests, or lets them in.

    Args:
        line: in which they are to wait for their turn.
        gates: behind that. ``rungs``: told where a cheaper one would help.
    """

    def __init__(self, front_end: FrontEnd, line: SimulatedLine, gates: Gates[Request], rungs: SimulatedRungs) -> None:
        self._front_end, self._line, self._gates, self._rungs = front_end, line, gates, rungs
        self._lately = RefusedLately()

    def refused(
        self,
        request: Request,
        now_s: float,
        speed: float | None,
        at_ease: Callable[[], bool],
        ask: Callable[[float], Admission],
    ) -> tuple[Reason, int] | None:
        """Why a request is refused and with which status; None where it is let in: then its deadline is that of its
        scores.

        Args:
            speed: workers of usual speed that do as much as all do; None while there is a cheaper rung.
            at_ease: whether the plan need not be asked.
            ask: it, with the predicted time for those in line.
        """
        line, backlog = self._line, self._gates.backlog
        last_s = min(request.deadline_s, request.arrived_s + self._gates.limits.max_wait_s)
        like = self._lately.like(last_s, request.rows, now_s - request.arrived_s, now_s)
        if like is not None:
            return like.reason, 503
        ahead = None
        if speed is not None:
            ahead = Ahead(backlog.work_s / speed, backlog.time_of(line.rows, len(line)) / speed if len(line) else 0.0)
        terms = self._front_end.terms(
            request.arrived_s, request.deadline_s, now_s, last_s=last_s, waiting=len(line), ahead=ahead
        )
        if terms.is_long and ahead is None:
            self._rungs.line_is_long()
        if terms.refuses:
            waits_s = terms.line_s if terms.is_kept_out else None
            self._lately.behind(terms.alike_by_s, terms.alike_left_s, terms.alike_waited_s, now_s, waits_s)
            return Reason.FRONT_END, 503
        due_s, request.deadline_s = request.deadline_s, terms.plan_s
        if not at_ease():
            found = ask(0.0 if ahead is None else max(terms.line_s, ahead.line_s))
            if found.status == 503 and last_s == due_s:
                self._lately.planned(found.reason, due_s, request.rows, now_s, found.waits_s)
            if found.status == 504 and terms.is_behind:
                return Reason.FRONT_END, 503
            if not found.admitted:
                return found.reason, found.status
        self._front_end.let_in(now_s)
        request.deadline_s = terms.scores_s
        return None
