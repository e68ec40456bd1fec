"""Which device runs what: each batch goes where it is predicted to be done first.

A set of devices (engine, device, threads) with a cost model each. Large batches go to the fast device, small ones to
whichever is near and free, and one large request is divided among several where that pays (the idea of DeepRecSys,
Gupta et al. 2020, made online).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from rankine.policy.batching import FormedBatch, Shape, Waiting
from rankine.policy.cost import CostModel
from rankine.policy.reason import Reason

__all__ = ["Device", "Part", "Placement", "Turn", "next_for", "place"]

W = TypeVar("W", bound=Waiting)

_GAIN = 0.9
"""A request is divided only where it is then done in less than this share of the time: the parts cost more in all."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something that runs batches, one at a time.

    Attributes:
        name: engine, device and threads, for people.
        free_s: when what it runs is predicted to be done; in the past, where it is idle.
    """

    name: str
    cost: CostModel
    free_s: float = 0.0

    def finish_s(self, rows: int, requests: int, now_s: float) -> float:
        """When a batch would be done."""
        return max(now_s, self.free_s) + self.cost.mean_s(rows, requests)


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows on one device, by its place in the list that was given."""

    device: int
    first_row: int
    rows: int


class Turn(NamedTuple):
    """What a device takes: the first ``pieces`` of a planned batch, by its place in the list that was given."""

    batch: int
    pieces: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a batch runs, and when all of it is predicted to be done."""

    parts: tuple[Part, ...]
    finish_s: float
    reason: Reason


def place(
    rows: int, requests: int, devices: Sequence[Device], now_s: float, *, divisible: bool = False, least_rows: int = 64
) -> Placement:
    """Where a batch is predicted to be done first, which may be a device that is still busy.

    Args:
        devices: one at least.
        divisible: it may be divided among devices.
        least_rows: no part is smaller.
    """
    finish_s = [device.finish_s(rows, requests, now_s) for device in devices]
    first = min(range(len(devices)), key=finish_s.__getitem__)
    reason = Reason.ONLY if len(devices) == 1 else Reason.LEAST_FINISH
    whole = Placement((Part(first, 0, rows),), finish_s[first], reason)
    if not divisible or len(devices) == 1 or rows < 2 * least_rows:
        return whole
    shared = _share(rows, devices, now_s, finish_s[first], least_rows)
    worth = shared is not None and shared.finish_s - now_s <= _GAIN * (whole.finish_s - now_s)
    return shared if shared is not None and worth else whole


def _share(rows: int, devices: Sequence[Device], now_s: float, most_s: float, least_rows: int) -> Placement | None:
    """``rows`` divided so that all devices are done at about the same time; None where only one would have a part."""
    soon_s, late_s = now_s, most_s
    for _ in range(30):
        middle_s = (soon_s + late_s) / 2
        soon_s, late_s = (
            (soon_s, middle_s) if sum(_room(devices, now_s, middle_s, least_rows)) >= rows else (middle_s, late_s)
        )
    parts: list[Part] = []
    left = rows
    room = _room(devices, now_s, late_s, least_rows)
    for at in sorted(range(len(devices)), key=room.__getitem__, reverse=True):
        took = min(left, room[at])
        # What would be left over is too small to be a part.
        if 0 < left - took < least_rows and took > least_rows:
            took = max(least_rows, left - least_rows)
        if took:
            parts.append(Part(at, rows - left, took))
            left -= took
    if left or len(parts) < 2:
        return None
    finish_s = max(devices[part.device].finish_s(part.rows, 1, now_s) for part in parts)
    return Placement(tuple(parts), finish_s, Reason.SPREAD)


def _room(devices: Sequence[Device], now_s: float, until_s: float, least_rows: int) -> list[int]:
    """Rows that each device can do by a time; 0 where it is not even ``least_rows``."""
    rows = [device.cost.rows_within(until_s - max(now_s, device.free_s)) for device in devices]
    return [each if each >= least_rows else 0 for each in rows]


def next_for(
    device: int,
    batches: Sequence[FormedBatch[W]],
    devices: Sequence[Device],
    now_s: float,
    *,
    shape: Shape | None = None,
    left: int | None = None,
) -> Turn | None:
    """Which of the planned batches an idle device should run: the first that it is predicted to finish before others.

    Batches are given to devices in their order, each to the one that finishes it first, busy ones included. A slow
    device so leaves a batch to a fast one that will be free soon, and takes what the fast one would come to too late.
    Of a batch that is larger than is efficient for it, a device takes only the first requests; also of one that goes to
    another, where it is done with these before that one is done with all.

    Args:
        device: the one that asks, by its place in ``devices``.
        batches: as they are planned, the most urgent first.
        shape: the sizes of its own batches; whole batches only, where it is not given.
        left: a batch that is spoken for.

    Returns:
        None where everything is done sooner without this device.
    """
    free_s = [max(now_s, each.free_s) for each in devices]
    for at, batch in enumerate(batches):
        if at == left:
            continue
        finish_s = [
            free + each.cost.mean_s(batch.rows, batch.requests) for free, each in zip(free_s, devices, strict=True)
        ]
        first = min(range(len(devices)), key=lambda each: (finish_s[each], each != device))
        if first == device:
            return Turn(at, len(batch.pieces) if shape is None else _efficient(batch, shape, devices[device].cost))
        if shape is not None and len(batch.pieces) > 1:
            pieces = _efficient(batch, shape, devices[device].cost)
            some = batch.pieces[:pieces]
            rows, requests = sum(each.rows for each in some), sum(each.entry.work.requests for each in some)
            if pieces < len(batch.pieces) and devices[device].finish_s(rows, requests, now_s) < finish_s[first]:
                return Turn(at, pieces)
        free_s[first] = finish_s[first]
    return None


def _efficient(batch: FormedBatch[W], shape: Shape, cost: CostModel) -> int:
    """How many of a batch's first pieces make an efficient batch of a device's own; one at least."""
    if batch.rows <= shape.target_rows:
        return len(batch.pieces)
    rows = requests = 0
    for at, piece in enumerate(batch.pieces):
        own = piece.entry.work.requests
        if at:
            joined_s = cost.mean_s(rows + piece.rows, requests + own)
            full = rows >= shape.target_rows or rows + piece.rows > shape.most_rows
            if full or joined_s > cost.mean_s(rows, requests) + cost.mean_s(piece.rows, own):
                return at
        rows, requests = rows + piece.rows, requests + own
    return len(batch.pieces)
