"""The engine tvm against its peers on DCN-v2 (big): one thread, sides in turn in one process, medians, with a control.

$ taskset -c 0 python benchmarks/tvm_latency.py [--repeats N] [--out FILE]

Beside the best schedule for this processor, INT8 is raced on the lesser instruction sets that it has too. The floors
are the processor's peaks of the same run: of its INT8 dot product, and of fused multiply-adds, which a program of the
same compiler does and nothing else. About two minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import torch
from native_speed.int8_peak import int8_peak
from native_speed.race import Runnable, race, timings_of, turns_of
from native_speed.record import NNCF, Side, Timing
from native_speed.shapes import Forms, big, columns_of, draw_from, make_forms, uniform_pool, verification_batch
from native_speed.sides import Opened, open_engine, open_nncf
from script import new_file, run_script
from tvm_record import Comparison, TvmLatency

from rankine.compilation.engine import Runner, Target
from rankine.compilation.engines import load_engine
from rankine.compilation.tensorir.instruction_sets import INSTRUCTION_SETS, InstructionSet, best_here, runs_here
from rankine.compilation.verify import verify
from rankine.environment import environment
from rankine.models.columns import Batch, row_count
from rankine.models.macs import count_graph_macs

OUT = Path(__file__).resolve().parent / "results" / "tvm-latency.json"
ROWS = (1, 16, 64, 512)
FP32, INT8 = Side(engine="tvm", numeric="fp32"), Side(engine="tvm", numeric="int8")
_PEERS = ("onnxruntime", "openvino", "native")
_FUSED, _ITERATIONS, _RUNS = 24, 1_000_000, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60, help="turns of each race")
    parser.add_argument("--out", type=new_file, default=OUT, help="[default: the committed result]")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        result = _measured(Path(scratch), given.repeats)
    given.out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _measured(folder: Path, turns: int) -> TvmLatency:
    shape = big()
    forms = make_forms(shape, folder)
    requests, items = columns_of(shape)
    batch = verification_batch(requests, items)
    opened = Opened(shape.name, {}, [])
    opened.add(NNCF, partial(open_nncf, forms, folder, batch))
    builds = _open_all(opened, forms, folder, batch)
    pool = uniform_pool(row_count(items))
    timings: list[Timing] = []
    comparisons: list[Comparison] = []
    for rows in ROWS:
        draw = draw_from(requests, items, pool, rows)
        for sides in _races(opened):
            lanes = [Runnable(side, opened.runners[side], draw) for side in sides]
            spent = race(lanes, rows=rows, tasks=shape.tasks, turns=turns_of(rows, turns))
            timings += timings_of(spent, model=shape.name, rows=rows)
            comparisons += _comparisons(spent, rows)
    opened.close()
    facts: dict[str, float | int | str] = {"operations_per_row": 2 * count_graph_macs(onnx.load(forms.fp32.graph))}
    facts |= int8_peak()
    facts |= {"fp32_peak_operations_per_s": _fp32_peak(folder), "instruction_set": best_here().name}
    return TvmLatency(
        timings=tuple(timings),
        comparisons=tuple(comparisons),
        failures=tuple(opened.failures),
        build_s=builds,
        facts=facts,
        created=datetime.now(UTC),
        environment=environment(),
    )


def _open_all(opened: Opened, forms: Forms, folder: Path, batch: Batch) -> dict[str, float]:
    """Every peer, then tvm on each instruction set; seconds that its builds took."""
    for name in _PEERS:
        for model in (forms.fp32, forms.int8):
            side = Side(engine=name, numeric=model.numeric)
            opened.add(side, partial(open_engine, name, model, folder, batch))
    builds: dict[str, float] = {}

    def open_tvm(side: Side, machine: InstructionSet) -> Runner:
        model = forms.fp32 if side.numeric == "fp32" else forms.int8
        into = folder / f"tvm-{side.numeric}-{machine.name}"
        into.mkdir()
        begin = perf_counter()
        load_engine("tvm").build(model, Target(instruction_set=machine.name), into)
        builds[side.label] = perf_counter() - begin
        runner = load_engine("tvm").open(model, into)
        verify(model, runner, batch)
        return runner

    best = best_here()
    for side in (FP32, INT8):
        opened.add(side, partial(open_tvm, side, best))
    for machine in INSTRUCTION_SETS:
        if machine is not best and runs_here(machine):
            side = INT8.model_copy(update={"variant": machine.name})
            opened.add(side, partial(open_tvm, side, machine))
    return builds


def _races(opened: Opened) -> list[list[Side]]:
    """All engines in their best form; then tvm on each instruction set, which would only disturb the others."""
    best = [side for side in opened.runners if not side.variant]
    return [best, [INT8, *(side for side in opened.runners if side.variant)]]


def _comparisons(spent: Mapping[Side | None, np.ndarray], rows: int) -> list[Comparison]:
    """Of each numeric form with every peer; quartiles over the turns."""
    found = []
    for ours in (FP32, INT8):
        for peer, theirs in spent.items():
            if peer is None or peer.engine == "tvm" or (peer.numeric == "fp32") != (ours.numeric == "fp32"):
                continue
            if ours not in spent:
                continue
            low, high = (float(value) for value in np.quantile(spent[ours] / theirs, (0.25, 0.75)))
            ratio = float(np.median(spent[ours]) / np.median(theirs))
            found.append(Comparison(ours=ours, peer=peer, rows=rows, ratio=ratio, low=low, high=high))
    return found


def _fp32_peak(folder: Path) -> float:
    """Operations a second of fused multiply-adds alone, the best of a few runs; two operations each."""
    from rankine.compilation.tensorir.compile import compile_library
    from rankine.compilation.tensorir.library import tirx
    from rankine.compilation.tensorir.nodes import Function, f32, i64, spread

    machine = best_here()
    function, lanes = Function("peak", ("out",)), machine.lanes
    held = [function.variable(f"float32x{lanes}", spread(f32(number), lanes)) for number in range(_FUSED)]
    factor = function.bind(function["out"].load("float32", 0, lanes), "factor")
    with function.loop(function.rows):
        for one in held:
            one.set(tirx.op.fma(one.value, factor, factor))
    for number, one in enumerate(held):
        function.store(function["out"], "float32", one.value, i64(number * lanes), lanes)
    path = folder / "peak.so"
    compile_library({"peak": function.finished()}, machine, path)
    call, out = ctypes.CDLL(str(path)).peak, np.full(_FUSED * lanes, 0.5, np.float32)
    spent = []
    for _ in range(_RUNS):
        begin = perf_counter()
        call(ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(_ITERATIONS))
        spent.append(perf_counter() - begin)
    return 2 * _FUSED * lanes * _ITERATIONS / min(spent)


if __name__ == "__main__":
    run_script(main)
