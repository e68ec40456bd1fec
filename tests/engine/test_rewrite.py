"""Models that PyTorch exported, as users write them: every one must score as the module itself."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rankine.models.arguments import call_arguments
from rankine.models.call import Argument, PackedColumn
from rankine.models.intake.program import to_onnx
from rankine.models.random_rows import random_batch
from rankine.models.rewrite import Rewritten, rewrite
from rankine.models.schema import Schema, Task
from unit.rewrite_models import categorical, dense, logits_of, multi_hot, operators, packed, schema_of, sequence

FIELDS = {"user": 11, "item": 7, "hour": 5}
ROWS = torch.export.Dim("rows", min=1, max=2**31 - 1)

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _quiet_exporter() -> Iterator[None]:
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def exported(model: nn.Module, schema: Schema, **options: Any) -> onnx.ModelProto:
    given = examples(schema, 24)
    return torch.onnx.export(
        model.eval(),
        given,
        dynamo=True,
        opset_version=options.pop("opset", 21),
        input_names=[argument.name for argument in schema.call.arguments],
        dynamic_shapes=tuple({0: ROWS} for _ in given),
        verbose=False,
        **options,
    ).model_proto


def exported_by_tracing(model: nn.Module, schema: Schema, opset: int) -> onnx.ModelProto:
    names, file = [argument.name for argument in schema.call.arguments], io.BytesIO()
    axes = {name: {0: "rows"} for name in names}
    given = examples(schema, 24)
    torch.onnx.export(
        model.eval(), given, file, dynamo=False, opset_version=opset, input_names=names, dynamic_axes=axes
    )
    return onnx.load_from_string(file.getvalue())


def examples(schema: Schema, seed: int) -> tuple[Tensor, ...]:
    batch = random_batch(schema, dict.fromkeys([*FIELDS, "seen", "items", "tags"], 5), 24, seed=seed)
    return tuple(torch.from_numpy(values) for values in call_arguments(schema.call, schema, batch).values())


def check_scores(model: nn.Module, rewritten: Rewritten, schema: Schema, seed: int = 1) -> None:
    """The rewritten model in ONNX Runtime gives the module's own scores, also for a single row."""
    batch = random_batch(schema, {name: len(rows) for name, rows in rewritten.tables.items()}, 24, seed=seed)
    given = call_arguments(schema.call, schema, batch)
    with torch.no_grad():
        expected = model.eval()(*(torch.from_numpy(values) for values in given.values()))
    outputs = expected if isinstance(expected, tuple) else (expected,)
    scores = torch.cat([output.reshape(batch.rows, -1) for output in outputs], dim=1).numpy()
    logits = logits_of(rewritten, schema, batch)
    linked = [
        1 / (1 + np.exp(-logits[:, task])) if link == "sigmoid" else logits[:, task]
        for task, link in enumerate(rewritten.links)
    ]
    np.testing.assert_allclose(np.stack(linked, axis=1), scores, rtol=1e-5, atol=1e-6)
    alone = logits_of(rewritten, schema, batch.select(slice(3, 4)))
    np.testing.assert_allclose(alone, logits[3:4], rtol=1e-5, atol=1e-6)
    names = [value.name for value in rewritten.graph.graph.input]
    assert names == [feature.name for feature in schema.features]
    assert {value.type.tensor_type.elem_type for value in rewritten.graph.graph.input} == {onnx.TensorProto.FLOAT}
    assert not {"Gather", "OneHot", "Loop", "SequenceAt", "Dropout", "Identity"} & set(operators(rewritten))


class OneTensorAFeature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user, self.item, self.hour = (nn.Embedding(size, 4) for size in FIELDS.values())
        self.head = nn.Linear(14, 1)

    def forward(self, user: Tensor, item: Tensor, hour: Tensor, price: Tensor) -> Tensor:
        parts = [self.user(user), self.item(item).squeeze(1), self.hour(hour), price]
        return torch.sigmoid(self.head(torch.cat(parts, 1))).squeeze(-1)


class OneBigTable(nn.Module):
    """Fields in one matrix, offsets into one table: second order, and first order beside it."""

    def __init__(self, vector_of_ids: bool = False) -> None:
        super().__init__()
        sizes = torch.tensor(list(FIELDS.values()))
        self.register_buffer("offsets", torch.cumsum(sizes, 0) - sizes)
        self.vectors, self.weights = nn.Embedding(int(sizes.sum()), 4), nn.Embedding(int(sizes.sum()), 1)
        self.head = nn.Linear(12, 1)
        self.vector_of_ids = vector_of_ids

    def forward(self, x: Tensor) -> Tensor:
        ids = x + self.offsets
        if self.vector_of_ids:
            vectors = self.vectors(ids.reshape(-1)).reshape(-1, 3, 4)
        else:
            vectors = self.vectors(ids)
        pairs = (vectors.sum(1) ** 2 - (vectors**2).sum(1)).sum(1, keepdim=True) / 2
        return pairs + self.weights(ids).sum(1) + self.head(vectors.flatten(1))


