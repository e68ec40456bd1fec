"""Small networks of each family, trained from scratch and distilled from the baseline, in the same sizes.

$ python benchmarks/compression_sizes.py --work /tmp/compression --only dcn_v2,dlrm --data-root ../shared/data

The question: how small may a network of the family be, with and without a teacher? Everything here is told by training
and validation rows; the certificates are `compression.py`'s. A size that is in the work folder already is not done
again.

Needs the same data as `families_quality.py`, and trains a baseline that is not there as that does (its folder
`FAMILY/baseline` may be copied). A minute or two a network of MovieLens-1M, some hours for all on one core.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from families_quality import FAMILIES, arguments_for, baseline_of, open_data, tell
from script import run_script

from rankine.artifact import Artifact
from rankine.compression.compress import compress
from rankine.compression.recipe import Distill, Recipe
from rankine.data import Dataset
from rankine.models.network import NetworkScorer, load_network, size_of
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE
from rankine.stats import paired_delong
from rankine.training.config import FitConfig
from rankine.training.train import train

SCRATCH, DISTILLED = "scratch", "distilled"
_MLP: Sequence[Mapping[str, Any]] = (
    {"hidden": [32, 16]},
    {"hidden": [16]},
    {"hidden": [16], "embedding_dim": 8},
    {"hidden": [8], "embedding_dim": 8},
    {"hidden": [8], "embedding_dim": 4},
    {"hidden": [2], "embedding_dim": 1},
)
_DCN_V2: Sequence[Mapping[str, Any]] = (
    {"hidden": [64, 32], "cross_layers": 1, "low_rank": 16},
    {"hidden": [32, 16], "cross_layers": 1, "low_rank": 8},
    {"hidden": [16], "cross_layers": 1, "low_rank": 4},
    {"hidden": [16], "cross_layers": 1, "low_rank": 4, "embedding_dim": 8},
    {"hidden": [8], "cross_layers": 1, "low_rank": 2, "embedding_dim": 8},
    {"hidden": [8], "cross_layers": 0, "embedding_dim": 4},
    {"hidden": [2], "cross_layers": 0, "embedding_dim": 1},
)
SIZES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "dcn_v2": _DCN_V2,
    "dcn_v2_wide": _DCN_V2,
    "dlrm": _MLP,
    "deepfm": _MLP,
    "wide_deep": _MLP,
    "mmoe": (
        {"experts": 4, "hidden": [32, 16], "tower": [16]},
        {"experts": 2, "hidden": [32, 16], "tower": [8]},
        {"experts": 2, "hidden": [16], "tower": [8], "embedding_dim": 8},
        {"experts": 2, "hidden": [8], "tower": [4], "embedding_dim": 8},
        {"experts": 2, "hidden": [8], "tower": [4], "embedding_dim": 4},
        {"experts": 1, "hidden": [2], "tower": [2], "embedding_dim": 1},
    ),
    "din": (
        {"attention": [8], "hidden": [32]},
        {"attention": [4], "hidden": [16]},
        {"attention": [4], "hidden": [16], "embedding_dim": 8},
        {"attention": [2], "hidden": [8], "embedding_dim": 4},
        {"attention": [1], "hidden": [2], "embedding_dim": 1},
    ),
    "dcn_v2_criteo": (
        {"hidden": [64, 32], "cross_layers": 1, "low_rank": 32},
        {"hidden": [32, 16], "cross_layers": 1, "low_rank": 16},
        {"hidden": [32], "cross_layers": 1, "low_rank": 8, "embedding_dim": 8},
        {"hidden": [16], "cross_layers": 1, "low_rank": 4, "embedding_dim": 4},
        {"hidden": [2], "cross_layers": 0, "embedding_dim": 1},
    ),
    "dlrm_criteo": (
        {"bottom": [64], "hidden": [64, 32]},
        {"bottom": [32], "hidden": [32]},
        {"bottom": [32], "hidden": [32], "embedding_dim": 8},
        {"bottom": [16], "hidden": [16], "embedding_dim": 4},
        {"bottom": [2], "hidden": [2], "embedding_dim": 1},
    ),
}

LARGER: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "dcn_v2": ({"dropout": 0.2}, {"hidden": [128, 64, 32], "cross_layers": 1, "dropout": 0.2}),
    "dcn_v2_wide": ({"dropout": 0.2}, {"hidden": [256, 128, 64], "dropout": 0.2}),
    "dlrm": ({}, {"hidden": [128, 64, 32]}, {"hidden": [64, 32]}),
    "deepfm": ({"dropout": 0.2}, {"hidden": [128, 64, 32], "dropout": 0.2}, {"hidden": [64, 32]}),
    "wide_deep": ({"dropout": 0.2}, {"hidden": [128, 64, 32], "dropout": 0.2}, {"hidden": [64, 32]}),
    "mmoe": ({"dropout": 0.2}, {"hidden": [128, 64], "tower": [32], "dropout": 0.2}, {"hidden": [64, 32]}),
    "din": ({}, {"hidden": [64, 32]}),
    "dcn_v2_criteo": ({"dropout": 0.2}, {"hidden": [128, 64, 32], "cross_layers": 2, "dropout": 0.2}),
    "dlrm_criteo": ({}, {"hidden": [128, 64, 32]}),
}
"""Trained from scratch only: beside the baseline's own sizes, drawn and ordered by another seed, what lies between."""
ALSO_FROM_SCRATCH = (0, 2)
"""Which of ``SIZES`` are trained from scratch too."""


