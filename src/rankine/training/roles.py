"""Which column of a table is the item, the user, the label and the time: guessed from names and from counts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rankine.training.facts import ColumnFacts, Table

__all__ = ["Role", "Roles", "guess_roles", "guess_side", "words"]

_ITEM = (
    "item",
    "movie",
    "product",
    "video",
    "article",
    "news",
    "ad",
    "song",
    "track",
    "goods",
    "sku",
    "asin",
    "listing",
)
_USER = ("user", "uid", "member", "customer", "visitor", "reviewer", "session", "household", "query", "request")
_TIME = ("timestamp", "ts", "time", "datetime", "date", "unix")
_LABEL = ("label", "click", "clicked", "target", "y", "ctr", "converted", "conversion", "cvr", "purchase", "purchased",
          "buy", "bought", "like", "liked", "rating", "watched", "response")  # fmt: skip
_FILLERS = {"id", "ids", "idx", "index", "is", "emb", "embedding", "embeddings", "embed", "table", "input", "tensor",
            "weight", "layer", "feature", "features", "feat", "col", "model", "bag"}  # fmt: skip


@dataclass(frozen=True)
class Role:
    """A column, and why it was taken."""

    column: str
    why: str


@dataclass(frozen=True)
class Roles:
    """The special columns; ``labels`` best first."""

    item: Role
    group: Role | None
    timestamp: Role | None
    labels: tuple[Role, ...]


def guess_roles(table: Table) -> Roles:
    """The special columns of a table. An item is always named, if only by its many distinct values."""
    columns = table.columns.values()
    timestamp = _named(columns, _TIME, ("time", "int", "float", "string"))
    if timestamp is None:
        timestamp = next((Role(c.name, "it holds times") for c in columns if c.kind == "time"), None)
    labels = _labels(columns)
    taken = {role.column for role in labels} | ({timestamp.column} if timestamp else set())
    ids = [column for column in columns if column.kind in ("int", "string") and column.name not in taken]
    group = _named(ids, _USER, ("int", "string"))
    item = _named(ids, _ITEM, ("int", "string"))
    if item is None:
        others = [column for column in ids if group is None or column.name != group.column] or list(columns)
        most = max(others, key=lambda column: column.distinct)
        item = Role(most.name, f"no column is named like an item; it has the most values, {most.distinct:,}")
    return Roles(item, group, timestamp, labels)


def guess_side(column: ColumnFacts, table: Table, roles: Roles) -> tuple[str, str]:
    """``request``, ``item`` or ``pair``, and why."""
    group = table.columns[roles.group.column] if roles.group else None
    item = table.columns[roles.item.column]
    by_group = group is not None and _decides(group, column)
    by_item = _decides(item, column)
    if by_group and group is not None and not (by_item and set(words(column.name)) & set(words(item.name))):
        return "request", f"the same in all rows of a {group.name}"
    if by_item:
        return "item", f"the same in all rows of an {item.name}"
    return "pair", "differs between rows of the same user and of the same item"


def words(name: str) -> list[str]:
    """The words of a name that mean something: ``item_embedding.weight`` is ``[item]``."""
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    found = [word for word in re.split(r"[^a-zA-Z0-9]+", split.lower()) if word]
    kept = [word for word in found if word not in _FILLERS] or found
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in kept]


def _decides(key: ColumnFacts, column: ColumnFacts) -> bool:
    """Whether a column has one value for each value of ``key``."""
    if key.codes is None or column.codes is None:
        return False
    values = int(column.codes.max()) + 1
    pairs = set((key.codes * values + column.codes).tolist())
    return len(pairs) == len(set(key.codes.tolist()))


def _named(columns: Iterable[ColumnFacts], names: tuple[str, ...], kinds: tuple[str, ...]) -> Role | None:
    """The first column that has a name of the list; one that says that it is an id goes before one that does not."""
    best: tuple[int, int, str] | None = None
    for column in columns:
        if column.kind not in kinds:
            continue
        lower = column.name.lower()
        bare = re.sub(r"[_ ]?(id|idx|index)$", "", lower) or lower
        for rank, name in enumerate(names):
            if bare == name or lower == name:
                found = (0 if lower != bare else 1, rank, column.name)
                best = found if best is None or found[:2] < best[:2] else best
    return None if best is None else Role(best[2], "by its name")


def _labels(columns: Iterable[ColumnFacts]) -> tuple[Role, ...]:
    found = []
    for column in columns:
        if column.kind not in ("int", "float"):
            continue
        binary = column.kind == "int" and column.distinct == 2 and (column.low, column.high) == (0, 1)
        rank = next(
            (rank for rank, name in enumerate(_LABEL) if name in [*words(column.name), column.name.lower()]), None
        )
        if rank is not None and (binary or column.distinct <= 20):
            found.append((0 if binary else 1, rank, Role(column.name, "by its name" + (", and it is 0 or 1" * binary))))
        elif binary:
            found.append((2, 0, Role(column.name, "it is 0 or 1")))
    named = [entry for entry in found if entry[0] < 2] or found[:1]
    return tuple(role for _, _, role in sorted(named, key=lambda entry: entry[:2]))
