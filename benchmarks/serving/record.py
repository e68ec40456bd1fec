"""What a run of `serving_goodput.py` leaves: one file, the rounds of each contest and a row for each other thing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from rankine.config import Frozen
from rankine.errors import UsageError
from serving.effort import Effort
from serving.traffic import Kind

Section = Literal["goodput", "front_end", "simulator", "ladder"]
VERSION: Literal[2] = 2
"""1 had one row a server, each measured at another time."""


class Contest(Frozen):
    """Under what servers are compared: one model and one traffic.

    Attributes:
        candidates: distribution of the number of candidates.
        short_share: of requests with a shorter deadline.
    """

    model: str
    traffic: Kind
    candidates: str
    short_share: float = 0.0


class Case(Contest):
    """What was measured: one server in a contest; ``server`` is its name, see `serving/peers`."""

    server: str

    @property
    def contest(self) -> Contest:
        """That of any server."""
        return Contest.model_validate(self.model_dump(exclude={"server"}))


class Attempt(Frozen):
    """One rate that was tried once."""

    rate_rps: float
    held: bool
    why: str


class Oracle(Frozen):
    """What a scheduler with perfect knowledge could sustain of the same requests, see `serving/oracle.py`.

    Attributes:
        call_ms, row_us: of the engine, alone on the server's core.
        request_ms: what the server's processes computed for a request beside that, one client asking.
        engine_rps: the rate of an oracle to which nothing but the engine costs anything.
        server_rps: of one that pays for what this server does beside.
    """

    call_ms: float
    row_us: float
    request_ms: float
    engine_rps: float
    server_rps: float


class Overload(Frozen):
    """A rate that is a multiple of what the server had sustained the moment before.

    Attributes:
        goodput_share: of the goodput at the sustainable rate.
        refused: answered with 429, 503 or 504; ``refusal_p99_ms`` from when they were due.
        admitted_in_time_share: of the requests that were not refused; what was never answered counts as late.
        outcomes: number of requests by outcome.
    """

    factor: float
    offered_rps: float
    goodput_rps: float
    goodput_share: float
    requests: int
    refused: int
    refusal_p99_ms: float | None
    admitted_in_time_share: float | None
    outcomes: Mapping[str, int]
    generator_bound: bool


class Turn(Frozen):
    """What one server sustained in one round.

    Attributes:
        sustained_rps: the highest rate that held; None where none did. Goodput and latencies are of that probe.
        failed_rps: the lowest rate above it that did not hold.
        requests: of all probes.
        capped: no rate failed, or the generator was the bottleneck where one did: the limit may lie higher.
        engine_ms: the control: the engine's own time for one request, before and after the turn.
        oracle, overload: right after it, under the same arrivals; only of Rankine, or now and then.
    """

    sustained_rps: float | None
    failed_rps: float | None
    goodput_rps: float | None
    p50_ms: float | None
    p99_ms: float | None
    requests: int
    capped: bool
    engine_ms: tuple[float, float]
    attempts: tuple[Attempt, ...]
    settings: Mapping[str, int]
    oracle: Oracle | None = None
    overload: Overload | None = None


class Round(Frozen):
    """Servers one right after the other under the same arrivals.

    Attributes:
        number: of the round in its contest, which is the seed of its arrivals too.
        turns: by server, in the order in which they came.
    """

    contest: Contest
    number: int
    slo_ms: float
    effort: Effort
    turns: Mapping[str, Turn]
    created: AwareDatetime
    environment: Mapping[str, Any]


class FrontEnd(Frozen):
    """One client: how much later it has its answer than the engine has the logits.

    Attributes:
        run_p50_ms: of the engine's call, as the server recorded it of the same requests.
        added_ms: difference of the medians.
    """

    case: Case
    requests: int
    client_p50_ms: float
    client_p99_ms: float
    run_p50_ms: float
    added_ms: float
    settings: Mapping[str, int]
    created: AwareDatetime
    environment: Mapping[str, Any]


class Point(Frozen):
    """One rate below the sustainable one, asked of the server and of the simulator."""

    share: float
    rate_rps: float
    real_p50_ms: float
    real_p99_ms: float
    simulated_p50_ms: float
    simulated_p99_ms: float
    requests: int


class Simulation(Frozen):
    """The simulator beside the server, fed with what was measured of the engine in the same run.

    Attributes:
        profile_ms: of a batch by its number of rows; ``per_request_ms`` of every further request in it.
        front_ms: processor time of a request beside that; ``front_row_us``: more for each of its rows; ``wakes_ms``:
            more where the event loop had to wake for it, by how long it had slept (``wake_ms``: where that is not
            known). ``connect_ms``: of a new connection. ``refuse_ms``: of a refusal.
        batch_ms: of a batch, beside the engine. ``noise``: relative spread of a batch's time.
        outside_ms: of an answer's latency, what is not the server's.
        real_rps, simulated_rps: highest sustainable rate, of the same traces; the real one is the median of
            ``real_each_rps``.
    """

    case: Case
    profile_ms: Mapping[int, float]
    per_request_ms: float
    front_ms: float
    front_row_us: float = 0.0
    wake_ms: float = 0.0
    wakes_ms: tuple[tuple[float, float], ...] = ()
    batch_ms: float = 0.0
    connect_ms: float = 0.0
    refuse_ms: float = 0.0
    outside_ms: float = 0.0
    noise: float
    real_rps: float
    real_each_rps: tuple[float, ...] = ()
    simulated_rps: float
    points: tuple[Point, ...]
    created: AwareDatetime
    environment: Mapping[str, Any]


class LadderRung(Frozen):
    """A rung, what a request costs on it (``request_ms`` of the engine), and which share of the answers it gave."""

    variant: str
    engine: str
    margin: float
    request_ms: float
    share: float


class LadderRun(Frozen):
    """Overload that quality bends under.

    Attributes:
        base: variant and engine of ``base_rps``, the rate that the fastest variant of the smallest margin sustains.
        in_time_share: of the requests of the overload that were answered within their deadline; ``shed`` were refused.
        back_up_s: from the fall of the load until the last answer that another rung than the best one gave.
    """

    case: Case
    base: str
    base_margin: float
    base_rps: float
    base_request_ms: float
    floor: float
    factor: float
    offered_rps: float
    requests: int
    in_time_share: float
    shed: int
    outcomes: Mapping[str, int]
    p99_ms: float | None
    back_up_s: float
    rungs: tuple[LadderRung, ...]
    generator_bound: bool
    created: AwareDatetime
    environment: Mapping[str, Any]


class ServingProof(Frozen):
    """All that was measured.

    Attributes:
        titles: of the servers.
        versions: of the packages that a server is made of.
        missing: servers that could not be run, and why.
    """

    schema_version: Literal[2] = 2
    kind: Literal["serving-proof"] = "serving-proof"
    titles: Mapping[str, str] = Field(default_factory=dict)
    versions: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    rounds: tuple[Round, ...] = ()
    front_end: tuple[FrontEnd, ...] = ()
    simulator: tuple[Simulation, ...] = ()
    ladder: tuple[LadderRun, ...] = ()
    missing: Mapping[str, str] = Field(default_factory=dict)

    def rounds_of(self, contest: Contest) -> list[Round]:
        """Those of one contest, in the order in which they were run."""
        return [one for one in self.rounds if one.contest == contest]


Row = FrontEnd | Simulation | LadderRun


def read_result(path: Path) -> ServingProof:
    """The result file; one without rows where there is none.

    Raises:
        UsageError: it is of another version.
    """
    if not path.exists():
        return ServingProof()
    raw = path.read_text(encoding="utf-8")
    version = json.loads(raw).get("schema_version")
    if version != VERSION:
        hint = "Its rates were not taken in rounds: measure them again, into another file."
        raise UsageError(
            "a result file of another version", where=str(path), got=version, allowed=str(VERSION), hint=hint
        )
    return ServingProof.model_validate_json(raw)


def row_of(found: ServingProof, section: Section, case: Case) -> Row | None:
    """What was measured of a case, if it was."""
    rows: Sequence[Row] = getattr(found, section)
    return next((one for one in rows if one.case == case), None)


def merged(found: ServingProof, section: Section, row: Row) -> ServingProof:
    """``found`` with a row of a section, in the place of the one of the same case if there is one."""
    rows: Sequence[Row] = getattr(found, section)
    at = next((number for number, one in enumerate(rows) if one.case == row.case), len(rows))
    return found.model_copy(update={section: (*rows[:at], row, *rows[at + 1 :])})
