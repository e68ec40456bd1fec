"""Models of ``deepctr-torch``, trained until they converge, compressed on their graph alone, and certified.

$ python benchmarks/foreign_compression.py --data ../shared/data/ml-1m --work /tmp/foreign-compression

Every model goes the way that a user's goes: the library trains it, ``rankine load module:function`` brings it in; then
a recipe of graph passes (nothing is known of the architecture), engines, certificates on test rows. One result file a
model in benchmarks/results/foreign-compression/; a model whose file is there is not done again, and what is in the work
folder (a trained model, a loaded one) is used. What is refused is kept with the reason.

Needs deepctr-torch. About twenty minutes a model on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from families_quality import tell
from foreign_compare import own_scores
from foreign_models import load_module, portable, schema_of, write_user_files
from foreign_movielens import LABELS, PLACE, Prepared, prepare, write_rows
from foreign_zoo import ZOO, Foreign, trained
from pydantic import AwareDatetime
from script import movielens_folder, run_script
from torch import nn

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.plan import task_certificates
from rankine.compression.outcome import PassReport
from rankine.compression.recipe import LowRank, Prune, Quantize, Recipe, ShrinkTables
from rankine.config import Frozen, load_yaml
from rankine.data import load_dataset
from rankine.environment import environment
from rankine.errors import RankineError
from rankine.metrics import auc
from rankine.models.network import Size, load_network, size_of
from rankine.models.schema import Schema
from rankine.models.variant import BASELINE, read_variant
from rankine.planning.optimize import optimize

RESULTS = Path(__file__).resolve().parent / "results" / "foreign-compression"
MARGIN = 0.001
RECIPE = Recipe(
    name="graph",
    passes=(Prune(macs=0.25), LowRank(), ShrinkTables(), Quantize(method="auto", tables="mixed")),
)
MODELS = (
    "WDL",
    "DeepFM",
    "DCN",
    "PNN",
    "NFM",
    "AutoInt",
    "FiBiNET",
    "ONN",
    "IFM",
    "DIFM",
    "SharedBottom",
    "MMOE",
    "DIEN",
)
_SPLIT = (0.8, 0.1, 0.1)
_BATCH = 2048
_LEARNING_RATE = 5e-3
_PATIENCE, _MAX_EPOCHS = 2, 40


class Compressed(Frozen):
    """How far one model came.

    Attributes:
        history: validation AUC by epoch, the mean over tasks; training ended by patience.
        refused: stage and reason, where it was.
        reports: of the passes; certificates: of the compressed variant, one a task, by engine.
    """

    schema_version: int = 1
    kind: str = "foreign-compression"
    name: str
    library: str
    rows: Mapping[str, int]
    history: tuple[float, ...]
    converged: bool
    test_auc: Mapping[str, float]
    refused: Mapping[str, str] | None = None
    recipe: Recipe
    baseline: Size | None = None
    size: Size | None = None
    reports: tuple[PassReport, ...] = ()
    certificates: tuple[QualityCertificate, ...] = ()
    created: AwareDatetime
    environment: Mapping[str, Any]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)  # the models are small: threads would wait for each other
    arguments.work.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in arguments.models if arguments.train_only or not _file(name).exists()]
    if not wanted:
        return
    prepared = prepare(arguments.data, arguments.rows)
    order = np.concatenate([prepared.train, prepared.held_out])
    write_rows(prepared, arguments.work / "rows.parquet", order)
    for name in wanted:
        model, history = _trained(ZOO[name], prepared, order, arguments.work / f"{name.lower()}_model")
        if arguments.train_only:
            continue
        result = _compressed(ZOO[name], model, history, prepared, order, arguments.work / f"{name.lower()}_model")
        RESULTS.mkdir(parents=True, exist_ok=True)
        _file(name).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        print(name, result.refused or [(one.task, one.verdict) for one in result.certificates], flush=True)


def parts(order: np.ndarray) -> list[np.ndarray]:
    """Training, validation and test rows: as the schema's split by place has them."""
    first = round(len(order) * _SPLIT[0])
    return np.split(order, [first, first + round(len(order) * _SPLIT[1])])


