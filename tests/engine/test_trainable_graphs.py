"""Every model's graph in PyTorch, ours and foreign ones: the same scores as the engine, and passes that work on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.families import FAMILIES, family_module
from engine.foreign_models import EXAMPLES, write_rows
from engine.small_model import small_batch
from rankine.compression.context import Context
from rankine.compression.low_rank import low_rank
from rankine.compression.recipe import LowRank, ShrinkTables
from rankine.compression.shrink_tables import shrink_tables
from rankine.data import load_dataset
from rankine.events import ignore
from rankine.metrics import sigmoid
from rankine.models.columns import Batch
from rankine.models.network import Network, NetworkScorer, load_network, network_of, size_of
from rankine.models.torch_graph import GraphModel
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE
from rankine.training.fit import Examples, predict_logits
from rankine.training.load import load

pytestmark = pytest.mark.engine

Given = tuple[Network, Batch]
NAMES = [*FAMILIES, *(f"foreign-{name}" for name in EXAMPLES)]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Given]:
    """A network and rows for it, made once."""
    known: dict[str, Given] = {}
    rows = write_rows(tmp_path_factory.mktemp("data") / "rows.parquet")

    def foreign(name: str) -> Given:
        dataset = load_dataset(rows, schema=EXAMPLES[name].schema)
        out = tmp_path_factory.mktemp("loaded") / "model"
        artifact = load(EXAMPLES[name].build(), EXAMPLES[name].schema, dataset, out=out, name=name)
        return load_network(artifact, BASELINE), dataset.encode(Transforms.read(artifact))

    def make(name: str) -> Given:
        if name not in known:
            ours = name in FAMILIES
            known[name] = (
                (network_of(family_module(name)), small_batch(1200)) if ours else foreign(name.removeprefix("foreign-"))
            )
        return known[name]

    return make


def context_of(network: Network, batch: Batch) -> Context:
    """Labels by chance from the model's own scores."""
    probabilities = sigmoid(NetworkScorer(network).logits(batch))
    labels = (np.random.default_rng(0).random(probabilities.shape) < probabilities).astype(np.float32)
    examples, half = Examples(batch, labels), batch.rows // 2
    first, second = examples.select(np.arange(half)), examples.select(np.arange(half, batch.rows))
    return Context(first, second, network, 0, ignore)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_engines_when_a_graph_is_trained(name: str, given: Callable[[str], Given]) -> None:
    network, batch = given(name)
    found, wanted = predict_logits(GraphModel(network), batch), NetworkScorer(network).logits(batch)
    np.testing.assert_array_less(np.abs(found - wanted), 1e-5 * np.maximum(1, np.abs(wanted)))
    if network.module is not None:
        module = predict_logits(network.module, batch)
        np.testing.assert_array_less(np.abs(found - module), 1e-5 * np.maximum(1, np.abs(module)))
    again = NetworkScorer(GraphModel(network).to_network()).logits(batch)
    np.testing.assert_array_equal(again, wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_close_when_ranks_and_columns_are_cut(name: str, given: Callable[[str], Given]) -> None:
    network, batch = given(name)
    context, wanted = context_of(network, batch), NetworkScorer(network).logits(batch)
    cut = low_rank(network, LowRank(energy=0.995, tune=None), context).network
    cut = shrink_tables(cut, ShrinkTables(energy=0.995, tune=None), context).network
    assert size_of(cut).bytes < size_of(network).bytes
    assert np.corrcoef(NetworkScorer(cut).logits(batch).ravel(), wanted.ravel())[0, 1] > 0.95
