"""Synthetic interactions from a planted model, so that the best possible AUC is known.

Users and items are drawn from bounded Zipf distributions (by inverse CDF), labels from a Bernoulli whose logit is the
sum of a bias, main effects, a low-rank user x item product, and effects of pairs of categories. Latent vectors are
mostly functions of the fields and partly of the id, so that a model can learn most of it from few rows of each id: a
DCN-v2 trained on 100,000 to 200,000 rows comes within 0.02 to 0.025 of the best AUC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankine.data.dataset import Dataset
from rankine.data.planted import bias_for, falling, standard, zipf
from rankine.errors import UsageError
from rankine.metrics import auc, sigmoid
from rankine.models.columns import Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, MultiHotFeature, Schema

__all__ = ["SYNTHETIC", "make_synthetic"]

_AGES, _HOURS, _BRANDS, _TAGS, _MOST_TAGS = 7, 24, 60, 30, 5
_COUNTRIES = tuple(f"country-{i:02d}".encode() for i in range(10))
_DEVICES = (b"phone", b"desktop", b"tablet", b"tv")
_CATEGORIES = tuple(f"category-{i:02d}".encode() for i in range(12))
_RANK = 2
_ROWS_PER_REQUEST = 8
_USER_EXPONENT, _ITEM_EXPONENT = 0.8, 0.9
# What share of the logit's variance each part has, and the part of a latent vector that only the id tells.
_SHARES = {"fields": 0.74, "latent": 0.16, "pairs": 0.08, "ids": 0.02}
_ID_PART = 0.10
_LOGIT_STD = 1.40  # gives a best AUC of about 0.80 at the base rate
_BASE_RATE = 0.30

SYNTHETIC = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        CategoricalFeature(name="age", side="request"),
        CategoricalFeature(name="country", side="request", dtype="string"),
        CategoricalFeature(name="hour", side="request"),
        CategoricalFeature(name="device", side="request", dtype="string"),
        DenseFeature(name="activity", side="request", normalization="log1p"),
        CategoricalFeature(name="item", side="item"),
        CategoricalFeature(name="category", side="item", dtype="string"),
        CategoricalFeature(name="brand", side="item"),
        DenseFeature(name="price", side="item", normalization="log1p"),
        MultiHotFeature(name="tags", side="item"),
    ),
    item_id="item",
    group="user",
)


@dataclass(frozen=True)
class _Users:
    age: np.ndarray
    country: np.ndarray
    latent: np.ndarray


@dataclass(frozen=True)
class _Items:
    category: np.ndarray
    brand: np.ndarray
    log_price: np.ndarray
    tags: Ragged
    latent: np.ndarray


@dataclass(frozen=True)
class _Requests:
    user: np.ndarray
    hour: np.ndarray
    device: np.ndarray
    log_activity: np.ndarray


def make_synthetic(rows: int, *, users: int, items: int, seed: int) -> Dataset:
    """A planted data set; the same arguments give the same data.

    A request is a user in a context (hour, device, activity) and has about eight rows. Ids are positive and their
    order says nothing about how often they occur.

    Args:
        rows: interactions, at least 1,000 so that the parts of a split are of use.
        users, items: distinct users and items that can occur, at least 2 each; every item is in ``Dataset.items``.
        seed: of everything drawn.

    Raises:
        UsageError: a number is too small.
    """
    for name, value, least in (("rows", rows, 1000), ("users", users, 2), ("items", items, 2), ("seed", seed, 0)):
        if value < least:
            raise UsageError("is too small", where=name, got=value, allowed=f"at least {least}")
    rng = np.random.default_rng(seed)
    who, what = _draw_users(rng, users), _draw_items(rng, items)
    requests = _draw_requests(rng, max(1, rows // _ROWS_PER_REQUEST), users)
    request_index = np.sort(rng.integers(len(requests.user), size=rows)).astype(np.int32)
    item_index = zipf(rng, items, _ITEM_EXPONENT, rows)
    logits = _logits(rng, who, what, requests, request_index, item_index)
    labels = (rng.random(rows) < sigmoid(logits)).astype(np.float32)
    dataset = Dataset(
        name="synthetic",
        schema=SYNTHETIC,
        requests={
            "user": requests.user + 1,
            "age": who.age[requests.user],
            "country": np.array(_COUNTRIES)[who.country[requests.user]],
            "hour": requests.hour,
            "device": np.array(_DEVICES)[requests.device],
            "activity": np.expm1(requests.log_activity).astype(np.float32)[:, None],
        },
        items={
            "item": np.arange(1, items + 1),
            "category": np.array(_CATEGORIES)[what.category],
            "brand": what.brand,
            "price": np.expm1(what.log_price).astype(np.float32)[:, None],
            "tags": what.tags,
        },
        item_ids=np.arange(1, items + 1),
        pairs={},
        request_index=request_index,
        item_index=item_index.astype(np.int32),
        labels=labels[:, None],
        groups=requests.user[request_index] + 1,
        provenance={
            "source": "synthetic, planted model 1",
            "rows": str(rows),
            "users": str(users),
            "items": str(items),
            "seed": str(seed),
        },
        best_auc=auc(labels, logits),
    )
    dataset.check()
    return dataset


def _draw_users(rng: np.random.Generator, users: int) -> _Users:
    age = rng.choice(_AGES, users, p=falling(_AGES, 0.3))
    country = rng.choice(len(_COUNTRIES), users, p=falling(len(_COUNTRIES), 1.0))
    known = rng.normal(size=(_AGES, _RANK))[age] + rng.normal(size=(len(_COUNTRIES), _RANK))[country]
    return _Users(age, country, _latent(rng, known))


def _draw_items(rng: np.random.Generator, items: int) -> _Items:
    category = rng.choice(len(_CATEGORIES), items, p=falling(len(_CATEGORIES), 0.7))
    brand = rng.choice(_BRANDS, items, p=falling(_BRANDS, 0.8))
    log_price = np.log1p(np.exp(rng.normal(3.0, 1.0, items)))
    lengths = rng.integers(0, _MOST_TAGS + 1, items)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tags = Ragged(_distinct_tags(rng, lengths), offsets)
    known = (
        1.5 * rng.normal(size=(len(_CATEGORIES), _RANK))[category]
        + 0.5 * rng.normal(size=(_BRANDS, _RANK))[brand]
        + _mean_per_row(tags, rng.normal(size=(_TAGS, _RANK)))
    )
    return _Items(category, brand, log_price, tags, _latent(rng, known))


def _draw_requests(rng: np.random.Generator, requests: int, users: int) -> _Requests:
    return _Requests(
        user=zipf(rng, users, _USER_EXPONENT, requests),
        hour=rng.integers(_HOURS, size=requests),
        device=rng.choice(len(_DEVICES), requests, p=falling(len(_DEVICES), 0.8)),
        log_activity=np.log1p(np.exp(rng.normal(1.0, 1.0, requests))),
    )


def _logits(
    rng: np.random.Generator,
    who: _Users,
    what: _Items,
    requests: _Requests,
    request_index: np.ndarray,
    item_index: np.ndarray,
) -> np.ndarray:
    """The logit of every row, float64 ``(rows,)``: standardized parts by their shares, then scaled and shifted."""
    user = requests.user[request_index]
    device, category = requests.device[request_index], what.category[item_index]
    # Main effects point along the latent vectors in part: as in real data, what pulls most also interacts most, and
    # gradient descent then finds the products from the main effects instead of waiting at their saddle point.
    by_user = (
        who.latent.sum(axis=1) + rng.normal(size=_AGES)[who.age] + 0.5 * rng.normal(size=len(_COUNTRIES))[who.country]
    )
    by_item = (
        what.latent.sum(axis=1)
        + rng.normal(size=len(_CATEGORIES))[what.category]
        + 0.5 * rng.normal(size=_BRANDS)[what.brand]
        + _mean_per_row(what.tags, rng.normal(size=(_TAGS, 1)))[:, 0]
        - standard(what.log_price)
    )
    phase = 2 * np.pi * requests.hour / _HOURS
    by_context = np.sin(phase) + rng.normal(size=len(_DEVICES))[requests.device] + standard(requests.log_activity)
    parts = {
        "fields": by_user[user] + by_item[item_index] + by_context[request_index],
        "latent": np.einsum("nd,nd->n", who.latent[user], what.latent[item_index]),
        "pairs": (
            rng.normal(size=(len(_DEVICES), len(_CATEGORIES)))[device, category]
            + rng.normal(size=(_AGES, len(_CATEGORIES)))[who.age[user], category]
        ),
        "ids": rng.normal(size=len(who.age))[user] + rng.normal(size=len(what.brand))[item_index],
    }
    mixed = sum((np.sqrt(share) * standard(parts[name]) for name, share in _SHARES.items()), np.zeros(len(user)))
    scaled = _LOGIT_STD * standard(mixed)
    return scaled + bias_for(scaled, _BASE_RATE)


def _latent(rng: np.random.Generator, known: np.ndarray) -> np.ndarray:
    """Latent vectors ``(n, rank)`` of unit variance per element: what the fields tell, and a part of the id alone."""
    scale = max(float(known.std()), 1e-9)
    return np.asarray(np.sqrt(1 - _ID_PART) * known / scale + np.sqrt(_ID_PART) * rng.normal(size=known.shape))


def _distinct_tags(rng: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
    """Tags of all items, one after the other: a random start and steps that never come round within one item."""
    starts = rng.integers(_TAGS, size=len(lengths))
    steps = rng.integers(1, _TAGS // _MOST_TAGS, size=len(lengths))
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray((np.repeat(starts, lengths) + within * np.repeat(steps, lengths)) % _TAGS)


def _mean_per_row(column: Ragged, table: np.ndarray) -> np.ndarray:
    """Mean of ``table[values]`` over each row, zero for empty rows: ``(rows, d)``."""
    lengths = np.diff(column.offsets)
    row = np.repeat(np.arange(len(column)), lengths)
    sums = np.zeros((len(column), table.shape[1]))
    np.add.at(sums, row, table[column.values])
    return sums / np.maximum(lengths, 1)[:, None]
