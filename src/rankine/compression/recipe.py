"""A recipe is data: the passes that make a variant, in order. Each pass says what it needs of the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rankine.config import Frozen, load_yaml
from rankine.training.config import FitConfig

__all__ = [
    "DEFAULT_RECIPE",
    "GRAPH_RECIPE",
    "Distill",
    "LowRank",
    "Needs",
    "Pass",
    "Prune",
    "Quantize",
    "QuotientRemainder",
    "Recipe",
    "ShrinkTables",
    "Tuning",
    "read_recipe",
]

Needs = Literal["graph", "trainable", "reference"]
"""What a pass reads: any graph; one whose every operator has a gradient here; a reference model, whose architecture is
known."""

Share = Annotated[float, Field(gt=0, le=1)]


class Tuning(Frozen):
    """How a model learns again from the baseline what a pass took from it (Hinton et al., arXiv 1503.02531).

    Attributes:
        teacher_weight: target of a training row is this much baseline and the rest label.
        drawn_rows: further rows without labels, as a multiple of the training rows: requests and items of the
            training rows, recombined at random and labeled by the baseline alone. None are drawn for models with
            features that differ per (request, candidate) row, since those cannot be recombined.
        fit: a teacher's probabilities are not noisy as labels are, so embeddings need far less holding back. Watched is
            the log loss: a pass can leave the ranking as it was and shift the mean prediction.
    """

    teacher_weight: float = Field(default=1.0, ge=0, le=1)
    drawn_rows: float = Field(0.5, ge=0, le=100)
    fit: FitConfig = FitConfig(
        learning_rate=1e-3, embedding_l2=2e-4, select="log_loss", max_epochs=6, patience=1, min_improvement=1e-5
    )


class Distill(Frozen):
    """Train a smaller student of the same architecture on the labels and on the baseline's probabilities.

    Attributes:
        hidden, cross_layers, dropout: sizes of the student, as far as its architecture has them.
        sizes: any other setting of the architecture, such as ``{embedding_dim: 8, low_rank: 16}``; what is named
            nowhere is the baseline's.
        teacher_weight, drawn_rows: see :class:`Tuning`.
        hidden_weight: how much the student also learns to predict, by a linear map, the baseline's last hidden layer
            (Romero et al., "FitNets", arXiv 1412.6550).
        warm_start: begin from the baseline's embeddings; in fewer columns from their principal ones.
    """

    needs: ClassVar[Needs] = "reference"

    type: Literal["distill"] = "distill"
    version: Literal[1] = 1
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 32)
    cross_layers: int = Field(1, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    sizes: Mapping[str, Any] = Field(default_factory=dict)
    teacher_weight: float = Field(default=1.0, ge=0, le=1)
    drawn_rows: float = Field(0.5, ge=0, le=100)
    hidden_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    warm_start: bool = True
    fit: FitConfig = FitConfig(learning_rate=3e-3, embedding_l2=2e-4, min_improvement=2e-5)


class LowRank(Frozen):
    """Large linear and cross layers as products of two thin ones, ``W = U V``, by a singular value decomposition that
    is weighted by what the layer reads and by how its output moves the logit.

    Attributes:
        energy: share of what all layers together move the logit (mean square, to first order) that their ranks keep.
        macs: instead: share of the multiply-adds of the graph to arrive at. Either way ranks are those of least loss
            over all layers for their multiply-adds.
        calibration_rows: training rows on which layers are looked at.
        tune: how the model learns again; None leaves it as decomposed.
    """

    needs: ClassVar[Needs] = "trainable"

    type: Literal["low_rank"] = "low_rank"
    version: Literal[1] = 1
    energy: Share = 0.9999
    macs: Share | None = None
    calibration_rows: int = Field(8192, ge=1)
    tune: Tuning | None = Tuning()


class ShrinkTables(Frozen):
    """Fewer columns for embedding tables, each as many as it needs (Ginart et al., "Mixed dimension embeddings",
    arXiv 1909.11810): the directions in which its rows move the logit most, and a linear map back, which is merged into
    the layers that read them where it can be.

    Attributes:
        energy: share of what all tables together move the logit (mean square, to first order) that their columns keep.
        bytes: instead: share of the tables' bytes to arrive at. Either way the columns that matter least for their
            bytes go first.
        calibration_rows: training rows on which the logit's gradients are taken.
        tune: how the model learns again; None leaves it as projected.
    """

    needs: ClassVar[Needs] = "trainable"

    type: Literal["shrink_tables"] = "shrink_tables"
    version: Literal[1] = 1
    energy: Share = 0.9995
    bytes: Share | None = None
    calibration_rows: int = Field(8192, ge=1)
    tune: Tuning | None = Tuning()


class QuotientRemainder(Frozen):
    """Giant tables as two small ones: a row is the product of its quotient's and its remainder's (Shi et al., KDD 2020,
    arXiv 1909.02107).

    Attributes:
        smallest: tables of fewer rows stay whole.
        buckets: remainders; None for the square root of the rows, which makes the table smallest.
        combine: of the two rows.
        tune: how the model learns again; None leaves it as fitted.
    """

    needs: ClassVar[Needs] = "trainable"

    type: Literal["quotient_remainder"] = "quotient_remainder"
    version: Literal[1] = 1
    smallest: int = Field(100_000, ge=4)
    buckets: int | None = Field(default=None, ge=2)
    combine: Literal["product", "sum"] = "product"
    tune: Tuning | None = Tuning()


Prunable = Literal["neurons", "dimensions", "fields"]


class Prune(Frozen):
    """Take whole channels out of the graph, the least important for what they cost first (Molchanov et al., CVPR 2019,
    arXiv 1906.10771), and fine-tune between steps.

    Channels that depend on each other go together: through concatenations, residuals, products, factorization
    machines, dot interactions and gates, all found on the graph.

    Attributes:
        macs: share of the multiply-adds to arrive at.
        latency: share of the measured latency at 512 rows to arrive at, by the cost model of this machine; the pruning
            ends when both budgets are met.
        steps: of pruning and fine-tuning, in equal ratios.
        importance: ``taylor`` is the first-order change of the loss, ``fisher`` the second-order one. Of a whole
            feature the loss without it is measured too.
        what: neurons (of MLPs, experts, attention units; ranks of cross layers), dimensions (columns of tables), and
            fields (whole features).
        calibration_rows: training rows on which importance is measured.
        tune: how the model learns again: an epoch after each step, after the last one until validation stops improving;
            None leaves it as cut.
    """

    needs: ClassVar[Needs] = "trainable"

    type: Literal["prune"] = "prune"
    version: Literal[1] = 1
    macs: Share = 0.5
    latency: Share | None = None
    steps: int = Field(3, ge=1)
    importance: Literal["taylor", "fisher"] = "fisher"
    what: tuple[Prunable, ...] = Field(("neurons", "dimensions", "fields"), min_length=1)
    calibration_rows: int = Field(16384, ge=1)
    tune: Tuning | None = Tuning()


class Quantize(Frozen):
    """Static INT8 of the linear layers (canonical QDQ form) and row-wise INT8 or INT4 of the tables.

    Activations u8, asymmetric, per tensor, calibrated; weights s8, symmetric, per channel. The head keeps FP32: it
    is one column wide, and its quantization would leave 256 distinct scores.

    Attributes:
        calibration_rows: training rows on which the ranges of activations are taken.
        method: of choosing a range; ``auto`` takes for each value the one with the smallest measured error of what the
            layers give that read it.
        equalize: bring the input columns of a layer to like ranges first, where they differ much; the same
            function up to rounding (SmoothQuant, arXiv 2211.10438).
        sensitivity: how much validation AUC (or three times as much normalized entropy, relative) INT8 layers may cost
            together; those that cost most, each measured alone, stay in FP32 until it holds. None quantizes all.
        only_where_faster: keep a layer in FP32 where INT8 does not pay in time on this machine, by the cost model; all
            of them where it does not pay for the graph as a whole.
        tune: quantization-aware fine-tuning, run only where layers and tables together cost more than ``sensitivity``,
            before layers go back to FP32; kept where it helps.
        tables: row type of the embedding tables; ``mixed`` keeps the rows that answer most reads in INT8, the rest in
            INT4.
    """

    needs: ClassVar[Needs] = "graph"

    type: Literal["quantize"] = "quantize"
    version: Literal[1] = 1
    calibration_rows: int = Field(8192, ge=1)
    method: Literal["auto", "minmax", "percentile", "entropy", "mse"] = "auto"
    equalize: bool = True
    sensitivity: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    only_where_faster: bool = False
    tune: Tuning | None = None
    tables: Literal["int4", "mixed", "int8", "float16", "float32"] = "int8"

    @model_validator(mode="after")
    def _tuning_has_a_target(self) -> Quantize:
        if self.tune is not None and self.sensitivity is None:
            raise ValueError("'tune' needs 'sensitivity', which says when it is run")
        return self


Pass = Annotated[Distill | LowRank | ShrinkTables | QuotientRemainder | Prune | Quantize, Field(discriminator="type")]


class Recipe(Frozen):
    """Passes in order; each goes on from what the one before left, and the first from the baseline."""

    schema_version: Literal[1] = 1
    name: str = Field("small", pattern=r"^[a-z0-9][a-z0-9-]*$", description="prefix of the variants' names")
    passes: tuple[Pass, ...] = Field(min_length=1)
    seed: int = Field(0, ge=0, lt=2**63)

    @property
    def timed_option(self) -> str | None:
        """The first setting that needs costs measured on this machine, such as ``passes.1.latency``; None: none."""
        for number, step in enumerate(self.passes):
            if isinstance(step, Prune) and step.latency is not None:
                return f"passes.{number}.latency"
            if isinstance(step, Quantize) and step.only_where_faster:
                return f"passes.{number}.only_where_faster"
        return None


DEFAULT_RECIPE = Recipe(passes=(Distill(), Quantize()))
GRAPH_RECIPE = Recipe(passes=(Quantize(),))
"""The default where the baseline is no reference model: a graph, or a program from elsewhere."""


def read_recipe(path: Path | None, *, trainable: bool = True) -> Recipe:
    """The recipe in a YAML file, or the default one for a baseline that is a reference model or not.

    Raises:
        ConfigError: the file is missing or has a wrong key.
    """
    if path is not None:
        return load_yaml(Recipe, path)
    return DEFAULT_RECIPE if trainable else GRAPH_RECIPE
