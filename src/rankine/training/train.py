"""``train``: a data set and a model's configuration into an artifact with the baseline variant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.data.dataset import Dataset
from rankine.events import Emit, Note, ignore
from rankine.models.network import network_of, put_network
from rankine.models.variant import BASELINE
from rankine.models.zoo import build_model
from rankine.training.fit import Examples, FitConfig, fit
from rankine.training.record import TRAINING_FILE, TrainingRecord

__all__ = ["train"]


def train(
    dataset: Dataset,
    model_config: Mapping[str, object],
    config: FitConfig,
    *,
    out: Path,
    name: str,
    emit: Emit = ignore,
) -> Artifact:
    """Train the baseline until validation stops improving, and write it as an artifact.

    The test rows are not looked at.

    Args:
        dataset: raw rows; its schema says how they are split.
        model_config: ``{"architecture": "dcn_v2", ...}``, see :mod:`rankine.models.zoo`.
        out: folder to write; must not exist.
        name: of the model, as it will be served.
    """
    import torch

    refuse_existing(out)
    dataset.check()
    splits = dataset.splits()
    transforms = dataset.fit_transforms(splits.train)
    rows = dataset.encode(transforms)
    torch.manual_seed(config.seed)
    model = build_model(dataset.schema, transforms.table_rows(), model_config)
    result = fit(
        model,
        Examples(rows.select(splits.train), dataset.labels[splits.train].astype(np.float32)),
        Examples(rows.select(splits.validation), dataset.labels[splits.validation]),
        config,
        task="train baseline",
        emit=emit,
    )
    if not result.converged:
        emit(Note("train baseline", "max_epochs ended the training before patience did: validation may still improve"))
    draft = Draft("train", name=name)
    transforms.write(draft)
    put_network(
        draft,
        network_of(model),
        name=BASELINE,
        parent=None,
        steps=(f"trained on {dataset.name}: {result.best_epoch} epochs of {len(result.history)} run",),
        validation_auc=result.validation_auc,
        details={"converged": result.converged, "train_seconds": round(result.seconds, 1)},
    )
    record = TrainingRecord(
        dataset=dataset.name,
        provenance=dataset.provenance,
        rows={"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)},
        best_auc=dataset.best_auc,
        model=model.config.model_dump(mode="json"),
        fit=config,
        result=result,
    )
    draft.put_json(TRAINING_FILE, record)
    return draft.commit(out)
