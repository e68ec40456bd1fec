"""How large the batches of each device should be, and by which device what waits is planned."""

from __future__ import annotations

from collections.abc import Sequence

from rankine.policy.batching import Limits, Shape
from rankine.policy.cost import CostModel
from rankine.policy.placement import Device

__all__ = ["Sizes"]

_REFIT_EVERY = 16
_LEAD = 1.1
"""Another device leads once it does so many times the rows: two that are alike should not take turns at it."""


class Sizes:
    """Sizes of several devices' batches, which follow what their cost models learn."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._shapes: dict[str, tuple[CostModel, int, Shape]] = {}

    def of(self, device: Device) -> Shape:
        """Where a batch of a device is large enough, and where it is too large."""
        known, cost = self._shapes.get(device.name), device.cost
        if known is not None and known[0] is cost and cost.observed < known[1] + _REFIT_EVERY:
            return known[2]
        shape = Shape.of(cost, self._limits)
        self._shapes[device.name] = cost, cost.observed, shape
        return shape

    def lead(self, devices: Sequence[Device], lead: int) -> int:
        """The device that does the most rows per second in batches of its own size.

        By its sizes batches are planned: they grow as large as pays on it, and the others take what they can do of
        them. Were they of a slower device's size, a fast one that has to be launched would be launched for too little.

        Args:
            devices: all. ``lead``: the one that leads so far.
        """
        rates = [self._rows_per_s(device) for device in devices]
        best = max(range(len(rates)), key=rates.__getitem__)
        return best if rates[best] > _LEAD * rates[lead] else lead

    def _rows_per_s(self, device: Device) -> float:
        rows = self.of(device).target_rows
        return rows / device.cost.mean_s(rows)