def main() -> None:
    parser = arguments_for(__doc__, SIZES)
    parser.add_argument("--how", choices=(SCRATCH, DISTILLED), help="only one of both")
    arguments = parser.parse_args()
    for name in arguments.only:
        dataset = open_data(FAMILIES[name], arguments.data_root)
        baseline = baseline_of(name, FAMILIES[name], dataset, arguments.work / name)
        for step, sizes, how in plan_of(name):
            if arguments.how in (None, how):
                made = artifact_of(arguments.work / name, baseline, dataset, step, sizes, how)
                print(name, how, dict(sizes), json.dumps(validation_figures(made, how, baseline, dataset)), flush=True)


def plan_of(family: str) -> list[tuple[str, Mapping[str, Any], str]]:
    """What is trained: a name, sizes, and how."""
    found: list[tuple[str, Mapping[str, Any], str]] = []
    for number, sizes in enumerate(SIZES[family]):
        found.append((f"size-{number}", sizes, DISTILLED))
    return found + [(name, sizes, SCRATCH) for name, sizes in from_scratch(family)]


def from_scratch(family: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and sizes of the networks without a teacher: some of the small ones, and those that are larger."""
    small = [(f"size-{number}", SIZES[family][number]) for number in ALSO_FROM_SCRATCH]
    return small + [(f"larger-{number}", sizes) for number, sizes in enumerate(LARGER[family])]


def artifact_of(
    work: Path, baseline: Artifact, dataset: Dataset, name: str, sizes: Mapping[str, Any], how: str
) -> Artifact:
    """The network of these sizes: trained on labels alone, or by the baseline."""
    out = work / f"{name}-{how}"
    if out.exists():
        return Artifact.open(out)
    module = load_network(baseline, BASELINE).module
    if module is None:
        raise SystemExit("the baseline has no checkpoint")
    if how == SCRATCH:
        config = module.config.model_dump(mode="json") | {"dropout": 0.0} | dict(sizes)
        fit = FitConfig(seed=int(name.startswith("larger")))
        return train(dataset, config, fit, out=out, name=name, emit=tell)
    recipe = Recipe(name=name, passes=(Distill(sizes=sizes),))
    return compress(baseline, recipe, dataset, out=out, emit=tell)


def validation_figures(made: Artifact, how: str, baseline: Artifact, dataset: Dataset) -> dict[str, Any]:
    """Size, and the paired difference of validation AUC from the baseline, the worst task's."""
    variant = BASELINE if how == SCRATCH else f"{made.path.name.removesuffix(f'-{how}')}-fp32"
    rows = dataset.splits().validation
    scores = {}
    for key, artifact, name in (("baseline", baseline, BASELINE), ("small", made, variant)):
        network = load_network(artifact, name)
        scores[key] = NetworkScorer(network).logits(dataset.encode(Transforms.read(artifact)).select(rows))
    clusters = tuple(dataset.clusters(rows).values())
    found = [
        paired_delong(dataset.labels[rows, task], scores["baseline"][:, task], scores["small"][:, task], clusters)
        for task in range(dataset.labels.shape[1])
    ]
    worst = min(found, key=lambda one: one.delta)
    size = size_of(network)
    return {
        "macs_per_row": size.macs_per_row,
        "bytes_fp32": size.bytes,
        "validation_auc": round(float(np.mean([one.auc_b for one in found])), 6),
        "delta": round(worst.delta, 6),
        "se": round(worst.se, 6),
    }


if __name__ == "__main__":
    run_script(main)
