"""Parity on a machine, in seconds: every engine that an artifact was built for, on every device that it has here.

What an engine is held to are the logits that the variant's quality certificate was taken on, which lie in the artifact:
neither the machine nor the engine that made them has to be at hand. The certificates are kept beside the artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from pydantic import AwareDatetime

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.evaluation import EvaluationRows, held_out_rows, split_facts
from rankine.certification.margins import Margins
from rankine.certification.parity import ParityCertificate
from rankine.certification.place import Place
from rankine.certification.plan import Pair, parity_file, quality_certificates, scores_file
from rankine.certification.scoring import score
from rankine.certification.settings import CertifySettings
from rankine.certification.standing import parity_told, standing
from rankine.certification.trial import Trial
from rankine.compilation.compile import build_names, check_built, read_build
from rankine.compilation.engine import Capabilities
from rankine.compilation.engines import installed, load_engine
from rankine.config import Frozen
from rankine.data.dataset import Dataset
from rankine.environment import environment, instruction_set
from rankine.errors import CertificateRequired, DataError, RankineError, UsageError
from rankine.events import Emit, Note, ignore
from rankine.models.variant import variant_names
from rankine.training.record import check_same_data

__all__ = ["MOST_ROWS", "LeftOut", "ParityReport", "certify_parity_here", "kept_rows"]

MOST_ROWS = 100_000
"""Of the test rows' logits, that many are kept, evenly spread."""

_WHATEVER_IT_RAISES: tuple[type[Exception], ...] = (Exception,)
"""An engine is a stranger's code: one that fails is told, and the others go on."""


class LeftOut(Frozen):
    """What has no parity certificate, and why."""

    variant: str
    engine: str
    device: str
    reason: str
    failed: bool = False


