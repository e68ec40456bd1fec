"""What the native engine promises of its last bits, as docs/explanation/native-engine.md tells it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from rankine import _native
from rankine.compilation.fused.lower import lower_graph
from unit.fused_graphs import Weights, graph_of, rows_for

ROWS = 67
FP32 = "a = Gemm(x, w, b) r = Relu(a) c = Concat<axis = 1>(x, r) s = Softmax(c) e = Gemm(s, v) logits = Tanh(e)"
FP32_WEIGHTS: Weights = {"w": (37, 70), "b": (70,), "v": (107, 9)}
INT8 = (
    "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear<axis = 0>(c, t, o) "
    "g = Gemm<transB = 1>(d, w, b) r = Relu(g) p = QuantizeLinear(r, u, n) e = DequantizeLinear(p, u, n) "
    "y = DequantizeLinear<axis = 0>(h, k, m) logits = Gemm<transB = 1>(e, y)"
)


def _int8_weights() -> dict[str, np.ndarray | tuple[int, ...]]:
    random = np.random.default_rng(5)
    return {
        "s": np.float32(0.03),
        "z": np.uint8(119),
        "c": random.integers(-127, 128, (83, 37)).astype(np.int8),
        "t": (random.random(83) / 100 + 1e-3).astype(np.float32),
        "o": np.zeros(83, np.int8),
        "b": (83,),
        "u": np.float32(0.05),
        "n": np.uint8(0),
        "h": random.integers(-127, 128, (20, 83)).astype(np.int8),
        "k": (random.random(20) / 100 + 1e-3).astype(np.float32),
        "m": np.zeros(20, np.int8),
    }


GRAPHS: Mapping[str, onnx.ModelProto] = {
    "fp32": graph_of(FP32, {"x": 37}, FP32_WEIGHTS),
    "int8": graph_of(INT8, {"x": 37}, _int8_weights()),
}


def _logits(model: onnx.ModelProto, inputs: np.ndarray, instruction_set: str, *, tile_rows: int = 0) -> np.ndarray:
    program = _native.Program(np.frombuffer(lower_graph(model).to_bytes(), np.uint8))
    source = ("dense", "pair", 0, None, None, 0, 0, 0, inputs.shape[1], 0, None, None)
    runner = _native.FusedRunner(None, [], program, [source], tile_rows, 1, instruction_set)
    rows = np.arange(len(inputs), dtype=np.int32)
    found = np.full((len(inputs), program.tasks), np.nan, np.float32)
    assert runner.run([], 1, [inputs], np.zeros(len(inputs), np.int32), rows, found) is None
    return found


@pytest.fixture
def inputs() -> np.ndarray:
    return rows_for(GRAPHS["fp32"], ROWS)["x"]


@pytest.mark.parametrize("numeric", GRAPHS)
@pytest.mark.parametrize("instruction_set", _native.instruction_sets())
def test_score_is_the_same_to_the_bit_when_the_batch_or_the_tile_is_another(
    numeric: str, instruction_set: str, inputs: np.ndarray
) -> None:
    together = _logits(GRAPHS[numeric], inputs, instruction_set)
    alone = [_logits(GRAPHS[numeric], inputs[row : row + 1], instruction_set) for row in range(ROWS)]
    np.testing.assert_array_equal(np.concatenate(alone), together)
    np.testing.assert_array_equal(_logits(GRAPHS[numeric], inputs, instruction_set, tile_rows=5), together)


@pytest.mark.parametrize("instruction_set", _native.instruction_sets())
def test_int8_scores_are_the_same_to_the_bit_when_the_instruction_set_is_another(
    instruction_set: str, inputs: np.ndarray
) -> None:
    np.testing.assert_array_equal(
        _logits(GRAPHS["int8"], inputs, instruction_set), _logits(GRAPHS["int8"], inputs, "portable")
    )


def test_fp32_scores_are_the_same_to_the_bit_when_both_instruction_sets_fuse(inputs: np.ndarray) -> None:
    fusing = [name for name in ("avx512", "avx2") if name in _native.instruction_sets()]
    if len(fusing) < 2:
        pytest.skip("this processor does not have both")
    first, second = (_logits(GRAPHS["fp32"], inputs, name) for name in fusing)
    np.testing.assert_array_equal(first, second)
