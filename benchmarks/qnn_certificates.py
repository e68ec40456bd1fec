"""Certify what the engine qnn makes of INT8 models against the canonical INT8 form, on MovieLens-1M's test rows.

$ python benchmarks/qnn_certificates.py --data ../shared/data/ml-1m --work /tmp/qnn

DCN-v2, DLRM and Wide&Deep with small networks, trained a little and quantized. Scores of both forms are those of
products of `rankine compile`: ONNX Runtime runs the canonical graph, Qualcomm's emulator the context binaries, nothing
on the CPU. What the work folder holds is not done again. Needs PyTorch and `rankine[qnn]`.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from pydantic import AwareDatetime
from script import movielens_folder, run_script

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.evaluation import EvaluationRows, held_out_rows, split_facts
from rankine.certification.quality import certify_quality
from rankine.certification.scoring import score
from rankine.compilation.compile import compile_artifact, read_build
from rankine.compilation.engines import load_engine
from rankine.compilation.row_buckets import ROW_BUCKETS
from rankine.compilation.verify import reference_logits, score_errors
from rankine.compression.compress import compress
from rankine.compression.recipe import Quantize, Recipe
from rankine.config import Frozen
from rankine.data import Dataset, load_dataset
from rankine.environment import environment
from rankine.events import Event, Failed, Note
from rankine.models.variant import load_model
from rankine.training.fit import FitConfig
from rankine.training.train import train

RESULT = Path(__file__).resolve().parent / "results" / "qnn-certificates.json"
MARGIN = 0.0005
COMPARED_ROWS = 2048
MODELS = ("dcn_v2", "dlrm", "wide_deep")
_SIZES: Mapping[str, Any] = {"embedding_dim": 8, "hidden": (64, 32)}
_INT8 = Recipe(name="whole", passes=(Quantize(),))
_VARIANT = "whole-int8"


class ModelResult(Frozen):
    """One model on both engines.

    Attributes:
        context_bytes: of all context binaries together.
        max_score_error, mean_score_error: of ``|sigmoid(a) - sigmoid(b)|`` against the float64 reference of the
            canonical graph, over ``compared_rows`` test rows.
        emulated_s: what the emulator took for all test rows; no time of the chip.
        certificate: the form of qnn against the canonical form.
    """

    model: str
    config: dict[str, Any]
    context_bytes: int
    row_buckets: tuple[int, ...]
    compared_rows: int
    max_score_error: float
    mean_score_error: float
    emulated_s: float
    certificate: QualityCertificate


class QnnCertificates(Frozen):
    """The result file."""

    schema_version: int = 1
    created: AwareDatetime
    environment: dict[str, str | int | float]
    engine_version: str
    runs_on: str
    margin: float
    models: tuple[ModelResult, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=movielens_folder, required=True, help="folder of MovieLens-1M as Parquet")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is trained and compiled")
    parser.add_argument("--rows", type=int, help="ratings, a tenth of which are tested on [default: all]")
    parser.add_argument("--epochs", type=int, default=2, help="at most so many")
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data, rows=arguments.rows)
    record = load_engine("qnn").capabilities()
    found: list[ModelResult] = []
    for name in MODELS:
        found.append(_certified(name, dataset, arguments.work / name, arguments.epochs))
        result = QnnCertificates(
            created=datetime.now(UTC),
            environment=environment(),
            engine_version=record.version,
            runs_on=record.runs_on(record.devices[0]),
            margin=MARGIN,
            models=tuple(found),
        )
        RESULT.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _certified(name: str, dataset: Dataset, work: Path, epochs: int) -> ModelResult:
    config = {"architecture": name, **_SIZES}
    artifact = _compiled(name, config, dataset, work, epochs)
    _, test = held_out_rows(artifact, dataset)
    canonical = score(artifact, _VARIANT, "onnxruntime", test.batch, _tell)
    begin = perf_counter()
    own = score(artifact, _VARIANT, "qnn", test.batch, _tell)
    took = perf_counter() - begin
    some = test.batch.select(slice(0, COMPARED_ROWS))
    expected = reference_logits(load_model(artifact, _VARIANT), some)
    _, errors = score_errors("int8", own[: some.rows].astype(np.float64), expected)
    certificate = _certificate(artifact, dataset, test, canonical, own)
    folder = artifact.folder(f"variants/{_VARIANT}/builds/qnn")
    _tell(Note(f"{name}: {certificate.verdict}, {certificate.reason}"))
    return ModelResult(
        model=name,
        config=config,
        context_bytes=sum(path.stat().st_size for path in folder.glob("*.bin")),
        row_buckets=ROW_BUCKETS,
        compared_rows=some.rows,
        max_score_error=float(errors.max()),
        mean_score_error=float(errors.mean()),
        emulated_s=took,
        certificate=certificate,
    )


def _compiled(name: str, config: Mapping[str, Any], dataset: Dataset, work: Path, epochs: int) -> Artifact:
    if (work / "compiled").exists():
        return Artifact.open(work / "compiled")
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "baseline").exists():
        train(dataset, config, FitConfig(max_epochs=epochs), out=work / "baseline", name=name, emit=_tell)
    baseline = Artifact.open(work / "baseline")
    if not (work / "int8").exists():
        compress(baseline, _INT8, dataset, out=work / "int8", emit=_tell)
    int8 = Artifact.open(work / "int8")
    validation, _ = held_out_rows(int8, dataset)
    some = validation.batch.select(slice(0, COMPARED_ROWS))
    engines = ("onnxruntime", "qnn")
    return compile_artifact(int8, engines=engines, split=None, verify_batch=some, out=work / "compiled", emit=_tell)


def _certificate(
    artifact: Artifact, dataset: Dataset, test: EvaluationRows, canonical: np.ndarray, own: np.ndarray
) -> QualityCertificate:
    build = read_build(artifact, _VARIANT, "qnn")
    return certify_quality(
        test.labels[:, 0],
        canonical[:, 0],
        own[:, 0],
        margin=MARGIN,
        clusters=test.clusters,
        groups=test.groups,
        variant=_VARIANT,
        engine="qnn",
        task=test.tasks[0].name,
        link=test.tasks[0].link,
        provenance={
            **split_facts(dataset),
            "rows": test.digest,
            "artifact": artifact.digest,
            "baseline": "the canonical INT8 form on onnxruntime",
            "numeric_form": build.numeric_form,
            "baseline_scores": hashlib.sha256(canonical.tobytes()).hexdigest(),
        },
        environment={**environment(), "device": build.device},
    )


def _tell(event: Event) -> None:
    if isinstance(event, (Note, Failed)):
        print(event, flush=True)


if __name__ == "__main__":
    run_script(main)
