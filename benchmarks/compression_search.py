"""Search on real data, through the command line: interrupted and taken up again, then once more from nothing.

$ python benchmarks/compression_search.py --work /tmp/search --only dcn_v2 --data-root ../shared/data

The first search gets Ctrl-C after some evaluations and is started again by the same command; the second has a folder of
its own and the same table of latencies. Both must end in the same ladder, down to the weights. Both run in one thread,
since a training in two sums in another order. One result file a family in benchmarks/results/search/; a search that
is in the work folder already is not done again. ``--first-only`` and ``--second-only`` let two cores share the work.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from families_quality import FAMILIES, arguments_for, baseline_of, open_data
from pydantic import AwareDatetime

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
INTERRUPT_AFTER = 12
"""Evaluations; among them are some that trained."""
_INTERRUPTED = 130


class Interruption(Frozen):
    """What Ctrl-C left.

    Attributes:
        said: the last line of standard error.
        kept: evaluations that were on disk; untouched: those of them that the second start did not write again.
    """

    exit_status: int
    said: str
    kept: int
    untouched: int


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
        seconds: of the first search, both starts together, and of the second.
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
    arguments = _arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it, and so would a child
    for name in (arguments.only or "dcn_v2").split(","):
        family, work = FAMILIES[name], arguments.work / name
        dataset = open_data(family, arguments.data_root)
        baseline = baseline_of(name, family, dataset, work)
        data = arguments.data_root / family.data
        if not arguments.second_only:
            _first(baseline, data, family.margin, work)
        if not arguments.first_only:
            _once(baseline, data, family.margin, work, "second")
        if (work / "first").exists() and (work / "second").exists():
            result = _result(name, dataset.name, family.margin, baseline, work)
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{name}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
            print(f"{name}: {'the same ladder' if result.same else 'ANOTHER ladder'} twice", flush=True)


def _first(baseline: Artifact, data: Path, margin: float, work: Path) -> None:
    """The search that is interrupted."""
    out, told = work / "first", work / "first.interruption.json"
    if out.exists():
        return
    begin = time.monotonic()
    folder = work / "first.search" / "evaluations"
    enough = len(_records(folder)) + INTERRUPT_AFTER
    process = subprocess.Popen(
        _command(baseline, data, margin, work, "first"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and len(_records(folder)) < enough:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    before = _records(folder)
    if process.returncode != _INTERRUPTED:
        raise SystemExit(f"Ctrl-C ended the search with status {process.returncode}: {said}")
    spent = time.monotonic() - begin
    _once(baseline, data, margin, work, "first", spent)
    after = _records(folder)
    interruption = Interruption(
        exit_status=process.returncode,
        said=said.strip().splitlines()[-1].replace(str(work), "WORK"),
        kept=len(before),
        untouched=sum(after.get(path) == written for path, written in before.items()),
    )
    told.write_text(interruption.model_dump_json(), encoding="utf-8")


def _once(baseline: Artifact, data: Path, margin: float, work: Path, name: str, spent: float = 0.0) -> None:
    """A search to its end; 3 says that no variant reaches the target, which is a result too."""
    if (work / name).exists():
        return
    begin = time.monotonic()
    done = subprocess.run(_command(baseline, data, margin, work, name), check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"the search ended with status {done.returncode}")
    (work / f"{name}.seconds.json").write_text(json.dumps(spent + time.monotonic() - begin), encoding="utf-8")


def _command(baseline: Artifact, data: Path, margin: float, work: Path, name: str) -> list[str]:
    """On one core and in one thread, so that it can be repeated exactly."""
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


def _records(folder: Path) -> dict[Path, int]:
    """Evaluations on disk, with the time of their writing."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}


def _result(name: str, dataset: str, margin: float, baseline: Artifact, work: Path) -> SearchRun:
    first, second = (Artifact.open(work / one) for one in ("first", "second"))
    ladder = _ladder(first)
    return SearchRun(
        family=name,
        dataset=dataset,
        target=TARGET,
        margin=margin,
        baseline=size_of(load_network(baseline, BASELINE)),
        interruption=Interruption.model_validate_json((work / "first.interruption.json").read_text(encoding="utf-8")),
        evaluations=len(_records(work / "first.search" / "evaluations")),
        seconds=tuple(json.loads((work / f"{one}.seconds.json").read_text(encoding="utf-8")) for one in _BOTH),
        same=_decided(first) == _decided(second),
        decided=_decided(first),
        record=first.read_json(SEARCH_FILE, SearchRecord),
        ladder=ladder,
        recipes={one.variant: first.read_json(f"variants/{one.variant}/recipe.json", Recipe) for one in ladder.rungs},
        created=datetime.now(UTC),
        environment=environment(),
    )


_BOTH = ("first", "second")


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


def _arguments() -> argparse.Namespace:
    parser = arguments_for(__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--first-only", action="store_true", help="only the search that is interrupted")
    only.add_argument("--second-only", action="store_true", help="only the search that is not")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return arguments


if __name__ == "__main__":
    main()
