"""Random graphs of the operators of ranking models, with random sides, and rows for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rankine.compilation.binding import Binding, SplitModel
from rankine.compilation.binding.run import Evaluate, run_split
from rankine.compilation.engines.reference import widen

SIDES = (Binding.CATALOG, Binding.REQUEST, Binding.CANDIDATE)


@dataclass
class Sketch:
    """A graph as it is drawn; ``values`` are its values with the sizes of one row."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, tuple[int, ...]] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)

    def feature(self, name: str, width: int) -> str:
        self.widths[name] = width
        self.values[name] = (width,)
        return name

    def constant(self, values: object, dtype: object = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)  # type: ignore[arg-type]
        return name

    def sizes(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape) / np.sqrt(shape[0]))

    def node(self, operator: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        self.values[name] = shape
        return name

    def pick(self, rank: int, wanted: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> str | None:
        """A value of so many axes beside that of the rows."""
        found = [name for name, shape in self.values.items() if len(shape) == rank and wanted(shape)]
        return str(self.random.choice(found)) if found else None

    def model(self, output: str) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", w]) for n, w in self.widths.items()]
        result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", *self.values[output]])
        nodes = [*self.nodes, helper.make_node("Identity", [output], ["logits"])]
        constants = [numpy_helper.from_array(values, name) for name, values in self.constants.items()]
        graph = helper.make_graph(nodes, "sketch", inputs, [result], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


@dataclass(frozen=True)
class Rows:
    """Rows of several requests over several items, by when they are known."""

    columns: Mapping[Binding, Mapping[str, np.ndarray]]
    item_index: np.ndarray
    request_index: np.ndarray

    def gathered(self) -> dict[str, np.ndarray]:
        """What the unsplit graph reads."""
        index = {
            Binding.CATALOG: self.item_index,
            Binding.REQUEST: self.request_index,
            Binding.CANDIDATE: np.arange(len(self.item_index)),
        }
        return {name: values[index[side]] for side, own in self.columns.items() for name, values in own.items()}

    def split(self, split: SplitModel, evaluate: Evaluate | None = None) -> np.ndarray:
        return run_split(
            split,
            item=self.columns[Binding.CATALOG],
            request=self.columns[Binding.REQUEST],
            row=self.columns[Binding.CANDIDATE],
            item_index=self.item_index,
            request_index=self.request_index,
            evaluate=evaluate,
        )


def random_rows(model: onnx.ModelProto, sides: Mapping[str, Binding], rows: int, seed: int) -> Rows:
    """``rows`` rows; items and requests occur several times, or not at all."""
    random = np.random.default_rng([seed, rows])
    counts = {Binding.CATALOG: 7, Binding.REQUEST: 3, Binding.CANDIDATE: rows}
    columns: dict[Binding, dict[str, np.ndarray]] = {side: {} for side in SIDES}
    for value in model.graph.input:
        width, side = value.type.tensor_type.shape.dim[1].dim_value, sides[value.name]
        columns[side][value.name] = random.normal(size=(counts[side], width)).astype(np.float32)
    return Rows(columns, random.integers(0, 7, rows), np.sort(random.integers(0, 3, rows)))


def in_float64(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """A graph evaluated by ONNX's own reference, every float of it in float64."""
    wide = {name: values.astype(np.float64) for name, values in feeds.items()}
    return [np.asarray(result) for result in ReferenceEvaluator(widen(model)).run(None, wide)]  # type: ignore[union-attr]


def random_graph(seed: int) -> tuple[onnx.ModelProto, dict[str, Binding]]:
    """A graph of 4 to 18 random steps over 3 to 8 features, and when each of them is known."""
    random = np.random.default_rng(seed)
    sketch = Sketch(random)
    sides = {}
    for number in range(random.integers(3, 9)):
        name = sketch.feature(f"f{number}", int(random.choice([1, 2, 4, 4, 8])))
        sides[name] = SIDES[random.choice(3, p=[0.4, 0.4, 0.2])]
    steps = list(STEPS)
    for _ in range(random.integers(4, 19)):
        steps[random.choice(len(steps), p=_SHARES)](sketch)
    last = [name for name in list(sketch.values)[-6:] if len(sketch.values[name]) == 1] + ["f0"]
    joined = sketch.node("Concat", last, (sum(sketch.values[name][0] for name in last),), axis=1)
    bias = sketch.weight(2)
    head = sketch.node("Gemm", [joined, sketch.weight(sketch.values[joined][0], 2), bias], (2,))
    return sketch.model(head), sides


def _join(sketch: Sketch) -> None:
    names = [name for name, shape in sketch.values.items() if len(shape) == 1]
    chosen = sketch.random.choice(names, size=min(len(names), sketch.random.integers(2, 6)), replace=False)
    width = sum(sketch.values[name][0] for name in chosen)
    if width <= 64:
        sketch.node("Concat", [str(name) for name in chosen], (width,), axis=int(sketch.random.choice([1, -1])))


def _layer(sketch: Sketch) -> None:
    source = sketch.pick(1) or "f0"
    width, out = sketch.values[source][0], int(sketch.random.integers(1, 9))
    if sketch.random.random() < 0.5:
        product = sketch.node("MatMul", [source, sketch.weight(width, out)], (out,))
        sketch.node("Add", [product, sketch.weight(out)], (out,))
    else:
        weight = sketch.constant(sketch.random.normal(size=(out, width)) / np.sqrt(width))
        sketch.node("Gemm", [source, weight, sketch.weight(out)], (out,), transB=1)


def _activation(sketch: Sketch) -> None:
    source = sketch.pick(int(sketch.random.integers(1, 3))) or "f0"
    operator = str(sketch.random.choice(["Relu", "Sigmoid", "Tanh", "Neg", "Abs"]))
    sketch.node(operator, [source], sketch.values[source])


def _softmax(sketch: Sketch) -> None:
    source = sketch.pick(1) or "f0"
    sketch.node("Softmax", [source], sketch.values[source], axis=-1)


def _pairing(sketch: Sketch) -> None:
    left = sketch.pick(int(sketch.random.integers(1, 3))) or "f0"
    shape = sketch.values[left]
    right = sketch.pick(len(shape), lambda other: other == shape)
    if right is not None:
        sketch.node(str(sketch.random.choice(["Add", "Sub", "Mul"])), [left, right], shape)


def _scaling(sketch: Sketch) -> None:
    source = sketch.pick(1) or "f0"
    shape = sketch.values[source]
    factor = sketch.weight(shape[0]) if sketch.random.random() < 0.5 else sketch.constant(0.5)
    sketch.node(str(sketch.random.choice(["Mul", "Add"])), [source, factor], shape)


def _selection(sketch: Sketch) -> None:
    source = sketch.pick(1, lambda shape: shape[0] > 2) or ""
    if not source:
        return
    width = sketch.values[source][0]
    if sketch.random.random() < 0.5:
        places = sketch.random.integers(0, width, sketch.random.integers(1, width + 1))
        sketch.node("Gather", [source, sketch.constant(places, np.int64)], (len(places),), axis=1)
    else:
        first = int(sketch.random.integers(0, width - 1))
        cut = [sketch.sizes(first), sketch.sizes(2**31), sketch.sizes(1)]
        sketch.node("Slice", [source, *cut], (width - first,))


def _vectors(sketch: Sketch) -> None:
    """Columns to vectors, and what is done with vectors: sums, products of all pairs, and back."""
    source = sketch.pick(1, lambda shape: shape[0] % 2 == 0 and shape[0] > 2) or ""
    if not source:
        return
    width = sketch.values[source][0]
    count = width // 2
    vectors = sketch.node("Reshape", [source, _target(sketch, source, count, 2)], (count, 2))
    if sketch.random.random() < 0.5:
        sketch.node("ReduceSum", [vectors, sketch.sizes(int(sketch.random.choice([1, 2, -1])))], (0,), keepdims=0)
        axis = int(sketch.constants[sketch.nodes[-1].input[1]][0])
        sketch.values[sketch.nodes[-1].output[0]] = (2,) if axis == 1 else (count,)
    if sketch.random.random() < 0.7:
        turned = sketch.node("Transpose", [vectors], (2, count), perm=[0, 2, 1])
        products = sketch.node("MatMul", [vectors, turned], (count, count))
        flat = sketch.node("Reshape", [products, sketch.sizes(-1, count * count)], (count * count,))
        row, column = np.tril_indices(count, -1)
        if len(row):
            pairs = sketch.constant(row * count + column, np.int64)
            sketch.node("Gather", [flat, pairs], (len(row),), axis=1)


def _machine(sketch: Sketch) -> None:
    """The second order of a factorization machine."""
    source = sketch.pick(1, lambda shape: shape[0] % 2 == 0) or ""
    if not source:
        return
    count = sketch.values[source][0] // 2
    vectors = sketch.node("Reshape", [source, sketch.sizes(-1, count, 2)], (count, 2))
    one = sketch.sizes(1)
    total = sketch.node("ReduceSum", [vectors, one], (2,), keepdims=0)
    square = sketch.node("Mul", [total, total], (2,))
    squares = sketch.node("Mul", [vectors, vectors], (count, 2))
    summed = sketch.node("ReduceSum", [squares, one], (2,), keepdims=0)
    difference = sketch.node("Sub", [square, summed], (2,))
    order = sketch.node("ReduceSum", [difference, one], (1,), keepdims=1)
    sketch.node("Mul", [order, sketch.constant(0.5)], (1,))


def _attention(sketch: Sketch) -> None:
    """DIN: an MLP over ``[k, q - k, q * k]`` for each key."""
    keys = sketch.pick(1, lambda shape: shape[0] in (4, 8)) or ""
    query = sketch.pick(1, lambda shape: shape[0] == 2) or ""
    if not keys or not query:
        return
    length = sketch.values[keys][0] // 2
    rows = sketch.node("Reshape", [keys, sketch.sizes(-1, length, 2)], (length, 2))
    asked = sketch.node("Unsqueeze", [query, sketch.sizes(1)], (1, 2))
    difference = sketch.node("Sub", [asked, rows], (length, 2))
    product = sketch.node("Mul", [asked, rows], (length, 2))
    joined = sketch.node("Concat", [rows, difference, product], (length, 6), axis=2)
    flat = sketch.node("Reshape", [joined, sketch.sizes(-1, 6)], (length, 6))
    hidden = sketch.node("Gemm", [flat, sketch.weight(6, 3)], (length, 3))
    apart = sketch.node("Reshape", [hidden, sketch.sizes(-1, length, 3)], (length, 3))
    for name in (flat, hidden):
        del sketch.values[name]  # rows folded with positions
    active = sketch.node("Relu", [apart], (length, 3))
    weight = sketch.node("MatMul", [active, sketch.weight(3, 1)], (length, 1))
    turned = sketch.node("Transpose", [weight], (1, length), perm=[0, 2, 1])
    pooled = sketch.node("MatMul", [turned, rows], (1, 2))
    sketch.node("Squeeze", [pooled, sketch.sizes(1)], (2,))


def _cross(sketch: Sketch) -> None:
    source = sketch.pick(1, lambda shape: shape[0] <= 32) or ""
    if not source:
        return
    width = sketch.values[source][0]
    product = sketch.node("Gemm", [source, sketch.weight(width, width), sketch.weight(width)], (width,))
    crossed = sketch.node("Mul", [source, product], (width,))
    sketch.node("Add", [crossed, source], (width,))


def _rounded_layer(sketch: Sketch) -> None:
    """Activations u8, per tensor; weights s8, per column."""
    source = sketch.pick(1) or "f0"
    width, out = sketch.values[source][0], int(sketch.random.integers(1, 9))
    scale, zero = sketch.constant(0.03), sketch.constant(128, np.uint8)
    codes = sketch.node("QuantizeLinear", [source, scale, zero], (width,))
    del sketch.values[codes]
    value = sketch.node("DequantizeLinear", [codes, scale, zero], (width,))
    weight = sketch.constant(sketch.random.integers(-127, 128, (out, width)), np.int8)
    scales = [sketch.constant(sketch.random.random(out) / 200 + 1e-3), sketch.constant(np.zeros(out), np.int8)]
    matrix = sketch.node("DequantizeLinear", [weight, *scales], (out, width), axis=0)
    del sketch.values[matrix]
    sketch.node("Gemm", [value, matrix, sketch.weight(out)], (out,), transB=1)


def _mixing(sketch: Sketch) -> None:
    """What mixes rows: it must be kept whole."""
    source = sketch.pick(1) or "f0"
    shape = sketch.values[source]
    if sketch.random.random() < 0.5:
        sketch.node("Softmax", [source], shape, axis=0)
    else:
        mean = sketch.node("ReduceMean", [source, sketch.sizes(0)], shape, keepdims=1)
        del sketch.values[mean]
        sketch.node("Sub", [source, mean], shape)


def _target(sketch: Sketch, source: str, count: int, width: int) -> str:
    """The target of a reshape, as a constant or computed from the number of rows, as exporters do."""
    if sketch.random.random() < 0.5:
        return sketch.sizes(-1, count, width)
    shape = sketch.node("Shape", [source], (2,))
    rows = sketch.node("Gather", [shape, sketch.sizes(0)], (1,), axis=0)
    for name in (shape, rows):
        del sketch.values[name]
    target = sketch.node("Concat", [rows, sketch.sizes(count, width)], (3,), axis=0)
    del sketch.values[target]
    return target


STEPS: Mapping[Callable[[Sketch], None], float] = {
    _join: 5,
    _layer: 3,
    _activation: 2,
    _softmax: 0.5,
    _pairing: 3,
    _scaling: 1,
    _selection: 1.5,
    _vectors: 2,
    _machine: 1.5,
    _attention: 1.5,
    _cross: 1.5,
    _rounded_layer: 1,
    _mixing: 0.25,
}
_SHARES = np.array(list(STEPS.values())) / sum(STEPS.values())
