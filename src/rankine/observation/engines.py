"""The engine benchmark: milliseconds a call of each built engine, side by side in one run, with a control.

Shared machines drift by tens of percent within minutes. So calls of all engines are interleaved in rounds, medians and
quartiles are kept instead of means, and a fixed piece of NumPy is timed in every round: where the control moved, the
run is noise and says so. What was built in parts is timed in parts, and whole beside it. Numbers of threads are timed
one after the other: in some engines they belong to the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from rankine.artifact import Artifact
from rankine.compilation.compile import build_names, open_runner, read_build, runs_in_parts, runs_on
from rankine.compilation.engine import STAND_INS, Runner
from rankine.compilation.fastest import as_served, task_count
from rankine.environment import environment
from rankine.errors import EngineError, RankineError, UsageError
from rankine.events import Emit, Failed, ignore, step
from rankine.models.columns import Batch
from rankine.models.variant import variant_names
from rankine.observation.timings import EngineBench, EngineTiming, Form

__all__ = [
    "CONTROL_LIMIT",
    "PROFILE_ROWS",
    "EngineBench",
    "EngineTiming",
    "bench_engines",
    "machine_hash",
    "profile_path",
]

CONTROL_LIMIT = 0.10
"""A run whose control's quartiles lie further apart than this, relative to the median, is noise."""
PROFILE_ROWS = (1, 64, 512)
"""The row counts of a profile."""
_CALLS_A_ROUND = 3
_WHATEVER_IT_RAISES: tuple[type[Exception], ...] = (Exception,)
"""An engine may be a stranger's: whatever it raises is told in its row, and the rest goes on."""
_MACHINE_KEYS = ("cpu", "instruction_sets", "cores", "cores_online", "machine", "system")


@dataclass
class _Contestant:
    variant: str
    engine: str
    form: Form
    threads: int
    runner: Runner | None
    error: str | None
    milliseconds: dict[int, list[float]] = field(default_factory=dict)
    batches: dict[int, Batch] = field(default_factory=dict)


