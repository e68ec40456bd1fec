"""The latency table of this machine: layers, operators and lookups timed one by one, layers scaled by whole graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from rankine.compilation.engine import Engine
from rankine.compilation.engines import load_engine
from rankine.compilation.lookup import HostLookup
from rankine.compilation.operator_list import KINDS, Kind
from rankine.compilation.probe_graphs import (
    call_ms,
    engine_ms,
    field_schema,
    linear_chain,
    operator_chain,
    random_batch,
    random_tables,
)
from rankine.compression.context import Context
from rankine.compression.quantize import quantize
from rankine.compression.recipe import Quantize
from rankine.compression.table_forms import quantize_table
from rankine.environment import environment
from rankine.errors import EngineMissing
from rankine.events import Emit, Note, ignore, step
from rankine.models.network import Network, network_of
from rankine.models.schema import DenseFeature, Schema
from rankine.models.variant import Numeric
from rankine.planning.latency_model import LatencyModel
from rankine.planning.latency_table import (
    Check,
    EngineTable,
    LatencyTable,
    LinearCost,
    default_file,
    machine_key,
    read_table,
    serving_engines,
    write_table,
)
from rankine.training.fit import Examples

__all__ = ["ROWS", "SCALES", "WIDTHS", "latency_model", "measure_latency"]

ROWS = (1, 64, 512)
WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
_CHECKED: Mapping[str, Mapping[str, object]] = {
    "dcn_v2": {"architecture": "dcn_v2", "hidden": [256, 128, 64], "cross_layers": 2},
    "dlrm": {"architecture": "dlrm", "hidden": [128, 64]},
    "deepfm": {"architecture": "deepfm", "hidden": [64, 32]},
}
_FIELDS = 12
SCALES = (0.25, 4.0)
"""Bounds of what is believed: beyond them a measurement was wrong."""
_NUMERICS: tuple[Numeric, ...] = ("fp32", "int8")


@dataclass(frozen=True)
class _Timed:
    """A whole model, and what it took on each engine by number of rows."""

    graph: str
    network: Network
    times_ms: Mapping[str, Sequence[float]]


def latency_model(path: Path | None = None, emit: Emit = ignore) -> LatencyModel:
    """The cost model of this machine: its table is read from a file, or measured and kept there.

    Args:
        path: of the table; None for the file of this machine in the state folder. A table of another machine or of
            other versions of the engines is used where it was named, and measured anew where it was not.

    Raises:
        ArtifactError: the file is no table.
        EngineMissing: no engine is installed that runs graphs.
    """
    place = path or default_file()
    table = read_table(place)
    if table is not None and (path is not None or _is_current(table)):
        off = "" if table.error is None else f", off by {table.error:.0%} in the median over whole models"
        elsewhere = "" if table.machine == machine_key() else ", measured on another machine"
        emit(Note("latency table", f"{place}{elsewhere}{off}"))
        return LatencyModel(table)
    table = measure_latency(emit=emit)
    try:
        write_table(table, place)
    except OSError as error:
        emit(Note("latency table", f"cannot be kept at {place} ({error.strerror}): the next search measures it again"))
    return LatencyModel(table)


def measure_latency(
    *,
    engines: Sequence[str] | None = None,
    rows: Sequence[int] = ROWS,
    widths: Sequence[int] = WIDTHS,
    check: bool = True,
    emit: Emit = ignore,
) -> LatencyTable:
    """Time the parts of models on every engine; about a minute.

    Args:
        engines: names; None for all that are installed and run graphs.
        rows, widths: the grid of shapes of linear layers.
        check: also measure whole graphs, by which layers are scaled, and which tell how far off predictions are.

    Raises:
        EngineMissing: no engine is installed that runs graphs, or one that was named is not.
    """
    versions = serving_engines()
    loaded = {name: load_engine(name) for name in (engines if engines is not None else versions)}
    if not loaded:
        raise EngineMissing("no engine is installed that runs graphs", hint="pip install 'rankine[openvino]'")
    pairs = [(width, columns) for at, width in enumerate(widths) for columns in widths[at:]]
    with step(emit, "measure latency", total=len(pairs) * len(_NUMERICS), unit="shapes") as advance:
        layers = _layers(loaded, pairs, rows, widths, advance)
        table = LatencyTable(
            machine=machine_key(),
            rows=tuple(rows),
            widths=tuple(widths),
            engines={
                name: EngineTable(
                    version=versions.get(name, ""),
                    layers={numeric: _nested(layers[name, numeric]) for numeric in _NUMERICS},
                    call_ms=_calls(engine, rows),
                    operators={kind: _operator(engine, kind, rows) for kind in KINDS},
                )
                for name, engine in loaded.items()
            },
            lookup=_lookups(rows),
            checks=(),
            error=None,
            environment=environment(),
            created=datetime.now(UTC),
        )
    return _checked(table, loaded, rows, emit) if check else table


def _layers(
    engines: Mapping[str, Engine],
    pairs: Sequence[tuple[int, int]],
    rows: Sequence[int],
    widths: Sequence[int],
    advance: Callable[[int, str], None],
) -> dict[tuple[str, Numeric], np.ndarray]:
    """Milliseconds ``(rows, widths, widths)`` of a linear layer. A layer costs what a chain with more of them takes
    longer, so that the call itself, the lookup and the layer that stays FP32 drop out; there and back are one
    measurement, hence the table is symmetric."""
    shape = (len(rows), len(widths), len(widths))
    found = {(name, numeric): np.zeros(shape) for name in engines for numeric in _NUMERICS}
    done = 0
    for width, columns in pairs:
        more = 2 if width * columns >= 1 << 17 else 4
        chains = linear_chain(width, columns, 1), linear_chain(width, columns, 1 + more)
        for numeric in _NUMERICS:
            forms = chains if numeric == "fp32" else (quantized(chains[0]), quantized(chains[1]))
            for name, engine in engines.items():
                short, long = (np.array(engine_ms(form, engine, rows)) for form in forms)
                at, to = widths.index(width), widths.index(columns)
                found[name, numeric][:, at, to] = found[name, numeric][:, to, at] = np.maximum(
                    0, (long - short) / (2 * more)
                )
            done += 1
            advance(done, f"layers {width} x {columns} {numeric}")
    return found


def _calls(engine: Engine, rows: Sequence[int]) -> tuple[float, ...]:
    """A call with next to nothing in it."""
    return tuple(engine_ms(operator_chain("elementwise", 16, 1)[0], engine, rows))


def _operator(engine: Engine, kind: Kind, rows: Sequence[int]) -> LinearCost:
    """Fixed and proportional cost, from chains of two lengths at several sizes."""
    amounts, times = [], []
    for width in (64, 256):
        chains = [operator_chain(kind, width, repeats) for repeats in (1, 5)]
        short, long = (np.array(engine_ms(chain, engine, rows)) for chain, _ in chains)
        amounts += [count * chains[0][1] for count in rows]
        times += list(np.maximum(0, (long - short) / 4))
    return line_through(np.array(amounts, np.float64), np.array(times))


def _lookups(rows: Sequence[int]) -> dict[str, LinearCost]:
    """Of one feature, by the form of its table."""
    found = {}
    schema = field_schema(_FIELDS)
    for form in ("float32", "int8", "int4"):
        amounts, times = [], []
        for dim in (4, 16, 64):
            tables = {name: quantize_table(table, form) for name, table in random_tables(schema, dim).items()}
            lookup = HostLookup(schema, tables)
            for count in rows:
                batch, out = random_batch(schema, count), np.empty((count, lookup.width), np.float32)
                amounts.append(count * dim)
                times.append(call_ms(partial(lookup.run, batch, out)) / _FIELDS)
        found[form] = line_through(np.array(amounts, np.float64), np.array(times))
    return found | {"dense": found["float32"]}


def line_through(amounts: np.ndarray, times: np.ndarray) -> LinearCost:
    """The line through times that is best in relative terms, without negative parts."""
    weights = 1 / np.maximum(times, 1e-5)
    design = np.stack([np.ones_like(amounts), amounts], axis=1)
    fixed, slope = np.linalg.lstsq(design * weights[:, None], times * weights, rcond=None)[0]
    if fixed < 0 or slope < 0:
        fixed, slope = (0.0, float(np.median(times / amounts))) if fixed < 0 else (float(np.median(times)), 0.0)
    return LinearCost(fixed_ms=float(fixed), element_ms=float(slope))


def quantized(network: Network) -> Network:
    """The INT8 form of a probe, by ranges of random rows."""
    batch = random_batch(network.schema, 64)
    rows = Examples(batch, np.zeros((64, len(network.schema.tasks)), np.float32))
    context = Context(train=rows, validation=rows, baseline=network, seed=0, emit=ignore)
    return quantize(network, Quantize(calibration_rows=64, equalize=False), context).network


def _checked(table: LatencyTable, engines: Mapping[str, Engine], rows: Sequence[int], emit: Emit) -> LatencyTable:
    """The table with its scales, and its error on whole models."""
    timed: list[_Timed] = []
    with step(emit, "check latency table", total=len(_CHECKED), unit="models") as advance:
        for number, (graph, whole) in enumerate(_checked_models()):
            for network in (whole, quantized(whole)):
                times = {name: engine_ms(network, engine, rows) for name, engine in engines.items()}
                timed.append(_Timed(graph, network, times))
            advance(number + 1, graph)
    table = _scaled(table, timed, rows)
    model = LatencyModel(table)
    checks = tuple(
        Check(
            graph=each.graph,
            engine=name,
            numeric=each.network.numeric,
            rows=count,
            predicted_ms=model.by_engine(each.network, count)[name],
            measured_ms=measured[place],
        )
        for each in timed
        for name, measured in each.times_ms.items()
        for place, count in enumerate(rows)
    )
    error = float(np.median([check.error for check in checks]))
    emit(Note("latency table", f"predictions of {len(_CHECKED)} whole models", {"median error": error}))
    return table.model_copy(update={"checks": checks, "error": error})


def _checked_models() -> Iterator[tuple[str, Network]]:
    from rankine.models.zoo import build_model

    numbers = DenseFeature(name="numbers", side="pair", width=8, normalization="none")
    fields = field_schema(_FIELDS)
    schema = Schema(features=(*fields.features, numbers), item_id="item")
    sizes = {name: tables.count for name, tables in random_tables(fields, 1).items()}
    for graph, config in _CHECKED.items():
        yield graph, replace(network_of(build_model(schema, sizes, config)), module=None)


def _scaled(table: LatencyTable, timed: Sequence[_Timed], rows: Sequence[int]) -> LatencyTable:
    """The table with the scale of every engine and numeric form: at most rows, for which candidates are compared.

    What a graph took beyond its lookup, its call and its other operators is held against its layers, so that a layer
    that is looked at alone and one in a graph cost the same.
    """
    model, most = LatencyModel(table), rows[-1]
    pairs: dict[tuple[str, Numeric], list[tuple[float, float]]] = {}
    for each in timed:
        whole, layers = model.by_engine(each.network, most), model.layers_ms(each.network, most)
        for name, measured in each.times_ms.items():
            rest = whole[name] - layers[name]
            pairs.setdefault((name, each.network.numeric), []).append((measured[-1] - rest, layers[name]))
    engines = {
        name: engine.model_copy(
            update={"scale": {numeric: scale_of(found) for (of, numeric), found in pairs.items() if of == name}}
        )
        for name, engine in table.engines.items()
    }
    return table.model_copy(update={"engines": engines})


def scale_of(pairs: Sequence[tuple[float, float]]) -> float:
    """The median of ``measured / predicted`` over graphs, within bounds: of a graph whose layers are a small part of it
    nothing is left for them where the rest was predicted too high."""
    return float(np.clip(np.median([measured / predicted for measured, predicted in pairs]), *SCALES))


def _nested(values: np.ndarray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(float(cell) for cell in row) for row in plane) for plane in values)


def _is_current(table: LatencyTable) -> bool:
    """Whether the table is of this machine, of the engines that are installed now, and scaled by whole models."""
    versions = {name: engine.version for name, engine in table.engines.items()}
    scaled = all(engine.scale for engine in table.engines.values())
    return scaled and table.machine == machine_key() and versions == serving_engines()
