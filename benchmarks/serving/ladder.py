"""Quality that bends: a server with a floor, under a load that no rung but its cheaper ones can carry."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from rankine.artifact import Artifact
from rankine.certification.plan import certified_pairs, quality_certificates
from rankine.environment import environment
from rankine.errors import SloNotMet, UsageError
from rankine.models.variant import BASELINE
from rankine.observation.load.answer import Answer
from rankine.planning.ladder import Ladder, LadderStep, read_ladder
from rankine.serving.model import ladder_within
from rankine.stats import percentile
from serving.client import Reply
from serving.drive import WARMUP_S, Drive
from serving.effort import Effort
from serving.oracle import engine_service
from serving.peers.own import own_server
from serving.peers.peer import Running
from serving.queries import Mix, Query, draw_queries
from serving.ranker import Ranker
from serving.record import Case, LadderRun, LadderRung
from serving.search import Tell
from serving.sections import REFUSALS
from serving.traffic import Floats, due_times, intensity
from serving.turn import search_now
from serving.wires import Wire, rank_json, read_rank

BASE_MARGIN, FLOOR, FACTOR, CALM_SHARE, CALM_S = 0.0005, 0.002, 1.5, 0.5, 8.0
BASE_TURNS, LEAST_RUNGS = 3, 2
_OPTIONS = ("--allow-uncertified",)


@dataclass(frozen=True)
class LadderPlan:
    """What is served, and where.

    Attributes:
        folder: for logs of the servers.
    """

    artifact: Path
    catalog: Path
    folder: Path
    server_cores: tuple[int, ...]
    generator_cores: tuple[int, ...]
    mix: Mix
    seed: int


def ladder_case(plan: LadderPlan) -> Case:
    """Of the row that an artifact has in this section."""
    return Case(server="rankine", model=plan.artifact.name, traffic="exponential", candidates=plan.mix.candidates)


def measure_ladder(plan: LadderPlan, effort: Effort, tell: Tell) -> LadderRun:
    """The sustainable rate of the fastest variant of the base margin; and ``FACTOR`` times that, with a floor.

    Raises:
        UsageError: the artifact has no ladder within the floor, or one of one rung.
        SloNotMet: the base sustains nothing.
    """
    artifact = Artifact.open(plan.artifact)
    steps = ladder_within(artifact, FLOOR)
    if len(steps) < LEAST_RUNGS:
        where, allowed = str(artifact.path), f"at least {LEAST_RUNGS} rungs up to {FLOOR:g}"
        raise UsageError("there is nowhere to step", where=where, got=f"{len(steps)}", allowed=allowed)
    variant, engine = base_of(artifact)
    options = ["--variant", variant, "--engine", engine, *_OPTIONS]
    with own_server(plan.artifact, plan.catalog, options, cores=plan.server_cores, folder=plan.folder) as url:
        queries = _queries(url, plan)
        drive = _drive(url, rank_json("/v1/rank", own_headers=True), queries, plan)
        base_rps = sustained_rps(drive, effort, tell)
    if not base_rps:
        raise SloNotMet("no rate held", where=f"{variant} on {engine}")
    tell(f"{variant} on {engine} sustains {base_rps:.0f} rps")
    seen: list[str] = []
    options = ["--floor", str(FLOOR), *_OPTIONS]
    with own_server(plan.artifact, plan.catalog, options, cores=plan.server_cores, folder=plan.folder) as url:
        drive = _drive(url, _naming_wire(seen), queries, plan)
        drive.drain()
        seen.clear()
        due_s = two_loads(FACTOR * base_rps, CALM_SHARE * base_rps, effort.ladder_s, plan.seed)
        config, run = drive.replay(due_s, effort.ladder_s + CALM_S)
    falls_s = WARMUP_S + effort.ladder_s
    pressed = [one for one in run.answers if WARMUP_S <= one.due_s < falls_s]
    requests = int(((due_s >= WARMUP_S) & (due_s < falls_s)).sum())
    in_time = [one for one in pressed if one.correct and one.latency_ms <= plan.mix.deadline_ms]
    by = named(run.answers, seen)
    shares = Counter(variant for answer, variant in by if WARMUP_S <= answer.due_s < falls_s)
    return LadderRun(
        case=ladder_case(plan),
        base=f"{variant} on {engine}",
        base_margin=BASE_MARGIN,
        base_rps=base_rps,
        base_request_ms=_request_ms(plan, queries, variant, engine),
        floor=FLOOR,
        factor=FACTOR,
        offered_rps=requests / effort.ladder_s,
        requests=requests,
        in_time_share=len(in_time) / max(1, requests),
        shed=sum(one.outcome in REFUSALS for one in pressed),
        outcomes=Counter(one.outcome for one in pressed),
        p99_ms=percentile(np.array([one.latency_ms for one in pressed if one.correct]), 99) if in_time else None,
        back_up_s=back_up_s(by, falls_s, steps[0].variant),
        rungs=tuple(_rung(plan, queries, one, shares) for one in steps),
        generator_bound=drive.record(config, run).generator_bound,
        created=datetime.now(UTC),
        environment=environment(),
    )


def sustained_rps(drive: Drive, effort: Effort, tell: Tell) -> float:
    """The median of searches under ``BASE_TURNS`` different arrivals; 0 where most found none."""
    rates: list[float] = []
    for number in range(BASE_TURNS):
        near_rps = rates[-1] if rates and rates[-1] else None
        found = search_now(replace(drive, seed=drive.seed + number), effort, near_rps, None, tell)
        rates.append(found.best.offered_rps or 0.0 if found.best else 0.0)
    return float(np.median(rates))


def base_of(artifact: Artifact) -> tuple[str, str]:
    """Variant and engine of the fastest that is certified at the base margin; the baseline where no rung is."""
    ladder = read_ladder(artifact)
    within = [one for one in ladder.rungs if one.margin <= BASE_MARGIN] if isinstance(ladder, Ladder) else []
    if within:
        return within[-1].variant, within[-1].engine
    for variant, engine in sorted(quality_certificates(artifact)):
        if variant == BASELINE and (variant, engine) in certified_pairs(artifact):
            return variant, engine
    allowed = "a rung of the ladder, or a certified baseline"
    raise UsageError("nothing is certified at the base margin", where=str(artifact.path), allowed=allowed)


def two_loads(high_rps: float, low_rps: float, high_s: float, seed: int) -> Floats:
    """Times of requests at one rate, warm-up first, and then at another for ``CALM_S``."""
    first_s = WARMUP_S + high_s
    high = due_times(high_rps, intensity("exponential", first_s, seed=seed), seed=seed)
    low = due_times(low_rps, intensity("exponential", CALM_S, seed=seed + 1), seed=seed + 1)
    return np.concatenate([high, first_s + low])


def named(answers: list[Answer], seen: list[str]) -> list[tuple[Answer, str]]:
    """Answers with the variants that gave them; both in the order in which they came."""
    return list(zip((one for one in answers if one.outcome in ("200", "late")), seen, strict=True))


def back_up_s(by: list[tuple[Answer, str]], falls_s: float, best: str) -> float:
    """Seconds from the fall of the load to the last answer that another than the best variant gave."""
    return max([0.0, *(answer.done_s - falls_s for answer, variant in by if variant != best)])


class _Named(msgspec.Struct):
    variant: str


def _naming_wire(seen: list[str]) -> Wire:
    """JSON; the variant of each reply is kept in ``seen``."""
    plain, decode = rank_json("/v1/rank", own_headers=True), msgspec.json.Decoder(_Named).decode

    def read(head: bytes, raw: bytes) -> Reply | None:
        seen.append(decode(raw).variant)
        return read_rank(head, raw)

    return replace(plain, read=read)


def _drive(url: str, wire: Wire, queries: list[Query], plan: LadderPlan) -> Drive:
    return Drive(Running(url, wire), queries, "exponential", plan.mix.deadline_ms, plan.generator_cores, plan.seed)


def _queries(url: str, plan: LadderPlan) -> list[Query]:
    """Of users and items that the server gives as examples."""
    [model] = _get(f"{url}/v1/models")["models"]
    asked = f"{url}/v1/models/{model['name']}/examples?count=100&candidates=700&seed={plan.seed}"
    examples = _get(asked)["examples"]
    ids = np.unique(np.concatenate([one["candidates"]["ids"] for one in examples])).astype(np.int64)
    return draw_queries([one["request"] for one in examples], ids, plan.mix, seed=plan.seed)


def _get(url: str) -> dict[str, list[dict[str, dict[str, object]]]]:
    with urllib.request.urlopen(url, timeout=30) as reply:
        found: dict[str, list[dict[str, dict[str, object]]]] = json.load(reply)
        return found


def _rung(plan: LadderPlan, queries: list[Query], step: LadderStep, shares: Counter[str]) -> LadderRung:
    return LadderRung(
        variant=step.variant,
        engine=step.engine,
        margin=step.margin,
        request_ms=_request_ms(plan, queries, step.variant, step.engine),
        share=shares[step.variant] / max(1, shares.total()),
    )


def _request_ms(plan: LadderPlan, queries: list[Query], variant: str, engine: str) -> float:
    """Of the engine, for a request of the mean number of candidates."""
    service = engine_service(Ranker(plan.artifact, plan.catalog, variant, engine), queries[:120], plan.server_cores)
    rows = np.array([float(len(one.ids)) for one in queries])
    return 1e3 * (service.call_s + service.row_s * float(rows.mean()))
