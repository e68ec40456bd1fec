"""The plan of an artifact (what is served by default), and where its certificates lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict

from rankine.artifact import Artifact, read_record
from rankine.certification.certificate import QualityCertificate
from rankine.certification.parity import ParityCertificate
from rankine.certification.place import Place
from rankine.compilation.compile import build_names, read_build
from rankine.config import Frozen
from rankine.errors import ArtifactError
from rankine.models.schema import Schema
from rankine.models.variant import variant_names

__all__ = [
    "PLAN_FILE",
    "SERVED",
    "Plan",
    "aucs",
    "certified_pairs",
    "covers",
    "deciding",
    "parity_certificates",
    "parity_file",
    "place_of",
    "quality_certificates",
    "quality_file",
    "same_form",
    "scores_file",
    "served_digest",
    "task_certificates",
    "variant_digest",
]

Pair = tuple[str, str]
"""(variant, engine)"""
Record = TypeVar("Record", QualityCertificate, ParityCertificate)

PLAN_FILE = "plan.json"
SERVED = "served"
"""Key of a certificate's provenance: the hash of what it was taken on."""


class Plan(Frozen):
    """The (variant, engine) that is served by default: certified, and the fastest of those at 512 rows."""

    schema_version: int = 1
    variant: str
    engine: str
    p50_ms_512: float


def quality_file(variant: str, engine: str, task: str) -> str:
    """Name of a quality certificate in an artifact."""
    return f"variants/{variant}/certificates/quality-{engine}.{task}.json"


def parity_file(variant: str, engine: str, place: Place | None = None) -> str:
    """Name of a parity certificate in an artifact, or beside it: of a device and instruction set, by default the CPU
    of this machine."""
    return f"variants/{variant}/certificates/parity-{engine}.{(place or Place()).file_part}.json"


def place_of(artifact: Artifact, variant: str, engine: str) -> Place:
    """Where a build runs unless another device is named: on the device that it was verified on, of this machine."""
    return Place(read_build(artifact, variant, engine).device)


def scores_file(variant: str, engine: str) -> str:
    """Name of the logits that a quality certificate was taken on, float32 ``(rows, tasks)``: what parity elsewhere is
    held to."""
    return f"variants/{variant}/certificates/scores-{engine}.npy"


def served_digest(artifact: Artifact, variant: str, engine: str) -> str:
    """Hash of everything that decides a pair's scores: build, graph, tables, checkpoint, schema and transforms."""
    return _digest(artifact, variant, f"variants/{variant}/builds/{engine}/")


def variant_digest(artifact: Artifact, variant: str) -> str:
    """Hash of what a variant means, on whichever engine: graph, parts, tables, checkpoint, schema and transforms."""
    return _digest(artifact, variant)


def _digest(artifact: Artifact, variant: str, *more: str) -> str:
    """``more``: folders in the artifact that count too."""
    root = f"variants/{variant}"
    prefixes = (*more, f"{root}/split/", f"{root}/tables/", f"{root}/checkpoint/", "transforms/")
    names = [f"{root}/graph.onnx", "schema.json", *(name for prefix in prefixes for name in artifact.names(prefix))]
    lines = [f"{name}\0{artifact.manifest.files[name].sha256}\n" for name in names if name in artifact]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def covers(artifact: Artifact, certificate: QualityCertificate | ParityCertificate) -> bool:
    """Whether a certificate was taken on exactly what the artifact holds now for its (variant, engine)."""
    here = served_digest(artifact, certificate.variant, certificate.engine)
    return certificate.provenance.get(SERVED) == here


def quality_certificates(artifact: Artifact) -> dict[Pair, QualityCertificate]:
    """Quality certificates that cover what the artifact holds, by (variant, engine): with several tasks that of the
    task that decides, which is the worst."""
    return {pair: deciding(tuple(found.values())) for pair, found in task_certificates(artifact).items()}


def task_certificates(artifact: Artifact) -> dict[Pair, dict[str, QualityCertificate]]:
    """Quality certificates by (variant, engine) and task, of those pairs that have one for every task."""
    tasks = artifact.read_json("schema.json", Schema).task_names
    found = {}
    for variant, engine in _built(artifact):
        by_task = {}
        for task in tasks:
            certificate = _covering(artifact, quality_file(variant, engine, task), QualityCertificate, variant, engine)
            if certificate is not None and certificate.task == task:
                by_task[task] = certificate
        if len(by_task) == len(tasks):
            found[variant, engine] = by_task
    return found


