"""Small graphs whose time on an engine tells what its parts cost, and the time itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.compilation.engine import Engine, Target
from rankine.compilation.operator_list import Kind
from rankine.models.columns import Batch
from rankine.models.network import Network
from rankine.models.schema import CategoricalFeature, DenseFeature, Identity, Schema, Task
from rankine.models.tables import AnyTable, Table
from rankine.models.transforms import table_of
from rankine.models.variant import Model

if TYPE_CHECKING:
    import onnx

__all__ = ["call_ms", "engine_ms", "field_schema", "linear_chain", "operator_chain", "random_batch", "random_tables"]

_OPSET = 21
_IR_VERSION = 10
_IDS = 1000
_INPUT = "x"


def linear_chain(width: int, columns: int, repeats: int) -> Network:
    """``repeats`` times a linear layer with ReLU to ``columns`` and one back to ``width``, FP32."""
    chain = _Chain(width)
    value = _INPUT
    for _ in range(repeats):
        for there, here in ((width, columns), (columns, width)):
            weight = chain.constant(np.random.default_rng(0).normal(0, here**-0.5, (here, there)).astype(np.float32))
            bias = chain.constant(np.zeros(here, np.float32))
            value = chain.add("Relu", chain.add("Gemm", value, weight, bias, transB=1))
    return chain.network()


def operator_chain(kind: Kind, width: int, repeats: int) -> tuple[Network, int]:
    """A chain of operators of one kind over rows of ``width`` numbers, a multiple of 16; and the elements that one
    repeat moves a row, or for a product its multiply-adds a row."""
    chain = _Chain(width)
    fields = chain.constant(np.array([-1, width // 16, 16]))
    flat = chain.constant(np.array([-1, width]))
    one = chain.constant(np.array([1]))
    value = _INPUT
    for _ in range(repeats):
        match kind:
            case "elementwise":
                value = chain.add("Mul", value, chain.add("Add", value, _INPUT))
            case "transcendental":
                value = chain.add("Sigmoid", value)
            case "move":
                cube = chain.add("Transpose", chain.add("Reshape", value, fields), perm=[0, 2, 1])
                value = chain.add("Reshape", cube, flat)
            case "reduce":
                cube = chain.add("Reshape", value, fields)
                total = chain.add("ReduceSum", cube, one, keepdims=1)
                value = chain.add("Reshape", chain.add("Sub", cube, total), flat)
            case "product":
                cube = chain.add("Reshape", value, fields)
                square = chain.add("MatMul", cube, chain.add("Transpose", cube, perm=[0, 2, 1]))
                value = chain.add("Reshape", chain.add("MatMul", square, cube), flat)
    amounts: dict[Kind, int] = {"elementwise": 2 * width, "product": 2 * (width // 16) * width}
    return chain.network(), amounts.get(kind, width)


def field_schema(fields: int) -> Schema:
    """``fields`` categorical features, each with a table of its own."""
    features = tuple(
        CategoricalFeature(name=f"f{number}", side="pair", encoding=Identity(size=_IDS)) for number in range(fields)
    )
    return Schema(features=features, item_id="item")


def random_batch(schema: Schema, rows: int) -> Batch:
    """Rows with random ids and numbers for dense features and for those of :func:`field_schema`."""
    generator = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for feature in schema.features:
        if isinstance(feature, DenseFeature):
            columns[feature.name] = generator.random((rows, feature.width), np.float32)
        else:
            columns[feature.name] = generator.integers(0, _IDS, rows, dtype=np.int32)
    return Batch({}, {}, columns, np.zeros(rows, np.int32), np.zeros(rows, np.int32))


def random_tables(schema: Schema, dim: int) -> dict[str, AnyTable]:
    """FP32 tables for the features of :func:`field_schema`."""
    generator = np.random.default_rng(0)
    names = [table_of(feature) for feature in schema.features if not isinstance(feature, DenseFeature)]
    return {name: Table(generator.normal(0, 0.1, (_IDS, dim)).astype(np.float32)) for name in names}


def engine_ms(network: Network, engine: Engine, rows: Sequence[int]) -> list[float]:
    """Milliseconds of one call on an engine, one thread, for each number of rows.

    Raises:
        EngineError: the engine does not run the graph.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="rankine-probe-") as scratch:
        graph, folder = Path(scratch) / "graph.onnx", Path(scratch) / "build"
        folder.mkdir()
        onnx.save(network.graph, str(graph))
        model = Model("probe", network.schema, graph, network.tables, network.numeric)
        engine.build(model, Target(), folder)
        runner = engine.open(model, folder)
        try:
            columns = network.graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
            found = []
            for count in rows:
                batch, out = random_batch(network.schema, count), np.empty((count, columns), np.float32)
                found.append(call_ms(partial(runner.run, batch, out)))
            return found
        finally:
            runner.close()


def call_ms(call: Callable[[], object], *, least: int = 7, most: int = 100, budget_s: float = 0.02) -> float:
    """Milliseconds of a call that computes in one thread: near the least of a few.

    The process's own processor time counts where it is less than the time on the clock: on a busy machine a call of
    some milliseconds is interrupted, which is no cost of the layer.
    """
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < least or (sum(times) < budget_s and len(times) < most):
        begin, used = perf_counter(), process_time()
        call()
        times.append(min(perf_counter() - begin, process_time() - used))
    return float(np.quantile(times, 0.1)) * 1e3


class _Chain:
    """A graph that is written node by node; it reads one dense feature."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def network(self) -> Network:
        """The graph as a network; what was added last are the logits, ``(rows, width)``."""
        from onnx import TensorProto, helper

        self._nodes[-1].output[0] = "logits"
        described = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", self._width]) for name in (_INPUT, "logits")
        ]
        graph = helper.make_graph(self._nodes, "probe", described[:1], described[1:], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        feature = DenseFeature(name=_INPUT, side="pair", width=self._width, normalization="none")
        tasks = tuple(Task(name=f"t{column}") for column in range(self._width))
        return Network(Schema(features=(feature,), item_id="item", tasks=tasks), model, {})
