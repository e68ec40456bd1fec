"""What a run of `accelerator_crossover.py` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AwareDatetime

from rankine.compilation.engines.simulated import SimulatedCost
from rankine.config import Frozen


class Learned(Frozen):
    """Crossovers over the optimum that were found from one wrong profile, in simulated time; one a seed.

    Attributes:
        rate_rps: offered. ``started``: the crossover of the wrong profile over the optimum.
    """

    wrong: str
    rate_rps: float
    started: float | None
    found: tuple[float | None, ...]


class Live(Frozen):
    """One run of the server's pool, with real threads.

    Attributes:
        factor: on the accelerator's times in the warm-up.
        optimum: rows at which both take the same time.
        started: crossover after the warm-up over the optimum. ``found``: after every hundred requests.
        overran: calls whose scores were there later than the cost model says, of ``calls``.
    """

    cpu: SimulatedCost
    accelerator: SimulatedCost
    factor: float
    optimum: float
    started: float | None
    found: tuple[float | None, ...]
    overran: int
    calls: int


Who = Literal["cpu", "accelerator", "pool", "misjudged"]
"""One device alone; both; and both, of which the accelerator is taken for slower than it is at first."""


class Coalesced(Frozen):
    """What one or both devices do at a rate, in simulated time.

    Attributes:
        goodput_rps: answered within their deadline. ``p50_ms``, ``p99_ms``: of the answers.
        batch_rows: mean rows of a batch, by device. ``share``: of all rows that ran.
    """

    who: Who
    rate_rps: float
    goodput_rps: float
    p50_ms: float
    p99_ms: float
    batch_rows: Mapping[str, float]
    share: Mapping[str, float]


class CrossoverResult(Frozen):
    """All that was measured.

    Attributes:
        cpu, accelerator: the costs of the part in simulated time, whose crossover is best at ``optimum`` rows.
        requests: of each of its runs.
        most_rows: of a batch, where requests are coalesced. ``efficient_rows``: by device, those of the smallest batch
            that reaches 95 % of the peak rate.
        load: processes that wanted to run on the machine at the end, over the last minutes.
    """

    schema_version: Literal[2] = 2
    kind: Literal["accelerator-crossover"] = "accelerator-crossover"
    cpu: SimulatedCost
    accelerator: SimulatedCost
    optimum: float
    requests: int
    learned: tuple[Learned, ...]
    most_rows: int
    efficient_rows: Mapping[str, int]
    coalesced: tuple[Coalesced, ...]
    live: tuple[Live, ...]
    load: float
    created: AwareDatetime
    environment: Mapping[str, Any]
