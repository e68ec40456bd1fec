"""A recipe is data: the passes that make a variant, in order. Each pass says what it needs of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rankine.config import Frozen, load_yaml
from rankine.training.config import FitConfig

__all__ = ["DEFAULT_RECIPE", "GRAPH_RECIPE", "Distill", "Needs", "Pass", "Quantize", "Recipe", "read_recipe"]

Needs = Literal["graph", "trainable"]


class Distill(Frozen):
    """Train a narrower student on the labels and on the teacher's probabilities (Hinton et al., arXiv 1503.02531).

    Attributes:
        hidden, cross_layers: sizes of the student; other settings are the teacher's.
        teacher_weight: target of a training row is this much teacher and the rest label.
        drawn_rows: further rows without labels, as a multiple of the training rows: requests and items of the
            training rows, recombined at random and labeled by the teacher alone. Only for models without features
            that differ per (request, candidate) row, since those cannot be recombined.
        warm_start: begin from the teacher's embeddings.
        fit: a teacher's probabilities are not noisy as labels are, so embeddings need far less holding back.
    """

    needs: ClassVar[Needs] = "trainable"

    type: Literal["distill"] = "distill"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 32)
    cross_layers: int = Field(1, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    teacher_weight: float = Field(default=1.0, ge=0, le=1)
    drawn_rows: float = Field(0.5, ge=0, le=100)
    warm_start: bool = True
    fit: FitConfig = FitConfig(learning_rate=3e-3, embedding_l2=2e-4, min_improvement=2e-5)


class Quantize(Frozen):
    """Static INT8 of the linear layers (canonical QDQ form) and row-wise INT8 of the tables.

    Activations u8, asymmetric, per tensor, calibrated; weights s8, symmetric, per channel. The head keeps FP32: it
    is one column wide, and its quantization would leave 256 distinct scores.

    Attributes:
        calibration_rows: training rows on which the ranges of activations are taken.
        method: of calibration; ``percentile`` clips outliers.
        equalize: bring the input columns of a layer to like ranges first, where they differ much; the same
            function up to rounding (SmoothQuant, arXiv 2211.10438).
        tables: row type of the embedding tables.
    """

    needs: ClassVar[Needs] = "graph"

    type: Literal["quantize"] = "quantize"
    calibration_rows: int = Field(8192, ge=1)
    method: Literal["minmax", "percentile", "entropy"] = "minmax"
    equalize: bool = True
    tables: Literal["int8", "float16", "float32"] = "int8"


Pass = Annotated[Distill | Quantize, Field(discriminator="type")]


class Recipe(Frozen):
    """Passes in order; each makes a variant from the one before, and the first from the baseline."""

    schema_version: Literal[1] = 1
    name: str = Field("small", pattern=r"^[a-z0-9][a-z0-9-]*$", description="prefix of the variants' names")
    passes: tuple[Pass, ...] = Field(min_length=1)
    seed: int = Field(0, ge=0, lt=2**63)


DEFAULT_RECIPE = Recipe(passes=(Distill(), Quantize()))
GRAPH_RECIPE = Recipe(passes=(Quantize(),))
"""The default where the baseline cannot be trained: a graph, or a program from elsewhere."""


def read_recipe(path: Path | None, *, trainable: bool = True) -> Recipe:
    """The recipe in a YAML file, or the default one for a baseline that is ``trainable`` or not.

    Raises:
        ConfigError: the file is missing or has a wrong key.
    """
    if path is not None:
        return load_yaml(Recipe, path)
    return DEFAULT_RECIPE if trainable else GRAPH_RECIPE
