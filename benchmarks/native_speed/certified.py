"""Section `certified`: variants with a passed certificate against their baseline in PyTorch eager FP32, real rows."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from families_quality import FAMILIES, open_data

from native_speed.options import Options
from native_speed.race import Disturbance, Runnable, race, timings_of, turns_of
from native_speed.record import CRITEO, EAGER, FROM_NATIVE_CODE, MOVIELENS, Failure, Section, Side, Timing
from native_speed.shapes import REQUESTS, draw_from
from native_speed.sides import Opened, engines
from rankine.artifact import Artifact
from rankine.certification.plan import deciding, task_certificates
from rankine.compilation.compile import build_names, compile_artifact, is_split, open_parts, open_runner, runs_in_parts
from rankine.compilation.fastest import task_count
from rankine.compilation.fused.runner import FusedRunner
from rankine.compilation.split_runner import SplitRunner
from rankine.environment import environment
from rankine.events import Event, Failed, Finished
from rankine.models.columns import Batch, take
from rankine.models.variant import BASELINE, read_variant
from rankine.planning.optimize import verification_rows

MODELS = {"dcn_v2": MOVIELENS, "dcn_v2_criteo": CRITEO}
ROWS = (1, 512)
_BASELINE = EAGER.model_copy(update={"variant": BASELINE})
_MORE_TURNS = 4
"""Small variants take tenths of a millisecond, and scatter."""
_BETWEEN = "openvino"
"""Runs the baseline between two calls, where the section asks for a cold one."""


def run_certified(options: Options) -> Section | None:
    """Both families, in parts and whole on every engine."""
    if options.artifacts is None:
        print("certified: left out, it needs --artifacts", flush=True)
        return None
    timings: list[Timing] = []
    failures: list[Failure] = []
    facts: dict[str, dict[str, float | int | str]] = {}
    for family, name in MODELS.items():
        artifact = Artifact.open(options.artifacts / family / "compressed")
        margins = _certified(artifact)
        facts[name] = {f"margin_{variant}": margin for variant, margin in margins.items()}
        rows = verification_rows(artifact, open_data(FAMILIES[family], options.data_root))
        with tempfile.TemporaryDirectory() as scratch:
            told: dict[str, str] = {}
            built = _with_all_engines(artifact, rows, Path(scratch), told)
            opened = Opened(name, {}, [])
            opened.add(_BASELINE, partial(open_runner, built, BASELINE, EAGER.engine))
            for variant in margins:
                for side in _sides(built, variant):
                    opened.add(side, partial(open_runner, built, variant, side.engine, split=side.form == "parts"))
                opened.failures += _not_built(built, variant, name, told)
            facts[name] |= _from_native_code(opened, rows, task_count(artifact))
            timings += _race(built, opened, rows, options.turns)
            failures += opened.failures
            opened.close()
    return Section(
        timings=tuple(timings),
        failures=tuple(failures),
        facts=facts,
        created=datetime.now(UTC),
        environment=environment(),
    )


def _certified(artifact: Artifact) -> dict[str, float]:
    """Margins of the variants that passed on some engine, for all tasks."""
    found: dict[str, float] = {}
    for (variant, _), by_task in task_certificates(artifact).items():
        certificates = list(by_task.values())
        if variant != BASELINE and all(certificate.passed for certificate in certificates):
            found[variant] = deciding(certificates).margin
    return found


def _with_all_engines(artifact: Artifact, rows: Batch, folder: Path, told: dict[str, str]) -> Artifact:
    """The artifact with a build for each engine that is installed, in parts where that pays; not certified anew.

    Args:
        told: gets how each build ended, by its name.
    """

    def listen(event: Event) -> None:
        match event:
            case Failed(task=task, reason=text) | Finished(task=task, detail=text):
                told[task] = re.sub(r"\S+/(\S+\.onnx)", r"\1", text)  # the folder is gone when it is read

    chosen = [EAGER.engine, *engines()]
    return compile_artifact(artifact, engines=chosen, verify_batch=rows, out=folder / "compiled", emit=listen)


def _sides(artifact: Artifact, variant: str) -> Iterator[Side]:
    numeric = read_variant(artifact, variant).numeric
    for engine in build_names(artifact, variant):
        side = Side(engine=engine, numeric=numeric, variant=variant)
        yield side
        if runs_in_parts(artifact, variant, engine):
            yield _in_parts(artifact, side)


def _in_parts(artifact: Artifact, side: Side) -> Side:
    storage = open_parts(artifact, side.variant)[0].storage
    return side.model_copy(update={"form": "parts", "storage": storage})


def _not_built(artifact: Artifact, variant: str, model: str, told: Mapping[str, str]) -> Iterator[Failure]:
    """What engines did not build, and what they said about it."""
    numeric = read_variant(artifact, variant).numeric
    for engine in engines():
        text = told.get(f"compile {variant} for {engine}", "")
        side = Side(engine=engine, numeric=numeric, variant=variant)
        if engine not in build_names(artifact, variant):
            yield Failure(model=model, side=side, error=text)
        elif is_split(artifact, variant) and not runs_in_parts(artifact, variant, engine):
            yield Failure(model=model, side=_in_parts(artifact, side), error=text)


def _from_native_code(opened: Opened, batch: Batch, tasks: int) -> dict[str, float]:
    """Microseconds of a call of one row without Python: median of many, by the side's words."""
    first = batch.select(slice(0, 1))
    found: dict[str, float] = {}
    for side, runner in opened.runners.items():
        native = runner.candidate if isinstance(runner, SplitRunner) else runner
        if not isinstance(native, FusedRunner):
            continue
        one = replace(first, item=runner.complete(take(first.item, first.item_index)), item_index=np.zeros(1, np.int32))
        out = np.empty((1, tasks), np.float32)
        found[f"{FROM_NATIVE_CODE}{side.label}"] = 1e6 * float(np.median(native.timed(one, out, 2_000)))
    return found


def _race(artifact: Artifact, opened: Opened, batch: Batch, turns: int) -> list[Timing]:
    """The requests and items of the rows, each request with items in the order of the rows; a single row cold too."""
    items, pool = np.unique(batch.item_index, return_inverse=True)
    requests = take(batch.request, batch.request_index[:: max(1, batch.rows // REQUESTS)])
    given = take(batch.item, items)
    between = open_runner(artifact, BASELINE, _BETWEEN, split=False)
    tasks = task_count(artifact)
    found: list[Timing] = []
    for count in ROWS:
        draws = {
            side: draw_from(requests, runner.complete(given), pool.astype(np.int32), count, batch.pair)
            for side, runner in opened.runners.items()
        }
        sides = [Runnable(side, runner, draws[side]) for side, runner in opened.runners.items()]
        spent = race(sides, rows=count, tasks=tasks, turns=turns_of(count, _MORE_TURNS * turns))
        found += timings_of(spent, model=opened.model, rows=count, ids="data")
        if count == 1:
            other = Disturbance(Runnable(_BASELINE, between, draws[_BASELINE]), count, tasks)
            spent = race(sides, rows=count, tasks=tasks, turns=turns_of(count, turns), between=other)
            found += timings_of(spent, model=opened.model, rows=count, ids="data", cache="cold")
    between.close()
    return found
