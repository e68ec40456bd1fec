"""Pruning of every architecture of ours and of models that nobody here wrote, on the engines that serve them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.installed import installed_engine
from engine.networks import NAMES, Given, Loaded, context_of
from rankine.compilation.engine import Target
from rankine.compression.prune import prune
from rankine.compression.prune.costs import Costs
from rankine.compression.prune.groups import groups_of
from rankine.compression.prune.shrink import differs, masked_logits, shrink
from rankine.compression.prune.trace import Trace, trace
from rankine.compression.recipe import Prunable, Prune
from rankine.models.columns import Batch
from rankine.models.network import Network, load_network, size_of
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, Model

pytestmark = pytest.mark.engine

KINDS: tuple[Prunable, ...] = ("neurons", "dimensions", "fields")


def some_of(network: Network, seed: int, share: float) -> tuple[Trace, frozenset[int]]:
    """A share of all groups, drawn, as far as something is left of every layer."""
    found = trace(network)
    roots = groups_of(found, KINDS)
    costs, removed = Costs(found, roots), set()
    for number in np.random.default_rng(seed).permutation(len(roots))[: round(share * len(roots) + 0.5)]:
        if costs.allowed()[number]:
            costs.remove(int(number))
            removed.add(roots[number])
    return found, frozenset(removed)


def score(network: Network, batch: Batch, engine: str, folder: Path) -> np.ndarray:
    """Logits ``(rows, tasks)`` by an engine."""
    loaded = installed_engine(engine)
    onnx.save(network.graph, folder / "graph.onnx")
    model = Model(name="pruned", schema=network.schema, graph=folder / "graph.onnx", tables=network.tables)
    loaded.build(model, Target(), folder)
    runner = loaded.open(model, folder)
    out = np.full((batch.rows, len(network.schema.tasks)), np.nan, np.float32)
    runner.run(batch, out)
    runner.close()
    return out


@pytest.mark.parametrize("name", NAMES)
def test_smaller_graph_computes_what_the_masked_one_does_when_a_part_goes(
    name: str, given: Callable[[str], Given]
) -> None:
    network, batch = given(name)
    part = batch.select(slice(0, 200))
    for seed in range(3):
        found, removed = some_of(network, seed, 0.5)
        assert found.unknown == ()
        smaller = shrink(found, removed)
        assert differs(found, removed, smaller, part) <= 1
        assert size_of(smaller).bytes < size_of(network).bytes


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["dcn_v2", "dlrm", "din", "mmoe", "foreign-history", "foreign-packed"])
def test_engine_scores_as_the_masked_network_when_it_runs_the_pruned_one(
    name: str, engine: str, given: Callable[[str], Given], tmp_path: Path
) -> None:
    network, batch = given(name)
    found, removed = some_of(network, 1, 0.3)
    part = batch.select(slice(0, 60))
    scores, wanted = score(shrink(found, removed), part, engine, tmp_path), masked_logits(found, removed, part)
    assert (np.abs(scores - wanted) <= 1e-5 * np.maximum(1, np.abs(wanted))).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "foreign-offsets"])
def test_network_has_half_of_the_multiply_adds_when_pruned(name: str, given: Callable[[str], Given]) -> None:
    network, batch = given(name)
    outcome = prune(network, Prune(macs=0.5, steps=1, tune=None), context_of(network, batch))
    before, after = outcome.details["macs_per_row"]
    assert after <= 0.5 * before
    assert size_of(outcome.network).bytes < size_of(network).bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DeepFM", "DIN", "AutoInt", "xDeepFM"])
def test_model_of_a_library_is_smaller_and_proved_when_pruned(
    name: str, library_model: Callable[[str], Loaded]
) -> None:
    loaded = library_model(name)
    network, batch = load_network(loaded.artifact, BASELINE), loaded.dataset.encode(Transforms.read(loaded.artifact))
    found, removed = some_of(network, 0, 0.4)
    assert found.unknown == ()
    assert differs(found, removed, shrink(found, removed), batch.select(slice(0, 100))) <= 1
    outcome = prune(network, Prune(macs=0.5, steps=1, tune=None, calibration_rows=512), context_of(network, batch))
    before, after = outcome.details["macs_per_row"]
    assert after <= 0.5 * before
    assert outcome.details["steps"][0]["refused"] == 0
