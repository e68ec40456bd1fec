"""A trained PyTorch model into an artifact: checkpoint, dense graph, tables and the variant's record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankine.artifact import Draft
from rankine.config import Frozen
from rankine.models.variant import Table, Variant, write_tables

if TYPE_CHECKING:
    from rankine.models.zoo.base import RankingModel

__all__ = ["put_trained"]


def put_trained(
    draft: Draft,
    model: RankingModel,
    config: Frozen,
    *,
    name: str,
    parent: str | None,
    steps: tuple[str, ...],
    validation_auc: float,
    details: Mapping[str, Any],
) -> Variant:
    """Put ``model`` into ``draft`` as the FP32 variant ``name``."""
    import onnx

    from rankine.models.checkpoint import save_checkpoint
    from rankine.models.export import export_onnx
    from rankine.models.macs import count_graph_macs
    from rankine.models.zoo.base import tables_of

    with tempfile.TemporaryDirectory(prefix="rankine-export-") as scratch:
        graph = Path(scratch) / "graph.onnx"
        export_onnx(model, graph)
        draft.put_file(f"variants/{name}/graph.onnx", graph)
        macs = count_graph_macs(onnx.load(graph))
        save_checkpoint(model, config, Path(scratch) / "checkpoint")
        draft.put_folder(f"variants/{name}/checkpoint", Path(scratch) / "checkpoint")
    tables = {table: Table(weight.numpy()) for table, weight in tables_of(model).items()}
    variant = Variant(
        name=name,
        parent=parent,
        numeric="fp32",
        steps=steps,
        macs_per_row=macs,
        tables=write_tables(draft, name, tables),
        validation_auc=validation_auc,
        details=details,
    )
    draft.put_json(f"variants/{name}/variant.json", variant)
    return variant
