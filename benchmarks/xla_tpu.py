"""DCN-v2, DLRM and Wide&Deep for TPUs v5e, v5p and v6e: compiled without a TPU, verified on the CPU, nothing timed.

$ python benchmarks/xla_tpu.py [--out FILE]

The same program, StableHLO with an open number of rows, is compiled by libtpu for each generation and run by XLA on
the CPU, where its logits are held to the float64 reference. What is stored of a TPU are its compiler's own figures of
memory and cost, beside what is published of the chip. Four minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
from native_speed.shapes import big, columns_of, families, make_forms, verification_batch
from script import new_file, run_script
from xla_record import Chip, Compiled, Subject, XlaTpu

from rankine.compilation.engine import Target
from rankine.compilation.engines import load_engine
from rankine.compilation.engines.xla.program import Program, read_program
from rankine.compilation.engines.xla.tpu import GENERATIONS, compile_for_tpu
from rankine.compilation.verify import reference_logits, score_errors, verify_logits
from rankine.environment import environment
from rankine.models.columns import Batch
from rankine.models.macs import count_graph_macs
from rankine.models.variant import Model

OUT = Path(__file__).resolve().parent / "results" / "xla-tpu.json"
ROWS = (16, 512)
VERIFIED_ROWS = 512
_MODELS = ("dlrm", "wide_deep")
_DOCS = "https://docs.cloud.google.com/tpu/docs/"
_BLOG = "https://cloud.google.com/blog/products/ai-machine-learning/"
CHIPS = {
    "TPU v5e": Chip(
        bf16_operations_per_s=197e12,
        int8_operations_per_s=393e12,
        hbm_bytes_per_s=819e9,
        hbm_bytes=16e9,
        source=_DOCS + "v5e",
    ),
    "TPU v5p": Chip(
        bf16_operations_per_s=459e12,
        int8_operations_per_s=918e12,
        hbm_bytes_per_s=2765e9,
        hbm_bytes=95e9,
        source=_DOCS + "v5p",
        int8_source=_BLOG + "introducing-cloud-tpu-v5p-and-ai-hypercomputer",
    ),
    "TPU v6e": Chip(
        bf16_operations_per_s=918e12,
        int8_operations_per_s=1836e12,
        hbm_bytes_per_s=1638e9,
        hbm_bytes=32e9,
        source=_DOCS + "v6e",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=new_file, default=OUT, help="[default: the committed result]")
    given = parser.parse_args()
    shapes = [big(), *(one for one in families() if one.name in _MODELS)]
    subjects: list[Subject] = []
    for shape in shapes:
        with tempfile.TemporaryDirectory() as scratch:
            forms = make_forms(shape, Path(scratch))
            batch = verification_batch(*columns_of(shape), VERIFIED_ROWS)
            for model in (forms.fp32, forms.int8):
                subjects.append(_subject(model, batch, Path(scratch)))
                print(f"{subjects[-1].model} {subjects[-1].numeric}: error {subjects[-1].error:.2g}", flush=True)
    result = XlaTpu(subjects=tuple(subjects), chips=CHIPS, created=datetime.now(UTC), environment=environment())
    given.out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _subject(model: Model, batch: Batch, scratch: Path) -> Subject:
    folder = scratch / f"xla-{model.numeric}"
    folder.mkdir()
    engine = load_engine("xla")
    engine.build(model, Target(row_buckets=(VERIFIED_ROWS,)), folder)
    expected = reference_logits(model, batch)
    runner = engine.open(model, folder)
    verified = verify_logits(model, runner, batch, expected)
    out = np.empty(expected.shape, np.float32)
    runner.run(batch, out)
    runner.close()
    _, errors = score_errors(model.numeric, out.astype(np.float64), expected)
    program = read_program(folder)
    return Subject(
        model=model.name,
        numeric=model.numeric,
        macs_per_row=count_graph_macs(onnx.load(model.graph)),
        weight_bytes=sum(one.nbytes for one in program.weights),
        verified_rows=batch.rows,
        error=verified.max_error,
        mean_error=float(errors.mean()),
        limit=verified.limit,
        compiled=tuple(_compiled(program, generation, rows) for generation in GENERATIONS for rows in ROWS),
    )


def _compiled(program: Program, generation: str, rows: int) -> Compiled:
    begin = perf_counter()
    figures = compile_for_tpu(program, generation, rows)
    facts = program.facts
    row = sum(width * np.dtype(kind).itemsize for width, kind in zip(facts.widths, facts.dtypes, strict=True))
    least = sum(one.nbytes for one in program.weights) + rows * (row + 4 * facts.tasks)
    took = perf_counter() - begin
    print(f"{generation}, {rows} rows: compiled in {took:.1f} s", flush=True)
    return Compiled(figures=figures, least_bytes=least, compile_s=took)


if __name__ == "__main__":
    run_script(main)
