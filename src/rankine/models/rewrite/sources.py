"""What the rewritten graph reads: the features' inputs, cut into the parts that its nodes take from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
from onnx import helper

from rankine.models.rewrite.atoms import Atom, id_count
from rankine.models.rewrite.errors import RewriteError
from rankine.models.rewrite.graph import Graph
from rankine.models.schema import DenseFeature, Feature, Schema, SequenceFeature, TableFeature
from rankine.models.transforms import table_of

__all__ = ["Block", "Column", "Sources"]

_MOST_FLAGS = 4096

Column = tuple[str, int]
"""A column of a value ``(rows, width)``: the value's name and the column."""


@dataclass(frozen=True, eq=False)
class Block:
    """Columns of a table that one lookup reads: rows ``offset`` and on of ``rows``.

    Attributes:
        source: of the rows; blocks of one source and offset are one.
        rows: ``(vocabulary, width)``, of which the table keeps those that the feature's ids reach.
        made: whether the rewrite made the rows: then rows that it lacks are zero.
    """

    source: str
    rows: np.ndarray
    offset: int = 0
    made: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.source, self.offset

    @property
    def width(self) -> int:
        return int(self.rows.shape[1])


class Sources:
    """Collects which parts of the inputs are read, then defines them."""

    def __init__(self, schema: Schema, graph: Graph) -> None:
        self.features: dict[str, Feature] = {feature.name: feature for feature in schema.features}
        self.pads = {name: 0 for name, f in self.features.items() if f.kind == "sequence"} | schema.padding
        self._graph = graph
        self._blocks: dict[str, dict[tuple[str, int], Block]] = {}  # by feature
        self._constants: dict[str, np.ndarray] = {}
        self._flag_sets: dict[tuple[int, ...], int] = {}
        self._parts: set[tuple[str, str]] = set()

    def table_feature(self, name: str) -> TableFeature:
        feature = self.features[name]
        if isinstance(feature, DenseFeature):
            raise TypeError(f"{name}: a dense feature has no table")
        return feature

    def lookup(self, feature: str, block: Block, position: int = 0) -> list[Column]:
        """The columns with the row of one id."""
        block = self._blocks.setdefault(feature, {}).setdefault(block.key, block)
        name = _block_name(feature, block)
        return [(name, position * block.width + column) for column in range(block.width)]

    def column(self, atom: Atom) -> Column:
        """The column with a number; not for ids, nor for flags of ids."""
        match atom.kind:
            case "dense":
                return atom.feature, atom.position
            case "length" | "mask" | "blank":
                self._parts.add((atom.feature, atom.kind))
                return _part_name(atom.feature, atom.kind), atom.position
            case _:
                raise TypeError(f"{atom}: an id is not a number")

    def constant(self, values: np.ndarray) -> list[Column]:
        """Columns that hold the same values in every row."""
        name = self._graph.fresh("rows")
        self._constants[name] = np.asarray(values, np.float32).reshape(1, -1)
        return [(name, column) for column in range(self._constants[name].shape[1])]

    def flags(self, hot: Iterable[Atom]) -> dict[Atom, Column]:
        """Columns that are 1 where an id has a value, else 0: they become columns of the features' tables.

        Raises:
            RewriteError: there are too many.
        """
        wanted: dict[tuple[str, int], set[int]] = {}
        for atom in hot:
            wanted.setdefault((atom.feature, atom.position), set()).add(atom.value)
        found: dict[Atom, Column] = {}
        for (feature, position), values in wanted.items():
            ids = sorted(value for value in values if value >= 0)
            if len(ids) > _MOST_FLAGS:
                raise RewriteError(
                    "is one-hot encoded and not multiplied with a matrix",
                    where=feature,
                    got=f"{len(ids)} ids",
                    allowed=f"at most {_MOST_FLAGS}",
                    hint="Multiply the one-hot vector with a weight, or write it as nn.Embedding.",
                )
            rows = np.zeros((max(ids, default=0) + 1, max(len(ids), 1)), np.float32)
            rows[ids, np.arange(len(ids))] = 1
            source = f"rankine/flags/{self._flag_sets.setdefault(tuple(ids), len(self._flag_sets))}"
            columns = self.lookup(feature, Block(source, rows, made=True), position)
            found |= {
                Atom("hot", feature, position, value): column for value, column in zip(ids, columns, strict=False)
            }
            for value in values - set(ids):  # no id is negative
                found[Atom("hot", feature, position, value)] = self.constant(np.zeros(1))[0]
        return found

    def emit(self, columns: Sequence[Column], flags: bool = False) -> tuple[str, list[onnx.NodeProto]]:
        """The name of a value ``(rows, len(columns))`` of these columns, and the nodes that make it.

        Args:
            flags: the columns are masks, and stay boolean.
        """
        nodes, parts = [], []
        for name, start, stop in _runs(columns):
            part = name if flags or not self._is_flag(name) else f"{name}/number"
            if (start, stop) != (0, self._width(name)):
                part = self._graph.fresh("columns")
                source = name if flags or not self._is_flag(name) else f"{name}/number"
                nodes.append(self._slice(source, part, start, stop))
            parts.append(part)
        if len(parts) == 1:
            return parts[0], nodes
        joined = self._graph.fresh("joined")
        nodes.append(helper.make_node("Concat", parts, [joined], axis=1))
        return joined, nodes

    def is_flags(self, columns: Iterable[Column]) -> bool:
        """Whether all columns are masks."""
        return all(self._is_flag(name) for name, _ in columns)

    def _is_flag(self, name: str) -> bool:
        return name.startswith(("mask/", "blank/"))

    def _width(self, name: str) -> int:
        if name in self._constants:
            return int(self._constants[name].shape[1])
        kind, _, rest = name.partition("/")
        feature = self.features.get(rest.partition("/")[0] or kind)
        if isinstance(feature, DenseFeature):
            return feature.width
        if kind in ("mask", "blank") and isinstance(feature, SequenceFeature):
            return feature.max_length
        if kind == "length" or feature is None:
            return 1
        block = next(block for block in self._blocks[feature.name].values() if _block_name(feature.name, block) == name)
        return block.width * (feature.max_length if isinstance(feature, SequenceFeature) else 1)

    def _slice(self, source: str, result: str, start: int, stop: int, axis: int = 1) -> onnx.NodeProto:
        bounds = [self._graph.constant([bound], np.int64) for bound in (start, stop, axis)]
        return helper.make_node("Slice", [source, *bounds], [result])

    def finish(self) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray], dict[str, int]]:
        """The nodes that define what :meth:`emit` named, the tables, and the width of every input.

        Raises:
            RewriteError: features that share a table do not read the same one, or a table is too small.
        """
        tables, blocks = self._tables()
        widths, nodes = {}, []
        for feature in self.features.values():
            if isinstance(feature, DenseFeature):
                widths[feature.name] = feature.width
                continue
            table = tables[table_of(feature)]
            length = feature.max_length if isinstance(feature, SequenceFeature) else None
            widths[feature.name] = table.shape[1] if length is None else length * table.shape[1] + 1
            if length is not None:
                nodes += self._sequence_parts(feature.name, length, widths[feature.name])
            start = 0
            for block in blocks[table_of(feature)]:
                if block.key in self._blocks.get(feature.name, {}):
                    nodes += self._define(feature, block, start, table.shape[1])
                start += block.width
        return [*self._constant_rows(), *nodes], tables, widths

    def _define(self, feature: Feature, block: Block, start: int, width: int) -> list[onnx.NodeProto]:
        """The columns of one block: ``(rows, width)``, of a sequence ``(rows, max_length * width)``."""
        result, stop = _block_name(feature.name, block), start + block.width
        if not isinstance(feature, SequenceFeature):
            if block.width == width:
                return [helper.make_node("Identity", [feature.name], [result])]
            return [self._slice(feature.name, result, start, stop)]
        flat, fresh = feature.max_length * width, self._graph.fresh
        pad = self._pad_row(feature.name, block)
        if block.width == width and pad is None:
            return [self._slice(feature.name, result, 0, flat)]
        embedded, shaped, cut, filled = (fresh(what) for what in ("embedded", "shaped", "cut", "filled"))
        nodes = [
            self._slice(feature.name, embedded, 0, flat),
            helper.make_node(
                "Reshape", [embedded, self._graph.constant([-1, feature.max_length, width], np.int64)], [shaped]
            ),
            self._slice(shaped, cut, start, stop, axis=2),
        ]
        last = cut
        if pad is not None:  # the lookup pads with zeros, the model with a row of its table
            mask = fresh("mask")
            inside = _part_name(feature.name, "mask")
            nodes += [
                helper.make_node("Unsqueeze", [inside, self._graph.constant([2], np.int64)], [mask]),
                helper.make_node("Where", [mask, cut, self._graph.constant(pad, np.float32)], [filled]),
            ]
            last = filled
        shape = self._graph.constant([-1, feature.max_length * block.width], np.int64)
        return [*nodes, helper.make_node("Reshape", [last, shape], [result])]

    def _pad_row(self, feature: str, block: Block) -> np.ndarray | None:
        at = self.pads[feature] + block.offset
        if not -len(block.rows) <= at < len(block.rows):
            if block.made:
                return None
            raise RewriteError(
                "the id that fills it up is not in the table",
                where=feature,
                got=f"{self.pads[feature]}",
                allowed=f"0..{len(block.rows) - 1 - block.offset}",
                hint="Set 'pad' under 'call' to the id that the model was trained with.",
            )
        row: np.ndarray = block.rows[at]
        if not row.any():
            return None
        self._parts.add((feature, "mask"))
        return row

    def _sequence_parts(self, feature: str, length: int, width: int) -> list[onnx.NodeProto]:
        """Length ``(rows, 1)`` and masks ``(rows, length)``; what nothing reads is dropped later."""
        count, mask, blank = (_part_name(feature, part) for part in ("length", "mask", "blank"))
        positions = self._graph.constant(np.arange(length, dtype=np.float32)[None])
        to_float = int(onnx.TensorProto.FLOAT)
        return [
            self._slice(feature, count, width - 1, width),
            helper.make_node("Less", [positions, count], [mask]),
            helper.make_node("Not", [mask], [blank]),
            *(helper.make_node("Cast", [name], [f"{name}/number"], to=to_float) for name in (mask, blank)),
        ]

    def _constant_rows(self) -> list[onnx.NodeProto]:
        """Constants ``(rows, width)``: as many rows as the first input has."""
        if not self._constants:
            return []
        first, shape, rows = next(iter(self.features)), self._graph.fresh("shape"), self._graph.fresh("shape")
        nodes = [
            helper.make_node("Shape", [first], [shape], start=0, end=1),
            helper.make_node("Concat", [shape, self._graph.constant([1], np.int64)], [rows], axis=0),
        ]
        for name, values in self._constants.items():
            nodes.append(helper.make_node("Expand", [self._graph.constant(values), rows], [name]))
        return nodes

    def _tables(self) -> tuple[dict[str, np.ndarray], dict[str, list[Block]]]:
        users: dict[str, list[TableFeature]] = {}
        for feature in self.features.values():
            if not isinstance(feature, DenseFeature):
                users.setdefault(table_of(feature), []).append(feature)
        tables, blocks = {}, {}
        starts = self._starts()
        for table, features in users.items():
            self._check_shared(table, features)
            own: dict[tuple[str, int], Block] = {}
            for feature in features:
                own |= self._blocks.get(feature.name, {})
            blocks[table] = list(own.values())
            tables[table] = _assembled(features[0], blocks[table], starts)
        return tables, blocks

    def _starts(self) -> dict[str, list[int]]:
        """By source, at which rows blocks begin: a block of unknown size ends where the next one begins."""
        found: dict[str, set[int]] = {}
        for used in self._blocks.values():
            for source, offset in used:
                found.setdefault(source, set()).add(offset)
        return {source: sorted(offsets) for source, offsets in found.items()}

    def _check_shared(self, table: str, features: list[TableFeature]) -> None:
        for first, second in pairwise(features):
            one, other = (
                {key for key, block in self._blocks.get(feature.name, {}).items() if not block.made}
                for feature in (first, second)
            )
            if one and other and not one & other:
                raise RewriteError(
                    f"features '{first.name}' and '{second.name}' share it in the schema, but not in the model",
                    where=f"table '{table}'",
                    got=" and ".join(f"'{min(keys)[0]}' from row {min(keys)[1]}" for keys in (one, other)),
                    hint="Give each of them its own table: leave out 'table' in the schema.",
                )


