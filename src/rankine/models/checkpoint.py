"""A trained PyTorch module on disk: how to build it, and its weights as safetensors (no pickle, safe to open)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from rankine.artifact import read_record
from rankine.config import Frozen
from rankine.errors import ArtifactError
from rankine.models.schema import Schema
from rankine.models.zoo import build_model

if TYPE_CHECKING:
    from rankine.models.zoo.base import RankingModel

__all__ = ["load_checkpoint", "save_checkpoint"]


class _Description(Frozen):
    schema_version: int = 1
    model: Mapping[str, Any]
    table_rows: Mapping[str, Annotated[int, Field(ge=1)]]
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
        ArtifactError: a file is missing or damaged, or the weights do not fit the described model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    description = read_record(folder / "model.json", _Description)
    model = build_model(description.features, description.table_rows, description.model)
    weights = folder / "weights.safetensors"
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise ArtifactError("the weights cannot be read", where=str(weights), got=str(error)) from None
    except RuntimeError as error:
        raise ArtifactError("the weights do not fit the model", where=str(weights), got=str(error)) from None
    return model.eval()
