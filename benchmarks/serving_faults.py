"""What faults cost a server under load: how long until requests are answered in time again, and what is lost.

$ python benchmarks/serving_faults.py --work FOLDER [--rate RPS] [--only clock,disk]

Each fault strikes a server of its own after three seconds of an open loop. Recovery counts from when the fault strikes
(from its end where the whole server is frozen, which can do nothing before) to the first window of 0.2 s from
which 95 % of the requests are answered within 50 ms; the bar is 2 s. Lost are requests whose connection was cut or
that were never answered; one whose connection could not even be made was never accepted.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from serving.client import Reply
from serving.clock import faked
from serving.drive import WARMUP_S, Drive
from serving.endurance import FaultRun, Faults
from serving.faults import FAULTS, Fault, small_disk, well_after_s
from serving.files import write_record
from serving.models import open_served
from serving.options import names, serving_parser
from serving.peers.own import own_server
from serving.peers.peer import Running
from serving.processes import server_process
from serving.queries import Mix, draw_queries
from serving.served import ENGINE, Served
from serving.wires import Wire, rank_json

from rankine.environment import environment
from rankine.errors import EngineError, RankineError

OUT = Path(__file__).resolve().parent / "results" / "serving-faults.json"
STRIKES_S, RUN_S = 3.0, 9.0
BOUND_MS, TIMEOUT_S = 50.0, 5.0
"""A client waits for longer than anything is frozen."""


def main() -> None:
    given = _parser().parse_args()
    served = open_served("small", given.work, compressed=given.compressed, data_root=given.data_root)
    for name in given.only:
        print(name, flush=True)
        try:
            run = suffer(FAULTS[name], served, given)
        except RankineError as error:
            print(f"  failed: {error}", file=sys.stderr, flush=True)
            continue
        well = "ended" if run.ends else f"well after {run.recovery_s} s"
        print(f"  {well}, lost {run.lost}, {dict(run.outcomes)}: {'met' if run.met else 'missed'}", flush=True)
        _keep(given.out, run)


def suffer(fault: Fault, served: Served, given: argparse.Namespace) -> FaultRun:
    """Start a server, load it, and let the fault strike.

    Raises:
        EngineError: the server did not start, or this machine cannot do that to it.
    """
    folder = given.work / "servers" / f"fault-{fault.name}"
    options = ["--variant", served.variant, "--engine", ENGINE, "--allow-uncertified", *fault.options]
    queries = draw_queries(served.users, served.item_ids, Mix(), seed=given.seed)
    with ExitStack() as leave:
        if fault.fills_disk:
            leave.enter_context(small_disk(folder))
        folder.mkdir(parents=True, exist_ok=True)
        fakes = faked(folder) if fault.fakes_clock else {}
        where = {"cores": given.server_cores, "folder": folder}
        url = leave.enter_context(own_server(served.artifact, served.catalog, options, **where, environment=fakes))
        begun: list[float] = []
        running, cores = Running(url, _timed_wire(begun)), given.generator_cores
        drive = Drive(running, queries, "exponential", BOUND_MS, cores, given.seed, timeout_s=TIMEOUT_S)
        drive.drain()
        begun.clear()
        process, struck = server_process(url), list[float]()
        strikes = threading.Thread(target=lambda: struck.extend(_strike(fault, process, folder)))
        strikes.start()
        _, run = drive.replay(drive.trace(given.rate, RUN_S), RUN_S)
        strikes.join()
    if not begun or not struck:
        raise EngineError("the fault did not strike, or nothing was answered", where=fault.name)
    first = next(one for one in run.answers if one.outcome == "200")
    from_s = struck[0] - (begun[0] - first.done_s)
    outcomes = Counter(one.outcome for one in run.answers)
    return FaultRun(
        name=fault.name,
        title=fault.title,
        rate_rps=given.rate,
        requests=run.requests,
        outcomes=outcomes,
        recovery_s=None if fault.ends else well_after_s(run.answers, from_s, BOUND_MS, WARMUP_S + RUN_S),
        ends=fault.ends,
        lost=outcomes["disconnected"] + outcomes["timeout"],
        refused=sum(outcomes[status] for status in ("429", "503", "504")),
    )


def _strike(fault: Fault, process: Any, folder: Path) -> list[float]:
    """When recovery begins to count, on the clock of ``perf_counter``; empty where the fault could not strike."""
    wait = threading.Event().wait
    wait(WARMUP_S + STRIKES_S)
    try:
        end = fault.strike(process, folder)
    except RankineError as error:
        print(f"  {error}", file=sys.stderr, flush=True)
        return []
    struck_s = perf_counter()
    wait(fault.lasts_s)
    end()
    return [perf_counter() if fault.from_end else struck_s]


def _timed_wire(begun: list[float]) -> Wire:
    """JSON; notes when the first reply is read, which tells when the run began."""
    plain = rank_json("/v1/rank", own_headers=True)

    def read(head: bytes, raw: bytes) -> Reply | None:
        if not begun:
            begun.append(perf_counter())
        return plain.read(head, raw)

    return Wire(plain.encode, read, plain.deadline_header)


def _keep(path: Path, run: FaultRun) -> None:
    before = Faults.model_validate_json(path.read_text(encoding="utf-8")).runs if path.exists() else ()
    runs = {**{one.name: one for one in before}, run.name: run}
    found = Faults(runs=tuple(runs.values()), created=datetime.now(UTC), environment=environment())
    write_record(path, found)


def _parser() -> argparse.ArgumentParser:
    parser = serving_parser(__doc__, OUT)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--only", type=names(FAULTS), default=tuple(FAULTS), help=", ".join(FAULTS))
    return parser


if __name__ == "__main__":
    main()
