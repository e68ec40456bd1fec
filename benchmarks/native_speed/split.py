"""Section `split`: DCN-v2 (big) in parts on every engine, gigabytes stored of items, against the best peer's whole."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from binding_latency import ids_of

from native_speed.options import Options
from native_speed.race import Draw, Runnable, race, timings_of, turns_of
from native_speed.record import BIG, NNCF, Section, Side, Timing
from native_speed.shapes import Forms, big, columns_of, draw_from, make_forms, verification_batch
from native_speed.sides import Opened, engines, open_nncf
from rankine.compilation.binding import Settings
from rankine.compilation.engine import Model, Runner, Target
from rankine.compilation.engines import load_engine
from rankine.compilation.split_model import SplitModels, open_split, write_split
from rankine.compilation.split_runner import build_split, open_split_runner
from rankine.compilation.verify import reference_logits, verify_logits
from rankine.environment import environment
from rankine.errors import EngineError
from rankine.models.columns import Batch, Columns, row_count, take

ROWS = (1, 16, 512)
Law = Literal["uniform", "zipf"]
Storage = Literal["float32", "float16"]


def run_split(options: Options) -> Section:
    """One catalog at a time: each takes the gigabytes that were asked for."""
    timings: list[Timing] = []
    facts: dict[str, float | int | str] = {"stored_gigabytes": options.gigabytes}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        forms = make_forms(big(), folder)
        requests, items = columns_of(forms.shape)
        batch = verification_batch(requests, items)
        baseline = open_nncf(forms, folder, batch)
        opened = Opened(BIG, {}, [])
        for model in (forms.int8, forms.fp32):
            for storage in get_args(Storage):
                parts = _split(model, storage, folder)
                catalog = _open_catalog(parts)
                verified = reference_logits(model, batch)
                taken = Opened(BIG, {}, opened.failures)
                for name in engines():
                    side = Side(engine=name, numeric=model.numeric, form="parts", storage=storage)
                    taken.add(side, partial(_open_parts, name, parts, catalog, model, batch, verified))
                stored = _catalog(taken, items, options.gigabytes)
                facts[f"items_{model.numeric}_{storage}"] = row_count(stored)
                timings += _race(forms, baseline, taken, requests, stored, options.turns)
                taken.close()
                del stored
                gc.collect()
        baseline.close()
    return Section(
        timings=tuple(timings),
        failures=tuple(opened.failures),
        facts={BIG: facts},
        created=datetime.now(UTC),
        environment=environment(),
    )


def _race(
    forms: Forms, baseline: Runner, opened: Opened, requests: Columns, stored: Columns, turns: int
) -> list[Timing]:
    """All engines in parts and the baseline, by law of ids and number of rows, over the same items."""
    found: list[Timing] = []
    plain = {name: column for name, column in stored.items() if not name.startswith("rankine.")}
    for law in get_args(Law):
        pool = np.concatenate(ids_of(law, row_count(stored)))
        for rows in ROWS:
            whole = Runnable(NNCF, baseline, draw_from(requests, plain, pool, rows))
            draw: Draw = draw_from(requests, stored, pool, rows)
            sides = [whole, *(Runnable(side, runner, draw) for side, runner in opened.runners.items())]
            spent = race(sides, rows=rows, tasks=forms.shape.tasks, turns=turns_of(rows, turns))
            found += timings_of(spent, model=forms.shape.name, rows=rows, ids=law)
    return found


def _split(model: Model, storage: str, folder: Path) -> SplitModels:
    into = folder / f"{model.numeric}-{storage}"
    into.mkdir()
    if write_split(model, Settings.model_validate({"storage": storage}), into) is None:
        raise EngineError("the model stays whole", where=model.name)
    return open_split(model, into)


def _open_catalog(parts: SplitModels) -> Runner | None:
    """The runner of the catalog's part, which all engines share; None where nothing is stored."""
    if parts.catalog is None:
        return None
    into = parts.folder / "catalog"
    into.mkdir()
    load_engine("onnxruntime").build(parts.catalog, Target(), into)
    return load_engine("onnxruntime").open(parts.catalog, into)


def _open_parts(
    name: str, parts: SplitModels, catalog: Runner | None, model: Model, batch: Batch, verified: np.ndarray
) -> Runner:
    into = parts.folder / name
    into.mkdir()
    build_split(load_engine(name), parts, Target(), into)
    runner = open_split_runner(load_engine(name), parts, into, catalog)
    verify_logits(model, runner, batch, verified, rounded=parts.storage != "float32")
    return runner


def _catalog(opened: Opened, items: Columns, gigabytes: float) -> Mapping[str, np.ndarray]:
    """So many items that what is stored of them takes the gigabytes: computed of some, and those repeated at random.

    Only where it lies matters to the time, not what it is.
    """
    computed = next(iter(opened.runners.values())).complete(items)
    stored = sum(column.nbytes for name, column in computed.items() if name.startswith("rankine."))
    count = int(gigabytes * 1e9 * row_count(items) / max(1, stored)) + 1
    return take(computed, np.random.default_rng(3).integers(0, row_count(items), count))
