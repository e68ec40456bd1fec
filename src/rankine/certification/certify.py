"""``certify``: every compiled variant against the baseline on the test split, and the plan of what is to be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.certification.certificate import QualityCertificate
from rankine.certification.evaluation import held_out_rows, slices_for, split_facts
from rankine.certification.ledger import USES_FILE, SplitUse, SplitUses, read_uses, record_use, split_key
from rankine.certification.margins import Margins
from rankine.certification.order import apply_procedure
from rankine.certification.parity_here import kept_rows
from rankine.certification.plan import (
    PLAN_FILE,
    SERVED,
    Pair,
    deciding,
    parity_file,
    place_of,
    quality_file,
    scores_file,
)
from rankine.certification.planned import (
    Certificates,
    PairTest,
    Timings,
    check_sequence,
    fastest,
    fastest_certified,
    kept_tests,
    pairs_to_test,
    tests_in_order,
)
from rankine.certification.provenance import created_at
from rankine.certification.scoring import baseline_engine, score, timings_ms
from rankine.certification.settings import CertifySettings
from rankine.certification.standing import parity_told
from rankine.certification.trial import Trial, model_facts
from rankine.data.dataset import Dataset
from rankine.events import Emit, Note, ignore
from rankine.models.variant import BASELINE, variant_names
from rankine.training.record import check_same_data

__all__ = ["certify"]

_LADDER_FILE = "ladder.json"
"""Made of certificates, by a later stage: none outlives those that it was made of."""


def certify(
    parent: Artifact,
    dataset: Dataset,
    *,
    margin: float | Margins = 0.001,
    sequence: Sequence[tuple[str, Margins]] = (),
    settings: CertifySettings | None = None,
    out: Path,
    emit: Emit = ignore,
) -> Artifact:
    """Test every compiled variant on the test split and write a child artifact with certificates and a plan.

    For each variant the fastest engine is primary and gets the quality certificate. Another engine of the same
    numeric form gets a parity certificate; one that builds a form of its own gets a quality certificate of its own.
    With several tasks there is a certificate for each, and all must pass. Several compressed variants are tested in an
    order that is fixed on validation rows, or by Holm's procedure. The baseline is its own reference: its certificates
    say that engines agree with it, and are no part of that procedure.

    Beside a quality certificate lie the logits that it was taken on, so that another machine can be held to them
    (:func:`rankine.certification.parity_here.certify_parity_here`).

    The plan names the fastest pair whose quality certificate passed at ``margin`` or a smaller one; without one there
    is no plan file, and `serve` refuses the artifact. The use of the test split is counted, by this user and in the
    artifact.

    Args:
        dataset: the one that the baseline was trained on; its test rows decide.
        margin: the largest loss of AUC that is accepted, the other metrics' by :meth:`Margins.of`; or all of them.
        sequence: variants with margins of their own, in the order of the tests, before all others: a ladder. A variant
            may be tested at several, the largest first; it keeps the certificate at the smallest that it passed, or
            where it passed at none, at the largest. Parity is held at the margins of that certificate, and each
            certificate records what all tests found. Margins and order have to be fixed without a look at the test
            rows.
        settings: what else is tested, and how; the defaults if None.

    Raises:
        DataError: ``dataset`` is another one, or its test rows have one class only.
        ArtifactError: a variant was not compiled.
        UsageError: the margin is no difference of AUC, a slice is asked for by a field that is not there, or the
            sequence names what is no compressed variant.
    """
    margins = margin if isinstance(margin, Margins) else Margins.of(margin)
    settings = CertifySettings() if settings is None else settings
    refuse_existing(out)
    check_same_data(parent, dataset)
    check_sequence(parent, sequence)
    reference = baseline_engine(parent)
    validation, test = held_out_rows(parent, dataset)
    slices = slices_for(parent, dataset, test, settings)
    timings = {variant: timings_ms(parent, variant, validation.batch, emit) for variant in variant_names(parent)}
    pairs = pairs_to_test(parent, timings)
    order = tests_in_order(parent, pairs, sequence, validation, margins, settings, emit)
    uses = _count_use(parent, dataset, order, emit)
    trial = Trial(
        rows=test,
        baseline=score(parent, BASELINE, reference, test.batch, emit),
        settings=settings,
        slices=slices,
        split_uses=uses.count,
        facts={**split_facts(dataset), "baseline_engine": reference, **_baseline_facts(parent)},
    )
    of_baseline = [PairTest(pair, margins) for pair in pairs if pair[0] == BASELINE]
    found, primary_logits = _test(trial, parent, [*of_baseline, *order], emit)
    settled = apply_procedure([found[each] for each in order], settings.procedure)
    found |= dict(zip(order, settled, strict=True))
    kept = kept_tests(found)

    draft = Draft("certify", parent=parent)
    for stale in (PLAN_FILE, _LADDER_FILE, *(f"variants/{variant}/certificates/" for variant in timings)):
        draft.remove(stale)
    draft.put_json(USES_FILE, uses)
    _put_parity(draft, trial, parent, timings, kept, primary_logits, emit)
    _put_quality(draft, found, kept, emit)
    for pair in kept:
        draft.put_array(scores_file(*pair), primary_logits[pair][kept_rows(len(test.labels))])
    plan = fastest_certified({test: found[test] for test in kept.values()}, timings, margins)
    if plan is not None:
        draft.put_json(PLAN_FILE, plan)
    return draft.commit(out)


def _count_use(parent: Artifact, dataset: Dataset, order: Sequence[PairTest], emit: Emit) -> SplitUses:
    use = SplitUse(
        created=created_at(None),
        artifact=parent.digest,
        variants=tuple(each.name for each in order),
        margins=tuple(each.margins.model_dump() for each in order),
    )
    split = split_key(dataset.provenance, dataset.schema.split.model_dump_json())
    return record_use(split, use, read_uses(parent, split), emit)


def _test(
    trial: Trial, parent: Artifact, tests: Sequence[PairTest], emit: Emit
) -> tuple[dict[PairTest, list[QualityCertificate]], dict[Pair, np.ndarray]]:
    """The certificates of every test, each on its own, and the logits that each pair was tested by."""
    found: dict[PairTest, list[QualityCertificate]] = {}
    logits: dict[Pair, np.ndarray] = {}
    for pair in dict.fromkeys(each.pair for each in tests):
        of_pair = [each for each in tests if each.pair == pair]
        logits[pair] = score(parent, *pair, trial.rows.batch, emit)
        # That engines agree with the baseline says nothing of parts of the rows.
        sliced = replace(trial, slices=()) if pair[0] == BASELINE else trial
        certificates = sliced.quality(parent, pair, logits[pair], [each.margins for each in of_pair])
        found |= dict(zip(of_pair, certificates, strict=True))
    return found, logits


def _put_parity(
    draft: Draft,
    trial: Trial,
    parent: Artifact,
    timings: Timings,
    kept: Mapping[Pair, PairTest],
    logits: Mapping[Pair, np.ndarray],
    emit: Emit,
) -> None:
    """Hold every other engine to the primary one, at the margins of the certificate that the primary one keeps."""
    for variant, engines in timings.items():
        primary = (variant, fastest(engines))
        for pair in ((variant, engine) for engine in engines):
            if pair in kept:
                continue
            parity = trial.parity(
                parent,
                pair,
                score(parent, *pair, trial.rows.batch, emit),
                primary=primary[1],
                primary_logits=logits[primary],
                margins=kept[primary].margins,
            )
            draft.put_json(parity_file(*pair, place_of(parent, *pair)), parity)
            reason = "" if parity.admitted else f": {parity.reason}"
            emit(Note("parity", f"{variant} on {pair[1]}: {parity_told(parity)}{reason}"))


def _put_quality(draft: Draft, found: Certificates, kept: Mapping[Pair, PairTest], emit: Emit) -> None:
    """Put the certificates that are kept; of the others a note tells."""
    for test, certificates in found.items():
        if test != kept[test.pair]:
            emit(Note("certificate", f"{test.name} at {test.margins.auc:g}: {deciding(certificates).verdict}"))
    for pair, test in kept.items():
        for certificate in found[test]:
            draft.put_json(quality_file(*pair, certificate.task), certificate)
            _tell(certificate, several=len(found[test]) > 1, emit=emit)


def _tell(certificate: QualityCertificate, *, several: bool, emit: Emit) -> None:
    figures = {"AUC change": certificate.delta, "lower bound": certificate.ci_low, "margin": certificate.margin}
    of_task = f", {certificate.task}" if several else ""
    emit(Note("certificate", f"{certificate.variant} on {certificate.engine}{of_task}: {certificate.verdict}", figures))
    for harmed in certificate.harmed:
        lost = {} if harmed.delta is None else {"AUC change": harmed.delta, "rows": harmed.rows}
        emit(Note("certificate", f"HARMED: {harmed.name}", lost))


def _baseline_facts(parent: Artifact) -> dict[str, str]:
    """Hashes of the baseline: all of it that decides its scores (its checkpoint too), its graph and its tables."""
    facts = model_facts(parent, (BASELINE, baseline_engine(parent)))
    return {f"baseline_{part}": facts[part] for part in (SERVED, "graph", "tables") if part in facts}
