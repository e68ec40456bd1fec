"""What the page shows, in words: headlines, tables and sentences, computed from the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rankine.certification.reasons import TITLES
from rankine.observation.report.labels import FORM_LABELS, LABELS, human_bytes, milliseconds, signed
from rankine.observation.result import DemoResult, EngineTiming, Role

__all__ = [
    "Cell",
    "EngineRow",
    "Headline",
    "certificate_rows",
    "comparison",
    "engine_table",
    "headlines",
    "method",
    "metric_table",
    "split_table",
    "split_text",
]

NOTHING = "not measured"


@dataclass(frozen=True, slots=True)
class Headline:
    """One big number; ``tone`` is ``good``, ``bad`` or ``none`` (not measured)."""

    value: str
    label: str
    detail: str
    tone: str = "good"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, a smaller line under it, and whether it is the best of its column."""

    text: str
    detail: str = ""
    best: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One variant on one engine, whole or in parts, a cell a column."""

    variant: str
    engine: str
    form: str
    cells: tuple[Cell, ...]


def headlines(result: DemoResult) -> list[Headline]:
    """The numbers at the top of the page."""
    return [_latency_headline(result), _throughput_headline(result), _size_headline(result), _verdict_headline(result)]


def comparison(result: DemoResult) -> list[tuple[str, dict[Role, Cell]]]:
    """Rows ``(what, cells by contestant)`` of the table that puts the contestants side by side."""
    contestants = result.contestants()
    rows: list[tuple[str, dict[Role, Cell]]] = [
        ("variant", {role: Cell(measured.variant, measured.note or "") for role, measured in contestants.items()}),
        ("engine", {role: Cell(m.engine, "in parts" if m.form == "parts" else "") for role, m in contestants.items()}),
        ("AUC", _numbers({role: m.auc for role, m in contestants.items()}, lambda auc: f"{auc:.4f}", max)),
    ]
    counts = dict.fromkeys(count for measured in contestants.values() for count in measured.engine_p50_ms)
    for count in sorted(counts, key=lambda count: (len(count), count)):
        values = {role: measured.engine_p50_ms.get(count) for role, measured in contestants.items()}
        rows.append(
            (f"engine p50 at {count} row{'' if count == '1' else 's'}, ms", _numbers(values, milliseconds, min))
        )
    slo = f"p99 within {result.ratios.throughput_slo_ms:g} ms"
    http_p50 = {role: measured.http_p50_ms for role, measured in contestants.items()}
    http_p99 = {role: measured.http_p99_ms for role, measured in contestants.items()}
    goodput = {role: measured.goodput_rps for role, measured in contestants.items()}
    goodput_cells = _numbers(goodput, lambda rps: f"{rps:,.1f}", max)
    for role, found in result.sweeps.items():
        if role in goodput_cells and goodput[role] is None and found.sustainable_rps is None:
            goodput_cells[role] = Cell("no rate held", failed=True)  # that was measured, and this is the outcome
    sizes = {role: None if m.size_bytes is None else float(m.size_bytes) for role, m in contestants.items()}
    rows += [
        ("HTTP p50, 512 candidates, ms", _numbers(http_p50, milliseconds, min)),
        ("HTTP p99, 512 candidates, ms", _numbers(http_p99, milliseconds, min)),
        (f"goodput with {slo}, requests/s", goodput_cells),
        ("size", _numbers(sizes, lambda size: human_bytes(int(size)), min)),
    ]
    return rows


def engine_table(timings: Iterable[EngineTiming]) -> tuple[list[int], list[EngineRow]]:
    """The row counts that were timed, and a table row for every variant on every engine in every form."""
    found = {((timing.variant, timing.engine, timing.form), timing.rows): timing for timing in timings}
    counts = sorted({rows for _, rows in found})
    fastest = {
        count: min((t.p50_ms for (_, rows), t in found.items() if rows == count and t.p50_ms), default=None)
        for count in counts
    }
    lines = []
    for key in dict.fromkeys(key for key, _ in found):
        variant, engine, form = key
        cells = tuple(_engine_cell(found.get((key, count)), fastest[count]) for count in counts)
        lines.append(EngineRow(variant, engine, FORM_LABELS[form], cells))
    return counts, lines


def split_table(result: DemoResult) -> tuple[list[int], list[tuple[str, tuple[Cell, ...]]]]:
    """What the split alone gives: the row counts, and a line each for the whole graph, the parts and their ratio."""
    split = result.split
    if split is None:
        return [], []
    counts = sorted(split.ratios, key=int)
    return [int(count) for count in counts], [
        ("whole graph, p50, ms", tuple(Cell(milliseconds(split.whole_p50_ms[count])) for count in counts)),
        ("in parts, p50, ms", tuple(Cell(milliseconds(split.parts_p50_ms[count])) for count in counts)),
        (
            "in parts over whole",
            tuple(Cell(f"{split.ratios[count]:.3f}", best=split.ratios[count] < 1) for count in counts),
        ),
    ]


def split_text(result: DemoResult) -> str:
    """What the parts leave to do, and what they cost; empty where the served variant is whole."""
    if result.split is None:
        return ""
    return (
        f"{result.best.variant} on {result.best.engine}: {result.split.macs_per_row:.0%} of the multiply-adds are left "
        f"for a row; {human_bytes(result.split.stored_bytes)} are stored of all items."
    )


def certificate_rows(result: DemoResult) -> list[tuple[str, str]]:
    """The certificate as label and text."""
    certificate = result.certificate
    if certificate is None:
        return []
    metric = certificate.metric.upper()
    high = "" if certificate.ci_high is None else f", upper {signed(certificate.ci_high)}"
    rows = [
        ("verdict", certificate.verdict),
        (f"change of {metric}", f"{signed(certificate.delta)} (variant minus baseline)"),
        ("one-sided 95 % bounds", f"lower {signed(certificate.ci_low)}{high}"),
        ("margin", f"{certificate.margin:g}"),
        ("held-out rows", f"{certificate.rows:,}"),
    ]
    rows += [("harmed", name) for name in certificate.harmed]
    known = {"metric", "schema_version", "kind", "environment", "reason"}
    for name, value in (certificate.model_extra or {}).items():
        if name not in known and value is not None:
            rows.append((name.replace("_", " "), _plain(value)))
    return rows


def metric_table(result: DemoResult) -> list[tuple[str, ...]]:
    """Every metric of the certificate: name, both values, change, lower bound, margin, verdict."""
    tests = result.certificate.metrics if result.certificate else ()
    return [
        (
            TITLES.get(test.name, test.name),
            f"{test.baseline:.5f}",
            f"{test.variant:.5f}",
            signed(test.delta),
            signed(test.ci_low),
            "" if test.margin is None else f"{test.margin:g}",
            test.verdict or "not judged",
        )
        for test in tests
    ]


def method(result: DemoResult) -> list[str]:
    """How the numbers were taken, sentence by sentence, as far as the record tells."""
    told = []
    if result.engines or result.baseline.engine_p50_ms:
        told.append(
            "Engines were timed alone, on one thread, interleaved in one run; p50 is the median of single calls."
        )
    for role, load in result.http.items():
        clients = f"{load.clients} client{'' if load.clients == 1 else 's'}"
        told.append(
            f"{LABELS[role]} over HTTP: {load.mode} loop, {clients}, candidates {load.candidates}, "
            f"{load.requests:,} requests in {load.window_s:.0f} s after {load.warmup_s:g} s of warm-up, "
            f"seed {load.seed}; the generator was {_bottleneck(load.generator.bound, load.generator.reason)}."
        )
    for role, found in result.sweeps.items():
        trials = f"{len(found.trials)} open-loop trial{'' if len(found.trials) == 1 else 's'}"
        told.append(f"{LABELS[role]}, rate sweep: {trials} with candidates {found.candidates}; {found.reason}.")
    if result.sweeps:
        told.append(
            "Open loop: exponential gaps; latency counts from the time at which a request was due, not from the time "
            "at which it was sent; a refused, failed, wrong or late answer is a miss."
        )
    if result.seed is not None:
        told.append(f"Seed of the run: {result.seed}.")
    if result.duration_s is not None:
        told.append(f"The whole run took {result.duration_s / 60:.1f} minutes.")
    return told


def _latency_headline(result: DemoResult) -> Headline:
    ratio, label = result.ratios.latency_512, "lower engine latency"
    if ratio is None:
        return Headline("—", label, f"{NOTHING}: the run gives no ratios.latency_512", "none")
    before, after = result.baseline.engine_p50_ms.get("512"), result.best.engine_p50_ms.get("512")
    shown = "" if before is None or after is None else f"{milliseconds(before)} → {milliseconds(after)} ms. "
    detail = f"{shown}Best over baseline {ratio:.3f}: p50 of one call with 512 rows, one thread."
    return Headline(f"{1 / ratio:.3g}×", label, detail, "good" if ratio < 1 else "bad")


def _throughput_headline(result: DemoResult) -> Headline:
    ratio, label = result.ratios.throughput, "more requests per second"
    slo = f"p99 within {result.ratios.throughput_slo_ms:g} ms"
    if ratio is None:
        return Headline("—", label, result.ratios.note or f"{NOTHING}: no pair of rates that held {slo}", "none")
    before, after = result.baseline.goodput_rps, result.best.goodput_rps
    shown = "" if before is None or after is None else f"{before:,.1f} → {after:,.1f} requests/s. "
    detail = f"{shown}Best over baseline {ratio:.2f}: goodput with {slo}, equal cores."
    return Headline(f"{ratio:.3g}×", label, detail, "good" if ratio > 1 else "bad")


def _size_headline(result: DemoResult) -> Headline:
    before, after, label = result.baseline.size_bytes, result.best.size_bytes, "smaller"
    if not before or not after:
        return Headline("—", label, f"{NOTHING}: the run gives no sizes", "none")
    detail = f"{human_bytes(before)} → {human_bytes(after)}. Baseline over best: graphs and tables on disk."
    return Headline(f"{before / after:.3g}×", label, detail, "good" if after < before else "bad")


def _verdict_headline(result: DemoResult) -> Headline:
    certificate = result.certificate
    if certificate is None:
        return Headline("—", "certificate", f"{NOTHING}: this run took none, so nothing is known of quality", "none")
    sign = ">" if certificate.ci_low > -certificate.margin else "≤"
    change = f"Change of {certificate.metric.upper()} {signed(certificate.delta)}"
    detail = f"{change}; 95 % lower bound {signed(certificate.ci_low)} {sign} −{certificate.margin:g}, the margin."
    return Headline(certificate.verdict, "certificate", detail, "good" if certificate.verdict == "pass" else "bad")


def _numbers(
    values: dict[Role, float | None], shown: Callable[[float], str], better: Callable[[list[float]], float]
) -> dict[Role, Cell]:
    known = [value for value in values.values() if value is not None]
    winner = better(known) if len(known) > 1 else None
    return {
        role: Cell(NOTHING, failed=True) if value is None else Cell(shown(value), best=value == winner)
        for role, value in values.items()
    }


def _engine_cell(timing: EngineTiming | None, fastest: float | None) -> Cell:
    if timing is None:
        return Cell(NOTHING, failed=True)
    if timing.p50_ms is None:
        return Cell("failed", timing.error or "no reason given", failed=True)
    spread = ""
    if timing.p25_ms is not None and timing.p75_ms is not None:
        spread = f"{milliseconds(timing.p25_ms)} – {milliseconds(timing.p75_ms)}"
    return Cell(milliseconds(timing.p50_ms), spread, best=timing.p50_ms == fastest)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(each)}" for key, each in value.items() if each is not None) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(each) for each in value) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _bottleneck(bound: bool, reason: str) -> str:
    return reason.removeprefix("the generator was ") if bound else reason
