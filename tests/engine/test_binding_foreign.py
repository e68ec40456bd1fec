"""Models that somebody else wrote, split: as exact as they were, in both numeric forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.networks import Loaded
from rankine.compilation.binding import CostModel, Settings, sides_of, split_graph
from rankine.compilation.binding.proof import prove
from rankine.compression.quantize import quantize_graph
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import load_network
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE

pytestmark = pytest.mark.engine

_FREE = Settings(costs=CostModel(catalog_byte=0, request_byte=0, element=0, slow_element=0))
_ROWS = 600
_EXAMPLES = ("packed", "normed", "history", "tasks")
"""A factorization machine, batch normalization, attention to a history, two outputs; two with layers for INT8."""
_LIBRARY = ("DeepFM", "DIN", "ESMM", "NFM")


def _check(loaded: Loaded, numeric: str) -> None:
    """Split on the model's own rows."""
    network = load_network(loaded.artifact, BASELINE)
    batch = loaded.dataset.encode(Transforms.read(loaded.artifact)).select(slice(0, _ROWS))
    rows = reference_lookup(network.schema, network.tables, batch, np.float32)
    sides = {value.name: sides_of(network.schema)[value.name] for value in network.graph.graph.input}
    graph = network.graph if numeric == "fp32" else quantize_graph(network.graph, rows)
    proof = prove(graph, split_graph(graph, sides, _FREE), rows, sides)
    if numeric == "fp32":
        assert proof.error_after <= 2 * proof.error_before
        assert proof.parts_in_float64 <= 1e-7 * max(1.0, proof.scale)
    else:
        assert proof.sums > 0
        assert proof.accumulator_difference < 1e-3
        assert proof.steps <= 1
        assert proof.stepped <= 1e-3 * proof.codes


@pytest.mark.parametrize("name", _EXAMPLES)
def test_split_foreign_model_errs_at_most_twice_as_much_when_run_in_float32(
    name: str, loaded: Callable[[str], Loaded]
) -> None:
    _check(loaded(name), "fp32")


@pytest.mark.parametrize("name", _EXAMPLES[:2])
def test_split_foreign_model_has_the_very_same_accumulators_when_it_is_rounded(
    name: str, loaded: Callable[[str], Loaded]
) -> None:
    _check(loaded(name), "int8")


@pytest.mark.slow
@pytest.mark.parametrize("numeric", ["fp32", "int8"])
@pytest.mark.parametrize("name", _LIBRARY)
def test_split_library_model_is_as_exact_as_it_was_when_proved(
    name: str, numeric: str, library_model: Callable[[str], Loaded]
) -> None:
    _check(library_model(name), numeric)
