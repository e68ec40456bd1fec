"""The proof of elastic serving: Rankine and its peers, the same engine and model behind each, over HTTP.

$ python benchmarks/serving_goodput.py --work FOLDER --compressed WORK/dcn_v2/compressed --peers-python PEERS/bin/python

goodput: the highest rate with p99 and at least 99 % of the answers within 50 ms of when they were due, refusals and
late answers being misses. overload: twice that. front_end: one client, 500 ids. oracle: what a scheduler with perfect
knowledge could sustain, with the engine's times and with the server's. Servers run on one core, the generator
on another: both must be quiet. Peers that the interpreter of ``--peers-python`` lacks are skipped and told. A row that
is measured replaces the one of the same server, model and traffic in the result file; the others stay, so that a part
can be done again (``--only``, ``--servers``, ``--models``, ``--traffic``). ``--quick`` shows that it works.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from serving.contestants import CONTESTANTS
from serving.drive import Drive
from serving.models import open_served
from serving.oracle import engine_service
from serving.peers.peer import Peer, Place, Settings
from serving.queries import Mix, draw_queries
from serving.ranker import Ranker
from serving.record import Case, Row, Section, ServingProof, merged, read_result, write_result
from serving.sections import QUICK, Effort, find_goodput, find_oracle, measure_front_end, run_overload
from serving.served import ENGINE, Name, Served
from serving.traffic import Kind

from rankine.errors import RankineError, UsageError
from rankine.events import Event, Progress

OUT = Path(__file__).resolve().parent / "results" / "serving-proof.json"
FRONT_END_CANDIDATES = "500"


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


def main() -> None:
    given = _parser().parse_args()
    plan = _plan(given)
    result = read_result(given.out)
    for name in given.servers:
        result = _with_versions(result, CONTESTANTS[name], plan.python)
    for name in given.models:
        served = open_served(name, given.work, compressed=given.compressed, data_root=given.data_root)
        ranker = Ranker(served.artifact, served.catalog, served.variant, ENGINE)
        for server in given.servers:
            for section, traffic in _asked(given, server, result):
                result = _measure(section, CONTESTANTS[server], served, ranker, traffic, plan, result)
                write_result(given.out, result)
    write_result(given.out, result)


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


def _asked(given: argparse.Namespace, server: str, result: ServingProof) -> Iterator[tuple[Section, Kind]]:
    """What is measured of a server; nothing where it cannot be run."""
    if server not in result.missing:
        for section in given.only:
            for traffic in given.traffic if section != "front_end" else ("exponential",):
                yield section, traffic


def _measure(
    section: Section,
    peer: Peer,
    served: Served,
    ranker: Ranker,
    traffic: Kind,
    plan: Plan,
    result: ServingProof,
) -> ServingProof:
    """``result`` with one more row; as it was where the server failed, which is told."""
    mix = plan.mix.model_copy(update={"candidates": FRONT_END_CANDIDATES}) if section == "front_end" else plan.mix
    case = Case(
        server=peer.name,
        model=served.name,
        traffic=traffic,
        candidates=mix.candidates,
        short_share=mix.short_share,
    )
    settings = {
        **plan.settings[peer.name],
        **({"timings": 1} if section == "front_end" and "timings" in peer.settings else {}),
    }
    queries = draw_queries(served.users, served.item_ids, mix, seed=plan.seed)
    print(f"{section}: {peer.name}, {served.name}, {traffic}", flush=True)
    folder = plan.work / "servers" / peer.name
    shutil.rmtree(folder, ignore_errors=True)  # the log of its last run
    try:
        with peer.start(served, Place(plan.python, plan.server_cores, folder), settings) as running:
            drive = Drive(running, queries, traffic, mix.deadline_ms, plan.generator_cores, plan.seed)
            drive.check(ranker.best)
            row = _row(section, drive, case, ranker, plan, settings, result)
    except RankineError as error:
        print(f"  failed: {error}", file=sys.stderr, flush=True)
        return result
    return merged(result, section, row)


def _row(
    section: Section, drive: Drive, case: Case, ranker: Ranker, plan: Plan, settings: Settings, result: ServingProof
) -> Row:
    if section == "goodput":
        found = find_goodput(drive, case, plan.effort, settings, emit=_tell)
        print(f"  {found.reason}; confirmed {found.confirmed[0]} of {found.confirmed[1]}", flush=True)
        return found
    if section == "front_end":
        added = measure_front_end(drive, case, plan.effort, settings)
        print(f"  client p50 {added.client_p50_ms:.2f} ms, {added.added_ms:.2f} ms more than the engine", flush=True)
        return added
    if section == "oracle":
        engine = engine_service(ranker, drive.queries, plan.server_cores)
        oracle = find_oracle(drive, case, engine, plan.effort, settings)
        print(f"  engine alone {oracle.engine_rps:.0f} rps, with this server {oracle.server_rps:.0f} rps", flush=True)
        return oracle
    peak = next((one for one in result.goodput if one.case == case), None)
    if peak is None:
        raise UsageError("measure its goodput first", where=f"{case.server}, {case.model}, {case.traffic}")
    over = run_overload(drive, case, peak, plan.factor, plan.effort, settings)
    print(f"  {over.goodput_share:.0%} of its goodput at {over.factor:g} times the rate; {over.outcomes}", flush=True)
    return over


def _tell(event: Event) -> None:
    if isinstance(event, Progress):
        print(f"  {event.detail}", flush=True)


def _plan(given: argparse.Namespace) -> Plan:
    settings = {name: dict(peer.settings) for name, peer in CONTESTANTS.items()}
    for name, key, value in given.set:
        if key not in settings.get(name, {}):
            allowed = ", ".join(f"{peer}.{one}" for peer, own in settings.items() for one in own)
            raise UsageError("no such setting", where="--set", got=f"{name}.{key}", allowed=allowed)
        settings[name][key] = value
    effort = QUICK if given.quick else Effort()
    if given.max_trial_s is not None:
        effort = replace(effort, max_trial_s=given.max_trial_s, min_trial_s=min(effort.min_trial_s, given.max_trial_s))
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
    parser.add_argument("--traffic", type=_names(get_args(Kind)), default=("exponential", "bursts"))
    parser.add_argument("--candidates", default="mlperf", help="distribution, e.g. mlperf or lognormal:200:0.8:2000")
    parser.add_argument("--short-share", type=float, default=0.0, help="of requests that have half the usual time")
    parser.add_argument("--factor", type=float, default=2.0, help="of overload, over the sustainable rate")
    parser.add_argument("--set", type=_setting, action="append", default=[], help="SERVER.KEY=NUMBER, several times")
    parser.add_argument("--server-cores", type=_cores, default=(0,))
    parser.add_argument("--generator-cores", type=_cores, default=(1,))
    parser.add_argument("--max-trial-s", type=float)
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
