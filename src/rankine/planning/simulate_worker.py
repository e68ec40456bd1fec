"""Workers of a simulated server, which take as long as a table says, and the requests that they run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from rankine.planning.simulate_setup import Setup
from rankine.policy.backlog import Decision
from rankine.policy.cost import CostModel
from rankine.policy.exploration import Trial

__all__ = ["ExactCost", "Noise", "Request", "SimulatedWorker"]

_CHUNK = 4096


@dataclass(slots=True, eq=False)
class Request:
    """A request of the trace, as the policies see it."""

    number: int
    rows: int
    arrived_s: float
    deadline_s: float
    requests: int = 1
    left: int = 0


class ExactCost(CostModel):
    """What a scheduler believes that knows service times: nothing to learn, and nothing kept for the unforeseen."""

    @property
    def tail_ratio(self) -> float:
        return 1.0

    def observe(self, rows: int, requests: int, co_running: int, seconds: float) -> None:
        """It knows already."""


class Noise:
    """Factors on the times of batches: log-normal with mean 1."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._normals: list[float] = []

    def factor(self, noise: float) -> float:
        """Of one batch; ``noise``: standard deviation of the logarithm."""
        if not noise:
            return 1.0
        if not self._normals:
            self._normals = self._random.standard_normal(_CHUNK).tolist()
        return math.exp(noise * self._normals.pop() - noise * noise / 2)


@dataclass(slots=True, eq=False)
class SimulatedWorker:
    """A device and what it runs.

    Attributes:
        truth: what batches take, on the best rung; ``costs``: of each rung, relative to that.
        learned: what the server believes, by rung.
        expected_s: when it is predicted to be free.
        trial: as which it runs a batch; None where it does not.
        delay_s: by which the front end has held up the running batch.
        batches, rows: that it has run.
    """

    name: str
    truth: CostModel
    costs: tuple[float, ...]
    noise: float
    learned: tuple[CostModel, ...]
    running: Decision[Request] | None = None
    trial: Trial | None = None
    rung: int = 0
    started_s: float = 0.0
    expected_s: float = 0.0
    delay_s: float = 0.0
    busy_s: float = 0.0
    batches: int = 0
    rows: int = 0

    @classmethod
    def of(cls, setup: Setup, at: int, costs: Sequence[float]) -> SimulatedWorker:
        """That of the device number ``at``; ``costs``: of each rung, relative to the best."""
        device = setup.devices[at]
        truth = CostModel(device.profile, per_request_s=device.per_request_s)
        learned = [deepcopy(setup.learned[at])] if setup.learned else list[CostModel]()
        for cost in costs[len(learned) :]:
            if setup.exact:
                profile = [(rows, seconds * cost) for rows, seconds in device.profile]
                learned.append(ExactCost(profile, per_request_s=device.per_request_s * cost))
            else:
                factor = cost * setup.profile_error
                start = device.believed or device.profile
                learned.append(CostModel([(rows, seconds * factor) for rows, seconds in start]))
        return cls(device.name, truth, tuple(costs), 0.0 if setup.exact else device.noise, tuple(learned))

    def takes_s(self, decision: Decision[Request], rung: int, noise: Noise) -> float:
        """What a batch takes."""
        mean_s = self.truth.mean_s(decision.rows, decision.requests)
        return mean_s * self.costs[rung] * noise.factor(self.noise)

    def begin(self, decision: Decision[Request], rung: int, now_s: float) -> None:
        """Run a batch from now on."""
        self.running, self.rung, self.started_s = decision, rung, now_s
        self.expected_s = now_s + self.learned[rung].mean_s(decision.rows, decision.requests)

    def ran(self, decision: Decision[Request], rung: int, seconds: float) -> None:
        """Count a batch, and learn what it took."""
        self.batches += 1
        self.rows += decision.rows
        self.learned[rung].observe(decision.rows, decision.requests, 0, seconds)
