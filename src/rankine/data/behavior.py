"""Behavior sequences: what users did, item after item, in the form of the S3-Rec data (Zhou et al., CIKM 2020).

A folder with ``NAME_seq.parquet`` (``user``, ``item``, ``pos``: the position in the user's sequence, from the oldest)
and ``NAME_item_attributes.parquet`` (``item``, ``attributes``: a list of ids). Amazon Beauty (McAuley et al., SIGIR
2015), as S3-Rec filters it, has 22,363 users with 5 to 204 of 12,101 items each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine.artifact import sha256_of
from rankine.data import arrow
from rankine.data.dataset import Dataset
from rankine.errors import DataError, UsageError
from rankine.models.columns import Ragged
from rankine.models.schema import CategoricalFeature, MultiHotFeature, Schema, SequenceFeature, Split

__all__ = ["BEHAVIOR", "has_behavior", "load_behavior"]

_LOG, _ATTRIBUTES = "_seq.parquet", "_item_attributes.parquet"
_LONGEST_HISTORY = 50
_HELD_OUT = 2
"""Last positions of a user that are not trained on: the one of the test, and the one of validation before it."""

BEHAVIOR = Schema(
    features=(
        SequenceFeature(name="history", side="request", table="item", max_length=_LONGEST_HISTORY, truncation="left"),
        CategoricalFeature(name="item", side="item"),
        MultiHotFeature(name="attributes", side="item"),
    ),
    item_id="item",
    group="user",
    timestamp="position",
    split=Split(by="leave_last_out"),
)


@dataclass(frozen=True)
class _Log:
    """Interactions in the order of user and position.

    Attributes:
        user, position: ``(n,)`` int64.
        item: ``(n,)`` int64, index into the items.
        first: ``(n,)`` int64, where the user's own interactions begin.
        later: ``(n,)`` int64, how many more the user has.
    """

    user: np.ndarray
    position: np.ndarray
    item: np.ndarray
    first: np.ndarray
    later: np.ndarray


def has_behavior(folder: Path) -> bool:
    """Whether ``folder`` holds one log of sequences, and attributes of its items."""
    return folder.is_dir() and len(list(folder.glob(f"*{_LOG}"))) == 1 and bool(list(folder.glob(f"*{_ATTRIBUTES}")))


def load_behavior(
    folder: Path | str,
    *,
    negatives: int = 4,
    test_negatives: int = 50,
    longest_history: int | None = _LONGEST_HISTORY,
    rows: int | None = None,
    seed: int = 0,
) -> Dataset:
    """One request for every interaction but a user's first: which item comes next?

    A request's ``history`` is what the user had before, never the item that is asked for. Its candidates are that item
    (label 1) and items that the user never had, before or after (label 0), drawn uniformly, each at most once a
    request. ``history`` and ``item`` share a table. Timestamps are positions and groups are users, so that of each user
    the last request is the test, and the one before validation.

    Do not split at random: the history of a later request holds the items that an earlier one asks for, so what is
    tested would have been seen in training.

    AUC on uniformly drawn negatives flatters: users take popular items, most drawn ones are rare, so a model that knows
    nothing but popularity is already well above 0.5. Compare models with each other on the same negatives, not with
    figures of other samplings.

    Args:
        negatives: a request in training. Four, as DIN takes about that many; more make an epoch longer, few harder.
        test_negatives: a request in validation and test.
        longest_history: most items of a history, the newest; None for all of them.
        rows: keep whole users, chosen at random, with at most this many rows together; items stay as they are.
        seed: of the negatives and of that choice.

    Raises:
        DataError: a file is missing or malformed, positions have gaps, an item is not listed, or a user had so many
            items that there are too few negatives; names the file and the row or the user.
        UsageError: a number is too small.
    """
    for name, value, least in (("negatives", negatives, 1), ("test_negatives", test_negatives, 1), ("seed", seed, 0)):
        if value < least:
            raise UsageError("is too small", where=name, got=value, allowed=f"at least {least}")
    log_path, attributes_path = _paths(Path(folder))
    item_ids, attributes = _read_attributes(attributes_path)
    log = _read_log(log_path, item_ids)
    rng = np.random.default_rng(seed)
    targets = np.flatnonzero(log.position > 0)
    candidates = 1 + _negatives(log, targets, negatives, test_negatives)
    users = len(np.unique(log.user))
    if rows is not None and rows < candidates.sum():
        targets, candidates = _whole_users(rng, log, targets, candidates, rows, where=str(log_path))
    request_index = np.repeat(np.arange(len(targets)), candidates)
    is_target = np.zeros(len(request_index), bool)
    is_target[np.cumsum(candidates) - candidates] = True
    item_index = np.repeat(log.item[targets], candidates)
    drawn = ~is_target
    item_index[drawn] = _draw_negatives(rng, log, targets[request_index[drawn]], len(item_ids), where=str(log_path))
    dataset = Dataset(
        name=f"s3rec-{log_path.name.removesuffix(_LOG).lower()}",
        schema=BEHAVIOR,
        requests={"history": _histories(log, targets, item_ids, longest_history)},
        items={"item": item_ids, "attributes": attributes},
        item_ids=item_ids,
        pairs={},
        request_index=request_index.astype(np.int32),
        item_index=item_index.astype(np.int32),
        labels=is_target.astype(np.float32)[:, None],
        groups=log.user[targets][request_index],
        timestamps=log.position[targets][request_index],
        provenance={
            "source": f"{log_path.name}, {attributes_path.name}",
            "sha256": f"{sha256_of(log_path)}, {sha256_of(attributes_path)}",
            "interactions": str(len(log.user)),
            "users": str(users),
            "items": str(len(item_ids)),
            "requests": str(len(targets)),
            "negatives": f"{negatives} in training, {test_negatives} in validation and test, uniform",
            "seed": str(seed),
            **({} if rows is None else {"subset": f"users with at most {rows} rows, seed {seed}"}),
        },
    )
    dataset.check()
    return dataset


def _paths(folder: Path) -> tuple[Path, Path]:
    logs = sorted(folder.glob(f"*{_LOG}"))
    attributes = folder / f"{logs[0].name.removesuffix(_LOG)}{_ATTRIBUTES}" if logs else folder
    if len(logs) != 1 or not attributes.is_file():
        got = ", ".join(sorted(path.name for path in folder.glob("*.parquet"))) or "neither"
        allowed = f"one NAME{_LOG}, and NAME{_ATTRIBUTES} of the same name"
        raise DataError("holds no behavior sequences", where=str(folder), got=got, allowed=allowed)
    return logs[0], attributes


def _read_attributes(path: Path) -> tuple[np.ndarray, Ragged]:
    """Ids of the items in ascending order, and their attributes."""
    raw = arrow.read_columns(path, ["item", "attributes"])
    ids = arrow.integers(raw["item"], f"{path}: column 'item'")
    attributes = arrow.lists(raw["attributes"], f"{path}: column 'attributes'", dtype="int64")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = ids[1:] == ids[:-1]
    if twice.any():
        raise DataError("an item is listed twice", where=str(path), got=int(ids[1:][twice][0]))
    if not len(ids):
        raise DataError("has no rows", where=str(path))
    return ids, attributes.take(order)


def _read_log(path: Path, item_ids: np.ndarray) -> _Log:
    raw = arrow.read_columns(path, ["user", "item", "pos"])
    user, item, position = (arrow.integers(raw[name], f"{path}: column '{name}'") for name in ("user", "item", "pos"))
    if not len(user):
        raise DataError("has no rows", where=str(path))
    at = np.minimum(np.searchsorted(item_ids, item), len(item_ids) - 1)
    unlisted = item_ids[at] != item
    if unlisted.any():
        row = int(np.argmax(unlisted))
        where = arrow.at(f"{path}: column 'item'", row)
        raise DataError("has no attributes", where=where, got=int(item[row]), allowed=f"an item of *{_ATTRIBUTES}")
    order = np.lexsort((position, user))
    begins = np.flatnonzero(np.r_[True, user[order][1:] != user[order][:-1]])
    lengths = np.diff(np.r_[begins, len(order)])
    first = np.repeat(begins, lengths)
    expected = np.arange(len(order)) - first
    if (position[order] != expected).any():
        wrong = int(np.argmax(position[order] != expected))
        where, allowed = f"{path}: user {int(user[order][wrong])}", f"{int(expected[wrong])}: 0, 1, 2... for every user"
        raise DataError("has a gap in its positions", where=where, got=int(position[order][wrong]), allowed=allowed)
    return _Log(user[order], expected, at[order], first, np.repeat(lengths, lengths) - 1 - expected)


def _negatives(log: _Log, targets: np.ndarray, negatives: int, test_negatives: int) -> np.ndarray:
    """Negatives of each request: many where it is held out, as ``leave_last_out`` splits, else few."""
    requests_of_user = log.position[targets] + log.later[targets]
    # A user with fewer than three requests only trains.
    held_out = (log.later[targets] < _HELD_OUT) & (requests_of_user > _HELD_OUT)
    return np.where(held_out, test_negatives, negatives)


def _whole_users(
    rng: np.random.Generator, log: _Log, targets: np.ndarray, candidates: np.ndarray, rows: int, *, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """The requests, and their candidates, of the first users in a random order that have at most ``rows`` together."""
    user = np.unique(log.user[targets], return_inverse=True)[1]
    size = np.bincount(user, candidates)
    order = rng.permutation(len(size))
    chosen = np.zeros(len(size), bool)
    chosen[order[np.cumsum(size[order]) <= rows]] = True
    if not chosen.any():
        raise DataError("rows are too few for one user", where=where, got=rows, allowed=f">= {int(size[order[0]])}")
    return targets[chosen[user]], candidates[chosen[user]]


def _draw_negatives(rng: np.random.Generator, log: _Log, targets: np.ndarray, items: int, *, where: str) -> np.ndarray:
    """One item for each of ``targets`` (interactions, equal ones side by side) that its user never had, uniform.

    Drawn by its rank among the items that the user never had: the ``r``-th of them is ``r`` plus the number of items
    below it that the user had. No draw is thrown away but for what a request has already.
    """
    user = np.cumsum(np.r_[False, log.user[1:] != log.user[:-1]])
    had = np.unique(user * items + log.item)  # distinct (user, item), in order
    owner, item = np.divmod(had, items)
    starts = np.searchsorted(owner, np.arange(user[-1] + 2))
    free = items - np.diff(starts)
    # Of the j-th item that a user had, the number of items below it that the user never had; non-decreasing.
    gaps = owner * (items + 1) + item - (np.arange(len(had)) - starts[owner])
    wanted = user[targets]
    _check_enough(log, targets, free[wanted], where)
    drawn = np.empty(len(targets), np.int64)
    again = np.arange(len(targets))
    while len(again):
        rank = rng.integers(free[wanted[again]])
        below = np.searchsorted(gaps, wanted[again] * (items + 1) + rank, side="right") - starts[wanted[again]]
        drawn[again] = rank + below
        key = targets * items + drawn
        kept = np.zeros(len(key), bool)
        kept[np.unique(key, return_index=True)[1]] = True
        again = np.flatnonzero(~kept)
    return drawn


def _check_enough(log: _Log, targets: np.ndarray, free: np.ndarray, where: str) -> None:
    """Refuse requests that ask for more distinct items than their user never had."""
    asked = np.bincount(targets)[targets]
    if (asked > free).any():
        row = int(np.argmax(asked > free))
        place, hint = f"{where}: user {int(log.user[targets[row]])}", "Ask for fewer negatives."
        raise DataError("had too many of the items", where=place, got=f"{int(free[row])} left", hint=hint)


def _histories(log: _Log, targets: np.ndarray, item_ids: np.ndarray, longest: int | None) -> Ragged:
    """The last items before each of the targets, oldest first."""
    before = log.position[targets]
    lengths = before if longest is None else np.minimum(before, longest)
    offsets = np.zeros(len(targets) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    at = np.repeat(targets - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Ragged(item_ids[log.item[at]], offsets)
