"""Tests of one (variant, engine): quality certificates, one a task and margin, or a parity certificate beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.evaluation import EvaluationRows
from rankine.certification.margins import Margins
from rankine.certification.measurement import Measurement, measure_quality
from rankine.certification.parity import ParityCertificate, certify_parity
from rankine.certification.place import Place
from rankine.certification.plan import SERVED, Pair, place_of, served_digest
from rankine.certification.provenance import this_environment
from rankine.certification.settings import CertifySettings
from rankine.certification.slices import Slice
from rankine.compilation.compile import build_names, read_build

__all__ = ["Trial", "model_facts"]

_RECIPE_FILE = "recipe.json"


@dataclass(frozen=True, eq=False)
class Trial:
    """What every pair is held against, and how.

    Attributes:
        rows: those of the test split; to fix the order of tests, those of the validation split.
        baseline: its logits, ``(rows, tasks)``.
        slices: parts of the rows that are tested for harm.
        split_uses: how often these rows were used, this time included.
        facts: for the certificates' provenance, what is the same for all pairs.
    """

    rows: EvaluationRows
    baseline: np.ndarray
    settings: CertifySettings
    slices: Sequence[Slice] = ()
    split_uses: int = 1
    facts: Mapping[str, str] = field(default_factory=dict)

    def quality(
        self, artifact: Artifact, pair: Pair, logits: np.ndarray, steps: Sequence[Margins]
    ) -> list[list[QualityCertificate]]:
        """One certificate a task, at each of the margins in ``steps``; ``logits`` are the pair's, ``(rows, tasks)``."""
        variant, engine = pair
        provenance = {**self.facts, "rows": self.rows.digest, **model_facts(artifact, pair)}
        is_built = engine in build_names(artifact, variant)
        environment = {**this_environment(), "device": read_build(artifact, *pair).device if is_built else "cpu"}
        measured = [self._measure(column, logits) for column in range(len(self.rows.tasks))]
        return [
            [
                found.certificate(
                    margins,
                    variant=variant,
                    engine=engine,
                    task=task.name,
                    provenance=provenance,
                    split_uses=self.split_uses,
                    fail_on_harm=self.settings.fail_on_harm,
                    environment=environment,
                )
                for task, found in zip(self.rows.tasks, measured, strict=True)
            ]
            for margins in steps
        ]

    def _measure(self, column: int, logits: np.ndarray) -> Measurement:
        return measure_quality(
            self.rows.labels[:, column],
            self.baseline[:, column],
            logits[:, column],
            clusters=self.rows.clusters,
            groups=self.rows.groups,
            slices=self.slices,
            link=self.rows.tasks[column].link,
            seed=self.settings.seed,
        )

    def parity(
        self,
        artifact: Artifact,
        pair: Pair,
        logits: np.ndarray,
        *,
        primary: str,
        primary_logits: np.ndarray,
        margins: Margins,
        place: Place | None = None,
    ) -> ParityCertificate:
        """One certificate for all tasks: ``logits`` against those of the variant's ``primary`` engine.

        Args:
            place: where ``logits`` were computed; by default where the build runs.
        """
        place = place or place_of(artifact, *pair)
        variant, engine = pair
        return certify_parity(
            self.rows.labels,
            primary_logits,
            logits,
            margin=margins,
            variant=variant,
            engine=engine,
            device=place.device,
            instruction_set=place.instruction_set,
            reference_engine=primary,
            tasks=[task.name for task in self.rows.tasks],
            links=[task.link for task in self.rows.tasks],
            groups=self.rows.groups,
            provenance={**self.facts, "rows": self.rows.digest, **model_facts(artifact, pair)},
        )


def model_facts(artifact: Artifact, pair: Pair) -> dict[str, str]:
    """Hashes of what was tested: all of it that decides the scores, and by part: graph, tables, recipe."""
    variant, engine = pair
    facts = {"artifact": artifact.digest, SERVED: served_digest(artifact, variant, engine)}
    parts = {
        "graph": [f"variants/{variant}/graph.onnx"],
        "tables": artifact.names(f"variants/{variant}/tables/"),
        "recipe": [name for name in (f"variants/{variant}/{_RECIPE_FILE}", _RECIPE_FILE) if name in artifact][:1],
    }
    return facts | {
        part: _digest(artifact, names) for part, names in parts.items() if any(n in artifact for n in names)
    }


def _digest(artifact: Artifact, names: Sequence[str]) -> str:
    """Hash of one file; of several, of their names and hashes."""
    hashes = {name: artifact.manifest.files[name].sha256 for name in names}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("".join(f"{name}\0{sha256}\n" for name, sha256 in hashes.items()).encode()).hexdigest()
