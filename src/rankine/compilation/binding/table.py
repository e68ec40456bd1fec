"""What the split gives, model by model: multiply-adds and bytes of a row, before and after."""

from __future__ import annotations

from collections.abc import Iterable

from rankine.compilation.binding.lattice import sides_of
from rankine.compilation.binding.plan import Settings
from rankine.compilation.binding.split import split_graph
from rankine.config import Frozen
from rankine.models.network import Network

__all__ = ["SplitRow", "as_markdown", "split_table"]

_DEFAULT = Settings()


class SplitRow(Frozen):
    """One model.

    Attributes:
        macs_before, macs_candidate: multiply-adds for a row; ``macs_catalog`` for an item, ``macs_request`` for a
            request.
        bytes_before, bytes_after: that a row gathers.
        stored_bytes: of an item, beside its features.
    """

    model: str
    macs_before: int
    macs_candidate: int
    macs_catalog: int
    macs_request: int
    bytes_before: int
    bytes_after: int
    stored_bytes: int

    @property
    def share(self) -> float:
        """Of the multiply-adds of a row, what is left."""
        return self.macs_candidate / self.macs_before if self.macs_before else 1.0


def split_table(networks: Iterable[tuple[str, Network]], settings: Settings = _DEFAULT) -> list[SplitRow]:
    """A row for each model, by name."""
    return [_row(name, network, settings) for name, network in networks]


def as_markdown(rows: Iterable[SplitRow]) -> str:
    """The rows as a table."""
    lines = [
        "| model | MACs a row | with the split | left | an item | a request | bytes a row | with the split | stored |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        macs = f"{row.macs_before:,} | {row.macs_candidate:,} | {row.share:.0%}"
        early = f"{row.macs_catalog:,} | {row.macs_request:,}"
        sizes = f"{row.bytes_before:,} | {row.bytes_after:,} | {row.stored_bytes:,}"
        lines.append(f"| {row.model} | {macs} | {early} | {sizes} |")
    return "\n".join(lines)


def _row(name: str, network: Network, settings: Settings) -> SplitRow:
    plan = split_graph(network.graph, sides_of(network.schema), settings).plan
    return SplitRow(
        model=name,
        macs_before=plan.work.before,
        macs_candidate=plan.work.candidate,
        macs_catalog=plan.work.catalog,
        macs_request=plan.work.request,
        bytes_before=plan.bytes_before,
        bytes_after=plan.bytes_per_row,
        stored_bytes=plan.stored_bytes_per_item,
    )
