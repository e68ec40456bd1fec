"""What the variants of a certified artifact cost, measured side by side, and the ladder that follows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rankine.artifact import Artifact, Draft
from rankine.certification.plan import PLAN_FILE, Pair, Plan, quality_certificates
from rankine.certification.scoring import baseline_engine, stands_in
from rankine.compilation.compile import open_runner
from rankine.compilation.engine import Runner
from rankine.compilation.fastest import median_ms, task_count
from rankine.environment import environment
from rankine.events import Emit, Note, step
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE, read_variant
from rankine.planning.ladder import (
    LADDER_FILE,
    Cost,
    Ladder,
    LadderStep,
    cheapest_first,
    ladder_steps,
    rungs_of,
    shares,
)

__all__ = ["ROWS", "write_ladder"]

ROWS = (1, 64, 512)


def write_ladder(
    artifact: Artifact, batch: Batch, margin: float, *, out: Path, by_prediction: Sequence[str] = (), emit: Emit
) -> Artifact:
    """A child artifact with ``ladder.json``: everything with a quality certificate, timed beside the baseline; but what
    runs on a chip's stand-in, which has no time.

    Args:
        batch: rows to time on, as many as a call has at most.
        margin: the one that was asked for; what is served by default is the rung there.
        by_prediction: the variants, cheapest first, by what a search predicted of them, so that it decides the same
            when it is done again; the measured time at 512 rows decides where this is empty.
    """
    certified = [pair for pair in quality_certificates(artifact) if pair[0] != BASELINE]
    pairs = [pair for pair in certified if not stands_in(artifact, *pair)]
    baseline = (BASELINE, baseline_engine(artifact))
    with step(emit, "time the ladder"):
        costs = _costs(artifact, [baseline, *pairs], batch)
    by_time = cheapest_first([costs[pair] for pair in pairs])
    rungs, others = rungs_of(ladder_steps(artifact, costs), list(by_prediction) or by_time)
    ladder = Ladder(
        baseline=costs[baseline], rungs=rungs, others=others, environment=environment(), created=datetime.now(UTC)
    )
    for rung in rungs:
        figures = {"of the baseline's latency": shares(ladder, rung)["latency"], "AUC change": rung.delta}
        emit(Note("ladder", f"margin {rung.margin:g}: {rung.variant} on {rung.engine}", figures))
    draft = Draft("optimize", parent=artifact)
    draft.put_json(LADDER_FILE, ladder)
    _agree(draft, artifact, ladder.at(margin))
    return draft.commit(out)


def _agree(draft: Draft, artifact: Artifact, rung: LadderStep | None) -> None:
    """Let the plan name the rung: `certify` timed each variant alone, here all were timed in one run.

    A baseline that was found faster than all of them stays.
    """
    if rung is None or PLAN_FILE not in artifact or artifact.read_json(PLAN_FILE, Plan).variant == BASELINE:
        return
    draft.put_json(PLAN_FILE, Plan(variant=rung.variant, engine=rung.engine, p50_ms_512=rung.p50_ms[str(ROWS[-1])]))


def _costs(artifact: Artifact, pairs: Sequence[Pair], batch: Batch) -> dict[Pair, Cost]:
    """All pairs in one run, interleaved, for each number of rows."""
    runners: dict[Pair, Runner] = {pair: open_runner(artifact, *pair) for pair in pairs}
    times: dict[Pair, dict[str, float]] = {pair: {} for pair in pairs}
    names = {f"{number}": pair for number, pair in enumerate(pairs)}
    try:
        for rows in ROWS:
            some = batch.select(slice(0, rows))
            found = median_ms({name: (runners[pair], some) for name, pair in names.items()}, task_count(artifact))
            for name, pair in names.items():
                times[pair][str(rows)] = found[name]
    finally:
        for runner in runners.values():
            runner.close()
    return {pair: _cost(artifact, pair, times[pair]) for pair in pairs}


def _cost(artifact: Artifact, pair: Pair, p50_ms: dict[str, float]) -> Cost:
    variant, engine = pair
    root = f"variants/{variant}"
    return Cost(
        variant=variant,
        engine=engine,
        p50_ms=p50_ms,
        macs_per_row=read_variant(artifact, variant).macs_per_row,
        size_bytes=artifact.size_bytes(f"{root}/tables/") + artifact.size_bytes(f"{root}/graph.onnx"),
    )
