"""Networks that compression works on, ours and foreign ones, each with rows: what several files of tests begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.families import FAMILIES, family_network
from engine.foreign_models import EXAMPLES
from engine.small_model import small_batch
from rankine.compression.context import Context
from rankine.data import load_dataset
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


def given_network(name: str, rows: Path, folder: Path) -> Given:
    """A network and rows for it.

    Args:
        name: of ``NAMES``.
        rows: the file that foreign models are loaded with.
        folder: where a foreign model's artifact is written.
    """
    if name in FAMILIES:
        return family_network(name), small_batch(1200)
    example = EXAMPLES[name.removeprefix(_FOREIGN)]
    dataset = load_dataset(rows, schema=example.schema)
    artifact = load(example.build(), example.schema, dataset, out=folder / "model", name=name)
    return load_network(artifact, BASELINE), dataset.encode(Transforms.read(artifact))


def context_of(network: Network, batch: Batch) -> Context:
    """Labels by chance from the model's own scores; every third row is for validation."""
    probabilities = sigmoid(NetworkScorer(network).logits(batch))
    labels = (np.random.default_rng(0).random(probabilities.shape) < probabilities).astype(np.float32)
    at = np.arange(batch.rows)
    examples = Examples(batch, labels)
    return Context(examples.select(at[at % 3 != 0]), examples.select(at[at % 3 == 0]), network, 0, ignore)
