"""What ``runs/small:student-int8`` names: a variant in an artifact, on the engine that it is served from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rankine.artifact import Artifact
from rankine.certification.plan import PLAN_FILE, Pair, Plan
from rankine.certification.scoring import baseline_engine, served_engines
from rankine.errors import UsageError
from rankine.models.variant import BASELINE, read_variant, variant_names

__all__ = ["Named", "named"]


@dataclass(frozen=True)
class Named:
    """One variant on one engine."""

    artifact: Artifact
    variant: str
    engine: str

    @property
    def pair(self) -> Pair:
        """(variant, engine)"""
        return self.variant, self.engine

    def __str__(self) -> str:
        return f"{self.artifact.path}:{self.variant} on {self.engine}"


def named(text: str) -> Named:
    """The variant that ``PATH`` or ``PATH:VARIANT`` names.

    Without a variant it is the plan's, else the only one. The engine is the plan's for its variant; for the baseline
    the one that runs the trained module itself; else the first that the variant was built for.

    Raises:
        ArtifactError: there is no such artifact or variant, or the variant was not compiled.
        UsageError: there are several variants and no plan.
    """
    path, variant = text, ""
    if ":" in text and not Path(text).exists():
        path, _, variant = text.rpartition(":")
    artifact = Artifact.open(path)
    plan = artifact.read_json(PLAN_FILE, Plan) if PLAN_FILE in artifact else None
    chosen = variant or (plan.variant if plan else _only_variant(artifact))
    read_variant(artifact, chosen)
    if plan and plan.variant == chosen:
        return Named(artifact, chosen, plan.engine)
    engine = baseline_engine(artifact) if chosen == BASELINE else served_engines(artifact, chosen)[0]
    return Named(artifact, chosen, engine)


def _only_variant(artifact: Artifact) -> str:
    names = variant_names(artifact)
    if len(names) != 1:
        raise UsageError(
            "has several variants and no plan that says which one is served",
            where=str(artifact.path),
            allowed=", ".join(names),
            hint=f"Name one: {artifact.path}:{names[-1]}." if names else "Train a model first.",
        )
    return names[0]
