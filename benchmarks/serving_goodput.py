"""The proof of elastic serving: Rankine and its peers, the same engine and model behind each, over HTTP.

$ python benchmarks/serving_goodput.py --work FOLDER --compressed WORK/dcn_v2/compressed --peers-python PEERS/bin/python

goodput: the highest rate with p99 and at least 99 % of the answers within 50 ms of when they were due, refusals and
late answers being misses. All servers are up; in each round each is searched once, near where it was the last time; of
Rankine also what an oracle could sustain at that moment, and what is left of its goodput at twice the rate. front_end:
one client, 500 ids. simulator: what ours says, fed with times of the same minute. ladder: what a floor makes of an
overload. The goodput of one model and one traffic takes about nine minutes with five servers.

Servers run on one core, the generator on another: both must be quiet. Peers that the interpreter of ``--peers-python``
lacks are skipped and told. What is measured replaces what the result file has of it; the rest stays, so that a part can
be done by itself (``--only``, ``--servers``, ``--models``, ``--traffic``), and a run that was cut off goes on with
``--continue``, which keeps whole rounds and leaves out what the file has. ``--quick`` shows that it works.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args

from serving.contestants import CONTESTANTS
from serving.effort import QUICK, Effort
from serving.files import write_record
from serving.ladder import LadderPlan, ladder_case, measure_ladder
from serving.models import open_served
from serving.options import names, resolved, serving_parser
from serving.peers.own import OWN
from serving.peers.peer import Peer
from serving.queries import Mix
from serving.ranker import Ranker
from serving.record import Case, Contest, Row, Section, ServingProof, merged, read_result, row_of
from serving.rounds import Plan, run_rounds
from serving.sections import measure_front_end
from serving.served import ENGINE, Name, Served
from serving.simulated import compare_simulator
from serving.standing import standings
from serving.traffic import Kind

from rankine.errors import RankineError, UsageError

OUT = Path(__file__).resolve().parent / "results" / "serving-proof.json"
FRONT_END_CANDIDATES, FRONT_END_REQUESTS = "500", 1000
PEER_TRAFFIC: Collection[Kind] = ("exponential", "bursts")


def main() -> None:
    given = _parser().parse_args()
    plan = _plan(given)
    # A run that is told to end takes its servers with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    result = read_result(given.out)
    for name in given.servers:
        result = _with_versions(result, CONTESTANTS[name], plan.python)
    write_record(given.out, result)
    if set(given.only) - {"ladder"}:
        for name in given.models:
            served = open_served(name, given.work, compressed=given.compressed, data_root=given.data_root)
            ranker = Ranker(served.artifact, served.catalog, served.variant, ENGINE)
            result = _measure(served, ranker, plan, given, result)
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


def _measure(
    served: Served, ranker: Ranker, plan: Plan, given: argparse.Namespace, result: ServingProof
) -> ServingProof:
    """``result`` with all that is wanted of one model, each part written as soon as it is there."""
    # Rankine first: where the others begin to search in the first round.
    peers = [peer for name, peer in CONTESTANTS.items() if name in given.servers and name not in result.missing]

    def keep(found: ServingProof) -> None:
        write_record(given.out, found)

    for traffic in given.traffic if "goodput" in given.only else ():
        contest = _contest(served, traffic, plan.mix.candidates, plan)
        if not given.skip_done:
            result = result.model_copy(update={"rounds": tuple(one for one in result.rounds if one.contest != contest)})
        compared = [one for one in peers if one.name == OWN.name or traffic in PEER_TRAFFIC]
        result = run_rounds(contest, compared, served, ranker, plan, result, keep, _tell)
    for peer, section, case in _alone(served, peers, plan, given):
        if given.skip_done and row_of(result, section, case):
            continue
        print(f"{section}: {peer.name}, {served.name}, {case.traffic}", flush=True)
        try:
            result = merged(result, section, _row(section, case, peer, served, ranker, plan, result))
        except RankineError as error:
            print(f"  failed: {error}", file=sys.stderr, flush=True)
        keep(result)
    return result


def _contest(served: Served, traffic: Kind, candidates: str, plan: Plan) -> Contest:
    return Contest(model=served.name, traffic=traffic, candidates=candidates, short_share=plan.mix.short_share)


def _alone(
    served: Served, peers: Collection[Peer], plan: Plan, given: argparse.Namespace
) -> Iterator[tuple[Peer, Section, Case]]:
    """What is measured of a server that is up by itself."""
    for peer in peers:
        if "front_end" in given.only and "timings" in peer.settings:
            contest = _contest(served, "exponential", FRONT_END_CANDIDATES, plan)
            yield peer, "front_end", Case(server=peer.name, **contest.model_dump())
        for traffic in given.traffic if "simulator" in given.only and peer is OWN else ():
            contest = _contest(served, traffic, plan.mix.candidates, plan)
            yield peer, "simulator", Case(server=peer.name, **contest.model_dump())


def _row(
    section: Section, case: Case, peer: Peer, served: Served, ranker: Ranker, plan: Plan, result: ServingProof
) -> Row:
    """Start the server and measure.

    Raises:
        RankineError: it did not start, ranks otherwise, or answered nothing.
    """
    settings = {**plan.settings[peer.name], **({"timings": 1} if section == "front_end" else {})}
    with peer.start(served, plan.place(peer.name), settings) as running:
        drive = plan.drive(running, plan.queries(served, case.candidates), case.traffic)
        drive.check(ranker.best)
        if section == "front_end":
            added = measure_front_end(drive, case, FRONT_END_REQUESTS, settings)
            _tell(f"  client p50 {added.client_p50_ms:.2f} ms, {added.added_ms:.2f} ms more than the engine")
            return added
        own = standings(result, case.contest).get(peer.name)
        near_rps = own.sustained_rps if own else None
        found = compare_simulator(drive, case, ranker, near_rps or None, plan.effort, plan.server_cores, _tell)
        _tell(f"  sustained {found.real_rps:.0f} rps, simulated {found.simulated_rps:.0f} rps")
        for one in found.points:
            _tell(f"  at {one.share:.0%} p99 {one.real_p99_ms:.1f} ms, simulated {one.simulated_p99_ms:.1f} ms")
        return found


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
    _tell(f"  {found.in_time_share:.2%} in time at {found.offered_rps:.0f} rps, {found.shed} shed")
    _tell(f"  back up in {found.back_up_s:.1f} s")
    write_record(given.out, merged(result, "ladder", found))


def _tell(text: str) -> None:
    print(text, flush=True)


def _plan(given: argparse.Namespace) -> Plan:
    settings = {name: dict(peer.settings) for name, peer in CONTESTANTS.items()}
    for name, key, value in given.set:
        if key not in settings.get(name, {}):
            allowed = ", ".join(f"{peer}.{one}" for peer, own in settings.items() for one in own)
            raise UsageError("no such setting", where="--set", got=f"{name}.{key}", allowed=allowed)
        settings[name][key] = value
    effort = QUICK if given.quick else Effort()
    if given.probe_s is not None:
        effort = effort.model_copy(update={"probe_s": given.probe_s, "bursts_s": given.probe_s})
    if given.rounds is not None:
        effort = effort.model_copy(update={"rounds": given.rounds, "long_rounds": given.rounds})
    return Plan(
        given.work,
        Mix(candidates=given.candidates, short_share=given.short_share),
        effort,
        given.factor,
        given.server_cores,
        given.generator_cores,
        given.peers_python,
        settings,
        given.seed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = serving_parser(__doc__, OUT)
    parser.add_argument("--peers-python", type=Path, default=Path(sys.executable), help="interpreter of the peers")
    parser.add_argument("--only", type=names(get_args(Section)), default=get_args(Section), help="sections")
    parser.add_argument("--servers", type=names(CONTESTANTS), default=tuple(CONTESTANTS))
    parser.add_argument("--models", type=names(get_args(Name)), default=get_args(Name))
    parser.add_argument("--traffic", type=names(get_args(Kind)), default=get_args(Kind))
    parser.add_argument("--candidates", default="mlperf", help="distribution, e.g. mlperf or lognormal:200:0.8:2000")
    parser.add_argument("--short-share", type=float, default=0.0, help="of requests that have half the usual time")
    parser.add_argument("--factor", type=float, default=2.0, help="of overload, over the sustainable rate")
    parser.add_argument("--set", type=_setting, action="append", default=[], help="SERVER.KEY=NUMBER, several times")
    parser.add_argument("--probe-s", type=float, help="seconds of a probe, of a compressed day excepted")
    parser.add_argument("--rounds", type=int, help="of each model and traffic")
    parser.add_argument("--ladder", type=resolved, help="artifact with a ladder, for the section of that name")
    parser.add_argument("--ladder-catalog", type=resolved, help="[default: ARTIFACT.catalog]")
    parser.add_argument("--continue", dest="skip_done", action="store_true", help="leave out what the file has")
    parser.add_argument("--quick", action="store_true", help="short probes and two rounds, for a look")
    return parser


def _setting(text: str) -> tuple[str, str, int]:
    """``triton.delay_us=200`` in its parts."""
    place, _, value = text.partition("=")
    name, _, key = place.partition(".")
    return name, key, int(value)


if __name__ == "__main__":
    main()
