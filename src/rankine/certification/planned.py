"""Which pairs are tested at which margins and in which order; which certificates are kept, and what is served."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.evaluation import EvaluationRows
from rankine.certification.margins import Margins
from rankine.certification.order import order_of, outlook_of
from rankine.certification.plan import Pair, Plan, deciding
from rankine.certification.scoring import baseline_engine, score
from rankine.certification.settings import CertifySettings
from rankine.certification.trial import Trial
from rankine.compilation.compile import read_build
from rankine.errors import UsageError
from rankine.events import Emit, Note
from rankine.models.variant import BASELINE, variant_names

__all__ = [
    "Certificates",
    "PairTest",
    "Timings",
    "check_sequence",
    "fastest",
    "fastest_certified",
    "kept_tests",
    "pairs_to_test",
    "tests_in_order",
]

Timings = Mapping[str, Mapping[str, float]]
"""Milliseconds by variant and engine, the fastest engine first: the primary one."""


@dataclass(frozen=True, slots=True)
class PairTest:
    """A (variant, engine), and the margins that it is tested at."""

    pair: Pair
    margins: Margins

    @property
    def name(self) -> str:
        """Variant and engine, for a reader."""
        return " on ".join(self.pair)


Certificates = Mapping[PairTest, Sequence[QualityCertificate]]
"""Quality certificates, one a task, by test."""


def check_sequence(artifact: Artifact, sequence: Sequence[tuple[str, Margins]]) -> None:
    """Raise :class:`~rankine.errors.UsageError` if a sequence names what is no compressed variant."""
    compressed = [name for name in variant_names(artifact) if name != BASELINE]
    unknown = next((name for name, _ in sequence if name not in compressed), None)
    if unknown is not None:
        raise UsageError(
            "no compressed variant of this artifact", where="sequence", got=unknown, allowed=", ".join(compressed)
        )


def fastest(engines: Mapping[str, float]) -> str:
    """The primary engine of a variant."""
    return next(iter(engines))


def pairs_to_test(artifact: Artifact, timings: Timings) -> list[Pair]:
    """The pairs that take a quality certificate: each variant on its fastest engine, and on those that build a numeric
    form of their own."""
    return [
        (variant, engine)
        for variant, engines in timings.items()
        for engine in engines
        if _has_own_form(artifact, variant, engine, primary=fastest(engines))
    ]


def tests_in_order(
    artifact: Artifact,
    pairs: Sequence[Pair],
    sequence: Sequence[tuple[str, Margins]],
    validation: EvaluationRows,
    margins: Margins,
    settings: CertifySettings,
    emit: Emit,
) -> list[PairTest]:
    """The tests of compressed variants in their order: the given sequence, then the others as validation rows say.

    Args:
        pairs: all that take a quality certificate.
        sequence: variants with margins of their own; the others are tested at ``margins``.
    """
    given = [PairTest(pair, at) for variant, at in sequence for pair in pairs if pair[0] == variant]
    planned = {BASELINE, *(variant for variant, _ in sequence)}
    others = [pair for pair in pairs if pair[0] not in planned]
    ordered = _ordered(artifact, others, validation, margins, settings, emit)
    return list(dict.fromkeys([*given, *(PairTest(pair, margins) for pair in ordered)]))


def kept_tests(found: Certificates) -> dict[Pair, PairTest]:
    """Of each pair the test at the smallest margin that passed; of one that passed at none that at the largest: a loss
    that is too much there is too much everywhere."""
    kept = {}
    for pair in dict.fromkeys(test.pair for test in found):
        tests = [test for test in found if test.pair == pair]
        passed = [test for test in tests if deciding(found[test]).passed]
        kept[pair] = min(passed, key=_margin) if passed else max(tests, key=_margin)
    return kept


def _margin(test: PairTest) -> float:
    return test.margins.auc


def fastest_certified(kept: Certificates, timings: Timings, margins: Margins) -> Plan | None:
    """What is served by default: the fastest pair that passed at these margins or smaller ones, by that of AUC."""
    passed = [
        Plan(variant=variant, engine=engine, p50_ms_512=timings[variant][engine])
        for test, certificates in kept.items()
        for variant, engine in [test.pair]
        if deciding(certificates).passed and test.margins.auc <= margins.auc and timings[variant][engine] < math.inf
    ]
    return min(passed, key=lambda plan: plan.p50_ms_512, default=None)


def _ordered(
    artifact: Artifact,
    pairs: Sequence[Pair],
    validation: EvaluationRows,
    margins: Margins,
    settings: CertifySettings,
    emit: Emit,
) -> list[Pair]:
    """The pairs in the order in which they are tested. It comes from validation rows, which are no use of the test
    split: nothing is written or counted."""
    if len(pairs) < 2:
        return list(pairs)
    baseline = score(artifact, BASELINE, baseline_engine(artifact), validation.batch, emit)
    trial = Trial(rows=validation, baseline=baseline, settings=settings)
    outlooks = {}
    for pair in pairs:
        logits = score(artifact, *pair, validation.batch, emit)
        outlooks[pair] = outlook_of(trial, artifact, pair, logits, margins)
    order = order_of(outlooks)
    figures = {f"{variant} on {engine}": outlooks[variant, engine].p_value for variant, engine in order}
    emit(Note("order of tests", "p-value on validation rows; where it is the same, by change of AUC", figures))
    return order


def _has_own_form(artifact: Artifact, variant: str, engine: str, *, primary: str) -> bool:
    """Whether a quality certificate of the primary engine says nothing of this one."""
    forms = {read_build(artifact, variant, name).numeric_form for name in (primary, engine)}
    return engine == primary or len(forms) > 1
