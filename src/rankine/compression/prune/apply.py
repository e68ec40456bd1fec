"""The pass: trace, measure, take out, prove, fine-tune, as often as there are steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rankine.compression.context import Context
from rankine.compression.fine_tune import fine_tune
from rankine.compression.outcome import Outcome
from rankine.compression.prune.choose import choose
from rankine.compression.prune.costs import Costs
from rankine.compression.prune.goal import Goal
from rankine.compression.prune.groups import groups_of
from rankine.compression.prune.importance import importance
from rankine.compression.prune.proof import Roots, take_out
from rankine.compression.prune.summary import details_of, step_details, text_of
from rankine.compression.prune.trace import Trace, trace
from rankine.compression.recipe import Prune, Tuning
from rankine.events import Note
from rankine.models.network import Network, size_of

__all__ = ["prune"]

_PROOF_ROWS = 512
_ROUNDS = 8
"""How often a step takes out more, where the multiply-adds are met and the latency is not."""
_LEAST_PROGRESS = 0.95


def prune(network: Network, settings: Prune, context: Context) -> Outcome:
    """Take whole channels, dimensions and features out of ``network``, until its budgets are met.

    Raises:
        UsageError: the model cannot be trained, there is nothing in it that can be taken out, or a latency is asked for
            and there is no cost model.
    """
    goal = Goal.of(network, settings, context)
    now, steps = goal.start, []
    for number in range(1, settings.steps + 1):
        step = _step(now, goal, settings, context, number / settings.steps)
        network, found = step.network, step.details
        if settings.tune is not None and step.removed:
            tuning = settings.tune if number == settings.steps else _short(settings.tune)
            network, result = fine_tune(network, tuning, context, task=f"prune {number}/{settings.steps}")
            found["fit"] = result.model_dump(mode="json")
        now = trace(network)
        found["macs_per_row"] = size_of(network).macs_per_row
        steps.append(found)
        context.emit(Note("prune", f"step {number} of {settings.steps}", {"MACs": found["macs_per_row"]}))
    return Outcome(network, text_of(goal, settings, network, steps), details_of(goal, now, steps))


@dataclass(frozen=True)
class _Step:
    network: Network
    removed: Roots
    details: dict[str, Any]


def _step(now: Trace, goal: Goal, settings: Prune, context: Context, share: float) -> _Step:
    """One step: as many groups as its share of the way needs."""
    roots = groups_of(now, settings.what)
    calibration = context.train.select(context.calibration_index(settings.calibration_rows))
    weights = importance(now, roots, calibration, settings.importance)
    costs = Costs(now, roots, goal.price(settings))
    proof = calibration.batch.select(slice(0, _PROOF_ROWS))
    network, removed, refused = now.network, Roots(), 0
    # What is in products of other forms, such as recurrent layers, stays and counts.
    macs = goal.macs * settings.macs**share - (size_of(network).macs_per_row - costs.macs)
    for _ in range(_ROUNDS):
        chosen = [roots[number] for number in choose(costs, weights, round(macs))]
        if chosen:
            network, removed, more = take_out(now, removed, chosen, proof)
            refused += len(more)
        excess = goal.is_late(network, (settings.latency or 1.0) ** share)
        if excess <= 1 or (removed and not chosen):
            break
        macs = costs.macs * min(1 / excess, _LEAST_PROGRESS)
    return _Step(network, removed, step_details(now, removed, refused))


def _short(tuning: Tuning) -> Tuning:
    """Between two steps an epoch is enough: what is left unlearned is learned in the end."""
    return tuning.model_copy(update={"fit": tuning.fit.model_copy(update={"max_epochs": 1})})