def _block_name(feature: str, block: Block) -> str:
    return f"lookup/{feature}/{block.source}/{block.offset}"


def _part_name(feature: str, part: str) -> str:
    return f"{part}/{feature}"


def _runs(columns: Sequence[Column]) -> list[tuple[str, int, int]]:
    """Neighboring columns of one source as ``(source, start, stop)``."""
    runs: list[tuple[str, int, int]] = []
    for name, column in columns:
        if runs and runs[-1][0] == name and runs[-1][2] == column:
            runs[-1] = (name, runs[-1][1], column + 1)
        else:
            runs.append((name, column, column + 1))
    return runs


def _assembled(feature: TableFeature, blocks: list[Block], starts: dict[str, list[int]]) -> np.ndarray:
    """The blocks side by side, ``(vocabulary, dim)`` float32."""
    size = id_count(feature)
    if not blocks:
        if size is None:
            hint = "Give it encoding identity with its size, or remove it from the schema."
            raise RewriteError("the model does not read this feature", where=feature.name, hint=hint)
        return np.zeros((size, 1), np.float32)
    if size is None:
        size = _measured(feature, blocks, starts)
    return np.ascontiguousarray(np.concatenate([_cut(feature, block, size) for block in blocks], axis=1), np.float32)


def _measured(feature: TableFeature, blocks: list[Block], starts: dict[str, list[int]]) -> int:
    """The ids of a vocabulary: as many as the rows up to the next feature's, or to the table's end."""
    sizes = set()
    for block in blocks:
        if not block.made:
            following = [start for start in starts[block.source] if start > block.offset]
            sizes.add(min([*following, len(block.rows)]) - block.offset)
    if not sizes:
        return max(len(block.rows) for block in blocks)
    if len(sizes) > 1:
        raise RewriteError(
            "is looked up in tables of different sizes",
            where=feature.name,
            got=", ".join(str(size) for size in sorted(sizes)),
            hint="Give it encoding identity with its size.",
        )
    return sizes.pop()


def _cut(feature: TableFeature, block: Block, size: int) -> np.ndarray:
    """Rows of ids ``0..size - 1``."""
    if block.made:
        rows = np.zeros((size, block.width), np.float32)
        rows[: len(block.rows)] = block.rows[:size]
        return rows
    if block.offset + size > len(block.rows) or block.offset < -len(block.rows):
        raise RewriteError(
            f"the schema has {size} ids, its table in the model has fewer rows",
            where=feature.name,
            got=f"'{block.source}' has {len(block.rows)} rows"
            + (f", the feature begins at row {block.offset}" if block.offset else ""),
            allowed=f"a size of at most {len(block.rows) - block.offset}",
            hint="Correct 'size' of the feature's encoding.",
        )
    if block.offset < 0:  # such as id - 1: ONNX counts negative rows from the end
        return block.rows[np.arange(block.offset, block.offset + size)]
    return block.rows[block.offset : block.offset + size]