class PackedFloats(nn.Module):
    """As ``deepctr-torch`` does it: one float matrix, columns cut and cast, tables of first and second order."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.ModuleList(nn.Embedding(size, 4) for size in FIELDS.values())
        self.first = nn.ModuleList(nn.Embedding(size, 1) for size in FIELDS.values())
        self.history = nn.Embedding(FIELDS["item"], 4)
        self.norm, self.layer, self.drop, self.head = (
            nn.BatchNorm1d(8),
            nn.Linear(18, 8),
            nn.Dropout(0.5),
            nn.Linear(8, 1),
        )
        self.dense = nn.Parameter(torch.randn(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        second = [table(x[:, i : i + 1].long()) for i, table in enumerate(self.second)]
        first = torch.cat([table(x[:, i : i + 1].long()) for i, table in enumerate(self.first)], -1).sum(-1)
        dense = torch.cat([x[:, 3:4], x[:, 4:5]], -1)
        length = x[:, 9:10].long()
        mask = (torch.arange(4) < length.unsqueeze(-1)).transpose(1, 2).float().repeat(1, 1, 4)
        pooled = (self.history(x[:, 5:9].long()) * mask).sum(1, keepdim=True) / length.clamp(min=1).unsqueeze(-1)
        deep = torch.cat([torch.cat([*second, pooled], -1).flatten(1), dense], -1)
        deep = self.head(self.drop(functional.relu(self.norm(self.layer(deep)))))
        return torch.sigmoid(first + dense @ self.dense + deep)


class Histories(nn.Module):
    """A mask from the padding, and a table whose padding row is not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.head = nn.Embedding(9, 4), nn.Linear(12, 1)

    def forward(self, item: Tensor, seen: Tensor, length: Tensor, mask: Tensor) -> Tensor:
        target, seen_items = self.items(item), self.items(seen)
        scores = (seen_items * target.unsqueeze(1)).sum(-1).masked_fill(seen == 0, -1e9)
        attended = (torch.softmax(scores, 1).unsqueeze(-1) * seen_items * (seen > 0).unsqueeze(-1)).sum(1)
        whole = seen_items.mean(1) / (1 + length).unsqueeze(-1) + mask.float().sum(1, keepdim=True)
        return self.head(torch.cat([target, attended, whole], 1))


class OneHot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.item, self.layer, self.head = nn.Embedding(7, 3), nn.Linear(11 + 3 + 2 + 5, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor, price: Tensor) -> Tensor:
        user = functional.one_hot(x[:, 0], 11).float()
        hour = functional.one_hot(x[:, 2], 5).float()
        return self.head(torch.relu(self.layer(torch.cat([user, self.item(x[:, 1]), price, hour], 1))))


class ManyTasks(nn.Module):
    """Click and purchase after a click (ESMM): the second is a product of scores, the third no score at all."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 4) for size in FIELDS.values())
        self.click, self.buy, self.value = (nn.Linear(12, 1) for _ in range(3))

    def forward(self, user: Tensor, item: Tensor, hour: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([table(ids) for table, ids in zip(self.tables, (user, item, hour), strict=True)], 1)
        click = torch.sigmoid(self.click(x))
        return torch.cat([click, click * torch.sigmoid(self.buy(x))], 1), self.value(x).squeeze(1)


class Bags(nn.Module):
    """A weighted list, and a matrix of ids that is pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.ids, self.head = nn.EmbeddingBag(6, 4, mode="sum"), nn.EmbeddingBag(11, 4), nn.Linear(8, 1)

    def forward(self, values: Tensor, starts: Tensor, weights: Tensor, x: Tensor) -> Tensor:
        tags = self.tags(values, starts, per_sample_weights=weights)
        return torch.sigmoid(self.head(torch.cat([tags, self.ids(x)], 1)))


def fields() -> list[Any]:
    return [categorical(name, size) for name, size in FIELDS.items()]


def randomized(model: nn.Module) -> nn.Module:
    """Weights and statistics as of a trained model: none is zero or one."""
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.2)
    return model


def test_rewrite_equals_module_when_each_feature_is_a_tensor() -> None:
    arguments = [
        Argument(name="user", feature="user"),
        Argument(name="item", feature="item", form="column"),
        Argument(name="hour", feature="hour", dtype="int32"),
        Argument(name="price", feature="price", dtype="float32"),
    ]
    schema = schema_of([dense("price", 2), *fields()], arguments)  # in another order than the call's
    model = OneTensorAFeature()
    rewritten = rewrite(exported(model, schema), schema)
    check_scores(model, rewritten, schema)
    assert rewritten.links == ("sigmoid",)
    np.testing.assert_array_equal(rewritten.tables["item"], model.item.weight.detach().numpy())


