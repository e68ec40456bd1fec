"""What each pass of a recipe is worth: the whole recipe, each pass alone, and the recipe without each pass.

$ python benchmarks/compression_ablation.py --work /tmp/compression --only dcn_v2,dlrm --data-root ../shared/data

One result file a run in benchmarks/results/ablation/<family>/; a run whose file is there is not done again. All figures
are of validation rows, with the certificate's own tests: the test split is not spent on choices.

Needs the same data; a baseline that is not there is trained. Ten to thirty minutes a family on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from families_quality import FAMILIES, arguments_for, baseline_of, open_data, tell
from pydantic import AwareDatetime
from script import run_script

from rankine.certification.metric_tests import MetricTest
from rankine.certification.quality import certify_quality
from rankine.compression.compress import apply_passes, open_context
from rankine.compression.context import Context
from rankine.compression.outcome import PassReport
from rankine.compression.recipe import Distill, LowRank, Pass, Prune, Quantize, ShrinkTables
from rankine.config import Frozen
from rankine.data import Dataset
from rankine.environment import environment
from rankine.models.network import NetworkScorer, Size, size_of

RESULTS = Path(__file__).resolve().parent / "results" / "ablation"
WHOLE = "whole"
_STUDENT: Mapping[str, Mapping[str, Any]] = {
    "dcn_v2": {"hidden": [64, 32], "cross_layers": 1},
    "dlrm": {"hidden": [64, 32]},
    "deepfm": {"hidden": [64, 32]},
    "wide_deep": {"hidden": [64, 32]},
    "mmoe": {"experts": 4, "hidden": [64, 32], "tower": [32]},
    "din": {"attention": [16], "hidden": [64, 32]},
    "dcn_v2_criteo": {"hidden": [64, 32], "cross_layers": 1},
    "dlrm_criteo": {"bottom": [128, 64], "hidden": [64, 32]},
}
IN_FULL = ("dcn_v2", "dlrm")


class AblationRun(Frozen):
    """One run: a recipe and what came of it.

    Attributes:
        passes: types of the recipe's passes, in order.
        baseline, size: before and after.
        tasks: the certificate's tests by task, on validation rows.
    """

    schema_version: int = 1
    kind: str = "ablation"
    family: str
    dataset: str
    run: str
    passes: tuple[str, ...]
    reports: tuple[PassReport, ...]
    baseline: Size
    size: Size
    margin: float
    rows: int
    tasks: Mapping[str, tuple[MetricTest, ...]]
    created: AwareDatetime
    environment: Mapping[str, Any]


def recipes(family: str) -> dict[str, tuple[Pass, ...]]:
    """Passes by name of the run. The others than those in full: the whole recipe, and each pass alone."""
    whole: tuple[Pass, ...] = (
        Distill(sizes=_STUDENT[family]),
        LowRank(),
        Prune(macs=0.3),
        ShrinkTables(),
        Quantize(method="auto", tables="mixed"),
    )
    found = {WHOLE: whole}
    found |= {f"only-{one.type}": (one,) for one in whole}
    if family in IN_FULL:
        found |= {f"without-{one.type}": tuple(other for other in whole if other is not one) for one in whole}
    return found


def main() -> None:
    arguments = arguments_for(__doc__, _STUDENT).parse_args()
    for family in arguments.only:
        wanted = {name: passes for name, passes in recipes(family).items() if not _file(family, name).exists()}
        if not wanted:
            continue
        dataset = open_data(FAMILIES[family], arguments.data_root)
        baseline = baseline_of(family, FAMILIES[family], dataset, arguments.work / family)
        context = open_context(baseline, dataset, seed=0, emit=tell)
        for name, passes in wanted.items():
            result = run(family, name, passes, context, dataset)
            _file(family, name).parent.mkdir(parents=True, exist_ok=True)
            _file(family, name).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
            print(f"{family} {name}: {result.size}", flush=True)


def run(family: str, name: str, passes: tuple[Pass, ...], context: Context, dataset: Dataset) -> AblationRun:
    """Apply the passes to the baseline and test what came of it on the validation rows."""
    network, reports = apply_passes(context.baseline, passes, context)
    rows = dataset.splits().validation
    before = NetworkScorer(context.baseline).logits(context.validation.batch)
    after = NetworkScorer(network).logits(context.validation.batch)
    margin = FAMILIES[family].margin
    tasks = {}
    for column, task in enumerate(context.baseline.schema.tasks):
        tasks[task.name] = certify_quality(
            dataset.labels[rows, column],
            before[:, column],
            after[:, column],
            margin=margin,
            clusters=dataset.clusters(rows),
            groups=None if dataset.groups is None else dataset.groups[rows],
            variant=name,
            engine="onnxruntime",
            task=task.name,
            link=task.link,
            provenance={"split": "validation"},
        ).metrics
    return AblationRun(
        family=family,
        dataset=dataset.name,
        run=name,
        passes=tuple(one.type for one in passes),
        reports=reports,
        baseline=size_of(context.baseline),
        size=size_of(network),
        margin=margin,
        rows=int(np.size(rows)),
        tasks=tasks,
        created=datetime.now(UTC),
        environment=environment(),
    )


def _file(family: str, name: str) -> Path:
    return RESULTS / family / f"{name}.json"


if __name__ == "__main__":
    run_script(main)
