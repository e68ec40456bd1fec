"""Render what the engine qnn keeps of quality into docs/reference/qnn-certificates.md.

$ python benchmarks/render_qnn.py
"""

from __future__ import annotations

from pathlib import Path

from pages import table
from qnn_certificates import RESULT, ModelResult, QnnCertificates
from script import no_arguments

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "qnn-certificates.md"
INTRODUCTION = """\
# What the engine qnn keeps of quality

Rendered by `python benchmarks/render_qnn.py` from the result file of `benchmarks/qnn_certificates.py`. Do not edit it.

Small models on MovieLens-1M, quantized by `rankine compress`. The engine's own form (weights in 8 bits, activations in
16, fixed numbers of rows) ran on {substrate} with the fallback to the CPU disabled, and is tested against the canonical
INT8 form on ONNX Runtime: a paired non-inferiority test on the test rows, users and movies as clusters, margin
{margin:g} of AUC. [How to use the engine](../how-to/choose-an-engine.md#qnn).
"""
SUBSTRATES = {"emulator": "Qualcomm's emulator of the HTP", "chip": "the chip"}


def render(result: QnnCertificates) -> str:
    """The page."""
    substrate = SUBSTRATES.get(result.runs_on, result.runs_on)
    lines = [INTRODUCTION.format(substrate=substrate, margin=result.margin)]
    lines += ["## Against the canonical INT8 form", ""]
    head = ("model", "rows", "AUC, canonical", "AUC, qnn", "difference", "95 % bound", "verdict")
    lines += table(head, [_quality(one) for one in result.models], names=None)
    failed = [one for one in result.models if one.certificate.verdict != "pass"]
    lines += [*(f"* `{one.model}`: {one.certificate.reason}" for one in failed), ""] if failed else []
    lines += ["## Against the float64 reference", ""]
    lines += ["Of scores, over the first test rows; the bound is 0.05, and 0.005 in the mean.", ""]
    head = ("model", "rows", "largest error", "mean error", "context binaries", "for rows")
    lines += table(head, [_numbers(one) for one in result.models], names=None)
    lines += [
        f"onnxruntime-qnn {result.engine_version}, {result.created:%Y-%m-%d}. The emulator took "
        + ", ".join(f"{one.emulated_s:.0f} s for `{one.model}`" for one in result.models)
        + ": no time of the chip.",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _quality(one: ModelResult) -> tuple[str, ...]:
    certificate = one.certificate
    auc = certificate.metrics[0]
    return (
        one.model,
        f"{certificate.rows:,}",
        f"{auc.baseline:.5f}",
        f"{auc.variant:.5f}",
        f"{auc.delta:+.6f}",
        f"{auc.ci_low:+.6f}",
        certificate.verdict,
    )


def _numbers(one: ModelResult) -> tuple[str, ...]:
    return (
        one.model,
        f"{one.compared_rows:,}",
        f"{one.max_score_error:.4f}",
        f"{one.mean_score_error:.5f}",
        f"{one.context_bytes / 1e6:.1f} MB",
        ", ".join(f"{rows:,}" for rows in one.row_buckets),
    )


def read_result() -> QnnCertificates:
    """The committed result."""
    return QnnCertificates.model_validate_json(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    no_arguments(__doc__)
    PAGE.write_text(render(read_result()), encoding="utf-8")