@pytest.mark.parametrize("vector_of_ids", [False, True])
def test_rewrite_splits_the_table_when_fields_have_offsets_into_one(vector_of_ids: bool) -> None:
    schema = schema_of(fields(), [packed("x", *FIELDS)])
    model = OneBigTable(vector_of_ids)
    rewritten = rewrite(exported(model, schema), schema)
    check_scores(model, rewritten, schema)
    assert rewritten.links == ("identity",)
    assert {name: rows.shape for name, rows in rewritten.tables.items()} == {
        "user": (11, 5),
        "item": (7, 5),
        "hour": (5, 5),
    }
    np.testing.assert_array_equal(rewritten.tables["hour"][:, :4], model.vectors.weight[18:].detach().numpy())


@pytest.mark.parametrize("how", ["dynamo", "dynamo, opset 18, not optimized", "traced, opset 13", "traced, opset 17"])
def test_rewrite_equals_module_when_all_is_one_float_matrix(how: str) -> None:
    columns = [*FIELDS, "price", "age", "seen", PackedColumn(feature="seen", part="length")]
    features = [*fields(), dense("price"), dense("age"), sequence("seen", 7, 4)]
    schema = schema_of(features, [packed("x", *columns, dtype="float32")])
    model = randomized(PackedFloats())
    if how.startswith("traced"):
        graph = exported_by_tracing(model, schema, int(how[-2:]))
    else:
        graph = exported(model, schema, **({"opset": 18, "optimize": False} if "18" in how else {}))
    rewritten = rewrite(graph, schema)
    check_scores(model, rewritten, schema)
    assert "BatchNormalization" not in operators(rewritten)
    assert rewritten.tables["user"].shape == (11, 5)


def test_rewrite_rebuilds_masks_when_sequences_are_padded() -> None:
    features = [categorical("item", 9, table="items"), sequence("seen", 9, 5, table="items")]
    arguments = [
        Argument(name="item", feature="item"),
        Argument(name="seen", feature="seen", form="padded"),
        Argument(name="length", feature="seen", form="length"),
        Argument(name="mask", feature="seen", form="mask", dtype="bool"),
    ]
    schema, model = schema_of(features, arguments), Histories()
    rewritten = rewrite(exported(model, schema), schema)
    check_scores(model, rewritten, schema)
    assert {name: rows.shape for name, rows in rewritten.tables.items()} == {"items": (9, 4)}
    assert rewritten.graph.graph.input[1].type.tensor_type.shape.dim[1].dim_value == 5 * 4 + 1


def test_rewrite_looks_up_rows_of_the_weight_when_ids_are_one_hot() -> None:
    arguments = [packed("x", *FIELDS), Argument(name="price", feature="price", dtype="float32")]
    schema = schema_of([*fields(), dense("price", 2)], arguments)
    model = OneHot()
    rewritten = rewrite(exported(model, schema), schema)
    check_scores(model, rewritten, schema)
    np.testing.assert_allclose(rewritten.tables["hour"], model.layer.weight[:, 16:].detach().numpy().T)
    assert "Equal" not in operators(rewritten)


def test_rewrite_leaves_no_loop_when_the_module_has_embedding_bags() -> None:
    names = {"values": "values", "starts": "offsets", "weights": "weights"}
    arguments = [Argument(name=name, feature="tags", form=form) for name, form in names.items()]
    tags = multi_hot("tags", 6, pooling="sum", weights="weight")
    schema, model = schema_of([tags, *fields()], [*arguments, packed("x", *FIELDS)]), Bags().eval()
    values = torch.export.Dim("values", min=1, max=2**31 - 1)
    shapes = ({0: values}, {0: ROWS}, {0: values}, {0: ROWS})
    program = torch.export.export(model, examples(schema, 24), dynamic_shapes=shapes)
    rewritten = rewrite(to_onnx(program, schema.call, schema.task_names), schema)
    check_scores(model, rewritten, schema)
    assert "EmbeddingBag" not in operators(rewritten)


def test_rewrite_gives_each_task_its_link_when_outputs_are_several() -> None:
    tasks = tuple(
        Task(name=name, label=name, link=link) for name, link in zip("abc", ["sigmoid", "identity"] * 2, strict=False)
    )
    schema = schema_of(fields(), [Argument(name=name, feature=name) for name in FIELDS], tasks=tasks)
    model = ManyTasks()
    rewritten = rewrite(exported(model, schema), schema)
    check_scores(model, rewritten, schema)
    assert rewritten.links == ("sigmoid", "identity", "identity")
