"""The pass: a network in FP32 -> the same one with INT8 layers and small tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rankine.compression.context import Context
from rankine.compression.outcome import Outcome
from rankine.compression.quantize.aware import learn_quantized
from rankine.compression.quantize.faster import faster_layers
from rankine.compression.quantize.layers import Layer, has_layers
from rankine.compression.quantize.loss import Judge, Sensitivity, keep_costliest
from rankine.compression.quantize.tables import quantized_tables
from rankine.compression.quantize.write import Calibrated, calibrate
from rankine.compression.recipe import Quantize, Tuning
from rankine.events import step
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network
from rankine.models.tables import AnyTable
from rankine.training.config import FitResult

__all__ = ["quantize"]

Advance = Callable[[int, str], None]


@dataclass(frozen=True)
class _Form:
    """How far the pass has come: ``layers`` are to be INT8, ``kept`` says of the others why not."""

    calibrated: Calibrated
    tables: Mapping[str, AnyTable]
    layers: tuple[Layer, ...]
    kept: Mapping[str, str]
    sensitivity: Sensitivity | None = None
    learned: FitResult | None = None


def quantize(network: Network, settings: Quantize, context: Context) -> Outcome:
    """The canonical QDQ form of ``network``, and its tables row by row; see :class:`Quantize`.

    Where there is no layer that could be INT8, or none is left, the graph stays in FP32 and only the tables are small.

    Raises:
        UsageError: the graph is INT8 already, no layer could be INT8 and the tables are to stay FP32, an operator has
            no gradient (with ``tune``), or no cost was measured (with ``only_where_faster``).
        DataError: a value is not finite on calibration rows.
    """
    if settings.tables != "float32" and not has_layers(network.graph):
        tables = quantized_tables(network, settings.tables, context)
        text = f"no layer is large enough for INT8: {_tables_text(tables)}"
        forms = {name: table.form for name, table in tables.items()}
        return Outcome(replace(network, tables=tables, module=None), text, {"int8": [], "tables": forms})
    with step(context.emit, "quantize", total=None, unit="layers") as advance:
        form = _calibrated(network, settings, context, advance)
        if settings.sensitivity is not None:
            form = _within(settings.sensitivity, network, form, settings, context, advance)
    if form.layers:
        quantized = replace(network, graph=form.calibrated.in_int8(form.layers), numeric="int8")
    else:
        quantized = replace(network, graph=form.calibrated.model if form.learned else network.graph)
    return Outcome(replace(quantized, tables=form.tables, module=None), _text(form, settings, context), _details(form))


def _calibrated(network: Network, settings: Quantize, context: Context, advance: Advance) -> _Form:
    sample = context.calibration(settings.calibration_rows)
    advance(0, f"calibrating on {sample.rows} training rows")
    inputs = reference_lookup(network.schema, network.tables, sample, np.float32)
    calibrated = calibrate(network.graph, inputs, method=settings.method, equalize=settings.equalize)
    layers = calibrated.layers
    if settings.only_where_faster:
        layers = faster_layers(network, calibrated, context.cost)
    kept = {layer.name: "INT8 is not faster here" for layer in calibrated.layers if layer not in layers}
    return _Form(calibrated, quantized_tables(network, settings.tables, context), layers, kept)


def _within(
    largest_cost: float, network: Network, form: _Form, settings: Quantize, context: Context, advance: Advance
) -> _Form:
    """The form with a smaller loss, where it costs too much: learned again if the settings say how, then with the
    costliest layers in FP32."""
    judge = Judge(network, context)
    advance(0, f"loss on {judge.rows} validation rows")
    loss = judge.with_tables(form.tables)
    before = loss(form.calibrated.in_int8(form.layers)).cost
    if settings.tune is not None and before > largest_cost:
        learned = _learned(network, form, settings, settings.tune, context)
        after = judge.with_tables(learned.tables)
        if after(learned.calibrated.in_int8(learned.layers)).cost < before:
            form, loss = learned, after
    layers, sensitivity = keep_costliest(form.calibrated, form.layers, loss, largest_cost, judge.rows)
    kept = {layer.name: "costs too much quality" for layer in form.layers if layer not in layers}
    return replace(form, layers=layers, kept={**form.kept, **kept}, sensitivity=sensitivity)


def _learned(network: Network, form: _Form, settings: Quantize, tuning: Tuning, context: Context) -> _Form:
    tuned, calibrated, result = learn_quantized(network, form.calibrated, form.layers, form.tables, tuning, context)
    return replace(
        form, calibrated=calibrated, tables=quantized_tables(tuned, settings.tables, context), learned=result
    )


def _text(form: _Form, settings: Quantize, context: Context) -> str:
    total = len(form.calibrated.layers)
    parts = [f"INT8 in {len(form.layers)} of {total} layers" if form.kept else f"INT8 in {total} layers"]
    if form.learned:
        parts.append("learned ranges" if form.layers else "learned again")
    elif form.layers:
        parts.append(f"{settings.method} ranges of {min(settings.calibration_rows, context.train.batch.rows)} rows")
    return ", ".join([*parts, _tables_text(form.tables)])


def _tables_text(tables: Mapping[str, AnyTable]) -> str:
    """The forms that the tables have: rows too narrow for the one that was asked for have another."""
    forms = dict.fromkeys(table.form for table in tables.values())
    return f"tables {', '.join(forms)}" if forms else "no tables"


def _details(form: _Form) -> dict[str, Any]:
    """What a reader may ask: layers, ranges, losses; JSON."""
    read = {layer.source for layer in form.layers}
    ranges = {
        source: {"low": found.range.low, "high": found.range.high, "method": found.method, "error": found.error}
        for source, found in form.calibrated.chosen.items()
        if source in read
    }
    return {
        "int8": [layer.name for layer in form.calibrated.layers if layer in form.layers],
        "fp32": dict(form.kept),
        "ranges": ranges,
        "equalized": [layer.name for layer in form.layers if layer.name in form.calibrated.equalized],
        "tables": {name: table.form for name, table in form.tables.items()},
        "sensitivity": None if form.sensitivity is None else asdict(form.sensitivity),
        "fit": None if form.learned is None else form.learned.model_dump(mode="json"),
    }
