"""Candidates that need no training to be turned down: too large for the target, or no better than another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rankine.compression.recipe import Distill
from rankine.compression.search.records import Evaluation, Target
from rankine.errors import UsageError
from rankine.models.network import Size

__all__ = ["Costing", "screened"]

_ROOM = 2.0
"""Candidates up to so many times over the target are tried too: predictions err, and quantization takes more off."""
_COMPARED = ("macs_per_row", "parameters")


@dataclass(frozen=True)
class Costing:
    """What a candidate costs, as one number.

    Attributes:
        baseline: its size.
        baseline_ms: its latency at 512 rows in PyTorch eager.
        target: what is to be reached.
    """

    baseline: Size
    baseline_ms: float
    target: Target

    def shares(self, evaluation: Evaluation) -> dict[str, float]:
        """Latency, multiply-adds and bytes as shares of the baseline's."""
        size, latency_ms = evaluation.size, evaluation.latency_ms
        if size is None or latency_ms is None:
            return {}
        return {
            "latency": latency_ms / self.baseline_ms,
            "macs": size.macs_per_row / max(1, self.baseline.macs_per_row),
            "bytes": size.bytes / max(1, self.baseline.bytes),
        }

    def of(self, evaluation: Evaluation) -> float:
        """The share that is farthest from its target, as a multiple of it; without a target the latency's share."""
        shares, given = self.shares(evaluation), self.target.given
        return max(shares[name] / share for name, share in given.items()) if given else shares["latency"]


def screened(sketches: Sequence[Evaluation], costing: Costing) -> list[Evaluation]:
    """Those that are worth training, in their order.

    Raises:
        UsageError: no candidate can be built, or none is small enough for the target; says what came closest.
    """
    built = [found for found in sketches if found.refused is None]
    if not built:
        reasons = "; ".join(sorted({str(found.refused) for found in sketches})[:3])
        raise UsageError("no candidate fits this model", where="search", got=reasons, hint="Give another --space.")
    closest = min(built, key=costing.of)
    if costing.target.given and costing.of(closest) > _ROOM:
        raise _out_of_reach(closest, costing)
    if costing.target.given:
        built = [found for found in built if costing.of(found) <= _ROOM]
    return [found for found in built if not any(_beats(other, found, costing) for other in built if other != found)]


def _beats(other: Evaluation, found: Evaluation, costing: Costing) -> bool:
    """Whether ``other`` is at least as large in every respect, and costs no more."""
    here, there = _capacity(found), _capacity(other)
    if here.keys() != there.keys() or costing.of(other) > costing.of(found):
        return False
    if any(there[name] < here[name] for name in here):
        return False
    return there != here or other.key < found.key


def _capacity(found: Evaluation) -> dict[str, float]:
    """What makes a candidate more able, by name; only candidates with the same names can be compared."""
    kind = "+".join(step.type for step in found.passes)
    if len(found.passes) == 1 and isinstance(found.passes[0], Distill):
        step = found.passes[0]
        sizes = {"hidden": step.hidden, "cross_layers": step.cross_layers} | dict(step.sizes)
        return {f"{kind}.{name}": value for name, value in _flat(sizes)}
    size = found.size
    return {} if size is None else {f"{kind}.{name}": float(getattr(size, name)) for name in _COMPARED}


def _flat(sizes: dict[str, object]) -> list[tuple[str, float]]:
    pairs: list[tuple[str, float]] = []
    for name, value in sizes.items():
        if isinstance(value, list | tuple):
            pairs += [(f"{name}.{place}", float(width)) for place, width in enumerate(value)]
        elif value is None:
            pairs.append((name, float("inf")))  # a full matrix is above every rank
        elif isinstance(value, int | float):
            pairs.append((name, float(value)))
        else:
            pairs.append((f"{name}={value}", 0.0))
    return pairs


def _out_of_reach(closest: Evaluation, costing: Costing) -> UsageError:
    shares = costing.shares(closest)
    asked = ", ".join(f"{name}={share:g}" for name, share in costing.target.given.items())
    reached = ", ".join(f"{name}={shares[name]:.3g}" for name in costing.target.given)
    return UsageError(
        "no candidate of the search comes near",
        where=f"target: {asked}",
        got=f"{reached} of the baseline, predicted for the closest one: {closest.text}",
        hint="Ask for less, or give smaller candidates by --space.",
    )
