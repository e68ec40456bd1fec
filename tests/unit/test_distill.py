"""Students: their sizes, their warm start, and hidden features as hints; tests/engine trains them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from rankine.compression.distill import distill, student_of
from rankine.compression.hints import Hints
from rankine.compression.recipe import Distill
from rankine.errors import UsageError
from rankine.models.inputs import torch_inputs
from rankine.models.zoo.base import RankingModel, tables_of
from rankine.training.config import FitConfig
from unit.small_networks import DIM, FAMILIES, batch_of, context_of, module_of, network

FIT = FitConfig(batch_rows=256, learning_rate=5e-3, embedding_l2=0.0, max_epochs=2, patience=2, threads=1)


def hooks_of(model: torch.nn.Module) -> int:
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in model.modules())


def student(teacher: RankingModel, **sizes: Any) -> RankingModel:
    torch.manual_seed(1)
    return student_of(teacher, Distill(hidden=(5, 4), sizes=sizes))


@pytest.mark.parametrize("sizes", [{"expert": 2}, {"architecture": "din"}, {"low_ranks": 2}])
def test_size_is_refused_when_the_architecture_does_not_have_it(sizes: dict[str, Any]) -> None:
    name = next(iter(sizes))
    with pytest.raises(
        UsageError, match=rf"distill: {name}: a dcn_v2 has no setting '{name}' .*allowed: embedding_dim"
    ):
        student_of(module_of("dcn_v2"), Distill(sizes=sizes))


def test_any_size_of_the_architecture_is_taken_when_given() -> None:
    found = student(module_of("mmoe"), experts=2, tower=[3], embedding_dim=2)
    config = found.config.model_dump()
    assert (config["experts"], config["tower"], config["embedding_dim"], config["hidden"]) == (2, (3,), 2, (5, 4))


def test_student_is_the_same_when_its_pass_was_stored_and_read_back() -> None:
    settings = Distill(hidden=(5, 4), sizes={"embedding_dim": 2})
    stored = Distill.model_validate_json(settings.model_dump_json())  # gives cross_layers, which a deepfm has not
    torch.manual_seed(1)
    once = student_of(module_of("deepfm"), settings)
    torch.manual_seed(1)
    again = student_of(module_of("deepfm"), stored)
    assert again.config == once.config
    with pytest.raises(UsageError, match="a deepfm has no setting 'cross_layers'"):
        student_of(module_of("deepfm"), Distill(cross_layers=3))


@pytest.mark.parametrize("family", FAMILIES)
def test_dot_products_stay_as_far_as_they_can_when_embeddings_are_narrower(family: str) -> None:
    teacher = copy.deepcopy(module_of(family))
    kept = DIM - 2
    random = np.random.default_rng(0)
    directions = np.linalg.qr(random.normal(size=(DIM, DIM)))[0]
    with torch.no_grad():
        for table in tables_of(teacher).values():  # rows that all but lie in a few directions
            rows = table[:, :DIM].numpy() @ directions * np.where(np.arange(DIM) < kept, 1, 0.01) @ directions.T
            table[:, :DIM] = torch.from_numpy(rows.astype(np.float32))
    wide, narrow = tables_of(teacher), tables_of(student(teacher, embedding_dim=kept))
    beside = wide["user"].shape[1] - DIM
    for left, right in (("user", "item"), ("item", "genre"), ("user", "user")):
        wanted = wide[left][:, :DIM] @ wide[right][:, :DIM].T
        found = narrow[left][:, :kept] @ narrow[right][:, :kept].T
        assert float((found - wanted).norm() / wanted.norm()) < 0.01
    if beside:  # first-order weights
        assert torch.equal(narrow["user"][:, kept:], wide["user"][:, DIM:])


def test_embeddings_are_the_teachers_first_columns_when_the_student_is_wider() -> None:
    teacher = module_of("dcn_v2")
    wide = tables_of(student(teacher, embedding_dim=DIM + 3))["item"]
    assert wide.shape[1] == DIM + 3
    assert torch.equal(wide[:, :DIM], tables_of(teacher)["item"])
    assert wide[:, DIM:].abs().max() < 0.1


def test_embeddings_are_random_when_the_start_is_cold() -> None:
    teacher = module_of("dcn_v2")
    cold = tables_of(student_of(teacher, Distill(hidden=(4,), warm_start=False)))["item"]
    assert cold.abs().max() < 0.1 < tables_of(teacher)["item"].abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_hints_are_a_loss_of_the_student_alone_when_it_has_scored(family: str) -> None:
    teacher, learner = copy.deepcopy(module_of(family)), student(module_of(family))
    inputs = torch_inputs(batch_of(50), teacher.schema)
    hints = Hints(teacher, learner, 0.5)
    assert len(list(hints.parameters())) == 2
    learner(inputs)
    loss = hints(inputs)
    loss.backward()
    assert loss > 0
    assert any(weight.grad is not None and weight.grad.any() for weight in learner.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())
    double = Hints(teacher, learner, 1.0)
    double.map.load_state_dict(hints.map.state_dict())
    learner(inputs)
    torch.testing.assert_close(double(inputs), 2 * loss)
    hints.remove()
    double.remove()
    assert hooks_of(learner) == hooks_of(teacher) == 0


def test_hints_take_the_features_of_every_head_when_there_are_several() -> None:
    teacher, learner = module_of("mmoe"), student(module_of("mmoe"), tower=[3])
    hints = Hints(teacher, learner, 1.0)
    assert (hints.map.in_features, hints.map.out_features) == (2 * 3, 2 * 8)
    hints.remove()


def test_hints_are_refused_when_a_model_has_no_linear_head() -> None:
    learner = student(module_of("dcn_v2"))
    learner.head = torch.nn.Identity()
    with pytest.raises(UsageError, match=r"distill\.hidden_weight: has no linear head .*got DcnV2.*Set hidden_weight"):
        Hints(module_of("dcn_v2"), learner, 1.0)


def test_hooks_are_gone_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RankingModel] = []
    real = student_of

    def remembered(teacher: RankingModel, settings: Distill) -> RankingModel:
        seen.append(real(teacher, settings))
        return seen[-1]

    monkeypatch.setattr("rankine.compression.distill.student_of", remembered)
    before, fit = network("dcn_v2"), FIT.model_copy(update={"learning_rate": 1e30})
    settings = Distill(hidden=(5, 4), hidden_weight=1.0, fit=fit)
    with pytest.raises(UsageError, match="diverged"):
        distill(before, settings, context_of(before, rows=900))
    assert hooks_of(seen[0]) == 0


def test_distillation_is_refused_when_the_network_is_a_graph_alone() -> None:
    before = network("dcn_v2")
    graph = before.changed()
    with pytest.raises(UsageError, match=r"recipe: distill: .*needs a reference model.*Put 'distill' first"):
        distill(graph, Distill(), context_of(before))
