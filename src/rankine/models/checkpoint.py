"""A trained PyTorch module on disk: how to build it, and its weights as safetensors (no pickle, safe to open)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rankine.config import Frozen, parse
from rankine.errors import ArtifactError
from rankine.models.schema import Schema
from rankine.models.zoo import build_model

if TYPE_CHECKING:
    from rankine.models.zoo.base import RankingModel

__all__ = ["load_checkpoint", "save_checkpoint"]


class _Description(Frozen):
    schema_version: int = 1
    model: Mapping[str, Any]
    table_rows: Mapping[str, int]
    features: Schema = Field(description="the schema that the model was built for")


def save_checkpoint(model: RankingModel, config: Frozen, folder: Path) -> None:
    """Write ``model.json`` and ``weights.safetensors`` into ``folder``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    description = _Description(model=config.model_dump(mode="json"), table_rows=model.table_rows, features=model.schema)
    (folder / "model.json").write_text(description.model_dump_json(indent=1), encoding="utf-8")
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "weights.safetensors"
    )


def load_checkpoint(folder: Path) -> RankingModel:
    """The module in evaluation mode.

    Raises:
        ArtifactError: the weights do not fit the described model.
    """
    from safetensors.torch import load_file

    description = parse(
        _Description, json.loads((folder / "model.json").read_text(encoding="utf-8")), source=str(folder / "model.json")
    )
    model = build_model(description.features, description.table_rows, description.model)
    try:
        model.load_state_dict(load_file(folder / "weights.safetensors"))
    except RuntimeError as error:
        raise ArtifactError("the weights do not fit the model", where=str(folder), got=str(error)) from None
    return model.eval()
