"""That the split loses nothing, on trained models and the test rows: AUC in parts against whole.

$ python benchmarks/binding_auc.py --work /tmp/compression --only dcn_v2,deepfm --data-root ../shared/data

Compiles what `compression.py` certified and scores the test rows with every variant on ONNX Runtime, whole and in
parts. It is a proof of equality: nothing is chosen by it. The bar: AUC differs by less than 1e-5. One result file a
family in benchmarks/results/binding-auc/.

Two minutes on one core for all families; needs the data that they were trained on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from compression_sizes import SIZES
from families_quality import FAMILIES, arguments_for, open_data
from pydantic import AwareDatetime
from script import open_left, run_script

from rankine.artifact import Artifact
from rankine.certification.evaluation import held_out_rows
from rankine.compilation.compile import compile_artifact, is_split, open_runner
from rankine.config import Frozen
from rankine.environment import environment
from rankine.metrics import auc
from rankine.models.columns import Batch
from rankine.models.schema import Schema
from rankine.models.variant import read_variant, variant_names
from rankine.planning.optimize import verification_rows

RESULTS = Path(__file__).resolve().parent / "results" / "binding-auc"
ENGINE = "onnxruntime"
BAR = 1e-5
ROWS_A_CALL = 1024


class VariantAuc(Frozen):
    """One variant and task; ``largest`` and ``mean`` are absolute differences of logits."""

    variant: str
    numeric: str
    task: str
    whole: float
    parts: float
    difference: float
    largest: float
    mean: float


class BindingAuc(Frozen):
    """All variants of a family that are split."""

    schema_version: int = 1
    kind: str = "binding-auc"
    family: str
    rows: int
    bar: float = BAR
    variants: tuple[VariantAuc, ...]
    stay_whole: tuple[str, ...]
    created: AwareDatetime
    environment: Mapping[str, Any]


def main() -> None:
    arguments = arguments_for(__doc__, SIZES, made_by="compression.py").parse_args()
    for family in arguments.only:
        dataset = open_data(FAMILIES[family], arguments.data_root)
        compressed = open_left(arguments.work / family / "compressed", "compression.py")
        _, test = held_out_rows(compressed, dataset)
        with tempfile.TemporaryDirectory() as folder:
            rows = verification_rows(compressed, dataset)
            artifact = compile_artifact(compressed, engines=[ENGINE], verify_batch=rows, out=Path(folder) / "artifact")
            names = [name for name in variant_names(artifact) if is_split(artifact, name)]
            found = [one for name in names for one in compare(artifact, name, test.batch, test.labels)]
            result = BindingAuc(
                family=family,
                rows=test.batch.rows,
                variants=tuple(found),
                stay_whole=tuple(name for name in variant_names(artifact) if name not in names),
                created=datetime.now(UTC),
                environment=environment(),
            )
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{family}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for one in found:
            print(family, one.variant, one.task, f"{one.whole:.6f}", f"{one.difference:+.1e}", f"{one.largest:.1e}")


def compare(artifact: Artifact, variant: str, batch: Batch, labels: np.ndarray) -> list[VariantAuc]:
    whole, parts = (score(artifact, variant, batch, labels.shape[1], split=split) for split in (False, True))
    tasks = artifact.read_json("schema.json", Schema).task_names
    found = []
    for column, task in enumerate(tasks):
        own = np.abs(whole[:, column].astype(np.float64) - parts[:, column])
        values = [float(auc(labels[:, column], logits[:, column])) for logits in (whole, parts)]
        found.append(
            VariantAuc(
                variant=variant,
                numeric=read_variant(artifact, variant).numeric,
                task=task,
                whole=values[0],
                parts=values[1],
                difference=values[1] - values[0],
                largest=float(own.max()),
                mean=float(own.mean()),
            )
        )
    return found


def score(artifact: Artifact, variant: str, batch: Batch, tasks: int, *, split: bool) -> np.ndarray:
    runner = open_runner(artifact, variant, ENGINE, split=split)
    out = np.empty((batch.rows, tasks), np.float32)
    for start in range(0, batch.rows, ROWS_A_CALL):
        rows = slice(start, min(start + ROWS_A_CALL, batch.rows))
        runner.run(batch.select(rows), out[rows])
    runner.close()
    return out


if __name__ == "__main__":
    run_script(main)