def _trained(foreign: Foreign, prepared: Prepared, order: np.ndarray, stem: Path) -> tuple[nn.Module, list[float]]:
    """The model with its best weights, trained by the library's own ``fit`` until validation AUC stops improving."""
    kept = stem.with_suffix(".history.npy")
    if kept.exists():
        return trained(stem.with_suffix(".pt")), list(np.load(kept))
    train, validation, _ = parts(order)
    model: Any = foreign.build(prepared.fields)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    losses = ["binary_crossentropy"] * foreign.tasks if foreign.tasks > 1 else "binary_crossentropy"
    model.compile(optimizer, losses)
    columns, held_out = prepared.at(train), prepared.at(validation)
    inputs = {name: columns[name] for name in model.feature_index}
    labels = np.ascontiguousarray(prepared.labels[train, : foreign.tasks])
    best, history = copy.deepcopy(model.state_dict()), [0.0]
    while len(history) <= _MAX_EPOCHS and len(history) - int(np.argmax(history)) <= _PATIENCE:
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(inputs, labels, batch_size=_BATCH, epochs=1, verbose=0)
        model.eval()
        scores = own_scores(model, held_out)
        wanted = prepared.labels[validation]
        history.append(float(np.mean([auc(wanted[:, task], scores[:, task]) for task in range(foreign.tasks)])))
        print(f"{foreign.name}: epoch {len(history) - 1} validation AUC {history[-1]:.5f}", file=sys.stderr, flush=True)
        if history[-1] == max(history):
            best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    schema = schema_of(foreign, model, prepared) | {
        "timestamp": PLACE,
        "split": {"by": "time", "fractions": list(_SPLIT)},
    }
    write_user_files(foreign, model.eval(), schema, stem)
    np.save(kept, np.array(history[1:]))
    return model, history[1:]


def _compressed(
    foreign: Foreign, model: nn.Module, history: list[float], prepared: Prepared, order: np.ndarray, stem: Path
) -> Compressed:
    test = parts(order)[2]
    scores, labels = own_scores(model, prepared.at(test)), prepared.labels[test]
    told = Compressed(
        name=foreign.name,
        library=f"deepctr-torch {metadata.version('deepctr-torch')}",
        rows=dict(zip(("train", "validation", "test"), map(len, parts(order)), strict=True)),
        history=tuple(history),
        converged=len(history) - 1 - int(np.argmax(history)) >= _PATIENCE,
        test_auc={LABELS[task]: auc(labels[:, task], scores[:, task]) for task in range(foreign.tasks)},
        recipe=RECIPE,
        created=datetime.now(UTC),
        environment=environment(),
    )
    if not stem.exists():
        refused = load_module(stem, stem.with_suffix(".yaml"))
        if refused is not None:
            return told.model_copy(update={"refused": {"stage": "load", "reason": refused}})
    artifact = Artifact.open(stem)
    dataset = load_dataset(stem.parent / "rows.parquet", schema=load_yaml(Schema, stem.with_suffix(".yaml")))
    told = told.model_copy(update={"baseline": size_of(load_network(artifact, BASELINE))})
    out = stem.with_suffix(".certified")
    try:
        certified = (
            Artifact.open(out)
            if out.exists()
            else optimize(artifact, (RECIPE,), dataset, margin=MARGIN, out=out, emit=tell)
        )
    except RankineError as error:
        return told.model_copy(update={"refused": {"stage": "compress", "reason": portable(str(error))}})
    variant = read_variant(certified, f"{RECIPE.name}-int8")
    return told.model_copy(
        update={
            "size": size_of(load_network(certified, variant.name)),
            "reports": tuple(PassReport.model_validate(report) for report in variant.details["passes"]),
            "certificates": tuple(
                certificate
                for (name, _), by_task in task_certificates(certified).items()
                if name == variant.name
                for certificate in by_task.values()
            ),
        }
    )


def _file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=movielens_folder, required=True, help="folder with MovieLens-1M as Parquet")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(ZOO),
        default=list(MODELS),
        metavar="NAME",
        help=f"[default: {' '.join(MODELS)}]",
    )
    parser.add_argument("--rows", type=int, default=500_000, help="about as many ratings; all of a user's")
    parser.add_argument("--work", type=Path, required=True, help="folder to keep models and artifacts in")
    parser.add_argument("--train-only", action="store_true", help="train what is not trained yet, and stop")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
