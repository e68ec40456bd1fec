"""Foreign models brought in, and networks for compression, ours and foreign ones: what several files begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from engine.families import FAMILIES, family_network
from engine.foreign_models import EXAMPLES
from engine.small_model import small_batch
from rankine.artifact import Artifact
from rankine.compression.context import Context
from rankine.data import Dataset, load_dataset
from rankine.events import ignore
from rankine.metrics import sigmoid
from rankine.models.columns import Batch
from rankine.models.network import Network, NetworkScorer, load_network
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE
from rankine.training.fit import Examples
from rankine.training.load import load

Given = tuple[Network, Batch]
_FOREIGN = "foreign-"
NAMES = [*FAMILIES, *(f"{_FOREIGN}{name}" for name in EXAMPLES)]


@dataclass(frozen=True)
class Loaded:
    """A foreign model, and what came of it: not to be changed, tests share them."""

    module: nn.Module
    artifact: Artifact
    dataset: Dataset


def load_example(name: str, rows: Path, folder: Path) -> Loaded:
    """Bring in the model ``name`` of ``EXAMPLES`` with a file of rows; its artifact is written into ``folder``."""
    example = EXAMPLES[name]
    module, dataset = example.build(), load_dataset(rows, schema=example.schema)
    artifact = load(module, example.schema, dataset, out=folder / "model", name=name)
    return Loaded(module, artifact, dataset)


def given_network(name: str, loaded: Callable[[str], Loaded]) -> Given:
    """A network of ``NAMES``, and rows for it."""
    if name in FAMILIES:
        return family_network(name), small_batch(1200)
    found = loaded(name.removeprefix(_FOREIGN))
    return load_network(found.artifact, BASELINE), found.dataset.encode(Transforms.read(found.artifact))


def context_of(network: Network, batch: Batch) -> Context:
    """Labels by chance from the model's own scores; every third row is for validation."""
    probabilities = sigmoid(NetworkScorer(network).logits(batch))
    labels = (np.random.default_rng(0).random(probabilities.shape) < probabilities).astype(np.float32)
    at = np.arange(batch.rows)
    examples = Examples(batch, labels)
    return Context(examples.select(at[at % 3 != 0]), examples.select(at[at % 3 == 0]), network, 0, ignore)
