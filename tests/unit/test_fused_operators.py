"""Every operator that the native engine's compiler knows, by itself, against ONNX's own reference."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from unit.fused_graphs import Weights, graph_of, proved, sizes

W, X = {"x": 12}, {"x": 12, "y": 12}
HALVES = "p = Abs(x) q = Add(p, one)"
ONE = {"one": np.float32([1.0])}


@dataclass(frozen=True)
class Case:
    body: str
    widths: dict[str, int] = field(default_factory=lambda: dict(W))
    weights: Weights = field(default_factory=dict)


SINGLE = {
    operator: Case(f"logits = {operator}(x)")
    for operator in (
        *("Abs", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "Identity", "LeakyRelu", "LogSoftmax", "Neg", "Relu"),
        *("Sigmoid", "Softmax", "Softplus", "Tanh"),
    )
} | {
    "Log": Case(f"{HALVES} logits = Log(q)", weights=ONE),
    "Sqrt": Case(f"{HALVES} logits = Sqrt(q)", weights=ONE),
    "Reciprocal": Case(f"{HALVES} logits = Reciprocal(q)", weights=ONE),
    "Elu alpha": Case("logits = Elu<alpha = 0.3>(x)"),
    "LeakyRelu alpha": Case("logits = LeakyRelu<alpha = 0.3>(x)"),
    "Clip": Case("logits = Clip(x, low, high)", weights={"low": np.float32(-0.5), "high": np.float32(0.25)}),
    "Clip low": Case("logits = Clip(x, low)", weights={"low": np.float32(-0.5)}),
    "Clip zero": Case("logits = Clip(x, low)", weights={"low": np.float32(0)}),
    "Dropout": Case("logits = Dropout(x)"),
}
PAIRS = {
    operator: Case(f"logits = {operator}(x, y)", dict(X)) for operator in ("Add", "Sub", "Mul", "Max", "Min", "Sum")
} | {
    "Div": Case(f"{HALVES} logits = Div(y, q)", dict(X), ONE),
    "Pow": Case(f"{HALVES} logits = Pow(q, y)", dict(X), ONE),
    "Pow 2": Case("logits = Pow(x, two)", weights={"two": np.float32(2)}),
    "Pow 3": Case("logits = Pow(x, three)", weights={"three": np.float32(3)}),
    "Pow 0.5": Case("p = Abs(x) logits = Pow(p, half)", weights={"half": np.float32([0.5])}),
    "Pow -1": Case(f"{HALVES} logits = Pow(q, minus)", weights={"minus": np.float32(-1)} | ONE),
    "Pow 1": Case("logits = Pow(x, one)", weights=ONE),
    "Add column": Case("logits = Add(x, y)", {"x": 12, "y": 1}),
    "Mul constant": Case("logits = Mul(c, x)", weights={"c": (12,)}),
    "Sub constant": Case("logits = Sub(c, x)", weights={"c": (1, 12)}),
    "Max of three": Case("logits = Max(x, y, c)", dict(X), {"c": (12,)}),
    "PRelu": Case("logits = PRelu(x, c)", weights={"c": (1, 12)}),
    "PRelu of a value": Case("logits = PRelu(x, y)", dict(X)),
    "same operand": Case("logits = Mul(x, x)"),
}
LOGIC = {
    operator: Case(f"c = {operator}(x, y) logits = Cast<to = 1>(c)", dict(X))
    for operator in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
} | {
    "And, Or, Not": Case(
        "a = Less(x, y) b = Greater(x, half) c = And(a, b) d = Not(c) e = Or(d, a) logits = Cast<to = 1>(e)",
        dict(X),
        {"half": np.float32(0.5)},
    ),
    "Cast to bool": Case("a = Relu(x) b = Cast<to = 9>(a) logits = Cast<to = 1>(b)"),
    "CastLike": Case("a = Less(x, y) logits = CastLike(a, x)", dict(X)),
    "Where": Case("a = Less(x, y) logits = Where(a, x, y)", dict(X)),
    "Where of a constant": Case("a = Less(x, y) logits = Where(a, x, c)", dict(X), {"c": np.float32(-9)}),
    "Where broadcast": Case("a = Less(y, c) logits = Where(a, x, y)", {"x": 12, "y": 1}, {"c": np.float32(0)}),
    "constant bool": Case("a = Less(x, y) b = And(a, c) logits = Cast<to = 1>(b)", dict(X), {"c": np.arange(12) > 5}),
}
VECTORS = "v = Reshape(x, shape)"
SHAPE = {"shape": sizes(-1, 3, 4)}
BACK = {"flat": sizes(-1, 12)}
MOVES = {
    "Transpose": Case(f"{VECTORS} t = Transpose<perm = [0, 2, 1]>(v) logits = Reshape(t, flat)", weights=SHAPE | BACK),
    "Transpose of rows": Case(
        f"{VECTORS} t = Transpose<perm = [1, 0, 2]>(v) s = Sigmoid(t) u = Transpose<perm = [1, 0, 2]>(s) "
        "logits = Reshape(u, flat)",
        weights=SHAPE | BACK,
    ),
    "Concat": Case("s = Sigmoid(x) logits = Concat<axis = 1>(s, y, x)", dict(X)),
    "Concat along a middle axis": Case(
        f"{VECTORS} w = Reshape(y, shape) s = Sigmoid(v) c = Concat<axis = 2>(s, w, v) logits = Reshape(c, wide)",
        dict(X),
        SHAPE | {"wide": sizes(-1, 36)},
    ),
    "Concat twice": Case("s = Sigmoid(x) a = Concat<axis = 1>(s, y) logits = Concat<axis = 1>(a, s, x)", dict(X)),
    "Concat of a constant": Case(
        f"{VECTORS} n = Shape(x) r = Gather(n, zero) d = Concat<axis = 0>(r, rest) e = Expand(c, d) "
        "w = Concat<axis = 1>(v, e) logits = Reshape(w, wide)",
        weights=SHAPE | {"zero": sizes(0), "rest": sizes(1, 4), "c": (1, 1, 4), "wide": sizes(-1, 16)},
    ),
    "Slice": Case("logits = Slice(x, a, b, one)", weights={"a": sizes(2), "b": sizes(9), "one": sizes(1)}),
    "Slice with steps": Case(
        "logits = Slice(x, a, b, one, step)", weights={"a": sizes(1), "b": sizes(99), "one": sizes(1), "step": sizes(3)}
    ),
    "Slice backwards": Case(
        "logits = Slice(x, a, b, one, step)",
        weights={"a": sizes(-1), "b": sizes(-(2**63)), "one": sizes(1), "step": sizes(-1)},
    ),
    "Slice of two axes": Case(
        f"{VECTORS} s = Slice(v, a, b, axes) logits = Reshape(s, flat)",
        weights=SHAPE | {"a": sizes(1, 0), "b": sizes(3, 2), "axes": sizes(1, 2), "flat": sizes(-1, 4)},
    ),
    "Split": Case("a, b = Split<axis = 1>(x, parts) logits = Concat<axis = 1>(b, a)", weights={"parts": sizes(5, 7)}),
    "Gather": Case("logits = Gather<axis = 1>(x, i)", weights={"i": sizes(3, 1, 1, 7, -1)}),
    "Gather in steps": Case("logits = Gather<axis = 1>(x, i)", weights={"i": sizes(1, 4, 7)}),
    "Gather in runs": Case("logits = Gather<axis = 1>(x, i)", {"x": 32}, {"i": sizes(*range(9, 20), *range(1, 9))}),
    "Gather the same": Case("logits = Gather<axis = 1>(x, i)", weights={"i": sizes(4, 4, 4)}),
    "Gather one": Case(f"{VECTORS} logits = Gather<axis = 1>(v, i)", weights=SHAPE | {"i": np.int64(2)}),
    "Gather of vectors": Case(
        f"{VECTORS} g = Gather<axis = 1>(v, i) logits = Reshape(g, wide)",
        weights=SHAPE | {"i": sizes(2, 0, 1, 2), "wide": sizes(-1, 16)},
    ),
    "Gather by a matrix": Case(
        "g = Gather<axis = 1>(x, i) logits = Reshape(g, wide)",
        weights={"i": np.array([[0, 5], [3, 2]]), "wide": sizes(-1, 4)},
    ),
    "Flatten": Case(f"{VECTORS} logits = Flatten(v)", weights=SHAPE),
    "Squeeze": Case("u = Unsqueeze(x, one) s = Sigmoid(u) logits = Squeeze(s, one)", weights={"one": sizes(1)}),
    "Expand": Case(
        "u = Unsqueeze(x, one) e = Expand(u, to) logits = Reshape(e, wide)",
        weights={"one": sizes(1), "to": sizes(1, 3, 1), "wide": sizes(-1, 36)},
    ),
    "Tile": Case("logits = Tile(x, times)", weights={"times": sizes(1, 3)}),
    "Pad": Case("logits = Pad(x, pads, c)", weights={"pads": sizes(0, 2, 0, 1), "c": np.float32(0.5)}),
    "Pad of an axis": Case(
        f"{VECTORS} p = Pad(v, pads, , axes) logits = Reshape(p, wide)",
        weights=SHAPE | {"pads": sizes(1, 0), "axes": sizes(1), "wide": sizes(-1, 16)},
    ),
    "five axes": Case(
        "v = Reshape(x, shape) t = Transpose<perm = [0, 4, 3, 2, 1]>(v) u = Transpose<perm = [0, 2, 1, 4, 3]>(t) "
        "a = Add(t, u) logits = Reshape(a, flat)",
        {"x": 16},
        {"shape": sizes(-1, 2, 2, 2, 2), "flat": sizes(-1, 16)},
    ),
}
ALONG = {
    f"{operator} {name}": Case(
        f"{VECTORS} r = {operator}<keepdims = {keep}>(v, axes) logits = Reshape(r, flat)",
        weights=SHAPE | {"axes": sizes(*axes), "flat": sizes(-1, width)},
    )
    for operator in (
        *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd"),
    )
    for name, axes, keep, width in (("last", (2,), 0, 3), ("middle", (1,), 1, 4), ("both", (1, -1), 1, 1))
} | {
    "ReduceSum of far axes": Case(
        "v = Reshape(x, shape) r = ReduceSum<keepdims = 0>(v, axes) logits = Reshape(r, flat)",
        weights={"shape": sizes(-1, 2, 3, 2), "axes": sizes(1, 3), "flat": sizes(-1, 3)},
    ),
    "Softmax of positions": Case(f"{VECTORS} s = Softmax<axis = 1>(v) logits = Reshape(s, flat)", weights=SHAPE | BACK),
    "Softmax transposed": Case(
        f"{VECTORS} t = Transpose<perm = [0, 2, 1]>(v) s = Softmax<axis = -1>(t) logits = Reshape(s, flat)",
        weights=SHAPE | BACK,
    ),
    "LayerNormalization": Case(
        f"{VECTORS} n = LayerNormalization<axis = -1>(v, c, d) logits = Reshape(n, flat)",
        weights=SHAPE | BACK | {"c": (4,), "d": (4,)},
    ),
    "LayerNormalization of two axes": Case(
        f"{VECTORS} n = LayerNormalization<axis = 1, epsilon = 0.1>(v, c) logits = Reshape(n, flat)",
        weights=SHAPE | BACK | {"c": (3, 4)},
    ),
    "BatchNormalization": Case(
        "logits = BatchNormalization(x, c, d, e, f)",
        weights={"c": (12,), "d": (12,), "e": (12,), "f": np.linspace(0.5, 2, 12, dtype=np.float32)},
    ),
    "BatchNormalization of channels": Case(
        f"{VECTORS} n = BatchNormalization(v, c, d, e, f) logits = Reshape(n, flat)",
        weights=SHAPE | BACK | {"c": (3,), "d": (3,), "e": (3,), "f": np.float32([1, 2, 3])},
    ),
}
PRODUCTS = {
    "Gemm": Case("logits = Gemm(x, w, b)", weights={"w": (12, 5), "b": (5,)}),
    "Gemm scaled": Case(
        "logits = Gemm<alpha = 0.5, beta = 2.0, transB = 1>(x, w, b)", weights={"w": (70, 12), "b": (1, 70)}
    ),
    "Gemm with a scalar": Case("logits = Gemm(x, w, b)", weights={"w": (12, 5), "b": np.float32(0.5)}),
    "Gemm with a value": Case("logits = Gemm<beta = 0.5>(x, w, y)", {"x": 12, "y": 5}, {"w": (12, 5)}),
    "Gemm of a column": Case("logits = Gemm(x, w, y)", {"x": 12, "y": 1}, {"w": (12, 5)}),
    "MatMul": Case("logits = MatMul(x, w)", weights={"w": (12, 17)}),
    "MatMul by a vector": Case("m = MatMul(x, w) logits = Unsqueeze(m, one)", weights={"w": (12,), "one": sizes(1)}),
    "MatMul of positions": Case(
        f"{VECTORS} m = MatMul(v, w) logits = Reshape(m, flat)", weights=SHAPE | {"w": (4, 5), "flat": sizes(-1, 15)}
    ),
    "MatMul of positions of a part": Case(
        "s = Slice(x, a, b, one) v = Reshape(s, shape) m = MatMul(v, w) logits = Reshape(m, flat)",
        {"x": 14},
        SHAPE | {"a": sizes(1), "b": sizes(13), "one": sizes(1), "w": (4, 5), "flat": sizes(-1, 15)},
    ),
    "MatMul of what is repeated": Case(
        "u = Unsqueeze(x, one) e = Expand(u, to) m = MatMul(e, w) logits = Reshape(m, flat)",
        weights={"one": sizes(1), "to": sizes(1, 3, 1), "w": (12, 5), "flat": sizes(-1, 15)},
    ),
    "MatMul of two values": Case(
        f"{VECTORS} t = Transpose<perm = [0, 2, 1]>(v) m = MatMul(v, t) logits = Reshape(m, flat)",
        weights=SHAPE | {"flat": sizes(-1, 9)},
    ),
    "MatMul of a constant": Case(
        f"{VECTORS} m = MatMul(c, v) logits = Reshape(m, flat)",
        weights=SHAPE | {"c": (5, 3), "flat": sizes(-1, 20)},
    ),
    "MatMul of constants one for each position": Case(
        "v = Reshape(x, shape) m = MatMul(v, c) logits = Reshape(m, flat)",
        weights={"shape": sizes(-1, 3, 1, 4), "c": (3, 4, 2), "flat": sizes(-1, 6)},
    ),
    "merged rows": Case(
        "v = Reshape(x, merged) g = Gemm(v, w, b) r = Relu(g) a = Reshape(r, apart) logits = Reshape(a, flat)",
        weights={
            "merged": sizes(-1, 4),
            "w": (4, 5),
            "b": (5,),
            "apart": sizes(-1, 3, 5),
            "flat": sizes(-1, 15),
        },
    ),
    "Einsum bhd,bkd->bhk": Case(
        f'{VECTORS} w = Reshape(y, shape) m = Einsum<equation = "bhd,bkd->bhk">(v, w) logits = Reshape(m, flat)',
        dict(X),
        SHAPE | {"flat": sizes(-1, 9)},
    ),
    "Einsum bfd,bfd->bf": Case(
        f'{VECTORS} w = Reshape(y, shape) logits = Einsum<equation = "bfd,bfd->bf">(v, w)', dict(X), SHAPE
    ),
    "Einsum with a weight": Case(
        f'{VECTORS} m = Einsum<equation = "bfd,de->bef">(v, w) logits = Reshape(m, flat)',
        weights=SHAPE | {"w": (4, 5), "flat": sizes(-1, 15)},
    ),
    "Einsum with a weight for each position": Case(
        f'{VECTORS} m = Einsum<equation = "bfd,fde->bfe">(v, w) logits = Reshape(m, flat)',
        weights=SHAPE | {"w": (3, 4, 5), "flat": sizes(-1, 15)},
    ),
    "Einsum outer": Case(
        f'{VECTORS} w = Reshape(y, shape) m = Einsum<equation = "bhd,bmd->bhmd">(v, w) logits = Reshape(m, flat)',
        dict(X),
        SHAPE | {"flat": sizes(-1, 36)},
    ),
}


OPERATORS = [
    pytest.param(case, id=name)
    for part in (SINGLE, PAIRS, LOGIC, MOVES, ALONG, PRODUCTS)
    for name, case in part.items()
]


@pytest.mark.parametrize("case", OPERATORS)
def test_program_computes_what_the_reference_does_when_it_has_one_operator(case: Case) -> None:
    proved(graph_of(case.body, case.widths, case.weights))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 48, 64, 65, 80, 130])
@pytest.mark.parametrize("inner", [1, 3, 4, 5])
def test_layer_reads_its_weights_when_panels_are_of_any_size(inner: int, width: int) -> None:
    random = np.random.default_rng(width)
    scale, zero = np.float32(0.03), np.uint8(99)
    weights: Weights = {
        "s": scale,
        "z": zero,
        "b": (width,),
        "p": (width, width),
        "c": random.integers(-127, 128, (inner, width)).astype(np.int8),
        "t": (random.random(width) / 99 + 1e-3).astype(np.float32),
        "o": np.zeros(width, np.int8),
    }
    body = (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear<axis = 1>(c, t, o) "
        "g = Gemm(d, w, b) logits = MatMul(g, p)"
    )
    proved(graph_of(body, {"x": inner}, weights))
