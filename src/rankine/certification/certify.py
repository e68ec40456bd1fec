"""``certify``: every compiled variant against the baseline on the test split, and the plan of what is to be served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.certification.certificate import QualityCertificate
from rankine.certification.evaluation import EvaluationRows, held_out_rows, slices_for, split_facts
from rankine.certification.ledger import USES_FILE, SplitUse, SplitUses, read_uses, record_use, split_key
from rankine.certification.margins import Margins
from rankine.certification.order import apply_procedure, order_of, outlook_of
from rankine.certification.plan import PLAN_FILE, SERVED, Pair, Plan, deciding, parity_file, quality_file
from rankine.certification.provenance import created_at
from rankine.certification.scoring import baseline_engine, score, timings_ms
from rankine.certification.settings import CertifySettings
from rankine.certification.trial import Trial, model_facts
from rankine.compilation.compile import read_build
from rankine.data.dataset import Dataset
from rankine.events import Emit, Note, ignore
from rankine.models.variant import BASELINE, variant_names
from rankine.training.record import check_same_data

__all__ = ["certify"]

_LADDER_FILE = "ladder.json"
"""Made of certificates, by a later stage: none outlives those that it was made of."""
Found = dict[Pair, list[QualityCertificate]]
"""Quality certificates, one a task, by (variant, engine)."""
Tested = dict[Pair, list[list[QualityCertificate]]]
"""The same at every margin of the pair, in the order of the margins."""


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

    The plan names the fastest pair whose quality certificate passed at ``margin`` or a smaller one; without one there
    is no plan file, and `serve` refuses the artifact. The use of the test split is counted, by this user and in the
    artifact.

    Args:
        dataset: the one that the baseline was trained on; its test rows decide.
        margin: the largest loss of AUC that is accepted, the other metrics' by :meth:`Margins.of`; or all of them.
        sequence: variants with margins of their own, in the order of the tests, before all others: a ladder. A variant
            may be tested at several, the largest first; it keeps the certificate at the smallest that it passed.
            Margins and order have to be fixed without a look at the test rows.
        settings: what else is tested, and how; the defaults if None.

    Raises:
        DataError: ``dataset`` is another one, or its test rows have one class only.
        ArtifactError: a variant was not compiled.
        UsageError: the margin is no difference of AUC, or a slice is asked for by a field that is not there.
    """
    margins = margin if isinstance(margin, Margins) else Margins.of(margin)
    settings = CertifySettings() if settings is None else settings
    refuse_existing(out)
    check_same_data(parent, dataset)
    reference = baseline_engine(parent)
    validation, test = held_out_rows(parent, dataset)
    slices = slices_for(parent, dataset, test, settings)
    timings = {variant: timings_ms(parent, variant, validation.batch, emit) for variant in variant_names(parent)}
    pairs = _tested(parent, timings)
    own = {variant: [at for name, at in sequence if name == variant] for variant, _ in sequence}
    order = list(_in_sequence(pairs, sequence))
    others = [pair for pair in pairs if pair[0] not in own]
    order += [(pair, 0) for pair in _ordered(parent, others, validation, margins, settings, emit)]

    uses = _count_use(parent, dataset, list(dict.fromkeys(pair for pair, _ in order)), margins, emit)
    trial = Trial(
        rows=test,
        baseline=score(parent, BASELINE, reference, test.batch, emit),
        margins=margins,
        settings=settings,
        slices=slices,
        split_uses=uses.count,
        facts={**split_facts(dataset), "baseline_engine": reference, **_baseline_facts(parent)},
    )
    draft = Draft("certify", parent=parent)
    draft.remove(PLAN_FILE)
    draft.remove(_LADDER_FILE)
    draft.put_json(USES_FILE, uses)
    tested: Tested = {}
    for variant in variant_names(parent):
        draft.remove(f"variants/{variant}/certificates/")
        # That engines agree with the baseline says nothing of parts of the rows.
        of_variant = replace(trial, slices=()) if variant == BASELINE else trial
        steps = own.get(variant, [margins])
        tested |= _test_variant(of_variant, parent, draft, variant, list(timings[variant]), steps, emit)
    judged = apply_procedure([tested[pair][step] for pair, step in order], settings.procedure)
    for (pair, step), certificates in zip(order, judged, strict=True):
        tested[pair][step] = certificates
    found = {pair: _kept(steps, emit) for pair, steps in tested.items()}
    _put(draft, found, timings, margins, emit)
    return draft.commit(out)


def _tested(parent: Artifact, timings: Mapping[str, Mapping[str, float]]) -> list[Pair]:
    """The compressed pairs that take a quality certificate."""
    return [
        (variant, engine)
        for variant, engines in timings.items()
        if variant != BASELINE
        for engine in engines
        if _has_own_form(parent, variant, engine, primary=next(iter(engines)))
    ]


