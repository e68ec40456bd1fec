"""What a run of `serving_goodput.py` leaves: one file, a row for each thing measured, the last time that it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from rankine.config import Frozen
from serving.traffic import Kind

Section = Literal["goodput", "front_end", "oracle", "simulator", "overload", "ladder"]


class Case(Frozen):
    """What was measured: one server with one model under one traffic.

    Attributes:
        server: its name, see `serving/peers`.
        candidates: distribution of the number of candidates.
        short_share: of requests with a shorter deadline.
    """

    server: str
    model: str
    traffic: Kind
    candidates: str
    short_share: float = 0.0


class Attempt(Frozen):
    """One rate that was tried once."""

    rate_rps: float
    held: bool
    why: str


class Goodput(Frozen):
    """The highest rate that a server sustained; None where none held.

    Attributes:
        confirmed: how often the rate held when it was tried again with other seeds, and how often it was.
        capped: no rate failed, or the generator was the bottleneck where one did: the limit may lie higher.
    """

    case: Case
    slo_ms: float
    sustainable_rps: float | None
    goodput_rps: float | None
    failed_rps: float | None
    p50_ms: float | None
    p99_ms: float | None
    requests: int
    supports_p99: bool
    confirmed: tuple[int, int]
    capped: bool
    reason: str
    attempts: tuple[Attempt, ...]
    settings: Mapping[str, int]
    created: AwareDatetime
    environment: Mapping[str, Any]


class Overload(Frozen):
    """A rate that is a multiple of what the server sustained.

    Attributes:
        goodput_share: of the goodput at the sustainable rate.
        refused: answered with 429, 503 or 504; ``refusal_p99_ms`` from when they were due.
        admitted_in_time_share: of the requests that were not refused; what was never answered counts as late.
        outcomes: number of requests by outcome.
    """

    case: Case
    factor: float
    sustainable_rps: float
    offered_rps: float
    goodput_rps: float
    goodput_share: float
    requests: int
    refused: int
    refusal_p99_ms: float | None
    admitted_in_time_share: float | None
    outcomes: Mapping[str, int]
    generator_bound: bool
    settings: Mapping[str, int]
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


class Oracle(Frozen):
    """What a scheduler with perfect knowledge could sustain, see `serving/oracle.py`.

    Attributes:
        call_ms, row_us: of the engine, alone on the server's core.
        request_ms: what the server's processes computed for a request beside that, one client asking.
        engine_rps: the rate of an oracle to which nothing but the engine costs anything.
        server_rps: of one that pays for what this server does beside.
    """

    case: Case
    call_ms: float
    row_us: float
    request_ms: float
    engine_rps: float
    server_rps: float
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
        front_ms: processor time of a request beside that. ``noise``: relative spread of a batch's time.
        real_rps, simulated_rps: highest sustainable rate, of the same traces.
    """

    case: Case
    profile_ms: Mapping[int, float]
    per_request_ms: float
    front_ms: float
    noise: float
    real_rps: float
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

    schema_version: Literal[1] = 1
    kind: Literal["serving-proof"] = "serving-proof"
    titles: Mapping[str, str] = Field(default_factory=dict)
    versions: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    goodput: tuple[Goodput, ...] = ()
    overload: tuple[Overload, ...] = ()
    front_end: tuple[FrontEnd, ...] = ()
    oracle: tuple[Oracle, ...] = ()
    simulator: tuple[Simulation, ...] = ()
    ladder: tuple[LadderRun, ...] = ()
    missing: Mapping[str, str] = Field(default_factory=dict)


Row = Goodput | Overload | FrontEnd | Oracle | Simulation | LadderRun


def read_result(path: Path) -> ServingProof:
    """The result file; one without rows where there is none."""
    if not path.exists():
        return ServingProof()
    return ServingProof.model_validate_json(path.read_text(encoding="utf-8"))


def row_of(found: ServingProof, section: Section, case: Case) -> Row | None:
    """What was measured of a case, if it was."""
    rows: Sequence[Row] = getattr(found, section)
    return next((one for one in rows if one.case == case), None)


def merged(found: ServingProof, section: Section, row: Row) -> ServingProof:
    """``found`` with a row of a section, in the place of the one of the same case if there is one."""
    rows: Sequence[Row] = getattr(found, section)
    at = next((number for number, one in enumerate(rows) if one.case == row.case), len(rows))
    return found.model_copy(update={section: (*rows[:at], row, *rows[at + 1 :])})


def write_result(path: Path, result: ServingProof) -> None:
    """Write all of it, in one step: a run that is killed leaves what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(path)
