"""The plan of an artifact (what is served by default), and where its certificates lie."""

from __future__ import annotations

from rankine.artifact import Artifact
from rankine.certification.parity import ParityCertificate
from rankine.certification.quality import QualityCertificate
from rankine.config import Frozen

__all__ = [
    "PLAN_FILE",
    "Plan",
    "aucs",
    "certified_pairs",
    "parity_certificates",
    "parity_file",
    "quality_certificates",
    "quality_file",
]

Pair = tuple[str, str]
"""(variant, engine)"""

PLAN_FILE = "plan.json"


class Plan(Frozen):
    """The (variant, engine) that is served by default: certified, and the fastest of those at 512 rows."""

    schema_version: int = 1
    variant: str
    engine: str
    p50_ms_512: float


def quality_file(variant: str, engine: str) -> str:
    """Name of a quality certificate in an artifact."""
    return f"variants/{variant}/certificates/quality-{engine}.json"


def parity_file(variant: str, engine: str) -> str:
    """Name of a parity certificate in an artifact."""
    return f"variants/{variant}/certificates/parity-{engine}.json"


def quality_certificates(artifact: Artifact) -> dict[Pair, QualityCertificate]:
    """Quality certificates in an artifact, by (variant, engine)."""
    return {pair: artifact.read_json(name, QualityCertificate) for pair, name in _files(artifact, "quality-")}


def parity_certificates(artifact: Artifact) -> dict[Pair, ParityCertificate]:
    """Parity certificates in an artifact, by (variant, engine)."""
    return {pair: artifact.read_json(name, ParityCertificate) for pair, name in _files(artifact, "parity-")}


def certified_pairs(artifact: Artifact) -> set[Pair]:
    """What may be served: a passed quality certificate, or parity with an engine of the variant that has one."""
    passed = {pair for pair, certificate in quality_certificates(artifact).items() if certificate.passed}
    return passed | {
        (variant, engine)
        for (variant, engine), parity in parity_certificates(artifact).items()
        if parity.admitted and (variant, parity.reference_engine) in passed
    }


def aucs(artifact: Artifact) -> dict[Pair, float]:
    """Test AUC of every certified (variant, engine); with parity it follows from the primary engine's."""
    found = {pair: certificate.variant_value for pair, certificate in quality_certificates(artifact).items()}
    for (variant, engine), parity in parity_certificates(artifact).items():
        primary = found.get((variant, parity.reference_engine))
        if primary is not None:
            found[variant, engine] = primary + parity.auc_difference
    return found


def _files(artifact: Artifact, kind: str) -> list[tuple[Pair, str]]:
    """((variant, engine), file) of the certificates of one kind."""
    found = []
    for name in artifact.names("variants/"):
        parts = name.split("/")
        if len(parts) == 4 and parts[2] == "certificates" and parts[3].startswith(kind):
            found.append(((parts[1], parts[3].removeprefix(kind).removesuffix(".json")), name))
    return found
