"""Which worker of a pool runs what: the state behind :mod:`rankine.policy.placement`.

Not thread-safe: the pool's lock is held around every call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from rankine.policy.admission import Gates
from rankine.policy.backlog import Decision
from rankine.policy.cost import CostModel
from rankine.policy.dispatch import Dispatch
from rankine.policy.exploration import Trial
from rankine.policy.lanes import Lane
from rankine.policy.placement import Device, Placement, place
from rankine.policy.reason import Reason
from rankine.serving.devices import Health, PoolDevice
from rankine.serving.elastic import Elastic
from rankine.serving.work import Work

__all__ = ["Placing", "Taken", "Worker"]


class Taken(Struct):
    """A batch on its way: what the policies decided, and the rung and the device that run it.

    Attributes:
        placed: why on this device; None where there is no other.
        failed_on: the device that failed on it before, if one did.
        again: its worker was lost when it ran before.
        lost_on: devices elsewhere that gave no answer to it.
        trial: as which it runs on this device; None where it does not.
    """

    decision: Decision[Work]
    rung: int
    text: str
    predicted_s: float
    co_running: int
    device: int = 0
    placed: Reason | None = None
    failed_on: int | None = None
    again: bool = False
    lost_on: tuple[int, ...] = ()
    trial: Trial | None = None


@dataclass(slots=True, eq=False)
class Worker:
    """A thread of a device.

    Attributes:
        free_s: when what it runs is predicted to be done.
        given: batches that others took from the queue for it.
        leaves: it could run, and leaves what waits to others.
        timed: of each rung, seconds of runs in the warm-up by number of rows.
    """

    device: int = 0
    thread: threading.Thread | None = None
    running: bool = False
    free_s: float = 0.0
    given: deque[Taken] = field(default_factory=deque)
    leaves: bool = False
    timed: list[dict[int, list[float]]] = field(default_factory=list)

    def free_at(self, now_s: float) -> float:
        """When it is predicted to be done with all that it has.

        What takes longer than predicted is expected to go on for as long again as it is late: were it expected to end
        every moment, a device that hangs would have everything left to it.
        """
        free_s = now_s
        if self.running:
            free_s = self.free_s if self.free_s > now_s else 2 * now_s - self.free_s
        return free_s + sum(each.predicted_s for each in self.given)


class Placing:
    """The workers of all devices, and which devices work."""

    def __init__(self, devices: Sequence[PoolDevice]) -> None:
        self.devices = tuple(devices)
        self.workers = [Worker(number) for number, device in enumerate(devices) for _ in range(device.workers)]
        self._health = [Health() for _ in devices]
        self._dispatch: Dispatch | None = None

    @property
    def several(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.devices) > 1

    def is_out(self, worker: Worker, now_s: float) -> bool:
        """Whether its device is left out after a failure, or cannot be reached."""
        return self._health[worker.device].is_out(now_s) or not self.devices[worker.device].up

    def lanes(self, now_s: float, elastic: Elastic, rows: int) -> list[Lane]:
        """The workers as the plan sees them; ``rows``: of a usual batch."""
        if not self.several:
            return [Lane(max(now_s, worker.free_s) if worker.running else now_s) for worker in self.workers]
        lead_slowdown = elastic.slowdown(self._dispatch.lead, rows) if self._dispatch else 1.0
        return [
            Lane(each.free_at(now_s), elastic.slowdown(each.device, rows) / lead_slowdown) for each in self._in(now_s)
        ]

    def next_batch(
        self, worker: Worker, gates: Gates[Work], elastic: Elastic, now_s: float
    ) -> tuple[int | None, Trial | None]:
        """Which of the planned batches an idle worker takes, and whether as a trial; None where others are done with
        all of them sooner. Of a batch that is too large for it, what it takes is made one of its own."""
        if not self.several or not gates.backlog.planned:
            return 0 if len(gates.backlog) else None, None
        crew = self._in(now_s)
        if worker not in crew:
            return None, None
        dispatch = self._dispatched(gates, elastic)
        return dispatch.next(crew.index(worker), gates.backlog, self._seen(crew, elastic, now_s), now_s)

    def follow(self, gates: Gates[Work], elastic: Elastic, now_s: float) -> None:
        """Plan what waits by the device that leads, by what has been learned by now."""
        if not self.several:
            return
        devices = [Device(each.name, cost) for each, cost in zip(self.devices, self._costs(elastic), strict=True)]
        dispatch = self._dispatched(gates, elastic)
        if dispatch.follow(devices):
            gates.cost = devices[dispatch.lead].cost
            gates.backlog.recost(gates.cost, now_s)

    def tries(self, trial: Trial, taken: Taken, now_s: float) -> Taken:
        """A batch of which all runs on one device, as that device's trial."""
        if taken.placed is not Reason.LEAST_FINISH or not taken.decision.slices:  # divided after all, or gone
            return taken
        if self._dispatch is not None:
            self._dispatch.exploration.began(trial, self.devices[taken.device].name, now_s)
        return replace(taken, placed=Reason.EXPLORE, text=f"{taken.text}; on a device that is tried", trial=trial)

    def shared(
        self, worker: Worker, rows: int, requests: int, elastic: Elastic, now_s: float
    ) -> tuple[Placement, list[Worker]] | None:
        """How a worker divides one request with others, and these; None where it does not pay."""
        crew = self._in(now_s)
        found = place(rows, requests, self._seen(crew, elastic, now_s), now_s, divisible=True)
        mine = crew.index(worker) if worker in crew else -1
        if found.reason is not Reason.SPREAD or all(part.device != mine for part in found.parts):
            return None
        return found, [crew[part.device] for part in found.parts]

    def failed(self, taken: Taken, now_s: float, elastic: Elastic) -> Worker | None:
        """A device failed on a batch: who gets it next; None where it failed on another before, or there is none.

        What fails on two devices is no fault of either.
        """
        self._failed(taken, now_s)
        if taken.failed_on is not None:
            self._health[taken.failed_on].excuse()
            return None
        others = [each for each in self._in(now_s) if each.device != taken.device]
        if not others:
            return None
        self._health[taken.device].failed(now_s)
        return self._soonest(others, taken, now_s, elastic)

    def lost(self, taken: Taken, now_s: float, elastic: Elastic) -> tuple[Worker | None, tuple[int, ...]]:
        """A device elsewhere gave no answer to a batch: who gets it next, and all that gave none so far.

        None where every other did not answer either, or is left out.
        """
        self._failed(taken, now_s)
        lost_on = (*taken.lost_on, taken.device)
        is_up = self.devices[taken.device].up
        if is_up:  # late or busy: it gets nothing for a while; else it is found out when it is back
            self._health[taken.device].failed(now_s)
        others = [each for each in self._in(now_s) if each.device not in lost_on]
        return self._soonest(others, taken, now_s, elastic) if others else None, lost_on

    def ran(self, taken: Taken, rows: int, seconds: float, now_s: float) -> None:
        """A batch ran on its device."""
        self._health[taken.device].worked()
        if self._dispatch is not None:
            name = self.devices[taken.device].name
            self._dispatch.exploration.ran(name, rows, taken.predicted_s, seconds, now_s, taken.trial)

    def _soonest(self, workers: Sequence[Worker], taken: Taken, now_s: float, elastic: Elastic) -> Worker:
        """Who is predicted to be done with a batch first."""
        rows, requests = taken.decision.rows, taken.decision.requests
        ends_s = [device.finish_s(rows, requests, now_s) for device in self._seen(workers, elastic, now_s)]
        return workers[ends_s.index(min(ends_s))]

    def _in(self, now_s: float) -> list[Worker]:
        """Workers of devices that work. There is always one: if all are left out, those that are here, or all."""
        found = [worker for worker in self.workers if not self.is_out(worker, now_s)]
        return found or [worker for worker in self.workers if self.devices[worker.device].up] or self.workers

    def _seen(self, workers: Sequence[Worker], elastic: Elastic, now_s: float) -> list[Device]:
        """Workers as the placement sees them, at the times of the rung that decides what is let in."""
        costs = self._costs(elastic)
        return [Device(self.devices[each.device].name, costs[each.device], each.free_at(now_s)) for each in workers]

    def _costs(self, elastic: Elastic) -> list[CostModel]:
        """Of all devices, on the rung that decides what is let in."""
        return [costs[elastic.fastest] for costs in elastic.by_device]

    def _failed(self, taken: Taken, now_s: float) -> None:
        if self._dispatch is not None and taken.trial is not None:
            self._dispatch.exploration.failed(self.devices[taken.device].name, now_s)

    def _dispatched(self, gates: Gates[Work], elastic: Elastic) -> Dispatch:
        """The policies' state, from when the warm-up is over."""
        if self._dispatch is None:
            self._dispatch = Dispatch(gates.limits, elastic.lead)
        return self._dispatch
