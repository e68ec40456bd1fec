"""The contestants behind the same HTTP front, one after the other, under the same load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rankine.artifact import Artifact
from rankine.demo.config import DemoConfig
from rankine.demo.contest import Contestant
from rankine.demo.servers import running_server
from rankine.events import Emit, Note
from rankine.observation.load import LoadConfig, LoadResult, SweepConfig, SweepResult, run_load, sweep
from rankine.observation.result import Role

__all__ = ["HttpFigures", "measure_servers"]

_MIN_TRIAL_S = 3.0
_LEAST_QUERIES = 100


@dataclass
class HttpFigures:
    """What was measured over HTTP, by contestant.

    Attributes:
        closed: one client, closed loop.
        sweeps: the search for the highest rate, at ``slo_ms``.
        slo_ms: the bound of p99 that all were held to.
        note: why that is not the bound that was asked for, or None.
    """

    slo_ms: float
    closed: dict[Role, LoadResult] = field(default_factory=dict)
    sweeps: dict[Role, SweepResult] = field(default_factory=dict)
    note: str | None = None


def measure_servers(
    artifact: Artifact, catalog: Path, chosen: Mapping[Role, Contestant], config: DemoConfig, emit: Emit
) -> HttpFigures:
    """Serve each contestant on the same cores and load it from the others.

    The baseline goes first: where it has no rate under the SLO, all are held to the fallback instead.
    """
    server_cores, generator_cores = _share_cores()
    figures = HttpFigures(config.slo_ms)
    for role, contestant in chosen.items():
        in_parts = contestant.form == "parts"
        emit(Note("serve", f"{role}: {contestant.variant} on {contestant.engine}{', in parts' if in_parts else ''}"))
        with running_server(
            artifact.path,
            variant=contestant.variant,
            engine=contestant.engine,
            catalog=catalog,
            cores=server_cores,
            certified=contestant.certified,
            split=in_parts,
        ) as url:
            load = LoadConfig(
                url=url,
                candidates=str(config.candidates),
                duration_s=config.closed_loop_s,
                slo_ms=figures.slo_ms,
                timings=True,
                cores=generator_cores,
            )
            figures.closed[role] = run_load(load, emit)
            found = _sweep(load, figures.slo_ms, config, emit)
            if role == "baseline" and found.sustainable_rps is None:
                figures.slo_ms = config.fallback_slo_ms
                figures.note = (
                    f"The baseline held p99 <= {config.slo_ms:g} ms at no rate, "
                    f"so throughput is compared at p99 <= {config.fallback_slo_ms:g} ms, for all."
                )
                emit(Note("serve", figures.note))
                found = _sweep(load, figures.slo_ms, config, emit)
            figures.sweeps[role] = found
    return figures


def _sweep(load: LoadConfig, slo_ms: float, config: DemoConfig, emit: Emit) -> SweepResult:
    settings = load.model_copy(update={"slo_ms": slo_ms, "timings": False})
    trials = SweepConfig(
        load=settings,
        min_queries=config.min_queries,
        least_queries=min(_LEAST_QUERIES, config.min_queries),
        precision=config.precision,
        min_trial_s=min(_MIN_TRIAL_S, config.max_trial_s),
        max_trial_s=config.max_trial_s,
    )
    return sweep(trials, emit)


def _share_cores() -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """One core for the server and the others for the generator, which is not pinned where there is no other."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0],), tuple(cores[1:]) or None
