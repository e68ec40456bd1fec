"""``optimize``: compress, compile and certify in one go."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, refuse_existing
from rankine.certification.certify import certify
from rankine.certification.margins import Margins
from rankine.compilation.compile import compile_artifact
from rankine.compression.compress import compress
from rankine.compression.context import CostModel
from rankine.compression.recipe import Recipe
from rankine.data.dataset import Dataset
from rankine.events import Emit, ignore
from rankine.models.columns import Batch
from rankine.models.transforms import Transforms
from rankine.planning.write_ladder import write_ladder

__all__ = ["VERIFY_ROWS", "existing_folder", "optimize", "verification_rows"]

VERIFY_ROWS = 2048


def optimize(
    parent: Artifact,
    recipes: Sequence[Recipe],
    dataset: Dataset,
    *,
    margin: float | Margins,
    out: Path,
    engines: Sequence[str] | None = None,
    cost: CostModel | None = None,
    emit: Emit = ignore,
) -> Artifact:
    """Apply recipes to the baseline, build every variant for every engine, certify each, and write one artifact.

    It has the ladder of what was certified: one rung, since there is one margin.

    Args:
        engines: names of engines to build for; None means all that are installed.
        margin: the largest loss of AUC that is accepted, the other metrics' by :meth:`Margins.of`; or all of them.
        cost: measured on this machine, for passes that have a budget of time.

    Raises:
        ArtifactError: something is at ``out`` already (found before the work begins).
    """
    refuse_existing(out)
    margins = margin if isinstance(margin, Margins) else Margins.of(margin)
    with tempfile.TemporaryDirectory(prefix="rankine-optimize-", dir=existing_folder(out)) as scratch:
        compressed = parent
        for number, recipe in enumerate(recipes):
            step_out = Path(scratch) / f"compressed-{number}"
            compressed = compress(compressed, recipe, dataset, out=step_out, cost=cost, emit=emit)
        rows = verification_rows(compressed, dataset)
        compiled = compile_artifact(
            compressed, engines=engines, verify_batch=rows, out=Path(scratch) / "compiled", emit=emit
        )
        certified = certify(compiled, dataset, margin=margins, out=Path(scratch) / "certified", emit=emit)
        return write_ladder(certified, rows, margins.auc, out=out, emit=emit)


def verification_rows(artifact: Artifact, dataset: Dataset) -> Batch:
    """Real rows (of the validation split) on which compiled variants are held to the reference."""
    rows = dataset.splits().validation
    chosen = np.random.default_rng(0).permutation(rows)[:VERIFY_ROWS]
    return dataset.encode(Transforms.read(artifact)).select(np.sort(chosen))


def existing_folder(path: Path) -> Path:
    """The nearest folder above ``path`` that exists: drafts made there can be hard-linked."""
    parent = path.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent
