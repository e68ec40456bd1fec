"""``search``: sketch all candidates, train the promising ones a little, then fewer in full, then quantize those.

Successive halving (Jamieson & Talwalkar 2016; Li et al., "ASHA", MLSys 2020) where a candidate is judged by two
numbers: what it loses on validation rows, and what it costs. Test rows are never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic

from rankine.compression.recipe import Distill
from rankine.compression.search.evaluate import COST_ROWS, Evaluator, learns
from rankine.compression.search.front import fronts, promote, spread
from rankine.compression.search.records import FULL, Evaluation, Fidelity, SearchSettings, named
from rankine.compression.search.screen import Costing, screened
from rankine.compression.search.space import Form, SearchSpace
from rankine.errors import QualityGateFailed
from rankine.events import Emit, Note, ignore, step
from rankine.models.network import Network

__all__ = ["Found", "search"]


@dataclass(frozen=True)
class Found:
    """A variant that the search hands on.

    Attributes:
        cost: see :meth:`rankine.compression.search.screen.Costing.of`.
        shares: of the baseline's latency, multiply-adds and bytes; the latency is predicted.
    """

    evaluation: Evaluation
    network: Network
    cost: float
    shares: dict[str, float]


def search(
    evaluator: Evaluator,
    space: SearchSpace,
    costing: Costing,
    settings: SearchSettings,
    *,
    time_budget_s: float | None = None,
    emit: Emit = ignore,
) -> tuple[Found, ...]:
    """Variants of which no other one is both better on validation rows and cheaper; the cheapest first.

    What the evaluator's work folder knows is not done again: an interrupted search that is started again goes on.

    Args:
        time_budget_s: of the whole search. When the time of a round is over, the next goes on with what was tried; one
            that would begin late is left out. At least one candidate is trained in full.

    Raises:
        UsageError: no candidate fits the model, or comes near the target.
        QualityGateFailed: every variant lost more than ``settings.largest_loss``; says what the best one lost.
    """
    clock = _Clock(time_budget_s)
    chosen = screened(_sketch(evaluator, space, emit), costing)
    emit(Note("search", f"{len(chosen)} of {len(space.forms)} candidates are worth a training"))
    untrained = [found.passes for found in chosen if not learns(found.passes)]
    forms = _narrowed(
        evaluator, [found.passes for found in chosen if learns(found.passes)], costing, settings, clock, emit
    )
    finals = _level(evaluator, [*untrained, *forms], FULL, clock.until(0.9), emit)
    quantized = _quantize(evaluator, finals, space, clock.until(1.0), emit)
    return _handed_on(evaluator, [*finals, *quantized], costing, settings)


class _Clock:
    """Moments until which the stages of a search may begin evaluations."""

    def __init__(self, budget_s: float | None) -> None:
        self._start, self._budget_s = monotonic(), budget_s

    def until(self, share: float) -> _Deadline:
        """The moment when this share of the budget has been used."""
        return _Deadline(inf if self._budget_s is None else self._start + share * self._budget_s)


@dataclass(frozen=True)
class _Deadline:
    at_s: float

    @property
    def left_s(self) -> float:
        """Seconds until then, none after it."""
        return max(0.0, self.at_s - monotonic())

    @property
    def over(self) -> bool:
        return self.left_s == 0


def _sketch(evaluator: Evaluator, space: SearchSpace, emit: Emit) -> list[Evaluation]:
    found = []
    with step(emit, "sketch candidates", total=len(space.forms), unit="candidates") as advance:
        for number, form in enumerate(space.forms):
            found.append(evaluator.sketch(form))
            if (refused := found[-1].refused) is not None:
                emit(Note("sketch candidates", f"left out: {refused}"))
            advance(number + 1, named(form))
    return found


def _narrowed(
    evaluator: Evaluator,
    forms: list[Form],
    costing: Costing,
    settings: SearchSettings,
    clock: _Clock,
    emit: Emit,
) -> list[Form]:
    """The forms that are worth a full training, those that lose least first."""
    for number, fidelity in enumerate(settings.fidelities):
        kept = max(settings.finalists, round(settings.keep * len(forms)))
        if len(forms) <= kept:
            continue  # nothing to decide here
        deadline = clock.until(0.6 * (number + 1) / len(settings.fidelities))
        if deadline.over:
            continue  # what there is time for is spent on full trainings
        found = _level(evaluator, forms, fidelity, deadline, emit)
        forms = [each.passes for each in _promoted(found, kept, costing, settings)]
    return forms


def _level(
    evaluator: Evaluator, forms: Sequence[Form], fidelity: Fidelity, deadline: _Deadline, emit: Emit
) -> list[Evaluation]:
    """Forms at one fidelity, without those that were refused: as long as there is time, but in any case one that learns
    and all that learn nothing, which take seconds."""
    found: list[Evaluation] = []
    untried = 0
    known = [evaluator.known(form, fidelity.name) for form in forms]
    begun = any(learns(each.passes) for each in known if each is not None and each.refused is None)
    with step(emit, f"train at {fidelity.name}", total=len(forms), unit="candidates") as advance:
        for number, form in enumerate(forms):
            if deadline.over and begun and learns(form) and known[number] is None:
                untried += 1
                continue
            evaluation = evaluator.train(form, fidelity)
            if evaluation.refused is None:
                found.append(evaluation)
                begun = begun or learns(form)
            _tell(evaluation, emit)
            advance(number + 1, _eta(found, known[number + 1 :].count(None), deadline.left_s))
        if untried:
            emit(Note("search", f"out of time: {untried} candidates stay untried at {fidelity.name}"))
    return found


def _quantize(
    evaluator: Evaluator, finals: Sequence[Evaluation], space: SearchSpace, deadline: _Deadline, emit: Emit
) -> list[Evaluation]:
    """Every form that was trained in full with every quantization; the first of them also where time is over."""
    pairs = [(form, settings) for settings in space.quantizations for form in finals]
    known = [evaluator.known((*form.passes, settings), FULL.name) for form, settings in pairs]
    found: list[Evaluation] = []
    untried = 0
    with step(emit, "quantize", total=len(pairs), unit="candidates") as advance:
        for number, (form, settings) in enumerate(pairs):
            if deadline.over and number >= len(finals) and known[number] is None:
                untried += 1
                continue
            evaluation = evaluator.quantize(form, settings)
            if evaluation.refused is None:
                found.append(evaluation)
            _tell(evaluation, emit)
            advance(number + 1, _eta(found, known[number + 1 :].count(None), deadline.left_s))
        if untried:
            emit(Note("search", f"out of time: {untried} quantizations stay untried"))
    return found


def _promoted(found: Sequence[Evaluation], count: int, costing: Costing, settings: SearchSettings) -> list[Evaluation]:
    """Those that go on to the next fidelity, those that lose least first.

    Students begin anew and need epochs to catch up; what is cut out of the baseline begins where that is. So each kind
    is compared with its own, and has its share of the places.
    """
    going_on: list[Evaluation] = []
    for anew in (True, False):
        kind = [each for each in found if any(isinstance(step, Distill) for step in each.passes) == anew]
        best = min((each.loss for each in kind), default=0.0)
        near = [each for each in kind if each.loss <= best + settings.hopeless]
        places = max(1, round(count * len(kind) / max(1, len(found))))
        chosen = promote([(each.loss, costing.of(each)) for each in near], places)
        going_on += [near[place] for place in chosen]
    return sorted(going_on, key=lambda each: (each.loss, each.key))


def _handed_on(
    evaluator: Evaluator, found: Sequence[Evaluation], costing: Costing, settings: SearchSettings
) -> tuple[Found, ...]:
    """The variants that nothing beats, the cheapest first; at most as many as there can be finalists."""
    variants = [each for each in found if each.passes]
    good = [each for each in variants if each.loss <= settings.largest_loss]
    if not good:
        closest = min(variants, key=lambda each: each.loss, default=None)
        raise QualityGateFailed(
            "every variant of the search lost too much on validation rows",
            where="search",
            got="no variant" if closest is None else f"AUC {-closest.loss:+.5f} at best: {closest.text}",
            allowed=f"a loss of {settings.largest_loss:g}",
            hint="Accept a larger --max-auc-drop, search longer, or ask for larger variants.",
        )
    made = [_found(evaluator, each, costing) for each in good]
    front = fronts([(each.evaluation.loss, each.cost) for each in made])[0]
    return tuple(made[front[place]] for place in spread(len(front), settings.finalists))


def _found(evaluator: Evaluator, evaluation: Evaluation, costing: Costing) -> Found:
    """A variant with the latency of the form that it has: until here it was costed as INT8."""
    network = evaluator.network(evaluation)
    latency_ms = evaluator.cost.latency_ms(network, COST_ROWS)
    own = evaluation.model_copy(update={"latency_ms": latency_ms})
    return Found(own, network, costing.of(own), costing.shares(own))


def _tell(evaluation: Evaluation, emit: Emit) -> None:
    if evaluation.refused is not None or evaluation.judged is None or evaluation.size is None:
        emit(Note("search", f"left out: {evaluation.refused}"))
        return
    figures = {
        "loss": evaluation.loss,
        "AUC change": evaluation.judged.auc_change,
        "predicted ms": evaluation.latency_ms or 0.0,
        "MACs": evaluation.size.macs_per_row,
    }
    emit(Note("search", evaluation.text, figures))


def _eta(found: Sequence[Evaluation], left: int, room_s: float) -> str:
    """How long a round will still take, by what its evaluations took so far.

    Args:
        left: evaluations of the round that are not known yet.
        room_s: seconds in which it may begin one.
    """
    like = [each for each in found if learns(each.passes)] or found  # what learns takes longest, and comes last
    if not like or not left:
        return ""
    each_s = sum(each.seconds for each in like) / len(like)
    minutes = min(left * each_s, room_s + each_s) / 60  # the last one may begin just before the time is over
    return f"about {minutes:.0f} min left in this round" if minutes >= 1 else "less than a minute left in this round"
