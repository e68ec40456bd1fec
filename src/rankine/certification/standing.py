"""By which right a variant runs on an engine, in the words that every command uses."""

from __future__ import annotations

from collections.abc import Mapping

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.parity import ParityCertificate
from rankine.certification.place import Place
from rankine.certification.plan import parity_certificates, place_of, quality_certificates
from rankine.compilation.compile import build_names
from rankine.compilation.engines import load_engine
from rankine.errors import EngineMissing

__all__ = ["NOT_CERTIFIED", "parity_told", "standing", "standings"]

NOT_CERTIFIED = "NOT certified"


def standing(quality: QualityCertificate | None, parity: ParityCertificate | None, place: Place) -> str:
    """``certified``, ``parity with ENGINE``, or what is missing.

    Args:
        quality: of the variant on this engine, wherever it was taken.
        parity: of this engine at ``place``.
    """
    if parity is not None:
        return parity_told(parity)
    if quality is None:
        return NOT_CERTIFIED
    if not quality.passed:
        return f"{NOT_CERTIFIED}: {quality.verdict}"
    if place.is_of(quality.environment):
        return "certified"
    there = quality.environment.get("device", "cpu"), quality.environment.get("instruction_set")
    return f"certified on {there[0]} ({there[1]}), {NOT_CERTIFIED} here"


def parity_told(parity: ParityCertificate) -> str:
    """What a parity certificate says."""
    return f"{'parity' if parity.admitted else 'NO parity'} with {parity.reference_engine}"


def standings(artifact: Artifact, variant: str) -> Mapping[str, str]:
    """That of a variant on each engine that it was built for, where each build runs; where that is no CPU, the device
    and what computes in its place are told too."""
    qualities, parities = quality_certificates(artifact), parity_certificates(artifact)
    found = {}
    for engine in build_names(artifact, variant):
        pair, place = (variant, engine), place_of(artifact, variant, engine)
        told = standing(qualities.get(pair), parities.get(pair), place)
        found[engine] = told if place.device == "cpu" else f"{told} on {_device(engine, place.device)}"
    return found


def _device(engine: str, device: str) -> str:
    try:
        return load_engine(engine).capabilities().told(device)
    except EngineMissing:
        return device
