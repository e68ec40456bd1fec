"""Who is compared: the baseline, the best engine on the uncompressed model, and the compressed artifact.

Only the last is run in parts: the others are what a user would have without Rankine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rankine.artifact import Artifact
from rankine.certification.plan import PLAN_FILE, Plan
from rankine.compilation.engines import load_engine
from rankine.errors import EngineError
from rankine.models.variant import BASELINE, read_variant
from rankine.observation.engines import EngineBench, EngineTiming
from rankine.observation.result import Role
from rankine.observation.timings import Form
from rankine.serving.gate import choose

__all__ = ["Contestant", "contestant", "contestants"]

_DECISIVE_ROWS = 512


@dataclass(frozen=True)
class Contestant:
    """One (variant, engine) of the comparison in one form, and whether its certificate lets it be served."""

    variant: str
    engine: str
    form: Form
    certified: bool


def contestants(artifact: Artifact, bench: EngineBench) -> dict[Role, Contestant]:
    """The three that are served and put under load.

    ``baseline`` is the trained module itself, in the engine that needs its checkpoint; ``bare_engine`` the fastest
    engine that is not ours on the baseline or its plain INT8 form, the whole graph; ``best`` what the plan serves, in
    parts where there are any, or the fastest compressed variant where no certificate passed (then it is marked as not
    certified).

    Raises:
        EngineError: an engine that the comparison needs did not run.
    """
    whole = [t for t in bench.timings if t.form == "whole"]
    eager = [t for t in whole if t.variant == BASELINE and load_engine(t.engine).capabilities().needs_checkpoint]
    peers = [t for t in whole if _is_peer(t.engine)]
    uncompressed = [t for t in peers if _is_uncompressed(artifact, t.variant)]
    plan = _compressed_plan(artifact)
    compressed = [t for t in bench.served if not _is_uncompressed(artifact, t.variant)]
    best = [t for t in compressed if plan is None or (t.variant, t.engine) == (plan.variant, plan.engine)]
    found: dict[Role, EngineTiming] = {
        "baseline": _fastest(eager, "the baseline in PyTorch"),
        "bare_engine": _fastest(uncompressed, "an engine on the uncompressed model"),
        "best": _fastest(best, "a compressed variant"),
    }
    return {role: contestant(artifact, timing) for role, timing in found.items()}


def contestant(artifact: Artifact, timing: EngineTiming) -> Contestant:
    """What was timed, certified as the server's gate sees it: what parts passed may not cover the whole graph."""
    variant, engine, form = timing.variant, timing.engine, timing.form
    choice = choose(artifact, variant=variant, engine=engine, split=form == "parts", allow_uncertified=True)
    return Contestant(variant, engine, form, choice.certified)


def _is_peer(engine: str) -> bool:
    """Whether it is what a user would take who has not us."""
    capabilities = load_engine(engine).capabilities()
    return not capabilities.needs_checkpoint and not capabilities.own


def _is_uncompressed(artifact: Artifact, variant: str) -> bool:
    """Whether a variant has all of the baseline's multiply-adds: the baseline itself, or its plain INT8 form."""
    return read_variant(artifact, variant).macs_per_row == read_variant(artifact, BASELINE).macs_per_row


def _compressed_plan(artifact: Artifact) -> Plan | None:
    plan = artifact.read_json(PLAN_FILE, Plan) if PLAN_FILE in artifact else None
    return plan if plan and not _is_uncompressed(artifact, plan.variant) else None


def _fastest(timings: Iterable[EngineTiming], what: str) -> EngineTiming:
    measured = [t for t in timings if t.rows == _DECISIVE_ROWS and t.p50_ms is not None]
    if not measured:
        raise EngineError(f"{what} did not run", hint="`rankine doctor` shows which engines work here.")
    return min(measured, key=lambda timing: timing.p50_ms or 0.0)
