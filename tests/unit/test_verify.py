"""What verification lets through and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from engine.small_model import small_batch, small_model
from rankine.compilation.engines.reference import ReferenceRunner, widen
from rankine.compilation.verify import FP32_LIMIT, reference_logits, verify, verify_logits
from rankine.errors import EngineError
from rankine.models.columns import Batch
from rankine.models.variant import Model


@dataclass
class _Shifted:
    """A runner that is wrong by a given amount in one row."""

    model: Model
    row: int
    shift: float

    def run(self, batch: Batch, out: np.ndarray) -> None:
        out[:] = ReferenceRunner(self.model).logits(batch)
        out[self.row] += self.shift

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("small"))


def test_verify_tells_the_errors_when_the_runner_is_right(model: Model) -> None:
    found = verify(model, ReferenceRunner(model, np.float32), small_batch(20))
    assert found.rows == 20
    assert 0 < found.mean_logit_error <= found.max_logit_error < 2e-5
    assert found.max_error <= found.limit == FP32_LIMIT


@pytest.mark.parametrize("shift", [3e-3, -1.0, np.nan, np.inf])
def test_verify_names_the_worst_row_when_a_logit_is_off(model: Model, shift: float) -> None:
    with pytest.raises(EngineError, match="row 13"):
        verify(model, _Shifted(model, 13, shift), small_batch(20))


def test_verify_bounds_scores_not_logits_when_the_graph_is_int8(model: Model) -> None:
    batch = small_batch(20)
    reference = reference_logits(model, batch)
    quantized = replace(model, numeric="int8")
    row = int(np.argmin(np.abs(reference).max(axis=1)))
    assert verify_logits(quantized, _Shifted(model, row, 0.01), batch, reference).max_logit_error > 0.009
    with pytest.raises(EngineError, match=f"row {row}"):
        verify_logits(quantized, _Shifted(model, row, 1.0), batch, reference)


def test_verify_refuses_when_there_are_no_rows(model: Model) -> None:
    with pytest.raises(EngineError, match="no rows"):
        verify(model, ReferenceRunner(model), small_batch(0))


def test_reference_is_float64_when_constants_and_casts_are_float32(model: Model) -> None:
    logits = ReferenceRunner(model).logits(small_batch(5))
    assert logits.dtype == np.float64
    assert (logits != logits.astype(np.float32)).any()


def test_reference_rounds_half_to_even_and_saturates_when_it_quantizes() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.5), "scale"),
        numpy_helper.from_array(np.uint8(128), "zero"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    graph = helper.make_model(helper.make_graph(nodes, "qdq", [x], [y], constants))
    values = np.array([0.25, 0.75, -0.25, -0.75, 63.5, 64.0, 1e6, -64.0, -64.5, -1e6], np.float32)
    (result,) = ReferenceEvaluator(widen(graph)).run(None, {"x": values})
    assert result.dtype == np.float64
    assert result.tolist() == [0.0, 1.0, 0.0, -1.0, 63.5, 63.5, 63.5, -64.0, -64.0, -64.0]


def test_reference_computes_in_float64_when_a_constant_is_made_without_its_value() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),  # float32 zeros, says ONNX
        helper.make_node("Add", ["x", "zeros"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    graph = helper.make_model(helper.make_graph(nodes, "zeros", [x], [y]))
    (result,) = ReferenceEvaluator(widen(graph)).run(None, {"x": np.array([0.1, 2.0])})
    assert result.dtype == np.float64
    assert result.tolist() == [0.1, 2.0]


def test_reference_names_the_graph_when_an_operator_is_unknown(model: Model, tmp_path: Path) -> None:
    graph = onnx.load(model.graph)
    graph.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(graph, tmp_path / "odd.onnx")
    with pytest.raises(EngineError, match="NoSuchOperator"):
        ReferenceRunner(replace(model, graph=tmp_path / "odd.onnx"))
