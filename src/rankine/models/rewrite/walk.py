"""The pass over a graph that moves everything which reads ids out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import helper

from rankine.models.arguments import argument_dtype
from rankine.models.call import Argument
from rankine.models.rewrite.atoms import Atom, Atoms, argument_pattern, id_count
from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import Graph, attribute, evaluate, failures, numbered, reads, renamed
from rankine.models.rewrite.probe import LARGEST_EXACT, PROBES, ROWS, Probes, Selection
from rankine.models.rewrite.shapes import Shapes
from rankine.models.rewrite.sources import Column, Sources
from rankine.models.schema import Schema

__all__ = ["Form", "Handler", "Walk", "elements"]

_MOVED_DATA = ("Gather", "GatherElements", "GatherND")
_ARITHMETIC = ("Add", "Ceil", "Floor", "Round", "Sub")
_LAYOUT = ("Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose")
INDEX_WORK = frozenset((*_MOVED_DATA, *_ARITHMETIC, *_LAYOUT, "Cast", "Unsqueeze"))
"""Operators that move ids about, or add a constant to them; whether they do nothing else, probes show."""

_HASHING = ("Add", "Sub", "Mul", "Div", "Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
_LOOPS = ("Loop", "Scan", "If", "SequenceAt", "SequenceInsert", "SequenceConstruct", "SplitToSequence", "NonZero")
_ONE_TERM = ("Add", "Sub")
_SOME_IDS = 1000
"""Probed of a vocabulary, whose size is not known here."""


class Form(Protocol):
    """How a value is laid out: its rows first, ``-1`` for them; then the rows moved to ``axis``; its type."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def axis(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...


Handler = Callable[["Walk", onnx.NodeProto], bool]
"""Rewrites a node that reads ids; False where it is not of a form that the handler knows."""


