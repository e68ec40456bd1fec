"""The engine triton-lang on a GPU: correctness, every kernel beside its floor, and DCN-v2 (big) beside its peers.

$ python benchmarks/gpu.py [--out FILE] [--budget SECONDS]

One command, under 8 minutes. First the tests of kernels and models are run on the GPU; then kernels are timed one by
one, the model's kernels together, and whole calls; then torch eager, torch.compile and, where it is built for GPUs,
ONNX Runtime. Where no GPU is, the tests run in Triton-lang's interpreter and every row says "not timed".
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from gpu_record import GpuResult, Row
from script import new_file, run_script

from rankine.compilation.engines.triton_lang.available import GPU, devices_here

if devices_here() != (GPU,):  # before Triton-lang is imported
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from gpu_sides import Timed, kernels, peers
from native_speed.record import BIG
from native_speed.shapes import Forms, big, columns_of, draw_from, make_forms, uniform_pool

from rankine.compilation.engine import Model, Target
from rankine.compilation.engines import load_engine
from rankine.compilation.engines.triton_lang.kernels.linear import Form
from rankine.compilation.engines.triton_lang.roofline import ACCELERATORS, Accelerator, Work, program_work
from rankine.compilation.engines.triton_lang.runner import PROGRAM_FILE, open_runner
from rankine.compilation.fused.program import Program, read_program
from rankine.environment import environment
from rankine.models.columns import row_count

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "results" / "gpu.json"
_LANG = "tests/engine/test_triton_lang.py"
TESTS = (
    *((f"tests/engine/test_triton_{name}.py",) for name in ("kernels", "patterns", "tables")),
    (_LANG, "-k", "not in_a_form"),
    *((_LANG, "-k", f"in_a_form and {form}") for form in ("fp32", "int8", "bf16", "fp8")),
)
"""Each in a process of its own: on a GPU most of their time goes into compiling kernels."""
ROWS = (1, 64, 512, 4096, 16_384)
_FORMS: tuple[Form, ...] = ("fp32", "bf16", "fp8", "int8")
_LOOKUPS = {"": None, ", the host looks up": 0}
"""Bytes of the device's memory for tables: enough, or none."""
_NO_GPU = "no GPU is here"
_CALLS, _BUDGET_S, _TESTS_S = 200, 420.0, 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=new_file, default=OUT, help="[default: the committed result]")
    parser.add_argument("--budget", type=float, default=_BUDGET_S, help="seconds after which nothing more is timed")
    given = parser.parse_args()
    begin = perf_counter()
    gpu = torch.cuda.get_device_name() if devices_here() == (GPU,) else None
    if gpu is None:
        print("No GPU is here: kernels are verified in Triton-lang's interpreter, and nothing is timed.")
    accelerator = next((one for name, one in ACCELERATORS.items() if name in (gpu or "")), ACCELERATORS["H100"])
    passed, failed = _checked(on_gpu=gpu is not None)
    print(f"{passed} tests passed, {failed} failed")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for timed in _everything(make_forms(big(), Path(scratch)), Path(scratch), on_gpu=gpu is not None):
            rows.append(_row(timed, accelerator, gpu, left_s=given.budget - (perf_counter() - begin)))
            print(_told(rows[-1]))
    result = GpuResult(
        gpu=gpu,
        floor_of=accelerator.name,
        floor_source=accelerator.source,
        checks_passed=passed,
        checks_failed=failed,
        rows=tuple(rows),
        spent_s=perf_counter() - begin,
        created=datetime.now(UTC),
        environment=environment(),
    )
    given.out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit(1)


def _checked(*, on_gpu: bool) -> tuple[int, int]:
    """Tests that passed and failed, in processes of their own: on the GPU where the interpreter is off."""
    at_once = max(1, (os.cpu_count() or 1) // 2) if on_gpu else 1
    with ThreadPoolExecutor(at_once) as pool:
        counts = list(pool.map(_tested, TESTS))
    return sum(passed for passed, _ in counts), sum(failed for _, failed in counts)


def _tested(chosen: Sequence[str]) -> tuple[int, int]:
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_TESTS_S)
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    if done.returncode and not failed:
        raise SystemExit(f"the tests did not run:\n{done.stdout}{done.stderr}")
    if failed:
        print(done.stdout)
    return counts.get("passed", 0), failed


