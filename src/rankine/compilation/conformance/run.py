"""All checks of all engines over all reference models, each case in a process of its own."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import rankine
from rankine.artifact import Artifact, sha256_of
from rankine.compilation.conformance.case import why_not
from rankine.compilation.conformance.checks import CHECKS, checks_on
from rankine.compilation.conformance.continued import CaseKey, case_key, kept_cases, merged, missing_checks
from rankine.compilation.conformance.process import Job, run_job
from rankine.compilation.conformance.result import CaseOutcome, CheckOutcome, ConformanceResult, EngineOutcome
from rankine.compilation.conformance.zoo import INT8, MODELS, zoo_artifact, zoo_module
from rankine.compilation.engine import Capabilities
from rankine.compilation.engines import check_known, engine_names, installed
from rankine.environment import environment, instruction_set
from rankine.errors import EngineMissing, UsageError, did_you_mean
from rankine.events import Emit, Failed, ignore, step
from rankine.models.variant import BASELINE, load_model

if TYPE_CHECKING:
    from rankine.models.network import Network

__all__ = ["TIMEOUT_S", "code_digest", "run_conformance"]

TIMEOUT_S = 600.0


def run_conformance(
    *,
    engines: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    checks: Sequence[str] | None = None,
    small: bool = False,
    timeout_s: float = TIMEOUT_S,
    known: ConformanceResult | None = None,
    keep: Callable[[ConformanceResult], None] = lambda result: None,
    emit: Emit = ignore,
) -> ConformanceResult:
    """Hold engines to every check, on every device that they name, over reference models in both numeric forms.

    Args:
        engines: names; None for all that are known. One that is not installed is told with its reason.
        devices: names; None for all that each engine can be verified on here.
        models: of :data:`~rankine.compilation.conformance.zoo.MODELS`; None for all.
        checks: of :data:`~rankine.compilation.conformance.checks.CHECKS`; None for all.
        small: small models, for a quick look.
        timeout_s: for a build and for each check.
        known: an earlier result, which this run adds to: checks that passed in it, in the same environment, with the
            same code of Rankine and the same capability record, are not run again. The code of other packages' engines
            is known by their version only.
        keep: is given what is known so far after every case, so that a run can be gone on with.

    Raises:
        EngineMissing: PyTorch, which makes the models, is not installed; or there is no engine of a name.
        UsageError: another name is unknown, or ``known`` cannot be added to.
    """
    check_known(*(engines or ()))
    chosen = {
        "engine": _known("engine", engines, engine_names()),
        "model": _known("model", models, MODELS),
        "check": _known("check", checks, CHECKS),
    }
    listed = [_engine(name, one) for name, one in installed()]
    found = [one for one in listed if one.engine in chosen["engine"]]
    on = _known("device", devices, _devices(found))
    for engine in found:
        if engine.capabilities is None:
            emit(Failed(f"engine {engine.engine}", f"{engine.missing} {engine.hint or ''}".rstrip()))
    cases: dict[CaseKey, CaseOutcome] = {}
    if known is not None:
        cases = kept_cases(known, code_digest(), listed, {**chosen, "device": on}, small=small)
    told = {one.engine for one in (*found, *(known.engines if known is not None else ()))}
    names, zoo = list(engine_names()), list(MODELS)

    def position(case: CaseOutcome) -> tuple[int, int]:
        return names.index(case.engine), zoo.index(case.model)

    def result() -> ConformanceResult:
        return ConformanceResult(
            created=datetime.now(UTC),
            environment=environment(),
            code=code_digest(),
            instruction_set=instruction_set(),
            small=small,
            engines=tuple(one for one in listed if one.engine in told),
            cases=tuple(sorted(cases.values(), key=position)),
        )

    with tempfile.TemporaryDirectory(prefix="rankine-conformance-") as folder:
        for name in chosen["model"]:
            place = Path(folder) / name
            place.mkdir()
            with step(emit, f"make {name}"):
                artifact = zoo_artifact(name, _network(name, small=small), place)
            for engine in found:
                for case in _cases(engine, on, name, artifact, chosen["check"], cases, timeout_s, emit):
                    cases[case_key(case)] = case
                    keep(result())
    return result()


@cache
def code_digest() -> str:
    """Hash of Rankine's own files, native code included."""
    root = Path(rankine.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".so", ".pyd"))
    lines = [f"{path.relative_to(root).as_posix()}\0{sha256_of(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _network(name: str, *, small: bool) -> Network:
    module = zoo_module(name, small=small)
    from rankine.models.network import network_of

    return network_of(module)


def _engine(name: str, found: Capabilities | EngineMissing) -> EngineOutcome:
    if isinstance(found, Capabilities):
        return EngineOutcome(engine=name, capabilities=found)
    return EngineOutcome(engine=name, missing=found.got or found.message, hint=found.hint)


def _devices(engines: Iterable[EngineOutcome]) -> list[str]:
    """Of all engines that are here, each once."""
    records = [one.capabilities for one in engines if one.capabilities is not None]
    return list(dict.fromkeys(device for record in records for device in record.verifiable))


def _cases(
    engine: EngineOutcome,
    devices: Container[str],
    name: str,
    artifact: Artifact,
    checks: Sequence[str],
    known: Mapping[CaseKey, CaseOutcome],
    timeout_s: float,
    emit: Emit,
) -> Iterator[CaseOutcome]:
    capabilities = engine.capabilities
    if capabilities is None:
        return
    for device in (one for one in capabilities.verifiable if one in devices):
        for variant in (BASELINE, INT8):
            model = load_model(artifact, variant)
            case = CaseOutcome(
                engine=engine.engine,
                device=device,
                runs_on=capabilities.runs_on(device),
                model=name,
                numeric=model.numeric,
                left_out=why_not(capabilities, model, device),
            )
            if case.left_out is None:
                earlier = known.get(case_key(case))
                left = missing_checks(earlier, checks_on(capabilities, device, checks))
                job = Job(engine.engine, device, artifact.path, variant, left)
                outcomes = _outcomes(case, job, timeout_s, emit) if left else ()
                case = case.model_copy(update={"checks": merged(earlier, outcomes)})
            yield case


def _outcomes(case: CaseOutcome, job: Job, timeout_s: float, emit: Emit) -> tuple[CheckOutcome, ...]:
    task = f"{case.engine} on {case.device}, {case.model} {case.numeric.upper()}"
    outcomes: list[CheckOutcome] = []
    with step(emit, task, len(job.checks) + 1, "checks") as advance:
        for outcome in run_job(job, timeout_s):
            outcomes.append(outcome)
            if not outcome.passed:
                emit(Failed(f"{task}, {outcome.check}", outcome.reason or ""))
            advance(len(outcomes), outcome.check)
        failed = sum(not outcome.passed for outcome in outcomes)
        advance(len(outcomes), f"{failed} of {len(outcomes)} FAILED" if failed else f"{len(outcomes)} passed")
    return tuple(outcomes)


def _known(what: str, given: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """The names that are given, or all."""
    choices = list(known)
    for name in given or ():
        if name not in choices:
            raise UsageError(f"unknown {what}", where=f"--{what}", got=name, hint=did_you_mean(name, choices))
    return choices if given is None else list(dict.fromkeys(given))
