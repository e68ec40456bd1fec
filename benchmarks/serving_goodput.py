"""The proof of elastic serving: Rankine and its peers, the same engine and model behind each, over HTTP.

$ python benchmarks/serving_goodput.py --work FOLDER --compressed WORK/dcn_v2/compressed --peers-python PEERS/bin/python

goodput: the highest rate with p99 and at least 99 % of the answers within 50 ms of when they were due, refusals and
late answers being misses. front_end: one client, 500 ids. oracle: what a scheduler with perfect knowledge could
sustain, with the engine's times and with the server's. simulator: what ours says, fed with the times of this run.
overload: twice what was sustained. ladder: what a floor makes of an overload. All of it takes about 45 minutes.

Servers run on one core, the generator on another: both must be quiet. Peers that the interpreter of ``--peers-python``
lacks are skipped and told. What is measured replaces the row of the same server, model and traffic in the result file;
the others stay, so that a part can be done by itself (``--only``, ``--servers``, ``--models``, ``--traffic``), and a
run that was cut off goes on with ``--continue``, which leaves out what the file has. ``--quick`` shows that it works.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, get_args

from serving.contestants import CONTESTANTS
from serving.drive import Drive
from serving.ladder import LadderPlan, ladder_case, measure_ladder
from serving.models import open_served
from serving.oracle import engine_service
from serving.peers.own import OWN
from serving.peers.peer import Peer, Place, Running, Settings
from serving.queries import Mix, draw_queries
from serving.ranker import Ranker
from serving.record import Case, Goodput, Row, Section, ServingProof, merged, read_result, row_of, write_result
from serving.search import QUICK, Effort
from serving.sections import find_goodput, find_oracle, measure_front_end, run_overload
from serving.served import ENGINE, Name, Served
from serving.simulated import compare_simulator
from serving.traffic import Kind

from rankine.errors import RankineError, UsageError

OUT = Path(__file__).resolve().parent / "results" / "serving-proof.json"
FRONT_END_CANDIDATES = "500"


PEER_TRAFFIC: Collection[Kind] = ("exponential", "bursts")
OWN_SECTIONS: Collection[Section] = ("oracle", "simulator")
BURSTS_SHARE, DAY_SHARE = 0.7, 0.35
"""Of the rate under exponential arrivals: where the searches under other ones begin."""


@dataclass(frozen=True)
class Plan:
    """What one run of this command does.

    Attributes:
        work: folder of the models, and of the logs of servers.
        settings: of each server, by its name.
    """

    work: Path
    mix: Mix
    effort: Effort
    factor: float
    server_cores: tuple[int, ...]
    generator_cores: tuple[int, ...]
    python: Path
    settings: dict[str, Settings]
    seed: int


class Job(NamedTuple):
    """One row to measure; ``alone``: it needs a server with other settings than its neighbors."""

    section: Section
    traffic: Kind
    alone: bool


def main() -> None:
    given = _parser().parse_args()
    plan = _plan(given)
    # A run that is told to end takes its servers with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    result = read_result(given.out)
    for name in given.servers:
        result = _with_versions(result, CONTESTANTS[name], plan.python)
    write_result(given.out, result)
    if set(given.only) - {"ladder"}:
        for name in given.models:
            served = open_served(name, given.work, compressed=given.compressed, data_root=given.data_root)
            ranker = Ranker(served.artifact, served.catalog, served.variant, ENGINE)
            for server in given.servers:
                result = _measure(CONTESTANTS[server], served, ranker, plan, given, result)
    if "ladder" in given.only:
        _measure_ladder(plan, given, result)


def _with_versions(result: ServingProof, peer: Peer, python: Path) -> ServingProof:
    """``result`` with what a server is made of, or what it lacks."""
    versions = peer.versions(python)
    lacking = [package for package, version in versions.items() if version is None]
    missing = {name: why for name, why in result.missing.items() if name != peer.name}
    if lacking:
        missing[peer.name] = f"{', '.join(lacking)} not installed; {peer.install}"
        print(f"{peer.name} is skipped: {missing[peer.name]}", flush=True)
    found = {package: version for package, version in versions.items() if version is not None}
    return result.model_copy(
        update={
            "missing": missing,
            "versions": {**result.versions, peer.name: found},
            "titles": {**result.titles, peer.name: peer.title},
        }
    )


def _jobs(given: argparse.Namespace, peer: Peer) -> Iterator[Job]:
    """What is measured of a server, in an order in which nothing disturbs what follows."""
    own = peer.name == OWN.name
    for section in get_args(Section):
        if section not in given.only or section == "ladder" or (section in OWN_SECTIONS and not own):
            continue
        for traffic in given.traffic:
            wanted = own or traffic in PEER_TRAFFIC
            if section == "front_end" or (section == "overload" and not own):
                wanted = traffic == "exponential"
            if section == "overload" and traffic == "day":  # its flash crowd is one already
                wanted = False
            if wanted:
                yield Job(section, traffic, section == "front_end" and "timings" in peer.settings)


def _measure(
    peer: Peer, served: Served, ranker: Ranker, plan: Plan, given: argparse.Namespace, result: ServingProof
) -> ServingProof:
    """``result`` with the rows of one server and model, each written as soon as it is there."""
    if peer.name in result.missing:
        return result
    jobs = [
        job
        for job in _jobs(given, peer)
        if not (given.skip_done and row_of(result, job.section, _case(job, peer, served, plan)))
    ]
    for alone, some in groupby(jobs, key=lambda job: job.alone):
        settings = {**plan.settings[peer.name], **({"timings": 1} if alone else {})}
        try:
            with _started(peer, served, plan, settings) as running:
                for number, job in enumerate(some):
                    case = _case(job, peer, served, plan)
                    print(f"{job.section}: {peer.name}, {served.name}, {job.traffic}", flush=True)
                    mix = plan.mix.model_copy(update={"candidates": case.candidates})
                    queries = draw_queries(served.users, served.item_ids, mix, seed=plan.seed)
                    drive = Drive(running, queries, job.traffic, mix.deadline_ms, plan.generator_cores, plan.seed)
                    if not number:
                        drive.check(ranker.best)
                    result = _kept(job, drive, case, ranker, plan, settings, result)
                    write_result(given.out, result)
        except RankineError as error:
            print(f"  failed: {error}", file=sys.stderr, flush=True)
    return result


def _kept(
    job: Job, drive: Drive, case: Case, ranker: Ranker, plan: Plan, settings: Settings, result: ServingProof
) -> ServingProof:
    """``result`` with one more row; as it was where that failed, which is told."""
    try:
        return merged(result, job.section, _row(job.section, drive, case, ranker, plan, settings, result))
    except RankineError as error:
        print(f"  failed: {error}", file=sys.stderr, flush=True)
        return result


@contextmanager
def _started(peer: Peer, served: Served, plan: Plan, settings: Settings) -> Iterator[Running]:
    folder = plan.work / "servers" / peer.name
    shutil.rmtree(folder, ignore_errors=True)  # the log of its last run
    with peer.start(served, Place(plan.python, plan.server_cores, folder), settings) as running:
        yield running


def _case(job: Job, peer: Peer, served: Served, plan: Plan) -> Case:
    return Case(
        server=peer.name,
        model=served.name,
        traffic=job.traffic,
        candidates=FRONT_END_CANDIDATES if job.section == "front_end" else plan.mix.candidates,
        short_share=plan.mix.short_share,
    )


def _row(
    section: Section, drive: Drive, case: Case, ranker: Ranker, plan: Plan, settings: Settings, result: ServingProof
) -> Row:
    effort = plan.effort
    if section == "goodput":
        start_rps, rival_rps = _start(case, result), _rival(case, result)
        found = find_goodput(drive, case, effort, settings, start_rps=start_rps, rival_rps=rival_rps, tell=_tell)
        _tell(found.reason)
        return found
    if section == "front_end":
        added = measure_front_end(drive, case, effort, settings)
        _tell(f"client p50 {added.client_p50_ms:.2f} ms, {added.added_ms:.2f} ms more than the engine")
        return added
    if section == "oracle":
        engine = engine_service(ranker, drive.queries, plan.server_cores)
        oracle = find_oracle(drive, case, engine, effort, settings)
        _tell(f"engine alone {oracle.engine_rps:.0f} rps, with this server {oracle.server_rps:.0f} rps")
        return oracle
    peak = _peak(case, result)
    if peak is None:
        raise UsageError("measure its goodput first", where=f"{case.server}, {case.model}, {case.traffic}")
    if section == "simulator":
        simulated = compare_simulator(drive, case, ranker, peak.sustainable_rps, effort, plan.server_cores)
        _tell(f"sustained {simulated.real_rps:.0f} rps, simulated {simulated.simulated_rps:.0f} rps")
        for one in simulated.points:
            _tell(f"at {one.share:.0%} p99 {one.real_p99_ms:.1f} ms, simulated {one.simulated_p99_ms:.1f} ms")
        return simulated
    duration_s = effort.overload_s if case.server == OWN.name else effort.brief_s
    over = run_overload(drive, case, peak, plan.factor, duration_s, settings)
    _tell(f"{over.goodput_share:.0%} of its goodput at {over.factor:g} times the rate; {over.outcomes}")
    return over


def _peak(case: Case, result: ServingProof) -> Goodput | None:
    found = row_of(result, "goodput", case)
    return found if isinstance(found, Goodput) else None


def _start(case: Case, result: ServingProof) -> float | None:
    """Where a search begins that is not the first one of a server and model."""
    usual = _peak(case.model_copy(update={"traffic": "exponential"}), result)
    if case.traffic == "exponential" or usual is None or usual.sustainable_rps is None:
        return None
    return (BURSTS_SHARE if case.traffic == "bursts" else DAY_SHARE) * usual.sustainable_rps


def _rival(case: Case, result: ServingProof) -> float | None:
    """What Rankine sustained, where it is another server that is measured."""
    own = _peak(case.model_copy(update={"server": OWN.name}), result)
    return None if case.server == OWN.name or own is None else own.sustainable_rps


def _measure_ladder(plan: Plan, given: argparse.Namespace, result: ServingProof) -> None:
    if given.ladder is None:
        print("ladder is skipped: give --ladder ARTIFACT", flush=True)
        return
    cores, own_cores = plan.server_cores, plan.generator_cores
    folder = plan.work / "servers" / "ladder"
    catalog = given.ladder_catalog or given.ladder.with_name(f"{given.ladder.name}.catalog")
    ladder = LadderPlan(given.ladder, catalog, folder, cores, own_cores, plan.mix, plan.seed)
    if given.skip_done and row_of(result, "ladder", ladder_case(ladder)):
        return
    print("ladder", flush=True)
    found = measure_ladder(ladder, plan.effort, _tell)
    _tell(f"{found.in_time_share:.2%} in time at {found.offered_rps:.0f} rps, {found.shed} shed")
    _tell(f"back up in {found.back_up_s:.1f} s")
    write_result(given.out, merged(result, "ladder", found))


def _tell(text: str) -> None:
    print(f"  {text}", flush=True)


def _plan(given: argparse.Namespace) -> Plan:
    settings = {name: dict(peer.settings) for name, peer in CONTESTANTS.items()}
    for name, key, value in given.set:
        if key not in settings.get(name, {}):
            allowed = ", ".join(f"{peer}.{one}" for peer, own in settings.items() for one in own)
            raise UsageError("no such setting", where="--set", got=f"{name}.{key}", allowed=allowed)
        settings[name][key] = value
    effort = QUICK if given.quick else Effort()
    if given.probe_s is not None:
        effort = replace(effort, probe_s=given.probe_s, confirm_s=2 * given.probe_s)
    mix = Mix(candidates=given.candidates, short_share=given.short_share)
    return Plan(
        given.work,
        mix,
        effort,
        given.factor,
        given.server_cores,
        given.generator_cores,
        given.peers_python,
        dict(settings),
        given.seed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=_resolved, required=True, help="folder for the models, built there once, and for logs"
    )
    parser.add_argument("--compressed", type=Path, help="MovieLens-1M artifact of compression.py, for the small model")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="folder with ml-1m")
    parser.add_argument("--peers-python", type=Path, default=Path(sys.executable), help="interpreter of the peers")
    parser.add_argument("--only", type=_names(get_args(Section)), default=get_args(Section), help="sections")
    parser.add_argument("--servers", type=_names(CONTESTANTS), default=tuple(CONTESTANTS))
    parser.add_argument("--models", type=_names(get_args(Name)), default=get_args(Name))
    parser.add_argument("--traffic", type=_names(get_args(Kind)), default=get_args(Kind))
    parser.add_argument("--candidates", default="mlperf", help="distribution, e.g. mlperf or lognormal:200:0.8:2000")
    parser.add_argument("--short-share", type=float, default=0.0, help="of requests that have half the usual time")
    parser.add_argument("--factor", type=float, default=2.0, help="of overload, over the sustainable rate")
    parser.add_argument("--set", type=_setting, action="append", default=[], help="SERVER.KEY=NUMBER, several times")
    parser.add_argument("--server-cores", type=_cores, default=(0,))
    parser.add_argument("--generator-cores", type=_cores, default=(1,))
    parser.add_argument("--probe-s", type=float, help="of the bisection; what confirms is twice as long")
    parser.add_argument("--ladder", type=_resolved, help="artifact with a ladder, for the section of that name")
    parser.add_argument("--ladder-catalog", type=_resolved, help="[default: ARTIFACT.catalog]")
    parser.add_argument("--continue", dest="skip_done", action="store_true", help="leave out what the file has")
    parser.add_argument("--quick", action="store_true", help="short trials, for a look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser


def _names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return found

    return names


def _resolved(text: str) -> Path:
    """Servers run in folders of their own."""
    return Path(text).resolve()


def _cores(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _setting(text: str) -> tuple[str, str, int]:
    """``triton.delay_us=200`` in its parts."""
    place, _, value = text.partition("=")
    name, _, key = place.partition(".")
    return name, key, int(value)


if __name__ == "__main__":
    main()
