"""What faults cost a server under load: how long until requests are answered in time again, and what is lost.

$ python benchmarks/serving_faults.py --work FOLDER [--rate RPS] [--only clock,disk]

Each fault strikes a server of its own after three seconds of an open loop. Recovery counts from the end of the fault
(from its beginning where it is over at once, or where a frozen worker is replaced) to the first window of 0.2 s from
which 95 % of the requests are answered within 50 ms; the bar is 2 s. Lost are requests whose connection was cut or
that were never answered; one whose connection could not even be made was never accepted.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from pydantic import AwareDatetime
from serving.client import Reply
from serving.drive import WARMUP_S, Drive
from serving.faults import FAULTS, Fault, server_process, small_disk, well_after_s
from serving.models import open_served
from serving.peers.own import own_server
from serving.peers.peer import Running
from serving.queries import Mix, draw_queries
from serving.served import ENGINE, Served
from serving.wires import Wire, rank_json

from rankine.config import Frozen
from rankine.environment import environment
from rankine.errors import EngineError, RankineError

OUT = Path(__file__).resolve().parent / "results" / "serving-faults.json"
TESTS = Path(__file__).resolve().parent.parent / "tests"
STRIKES_S, RUN_S, MOST_RECOVERY_S = 3.0, 9.0, 2.0
BOUND_MS, TIMEOUT_S = 50.0, 5.0
"""A client waits for longer than anything is frozen."""


class FaultRun(Frozen):
    """One fault.

    Attributes:
        recovery_s: None where requests were not answered in time again; of a server that ends there is none.
        lost: requests that were accepted and never answered. ``refused``: those that were told so.
    """

    name: str
    title: str
    rate_rps: float
    requests: int
    outcomes: Mapping[str, int]
    recovery_s: float | None
    ends: bool
    lost: int
    refused: int

    @property
    def met(self) -> bool:
        """Whether the bar is."""
        if self.ends:
            return not self.lost
        return self.recovery_s is not None and self.recovery_s <= MOST_RECOVERY_S


class Faults(Frozen):
    """All of them; each the last time that it was tried."""

    schema_version: Literal[1] = 1
    kind: Literal["serving-faults"] = "serving-faults"
    runs: tuple[FaultRun, ...] = ()
    created: AwareDatetime
    environment: Mapping[str, Any]


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
        fakes = _clock(folder) if fault.fakes_clock else {}
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
    return [perf_counter() if fault.name == "freeze" else struck_s]


def _timed_wire(begun: list[float]) -> Wire:
    """JSON; notes when the first reply is read, which tells when the run began."""
    plain = rank_json("/v1/rank", own_headers=True)

    def read(head: bytes, raw: bytes) -> Reply | None:
        if not begun:
            begun.append(perf_counter())
        return plain.read(head, raw)

    return Wire(plain.encode, read, plain.deadline_header)


def _clock(folder: Path) -> Mapping[str, str]:
    sys.path.insert(0, str(TESTS))
    from e2e.clock import fake_clock, faketime_library

    library = faketime_library()
    if library is None:
        raise EngineError("libfaketime is not installed", hint="pip install libfaketime")
    return fake_clock(library, folder / "clock")


def _keep(path: Path, run: FaultRun) -> None:
    before = Faults.model_validate_json(path.read_text(encoding="utf-8")).runs if path.exists() else ()
    runs = {**{one.name: one for one in before}, run.name: run}
    found = Faults(runs=tuple(runs.values()), created=datetime.now(UTC), environment=environment())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--compressed", type=Path, help="as of serving_goodput.py, where the model is not built yet")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument(
        "--only", type=lambda text: tuple(text.split(",")), default=tuple(FAULTS), help=", ".join(FAULTS)
    )
    parser.add_argument("--server-cores", type=_cores, default=(0,))
    parser.add_argument("--generator-cores", type=_cores, default=(1,))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser


def _cores(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
