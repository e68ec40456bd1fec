"""The figures of a demonstration as one record."""

from __future__ import annotations

from collections.abc import Mapping

from rankine.artifact import Artifact
from rankine.certification import QualityCertificate
from rankine.certification.plan import aucs, certified_pairs, quality_certificates
from rankine.compilation.compile import read_binding_plan
from rankine.data import Dataset
from rankine.demo.config import SCRATCH, DemoConfig
from rankine.demo.contest import Contestant
from rankine.demo.http import HttpFigures
from rankine.models.variant import read_variant
from rankine.observation.engines import EngineBench
from rankine.observation.load import SweepResult
from rankine.observation.result import (
    CertificateSummary,
    DemoResult,
    EngineTiming,
    Epoch,
    Measured,
    Point,
    Ratios,
    Role,
    SplitGain,
    Training,
)
from rankine.observation.timings import FORMS, Form
from rankine.planning.ladder import read_ladder
from rankine.training.record import TRAINING_FILE, TrainingRecord

__all__ = ["assemble"]


def assemble(
    artifact: Artifact,
    dataset: Dataset,
    bench: EngineBench,
    chosen: Mapping[Role, Contestant],
    http: HttpFigures,
    config: DemoConfig,
) -> DemoResult:
    """All figures of the run; nothing is measured here."""
    measured = {role: _measured(artifact, bench, contestant, http, role) for role, contestant in chosen.items()}
    record = artifact.read_json(TRAINING_FILE, TrainingRecord)
    best = chosen["best"]
    certificate = quality_certificates(artifact).get((best.variant, best.engine))
    return DemoResult(
        dataset=dataset.name,
        baseline=measured["baseline"],
        best=measured["best"],
        bare_engine=measured["bare_engine"],
        ratios=_ratios(measured, http),
        certificate=None if certificate is None else _summary(certificate),
        split=_split_gain(artifact, bench, best, items=len(dataset.item_ids)),
        engines=tuple(
            EngineTiming(
                variant=t.variant,
                engine=t.engine,
                form=t.form,
                rows=t.rows,
                p50_ms=t.p50_ms,
                p25_ms=t.p25_ms,
                p75_ms=t.p75_ms,
                error=t.error,
            )
            for t in bench.timings
        ),
        points=_points(artifact, bench, chosen["bare_engine"]),
        http=http.closed,
        sweeps=http.sweeps,
        training=Training(history=tuple(Epoch.model_validate(epoch.model_dump()) for epoch in record.result.history)),
        ladder=read_ladder(artifact),
        controls=_controls(artifact),
        notes=_notes(artifact, dataset, bench, chosen, http, record),
        seed=config.seed,
    )


def _measured(
    artifact: Artifact, bench: EngineBench, contestant: Contestant, http: HttpFigures, role: Role
) -> Measured:
    variant, engine = contestant.variant, contestant.engine
    closed, found = http.closed[role].latency, http.sweeps[role]
    root = f"variants/{variant}"
    return Measured(
        auc=aucs(artifact).get((variant, engine)),
        engine=engine,
        variant=variant,
        form=contestant.form,
        engine_p50_ms=_p50_ms(bench, variant, engine, contestant.form),
        http_p50_ms=closed.p50_ms if closed else None,
        http_p99_ms=closed.p99_ms if closed else None,
        goodput_rps=found.goodput_rps,
        size_bytes=artifact.size_bytes(f"{root}/tables/") + artifact.size_bytes(f"{root}/graph.onnx"),
        note=_sweep_note(found),
    )


def _p50_ms(bench: EngineBench, variant: str, engine: str, form: Form) -> dict[str, float]:
    """By number of rows."""
    wanted = (variant, engine, form)
    found = [timing for timing in bench.timings if (timing.variant, timing.engine, timing.form) == wanted]
    return {str(timing.rows): timing.p50_ms for timing in found if timing.p50_ms is not None}


def _split_gain(artifact: Artifact, bench: EngineBench, best: Contestant, items: int) -> SplitGain | None:
    """Of the best variant, in parts against whole; None where it has no parts."""
    if best.form == "whole":
        return None
    plan = read_binding_plan(artifact, best.variant)
    parts, whole = (_p50_ms(bench, best.variant, best.engine, form) for form in FORMS)
    return SplitGain(
        whole_p50_ms=whole,
        parts_p50_ms=parts,
        ratios={rows: parts[rows] / whole[rows] for rows in parts if rows in whole},
        macs_per_row=plan.work.share,
        stored_bytes=plan.stored_bytes_per_item * items,
    )


