"""The pass: trace, measure, take out, prove, fine-tune, as often as there are steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx.shape_inference import InferenceError

from rankine.compression.context import Context, CostModel
from rankine.compression.fine_tune import fine_tune
from rankine.compression.outcome import Outcome
from rankine.compression.prune.choose import choose
from rankine.compression.prune.costs import Costs, Price, linear_shape
from rankine.compression.prune.importance import importance
from rankine.compression.prune.operations.contraction import Contraction
from rankine.compression.prune.plan import Unshrinkable
from rankine.compression.prune.shrink import differs, shrink
from rankine.compression.prune.trace import Trace, trace
from rankine.compression.recipe import Prunable, Prune, Tuning
from rankine.errors import UsageError
from rankine.events import Note
from rankine.models.columns import Batch
from rankine.models.network import Network
from rankine.models.rewrite.graph import numbered
from rankine.models.torch_graph import untrainable

__all__ = ["prune"]

_LATENCY_ROWS = 512
_PROOF_ROWS = 512
_ROUNDS = 8
"""How often a step takes out more, where the multiply-adds are met and the latency is not."""


def prune(network: Network, settings: Prune, context: Context) -> Outcome:
    """Take whole channels, dimensions and features out of ``network``, until its budgets are met.

    Raises:
        UsageError: the model cannot be trained, there is nothing in it that can be taken out, or a latency is asked for
            and there is no cost model.
    """
    goal = _Goal.of(network, settings, context)
    _check(goal.start, settings)
    now, steps = goal.start, []
    for number in range(1, settings.steps + 1):
        step = _step(now, goal, settings, context, number / settings.steps)
        network, found = step.network, step.details
        if settings.tune is not None and step.removed:
            tuning = settings.tune if number == settings.steps else _short(settings.tune)
            network, result = fine_tune(network, tuning, context, task=f"prune {number}/{settings.steps}")
            found["fit"] = result.model_dump(mode="json")
        now = trace(network)
        found["macs_per_row"] = Costs(now, []).macs
        steps.append(found)
        context.emit(Note("prune", f"step {number} of {settings.steps}", {"MACs": found["macs_per_row"]}))
    return Outcome(network, _text(goal, now, steps), _details(goal, now, steps))


@dataclass(frozen=True)
class _Goal:
    """Where to begin, and where to arrive.

    Attributes:
        macs: multiply-adds of the start.
        latency_ms: of the start at 512 rows; None where it does not matter.
    """

    start: Trace
    macs: int
    latency_ms: float | None
    cost: CostModel | None

    @classmethod
    def of(cls, network: Network, settings: Prune, context: Context) -> _Goal:
        reason = untrainable(network)
        if reason is not None:
            raise UsageError(
                "importance is measured by gradients, which this graph does not have",
                where="recipe: prune",
                got=reason,
                hint="Leave 'prune' out of the recipe: 'quantize' needs the graph only.",
            )
        if settings.latency is not None and context.cost is None:
            raise UsageError(
                "a budget of latency needs a cost model of this machine",
                where="recipe: prune.latency",
                got=settings.latency,
                hint="Use `rankine optimize`, which measures one, or give 'macs' alone.",
            )
        start = trace(network)
        cost = context.cost if settings.latency is not None else None
        latency = cost.latency_ms(network, _LATENCY_ROWS) if cost is not None else None
        return cls(start, Costs(start, []).macs, latency, cost)

    def price(self, settings: Prune) -> Price | None:
        """Milliseconds of a multiply-add in each product; None where multiply-adds are what counts."""
        cost = self.cost
        if cost is None:
            return None

        def of(operation: Contraction) -> float:
            rows, inner, columns = linear_shape(operation)
            milliseconds = cost.layer_ms(_LATENCY_ROWS * rows, inner, columns, "fp32")
            return milliseconds / (rows * inner * columns)

        return of


@dataclass(frozen=True)
class _Step:
    network: Network
    removed: tuple[int, ...]
    details: dict[str, Any]


def _step(now: Trace, goal: _Goal, settings: Prune, context: Context, share: float) -> _Step:
    """One step: as many groups as its share of the way needs."""
    roots = _roots(now, settings.what)
    calibration = context.train.select(context.calibration_index(settings.calibration_rows))
    weights = importance(now, roots, calibration, settings.importance)
    costs = Costs(now, roots, goal.price(settings))
    proof = calibration.batch.select(slice(0, _PROOF_ROWS))
    macs, latency_ms = goal.macs * settings.macs**share, None
    if goal.latency_ms is not None and settings.latency is not None:
        latency_ms = goal.latency_ms * settings.latency**share
    removed: tuple[int, ...] = ()
    refused: set[int] = set()
    network = now.network
    for _ in range(_ROUNDS):
        chosen = [roots[number] for number in choose(costs, weights, round(macs))]
        if not chosen:
            break
        network, removed, more = _taken_out(now, removed, chosen, proof)
        refused.update(more)
        if latency_ms is None or goal.cost is None:
            break
        reached = goal.cost.latency_ms(network, _LATENCY_ROWS)
        if reached <= latency_ms:
            break
        macs = costs.macs * min(latency_ms / reached, 0.95)
    return _Step(network, removed, _of_step(now, removed, refused))


def _taken_out(
    now: Trace, base: tuple[int, ...], roots: Sequence[int], proof: Batch
) -> tuple[Network, tuple[int, ...], tuple[int, ...]]:
    """The network without ``base`` and as many of ``roots`` as are proved to leave what they should; what is left,
    what went, and what did not."""
    network = _proved(now, (*base, *roots), proof)
    if network is not None:
        return network, (*base, *roots), ()
    if len(roots) == 1:
        left = _proved(now, base, proof) if base else now.network
        return left if left is not None else now.network, base, tuple(roots)
    half = len(roots) // 2
    _, base, first = _taken_out(now, base, roots[:half], proof)
    network, base, second = _taken_out(now, base, roots[half:], proof)
    return network, base, (*first, *second)


def _proved(now: Trace, removed: tuple[int, ...], proof: Batch) -> Network | None:
    """The smaller network; None where it cannot be made, or does not compute what it should."""
    try:
        smaller = shrink(now, frozenset(removed))
        return smaller if differs(now, frozenset(removed), smaller, proof) <= 1 else None
    except (Unshrinkable, InferenceError, onnx.checker.ValidationError, RuntimeError):
        return None


def _roots(now: Trace, what: Sequence[Prunable]) -> list[int]:
    return sorted(root for root in now.labels.groups() if _kind(now, root) in what)


def _kind(now: Trace, root: int) -> Prunable:
    kinds = {atom.kind for atom in now.labels.groups()[root]}
    return "fields" if "field" in kinds else "dimensions" if "dimension" in kinds else "neurons"


def _check(start: Trace, settings: Prune) -> None:
    roots = _roots(start, settings.what)
    costs = Costs(start, roots)
    if (costs.allowed() & (costs.saved() > 0)).any():
        return
    unknown = f"; {', '.join(start.unknown)} keeps all that it reads" if start.unknown else ""
    raise UsageError(
        "there is nothing in this model that can be taken out and saves multiply-adds",
        where="recipe: prune",
        got=f"{len(roots)} groups of {', '.join(settings.what)}, {costs.macs} multiply-adds{unknown}",
        hint="Leave 'prune' out of the recipe for this model, or let it take out more kinds ('what').",
    )


def _short(tuning: Tuning) -> Tuning:
    """Between two steps an epoch is enough: what is left unlearned is learned in the end."""
    return tuning.model_copy(update={"fit": tuning.fit.model_copy(update={"max_epochs": 1})})


def _of_step(now: Trace, removed: Sequence[int], refused: set[int]) -> dict[str, Any]:
    groups = now.labels.groups()
    fields = [atom.source for root in removed for atom in groups[root] if atom.kind == "field"]
    return {
        "removed": dict(Counter(_kind(now, root) for root in removed)),
        "fields": fields,
        "refused": len(refused),
    }


def _widths(found: Trace) -> dict[str, int]:
    """Columns of every layer, of every table, and of every product of values."""
    layers = {
        operation.output: operation.extents[operation.neurons]
        for operation in found.operations
        if isinstance(operation, Contraction) and operation.neurons
    }
    return layers | {f"table {name}": table.dim for name, table in found.network.tables.items()}


def _details(goal: _Goal, end: Trace, steps: list[dict[str, Any]]) -> dict[str, Any]:
    after = _widths(end)
    return {
        "macs_per_row": [goal.macs, steps[-1]["macs_per_row"]],
        "widths": {name: [width, after.get(name, 0)] for name, width in _widths(goal.start).items()},
        "unknown": goal.start.unknown,
        "steps": steps,
    }


def _text(goal: _Goal, end: Trace, steps: list[dict[str, Any]]) -> str:
    removed = Counter[str]()
    for step in steps:
        removed.update(step["removed"])
    fields = [name for step in steps for name in step["fields"]]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(removed.items()))
    share = steps[-1]["macs_per_row"] / max(goal.macs, 1)
    text = f"pruned to {share:.1%} of the multiply-adds: without {kinds or 'anything'}"
    return text + (f" ({numbered(fields)})" if fields else "")
