"""A draft of a schema: guessed from what a model takes and from the columns of a table, each guess with its reason."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rankine.models.intake.signature import Signature, Slot, TableInfo
from rankine.training.facts import ColumnFacts, Table
from rankine.training.roles import Role, Roles, guess_roles, guess_side, words

__all__ = ["Draft", "DraftFeature", "draft_schema"]


@dataclass
class DraftFeature:
    """One feature: its keys in the order in which they are written, and what to check."""

    keys: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.keys["name"])


@dataclass
class Draft:
    """A schema as it will be written.

    Attributes:
        tasks: roles of the columns that are predicted.
        threshold: of the labels that are not 0 or 1, by column.
        notes: on the call, or on the whole.
    """

    roles: Roles
    tasks: tuple[Role, ...]
    threshold: dict[str, float]
    features: list[DraftFeature]
    style: str
    arguments: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The draft without its comments, as YAML reads it."""
        found: dict[str, Any] = {"schema_version": 1, "item_id": self.roles.item.column}
        if self.item_is_text:
            found["item_id_dtype"] = "string"
        if self.roles.group is not None:
            found["group"] = self.roles.group.column
        if self.roles.timestamp is not None:
            found |= {"timestamp": self.roles.timestamp.column, "split": {"by": "time"}}
        found["tasks"] = [
            {"name": task_name(role.column), "label": role.column}
            | ({"threshold": self.threshold[role.column]} if role.column in self.threshold else {})
            for role in self.tasks
        ]
        found["features"] = [feature.keys for feature in self.features]
        found["call"] = {"style": self.style, "arguments": self.arguments}
        return found

    item_is_text: bool = False


def draft_schema(signature: Signature, table: Table) -> Draft:
    """Guess a schema; what could not be guessed is in its notes."""
    roles = guess_roles(table)
    labels = roles.labels or (Role(roles.item.column, "no column looks like a label: write the one that is predicted"),)
    tasks = labels[: signature.outputs or 1]
    threshold = {
        r.column: _threshold(table.columns[r.column]) for r in tasks if not _is_binary(table.columns[r.column])
    }
    draft = Draft(roles, tasks, threshold, [], signature.style, [])
    draft.item_is_text = table.columns[roles.item.column].kind == "string"
    _Guess(signature, table, roles, draft).fill()
    return draft


def task_name(column: str) -> str:
    """A task's name from that of its label."""
    name = "".join(character if character.isalnum() else "_" for character in column)
    return name if name and not name[0].isdigit() else f"task_{name}"


def _is_binary(column: ColumnFacts) -> bool:
    return column.kind == "int" and column.low >= 0 and column.high <= 1


