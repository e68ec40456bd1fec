"""One candidate, evaluated: sketched without training, trained at a fidelity, or quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

from rankine.compression.compress import apply_passes
from rankine.compression.context import Context
from rankine.compression.distill import student_of
from rankine.compression.outcome import PassReport
from rankine.compression.recipe import Distill, Pass, Prune, Quantize
from rankine.compression.search.records import FULL, SKETCH, Evaluation, Fidelity, Judge, SearchCost
from rankine.compression.search.shapes import shape_of
from rankine.compression.search.work import WorkFolder
from rankine.errors import RankineError
from rankine.models.macs import COUNTED_ROWS
from rankine.models.network import Network, network_of, size_of
from rankine.training.config import FitConfig

__all__ = ["COST_ROWS", "Evaluator", "learns", "reduced"]

COST_ROWS = 512
"""Rows of a call for which variants are costed and compared."""

_SKETCH_ROWS = 2048
"""Training rows on which graph passes are tried before anything is trained."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates candidates, each once: what the work folder knows is taken from there.

    Attributes:
        context: with all training rows.
        cost: predicts the latency of networks.
        judge: judges them on validation rows.
        threads: of a training.
    """

    context: Context
    cost: SearchCost
    judge: Judge
    work: WorkFolder
    threads: int

    def sketch(self, passes: Sequence[Pass]) -> Evaluation:
        """The candidate's sizes, without training."""
        key = self.work.key(passes, SKETCH)
        return self.work.find(key) or self._evaluate(key, passes, SKETCH)

    def train(self, passes: Sequence[Pass], fidelity: Fidelity) -> Evaluation:
        """The candidate at a fidelity; its network is kept where that is the full one."""
        key = self.work.key(passes, fidelity.name)
        return self.work.find(key, network=fidelity == FULL) or self._evaluate(key, passes, fidelity.name, fidelity)

    def quantize(self, form: Evaluation, settings: Quantize) -> Evaluation:
        """A form that was trained in full, quantized."""
        passes = (*form.passes, settings)
        key = self.work.key(passes, FULL.name)
        return self.work.find(key, network=True) or self._evaluate(key, passes, FULL.name, form=form)

    def known(self, passes: Sequence[Pass], fidelity: str) -> Evaluation | None:
        """What the work folder has of it."""
        return self.work.find(self.work.key(passes, fidelity), network=fidelity == FULL.name)

    def network(self, evaluation: Evaluation) -> Network:
        """Of an evaluation at full fidelity."""
        return self.work.network(evaluation.key)

    def _evaluate(
        self,
        key: str,
        passes: Sequence[Pass],
        fidelity: str,
        level: Fidelity | None = None,
        *,
        form: Evaluation | None = None,
    ) -> Evaluation:
        begin = perf_counter()
        network: Network | None = None
        reports: tuple[PassReport, ...] = ()
        try:
            costed: Network | None = None
            if fidelity == SKETCH:
                network, costed = _sketched(passes, self._contexts[SKETCH])
            elif form is not None:
                last = reduced(passes[-1], FULL, self.threads)
                network, reports = apply_passes(self.work.network(form.key), (last,), self.context)
                reports = (*form.reports, *reports)
            else:
                context = self._context(level or FULL)
                wanted = [reduced(step, level or FULL, self.threads) for step in passes]
                network, reports = apply_passes(context.baseline, wanted, context)
            found = Evaluation(
                key=key,
                passes=tuple(passes),
                fidelity=fidelity,
                size=size_of(network),
                latency_ms=self.cost.latency_ms(replace(costed or network, numeric="int8"), COST_ROWS),
                judged=None if fidelity == SKETCH else self.judge.judge(network),
                reports=reports,
                seconds=perf_counter() - begin,
            )
        except RankineError as error:  # the others go on
            seconds = perf_counter() - begin
            found = Evaluation(key=key, passes=tuple(passes), fidelity=fidelity, refused=str(error), seconds=seconds)
        self.work.put(found, network if fidelity == FULL.name and found.refused is None else None)
        return found

    @cached_property
    def _contexts(self) -> dict[str, Context]:
        rows = self.context.train.batch.rows
        return {SKETCH: _part(self.context, min(rows, _SKETCH_ROWS)), FULL.name: _part(self.context, rows)}

    def _context(self, fidelity: Fidelity) -> Context:
        """The context with a share of the training rows."""
        if fidelity.name not in self._contexts:
            count = fidelity.count(self.context.train.batch.rows)
            self._contexts[fidelity.name] = _part(self.context, count)
        return self._contexts[fidelity.name]


def reduced(settings: Pass, fidelity: Fidelity, threads: int) -> Pass:
    """A pass that learns no longer than a fidelity allows, on this many threads."""
    if isinstance(settings, Distill):
        return settings.model_copy(update={"fit": _shorter(settings.fit, fidelity, threads)})
    if settings.tune is None:
        return settings
    tune = settings.tune.model_copy(update={"fit": _shorter(settings.tune.fit, fidelity, threads)})
    update: dict[str, object] = {"tune": tune}
    if isinstance(settings, Prune) and fidelity != FULL:
        update["steps"] = 1
    return settings.model_copy(update=update)


def learns(passes: Sequence[Pass]) -> bool:
    """Whether anything is trained: else every fidelity gives the same."""
    return any(isinstance(step, Distill) or getattr(step, "tune", None) is not None for step in passes)


def _shorter(fit: FitConfig, fidelity: Fidelity, threads: int) -> FitConfig:
    epochs = fit.max_epochs if fidelity.epochs is None else min(fit.max_epochs, fidelity.epochs)
    return fit.model_copy(update={"max_epochs": epochs, "threads": threads})


def _part(context: Context, count: int) -> Context:
    """The context with a seeded sample of its training rows."""
    if count >= context.train.batch.rows:
        return context
    return replace(context, train=context.train.select(context.calibration_index(count)))


def _sketched(passes: Sequence[Pass], context: Context) -> tuple[Network, Network]:
    """A network of the candidate's shape, whose weights mean nothing: to be counted, and to be costed."""
    network = context.baseline
    if len(passes) == 1 and isinstance(passes[0], Distill) and network.module is not None:
        student = student_of(network.module, passes[0].model_copy(update={"warm_start": False}))
        return shape_of(student, COUNTED_ROWS), shape_of(student, COST_ROWS)
    for settings in passes:
        if isinstance(settings, Distill) and network.module is not None:
            network = network_of(student_of(network.module, settings.model_copy(update={"warm_start": False})))
        elif isinstance(settings, Distill | Quantize):
            network, _ = apply_passes(network, (settings,), context)  # tells why it cannot
        else:
            network, _ = apply_passes(network, (settings.model_copy(update={"tune": None}),), context)
    return network, network
