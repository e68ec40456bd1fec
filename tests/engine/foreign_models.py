"""Models as others write them: each a plain ``nn.Module`` that knows nothing of Rankine, its schema, and their data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rankine.config import parse
from rankine.models.schema import Schema

USERS, ITEMS, TAGS, SLOTS = 40, 60, 25, 5
HISTORY = 6
_DIM = 4


def _trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that are not those of an untrained model: its embeddings and its running statistics are not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (1.0 if "running_var" in name else 0.8))
                if "running_var" in name:
                    tensor.add_(0.5)
                else:
                    tensor.sub_(0.4)
    return model


class PerFeature(nn.Module):
    """One tensor a feature; the output ``(rows,)`` is a probability."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, _DIM), nn.Embedding(ITEMS, _DIM)
        self.head = nn.Sequential(nn.Linear(2 * _DIM + 2, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user: Tensor, item: Tensor, price: Tensor) -> Tensor:
        joined = torch.cat([self.user(user), self.item(item), price], dim=1)
        return torch.sigmoid(self.head(joined)).squeeze(-1)


class Packed(nn.Module):
    """One matrix of floats with ids and numbers in its columns, first-order weights beside the embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = (USERS, ITEMS, SLOTS)
        self.first = nn.ModuleList(nn.Embedding(size, 1) for size in self.sizes)
        self.second = nn.ModuleList(nn.Embedding(size, _DIM) for size in self.sizes)
        self.deep = nn.Sequential(nn.Linear(3 * _DIM + 2, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, X: Tensor) -> Tensor:
        ids = [X[:, column : column + 1].long() for column in range(3)]
        dense = X[:, 3:5]
        linear = torch.cat([table(i) for table, i in zip(self.first, ids, strict=True)], dim=1).sum(dim=1)
        fields = torch.cat([table(i) for table, i in zip(self.second, ids, strict=True)], dim=1)
        pairs = 0.5 * (fields.sum(1).square() - fields.square().sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(linear + pairs + self.deep(torch.cat([fields.flatten(1), dense], dim=1)))


class Offsets(nn.Module):
    """A matrix of ids whose fields share one big table, each from an offset on; gives logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(USERS + ITEMS + SLOTS, _DIM)
        self.register_buffer("offsets", torch.tensor([0, USERS, USERS + ITEMS]))
        self.head = nn.Linear(3 * _DIM, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids + self.offsets).flatten(1))