def _threshold(column: ColumnFacts) -> float:
    """Of ratings from 1 to 5, 4 and more are liked; else the upper half."""
    return 4.0 if column.high == 5 else float((column.low + column.high + 1) // 2)


def _offsets_of(following: Sequence[Slot]) -> Slot | None:
    """The offsets of a bag among the arguments after its values: the next one, or the one after the weights."""
    for slot in following[:2]:
        if "offset" in slot.name.lower():
            return slot
        if "weight" not in slot.name.lower():
            return None
    return None


class _Guess:
    def __init__(self, signature: Signature, table: Table, roles: Roles, draft: Draft) -> None:
        self.signature, self.table, self.roles, self.draft = signature, table, roles, draft
        special = {role.column for role in roles.labels} | ({roles.timestamp.column} if roles.timestamp else set())
        self.free = [c for c in table.columns.values() if c.name not in special and c.name.isidentifier()]
        self.tables = list(signature.tables)
        self.of_table: dict[str, str] = {}  # path of a table to the first feature that reads it

    def fill(self) -> None:
        slots = self.signature.slots or self._dictionary()
        if len(slots) == 1 and self._column_of(slots[0].name) is None:
            self._packed(slots[0])
            return
        sequence: DraftFeature | None = None
        skip: set[str] = set()
        for position, slot in enumerate(slots):
            if slot.name in skip:
                continue
            following = slots[position + 1 : position + 4]
            offsets = _offsets_of(following)
            if offsets is not None:
                weights = next((other for other in following if "weight" in other.name.lower()), None)
                self._bag(slot, offsets, weights)
                skip |= {offsets.name} | ({weights.name} if weights else set())
            elif sequence is not None and self._is_part(slot):
                form = "mask" if "mask" in slot.name.lower() else "length"
                self._argument(slot, form, sequence.name, slot.dtype or ("bool" if form == "mask" else "int64"))
            else:
                made = self._single(slot)
                sequence = made if made is not None and made.keys["kind"] == "sequence" else sequence

    def _is_part(self, slot: Slot) -> bool:
        lower = slot.name.lower()
        return ("mask" in lower or "len" in lower) and self._column_of(slot.name) is None

    def _dictionary(self) -> tuple[Slot, ...]:
        """Keys of a dictionary, which a model does not tell: columns that have the names of its tables."""
        named = {word for info in self.tables for word in words(info.name)}
        exact = [column for column in self.free if column.name.lower() in {info.name.lower() for info in self.tables}]
        chosen = exact or [column for column in self.free if set(words(column.name)) & named]
        self.draft.notes.append(
            "the keys of the dictionary are guessed from the names of the model's tables: check them"
        )
        return tuple(Slot(column.name) for column in chosen)

    def _single(self, slot: Slot) -> DraftFeature | None:
        column = self._column_of(slot.name) or self._by_table(slot)
        if column is None:
            self.draft.notes.append(f"no column for the argument '{slot.name}' was found: add a feature for it")
            return None
        if column.kind in ("ints", "strings") or (column.kind == "floats" and column.fixed is None):
            return self._sequence(slot, column)
        if column.kind in ("float", "floats") or (slot.dtype == "float32" and self._table_of(slot, column) is None):
            feature = self._dense(column, slot.shape)
            self._argument(slot, "flat" if slot.shape == () else "value", feature.name, "float32")
            return feature
        feature = self._categorical(column, self._table_of(slot, column))
        self._argument(slot, "column" if slot.shape == (1,) else "value", feature.name, slot.dtype or "int64")
        return feature

    def _sequence(self, slot: Slot, column: ColumnFacts) -> DraftFeature:
        info = self._table_of(slot, column)
        length = slot.shape[0] if slot.shape else column.longest
        feature = self._feature(column, "sequence", {"max_length": max(length, 1)}, info)
        feature.notes.append("max_length must be the length to which the model's lists are padded"
                             + ("" if slot.shape else "; here it is that of the longest list"))  # fmt: skip
        pad = info.padding if info is not None and info.padding is not None else 0
        if column.low <= pad <= column.high:
            feature.notes.append(f"lists may hold {pad}, which pads them: a model cannot tell the two apart")
        self._argument(slot, "padded", feature.name, slot.dtype or "int64", pad=pad)
        return feature

    def _bag(self, values: Slot, offsets: Slot, weights: Slot | None) -> None:
        bags = [info for info in self.tables if info.pooling is not None]
        info = next((bag for bag in bags if bag.argument == values.name), bags[0] if bags else None)
        if info is not None and info in self.tables:
            self.tables.remove(info)
        names = [values.name, offsets.name, info.name if info is not None else ""]
        lists = [column for column in self.free if column.kind in ("ints", "strings")]
        column = next((found for name in names if name and (found := self._column_of(name, lists))), None)
        column = column or next((c for c in lists if info is None or c.high < info.rows), None)
        if column is None:
            self.draft.notes.append(f"no list column for the bag of '{values.name}' was found: add a feature for it")
            return
        keys: dict[str, Any] = {"pooling": info.pooling if info is not None else "mean"}
        weighing = self._weights_of(column) if weights is not None else None
        if weighing is not None:
            keys["weights"] = weighing.name
        feature = self._feature(column, "multi_hot", keys, info)
        feature.notes.append("pooling must be the mode of the model's EmbeddingBag")
        last = info is not None and info.last_offset
        self._argument(values, "values", feature.name, values.dtype or "int64")
        self._argument(offsets, "ends" if last else "offsets", feature.name, offsets.dtype or "int64")
        if weights is not None:
            self._argument(weights, "weights", feature.name, "float32")

    def _weights_of(self, column: ColumnFacts) -> ColumnFacts | None:
        def fits(other: ColumnFacts) -> bool:
            if other.kind != "floats" or other.lengths is None or column.lengths is None:
                return False
            return bool((other.lengths == column.lengths).all())

        return next((other for other in self.free if fits(other)), None)

    def _packed(self, slot: Slot) -> None:
        """One matrix: ids by the sizes of the tables, in the tables' order, then numbers in the file's order."""
        note = "the order of the columns is a guess: ids as the model's tables, then numbers as the file has them"
        self.draft.notes.append(note)
        sizes = self._field_tables()
        columns: list[str] = []
        ids = [column for column in self.free if column.kind == "int"]
        for info in sizes:
            column = self._fitting(info, ids)
            if column is not None:
                ids.remove(column)
                columns.append(self._categorical(column, info).name)
        if not columns and self.signature.tables:  # one table for all fields, each from an offset on
            most = slot.shape[0] if slot.shape else len(ids)
            total = max(info.rows for info in self.signature.tables)
            for column in ids:
                if len(columns) < most and column.low >= 0 and column.high < total:
                    columns.append(self._categorical(column, None).name)
                    total -= column.high + 1
        width = slot.shape[0] - len(columns) if slot.shape else None
        dense = [c for c in self.free if c.kind == "float" or (c.kind == "floats" and c.fixed)]
        no_numbers = width == 0 or slot.dtype in ("int64", "int32")
        columns += [self._dense(column, None).name for column in dense if not no_numbers]
        numbers = any(feature.keys["kind"] == "dense" for feature in self.draft.features)
        dtype = slot.dtype or ("float32" if numbers else "int64")
        packed = [{"feature": name} for name in columns]
        self.draft.arguments.append({"name": slot.name, "form": "packed", "dtype": dtype, "columns": packed})

    def _field_tables(self) -> list[TableInfo]:
        """One table a field: those of the dimension that most tables have, the larger of two."""
        by_dim: dict[int, list[TableInfo]] = {}
        for info in self.signature.tables:
            by_dim.setdefault(info.dim, []).append(info)
        best = max(by_dim.values(), key=lambda found: (len(found), found[0].dim), default=[])
        return best if len(best) > 1 else []

    def _fitting(self, info: TableInfo, ids: Sequence[ColumnFacts]) -> ColumnFacts | None:
        fitting = [column for column in ids if column.low >= 0 and column.high < info.rows]
        named = [column for column in fitting if set(words(column.name)) & set(words(info.name))]
        exact = [column for column in fitting if column.high + 1 == info.rows]
        return next(iter([*named, *exact, *fitting]), None)

    def _categorical(self, column: ColumnFacts, info: TableInfo | None) -> DraftFeature:
        return self._feature(column, "categorical", {}, info)

    def _dense(self, column: ColumnFacts, shape: tuple[int, ...] | None) -> DraftFeature:
        width = column.fixed or (shape[0] if shape else 1)
        keys = {"width": width} if width > 1 else {}
        feature = self._feature(column, "dense", {**keys, "normalization": "none"}, None)
        feature.notes.append("normalization: none, since the model was trained on numbers of its own; check that the "
                             "column holds them as the model had them")  # fmt: skip
        if column.missing:
            feature.keys["default"] = 0.0
            feature.notes.append(f"{column.missing:,} values are missing: the default stands in for them")
        return feature

    def _feature(self, column: ColumnFacts, kind: str, more: dict[str, Any], info: TableInfo | None) -> DraftFeature:
        """A new feature of a column, or the one that it has already."""
        known = next((feature for feature in self.draft.features if feature.name == column.name), None)
        if known is not None:
            return known
        side, why = guess_side(column, self.table, self.roles)
        keys: dict[str, Any] = {"name": column.name, "kind": kind, "side": side}
        notes = [f"side {side}: {why}"]
        if kind != "dense":
            notes.append(self._encode(keys, column, info))
        if info is not None and info.name in self.of_table:
            keys["table"] = self.of_table[info.name]
            notes.append(f"shares the table of '{keys['table']}', as in the model")
        elif info is not None:
            self.of_table[info.name] = column.name
        feature = DraftFeature({**keys, **more}, notes)
        self.draft.features.append(feature)
        return feature

    def _encode(self, keys: dict[str, Any], column: ColumnFacts, info: TableInfo | None) -> str:
        if column.kind in ("string", "strings"):
            keys["dtype"] = "string"
            keys["encoding"] = {"type": "vocabulary"}
            return "text, numbered anew by its sorted values: put the model's own numbers into the data instead"
        rows = info.rows if info is not None else column.high + 1
        keys["encoding"] = {"type": "identity", "size": rows}
        if info is None:
            return f"identity: the largest id is {column.high:,}; size must be the rows of the model's table"
        if column.low < 0 or column.high >= rows:
            return (
                f"identity of size {rows:,}, the rows of '{info.name}', but the ids are {column.low:,} to "
                f"{column.high:,}: map them in the data as for training"
            )
        return f"identity: ids to {column.high:,} fit the {rows:,} rows of '{info.name}'"

    def _argument(self, slot: Slot, form: str, feature: str, dtype: str, *, pad: int = 0) -> None:
        keys: dict[str, Any] = {"name": slot.name, "form": form, "feature": feature, "dtype": dtype}
        self.draft.arguments.append({**keys, "pad": pad} if pad else keys)

    def _column_of(self, name: str, among: Iterable[ColumnFacts] | None = None) -> ColumnFacts | None:
        """The column that has a name, or the one that is most like it."""
        columns = list(self.free if among is None else among)
        exact = [column for column in columns if column.name == name]
        same = [column for column in columns if words(column.name) == words(name)]
        if exact or same:
            fits = [c for c in same if c.kind != "int" or any(c.high < info.rows for info in self.signature.tables)]
            return next(iter([*exact, *fits, *same]))
        close = difflib.get_close_matches(name, [column.name for column in columns], n=1, cutoff=0.85)
        return next((column for column in columns if close and column.name == close[0]), None)

    def _by_table(self, slot: Slot) -> ColumnFacts | None:
        """A column that no name says: the first id column that fits the table which the argument is looked up in."""
        info = next((info for info in self.signature.tables if info.argument == slot.name), None)
        used = {feature.name for feature in self.draft.features}
        ids = [column for column in self.free if column.kind == "int" and column.name not in used]
        return self._fitting(info, ids) if info is not None else None

    def _table_of(self, slot: Slot, column: ColumnFacts) -> TableInfo | None:
        tables = [info for info in self.signature.tables if info.pooling is None]
        told = [info for info in tables if info.argument == slot.name]
        if told:
            return max(told, key=lambda info: info.dim)
        if any(info.argument for info in tables):
            return None
        wanted = set(words(slot.name)) | set(words(column.name))
        named = [info for info in tables if wanted & set(words(info.name))]
        fitting = sorted((info for info in tables if info.rows > column.high), key=lambda info: info.rows)
        unused = [info for info in fitting if info.name not in self.of_table]
        shared = column.kind == "ints"  # a list shares its item's table more often than not
        return next(iter([*named, *(fitting if shared else unused), *fitting]), None)
