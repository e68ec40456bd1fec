"""An ONNX graph as ``rankine inspect`` shows it: a variant's, or a file that is no artifact yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rankine.cli.render import format_bytes
from rankine.config import Frozen

__all__ = ["GraphView", "RiskView", "graph_view", "print_graph"]


class RiskView(Frozen):
    """An operator that needs care, how often it stands in the graph, and why."""

    operator: str
    count: int
    reason: str


class GraphView(Frozen):
    """What a graph takes and gives, what it costs, and what is in it.

    Attributes:
        inputs, outputs: type and shape by name.
        tables: rows, dimension and bytes of the constants that are read by index.
        macs_per_row: multiply-adds of its matrix products.
        operators: how often each stands in the graph.
    """

    path: str
    opset: int
    size_bytes: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    tables: Mapping[str, tuple[int, int, int]]
    macs_per_row: int
    operators: Mapping[str, int]
    risky_operators: tuple[RiskView, ...]


def graph_view(path: Path) -> GraphView:
    """What is in an ONNX file.

    Raises:
        ModelError: it is no readable ONNX file.
    """
    from rankine.models.intake.onnx_file import describe_value, graph_inputs, read_onnx, read_tables
    from rankine.models.intake.risks import risky_operators
    from rankine.models.macs import count_graph_macs

    model = read_onnx(path)
    operators: dict[str, int] = {}
    for node in model.graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return GraphView(
        path=str(path),
        opset=max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        size_bytes=path.stat().st_size,
        inputs={name: describe_value(value) for name, value in graph_inputs(model).items()},
        outputs={value.name: describe_value(value) for value in model.graph.output},
        tables=read_tables(model),
        macs_per_row=count_graph_macs(model),
        operators=dict(sorted(operators.items(), key=lambda found: -found[1])),
        risky_operators=tuple(RiskView(**risk.model_dump()) for risk in risky_operators(model)),
    )


def print_graph(view: GraphView) -> None:
    """Print a graph as tables."""
    from rankine.cli.render import print_lines, print_table

    print_lines(
        [
            ("graph", f"{view.path} ({format_bytes(view.size_bytes)}, opset {view.opset})"),
            ("cost", f"{view.macs_per_row:,} MACs a row"),
            ("operators", ", ".join(f"{count} {name}" for name, count in view.operators.items())),
        ]
    )
    both = [("input", view.inputs), ("output", view.outputs)]
    print_table(("", "name", "type"), [(kind, name, text) for kind, found in both for name, text in found.items()])
    if view.tables:
        rows = [(name, f"{r:,} x {dim}", format_bytes(size)) for name, (r, dim, size) in view.tables.items()]
        print_table(("table", "rows x dim", "size"), rows)
    if view.risky_operators:
        print_table(
            ("operator", "count", "needs care"),
            [(risk.operator, f"{risk.count}", risk.reason) for risk in view.risky_operators],
        )
    else:
        print_lines([("needs care", "no operator")])
