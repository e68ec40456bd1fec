"""What is simulated, and what came of every request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankine.errors import UsageError
from rankine.planning.simulate_traffic import Trace
from rankine.policy.batching import Limits
from rankine.policy.cost import CostModel
from rankine.policy.ladder import LadderLimits, Rung

__all__ = ["DeviceRan", "Outcomes", "Setup", "SimulatedDevice"]

_MOST_NOISE = 2.0


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """A worker that takes as long as a table says.

    Attributes:
        profile: pairs (rows, seconds) of one request, on the best rung.
        per_request_s: what a further request in a batch costs.
        noise: standard deviation of the logarithm of a batch's time, at most 2: e times as long or more is then usual.
        believed: the profile that the server starts from, where that is a wrong one.

    Raises:
        UsageError: the noise is out of bounds.
    """

    name: str
    profile: tuple[tuple[int, float], ...]
    per_request_s: float = 20e-6
    noise: float = 0.05
    believed: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise <= _MOST_NOISE:
            raise UsageError("no spread of times", where="noise", got=self.noise, allowed=f"0 to {_MOST_NOISE:g}")


@dataclass(frozen=True, slots=True)
class Setup:
    """A server.

    Attributes:
        devices: its workers; the backlog is planned by the one that does the most rows.
        rungs, floor, ladder: the ladder; off without rungs. Costs are relative to the first.
        front_s: seconds of a request's parsing and answering, one after the other, where the front end shares a core
            with the engine: it runs short batches itself if there is one device, and holds up all others; 0 where
            it has its own. ``front_row_s``: more for each of its rows.
        wakes_s: seconds more of that where the front end had to wake first, after an idle time or while a batch runs:
            pairs (seconds idle, seconds more), the first the shortest; caches get colder with time.
        batch_s: seconds of a batch beside its device's: to take it, to count it, to send its results on their way.
        connect_s: seconds more of a request on a connection of its own. The client keeps its connections, and opens
            one where all of them wait for an answer; it begins with none.
        refuse_s: seconds of a request that is refused by its head; as long as to read that, if 0.
        outside_s: of every answer, on its way and with the client; it keeps nobody waiting.
        weights: fair shares by tenant; none if empty.
        profile_error: factor on the profile that the server starts from.
        exact: the server knows what batches take: no noise is added and nothing is learned.
        learned: what it believes of each device, on the best rung, at the end of an earlier run; where that is given
            there is no ladder.
        seed: of the noise.

    Raises:
        UsageError: beliefs of other devices, or with a ladder.
    """

    devices: tuple[SimulatedDevice, ...]
    limits: Limits = field(default_factory=Limits)
    rungs: tuple[Rung, ...] = ()
    floor: float = 1.0
    ladder: LadderLimits = field(default_factory=LadderLimits)
    front_s: float = 0.0
    front_row_s: float = 0.0
    wakes_s: tuple[tuple[float, float], ...] = ()
    batch_s: float = 0.0
    connect_s: float = 0.0
    refuse_s: float = 0.0
    outside_s: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)
    profile_error: float = 1.0
    exact: bool = False
    learned: tuple[CostModel, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learned and (self.rungs or len(self.learned) != len(self.devices)):
            allowed = "one of each device, and no ladder"
            raise UsageError("not what such a server learns", where="learned", got=len(self.learned), allowed=allowed)


@dataclass(frozen=True, slots=True)
class DeviceRan:
    """What a device ran."""

    name: str
    batches: int
    rows: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of a trace; arrays have the shape ``(requests,)``.

    Attributes:
        status: 200 answered, 429, 503 or 504.
        finish_s: when it was answered or refused.
        rung: that answered it, -1 where none did.
        reasons: how often each decision was taken, by its code.
        busy_s: of a worker on average.
        debt: quality debt over all answered requests.
        learned: what the server believes of each device at the end, on the best rung.
        devices: what each of them ran.
    """

    trace: Trace
    status: NDArray[np.int16]
    finish_s: NDArray[np.float64]
    rung: NDArray[np.int8]
    reasons: Mapping[str, int]
    batches: int
    batch_rows: int
    busy_s: float
    end_s: float
    debt: float
    learned: tuple[CostModel, ...] = ()
    devices: tuple[DeviceRan, ...] = ()

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """From arrival to the answer, refusals included."""
        return self.finish_s - self.trace.arrived_s

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether there was an answer, in time or not."""
        return np.asarray(self.status == 200)

    @property
    def on_time(self) -> NDArray[np.bool_]:
        """Whether it was answered within its deadline; all others are misses."""
        return self.answered & (self.latency_s <= self.trace.budget_s + 1e-9)