def _in_sequence(pairs: Sequence[Pair], sequence: Sequence[tuple[str, Margins]]) -> Iterator[tuple[Pair, int]]:
    """The pairs of a sequence, each with the place of the margin among those of its variant."""
    seen: dict[str, int] = {}
    for variant, _ in sequence:
        step = seen.setdefault(variant, 0)
        yield from ((pair, step) for pair in pairs if pair[0] == variant)
        seen[variant] += 1


def _kept(steps: Sequence[list[QualityCertificate]], emit: Emit) -> list[QualityCertificate]:
    """The certificates at the smallest margin that passed; of a pair that passed nowhere those of the first test."""
    passed = [certificates for certificates in steps if deciding(certificates).passed]
    kept = min(passed, key=lambda certificates: certificates[0].margin, default=steps[0])
    for certificates in steps:
        if certificates is not kept:
            found = deciding(certificates)
            text = f"{found.variant} on {found.engine} at margin {found.margin:g}: {found.verdict}"
            emit(Note("certificate", text))
    return kept


def _ordered(
    parent: Artifact,
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
    baseline = score(parent, BASELINE, baseline_engine(parent), validation.batch, emit)
    trial = Trial(rows=validation, baseline=baseline, margins=margins, settings=settings)
    outlooks = {pair: outlook_of(trial, parent, pair, score(parent, *pair, validation.batch, emit)) for pair in pairs}
    order = order_of(outlooks)
    figures = {f"{variant} on {engine}": outlooks[variant, engine].p_value for variant, engine in order}
    emit(Note("order of tests", "p-value on validation rows; where it is the same, by change of AUC", figures))
    return order


def _has_own_form(artifact: Artifact, variant: str, engine: str, *, primary: str) -> bool:
    """Whether a quality certificate of the primary engine says nothing of this one."""
    forms = {read_build(artifact, variant, name).numeric_form for name in (primary, engine)}
    return engine == primary or len(forms) > 1


def _count_use(parent: Artifact, dataset: Dataset, order: Sequence[Pair], margins: Margins, emit: Emit) -> SplitUses:
    use = SplitUse(
        created=created_at(None),
        artifact=parent.digest,
        variants=tuple(f"{variant} on {engine}" for variant, engine in order),
        margins=margins.model_dump(),
    )
    split = split_key(dataset.provenance, dataset.schema.split.model_dump_json())
    return record_use(split, use, read_uses(parent, split), emit)


def _test_variant(
    trial: Trial,
    parent: Artifact,
    draft: Draft,
    variant: str,
    engines: Sequence[str],
    steps: Sequence[Margins],
    emit: Emit,
) -> Tested:
    """Put the parity certificates of one variant; returns those of quality.

    Args:
        engines: fastest first; the first is the primary one.
        steps: the margins to test at; parity is held at the smallest.
    """
    trials = [replace(trial, margins=margins) for margins in steps]
    strictest = min(trials, key=lambda each: each.margins.auc)
    primary = engines[0]
    primary_logits = score(parent, variant, primary, trial.rows.batch, emit)
    found = {(variant, primary): [each.quality(parent, (variant, primary), primary_logits) for each in trials]}
    for engine in engines[1:]:
        pair = (variant, engine)
        logits = score(parent, variant, engine, trial.rows.batch, emit)
        if _has_own_form(parent, variant, engine, primary=primary):
            found[pair] = [each.quality(parent, pair, logits) for each in trials]
            continue
        parity = strictest.parity(parent, pair, primary, primary_logits, logits)
        draft.put_json(parity_file(variant, engine), parity)
        verdict = "admitted" if parity.admitted else f"NOT admitted: {parity.reason}"
        emit(Note("parity", f"{variant} on {engine}: {verdict}"))
    return found


def _put(draft: Draft, found: Found, timings: Mapping[str, Mapping[str, float]], margins: Margins, emit: Emit) -> None:
    """Put the quality certificates, and the plan if a pair passed at these margins."""
    passed = []
    for (variant, engine), certificates in found.items():
        for certificate in certificates:
            draft.put_json(quality_file(variant, engine, certificate.task), certificate)
            _tell(certificate, several=len(certificates) > 1, emit=emit)
        if deciding(certificates).passed and certificates[0].margin <= margins.auc:
            passed.append(Plan(variant=variant, engine=engine, p50_ms_512=timings[variant][engine]))
    if passed:
        draft.put_json(PLAN_FILE, min(passed, key=lambda plan: plan.p50_ms_512))


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
