"""Where a pruning begins and where it is to arrive."""

from __future__ import annotations

from dataclasses import dataclass

from rankine.compression.context import Context, CostModel
from rankine.compression.prune.costs import Costs, Price, linear_shape
from rankine.compression.prune.groups import groups_of
from rankine.compression.prune.operations.contraction import Contraction
from rankine.compression.prune.trace import Trace, trace
from rankine.compression.recipe import Prune
from rankine.errors import UsageError
from rankine.models.network import Network, size_of
from rankine.models.torch_graph import untrainable

__all__ = ["LATENCY_ROWS", "Goal"]

LATENCY_ROWS = 512


@dataclass(frozen=True)
class Goal:
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
    def of(cls, network: Network, settings: Prune, context: Context) -> Goal:
        """The goal of a pass.

        Raises:
            UsageError: the graph has no gradients, there is nothing that can be taken out, or a latency is asked for
                and there is no cost model.
        """
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
        _check(start, settings)
        cost = context.cost if settings.latency is not None else None
        latency = cost.latency_ms(network, LATENCY_ROWS) if cost is not None else None
        return cls(start, size_of(network).macs_per_row, latency, cost)

    def is_late(self, network: Network, share: float) -> float:
        """How many times too slow a network is when it is to have this share of the first latency; 1 or less: it is
        not, or nobody asks."""
        if self.cost is None or self.latency_ms is None:
            return 0.0
        return self.cost.latency_ms(network, LATENCY_ROWS) / (self.latency_ms * share)

    def price(self, settings: Prune) -> Price | None:
        """Milliseconds of a multiply-add in each product; None where multiply-adds are what counts."""
        cost = self.cost
        if cost is None:
            return None

        def of(operation: Contraction) -> float:
            rows, inner, columns = linear_shape(operation)
            milliseconds = cost.layer_ms(LATENCY_ROWS * rows, inner, columns, "fp32")
            return milliseconds / (rows * inner * columns)

        return of


def _check(start: Trace, settings: Prune) -> None:
    roots = groups_of(start, settings.what)
    costs = Costs(start, roots)
    if (costs.allowed() & (costs.saved()[0] > 0)).any():
        return
    unknown = f"; {', '.join(start.unknown)} keeps all that it reads" if start.unknown else ""
    raise UsageError(
        "there is nothing in this model that can be taken out and saves multiply-adds",
        where="recipe: prune",
        got=f"{len(roots)} groups of {', '.join(settings.what)}, {costs.macs} multiply-adds{unknown}",
        hint="Leave 'prune' out of the recipe for this model"
        + (", or widen 'what'." if len(settings.what) < 3 else "."),
    )