def _sweep_note(found: SweepResult) -> str | None:
    if found.sustainable_rps is None:
        return found.reason
    return "the load generator was the bottleneck: the true rate is higher" if found.generator_bound else None


def _ratios(measured: Mapping[Role, Measured], http: HttpFigures) -> Ratios:
    baseline, best = measured["baseline"], measured["best"]
    throughput = None
    if baseline.goodput_rps and best.goodput_rps:
        throughput = best.goodput_rps / baseline.goodput_rps
    return Ratios(
        latency_512=best.engine_p50_ms["512"] / baseline.engine_p50_ms["512"],
        throughput=throughput,
        throughput_slo_ms=http.slo_ms,
        note=http.note,
    )


def _summary(certificate: QualityCertificate) -> CertificateSummary:
    # AUC's figures stand beside what the certificate has; of the slices, those that are harmed.
    names = ("metric", "delta", "ci_low", "ci_high", "margin", "baseline_value", "variant_value", "se", "power")
    of_auc = {name: getattr(certificate, name) for name in names}
    harmed = {"harmed": [test.name for test in certificate.harmed]}
    return CertificateSummary.model_validate(certificate.model_dump(mode="json", exclude={"slices"}) | of_auc | harmed)


def _points(artifact: Artifact, bench: EngineBench, bare: Contestant) -> tuple[Point, ...]:
    """Every pair in the form in which it is served, and the bare engine in its own."""
    known = aucs(artifact)
    certified = certified_pairs(artifact)
    of_bare = (bare.variant, bare.engine, bare.form)
    shown = [t for t in bench.timings if t in bench.served or (t.variant, t.engine, t.form) == of_bare]
    return tuple(
        Point(
            variant=timing.variant,
            engine=timing.engine,
            form=timing.form,
            auc=known[timing.variant, timing.engine],
            p50_ms_512=timing.p50_ms,
            certified=(timing.variant, timing.engine) in certified,
        )
        for timing in shown
        if timing.rows == 512 and timing.p50_ms is not None and (timing.variant, timing.engine) in known
    )


def _left_in_parts(artifact: Artifact, best: Contestant) -> str:
    if best.form == "whole":
        return ""
    return f" as a whole graph, of which {read_binding_plan(artifact, best.variant).work.share:.1%} are left for a row"


def _controls(artifact: Artifact) -> dict[str, dict[str, float | int | str]]:
    """What the student's sizes give without a teacher, by variant."""
    return {
        f"{variant} on {engine}": {
            "auc": certificate.variant_value,
            "delta": certificate.delta,
            "ci_low": certificate.ci_low,
            "verdict": certificate.verdict,
            "macs_per_row": read_variant(artifact, variant).macs_per_row,
        }
        for (variant, engine), certificate in quality_certificates(artifact).items()
        if variant.startswith(f"{SCRATCH}-")
    }


def _notes(
    artifact: Artifact,
    dataset: Dataset,
    bench: EngineBench,
    chosen: Mapping[Role, Contestant],
    http: HttpFigures,
    record: TrainingRecord,
) -> tuple[str, ...]:
    """What a reader must know to judge the figures."""
    baseline, best = (read_variant(artifact, chosen[role].variant) for role in ("baseline", "best"))
    notes = [
        f"The baseline was trained on {record.rows['train']:,} rows until validation stopped improving: "
        f"best epoch {record.result.best_epoch} of {len(record.result.history)}."
        if record.result.converged
        else "The baseline's training was ended before validation stopped improving: do not trust the comparison.",
        f"The served variant has {best.macs_per_row / baseline.macs_per_row:.1%} of the baseline's multiply-adds"
        f"{_left_in_parts(artifact, chosen['best'])}.",
        f"Engines: one thread, {bench.rounds} interleaved rounds, control {bench.control_p50_ms:.3f} ms with quartiles "
        f"{bench.control_spread:.1%} apart{': NOISY, run it again' if bench.noisy else ''}.",
        "HTTP: one core for the server, the others for the load generator; the same front for all contestants.",
    ]
    if dataset.best_auc is not None:
        notes.append(f"The data is synthetic; the model that made the labels has an AUC of {dataset.best_auc:.5f}.")
    if any(timing.form == "parts" for timing in bench.timings):
        notes.append(
            "A variant that was built in parts is served, certified and judged in parts; its whole graph, which the "
            "bare engine runs, gives the same scores but for rounding, and is shown with the AUC of the parts."
        )
    if not chosen["best"].certified:
        notes.append("NO compressed variant passed its certificate; the fastest one is shown, and would not be served.")
    return tuple(notes)