def _everything(forms: Forms, folder: Path, *, on_gpu: bool) -> Iterator[Timed]:
    yield from kernels()
    programs = {model.numeric: _built(model, folder) for model in (forms.fp32, forms.int8)}
    for form in _FORMS:
        model = forms.int8 if form == "int8" else forms.fp32
        yield from _model(model, form, folder, programs[model.numeric], on_gpu=on_gpu)
    yield from peers(forms.fp32, programs["fp32"], ROWS)


def _built(model: Model, folder: Path) -> Program:
    into = folder / f"triton-{model.numeric}"
    into.mkdir()
    load_engine("triton-lang").build(model, Target(), into)
    return read_program((into / PROGRAM_FILE).read_bytes())


def _model(model: Model, form: Form, folder: Path, program: Program, *, on_gpu: bool) -> Iterator[Timed]:
    """All kernels of a call as one CUDA graph, and whole calls."""
    built = folder / f"triton-{model.numeric}"
    requests, items = columns_of(big())
    pool = uniform_pool(row_count(items))
    for rows in ROWS:
        work = program_work(program, rows, form)
        name = f"{BIG}, triton-lang"
        if not on_gpu:
            yield Timed(name, "device", form, rows, work)
            for told in _LOOKUPS:
                yield Timed(name + told, "call", form, rows, work)
            continue
        lane = _lane(program, form)
        lane.inputs(rows)
        yield Timed(name, "device", form, rows, work, device=lambda lane=lane, rows=rows: lane.replay(rows))
        draw, out = draw_from(requests, items, pool, rows), np.empty((rows, program.tasks), np.float32)
        for told, table_bytes in _LOOKUPS.items():
            runner = open_runner(model, built, device=GPU, form=form, table_bytes=table_bytes)
            batches = iter(range(1 << 30))
            yield Timed(
                name + told,
                "call",
                form,
                rows,
                work,
                call=lambda runner=runner, draw=draw, out=out, at=batches: runner.run(draw(next(at)), out),
            )
            runner.close()


def _lane(program: Program, form: Form) -> object:
    from rankine.compilation.engines.triton_lang.device import device_named
    from rankine.compilation.engines.triton_lang.lane import DeviceLane
    from rankine.compilation.engines.triton_lang.placing import DeviceProgram

    device = device_named(GPU)
    return DeviceLane(DeviceProgram(program, device.torch_device, form), device)


def _row(timed: Timed, accelerator: Accelerator, gpu: str | None, *, left_s: float) -> Row:
    row = Row(
        what=timed.what,
        scope=timed.scope,
        form=timed.form,
        rows=timed.rows,
        floor_us=1e6 * _floor_s(timed.work, accelerator),
    )
    why_not = timed.why_not or (_NO_GPU if gpu is None else "" if left_s > 0 else "the run's time was over")
    if why_not:
        return row.model_copy(update={"why_not": why_not})
    try:
        spent = _device_us(timed.device) if timed.device else _call_us(timed.call) if timed.call else None
    except RuntimeError as error:  # of PyTorch, CUDA or a compiler: the other rows are still worth having
        return row.model_copy(update={"why_not": " ".join(str(error).split())[:300]})
    if spent is None:
        return row.model_copy(update={"why_not": "has nothing to run"})
    low, median, high = (float(value) for value in spent)
    return row.model_copy(update={"median_us": median, "low_us": low, "high_us": high})


def _floor_s(work: Work, accelerator: Accelerator) -> float:
    """0 where the GPU does not multiply in this form."""
    return work.floor_s(accelerator) if set(work.operations) <= set(accelerator.peak) else 0.0


def _device_us(run: Callable[[], object]) -> list[float]:
    """Quartiles on the device, with its second cache emptied before each run."""
    from triton.testing import do_bench

    return [1e3 * value for value in do_bench(run, warmup=20, rep=80, quantiles=[0.25, 0.5, 0.75])]


def _call_us(run: Callable[[], object]) -> list[float]:
    for _ in range(10):
        run()
    spent = []
    for _ in range(_CALLS):
        begin = perf_counter()
        run()
        spent.append(perf_counter() - begin)
    return [1e6 * float(value) for value in np.quantile(spent, (0.25, 0.5, 0.75))]


def _told(row: Row) -> str:
    time = f"not timed: {row.why_not}" if row.median_us is None else f"{row.median_us:.1f} us"
    return f"{row.what}, {row.scope}, {row.form}, {row.rows} rows: floor {row.floor_us:.2f} us, {time}"


if __name__ == "__main__":
    run_script(main)
