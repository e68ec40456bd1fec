"""The baseline of a demonstration, trained once and kept: training takes most of the time and never differs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rankine.artifact import Artifact
from rankine.data.dataset import Dataset
from rankine.demo.config import DemoConfig, cache_folder
from rankine.errors import ArtifactError
from rankine.events import Emit, Note
from rankine.training.train import train

__all__ = ["trained_baseline"]


def trained_baseline(dataset: Dataset, config: DemoConfig, emit: Emit) -> Artifact:
    """The baseline for this data and these settings, from the cache if it was trained before."""
    folder = cache_folder() / "baselines" / _key(dataset, config)
    if folder.exists():
        try:
            cached = Artifact.open(folder)
            cached.verify()
        except ArtifactError as error:
            emit(Note("train baseline", f"the cached baseline is not usable and is left alone: {error}"))
            folder = _free_name(folder)
        else:
            emit(Note("train baseline", f"cached at {folder}"))
            return cached
    return train(dataset, config.model, config.fit, out=folder, name=dataset.name, emit=emit)


def _key(dataset: Dataset, config: DemoConfig) -> str:
    """Everything that decides what is trained; ``threads`` only decides how fast."""
    from rankine import __version__

    decisive = {
        "rankine": __version__,
        "data": dict(dataset.provenance),
        "schema": dataset.schema.model_dump(mode="json"),
        "model": dict(config.model),
        "fit": config.fit.model_dump(mode="json", exclude={"threads"}),
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return f"{dataset.name}-{digest[:16]}"


def _free_name(folder: Path) -> Path:
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate
