"""Every model's graph in PyTorch, ours and foreign ones: the same scores as the engine, and passes that work on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.families import FAMILIES
from engine.networks import NAMES, Given, context_of
from rankine.compression.low_rank import low_rank
from rankine.compression.recipe import LowRank, ShrinkTables
from rankine.compression.shrink_tables import shrink_tables
from rankine.models.network import NetworkScorer, size_of
from rankine.models.torch_graph import GraphModel
from rankine.training.fit import predict_logits

pytestmark = pytest.mark.engine


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