def bench_engines(
    artifact: Artifact,
    batches: Mapping[int, Batch],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    rows: Sequence[int] = PROFILE_ROWS,
    threads: int | Sequence[int] = 1,
    repeats: int = 100,
    emit: Emit = ignore,
) -> EngineBench:
    """Time engines against each other; a whole and quiet run is kept as the artifact's profile of this machine.

    A variant that was built in parts is timed in parts and whole. An engine that fails keeps its place in the result,
    with its error.

    Args:
        batches: by number of rows, random rows to run.
        pairs: (variant, engine); None for every build in the artifact. One that was not built has its reason.
        rows: which of ``batches`` to time, in this order.
        threads: of every engine, or several numbers, each timed with all engines.
        repeats: timed calls of each engine at each number of rows.

    Raises:
        UsageError: a number of rows has no batch, no number of threads is given, or the artifact has no builds.
    """
    _check_batches(batches, rows)
    counts = (threads,) if isinstance(threads, int) else tuple(dict.fromkeys(threads))
    if not counts or min(counts) < 1:
        raise UsageError("must be at least one", where="threads", got=str(counts))
    chosen = list(pairs) if pairs is not None else _all_pairs(artifact)
    if not chosen:
        raise UsageError("has no builds to time", where=str(artifact.path), hint="Run `rankine compile` first.")
    rounds = max(1, -(-repeats // _CALLS_A_ROUND))
    control_ms: list[float] = []
    timings: list[EngineTiming] = []
    spread = 0.0
    for count in counts:
        found, control = _time_all(artifact, chosen, count, batches, rows, rounds, emit)
        timings += found
        control_ms += control
        spread = max(spread, _spread(control))  # of one number of threads: between two the machine may drift
    here = environment()
    result = EngineBench(
        artifact=artifact.name,
        artifact_digest=artifact.digest,
        threads=counts[0],
        rounds=rounds,
        timings=tuple(timings),
        control_p50_ms=float(np.median(control_ms)),
        control_spread=spread,
        noisy=spread > CONTROL_LIMIT,
        environment=here,
        machine=machine_hash(here),
    )
    _keep(result, profile_path(artifact))
    return result


def _time_all(
    artifact: Artifact,
    pairs: Sequence[tuple[str, str]],
    threads: int,
    batches: Mapping[int, Batch],
    rows: Sequence[int],
    rounds: int,
    emit: Emit,
) -> tuple[list[EngineTiming], list[float]]:
    """All engines with one number of threads; the timings, and the milliseconds of the control."""
    control, control_ms, tasks = _Control(), [], task_count(artifact)
    name = f"bench engines, {threads} thread{'s' if threads > 1 else ''}"
    with _open_all(artifact, pairs, threads) as contestants, step(emit, name, rounds, "rounds") as advance:
        for contestant in contestants:
            if contestant.error is not None:
                emit(Failed(f"{contestant.variant} on {contestant.engine}", contestant.error))
        for done in range(1, rounds + 1):
            control_ms.append(_time(control.run))
            for count in rows:
                for contestant in contestants:
                    _measure(contestant, batches[count], count, tasks)
            advance(done, "")
    return [_timing(contestant, count) for contestant in contestants for count in rows], control_ms


def _spread(milliseconds: Sequence[float]) -> float:
    """The quartiles' distance, relative to the median."""
    p25, p50, p75 = (float(value) for value in np.percentile(milliseconds, (25, 50, 75)))
    return (p75 - p25) / p50


def machine_hash(here: Mapping[str, str | int | float]) -> str:
    """Names a machine by what decides its speed: processor, instruction sets, cores, system."""
    known = {key: here[key] for key in _MACHINE_KEYS if key in here}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def profile_path(artifact: Artifact) -> Path:
    """Where the artifact's profile of this machine lies."""
    return artifact.evidence() / f"profile-{machine_hash(environment())}.json"


class _Control:
    """A fixed piece of work, about a millisecond: many products so small that BLAS keeps them on one thread."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._left = random.random((256, 48, 48), np.float32)
        self._right = random.random((256, 48, 48), np.float32)
        self._out = np.empty_like(self._left)

    def run(self) -> None:
        np.matmul(self._left, self._right, out=self._out)


@contextmanager
def _open_all(artifact: Artifact, pairs: Sequence[tuple[str, str]], threads: int) -> Iterator[list[_Contestant]]:
    contestants: list[_Contestant] = []
    try:
        for variant, engine, form in _forms(artifact, pairs):
            try:
                _refuse_stand_in(artifact, variant, engine)
                runner = open_runner(artifact, variant, engine, threads=threads, split=form == "parts")
                contestants.append(_Contestant(variant, engine, form, threads, runner, None))
            except _WHATEVER_IT_RAISES as error:
                contestants.append(_Contestant(variant, engine, form, threads, None, _told(error)))
        yield contestants
    finally:
        for contestant in contestants:
            if contestant.runner is not None:
                contestant.runner.close()


def _forms(artifact: Artifact, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, Form]]:
    """Each pair in each form that it was built in; one that was not built is whole, and its error is told later."""
    for variant, engine in pairs:
        if engine in build_names(artifact, variant) and runs_in_parts(artifact, variant, engine):
            yield variant, engine, "parts"
        yield variant, engine, "whole"


def _measure(contestant: _Contestant, batch: Batch, count: int, tasks: int) -> None:
    """One untimed call, since the engine before it emptied the caches, then the timed ones."""
    runner = contestant.runner
    if runner is None or contestant.error is not None:
        return
    out = np.empty((count, tasks), np.float32)
    kept = contestant.milliseconds.setdefault(count, [])
    try:
        if count not in contestant.batches:
            contestant.batches[count] = as_served(runner, batch)
        batch = contestant.batches[count]
        runner.run(batch, out)
        kept += [_time(lambda: runner.run(batch, out)) for _ in range(_CALLS_A_ROUND)]
    except _WHATEVER_IT_RAISES as error:
        contestant.error = _told(error)


def _refuse_stand_in(artifact: Artifact, variant: str, engine: str) -> None:
    """Refuse to time what only stands in for a chip."""
    found = runs_on(artifact, variant, engine)
    if found != "chip":
        device = read_build(artifact, variant, engine).device
        raise EngineError("is not timed: no time of the chip", where=f"{engine} on {device}", got=STAND_INS[found])


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, RankineError) else f"{type(error).__name__}: {error}"


def _time(run: Callable[[], None]) -> float:
    begin = perf_counter()
    run()
    return (perf_counter() - begin) * 1e3


def _timing(contestant: _Contestant, count: int) -> EngineTiming:
    values = contestant.milliseconds.get(count, [])
    if contestant.error is not None or not values:
        return EngineTiming(
            variant=contestant.variant,
            engine=contestant.engine,
            form=contestant.form,
            rows=count,
            threads=contestant.threads,
            error=contestant.error or "was not run",
        )
    p25, p50, p75 = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return EngineTiming(
        variant=contestant.variant,
        engine=contestant.engine,
        form=contestant.form,
        rows=count,
        threads=contestant.threads,
        calls=len(values),
        p50_ms=p50,
        p25_ms=p25,
        p75_ms=p75,
        min_ms=min(values),
    )


def _check_batches(batches: Mapping[int, Batch], rows: Sequence[int]) -> None:
    for count in rows:
        if count < 1:
            raise UsageError("rows must be positive", where="rows", got=count)
        if count not in batches or batches[count].rows != count:
            got = ", ".join(f"{key}: {batch.rows} rows" for key, batch in batches.items())
            raise UsageError(f"there is no batch of {count} rows", where="batches", got=got)


def _all_pairs(artifact: Artifact) -> list[tuple[str, str]]:
    return [(variant, engine) for variant in variant_names(artifact) for engine in build_names(artifact, variant)]


def _keep(result: EngineBench, path: Path) -> None:
    """Keep a result as the machine's profile, unless it lacks row counts or one thread, or is noise where a profile is
    there."""
    whole = result.threads == 1 and set(PROFILE_ROWS) <= {timing.rows for timing in result.timings}
    if whole and not (result.noisy and path.exists()):
        _save(result, path)


def _save(result: EngineBench, path: Path) -> None:
    """Replace the profile whole, so that a reader never sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".profile-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(result.model_dump_json(indent=1) + "\n")
    Path(name).replace(path)
