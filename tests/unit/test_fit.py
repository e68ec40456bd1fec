"""The fit loop: it learns, stops when validation stops improving, and keeps the best weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from rankine.data.synthetic import make_synthetic
from rankine.errors import DataError
from rankine.metrics import auc, log_loss
from rankine.models.schema import Task
from rankine.models.zoo import build_model
from rankine.training.fit import Examples, FitConfig, FitResult, fit, predict_logits, task_aucs

SMALL = {"architecture": "dcn_v2", "hidden": (16,), "cross_layers": 1, "embedding_dim": 4, "dropout": 0.0}


# Steps so large that the second epoch is better by log loss, none is by AUC, and the last two are worse by both.
OVERSHOOTING = FitConfig(batch_rows=256, learning_rate=4e-2, max_epochs=4, patience=4, threads=1)


@cache
def prepared(rows: int = 6000):
    """Not to be changed: shared by tests."""
    dataset = make_synthetic(rows, users=60, items=50, seed=3)
    splits = dataset.splits()
    transforms = dataset.fit_transforms(splits.train)
    encoded = dataset.encode(transforms)
    examples = [
        Examples(encoded.select(part), dataset.labels[part].astype(np.float32))
        for part in (splits.train, splits.validation)
    ]
    return dataset, transforms, *examples


Trained = tuple[FitResult, np.ndarray, Examples]


def trained(config: FitConfig) -> Trained:
    import torch

    dataset, transforms, train, validation = prepared()
    torch.manual_seed(config.seed)
    model = build_model(dataset.schema, transforms.table_rows(), SMALL)
    result = fit(model, train, validation, config)
    return result, predict_logits(model, validation.batch), validation


@pytest.fixture(scope="module")
def overshot() -> Trained:
    """With AUC watched."""
    return trained(OVERSHOOTING)


def test_fit_learns_when_labels_depend_on_features() -> None:
    result, logits, validation = trained(
        FitConfig(batch_rows=256, learning_rate=5e-3, max_epochs=4, patience=4, threads=1)
    )
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert auc(validation.targets[:, 0], logits[:, 0]) > 0.62


def test_fit_leaves_the_best_weights_when_later_epochs_are_worse(overshot: Trained) -> None:
    result, logits, validation = overshot
    best = max(epoch.validation_auc for epoch in result.history)
    assert result.history[-1].validation_auc < best
    assert result.validation_auc == best
    assert auc(validation.targets[:, 0], logits[:, 0]) == pytest.approx(best, abs=1e-9)


def test_fit_keeps_the_weights_of_the_smallest_log_loss_when_that_is_watched(overshot: Trained) -> None:
    by_auc, _, _ = overshot
    by_loss, logits, validation = trained(OVERSHOOTING.model_copy(update={"select": "log_loss"}))
    losses = [epoch.validation_loss for epoch in by_loss.history]
    assert by_loss.best_epoch == int(np.argmin(losses)) + 1 != by_auc.best_epoch
    assert log_loss(validation.targets[:, 0], logits[:, 0]) == pytest.approx(min(losses), abs=1e-9)
    assert [epoch.validation_loss for epoch in by_auc.history] == losses


def test_fit_keeps_the_weights_it_began_with_when_no_epoch_is_better() -> None:
    dataset, transforms, train, validation = prepared(3000)
    model = build_model(dataset.schema, transforms.table_rows(), SMALL)
    before = predict_logits(model, validation.batch)
    ruinous = FitConfig(batch_rows=64, learning_rate=5.0, max_epochs=1, patience=1, select="log_loss", threads=1)
    result = fit(model, train, validation, ruinous, start=True)
    assert result.best_epoch == 0
    np.testing.assert_array_equal(predict_logits(model, validation.batch), before)


def test_fit_says_not_converged_when_max_epochs_ends_it() -> None:
    result, _, _ = trained(FitConfig(batch_rows=1024, learning_rate=1e-3, max_epochs=2, patience=5, threads=1))
    assert not result.converged
    assert len(result.history) == 2


def test_fit_is_repeatable_when_seeds_are_equal() -> None:
    config = FitConfig(batch_rows=512, max_epochs=2, patience=2, seed=7, threads=1)
    first, second = trained(config), trained(config)
    assert first[0].validation_auc == second[0].validation_auc
    np.testing.assert_array_equal(first[1], second[1])


def test_fit_learns_both_tasks_when_there_are_two() -> None:
    import torch

    dataset, transforms, train, validation = prepared()
    tasks = (Task(name="click"), Task(name="skip", weight=0.5))
    schema = dataset.schema.model_copy(update={"tasks": tasks})
    both = [replace(part, targets=np.hstack([part.targets, 1 - part.targets])) for part in (train, validation)]
    torch.manual_seed(0)
    model = build_model(schema, transforms.table_rows(), SMALL)
    result = fit(model, *both, FitConfig(batch_rows=256, learning_rate=1e-2, max_epochs=3, patience=3, threads=1))
    aucs = task_aucs(both[1].targets, predict_logits(model, both[1].batch))
    assert min(aucs) > 0.6
    assert result.validation_auc == pytest.approx(float(np.mean(aucs)), abs=1e-9)


def test_fit_regresses_the_output_when_it_is_a_score_as_it_is() -> None:
    dataset, transforms, train, validation = prepared(3000)
    task = dataset.schema.tasks[0].model_copy(update={"link": "identity"})
    model = build_model(dataset.schema.model_copy(update={"tasks": (task,)}), transforms.table_rows(), SMALL)
    constant = Examples(train.batch, np.full_like(train.targets, 0.3))
    fit(model, constant, validation, FitConfig(batch_rows=128, learning_rate=5e-3, max_epochs=3, patience=3, threads=1))
    assert predict_logits(model, validation.batch).mean() == pytest.approx(0.3, abs=0.03)


def test_fit_names_the_task_before_it_begins_when_validation_has_one_class() -> None:
    dataset, transforms, train, validation = prepared(1000)
    schema = dataset.schema.model_copy(update={"tasks": (Task(name="click"), Task(name="buy"))})
    both = [replace(part, targets=np.hstack([part.targets, 0 * part.targets])) for part in (train, validation)]
    model = build_model(schema, transforms.table_rows(), SMALL)
    with pytest.raises(
        DataError, match=r"task 'buy': the validation rows have one class only .got 0 positives of 100 "
    ):
        fit(model, *both, FitConfig())


def test_loss_is_weighted_by_task_when_weights_differ() -> None:
    import torch

    dataset, transforms, train, validation = prepared()
    losses = []
    for weight in (1.0, 0.25):
        schema = dataset.schema.model_copy(update={"tasks": (Task(name="click"), Task(name="skip", weight=weight))})
        both = [replace(part, targets=np.hstack([part.targets, 1 - part.targets])) for part in (train, validation)]
        torch.manual_seed(0)
        model = build_model(schema, transforms.table_rows(), SMALL)
        still = FitConfig(batch_rows=512, learning_rate=1e-12, embedding_l2=0, max_epochs=1, threads=1)
        losses.append(fit(model, *both, still).history[0].train_loss)
    assert losses[0] - losses[1] == pytest.approx(0.75 * losses[0] / 2, rel=0.1), "untrained, both tasks cost the same"


def test_train_refuses_labels_when_not_binary(tmp_path) -> None:
    from rankine.training.train import train

    dataset = make_synthetic(2000, users=20, items=50, seed=0)
    wrong = replace(dataset, labels=dataset.labels * 3)
    with pytest.raises(DataError, match="labels must be 0 or 1"):
        train(wrong, SMALL, FitConfig(max_epochs=1), out=tmp_path / "a", name="x")
