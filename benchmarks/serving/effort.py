"""How long and how exactly is measured: a part of every result, so that the page says what was done."""

from __future__ import annotations

from pydantic import Field

from rankine.config import Frozen
from serving.traffic import Kind


class Effort(Frozen):
    """Seconds where nothing else is said.

    Probes are short: longer ones would vary less from one trace to the next, but by little, as
    `serving_probe_lengths.py` shows, while the host's speed moves by far more within minutes. What buys more is rounds,
    and their median.

    Attributes:
        probe_s, bursts_s, day_s: a probe, after half a second that is not measured; a day is as long as its.
        rounds, long_rounds: under exponential arrivals, and under the other ones.
        precision: a turn ends where the rate that failed is within this factor of the one that held.
        overload_s: above the sustainable rate, in a round.
        requests: of one client, in a round and of the front end's section.
        point_s: below the sustainable rate, beside the simulator.
        ladder_s: above it, with a ladder.
    """

    probe_s: float = Field(3.0, gt=0)
    bursts_s: float = Field(6.0, gt=0)
    day_s: float = Field(20.0, gt=0)
    rounds: int = Field(5, ge=1)
    long_rounds: int = Field(3, ge=1)
    precision: float = Field(0.03, gt=0)
    overload_s: float = Field(4.0, gt=0)
    requests: int = Field(400, ge=1)
    point_s: float = Field(10.0, gt=0)
    ladder_s: float = Field(15.0, gt=0)

    def seconds_of(self, traffic: Kind) -> float:
        """Of a probe."""
        return {"exponential": self.probe_s, "bursts": self.bursts_s, "day": self.day_s}[traffic]

    def rounds_of(self, traffic: Kind) -> int:
        """So many are run."""
        return self.rounds if traffic == "exponential" else self.long_rounds


QUICK = Effort(
    probe_s=1.5,
    bursts_s=2.0,
    day_s=4.0,
    rounds=2,
    long_rounds=2,
    precision=0.15,
    overload_s=2.0,
    requests=100,
    point_s=3.0,
    ladder_s=4.0,
)
