"""Train every model family on its data until validation stops improving, quantize it, and certify the INT8 variant.

$ python benchmarks/families_quality.py --work /tmp/families --only dlrm,deepfm --data-root ../shared/data

One result file a family in benchmarks/results/families/. What is in the work folder already (a trained baseline) is not
done again, so that a run that was cut off goes on where it was.

Needs ml-1m and s3rec-beauty under --data-root, PyTorch and OpenVINO. About an hour and a half on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from script import existing_folder, known_names, run_script

from rankine.artifact import Artifact
from rankine.certification.plan import parity_certificates, task_certificates
from rankine.compilation.compile import build_names, read_build
from rankine.compression.recipe import Quantize, Recipe
from rankine.data import Dataset, load_dataset
from rankine.data.behavior import BEHAVIOR
from rankine.data.movielens import MOVIELENS_TWO_TASKS
from rankine.environment import environment
from rankine.events import Event, Note
from rankine.models.schema import Schema, SequenceFeature
from rankine.models.variant import BASELINE, load_model, read_variant
from rankine.planning.optimize import optimize
from rankine.training.fit import FitConfig
from rankine.training.record import TRAINING_FILE, TrainingRecord
from rankine.training.train import train

RESULTS = Path(__file__).resolve().parent / "results" / "families"
INT8 = Recipe(name="whole", passes=(Quantize(),))
MLP = (256, 128, 64)


def _shorter(schema: Schema, length: int) -> Schema:
    """The schema with sequences of at most ``length``; the mean history of Beauty has 8 items."""
    features = [
        feature.model_copy(update={"max_length": length}) if isinstance(feature, SequenceFeature) else feature
        for feature in schema.features
    ]
    return schema.model_copy(update={"features": tuple(features)})


@dataclass(frozen=True)
class Family:
    """A model on a data set: ``data`` as for ``--data``, below the data root where it is a folder."""

    data: str
    model: Mapping[str, Any]
    rows: int | None = None
    schema: Schema | None = None
    margin: float = 0.001
    fit: FitConfig = field(default_factory=FitConfig)


FAMILIES = {
    "dlrm": Family("ml-1m", {"architecture": "dlrm", "hidden": MLP}),
    "dcn_v2": Family("ml-1m", {"architecture": "dcn_v2", "hidden": MLP, "cross_layers": 2}),
    "dcn_v2_wide": Family("ml-1m", {"architecture": "dcn_v2"}),
    "dcn_v2_stacked": Family(
        "ml-1m",
        {"architecture": "dcn_v2", "structure": "stacked", "low_rank": 32, "hidden": MLP, "cross_layers": 2},
    ),
    "deepfm": Family("ml-1m", {"architecture": "deepfm", "hidden": MLP}),
    "wide_deep": Family("ml-1m", {"architecture": "wide_deep", "hidden": MLP}),
    "mmoe": Family("ml-1m", {"architecture": "mmoe"}, schema=MOVIELENS_TWO_TASKS),
    "din": Family(
        "s3rec-beauty",
        {"architecture": "din", "attention": (32, 16), "hidden": (128, 64)},
        schema=_shorter(BEHAVIOR, 20),
        margin=0.003,
    ),
    "dcn_v2_criteo": Family("synthetic-criteo", {"architecture": "dcn_v2", "hidden": MLP}),
    "dlrm_criteo": Family("synthetic-criteo", {"architecture": "dlrm", "hidden": MLP}),
}


def main() -> None:
    arguments = arguments_for(__doc__, FAMILIES).parse_args()
    datasets: dict[tuple[Any, ...], Dataset] = {}
    for name in arguments.only:
        family = FAMILIES[name]
        key = (family.data, family.rows, family.schema)
        if key not in datasets:
            datasets = {key: open_data(family, arguments.data_root)}  # one at a time is kept
        result = _run(name, family, datasets[key], arguments.work / name)
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def open_data(family: Family, root: Path) -> Dataset:
    """The rows of a family; ``root`` has the real data sets."""
    source = family.data if family.data.startswith("synthetic") else root / family.data
    return load_dataset(source, rows=family.rows, schema=family.schema)


def baseline_of(name: str, family: Family, dataset: Dataset, work: Path) -> Artifact:
    """The family's baseline in its work folder, trained until validation stops improving if it is not there yet."""
    out = work / "baseline"
    if out.exists():
        return Artifact.open(out)
    return train(dataset, family.model, family.fit, out=out, name=name, emit=tell)


def _run(name: str, family: Family, dataset: Dataset, work: Path) -> dict[str, Any]:
    trained = baseline_of(name, family, dataset, work)
    certified = work / "certified"
    artifact = (
        Artifact.open(certified)
        if certified.exists()
        else optimize(trained, (INT8,), dataset, margin=family.margin, out=certified, emit=tell)
    )
    return describe(name, artifact, dataset)


def describe(name: str, artifact: Artifact, dataset: Dataset) -> dict[str, Any]:
    """What is kept of a family's run."""
    record = artifact.read_json(TRAINING_FILE, TrainingRecord)
    parities = parity_certificates(artifact)
    variants: dict[str, Any] = {}
    for variant in (BASELINE, "whole-int8"):
        engines = build_names(artifact, variant)
        model = load_model(artifact, variant)
        variants[variant] = {
            "macs_per_row": read_variant(artifact, variant).macs_per_row,
            "size_bytes": model.graph.stat().st_size + sum(table.size_bytes for table in model.tables.values()),
            "max_logit_error": {e: read_build(artifact, variant, e).max_logit_error for e in engines},
            "parity": {e: parities[variant, e].admitted for e in engines if (variant, e) in parities},
        }
    certificates = [
        json.loads(certificate.model_dump_json())
        for (variant, _), by_task in task_certificates(artifact).items()
        for certificate in by_task.values()
        if variant != BASELINE
    ]
    return {
        "schema_version": 1,
        "kind": "family",
        "family": name,
        "dataset": record.dataset,
        "best_auc": dataset.best_auc,
        "rows": dict(record.rows),
        "model": dict(record.model or {}),
        "training": json.loads(record.model_dump_json()),
        "variants": variants,
        "certificates": certificates,
        "environment": environment(),
    }


def tell(event: Event) -> None:
    """Print notes as they come."""
    if isinstance(event, Note):
        figures = ", ".join(f"{key} {value:.5f}" for key, value in (event.figures or {}).items())
        print(f"{event.task}: {event.text} {figures}", flush=True)


def arguments_for(
    description: str | None,
    families: Iterable[str],
    *,
    usual: Iterable[str] | None = None,
    made_by: str | None = None,
) -> argparse.ArgumentParser:
    """What every benchmark over families takes: where to work, where the data are, which of the families.

    Args:
        families: those that can be asked for.
        usual: those that are taken where ``--only`` is not given; None means all.
        made_by: the script whose work folder this is and has to be there; None makes it.
    """
    known = tuple(families)
    default = ",".join(known if usual is None else usual)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if made_by is None:
        parser.add_argument("--work", type=Path, required=True, help="folder for the artifacts; what is there is used")
    else:
        parser.add_argument("--work", type=existing_folder, required=True, help=f"folder that {made_by} worked in")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="folder with ml-1m, ...")
    names = known_names(known)
    parser.add_argument("--only", type=names, default=default, help=f"families, by commas [default: {default}]")
    return parser


if __name__ == "__main__":
    run_script(main)
