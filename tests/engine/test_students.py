"""Students that learn from a reference model: what hints change, what they leave, and that a seed decides all of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.networks import Given, context_of
from engine.small_model import small_batch
from rankine.compression.distill import distill
from rankine.compression.recipe import Distill
from rankine.models.network import Network, NetworkScorer, size_of
from rankine.training.config import FitConfig

pytestmark = pytest.mark.engine

FIT = FitConfig(batch_rows=256, learning_rate=5e-3, embedding_l2=0.0, max_epochs=2, patience=2, threads=1)


def student_of(given: Given, hidden_weight: float) -> Network:
    settings = Distill(hidden=(5, 4), fit=FIT, hidden_weight=hidden_weight)
    return distill(given[0], settings, context_of(*given)).network


@pytest.fixture(scope="module")
def hinted(given: Callable[[str], Given]) -> Network:
    return student_of(given("dcn_v2"), 1.0)


def test_student_changes_but_not_its_form_when_hints_are_given(given: Callable[[str], Given], hinted: Network) -> None:
    plain, batch = student_of(given("dcn_v2"), 0.0), small_batch(100)
    assert np.abs(NetworkScorer(plain).logits(batch) - NetworkScorer(hinted).logits(batch)).max() > 1e-3
    assert size_of(hinted) == size_of(plain)
    assert hinted.module is not None
    parts = list(hinted.module.modules())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in parts)


def test_students_are_the_same_when_the_seed_is(given: Callable[[str], Given], hinted: Network) -> None:
    again, batch = student_of(given("dcn_v2"), 1.0), small_batch(100)
    np.testing.assert_array_equal(NetworkScorer(again).logits(batch), NetworkScorer(hinted).logits(batch))
