"""The gate: which variant runs on which engine, and whether a certificate lets it.

The rule is literal: what is served needs evidence that it ranks as well as the baseline, taken on what is served. That
is a passed quality certificate of the variant on this engine; or an admitted parity certificate of this engine, of the
same numeric form, against an engine that has one. The baseline is no exception.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from rankine.artifact import Artifact
from rankine.certification import ParityCertificate, QualityCertificate
from rankine.certification.plan import PLAN_FILE, Plan, parity_file, quality_file
from rankine.compilation.compile import build_names, read_build
from rankine.config import parse
from rankine.errors import ArtifactError, CertificateRequired, UsageError
from rankine.models.variant import read_variant, variant_names

__all__ = ["Choice", "choose"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is served and by which right.

    Attributes:
        quality: the quality certificate that covers it (of this engine, or of the engine that ``parity`` refers to).
        parity: the parity certificate, where the engine is not the certified one.
        certified: False only under ``allow_uncertified``.
    """

    variant: str
    engine: str
    quality: QualityCertificate | None
    parity: ParityCertificate | None
    certified: bool


def choose(
    artifact: Artifact, *, variant: str | None = None, engine: str | None = None, allow_uncertified: bool = False
) -> Choice:
    """Decide what to serve: the plan's pair, or what is named.

    Raises:
        ArtifactError: there is no such variant, or the variant was not built for the engine.
        UsageError: nothing is named and there is no plan to follow.
        CertificateRequired: names the certificate that is missing or not passed, and the command that makes it.
    """
    plan = artifact.read_json(PLAN_FILE, Plan) if PLAN_FILE in artifact else None
    variant = variant or _default_variant(artifact, plan, allow_uncertified)
    read_variant(artifact, variant)
    engine = engine or _default_engine(artifact, plan, variant)
    read_build(artifact, variant, engine)
    quality = _quality(artifact, variant, engine)
    if quality and quality.passed:
        return Choice(variant, engine, quality, None, True)
    parity = _parity(artifact, variant, engine)
    primary = _quality(artifact, variant, parity.reference_engine) if parity else None
    if parity and parity.admitted and primary and primary.passed and _same_form(artifact, parity):
        return Choice(variant, engine, primary, parity, True)
    if allow_uncertified:
        return Choice(variant, engine, quality or primary, parity, False)
    raise CertificateRequired(
        f"variant '{variant}' on engine '{engine}' has no certificate that lets it be served",
        where=str(artifact.path),
        got=_what_is_there(quality, parity, primary),
        allowed="a passed quality certificate, or an admitted parity certificate beside the variant's passed one",
        hint=f"Run `rankine certify {artifact.path} --data … --out …` and serve what it writes, "
        "or serve it anyway with --allow-uncertified.",
    )


def _default_variant(artifact: Artifact, plan: Plan | None, allow_uncertified: bool) -> str:
    if plan:
        return plan.variant
    names = variant_names(artifact)
    if not names:
        raise ArtifactError("has no variants", where=str(artifact.path), hint="Train or compile a model first.")
    if not allow_uncertified:
        raise CertificateRequired(
            "the artifact has no plan: nothing in it was certified yet",
            where=str(artifact.path),
            hint=f"Run `rankine certify {artifact.path} --data … --out …`, "
            "or name --variant and --engine with --allow-uncertified.",
        )
    if len(names) > 1:
        raise UsageError("the artifact has no plan: name the variant", allowed=", ".join(names))
    return names[0]


def _default_engine(artifact: Artifact, plan: Plan | None, variant: str) -> str:
    """The plan's engine for its variant; else one on which the variant passed, else the first that was built."""
    if plan and plan.variant == variant:
        return plan.engine
    engines = build_names(artifact, variant)
    if not engines:
        raise UsageError(
            f"variant '{variant}' was not compiled", where=str(artifact.path), hint="Run `rankine compile` first."
        )
    passed = [engine for engine in engines if (found := _quality(artifact, variant, engine)) and found.passed]
    return (passed or engines)[0]


def _quality(artifact: Artifact, variant: str, engine: str) -> QualityCertificate | None:
    name = quality_file(variant, engine)
    raw = _certificate(artifact, name)
    found = None if raw is None else parse(QualityCertificate, raw, source=f"{artifact.path}: {name}")
    return found if found and _covers(artifact, found, variant, engine) else None


def _parity(artifact: Artifact, variant: str, engine: str) -> ParityCertificate | None:
    name = parity_file(variant, engine)
    raw = _certificate(artifact, name)
    found = None if raw is None else parse(ParityCertificate, raw, source=f"{artifact.path}: {name}")
    return found if found and _covers(artifact, found, variant, engine) else None


def _covers(artifact: Artifact, found: QualityCertificate | ParityCertificate, variant: str, engine: str) -> bool:
    """Whether a certificate is of this pair, and of the build that lies here (not of one before a recompilation)."""
    build = f"variants/{variant}/builds/{engine}/build.json"
    here = artifact.manifest.files[build].sha256 if build in artifact else None
    return (found.variant, found.engine) == (variant, engine) and found.provenance.get("build", here) == here


def _certificate(artifact: Artifact, name: str) -> dict[str, object] | None:
    """A certificate in the artifact, or made later and kept beside it under the artifact's hash."""
    beside = artifact.evidence() / name
    if name in artifact:
        raw = artifact.read_bytes(name)
    elif beside.is_file():
        raw = beside.read_bytes()
    else:
        return None
    try:
        values = json.loads(raw)
    except ValueError:
        raise ArtifactError("the certificate is not JSON", where=f"{artifact.path}: {name}") from None
    if not isinstance(values, dict):
        raise ArtifactError("the certificate is not an object", where=f"{artifact.path}: {name}")
    return values


def _same_form(artifact: Artifact, parity: ParityCertificate) -> bool:
    """Parity holds between engines that compute the same numbers, not across two INT8 forms."""
    built = build_names(artifact, parity.variant)
    engines = [engine for engine in (parity.engine, parity.reference_engine) if engine in built]
    return len({read_build(artifact, parity.variant, engine).numeric_form for engine in engines}) == 1


def _what_is_there(
    quality: QualityCertificate | None, parity: ParityCertificate | None, primary: QualityCertificate | None
) -> str:
    if quality:
        return f"a quality certificate with verdict '{quality.verdict}'"
    if parity is None:
        return "neither a quality nor a parity certificate"
    if not parity.admitted:
        return "a parity certificate that is not admitted"
    if primary is None or not primary.passed:
        return f"a parity certificate, but no passed quality certificate on '{parity.reference_engine}'"
    return f"a parity certificate against '{parity.reference_engine}', whose numeric form is another"
