"""A contest in rounds: all servers are up, one is loaded at a time, and each has its turn in every round.

The speed of a host drifts by more within minutes than servers differ by. Within a round they are measured one right
after the other, under the same arrivals, in an order that is turned around from one round to the next; so the ratio of
two servers in a round says something, and rounds are comparable by the control, the engine's own time.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rankine.environment import environment
from rankine.errors import RankineError
from serving.drive import Drive
from serving.effort import Effort
from serving.peers.own import OWN
from serving.peers.peer import Peer, Place, Running, Settings
from serving.queries import Mix, Query, draw_queries
from serving.ranker import Ranker
from serving.record import Contest, Round, ServingProof, Turn
from serving.search import Tell
from serving.served import Served
from serving.traffic import Kind
from serving.turn import Beside, take_turn


@dataclass(frozen=True)
class Plan:
    """How servers are measured.

    Attributes:
        work: folder of the models, and of the logs of servers.
        factor: of an overload over the sustainable rate.
        python: interpreter of the peers.
        settings: of each server, by its name.
        seed: of the queries; added to a round's number for its arrivals.
    """

    work: Path
    mix: Mix
    effort: Effort
    factor: float
    server_cores: tuple[int, ...]
    generator_cores: tuple[int, ...]
    python: Path
    settings: Mapping[str, Settings]
    seed: int

    def place(self, server: str) -> Place:
        """Where a server runs, without the log of its last run."""
        folder = self.work / "servers" / server
        shutil.rmtree(folder, ignore_errors=True)
        return Place(self.python, self.server_cores, folder)

    def queries(self, served: Served, candidates: str) -> list[Query]:
        """What servers are asked for."""
        mix = self.mix.model_copy(update={"candidates": candidates})
        return draw_queries(served.users, served.item_ids, mix, seed=self.seed)

    def drive(self, running: Running, queries: Sequence[Query], traffic: Kind, number: int = 0) -> Drive:
        """A server under the arrivals of a round."""
        return Drive(running, queries, traffic, self.mix.deadline_ms, self.generator_cores, self.seed + number)


def run_rounds(
    contest: Contest,
    peers: Sequence[Peer],
    served: Served,
    ranker: Ranker,
    plan: Plan,
    result: ServingProof,
    keep: Callable[[ServingProof], None],
    tell: Tell,
) -> ServingProof:
    """``result`` with the rounds of a contest that it lacks; ``keep`` is called after each.

    A round that was cut off is not kept: what is left of it would be measured at another time.
    """
    wanted = plan.effort.rounds_of(contest.traffic)
    done = result.rounds_of(contest)
    if len(done) >= wanted:
        return result
    queries = plan.queries(served, contest.candidates)
    with ExitStack() as leave:
        up = _started(peers, served, ranker, queries, plan, leave)
        for number in range(len(done), wanted):
            tell(f"round {number + 1} of {wanted}: {served.name}, {contest.traffic}")
            before = done[-1].turns if done else {}
            drives = {name: plan.drive(one, queries, contest.traffic, number) for name, one in up.items()}
            turns = _turns(contest, number, drives, before, ranker, plan, tell)
            if not turns:
                break
            one = Round(
                contest=contest,
                number=number,
                slo_ms=plan.mix.deadline_ms,
                effort=plan.effort,
                turns=turns,
                created=datetime.now(UTC),
                environment=environment(),
            )
            done.append(one)
            result = result.model_copy(update={"rounds": (*result.rounds, one)})
            keep(result)
    return result


def _started(
    peers: Sequence[Peer], served: Served, ranker: Ranker, queries: Sequence[Query], plan: Plan, leave: ExitStack
) -> dict[str, Running]:
    """Those that could be started and rank as the engine does, side by side, until ``leave`` is left."""
    up = {}
    for peer in peers:
        try:
            running = leave.enter_context(peer.start(served, plan.place(peer.name), plan.settings[peer.name]))
            plan.drive(running, queries, "exponential").check(ranker.best)
        except RankineError as error:
            _failed(peer.name, error)
            continue
        up[peer.name] = running
    return up


def _turns(
    contest: Contest,
    number: int,
    drives: Mapping[str, Drive],
    before: Mapping[str, Turn],
    ranker: Ranker,
    plan: Plan,
    tell: Tell,
) -> dict[str, Turn]:
    """Of all servers, there and back again: what drifts steadily favors nobody in the end."""
    turns: dict[str, Turn] = {}
    for name in list(drives) if number % 2 == 0 else reversed(list(drives)):
        try:
            turn = take_turn(
                drives[name],
                ranker,
                plan.server_cores,
                plan.effort,
                plan.settings[name],
                _beside(contest, name, number, plan.factor),
                before=before.get(name),
                rival_rps=max((one.sustained_rps or 0.0 for one in turns.values()), default=None),
                tell=lambda text: tell(f"  {text}"),
            )
        except RankineError as error:
            _failed(name, error)
            continue
        turns[name] = turn
        told = "none" if turn.sustained_rps is None else f"{turn.sustained_rps:,.0f} rps"
        tell(f"  {name}: {told}; engine {turn.engine_ms[0]:.3f} and {turn.engine_ms[1]:.3f} ms")
    return turns


def _beside(contest: Contest, server: str, number: int, factor: float) -> Beside:
    """Rankine has an oracle and an overload each time, others an overload once; a day has a flash crowd anyway."""
    own = server == OWN.name
    overloaded = contest.traffic != "day" if own else contest.traffic == "exponential" and not number
    return Beside(oracle=own and not contest.short_share, overload_factor=factor if overloaded else None)


def _failed(server: str, error: RankineError) -> None:
    print(f"  {server} failed: {error}", file=sys.stderr, flush=True)