def deciding(certificates: Sequence[QualityCertificate]) -> QualityCertificate:
    """The certificate of the task that decides: all must pass (intersection-union), so the worst one."""
    verdicts = ("fail", "inconclusive", "pass")
    # By p-value; where that is 0 for all, by what is left of the margin of AUC.
    return min(
        certificates, key=lambda found: (verdicts.index(found.verdict), -found.p_value, found.ci_low + found.margin)
    )


def parity_certificates(artifact: Artifact, place: Place | None = None) -> dict[Pair, ParityCertificate]:
    """Parity certificates that cover what the artifact holds, all of its tasks too, by (variant, engine).

    Args:
        place: where they were taken; by default where each build runs (:func:`place_of`). None counts where it is not
            pinned.
    """
    tasks = artifact.read_json("schema.json", Schema).task_names
    found = {}
    for variant, engine in _built(artifact):
        here = place or place_of(artifact, variant, engine)
        if not here.pinned:
            continue
        certificate = _covering(artifact, parity_file(variant, engine, here), ParityCertificate, variant, engine)
        if certificate is None or not _compares(certificate, tasks):
            continue
        if Place(certificate.device, certificate.instruction_set) == here:
            found[variant, engine] = certificate
    return found


def certified_pairs(artifact: Artifact, place: Place | None = None) -> set[Pair]:
    """What may be served: a passed quality certificate that was taken there; or parity there with an engine of the
    variant that has one, wherever it was taken, and computes the same numeric form.

    Args:
        place: where it is to be served; by default where each build runs (:func:`place_of`).
    """
    passed = {pair: certificate for pair, certificate in quality_certificates(artifact).items() if certificate.passed}
    taken_there = {
        pair for pair, found in passed.items() if (place or place_of(artifact, *pair)).is_of(found.environment)
    }
    return taken_there | {
        (variant, engine)
        for (variant, engine), parity in parity_certificates(artifact, place).items()
        if parity.admitted and (variant, parity.reference_engine) in passed and same_form(artifact, parity)
    }


def same_form(artifact: Artifact, parity: ParityCertificate) -> bool:
    """Parity holds between engines that compute the same numbers, not across two INT8 forms."""
    engines = (parity.engine, parity.reference_engine)
    return len({read_build(artifact, parity.variant, engine).numeric_form for engine in engines}) == 1


def aucs(artifact: Artifact) -> dict[Pair, float]:
    """Test AUC of the first task for every (variant, engine) with a certificate, passed or not; with parity it follows
    from the primary's."""
    task = artifact.read_json("schema.json", Schema).task_names[0]
    found = {pair: by_task[task].variant_value for pair, by_task in task_certificates(artifact).items()}
    for (variant, engine), parity in parity_certificates(artifact).items():
        primary = found.get((variant, parity.reference_engine))
        if primary is not None and engine != parity.reference_engine:
            found[variant, engine] = primary + parity.tasks.get(task, parity.auc_difference)
    return found


def _compares(parity: ParityCertificate, tasks: Sequence[str]) -> bool:
    """Whether the certificate speaks of every task; one that names none is of a model with one."""
    return parity.tasks.keys() == set(tasks) or (not parity.tasks and len(tasks) == 1)


def _built(artifact: Artifact) -> list[Pair]:
    return [(variant, engine) for variant in variant_names(artifact) for engine in build_names(artifact, variant)]


def _covering(artifact: Artifact, name: str, kind: type[Record], variant: str, engine: str) -> Record | None:
    """The certificate in the file ``name``, if it is of this pair and was taken on what the artifact holds."""
    certificate = _read(artifact, name, kind)
    if certificate is None or (certificate.variant, certificate.engine) != (variant, engine):
        return None
    return certificate if covers(artifact, certificate) else None


def _read(artifact: Artifact, name: str, kind: type[Record]) -> Record | None:
    """A certificate in the artifact, or made later and kept beside it under the artifact's hash.

    Raises:
        ArtifactError: it cannot be read, or is of an older version of Rankine.
    """
    path = artifact.file(name) if name in artifact else artifact.evidence() / name
    if not path.is_file():
        return None
    _refuse_older(read_record(path, _Version).schema_version, kind, path, artifact)
    return read_record(path, kind)


class _Version(Frozen):
    """Any certificate, as far as its version."""

    model_config = ConfigDict(extra="ignore")

    schema_version: int


def _refuse_older(version: int, kind: type[Record], path: Path, artifact: Artifact) -> None:
    current = kind.model_fields["schema_version"].default
    if version < current:
        raise ArtifactError(
            "the certificate is of an older version of Rankine, which tested less",
            where=str(path),
            got=f"schema_version {version}",
            allowed=str(current),
            hint=f"Certify again: `rankine certify {artifact.path} --data … --out …`.",
        )
