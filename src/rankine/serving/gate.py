"""The gate: which variant runs on which engine, and whether a certificate lets it.

The rule is literal: what is served needs evidence that it ranks as well as the baseline, taken on what is served. That
is a passed quality certificate of the variant on this engine; or an admitted parity certificate of this engine, of the
same numeric form, against an engine that has one. Either holds on the device and the instruction set that it was taken
on. The baseline is no exception.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankine.artifact import Artifact
from rankine.certification import ParityCertificate, QualityCertificate
from rankine.certification.place import Place
from rankine.certification.plan import (
    PLAN_FILE,
    Plan,
    certified_pairs,
    parity_certificates,
    place_of,
    quality_certificates,
)
from rankine.certification.standing import NOT_CERTIFIED, parity_told
from rankine.compilation.compile import build_names, read_binding_plan, runs_in_parts
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

    @property
    def told(self) -> str:
        """By which right, in the words of every command."""
        if not self.certified:
            return NOT_CERTIFIED
        return "certified" if self.parity is None else parity_told(self.parity)


def choose(
    artifact: Artifact,
    *,
    variant: str | None = None,
    engine: str | None = None,
    device: str | None = None,
    split: bool = True,
    allow_uncertified: bool = False,
) -> Choice:
    """Decide what to serve: the plan's pair, or what is named.

    Args:
        device: that the engine runs on; evidence holds for it, and for the instruction set of this machine. None for
            the one that the build was verified on.
        split: False for the whole graph. What was certified on parts covers it only where nothing is rounded: in FP32,
            with items stored in FP32.

    Raises:
        ArtifactError: there is no such variant, or the variant was not built for the engine.
        UsageError: nothing is named and there is no plan to follow.
        CertificateRequired: names the certificate that is missing or not passed, and the command that makes it.
    """
    plan = artifact.read_json(PLAN_FILE, Plan) if PLAN_FILE in artifact else None
    variant = variant or _default_variant(artifact, plan, allow_uncertified)
    read_variant(artifact, variant)
    engine = engine or _default_engine(artifact, plan, variant, None if device is None else Place(device))
    place = place_of(artifact, variant, engine) if device is None else Place(device)
    qualities = quality_certificates(artifact)
    quality = qualities.get((variant, engine))
    parity = parity_certificates(artifact, place).get((variant, engine))
    primary = qualities.get((variant, parity.reference_engine)) if parity else None
    covered = split or not _rounds_parts(artifact, variant, engine)
    if covered and (variant, engine) in certified_pairs(artifact, place):
        by_parity = not (quality and quality.passed and place.is_of(quality.environment))
        return Choice(variant, engine, primary if by_parity else quality, parity if by_parity else None, True)
    if allow_uncertified:
        return Choice(variant, engine, quality or primary, parity, False)
    raise CertificateRequired(
        f"variant '{variant}' on engine '{engine}' has no certificate that lets it be served",
        where=str(artifact.path),
        got=_what_is_there(quality, parity, primary, place) if covered else "certificates of its parts, which round",
        allowed="a passed quality certificate, or an admitted parity certificate beside the variant's passed one",
        hint=_how_to_certify(artifact, covered, place, elsewhere=any(pair[0] == variant for pair in qualities)),
    )


def _rounds_parts(artifact: Artifact, variant: str, engine: str) -> bool:
    """Whether a build runs in parts that round: the scores of the whole may then differ from theirs.

    Parts that store less of an item than FP32 round what the whole does not. In INT8 a sum that is taken in another
    order falls on the other side of a rounding step now and then.
    """
    if not runs_in_parts(artifact, variant, engine):
        return False
    stored = read_binding_plan(artifact, variant).stored
    return read_variant(artifact, variant).numeric != "fp32" or any(one.storage != "float32" for one in stored)


def _how_to_certify(artifact: Artifact, covered: bool, place: Place, *, elsewhere: bool) -> str:
    """What to do.

    Args:
        covered: False where the whole graph is asked for and its parts would be certified.
        place: that it is to be served on.
        elsewhere: whether the variant has a quality certificate on some engine, device and instruction set.
    """
    if not covered:
        return (
            "Serve the parts (without --no-split), certify an artifact that was compiled with --no-split, "
            "or serve it anyway with --allow-uncertified."
        )
    if not place.pinned:
        return "Name the device that it is to run on, or serve it anyway with --allow-uncertified."
    if elsewhere:
        return (
            f"Run `rankine certify {artifact.path} --data … --parity`, which takes seconds, "
            "or serve it anyway with --allow-uncertified."
        )
    return (
        f"Run `rankine certify {artifact.path} --data … --out …` and serve what it writes, "
        "or serve it anyway with --allow-uncertified."
    )


def _default_variant(artifact: Artifact, plan: Plan | None, allow_uncertified: bool) -> str:
    if plan:
        return plan.variant
    names = variant_names(artifact)
    if not names:
        raise ArtifactError("has no variants", where=str(artifact.path), hint="Train or compile a model first.")
    if not allow_uncertified:
        verb = "certify" if any(build_names(artifact, name) for name in names) else "optimize"
        raise CertificateRequired(
            "the artifact has no plan: nothing in it was certified yet",
            where=str(artifact.path),
            hint=f"Run `rankine {verb} {artifact.path} --data … --out …`, "
            "or name --variant and --engine with --allow-uncertified.",
        )
    if len(names) > 1:
        raise UsageError("the artifact has no plan: name the variant", allowed=", ".join(names))
    return names[0]


def _default_engine(artifact: Artifact, plan: Plan | None, variant: str, place: Place | None) -> str:
    """The plan's engine for its variant; else one on which the variant passed, else the first that was built."""
    if plan and plan.variant == variant:
        return plan.engine
    engines = build_names(artifact, variant)
    if not engines:
        raise UsageError(
            f"variant '{variant}' was not compiled", where=str(artifact.path), hint="Run `rankine compile` first."
        )
    certified = certified_pairs(artifact, place)
    return next((engine for engine in engines if (variant, engine) in certified), engines[0])


def _what_is_there(
    quality: QualityCertificate | None,
    parity: ParityCertificate | None,
    primary: QualityCertificate | None,
    place: Place,
) -> str:
    if not place.pinned:
        return f"device '{place.device}', which chooses where it computes at each start: no certificate counts for it"
    if quality and quality.passed and parity is None:
        taken = quality.environment.get("device", "cpu"), quality.environment.get("instruction_set")
        return f"a quality certificate of {taken[0]} ({taken[1]}), and no parity certificate of {place}"
    if quality and not quality.passed:
        return f"a quality certificate with verdict '{quality.verdict}'"
    if parity is None:
        return f"neither a quality nor a parity certificate of {place}"
    if not parity.admitted:
        return "a parity certificate that is not admitted"
    if primary is None or not primary.passed:
        return f"a parity certificate, but no passed quality certificate on '{parity.reference_engine}'"
    return f"a parity certificate against '{parity.reference_engine}', whose numeric form is another"