class ParityReport(Frozen):
    """All of one run on one machine.

    Attributes:
        left_out: what needs no certificate of parity here, or could get none (``failed``).
    """

    schema_version: Literal[1] = 1
    artifact: str
    artifact_digest: str
    instruction_set: str
    created: AwareDatetime
    environment: dict[str, str | int | float]
    certificates: tuple[ParityCertificate, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def admitted(self) -> bool:
        """Whether no engine was refused or failed."""
        return all(one.admitted for one in self.certificates) and not any(one.failed for one in self.left_out)

    def table_rows(self) -> list[dict[str, str]]:
        """One row a (variant, engine, device); ready to render."""
        return [
            *(
                {
                    "variant": one.variant,
                    "engine": one.engine,
                    "device": one.device,
                    "held to": one.reference_engine,
                    "AUC, change": f"{one.auc_difference:+.1e}",
                    "largest logit difference": f"{one.score_difference_max:.1e}",
                    "result": parity_told(one) + ("" if one.admitted else f": {one.reason}"),
                }
                for one in self.certificates
            ),
            *(
                {"variant": one.variant, "engine": one.engine, "device": one.device}
                | {"held to": "", "AUC, change": "", "largest logit difference": ""}
                | {"result": f"FAILED: {one.reason}" if one.failed else one.reason}
                for one in self.left_out
            ),
        ]


def kept_rows(rows: int) -> np.ndarray:
    """Which of a split's rows are kept and compared: all, or :data:`MOST_ROWS` evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, MOST_ROWS)).round().astype(np.int64))


def certify_parity_here(
    artifact: Artifact,
    dataset: Dataset,
    *,
    engines: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    emit: Emit = ignore,
) -> ParityReport:
    """Hold every engine that ``artifact`` was built for to its variant's quality certificate, and keep the parity
    certificates beside the artifact, where ``serve`` finds them.

    An engine that is not installed here, fails, or has a quality certificate of its own here is told as left out.

    Args:
        dataset: the one that the artifact was certified on.
        engines: names; None for all that it was built for.
        devices: names; None for all that each engine has here.

    Raises:
        DataError: ``dataset`` is another one.
        CertificateRequired: no variant has a quality certificate.
        ArtifactError: an engine is named that nothing was built for.
        EngineMissing: an engine is named that there is not.
        UsageError: a device is named that no chosen engine has here.
    """
    check_same_data(artifact, dataset)
    qualities = quality_certificates(artifact)
    if not qualities:
        raise CertificateRequired(
            "no variant has a quality certificate that parity could be held to",
            where=str(artifact.path),
            hint=f"Run `rankine certify {artifact.path} --data … --out …` first.",
        )
    built = [(variant, engine) for variant in variant_names(artifact) for engine in build_names(artifact, variant)]
    for name in engines or ():
        check_built(artifact, name)
    if devices:
        _check_devices(devices, {engine for _, engine in built if engines is None or engine in engines})
    _, test = held_out_rows(artifact, dataset)
    index = kept_rows(len(test.labels))
    rows = test.take(index)
    trial = Trial(rows, np.empty((0, 0), np.float32), CertifySettings(), facts=split_facts(dataset))
    certificates, left_out = [], []
    for pair in built:
        if engines is not None and pair[1] not in engines:
            continue
        for found in _of_pair(artifact, pair, trial, qualities, devices, emit, named=engines is not None):
            if isinstance(found, ParityCertificate):
                _keep(artifact, found)
                certificates.append(found)
                verdict = parity_told(found) + ("" if found.admitted else f": {found.reason}")
            else:
                left_out.append(found)
                verdict = found.reason
            emit(Note("parity", f"{found.variant} on {found.engine}, {found.device}: {verdict}"))
    return ParityReport(
        artifact=artifact.name,
        artifact_digest=artifact.digest,
        instruction_set=instruction_set(),
        created=datetime.now(UTC),
        environment=environment(),
        certificates=tuple(certificates),
        left_out=tuple(left_out),
    )


def _check_devices(devices: Sequence[str], engines: Iterable[str]) -> None:
    """Refuse a device that none of the engines has here; of an engine that is missing nothing is known.

    Raises:
        UsageError: names it, and those that there are.
    """
    here = [found for name, found in installed() if name in engines and isinstance(found, Capabilities)]
    known = {device for found in here if not found.oracle for device in found.devices}
    for device in devices:
        if device not in known:
            raise UsageError(
                "no chosen engine has this device here",
                where="--device",
                got=device,
                allowed=", ".join(sorted(known)) or "none: no chosen engine is installed",
                hint="`rankine doctor` lists the devices of every engine.",
            )


def _of_pair(
    artifact: Artifact,
    pair: Pair,
    trial: Trial,
    qualities: dict[Pair, QualityCertificate],
    devices: Sequence[str] | None,
    emit: Emit,
    *,
    named: bool,
) -> Iterator[ParityCertificate | LeftOut]:
    """One a device. What cannot be done for an engine here fails the run only where it was ``named``."""
    variant, engine = pair
    try:
        capabilities = load_engine(engine).capabilities()
    except RankineError as error:
        yield LeftOut(variant=variant, engine=engine, device="", reason=str(error), failed=named)
        return
    if capabilities.oracle:
        if named:
            reason = "is what the others are compared with, and is never served from"
            yield LeftOut(variant=variant, engine=engine, device="", reason=reason, failed=True)
        return
    for device in capabilities.devices:
        if devices is not None and device not in devices:
            continue
        own, place = qualities.get(pair), Place(device)
        if not place.pinned:
            reason = "chooses where it computes at each start: name the device that it is to run on"
            yield LeftOut(variant=variant, engine=engine, device=device, reason=reason, failed=devices is not None)
            continue
        if own is not None and place.is_of(own.environment):
            reason = f"{standing(own, None, place)}, by a quality certificate of its own"
            yield LeftOut(variant=variant, engine=engine, device=device, reason=reason)
            continue
        try:
            yield _parity(artifact, pair, place, trial, qualities, emit)
        except _WHATEVER_IT_RAISES as error:
            reason = str(error) if isinstance(error, RankineError) else f"{type(error).__name__}: {error}"
            yield LeftOut(variant=variant, engine=engine, device=device, reason=reason, failed=True)


def _parity(
    artifact: Artifact, pair: Pair, place: Place, trial: Trial, qualities: dict[Pair, QualityCertificate], emit: Emit
) -> ParityCertificate:
    variant, engine = pair
    certificate = _held_to(artifact, pair, qualities)
    return trial.parity(
        artifact,
        pair,
        score(artifact, variant, engine, trial.rows.batch, emit, device=place.device),
        primary=certificate.engine,
        primary_logits=_certified_logits(artifact, certificate, trial.rows, emit),
        margins=_margins(certificate),
        place=place,
    )


def _held_to(artifact: Artifact, pair: Pair, qualities: dict[Pair, QualityCertificate]) -> QualityCertificate:
    """The variant's quality certificate in the same numeric form: its own from elsewhere, else one that passed.

    Raises:
        CertificateRequired: there is none.
    """
    variant, engine = pair
    form = read_build(artifact, variant, engine).numeric_form
    same = [
        certificate
        for (name, other), certificate in qualities.items()
        if name == variant and read_build(artifact, variant, other).numeric_form == form
    ]
    if not same:
        raise CertificateRequired(
            "has no quality certificate in this numeric form", where=f"{variant} on {engine}", got=form,
            hint=f"Run `rankine certify {artifact.path} --data … --out …`.",
        )  # fmt: skip
    return max(same, key=lambda found: (found.engine == engine, found.passed))


def _certified_logits(
    artifact: Artifact, certificate: QualityCertificate, rows: EvaluationRows, emit: Emit
) -> np.ndarray:
    """What the certificate was taken on, of the rows that were kept. An artifact from before they were kept is scored
    anew where its certificate holds.

    Raises:
        DataError: the certificate was taken on other rows.
        CertificateRequired: the logits were not kept, and were computed elsewhere.
    """
    name = scores_file(certificate.variant, certificate.engine)
    if certificate.provenance.get("rows") != rows.digest:
        raise DataError(
            "the certificate was taken on other rows",
            where=certificate.variant,
            hint="Give the same --data and --rows.",
        )
    if name in artifact:
        return artifact.array(name)
    if not Place().is_of(certificate.environment):
        raise CertificateRequired(
            "the artifact does not hold the logits that it was certified on", where=name,
            hint=f"Certify it again: `rankine certify {artifact.path} --data … --out …`.",
        )  # fmt: skip
    return score(artifact, certificate.variant, certificate.engine, rows.batch, emit)


def _margins(certificate: QualityCertificate) -> Margins:
    """Those that the certificate was judged by; a metric that it did not judge is not judged here."""
    judged = {test.name: test.margin for test in certificate.metrics}
    return Margins(
        auc=certificate.margin,
        normalized_entropy=judged.get("normalized_entropy"),
        calibration=judged.get("calibration"),
        group_auc=judged.get("group_auc"),
        ndcg_at_10=judged.get("ndcg_at_10"),
    )


def _keep(artifact: Artifact, certificate: ParityCertificate) -> None:
    place = Place(certificate.device, certificate.instruction_set)
    path = artifact.evidence() / parity_file(certificate.variant, certificate.engine, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(certificate.model_dump_json(indent=2) + "\n", encoding="utf-8")
