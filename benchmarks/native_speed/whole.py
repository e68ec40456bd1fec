"""Sections `whole` and `families`: whole graphs, every engine in every numeric form, against OpenVINO's best INT8."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import onnx

from native_speed.int8_peak import int8_peak
from native_speed.options import Options
from native_speed.race import Runnable, race, timings_of, turns_of
from native_speed.record import EAGER, NNCF, Failure, Section, Side, Timing
from native_speed.shapes import (
    Shape,
    big,
    columns_of,
    draw_from,
    families,
    make_forms,
    uniform_pool,
    verification_batch,
)
from native_speed.sides import Opened, engines, nncf_facts, open_engine, open_nncf
from rankine.environment import environment
from rankine.models.columns import row_count
from rankine.models.macs import count_graph_macs

ROWS = (1, 16, 64, 512)
FAMILY_ROWS = (1, 64, 512)


@dataclass(frozen=True)
class _Found:
    timings: list[Timing]
    failures: list[Failure]
    facts: Mapping[str, float | int | str]


def run_whole(options: Options) -> Section:
    """DCN-v2 (big), PyTorch eager too."""
    return _section([_race_shape(big(), ROWS, options.turns, eager=True)], [big()])


def run_families(options: Options) -> Section:
    """The other families; of several INT8 forms of an engine, and of native FP32, the fastest counts."""
    shapes = [shape for shape in families() if not options.models or shape.name in options.models]
    found = [_race_shape(shape, FAMILY_ROWS, options.turns, eager=False) for shape in shapes]
    return _section([_Found(mark_counting(one.timings), one.failures, one.facts) for one in found], shapes)


def mark_counting(timings: Sequence[Timing]) -> list[Timing]:
    """Mark, for each model and number of rows, native's fastest side and the fastest INT8 side of each other engine."""
    best: dict[tuple[str, int, str], Timing] = {}
    for one in timings:
        if one.side.engine == "native" or one.side.numeric != "fp32":
            key = (one.model, one.rows, one.side.engine)
            best[key] = min(best.get(key, one), one, key=lambda each: each.median_ms)
    return [one.model_copy(update={"counts": one in best.values()}) for one in timings]


def _race_shape(shape: Shape, rows: Sequence[int], turns: int, *, eager: bool) -> _Found:
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        forms = make_forms(shape, folder)
        requests, items = columns_of(shape)
        batch = verification_batch(requests, items)
        opened = Opened(shape.name, {}, [])
        opened.add(NNCF, partial(open_nncf, forms, folder, batch))
        if eager:
            opened.add(EAGER, partial(open_engine, "eager", forms.fp32, folder, batch))
        for name in engines():
            for model in (forms.fp32, forms.int8):
                side = Side(engine=name, numeric=model.numeric)
                opened.add(side, partial(open_engine, name, model, folder, batch))
        pool = uniform_pool(row_count(items))
        for count in rows:
            draw = draw_from(requests, items, pool, count)
            sides = [Runnable(side, one, draw) for side, one in opened.runners.items()]
            spent = race(sides, rows=count, tasks=shape.tasks, turns=turns_of(count, turns))
            timings += timings_of(spent, model=shape.name, rows=count)
        opened.close()
        facts: dict[str, float | int | str] = {"operations_per_row": 2 * count_graph_macs(onnx.load(forms.fp32.graph))}
        facts |= int8_peak()
        facts |= nncf_facts(forms, folder, batch) if NNCF in opened.runners else {}
    return _Found(timings, opened.failures, facts)


def _section(found: Sequence[_Found], shapes: Sequence[Shape]) -> Section:
    return Section(
        timings=tuple(timing for one in found for timing in one.timings),
        failures=tuple(failure for one in found for failure in one.failures),
        facts={shape.name: one.facts for shape, one in zip(shapes, found, strict=True)},
        created=datetime.now(UTC),
        environment=environment(),
    )