class Walk:
    """The state of the pass.

    Every value of the original graph is one of: a constant; *index work*, a selection of the arguments' numbers, known
    by its values in the probes and not computed in the new graph; *ragged*, a part of a multi-hot feature; a *shape*,
    known in the probes and computed in the new graph; or an ordinary value of the new graph.

    Attributes:
        nodes: of the new graph so far.
        notes: what was rewritten, in sentences.
        guesses: nodes that read a matrix with ids in it, which were given zeros instead.
    """

    def __init__(self, graph: Graph, schema: Schema, shapes: Shapes, handlers: dict[str, Handler]) -> None:
        self.graph, self.schema, self.shapes = graph, schema, shapes
        self.sources = Sources(schema, graph)
        self.probes = Probes(Atoms())
        self.nodes: list[onnx.NodeProto] = []
        self.notes: list[str] = []
        self.guesses: list[str] = []
        self.index: dict[str, Selection] = {}
        self.ragged: dict[str, tuple[str, str]] = {}
        self.pending: dict[str, list[str]] = {}
        self.readers = graph.readers()
        self._handlers = handlers
        self._random = np.random.default_rng(0)

    def run(self) -> None:
        """Walk over all nodes.

        Raises:
            RewriteError: names the node that reads ids in a way that cannot be moved out.
        """
        arguments = {f"argument/{a.name}": a for a in (self.schema.call.arguments if self.schema.call else ())}
        for value in self.graph.inputs:
            self._begin(value, arguments[value.name])
        for node in self.graph.nodes:
            self._step(node)
        for name in self.graph.outputs:
            if name in self.index or name in self.ragged:
                raise RewriteError("an output of the model is made of ids only", where=name)

    # Values

    def number(self, atom: Atom) -> int:
        """The number of an atom, which gets random values for the probes."""
        number = self.probes.atoms.number(atom)
        if number == len(self.probes.random):
            rows = max(ROWS)
            size = min(id_count(self.sources.features[atom.feature]) or _SOME_IDS, LARGEST_EXACT)
            values: Any
            if atom.kind == "dense":  # with a fraction, so that rounding it is noticed; float32, so that it is exact
                values = (self._random.integers(-999, 999, rows) + 0.5).astype(np.float64)
            elif atom.kind == "id":
                values = self._random.integers(0, size, rows)
                values[:2] = size - 1, 0
            else:
                values = self._random.integers(0, 2, rows)
            self.probes.random.append(np.asarray(values, np.float64))
        return number

    def atom(self, number: int) -> Atom:
        return self.probes.atoms[number]

    def hot(self, number: int, value: int) -> int:
        """The number of the atom that says whether the id ``number`` is ``value``."""
        atom = self.atom(number)
        return self.number(Atom("hot", atom.feature, atom.position, value))

    def known(self, name: str) -> bool:
        """Whether the probes have the value."""
        return name in self.graph.constants or name in self.probes

    def settle(self, name: str, dtype: np.dtype | None = None) -> None:
        """Take a value that the probes have as index work, or, where it has numbers only, into the new graph.

        Args:
            dtype: of the value, where the probes have another one: flags have no code, and travel as integers.
        """
        constant = self.probes.constant(name)
        if constant is not None:
            self.graph.constants[name] = constant
            return
        selection = self.probes.select(name)
        if selection is None:
            raise TypeError(f"{name}: checked to be a selection before")
        self.index[name] = selection if dtype is None else replace(selection, dtype=dtype)
        kinds = {self.atom(number).kind for number in selection.atoms.ravel() if number >= 0}
        if not kinds & {"id", "hot"}:
            self.materialize(name, None)

    def materialize(self, name: str, node: onnx.NodeProto | None) -> None:
        """Compute index work in the new graph, from the features' numbers.

        Ids that stand among numbers in a matrix become zero: that nothing reads them is proved in the end.
        """
        selection = self.index.pop(name)
        found = list(elements(selection))
        if node is not None and any(self._is_id(number) for number, _ in found):
            self.guesses.append(place(node))
        hot = [self.atom(number) for number, _ in found if number >= 0 and self.atom(number).kind == "hot"]
        flags = self.sources.flags(hot)
        columns = [self._number_column(number, flags) for number, _ in found]
        self.emit(name, columns, selection, offsets=selection.offsets.ravel())

    def _is_id(self, number: int) -> bool:
        return number >= 0 and self.atom(number).kind == "id"

    def _number_column(self, number: int, flags: Mapping[Atom, Column]) -> Column:
        if number < 0 or self._is_id(number):
            return self.sources.constant(np.zeros(1))[0]
        atom = self.atom(number)
        return flags[atom] if atom.kind == "hot" else self.sources.column(atom)

    def emit(self, name: str, columns: list[Column], form: Form, *, offsets: np.ndarray | None = None) -> None:
        """Nodes that make value ``name`` of ``columns``, with ``offsets`` added, in the given form."""
        flags = self.sources.is_flags(columns)
        value, nodes = self.sources.emit(columns, flags)
        if offsets is not None and offsets.any():
            value = self._then(nodes, "Add", [value, self.graph.constant(offsets[None], np.float32)])
        if form.shape != (-1, len(columns)):
            value = self._then(nodes, "Reshape", [value, self.graph.constant(form.shape, np.int64)])
        if form.axis:
            order = [*range(1, form.axis + 1), 0, *range(form.axis + 1, len(form.shape))]
            value = self._then(nodes, "Transpose", [value], perm=order)
        if form.dtype != (np.bool_ if flags else np.float32):
            to = int(helper.np_dtype_to_tensor_dtype(np.dtype(form.dtype)))
            value = self._then(nodes, "Cast", [value], to=to)
        self.nodes += [*nodes, helper.make_node("Identity", [value], [name])]

    def _then(self, nodes: list[onnx.NodeProto], operator: str, inputs: list[str], **attributes: Any) -> str:
        result = self.graph.fresh(operator.lower())
        nodes.append(helper.make_node(operator, inputs, [result], **attributes))
        return result

    # Steps

    def _begin(self, value: onnx.ValueInfoProto, argument: Argument) -> None:
        pattern = argument_pattern(argument, self.schema, self.number)
        if pattern is None:
            self.ragged[value.name] = (str(argument.feature), argument.form)
            return
        given = len(value.type.tensor_type.shape.dim)
        if value.type.tensor_type.HasField("shape") and given != pattern.ndim + 1:
            raise RewriteError(
                f"the graph's input has {given} dimensions, the call gives it {pattern.ndim + 1}",
                where=f"call: argument '{argument.name}'",
                hint="'flat', and 'value' of ids, is (rows,); 'column' is (rows, 1), 'value' of numbers (rows, width).",
            )
        element = value.type.tensor_type.elem_type
        dtype = helper.tensor_dtype_to_np_dtype(element) if element else argument_dtype(argument, self.schema)
        self.probes.define(value.name, pattern, dtype)
        self.settle(value.name, dtype)

    def _step(self, node: onnx.NodeProto) -> None:
        node = self._without_likeness(node)
        names = list(reads(node))
        index = [name for name in names if name in self.index]
        ragged = [name for name in names if name in self.ragged]
        if node.op_type == "Shape" and not any(self.ragged[name][1] in ("values", "weights") for name in ragged):
            self._step_shape(node)
        elif ragged:
            self._step_ragged(node, ragged)
        elif names and all(self.known(name) for name in names) and self._evaluated(node, index):
            return
        elif any(name in self.index or name in self.pending for name in names):
            self._step_sink(node, index)
        else:
            self._step_other(node)

    def _without_likeness(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """``CastLike`` as a ``Cast`` where it takes the type of index work: it reads nothing else of it."""
        if node.op_type != "CastLike" or node.input[1] not in self.index:
            return node
        cast = renamed(node, {})
        cast.op_type = "Cast"
        del cast.input[1:]
        to = int(helper.np_dtype_to_tensor_dtype(self.index[node.input[1]].dtype))
        cast.attribute.append(helper.make_attribute("to", to))
        return cast

    def _step_other(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Gather" and attribute(node, "axis", 0) == 0 and node.input[0] in self.graph.constants:
            table = self.graph.constants[node.input[0]]
            if table.ndim == 2 and table.dtype.kind == "f" and node.input[1] not in self.graph.constants:
                raise RewriteError(
                    f"the table '{node.input[0]}' is looked up by '{node.input[1]}', which is not a feature",
                    where=place(node),
                    hint="Give the ids as a feature of their own, computed in the data.",
                )
        self.nodes.append(node)

    def _step_ragged(self, node: onnx.NodeProto, ragged: list[str]) -> None:
        if node.op_type in ("Identity", "Cast"):
            self.ragged[node.output[0]] = self.ragged[node.input[0]]
            return
        handler = self._handlers.get(_key(node))
        if handler is not None and handler(self, node):
            return
        features = numbered({self.ragged[name][0] for name in ragged})
        raise RewriteError(
            f"'{node.op_type}' reads the list of values of {features}",
            where=place(node),
            allowed="EmbeddingBag",
            hint=_BAG_HINT,
        )

    def _step_shape(self, node: onnx.NodeProto) -> None:
        """The shape of index work is computed from the rows of the first feature."""
        name, result = node.input[0], node.output[0]
        start, stop = attribute(node, "start", 0), attribute(node, "end")
        for probe, values in enumerate(self.probes.values):
            shape = values[name].shape if name in self.index else self.shapes.of(name, node)[PROBES[probe][1]]
            values[result] = np.array(shape, np.int64)[slice(start, stop)]
        constant = self.probes.constant(result)
        if constant is not None:
            self.graph.constants[result] = constant
        elif name in self.index or name in self.ragged:
            self._shape_from_rows(result)
        else:
            self.nodes.append(node)

    def _shape_from_rows(self, result: str) -> None:
        small, large = (self.probes.values[3 * size][result] for size in range(2))
        per_row = (large - small) // (ROWS[1] - ROWS[0])
        fixed = small - per_row * ROWS[0]
        first = self.schema.features[0].name
        rows, scaled = self.graph.fresh("shape"), self.graph.fresh("shape")
        self.nodes += [
            helper.make_node("Shape", [first], [rows], start=0, end=1),
            helper.make_node("Mul", [rows, self.graph.constant(per_row, np.int64)], [scaled]),
            helper.make_node("Add", [scaled, self.graph.constant(fixed, np.int64)], [result]),
        ]

    def _evaluated(self, node: onnx.NodeProto, index: list[str]) -> bool:
        """Run a node on the probes; whether that settles it."""
        if index and (node.op_type not in INDEX_WORK or node.domain not in ("", "ai.onnx")):
            return False
        if index and node.op_type in _MOVED_DATA and node.input[0] not in index:
            return False  # a lookup
        if len(set(index)) > 1 and node.op_type in _ONE_TERM:
            return False
        names = list(reads(node))
        try:
            for probe, values in enumerate(self.probes.values):
                feeds = self.probes.feeds(probe, names, self.graph.constants)
                with np.errstate(all="ignore"):
                    values.update(evaluate(node, feeds, self.graph.opset))
        except failures:
            return False
        outputs = [name for name in node.output if name]
        if not index:
            return self._settle_shape(node, outputs)
        if any(self.probes.constant(name) is None and self.probes.select(name) is None for name in outputs):
            for values in self.probes.values:
                for name in outputs:
                    del values[name]
            return False
        flags = node.op_type != "Cast" and self.index[index[0]].dtype == np.bool_
        for name in outputs:
            self.settle(name, np.dtype(np.bool_) if flags else None)
        return True

    def _settle_shape(self, node: onnx.NodeProto, outputs: list[str]) -> bool:
        """What is made of shapes stays in the graph, unless it is the same for any number of rows."""
        constants = {name: self.probes.constant(name) for name in outputs}
        if all(value is not None for value in constants.values()):
            self.graph.constants.update({name: value for name, value in constants.items() if value is not None})
        else:
            self.nodes.append(node)
        return True

    def _step_sink(self, node: onnx.NodeProto, index: list[str]) -> None:
        handler = self._handlers.get(_key(node))
        if handler is not None and handler(self, node):
            return
        for name in dict.fromkeys(index):
            self._check_numbers(name, node)
            self.materialize(name, node)
        for name in dict.fromkeys(name for name in reads(node) if name in self.pending):
            raise TypeError(f"{name}: only read by nodes that were checked to take it apart")
        self.nodes.append(node)

    def _check_numbers(self, name: str, node: onnx.NodeProto) -> None:
        """Refuse a node that reads ids, unless they stand among numbers in a matrix and may not matter."""
        atoms = [self.atom(number) for number, _ in elements(self.index[name]) if number >= 0]
        ids = {atom.feature for atom in atoms if atom.kind == "id"}
        loops = node.op_type in _LOOPS
        if not ids or (not loops and any(atom.kind not in ("id", "hot") for atom in atoms)):
            return
        if loops:
            what, hint = f"'{node.op_type}' depends on the ids of {numbered(ids)}", _BAG_HINT
        elif node.op_type == "EmbeddingBag":
            what = f"an EmbeddingBag pools the ids of {numbered(ids)}, which are no list of values"
            hint = "Make it a multi_hot feature, given to the model as values and offsets."
        elif node.op_type in _MOVED_DATA:
            what = f"'{node.op_type}' looks up the ids of {numbered(ids)} in something that is not a constant table"
            hint = "A table must be a weight of the model: export it in eval mode, with its weights."
        elif node.op_type in _HASHING:
            what = f"'{node.op_type}' computes with the ids of {numbered(ids)}"
            hint = "Compute hashed and crossed ids in the data, as features of their own; numbers as dense features."
        else:
            what = f"'{node.op_type}' reads the ids of {numbered(ids)} as numbers"
            hint = "Look the ids up in an nn.Embedding, or give the values as a dense feature of their own."
        raise RewriteError(what, where=place(node), allowed="lookups, one-hot encodings, masks of padding", hint=hint)


_BAG_HINT = (
    "Bring the nn.Module or the .pt2 file instead of this ONNX file: there an EmbeddingBag is still one operator."
)


def elements(selection: Selection) -> Iterator[tuple[int, float]]:
    for number, offset in zip(selection.atoms.ravel(), selection.offsets.ravel(), strict=True):
        yield int(number), float(offset)


def _key(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
