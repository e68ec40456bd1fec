"""What a program does not do: no copies for concatenations, one operation for a layer and what follows it."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.compilation.fused import Program, read_program
from rankine.compilation.fused.program import ABSENT, Code
from unit.fused_graphs import Weights, codes_of, copies_in, graph_of, proved, sizes

ROUNDED: Weights = {"s": np.float32(0.05), "z": np.uint8(120), "s2": np.float32(0.02), "z2": np.uint8(0)}


def _rounded_layer(name: str, source: str, result: str) -> str:
    return (
        f"{name}w = DequantizeLinear<axis = 0>({name}c, {name}t, {name}o) "
        f"{result} = Gemm<transB = 1>({source}, {name}w, {name}b) "
    )


def _rounded_weights(name: str, inner: int, width: int) -> dict[str, np.ndarray | tuple[int, ...]]:
    random = np.random.default_rng(inner)
    return {
        f"{name}c": random.integers(-127, 128, (width, inner)).astype(np.int8),
        f"{name}t": (random.random(width) / 200 + 1e-3).astype(np.float32),
        f"{name}o": np.zeros(width, np.int8),
        f"{name}b": (width,),
    }


def _round(source: str, result: str, scale: str = "s", zero: str = "z") -> str:
    by = f"{scale}, {zero}"
    return f"{result}q = QuantizeLinear({source}, {by}) {result} = DequantizeLinear({result}q, {by}) "


def _operations(body: str, widths: dict[str, int], weights: Weights, **options: object) -> Program:
    return proved(graph_of(body, widths, weights), **options)  # type: ignore[arg-type]


LINEAR = {"w": (8, 6), "b": (6,)}


@pytest.mark.parametrize(
    "after",
    [
        "logits = Relu(g)",
        "logits = LeakyRelu<alpha = 0.2>(g)",
        "logits = PRelu(g, c)",
        "logits = Clip(g, nothing)",
        "logits = Add(g, c)",
        "logits = Add(c, g)",
        "logits = Sub(g, c)",
        "logits = Mul(g, c)",
        "logits = Div(g, c)",
        "logits = BatchNormalization(g, c, c, c, d)",
        "logits = Add(y, g)",
        "logits = Mul(g, y)",
        "a = Mul(y, g) logits = Add(a, y)",
        "a = Add(g, y) e = PRelu(a, c) f = Mul(e, y) logits = Add(f, y)",
        "a = Add(g, y) logits = Add(a, y)",
        "a = Mul(g, c) e = Add(a, c) f = Add(e, y) logits = Relu(f)",
        "a = Add(g, y) e = Add(a, y) logits = Add(e, c)",
    ],
)
def test_layer_takes_what_follows_it_when_the_order_allows(after: str) -> None:
    weights = {**LINEAR, "c": (1, 6), "d": np.full(6, 2, np.float32), "nothing": np.float32(0)}
    program = _operations(f"g = Gemm(x, w, b) {after}", {"x": 8, "y": 6}, weights)
    assert codes_of(program) == {Code.LINEAR_F32: 1}


@pytest.mark.parametrize(
    ("after", "count"),
    [
        ("r = Relu(g) a = Relu(r) e = Add(a, c) logits = Mul(e, c)", 4),  # a constant after the activation
        ("r = Sigmoid(g) logits = Mul(r, g)", 3),  # read twice
        ("logits = Mul(g, g)", 2),
        ("a = Mul(g, y) logits = Relu(a)", 2),  # an activation behind the factor
        ("a = Mul(g, y) logits = Mul(a, y)", 2),
        ("a = Add(g, y) e = Add(a, y) logits = Add(e, y)", 2),  # a third summand
        ("logits = Sub(y, g)", 2),
        ("logits = Sub(c, g)", 2),
        ("logits = Div(c, g)", 2),
    ],
)
def test_layer_leaves_what_follows_it_when_the_order_does_not_allow(after: str, count: int) -> None:
    program = _operations(f"g = Gemm(x, w, b) {after}", {"x": 8, "y": 6}, {**LINEAR, "c": (1, 6)}, within=1e-4)
    assert len(program.operations) <= count
    assert codes_of(program)[Code.LINEAR_F32] == 1
    assert len(program.operations) > 1


def test_addend_is_kept_apart_when_it_is_repeated_for_all_positions() -> None:
    body = "v = Reshape(x, apart) m = MatMul(v, w) u = Unsqueeze(y, one) a = Add(m, u) logits = Reshape(a, flat)"
    weights: Weights = {"apart": sizes(-1, 3, 4), "w": (4, 5), "one": sizes(1), "flat": sizes(-1, 15)}
    program = _operations(body, {"x": 12, "y": 5}, weights)
    assert codes_of(program) == {Code.LINEAR_F32: 1, Code.BINARY: 1}


def test_layer_of_positions_takes_what_follows_it_when_all_of_it_fits() -> None:
    body = (
        "v = Reshape(x, apart) m = MatMul(v, w) a = Add(m, b) r = PRelu(a, c) o = Reshape(y, same) e = Add(r, o) "
        + _round("e", "d")
        + _rounded_layer("l", "f", "h").replace("f, lw", "d2, lw").replace("h =", "d2 = Reshape(d, merged) h =")
        + "logits = Reshape(h, flat)"
    )
    weights: Weights = {
        "apart": sizes(-1, 3, 4),
        "w": (4, 5),
        "b": (5,),
        "c": (1, 1, 5),
        "same": sizes(-1, 3, 5),
        "merged": sizes(-1, 5),
        "flat": sizes(-1, 6),
        **ROUNDED,
        **_rounded_weights("l", 5, 2),
    }
    program = _operations(body, {"x": 12, "y": 15}, weights)
    assert codes_of(program) == {Code.LINEAR_F32: 1, Code.LINEAR_I8: 1}
    assert [operation.groups for operation in program.operations] == [3, 3]
    assert program.operations[0].operands[0].buffer == ABSENT


def test_crossing_model_has_an_operation_a_layer_when_it_is_rounded() -> None:
    """DCN-v2 as the quantizer writes it: input rounded once, cross layers, deep layers, and a float32 head."""
    body = (
        "x = Concat<axis = 1>(n, c) e = Mul(x, f) "
        + _round("e", "xr")
        + _rounded_layer("a", "xr", "l")
        + "m = Mul(x, l) x1 = Add(m, x) e1 = Mul(x1, f1) "
        + _round("e1", "x1r")
        + _rounded_layer("d", "x1r", "l1")
        + "m1 = Mul(x, l1) x2 = Add(m1, x1) "
        + _rounded_layer("h", "xr", "g")
        + "r = Relu(g) "
        + _round("r", "rr", "s2", "z2")
        + _rounded_layer("k", "rr", "g1")
        + "r1 = Relu(g1) j = Concat<axis = 1>(x2, r1) logits = Gemm(j, w, b)"
    )
    weights = {
        **ROUNDED,
        "f": (14,),
        "f1": (14,),
        "w": (30, 2),
        "b": (2,),
        **{key: value for name in "ad" for key, value in _rounded_weights(name, 14, 14).items()},
        **_rounded_weights("h", 14, 32),
        **_rounded_weights("k", 32, 16),
    }
    program = _operations(body, {"n": 4, "c": 10}, weights)
    assert codes_of(program) == {Code.QUANTIZE: 1, Code.LINEAR_I8: 4, Code.LINEAR_F32: 1}
    assert [slot.offset for slot in program.inputs] == [0, 4], "the host fills the concatenation"


def test_numbers_are_written_beside_codes_when_both_are_read() -> None:
    body = (
        "g = Gemm(x, w, b) r = Relu(g) "
        + _round("r", "d", "s2", "z2")
        + _rounded_layer("l", "d", "h")
        + "logits = Concat<axis = 1>(h, r)"
    )
    program = _operations(body, {"x": 8}, {**LINEAR, **ROUNDED, **_rounded_weights("l", 6, 3)})
    assert codes_of(program) == {Code.LINEAR_F32: 1, Code.LINEAR_I8: 1}
    assert ABSENT not in {operand.buffer for operand in program.operations[0].operands[:2]}


def test_part_of_a_result_is_rounded_apart_when_the_rest_is_not() -> None:
    body = (
        "g = Gemm(x, w, b) i, j = Split<axis = 1>(g, parts) "
        + _round("i", "d")
        + _rounded_layer("l", "d", "h")
        + "logits = Concat<axis = 1>(h, j)"
    )
    weights = {**LINEAR, **ROUNDED, "parts": sizes(4, 2), **_rounded_weights("l", 4, 3)}
    program = _operations(body, {"x": 8}, weights)
    assert codes_of(program)[Code.QUANTIZE] == 1


def test_codes_are_made_numbers_when_numbers_are_read() -> None:
    body = (
        _round("x", "d")
        + _rounded_layer("l", "d", "h")
        + "p = Mul(d, y) t = ReduceSum(p, one) u = Add(h, t) logits = Add(u, d1) "
    ).replace("d1", "h")
    program = _operations(body, {"x": 8, "y": 8}, {**ROUNDED, "one": sizes(1), **_rounded_weights("l", 8, 1)})
    assert codes_of(program)[Code.DEQUANTIZE] == 1
    assert codes_of(program)[Code.DOT] == 1
    assert codes_of(program)[Code.LINEAR_I8] == 1


def test_codes_are_read_where_they_lie_when_they_are_cut_joined_and_turned() -> None:
    body = (
        _round("x", "d")
        + _round("y", "e")
        + "i, j = Split<axis = 1>(d, parts) k = Concat<axis = 1>(j, e) "
        + _rounded_layer("l", "i", "h")
        + _rounded_layer("m", "k", "o")
        + "logits = Add(h, o)"
    )
    weights = {**ROUNDED, "parts": sizes(3, 5), **_rounded_weights("l", 3, 4), **_rounded_weights("m", 13, 4)}
    program = _operations(body, {"x": 8, "y": 8}, weights)
    assert codes_of(program) == {Code.QUANTIZE: 2, Code.COPY_U8: 1, Code.LINEAR_I8: 2}


def test_input_of_bytes_is_read_as_it_is_when_a_layer_reads_it() -> None:
    body = "d = DequantizeLinear(x, s, z) " + _rounded_layer("l", "d", "logits")
    model = graph_of(body, {"x": 9}, {**ROUNDED, **_rounded_weights("l", 9, 4)}, codes=["x"])
    assert codes_of(proved(model)) == {Code.LINEAR_I8: 1}


@pytest.mark.parametrize(
    "weights",
    [
        {"lo": np.ones(4, np.int8)},
        {"lc": np.arange(36, dtype=np.uint8).reshape(4, 9), "lo": np.zeros(4, np.uint8)},
        {
            "lt": np.linspace(0.01, 0.02, 9, dtype=np.float32),
            "lo": np.zeros(9, np.int8),
            "axis": 1,
        },  # scales along what is summed
    ],
)
def test_layer_is_computed_in_float_when_its_weights_are_not_canonical(weights: dict[str, object]) -> None:
    """Not symmetric; bytes; with a scale for each row of what is summed."""
    body = _round("x", "d") + _rounded_layer("l", "d", "logits")
    body = body.replace("axis = 0", f"axis = {weights.pop('axis', 0)}")
    program = _operations(body, {"x": 9}, {**ROUNDED, **_rounded_weights("l", 9, 4), **weights})  # type: ignore[dict-item]
    assert codes_of(program) == {Code.QUANTIZE: 1, Code.DEQUANTIZE: 1, Code.LINEAR_F32: 1}


def test_rectifier_vanishes_when_rounding_clamps() -> None:
    body = "r = Relu(x) " + _round("r", "d", "s2", "z2") + _rounded_layer("l", "d", "logits")
    program = _operations(body, {"x": 9}, {**ROUNDED, **_rounded_weights("l", 9, 4)})
    assert codes_of(program) == {Code.QUANTIZE: 1, Code.LINEAR_I8: 1}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("p = Mul(v, v) logits = ReduceSum<keepdims = 0>(p, middle)", Code.REDUCE),
        ("p = Pow(v, two) logits = ReduceSum<keepdims = 0>(p, middle)", Code.REDUCE),
        ("u = Unsqueeze(y, middle) p = Mul(v, u) logits = ReduceSum<keepdims = 0>(p, last)", Code.DOT),
    ],
)
def test_products_are_not_written_when_they_are_summed(body: str, code: Code) -> None:
    weights: Weights = {"shape": sizes(-1, 3, 4), "middle": sizes(1), "last": sizes(2), "two": np.float32(2)}
    program = _operations(f"v = Reshape(x, shape) {body}", {"x": 12, "y": 4}, weights)
    assert codes_of(program) == {code: 1}


def test_concatenations_copy_nothing_when_each_piece_goes_to_one() -> None:
    body = (
        "g = Gemm(y, w, b) c = Concat<axis = 1>(x, g, y) d = Gemm(c, v) s = Sigmoid(c) "
        "t = Concat<axis = 1>(d, s) logits = Gemm(t, u)"
    )
    program = _operations(body, {"x": 5, "y": 8}, {**LINEAR, "v": (19, 3), "u": (22, 2)})
    assert copies_in(program) == 0


def test_concatenation_of_neighbors_is_a_view_when_they_lie_together() -> None:
    body = "c = Concat<axis = 1>(x, y, z) d = Concat<axis = 1>(y, z) e = Gemm(c, v) f = Gemm(d, w) logits = Add(e, f)"
    program = _operations(body, {"x": 5, "y": 3, "z": 5}, {"v": (13, 3), "w": (8, 3)})
    assert codes_of(program) == {Code.LINEAR_F32: 2}


def test_one_copy_fills_a_concatenation_when_features_give_a_part_each() -> None:
    """Embeddings of four columns with a weight behind each: the embeddings side by side, and the sum of weights."""
    cut = " ".join(
        f"e{name} = Slice({name}, zero, four, one) s{name} = Slice({name}, four, end, one)" for name in "xyz"
    )
    body = (
        f"{cut} e = Concat<axis = 1>(ex, ey, ez) s = Concat<axis = 1>(sx, sy, sz) "
        "t = ReduceSum(s, one) g = Gemm(e, v) logits = Add(g, t)"
    )
    weights: Weights = {"zero": sizes(0), "four": sizes(4), "one": sizes(1), "end": sizes(99), "v": (12, 1)}
    program = _operations(body, dict.fromkeys("xyz", 5), weights)
    assert codes_of(program) == {Code.REDUCE: 1, Code.LINEAR_F32: 1, Code.UNARY: 1}
    assert [slot.offset for slot in program.inputs] == [0, 5, 10]


def test_runs_of_neighbors_are_copied_when_they_are_long() -> None:
    """DLRM: the products below the diagonal."""
    row, column = np.tril_indices(20, -1)
    weights: Weights = {"below": row * 20 + column, "few": np.arange(0, 40, 3) % 37, "v": (204, 1)}
    body = "a = Gather<axis = 1>(x, below) b = Gather<axis = 1>(x, few) c = Concat<axis = 1>(a, b) logits = Gemm(c, v)"
    program = _operations(body, {"x": 400}, weights)
    assert codes_of(program) == {Code.UNARY: 19, Code.TAKE: 1, Code.LINEAR_F32: 1}


def test_copies_are_made_one_by_one_when_one_reads_what_the_other_writes() -> None:
    body = "t = Tanh(y) c = Concat<axis = 1>(x, t, z) g = Gather<axis = 1>(c, i) logits = Concat<axis = 1>(t, c, g)"
    program = _operations(body, {"x": 3, "y": 1, "z": 3}, {"i": sizes(3)})
    assert copies_in(program) == 2


def test_heads_of_attention_are_views_when_they_are_cut_and_joined() -> None:
    """AutoInt: split into heads, stacked, multiplied and put side by side again."""
    body = (
        "v = Reshape(x, three) q = MatMul(v, w) q0, q1 = Split<axis = 2>(q, halves) u0 = Unsqueeze(q0, one) "
        "u1 = Unsqueeze(q1, one) u = Concat<axis = 1>(u0, u1) t = Transpose<perm = [0, 1, 3, 2]>(u) "
        "m = MatMul(u, t) p = Softmax<axis = -1>(m) o = MatMul(p, u) o0, o1 = Split<axis = 1>(o, ones) "
        "r0 = Squeeze(o0, one) r1 = Squeeze(o1, one) j = Concat<axis = 2>(r0, r1) logits = Reshape(j, flat)"
    )
    weights: Weights = {
        "three": sizes(-1, 3, 4),
        "w": (4, 4),
        "halves": sizes(2, 2),
        "one": sizes(1),
        "ones": sizes(1, 1),
        "flat": sizes(-1, 12),
    }
    program = _operations(body, {"x": 12}, weights)
    assert codes_of(program) == {Code.LINEAR_F32: 1, Code.MATMUL: 2, Code.SOFTMAX: 1}


def test_pieces_are_computed_apart_from_each_other_when_vectors_are_joined() -> None:
    """DIN: ``[k, q - k, q * k]`` for each key; only the keys, which come from the host, are copied."""
    body = (
        "k = Reshape(x, keys) q = Unsqueeze(y, one) d = Sub(q, k) p = Mul(q, k) c = Concat<axis = 2>(k, d, p) "
        "m = MatMul(c, w) logits = Reshape(m, flat)"
    )
    weights: Weights = {"keys": sizes(-1, 3, 4), "one": sizes(1), "w": (12, 2), "flat": sizes(-1, 6)}
    program = _operations(body, {"x": 12, "y": 4}, weights)
    assert codes_of(program) == {Code.BINARY: 2, Code.LINEAR_F32: 1, Code.UNARY: 1}


def test_experts_are_one_layer_when_they_read_the_same() -> None:
    """MMoE: experts and gates, rounded and not; towers read results of their own."""
    body = (
        _round("x", "d")
        + "".join(_rounded_layer(n, "d", f"h{n}") + f"r{n} = Relu(h{n}) " + _round(f"r{n}", f"e{n}") for n in "ab")
        + "".join(_rounded_layer(n, f"e{n.lower()}", f"o{n}") for n in "AB")
        + "g = Gemm(x, w, b) t = Gemm(x, v) s = Softmax(g) j = Concat<axis = 1>(oA, oB, s, t) logits = Gemm(j, u)"
    )
    weights = {
        **ROUNDED,
        **{key: value for n in "ab" for key, value in _rounded_weights(n, 8, 5).items()},
        **{key: value for n in "AB" for key, value in _rounded_weights(n, 5, 3).items()},
        **LINEAR,
        "v": (8, 2),
        "u": (14, 1),
    }
    program = _operations(body, {"x": 8}, weights, within=1e-4)
    counts = codes_of(program)
    assert counts[Code.LINEAR_I8] == 3
    assert counts[Code.LINEAR_F32] == 2 + 1, "a result that is a part of a concatenation stays where it is"


@pytest.mark.parametrize("other", ["r = Sigmoid(g)", "r = Add(g, y)", "r = PRelu(g, c)", "r = Clip(g, nothing)"])
def test_layers_stay_apart_when_different_things_follow_them(other: str) -> None:
    body = f"g = Gemm(x, w, b) {other} h = Gemm(x, v) s = Tanh(h) logits = Mul(r, s)"
    weights = {**LINEAR, "v": (8, 6), "c": (1, 6), "nothing": np.float32(0)}
    program = _operations(body, {"x": 8, "y": 6}, weights)
    assert codes_of(program)[Code.LINEAR_F32] == (1 if "Sigmoid" in other else 2)


def test_slopes_are_written_out_when_loops_would_be_short() -> None:
    weights: Weights = {"shape": sizes(-1, 5, 4), "c": (1, 4), "flat": sizes(-1, 20)}
    program = _operations("v = Reshape(x, shape) p = PRelu(v, c) logits = Reshape(p, flat)", {"x": 20}, weights)
    assert program.operations[0].dims == (20, 0, 0, 0)


def test_results_are_written_over_operands_when_nobody_reads_them_again() -> None:
    body = "a = Sigmoid(x) b = Mul(a, y) c = Tanh(b) d = Exp(c) logits = Sub(y, d)"
    program = _operations(body, {"x": 64, "y": 64}, {})
    assert program.arena_bytes_per_row == 2 * 64 * 4


def test_arena_stays_small_when_a_chain_is_long() -> None:
    body = "a0 = Relu(x) " + " ".join(f"g{n} = Gemm(a{n}, w) a{n + 1} = Tanh(g{n})" for n in range(9))
    program = _operations(f"{body} logits = Identity(a9)", {"x": 64}, {"w": (64, 64)}, within=1e-4)
    assert program.arena_bytes_per_row == 2 * 64 * 4


def test_equal_constants_are_stored_once_when_they_occur_again() -> None:
    weights: Weights = {"w": np.ones((16, 64), np.float32), "v": np.ones((16, 64), np.float32)}
    program = _operations("a = Gemm(x, w) b = Gemm(y, v) logits = Concat<axis = 1>(a, b)", {"x": 16, "y": 16}, weights)
    assert program.operations[0].constants[0] == program.operations[1].constants[0]
    assert len(program.constants) < 2 * 16 * 64 * 4


def test_program_is_the_same_when_it_is_read_back() -> None:
    program = _operations(
        "a = Clip(x, low) g = Gemm(a, w, b) logits = Softmax(g)", {"x": 8}, {**LINEAR, "low": np.float32(-1)}
    )
    contents = program.to_bytes()
    assert read_program(contents) == program
    assert len(contents) % 64 == 0
    assert contents[:8] == b"RKNPROG1"
