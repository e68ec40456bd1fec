"""What each reference model computes, held to its formula, and that each of them learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rankine.compression.distill import student_of
from rankine.compression.recipe import Distill
from rankine.errors import ConfigError, UsageError
from rankine.metrics import auc
from rankine.models.columns import Batch, Ragged
from rankine.models.inputs import torch_inputs
from rankine.models.schema import Feature, Schema
from rankine.models.zoo import ARCHITECTURES, build_model
from rankine.models.zoo.activations import Dice
from rankine.models.zoo.base import RankingModel, split_sequence
from rankine.models.zoo.dcn_v2 import DcnV2
from rankine.models.zoo.deepfm import second_order
from rankine.models.zoo.din import Din
from rankine.models.zoo.dlrm import Dlrm
from rankine.training.fit import Examples, FitConfig, fit, predict_logits
from unit.small_networks import GENRE, GENRES, HISTORY, ITEM, ITEMS, LENGTH, PRICE, ROWS, USER, USERS, schema_of

SIZES: dict[str, dict[str, Any]] = {
    "dcn_v2": {"cross_layers": 2},
    "deepfm": {},
    "din": {"attention": (16, 8), "activation": "dice"},
    "dlrm": {"bottom": (8,)},
    "mmoe": {"experts": 3, "tower": (8,)},
    "wide_deep": {},
}


def build(architecture: str, schema: Schema | None = None, **settings: Any) -> RankingModel:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 4, "hidden": (16,), "dropout": 0.0, **SIZES[architecture], **settings}
    return build_model(schema or schema_of(), ROWS, {"architecture": architecture, **sizes}).eval()


def made_up(rows: int, tasks: int) -> Examples:
    """Rows whose labels depend on whether the item's group occurs in the user's history, and on the item."""
    random = np.random.default_rng(4)
    lengths = random.integers(0, LENGTH + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    history = Ragged(random.integers(0, ITEMS, offsets[-1], dtype=np.int32), offsets)
    item = random.integers(0, ITEMS, rows)
    seen = np.zeros((rows, 3), bool)
    seen[np.repeat(np.arange(rows), lengths), history.values % 3] = True
    logits = 2.0 * seen[np.arange(rows), item % 3] - 1 + random.normal(size=ITEMS)[item]
    labels = random.random((rows, 2)) < 1 / (1 + np.exp(-np.stack([logits, logits - 1], axis=1)))
    request = {"user": random.integers(0, USERS, rows, dtype=np.int32), "history": history}
    genres = Ragged(random.integers(0, GENRES, 2 * ITEMS, dtype=np.int32), np.arange(0, 2 * ITEMS + 1, 2, np.int32))
    items = {
        "item": np.arange(ITEMS, dtype=np.int32),
        "genre": genres,
        "price": random.normal(size=(ITEMS, 2)).astype(np.float32),
    }
    batch = Batch(request, items, {}, np.arange(rows, dtype=np.int32), item.astype(np.int32))
    return Examples(batch, labels[:, :tasks].astype(np.float32))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_model_learns_when_trained_a_little(architecture: str) -> None:
    tasks = 2 if architecture == "mmoe" else 1
    examples = made_up(2500, tasks)
    train, validation = examples.select(np.arange(2000)), examples.select(np.arange(2000, 2500))
    model = build(architecture, schema_of(tasks=tasks))
    config = FitConfig(batch_rows=128, learning_rate=2e-2, embedding_l2=0.0, max_epochs=4, patience=4, threads=1)
    result = fit(model, train, validation, config)
    losses = [epoch.train_loss for epoch in result.history]
    assert losses[-1] < losses[0]
    logits = predict_logits(model, validation.batch)
    assert logits.shape == (500, tasks)
    assert all(auc(validation.targets[:, task], logits[:, task]) > 0.6 for task in range(tasks))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_model_gives_a_logit_a_task_when_there_are_several(architecture: str) -> None:
    model, batch = build(architecture, schema_of(tasks=2)), made_up(5, 2).batch
    with torch.no_grad():
        logits = model(torch_inputs(batch, model.schema))
    assert logits.shape == (5, 2)
    assert torch.isfinite(logits).all()
    assert not torch.equal(logits[:, 0], logits[:, 1])


@pytest.mark.parametrize("architecture", ["dcn_v2", "deepfm", "dlrm", "mmoe", "wide_deep"])
@pytest.mark.parametrize("features", [(USER, ITEM), (ITEM, PRICE), (PRICE, USER, GENRE, HISTORY)])
def test_model_is_built_and_run_when_kinds_of_feature_are_missing(
    architecture: str, features: tuple[Feature, ...]
) -> None:
    model, batch = build(architecture, schema_of(*features)), made_up(5, 1).batch
    with torch.no_grad():
        assert model(torch_inputs(batch, model.schema)).shape == (5, 1)


@pytest.mark.parametrize("architecture", ["deepfm", "dlrm", "wide_deep"])
def test_model_is_refused_when_no_feature_has_a_table(architecture: str) -> None:
    with pytest.raises(ConfigError, match=rf"model: {architecture}: .*price: all dense"):
        build(architecture, schema_of(PRICE))


def test_dlrm_is_refused_when_there_is_nothing_to_multiply() -> None:
    with pytest.raises(ConfigError, match="two features"):
        build("dlrm", schema_of(ITEM))


def test_din_is_refused_when_there_is_no_history() -> None:
    with pytest.raises(ConfigError, match="no feature of kind sequence"):
        build("din", schema_of(USER, ITEM))


@pytest.mark.parametrize("features", [(HISTORY, USER), (HISTORY, ITEM.model_copy(update={"side": "request"}))])
def test_din_names_the_history_when_no_item_feature_shares_its_table(features: tuple[Feature, ...]) -> None:
    with pytest.raises(ConfigError, match=r"'history'.*table 'item'.*no categorical feature of side item"):
        build("din", schema_of(*features))


def test_sequence_is_its_mean_when_pooled() -> None:
    model = build("dcn_v2", schema_of(HISTORY, ITEM))
    part = torch.zeros(2, LENGTH * 4 + 1)
    part[0, :8], part[0, -1] = torch.arange(8.0), 2.0
    pooled, item = model.pooled([part, torch.ones(2, 4)])
    assert pooled.tolist() == [[2.0, 3.0, 4.0, 5.0], [0.0] * 4]
    assert torch.equal(item, torch.ones(2, 4))
    assert (model.widths, model.pooled_widths, model.width) == ([17, 4], [4, 4], 8)


def test_sequence_has_a_mask_when_split() -> None:
    part = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 2.0], [0.0] * 7])
    embedded, mask = split_sequence(part, 2)
    assert embedded[0].tolist() == [[1, 2], [3, 4], [0, 0]]
    assert mask.tolist() == [[1, 1, 0], [0, 0, 0]]


def test_low_rank_layer_is_the_full_one_when_its_matrix_is_the_product() -> None:
    full = build("dcn_v2", cross_layers=1, structure="stacked")
    low = build("dcn_v2", cross_layers=1, structure="stacked", low_rank=3)
    assert isinstance(full, DcnV2)
    assert isinstance(low, DcnV2)
    with torch.no_grad():
        down, up = low.cross[0].children()  # type: ignore[operator]
        low.deep.load_state_dict(full.deep.state_dict())
        low.head.load_state_dict(full.head.state_dict())
        full.cross[0].weight.copy_(up.weight @ down.weight)  # type: ignore[operator]
        full.cross[0].bias.copy_(up.bias)  # type: ignore[operator]
        parts = [torch.randn(6, width) for width in full.widths]
        torch.testing.assert_close(low.dense(parts), full.dense(parts))


def test_second_order_is_the_sum_over_pairs_when_computed_by_squares() -> None:
    fields = torch.randn(5, 4, 3, dtype=torch.float64)
    pairs = sum((fields[:, i] * fields[:, j]).sum(dim=1) for i in range(4) for j in range(i))
    torch.testing.assert_close(second_order(fields)[:, 0], pairs)


def test_dlrm_reads_every_pair_once_when_it_multiplies() -> None:
    model = build("dlrm", schema_of(USER, ITEM, GENRE))
    assert isinstance(model, Dlrm)
    vectors = torch.randn(5, 3, 4)
    wanted = [(vectors[:, i] * vectors[:, j]).sum(dim=1) for i, j in ((1, 0), (2, 0), (2, 1))]
    torch.testing.assert_close(model._products(vectors), torch.stack(wanted, dim=1))


@pytest.mark.parametrize("architecture", ["deepfm", "wide_deep"])
def test_last_column_of_the_table_is_a_linear_weight_when_read(architecture: str) -> None:
    model = build(architecture, schema_of(USER, ITEM, PRICE))
    parts = [torch.randn(3, width) for width in model.widths]
    raised = [part + torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]) if part.shape[1] == 5 else part for part in parts]
    assert model.widths == [5, 5, 2]
    with torch.no_grad():
        torch.testing.assert_close(model.dense(raised) - model.dense(parts), torch.full((3, 1), 2.0))


def test_attention_is_the_papers_sum_when_the_query_is_applied_once() -> None:
    model = build("din", schema_of(HISTORY, ITEM))
    assert isinstance(model, Din)
    (unit,) = model.attention.values()
    query, keys = torch.randn(3, 4), torch.randn(3, LENGTH, 4)
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    weight = torch.cat([unit.of_query.weight, unit.of_key.weight], dim=1)  # type: ignore[union-attr]
    wanted = torch.zeros(3, 4)
    with torch.no_grad():
        for row in range(3):
            for at in range(int(mask[row].sum())):
                q, k = query[row], keys[row, at]
                hidden = weight @ torch.cat([q, k, q - k, q * k]) + unit.of_query.bias  # type: ignore[union-attr]
                wanted[row] += unit.rest(hidden[None])[0, 0] * k  # type: ignore[operator]
        torch.testing.assert_close(unit(query, keys, mask), wanted)


def test_dice_uses_what_it_saw_in_training_when_evaluated() -> None:
    dice = Dice(2)
    x = torch.randn(500, 2) * torch.tensor([3.0, 0.5]) + torch.tensor([4.0, -2.0])
    with torch.no_grad():
        dice.alpha.fill_(0.25)
        for _ in range(1500):
            trained = dice(x)
        dice.eval()
        torch.testing.assert_close(dice.mean, x.mean(dim=0), atol=1e-3, rtol=0)
        torch.testing.assert_close(dice(x), trained, atol=1e-3, rtol=1e-3)
        share = torch.sigmoid((x - x.mean(dim=0)) / x.std(dim=0))
        torch.testing.assert_close(trained, share * x + (1 - share) * 0.25 * x, atol=1e-2, rtol=1e-2)


def test_dice_is_defined_when_a_batch_has_one_row() -> None:
    assert torch.isfinite(Dice(3)(torch.randn(1, 3))).all()


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_student_is_smaller_and_of_the_teachers_kind_when_distilled(architecture: str) -> None:
    teacher = build(architecture, hidden=(16, 12))
    student = student_of(teacher, Distill(hidden=(6, 5)))
    assert type(student) is type(teacher)
    assert student.config.model_dump()["hidden"] == (6, 5)
    kept = {key: value for key, value in teacher.config.model_dump().items() if key not in ("hidden", "cross_layers")}
    assert kept.items() <= student.config.model_dump().items()
    assert torch.equal(student.tables["table_item"].weight, teacher.tables["table_item"].weight)


def test_student_is_refused_when_a_setting_is_not_the_architectures() -> None:
    with pytest.raises(
        UsageError, match=r"distill: cross_layers: a deepfm has no .*allowed: embedding_dim, hidden, dropout"
    ):
        student_of(build("deepfm"), Distill(cross_layers=3))
