"""The module that all runs of a trace share."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from rankine.compression.prune.importance import importance
from rankine.compression.prune.shrink import masked_logits
from rankine.compression.prune.trace import trace
from rankine.models.network import NetworkScorer
from rankine.training.fit import predict_logits
from unit.small_networks import batch_of, context_of, network


def _nearly(found: np.ndarray, wanted: np.ndarray) -> bool:
    return np.allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_module_is_the_network_again_when_taps_have_been_used() -> None:
    found, batch = trace(network("dcn_v2")), batch_of(50)
    roots = list(found.labels.groups())
    importance(found, roots, context_of(found.network).train.select(np.arange(200)), "taylor")
    masked = masked_logits(found, frozenset(roots), batch)
    with found.tapped({}) as model:
        plain = predict_logits(model, batch)
    wanted = NetworkScorer(found.network).logits(batch)
    assert _nearly(plain, wanted)
    assert not _nearly(masked, wanted)


def test_module_is_the_network_again_when_a_run_with_taps_fails() -> None:
    def fail(value: Tensor) -> Tensor:
        raise ZeroDivisionError

    found, batch = trace(network("dcn_v2")), batch_of(50)
    with pytest.raises(ZeroDivisionError), found.tapped({"user": fail}) as model:
        predict_logits(model, batch)
    with found.tapped({}) as model:
        assert _nearly(predict_logits(model, batch), NetworkScorer(found.network).logits(batch))
