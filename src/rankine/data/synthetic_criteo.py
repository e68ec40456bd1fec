"""Synthetic interactions in the shape of Criteo's (13 numbers, 26 categories), with sides, groups, time and drift.

Labels are Bernoulli; their logit is the sum of a bias, an effect of every field, products of low-rank vectors of the
request and the item, and of the pair's fields with both, and numbers times such vectors, which few fields have. What a
value does fades with its rank, so that the head of the Zipf distributions, which a model can learn, carries the logit.

The effects of the fields drift: the weights turn by ``_TURN`` from the first second to the last. No feature tells the
time, so a split by time shows what a random split hides. Of 500,000 rows, a DCN-v2 (MLP 256-128) trained on the first
80 % reaches an AUC of 0.766 on the last tenth; the planted model has 0.808 there, and 0.795 if it does not turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankine.data.dataset import Dataset
from rankine.data.planted import bias_for, draw, falling, standard, zipf
from rankine.errors import UsageError
from rankine.metrics import auc, sigmoid
from rankine.models.columns import Column
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, Identity, Schema, Side, Split

__all__ = ["criteo_shape", "make_synthetic_criteo"]

USER, ITEM = "C1", "C14"
_DENSE = tuple(f"I{number}" for number in range(1, 14))
_CATEGORICAL = tuple(f"C{number}" for number in range(1, 27))
# The first 6 + 13 fields are the request's and the others the item's, but for eight that both decide.
_PAIR = ("I6", "I7", "C11", "C12", "C13", "C24", "C25", "C26")
_BY_USER = ("I1", "I2", "C2", "C3", "C4", "C5")  # the same in all requests of a user
_CROSSED = ("C2", "C6", "C7", "C15", "C16", "C17", "C11", "C24")  # whose values also have effects together
_VALUES = 20_000
_FIRST_SECOND, _SECONDS = 1_700_000_000, 7 * 86_400
_ROWS_PER_REQUEST = 8
_ROWS_PER_ID = 50  # of a user, and of an item, until there are as many as values
_ID_EXPONENT, _VALUE_EXPONENT = 0.8, 1.5
_FADING = 50  # rank at which a value does half of what the first does
_RANK = 2
_SHARES = {"fields": 0.74, "latent": 0.15, "pairs": 0.05, "numbers": 0.04, "ids": 0.02}
_TURN = 0.6  # radians that the weights of the fields turn in all
_LOGIT_STD = 1.45  # gives a best AUC of about 0.81 at the base rate
_BASE_RATE = 0.25


def criteo_shape(values: int = _VALUES) -> Schema:
    """13 numbers and 26 categories of ``values`` each: 5 + 10 request side, 6 + 10 item side, 2 + 6 of the pair."""
    features: list[Feature] = [DenseFeature(name=name, side=_side(name), normalization="log1p") for name in _DENSE]
    encoding = Identity(size=values)
    features += [CategoricalFeature(name=name, side=_side(name), encoding=encoding) for name in _CATEGORICAL]
    return Schema(
        features=tuple(features),
        item_id=ITEM,
        group=USER,
        timestamp="time",
        split=Split(by="time"),
    )


def _side(name: str) -> Side:
    if name in _PAIR:
        return "pair"
    return "request" if int(name[1:]) <= (6 if name.startswith("I") else 13) else "item"


@dataclass(frozen=True)
class _Drawn:
    """Raw columns of one side, and what they add to the logit, for each of ``n`` users, requests, items or rows.

    Attributes:
        columns: ``(n,)`` int64 for categories, ``(n, 1)`` float32 for numbers.
        effect: ``(n, 2)``, of the first second, and what it turns into.
        latent: ``(n, rank)``.
        number: ``(n, rank)``, the numbers mixed.
    """

    columns: dict[str, Column]
    effect: np.ndarray
    latent: np.ndarray
    number: np.ndarray

    def take(self, index: np.ndarray) -> _Drawn:
        columns: dict[str, Column] = {name: np.asarray(column)[index] for name, column in self.columns.items()}
        return _Drawn(columns, self.effect[index], self.latent[index], self.number[index])

    def plus(self, other: _Drawn) -> _Drawn:
        return _Drawn(
            {**self.columns, **other.columns},
            self.effect + other.effect,
            self.latent + other.latent,
            self.number + other.number,
        )


def make_synthetic_criteo(rows: int, *, seed: int, values: int = _VALUES) -> Dataset:
    """A planted data set; the same arguments give the same data.

    A request is a user (``C1``, the group) at a second of a week and has about eight rows; ``C14`` is the item. Ids are
    the values themselves, from 0, and their order says nothing about how often they occur.

    Args:
        rows: interactions, at least 1,000 so that the parts of a split are of use.
        seed: of everything drawn.
        values: of each categorical field, at least 2; users and items are as many at most.

    Raises:
        UsageError: a number is too small.
    """
    for name, value, least in (("rows", rows, 1000), ("seed", seed, 0), ("values", values, 2)):
        if value < least:
            raise UsageError("is too small", where=name, got=value, allowed=f"at least {least}")
    rng = np.random.default_rng(seed)
    ids = max(2, min(values, rows // _ROWS_PER_ID))
    requests = max(1, rows // _ROWS_PER_REQUEST)
    user = zipf(rng, ids, _ID_EXPONENT, requests)
    request_fields = [name for name in _names("request") if name not in (*_BY_USER, USER)]
    asked = _draw(rng, request_fields, requests, values).plus(_draw(rng, _BY_USER, ids, values).take(user))
    offered = _draw(rng, [name for name in _names("item") if name != ITEM], ids, values)
    pairs = _draw(rng, _names("pair"), rows, values)
    request_index = np.sort(rng.integers(requests, size=rows)).astype(np.int32)
    item_index = zipf(rng, ids, _ID_EXPONENT, rows).astype(np.int32)
    time = np.sort(rng.integers(_SECONDS, size=requests))[request_index]  # requests are in the order of their times
    by_id = rng.normal(size=ids)[user][request_index] + rng.normal(size=ids)[item_index]
    logits = _logits(rng, asked, offered, pairs, request_index, item_index, by_id, time / _SECONDS)
    labels = (rng.random(rows) < sigmoid(logits)).astype(np.float32)
    dataset = Dataset(
        name="synthetic-criteo",
        schema=criteo_shape(values),
        requests={USER: user, **asked.columns},
        items={ITEM: np.arange(ids), **offered.columns},
        item_ids=np.arange(ids),
        pairs=pairs.columns,
        request_index=request_index,
        item_index=item_index,
        labels=labels[:, None],
        groups=user[request_index],
        timestamps=_FIRST_SECOND + time,
        provenance={
            "source": "synthetic in the shape of Criteo, planted model 1",
            "rows": str(rows),
            "values": str(values),
            "users": str(ids),
            "items": str(ids),
            "seed": str(seed),
        },
        best_auc=auc(labels, logits),
    )
    dataset.check()
    return dataset


def _names(side: Side) -> list[str]:
    return [name for name in (*_DENSE, *_CATEGORICAL) if _side(name) == side]


def _draw(rng: np.random.Generator, names: list[str] | tuple[str, ...], count: int, values: int) -> _Drawn:
    """Columns of independent fields for ``count`` entities, with freshly drawn weights."""
    columns: dict[str, Column] = {}
    effect, latent, number = np.zeros((count, 2)), np.zeros((count, _RANK)), np.zeros((count, _RANK))
    for name in names:
        if name in _DENSE:
            log_value = np.log1p(np.exp(rng.normal(1.0, 1.0, count)))
            columns[name] = np.expm1(log_value).astype(np.float32)[:, None]
            level = standard(log_value)[:, None]
            effect += level * rng.normal(size=2)
            number += level * rng.normal(size=_RANK)
            continue
        rank = rng.permutation(values)
        ids = draw(rng, falling(values, _VALUE_EXPONENT)[rank], count)
        columns[name] = ids
        fading = (1.0 / (1.0 + rank / _FADING))[:, None]
        weights = fading * rng.normal(size=(values, 2))
        if name in _CROSSED:
            # Effects point along the vectors in part, as in the other planted model: gradient descent then finds the
            # products from the effects.
            vectors = fading * rng.normal(size=(values, _RANK))
            weights += 0.7 * vectors.sum(axis=1, keepdims=True)
            latent += vectors[ids]
        effect += weights[ids]
    return _Drawn(columns, effect, latent, number)


def _logits(
    rng: np.random.Generator,
    asked: _Drawn,
    offered: _Drawn,
    pairs: _Drawn,
    request_index: np.ndarray,
    item_index: np.ndarray,
    by_id: np.ndarray,
    progress: np.ndarray,
) -> np.ndarray:
    """The logit of every row, float64 ``(rows,)``: standardized parts by their shares, then scaled and shifted.

    Args:
        by_id: ``(rows,)`` what the ids alone tell.
        progress: ``(rows,)`` how far the time is, from 0 to 1.
    """
    effect = asked.effect[request_index] + offered.effect[item_index] + pairs.effect
    request, item = asked.latent[request_index], offered.latent[item_index]
    parts = {
        "fields": np.cos(_TURN * progress) * standard(effect[:, 0]) + np.sin(_TURN * progress) * standard(effect[:, 1]),
        "latent": (request * item).sum(axis=1),
        "pairs": (pairs.latent * (request - item)).sum(axis=1),
        "numbers": (asked.number[request_index] * item).sum(axis=1)
        + (offered.number[item_index] * request).sum(axis=1),
        "ids": by_id,
    }
    mixed = sum((np.sqrt(share) * standard(parts[name]) for name, share in _SHARES.items()), np.zeros(len(by_id)))
    scaled = _LOGIT_STD * standard(mixed)
    return scaled + bias_for(scaled, _BASE_RATE)
