"""Render a committed result.json into the block of README.md that is kept for it.

$ python benchmarks/render_readme.py benchmarks/results/demo-movielens.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from readme_block import folded, write_block
from script import existing_file

from rankine.observation.result import CertificateSummary, DemoResult, Measured

_COLUMNS = {
    "baseline": "baseline: PyTorch eager, FP32",
    "bare_engine": "bare engine, same network",
    "best": "Rankine: compressed, compiled",
}
_LIBRARIES = ("rankine", "python", "torch", "onnxruntime", "openvino")


def render(result: DemoResult) -> str:
    """The block between the markers: table, ratios, certificate, controls, notes, environment."""
    lines = [_introduction(result), "", *_table(result), "", *_ratios(result), *_certificate(result)]
    lines += [*_controls(result), "", *(f"* {note}" for note in result.notes)]
    lines += ["", f"Measured on {_environment(result)}."]
    return "\n".join(map(folded, lines))


def _introduction(result: DemoResult) -> str:
    when = f" on {result.created:%Y-%m-%d}" if result.created else ""
    return (
        f"`rankine demo` on {result.dataset}{when}. HTTP: one client, 512 candidates a request; "
        f"rate: the highest with p99 <= {result.ratios.throughput_slo_ms:g} ms from the scheduled time. "
        "The server has one core."
    )


def _table(result: DemoResult) -> list[str]:
    contestants = result.contestants()
    head = ["", *(_COLUMNS[role] for role in contestants)]
    rows: list[tuple[str, Callable[[Measured], str]]] = [
        ("runs", lambda m: f"`{m.variant}` on {m.engine}"),
        ("test AUC", lambda m: _number(m.auc, ".5f")),
        ("engine p50, 1 row", lambda m: _number(m.engine_p50_ms.get("1"), ".3f", " ms")),
        ("engine p50, 64 rows", lambda m: _number(m.engine_p50_ms.get("64"), ".3f", " ms")),
        ("engine p50, 512 rows", lambda m: _number(m.engine_p50_ms.get("512"), ".2f", " ms")),
        ("HTTP p50", lambda m: _number(m.http_p50_ms, ".2f", " ms")),
        ("HTTP p99", lambda m: _number(m.http_p99_ms, ".2f", " ms")),
        ("rate", lambda m: _number(m.goodput_rps, ".0f", " requests/s")),
        ("size", lambda m: _number(None if m.size_bytes is None else m.size_bytes / 1e6, ".2f", " MB")),
    ]
    body = [[label, *(show(measured) for measured in contestants.values())] for label, show in rows]
    return [_line(head), _line(["---"] * len(head)), *(_line(row) for row in body)]


def _ratios(result: DemoResult) -> list[str]:
    ratios = result.ratios
    told = (
        f"**Best over baseline**: engine latency at 512 rows {_number(ratios.latency_512, '.3f', ' times')}, "
        f"rate {_number(ratios.throughput, '.1f', ' times')}."
    )
    return [told + (f" {ratios.note}" if ratios.note else "")]


def _certificate(result: DemoResult) -> list[str]:
    found = result.certificate
    if found is None:
        return ["", "**Certificate**: none."]
    return [
        "",
        f"**Certificate**: {found.verdict}. AUC {found.delta:+.5f} against the baseline, one-sided 95 % lower bound "
        f"{found.ci_low:+.5f}, margin {found.margin:g}, {found.rows:,} test rows.{_other_metrics(found)}",
    ]


def _other_metrics(found: CertificateSummary) -> str:
    others = [f"{test.name.replace('_', ' ')} {test.verdict or 'not judged'}" for test in found.metrics[1:]]
    return f" Beside AUC: {', '.join(others)}." if others else ""


def _controls(result: DemoResult) -> list[str]:
    """What the student's sizes reach without the teacher: that much is not the compression's merit."""
    lines: list[str] = []
    for name, found in result.controls.items():
        told = f"AUC {found['delta']:+.5f}, lower bound {found['ci_low']:+.5f} ({found['verdict']})"
        lines += ["", f"**Control**, the student's sizes trained from scratch (`{name}`): {told}."]
    return lines


def _environment(result: DemoResult) -> str:
    known = result.environment
    sets = str(known.get("instruction_sets", "")).split()
    fast = [name for name in sets if "vnni" in name or "amx" in name or name in ("asimddp", "i8mm")]
    machine = f"{known.get('cpu', 'an unnamed processor')} ({', '.join(fast) or 'no INT8 instructions'})"
    parts = [machine, f"{known.get('cores', '?')} cores", f"{known.get('memory_gib', '?')} GiB"]
    libraries = ", ".join(f"{name} {known[name]}" for name in _LIBRARIES if name in known)
    return f"{', '.join(parts)}; {libraries}"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "not measured" if value is None else format(value, form) + unit


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=existing_file, help="that `rankine demo` made")
    options = parser.parse_args()
    result = DemoResult.model_validate_json(options.result.read_bytes())
    write_block("results", render(result))


if __name__ == "__main__":
    main()
