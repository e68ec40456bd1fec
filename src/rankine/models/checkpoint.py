"""A PyTorch model on disk: a reference model (how to build it, weights as safetensors), or a program from elsewhere.

The weights of a reference model are safe to open. A program (``program.pt2``) is read by PyTorch's own loader, which is
only as careful as PyTorch: open artifacts with programs from people whose code you would run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from rankine.artifact import read_record
from rankine.config import Frozen
from rankine.errors import ArtifactError
from rankine.models.schema import Schema
from rankine.models.variant import Model
from rankine.models.zoo import build_model

if TYPE_CHECKING:
    from torch import Tensor

    from rankine.models.columns import Batch
    from rankine.models.zoo.base import RankingModel

__all__ = ["Scorer", "is_program", "is_trainable", "load_checkpoint", "load_scorer", "save_checkpoint"]

_PROGRAM_FILE = "program.pt2"


class Scorer(Protocol):
    """What scores encoded rows in PyTorch."""

    def logits(self, batch: Batch) -> Tensor:
        """Float32 ``(rows, tasks)``; ``batch`` has rows, and its ids are within the tables."""


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
        ArtifactError: a file is missing or damaged, the weights do not fit the described model, or it is a program
            from elsewhere.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if is_program(folder):
        raise ArtifactError(
            "is a program from elsewhere, which cannot be trained",
            where=str(folder),
            hint="Use a recipe without 'distill': 'quantize' needs the graph only.",
        )
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


def is_program(folder: Path) -> bool:
    """Whether a checkpoint is a program from elsewhere."""
    return (folder / _PROGRAM_FILE).is_file()


def is_trainable(model: Model) -> bool:
    """Whether a variant can be trained further: it has a checkpoint, and that is a reference model."""
    return model.checkpoint is not None and not is_program(model.checkpoint)


def load_scorer(folder: Path) -> Scorer:
    """What is in a checkpoint, reference model or program.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    if is_program(folder):
        from rankine.models.intake.scorer import read_scorer

        return read_scorer(folder)
    return _Reference(load_checkpoint(folder))


class _Reference:
    """A reference model as a :class:`Scorer`."""

    def __init__(self, model: RankingModel) -> None:
        self._model = model

    def logits(self, batch: Batch) -> Tensor:
        from rankine.models.inputs import torch_inputs

        logits: Tensor = self._model(torch_inputs(batch, self._model.schema))
        return logits