class Bags(nn.Module):
    """An embedding bag in one of its modes, with offsets of either kind."""

    def __init__(self, mode: str, *, last: bool = False) -> None:
        super().__init__()
        self.user = nn.Embedding(USERS, _DIM)
        self.tags = nn.EmbeddingBag(TAGS, _DIM, mode=mode, include_last_offset=last)
        self.head = nn.Sequential(nn.Linear(2 * _DIM, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user: Tensor, values: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        pooled = self.tags(values, offsets, per_sample_weights=weights)
        return torch.sigmoid(self.head(torch.cat([self.user(user), pooled], dim=1)))


class History(nn.Module):
    """Attention of the item to a padded history that shares its table; the mask is made from the ids."""

    def __init__(self) -> None:
        super().__init__()
        self.item = nn.Embedding(ITEMS, _DIM, padding_idx=0)
        self.head = nn.Linear(2 * _DIM, 1)

    def forward(self, history: Tensor, item: Tensor) -> Tensor:
        target, past = self.item(item), self.item(history)
        scores = (past * target.unsqueeze(1)).sum(-1).masked_fill(history == 0, -1e9)
        pooled = (scores.softmax(-1).unsqueeze(-1) * past * (history != 0).unsqueeze(-1)).sum(1)
        return torch.sigmoid(self.head(torch.cat([target, pooled], dim=1)))


class Normed(nn.Module):
    """Batch norm and dropout; its arguments go by name."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, _DIM), nn.Embedding(ITEMS, _DIM)
        self.norm = nn.BatchNorm1d(2 * _DIM)
        self.body = nn.Sequential(nn.Linear(2 * _DIM, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 1)

    def forward(self, *, item_ids: Tensor, user_ids: Tensor) -> Tensor:
        joined = torch.cat([self.user(user_ids), self.item(item_ids)], dim=-1).flatten(1)
        return torch.sigmoid(self.head(self.body(self.norm(joined)))).reshape(-1)


class Tasks(nn.Module):
    """Two tasks from one dictionary of features, into a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, _DIM), nn.Embedding(ITEMS, _DIM)
        self.click, self.buy = nn.Linear(2 * _DIM, 1), nn.Linear(2 * _DIM, 1)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        joined = torch.cat([self.user(features["user"]), self.item(features["item"])], dim=1)
        return {"buy": torch.sigmoid(self.buy(joined)).squeeze(1), "click": self.click(joined).squeeze(1)}


class Flat(nn.Module):
    """Two embeddings and their product; the one number comes as a vector, and a column would broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, _DIM), nn.Embedding(ITEMS, _DIM)

    def forward(self, user: Tensor, item: Tensor, price: Tensor) -> Tensor:
        return (self.user(user) * self.item(item)).sum(-1) - 0.1 * price


class Mixing(Flat):
    """Divides by the largest number of the batch."""

    def forward(self, user: Tensor, item: Tensor, price: Tensor) -> Tensor:
        return super().forward(user, item, price / price.max())


class Classes(Flat):
    """A softmax over two classes; its features come in a dictionary whose keys only its code tells."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        logit = super().forward(batch["user"], batch["item"], batch.get("price", torch.zeros(1)))
        return torch.stack([-logit, logit], dim=1).softmax(dim=1)


def classes() -> nn.Module:
    return _trained(Classes())


def flat() -> nn.Module:
    return _trained(Flat())


def mixing() -> nn.Module:
    return _trained(Mixing())


def per_feature() -> nn.Module:
    return _trained(PerFeature())


def packed() -> nn.Module:
    return _trained(Packed())


def offsets() -> nn.Module:
    return _trained(Offsets())


def bag_sum() -> nn.Module:
    return _trained(Bags("sum"))


def bag_mean() -> nn.Module:
    return _trained(Bags("mean", last=True))


def bag_max() -> nn.Module:
    return _trained(Bags("max"))


def history() -> nn.Module:
    return _trained(History())


def normed() -> nn.Module:
    return _trained(Normed())


def tasks() -> nn.Module:
    return _trained(Tasks())


def branching() -> nn.Module:
    """Decides by its values: no graph can."""

    class Branching(PerFeature):
        def forward(self, user: Tensor, item: Tensor, price: Tensor) -> Tensor:
            if price.sum() > 0:
                return super().forward(user, item, price)
            return super().forward(user, item, -price)

    return _trained(Branching())


def inverse() -> nn.Module:
    """Has an operator without a form in ONNX."""

    class Inverse(PerFeature):
        def forward(self, user: Tensor, item: Tensor, price: Tensor) -> Tensor:
            return super().forward(user, item, torch.special.i0e(price))

    return _trained(Inverse())


@dataclass(frozen=True)
class Example:
    """A model, its schema, and whether its logits come out as they are."""

    build: Callable[[], nn.Module]
    features: tuple[str, ...]
    call: Mapping[str, Any]
    tasks: tuple[Mapping[str, Any], ...] = ({"name": "click", "label": "click"},)
    links: tuple[str, ...] = ("sigmoid",)
    weighted: bool = False
    pooling: Literal["sum", "mean", "max"] = "mean"

    @property
    def schema(self) -> Schema:
        return parse(Schema, self.document())

    def document(self) -> dict[str, Any]:
        """The schema as its YAML file has it."""
        known = _features(self.pooling, weighted=self.weighted)
        return {
            "item_id": "item_id",
            "group": "user_id",
            "features": [known[name] for name in self.features],
            "tasks": list(self.tasks),
            "call": self.call,
        }


def _features(pooling: str, *, weighted: bool) -> dict[str, dict[str, Any]]:
    def ids(name: str, side: str, size: int, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "side": side,
            "kind": "categorical",
            "encoding": {"type": "identity", "size": size},
            **more,
        }

    sequence = {"kind": "sequence", "max_length": HISTORY, "table": "item"}
    tags = {"kind": "multi_hot", "pooling": pooling, **({"weights": "tag_weights"} if weighted else {})}
    price = {"name": "price", "side": "item", "kind": "dense", "width": 2, "normalization": "none"}
    return {
        "user": ids("user", "request", USERS),
        "item": ids("item", "item", ITEMS),
        "slot": ids("slot", "pair", SLOTS),
        "price": price,
        "tags": ids("tags", "item", TAGS, **tags),
        "history": ids("history", "request", ITEMS, **sequence),
    }


def _argument(name: str, form: str = "value", feature: str | None = None, dtype: str = "int64") -> dict[str, Any]:
    return {"name": name, "form": form, "feature": feature or name, "dtype": dtype}


def _bags(
    build: Callable[[], nn.Module], mode: Literal["sum", "mean", "max"], *, last: bool = False, weighted: bool = False
) -> Example:
    offsets = _argument("offsets", "ends" if last else "offsets", "tags")
    arguments = [_argument("user"), _argument("values", "values", "tags"), offsets]
    arguments += [_argument("weights", "weights", "tags", "float32")] if weighted else []
    return Example(
        build,
        ("user", "tags"),
        {"arguments": arguments},
        weighted=weighted,
        pooling=mode,
    )


EXAMPLES: Mapping[str, Example] = {
    "per_feature": Example(
        per_feature,
        ("user", "item", "price"),
        {"arguments": [_argument("user"), _argument("item"), _argument("price", dtype="float32")]},
    ),
    "packed": Example(
        packed,
        ("user", "item", "slot", "price"),
        {
            "arguments": [
                {
                    "name": "X",
                    "form": "packed",
                    "dtype": "float32",
                    "columns": [{"feature": name} for name in ("user", "item", "slot", "price")],
                }
            ]
        },
    ),
    "offsets": Example(
        offsets,
        ("user", "item", "slot"),
        {
            "arguments": [
                {"name": "ids", "form": "packed", "columns": [{"feature": n} for n in ("user", "item", "slot")]}
            ]
        },
        links=("identity",),
    ),
    "bag_sum": _bags(bag_sum, "sum"),
    "bag_mean": _bags(bag_mean, "mean", last=True),
    "bag_max": _bags(bag_max, "max"),
    "bag_weights": _bags(bag_sum, "sum", weighted=True),
    "history": Example(
        history,
        ("history", "item"),
        {"arguments": [_argument("history", "padded"), _argument("item")]},
    ),
    "normed": Example(
        normed,
        ("user", "item"),
        {
            "style": "keyword",
            "arguments": [_argument("user_ids", "column", "user"), _argument("item_ids", "column", "item")],
        },
    ),
    "tasks": Example(
        tasks,
        ("user", "item"),
        {"style": "dict", "arguments": [_argument("item"), _argument("user")]},
        tasks=({"name": "click", "label": "click"}, {"name": "buy", "label": "buy"}),
        links=("identity", "sigmoid"),
    ),
}


def write_rows(path: Path, rows: int = 1200, seed: int = 0) -> Path:
    """Interactions with every column that the examples read: ids as the models know them, history ids from 1 on."""
    import pyarrow as pa
    from pyarrow import parquet

    random = np.random.default_rng(seed)
    user, item = random.integers(0, USERS, rows), random.integers(0, ITEMS, rows)
    histories = [random.integers(1, ITEMS, random.integers(0, HISTORY + 3)).tolist() for _ in range(USERS)]
    tags = [random.integers(0, TAGS, random.integers(0, 5)).tolist() for _ in range(ITEMS)]
    tag_weights = [(random.random(len(values)) + 0.5).astype(np.float32).tolist() for values in tags]
    prices = random.random((ITEMS, 2)).astype(np.float32)
    appeal = random.normal(size=ITEMS)
    click = (appeal[item] + random.normal(size=rows) > 0).astype(np.int64)
    columns = {
        "user_id": user + 1000,
        "item_id": item + 5000,
        "user": user,
        "item": item,
        "slot": random.integers(0, SLOTS, rows),
        "price": prices[item].tolist(),
        "tags": [tags[i] for i in item],
        "tag_weights": [tag_weights[i] for i in item],
        "history": [histories[u] for u in user],
        "click": click,
        "buy": click * random.integers(0, 2, rows),
    }
    parquet.write_table(pa.table(columns), path)
    return path
