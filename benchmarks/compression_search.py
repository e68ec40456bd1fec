"""Search on real data, through the command line: interrupted and taken up again, then once more from nothing.

$ python benchmarks/compression_search.py --work /tmp/search --only dcn_v2 --data-root ../shared/data

The first search gets Ctrl-C after some evaluations and is started again by the same command; the second has a folder of
its own and the same table of latencies. Both must end in the same ladder, down to the weights. They run one after the
other and in one thread, on the first core that this process may use: a training in two threads sums in another order.
One result file a family in benchmarks/results/search/; what is in the work folder already is not done again.

Needs the same data; a baseline that is not there is trained. 75 minutes on one core for dcn_v2.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from families_quality import FAMILIES, arguments_for, baseline_of, open_data
from pydantic import AwareDatetime
from script import run_script
from search_process import Interruption, evaluations, interrupted_search, interruption, search, seconds

from rankine.artifact import Artifact
from rankine.compression.recipe import Recipe
from rankine.config import Frozen
from rankine.environment import environment
from rankine.models.network import Size, load_network, size_of
from rankine.models.variant import BASELINE
from rankine.planning.ladder import Ladder, LadderStep, read_ladder
from rankine.planning.search_plan import SEARCH_FILE, SearchRecord

RESULTS = Path(__file__).resolve().parent / "results" / "search"
TARGET = "latency=0.08"
FIRST, SECOND = "first", "second"


class Decided(Frozen):
    """What a ladder says apart from measured times; ``graph`` is the hash of the dense graph with its weights."""

    margin: float
    variant: str
    verdict: str
    delta: float
    graph: str


class SearchRun(Frozen):
    """Both searches of a family.

    Attributes:
        evaluations: of the second search, which was not interrupted.
        seconds: of the first search, all starts together, and of the second.
        same: whether both decided the same.
        recipes: of the rungs, by variant.
    """

    schema_version: int = 1
    kind: str = "search"
    family: str
    dataset: str
    target: str
    margin: float
    baseline: Size
    interruption: Interruption
    evaluations: int
    seconds: tuple[float, float]
    same: bool
    decided: tuple[Decided, ...]
    record: SearchRecord
    ladder: Ladder
    recipes: Mapping[str, Recipe]
    created: AwareDatetime
    environment: Mapping[str, Any]


def main() -> None:
    arguments = arguments_for(__doc__, FAMILIES, usual=["dcn_v2"]).parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it, and so would a child
    for name in arguments.only:
        family, work = FAMILIES[name], arguments.work / name
        dataset = open_data(family, arguments.data_root)
        baseline = baseline_of(name, family, dataset, work)
        data = arguments.data_root / family.data
        interrupted_search(_command(baseline, data, family.margin, work, FIRST), work, FIRST)
        search(_command(baseline, data, family.margin, work, SECOND), work, SECOND)
        result = _result(name, dataset.name, family.margin, baseline, work)
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {'the same ladder' if result.same else 'ANOTHER ladder'} twice", flush=True)


def _command(baseline: Artifact, data: Path, margin: float, work: Path, name: str) -> list[str]:
    options = {
        "--data": data,
        "--max-auc-drop": f"{margin:g}",
        "--target": TARGET,
        "--latency-table": work / "latency.json",
        "--work": work / f"{name}.search",
        "--out": work / name,
    }
    given = [str(part) for option in options.items() for part in option]
    return [sys.executable, "-m", "rankine", "optimize", str(baseline.path), "--search", *given]


def _result(name: str, dataset: str, margin: float, baseline: Artifact, work: Path) -> SearchRun:
    first, second = (Artifact.open(work / one) for one in (FIRST, SECOND))
    ladder = _ladder(first)
    return SearchRun(
        family=name,
        dataset=dataset,
        target=TARGET,
        margin=margin,
        baseline=size_of(load_network(baseline, BASELINE)),
        interruption=interruption(work, FIRST),
        evaluations=len(evaluations(work, SECOND)),
        seconds=(seconds(work, FIRST), seconds(work, SECOND)),
        same=_decided(first) == _decided(second),
        decided=_decided(first),
        record=first.read_json(SEARCH_FILE, SearchRecord),
        ladder=ladder,
        recipes={one.variant: first.read_json(f"variants/{one.variant}/recipe.json", Recipe) for one in ladder.rungs},
        created=datetime.now(UTC),
        environment=environment(),
    )


def _ladder(artifact: Artifact) -> Ladder:
    ladder = read_ladder(artifact)
    if ladder is None:
        raise SystemExit(f"{artifact.path} has no ladder")
    return ladder


def _decided(artifact: Artifact) -> tuple[Decided, ...]:
    ladder = _ladder(artifact)
    return tuple(_what(artifact, step) for step in (*ladder.rungs, *ladder.others))


def _what(artifact: Artifact, step: LadderStep) -> Decided:
    return Decided(
        margin=step.margin,
        variant=step.variant,
        verdict=step.verdict,
        delta=step.delta,
        graph=artifact.manifest.files[f"variants/{step.variant}/graph.onnx"].sha256,
    )


if __name__ == "__main__":
    run_script(main)
