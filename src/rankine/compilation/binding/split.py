"""The verb: a graph and the sides of its inputs to three graphs and a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from rankine.compilation.binding.analysis import Refusal, analyze
from rankine.compilation.binding.contract import contracted
from rankine.compilation.binding.dims import Rows
from rankine.compilation.binding.facts import Fact
from rankine.compilation.binding.frontier import Cut, best_cut
from rankine.compilation.binding.lattice import EARLY, Binding
from rankine.compilation.binding.normalize import normalized
from rankine.compilation.binding.parts import Parts, cut_out, with_late_outputs
from rankine.compilation.binding.plan import BindingPlan, Column, Settings, Work
from rankine.compilation.binding.splits import spread
from rankine.compilation.binding.splits.spreader import Late, Spreader
from rankine.errors import EngineError
from rankine.models.macs import count_graph_macs
from rankine.models.rewrite.graph import Graph

__all__ = ["SplitModel", "split_graph"]

_OLDEST_OPSET = 13
_DEFAULT = Settings()


@dataclass(frozen=True)
class SplitModel:
    """A model in parts, and how a request is scored with them."""

    plan: BindingPlan
    parts: Parts


def split_graph(model: onnx.ModelProto, sides: Mapping[str, Binding], settings: Settings = _DEFAULT) -> SplitModel:
    """Split a dense graph by when its values are known.

    The result computes the same; in FP32 its sums are taken in another order. Where splitting costs more than it saves,
    by ``settings.costs``, the graph stays as it is.

    Args:
        model: inputs ``(rows, ...)``, rows dynamic; FP32, or rounded by QDQ pairs.
        sides: when each input is known.

    Raises:
        EngineError: the graph is of an opset in which operators mean something else.
    """
    plain = normalized(model, sides)
    if plain.opset < _OLDEST_OPSET:
        raise EngineError(
            "binding times are not known for graphs of this opset",
            got=str(plain.opset),
            allowed=f"{_OLDEST_OPSET} or later",
            hint="Export the model again, or convert it with onnx.version_converter.",
        )
    analysis = analyze(plain, sides)
    untouched = _cut(plain, dict(analysis.facts), settings)
    cuts = [_split(plain, sides, settings), untouched]
    other = contracted(plain, analysis.facts)
    if other is not None:
        cuts.append(_split(other, sides, settings))
    best = min(cuts, key=lambda cut: cut.cost)
    return SplitModel(*_written(best, model, settings, analysis.refusals))


def _split(plain: Graph, sides: Mapping[str, Binding], settings: Settings) -> Cut:
    """Everything taken out of linear layers but what turned out to be computed late all the same."""
    late: Late = frozenset()
    while True:
        spreader = spread(plain, sides, late)
        cut = _cut(spreader.emitter.graph, spreader.emitter.facts, settings)
        more = _not_early(spreader, cut) - late
        if not more:
            return cut
        late |= more


def _cut(graph: Graph, facts: dict[str, Fact], settings: Settings) -> Cut:
    return best_cut(with_late_outputs(graph, facts), facts, settings)


def _not_early(spreader: Spreader, cut: Cut) -> Late:
    """Of which layers and sides every product that was taken out is computed late."""
    return frozenset(
        (layer, side)
        for (layer, side), products in spreader.products.items()
        if side in EARLY and cut.late_values.issuperset(products)
    )


def _written(
    cut: Cut, model: onnx.ModelProto, settings: Settings, refusals: Sequence[Refusal]
) -> tuple[BindingPlan, Parts]:
    parts = cut_out(cut, model)
    columns = {
        side: (
            *(_column(name, cut.facts[name], "input") for name in cut.inputs if cut.facts[name].binding is side),
            *(
                _column(name, cut.facts[name], "computed", settings if side is Binding.CATALOG else _DEFAULT)
                for name in cut.crossing
                if cut.facts[name].binding is side
            ),
        )
        for side in (*EARLY, Binding.CANDIDATE)
    }
    plan = BindingPlan(
        catalog=columns[Binding.CATALOG],
        request=columns[Binding.REQUEST],
        row=columns[Binding.CANDIDATE],
        catalog_inputs=_inputs(parts.catalog),
        request_inputs=_inputs(parts.request),
        work=Work(
            before=count_graph_macs(model),
            catalog=_macs(parts.catalog),
            request=_macs(parts.request),
            candidate=count_graph_macs(parts.candidate),
        ),
        bytes_before=sum(
            _column(value.name, cut.facts[value.name], "input").bytes_per_row for value in cut.graph.inputs
        ),
        kept_whole=tuple(map(str, refusals)),
    )
    return plan, parts


def _column(name: str, fact: Fact, source: str, settings: Settings = _DEFAULT) -> Column:
    shape = tuple(dim.factor if isinstance(dim, Rows) else dim for dim in (fact.shape or ())[1:])
    return Column(name=name, source="input" if source == "input" else "computed", shape=shape, storage=settings.storage)


def _inputs(part: onnx.ModelProto | None) -> tuple[str, ...]:
    return () if part is None else tuple(value.name for value in part.graph.input)


def _macs(part: onnx.ModelProto | None) -> int:
    return 0 if part is None else count_graph_macs(part)
