"""PyTorch eager: the model as it was trained or brought. The baseline that everything is compared with in speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rankine import _native
from rankine.compilation.engine import Capabilities, Target
from rankine.compilation.host_runner import check_out, parts_of
from rankine.errors import EngineError
from rankine.models.checkpoint import Scorer, load_scorer
from rankine.models.columns import Batch, Columns, Ragged
from rankine.models.lookup_plan import Source, bad_row, plan_sources, wrong_lists
from rankine.models.variant import Model

__all__ = ["Eager", "EagerRunner", "engine"]


class Eager:
    """The engine; see :class:`rankine.compilation.engine.Engine`. It reads the checkpoint and needs no files."""

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="eager", version=f"torch {torch.__version__}", numerics=("fp32",), lookups=True, needs_checkpoint=True
        )

    def build(self, model: Model, target: Target, folder: Path) -> None:
        _checkpoint(model)

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> EagerRunner:
        return EagerRunner(model, threads)


class EagerRunner:
    """Runs the module; see :class:`rankine.compilation.engine.Runner`. ``threads`` holds for the whole process."""

    def __init__(self, model: Model, threads: int) -> None:
        torch.set_num_threads(threads)
        self._scorer: Scorer | None = load_scorer(_checkpoint(model))
        self._sources = plan_sources(model.schema, model.tables)

    def run(self, batch: Batch, out: np.ndarray) -> None:
        scorer = self._scorer
        if scorer is None:
            raise EngineError("the runner is closed", hint="Open the artifact's runner again.")
        check_out(out, batch, out.shape[-1] if out.ndim else 0)
        if batch.rows == 0:
            return
        for source in self._sources:
            _check(source, batch)
        width = sum(source.width for source in self._sources)
        for rows, part in parts_of(batch, width):
            with torch.inference_mode():
                logits = scorer.logits(part).numpy()
            check_out(out[rows], part, logits.shape[1])
            np.copyto(out[rows], logits)

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        self._scorer = None


def engine() -> Eager:
    return Eager()


def _checkpoint(model: Model) -> Path:
    if model.checkpoint is None:
        raise EngineError(
            "the variant has no trained PyTorch module", where=model.name, hint="Use an engine that runs its graph."
        )
    return model.checkpoint


def _check(source: Source, batch: Batch) -> None:
    """PyTorch reads whatever a wrong id points at, or ends the process: refuse it before."""
    index, column = source.index(batch), source.values(batch)
    bad = _native.check_ids(index, len(column))
    if bad < 0 and isinstance(column, Ragged):  # too long a list would go on in the next row's
        wrong = wrong_lists(source, column, index)
        bad = int(np.argmax(wrong)) if wrong.any() else -1
    if bad < 0 and source.table is not None:
        taken = column.take(index) if isinstance(column, Ragged) else column[index]
        ids = taken.values if isinstance(taken, Ragged) else taken
        bad = _native.check_ids(ids, source.table.count)
        if bad >= 0 and isinstance(taken, Ragged):
            bad = int(np.searchsorted(taken.offsets, bad, side="right")) - 1
    if bad >= 0:
        raise bad_row(source, column, index, bad)
