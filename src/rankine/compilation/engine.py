"""The engine protocols: what an engine can do, how a graph is built for it, and how it runs a batch.

An engine is one file in ``engines/`` with one entry point and one capability record; it is imported when asked for.
Core code never branches on an engine's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from rankine.config import Frozen
from rankine.models.columns import Batch
from rankine.models.schema import Schema

__all__ = ["Capabilities", "Engine", "Model", "Numeric", "Runner", "Table", "Target"]

Numeric = Literal["fp32", "int8"]


class Capabilities(Frozen):
    """What an installed engine can do.

    Attributes:
        name, version: of the engine's library.
        devices: names of the devices it can open here, e.g. ``("cpu",)``.
        numerics: numeric forms it runs.
        own_int8_form: True where its INT8 form is not the canonical QDQ graph, so that its scores need a quality
            certificate of their own.
        lookups: whether it reads the tables itself; otherwise the host does.
        static_buckets: whether it needs fixed row counts.
        needs_checkpoint: whether it runs the trained PyTorch module instead of the exported graph.
        approximate: False for an engine whose FP32 results are held to the equality of scores.
    """

    name: str
    version: str
    devices: tuple[str, ...] = ("cpu",)
    numerics: tuple[Numeric, ...] = ("fp32", "int8")
    own_int8_form: bool = False
    lookups: bool = False
    static_buckets: bool = False
    needs_checkpoint: bool = False


class Target(Frozen):
    """What a graph is built for."""

    device: str = "cpu"
    instruction_set: str = "native"
    row_buckets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """An embedding table: rows of float32 or float16, or of uint8 with a scale and bias a row.

    Attributes:
        rows: ``(vocabulary, dim)`` float32, float16 or uint8.
        scale, bias: ``(vocabulary,)`` float32 for uint8 (``value = rows * scale + bias``), else None.
    """

    rows: np.ndarray
    scale: np.ndarray | None = None
    bias: np.ndarray | None = None

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.rows, self.scale, self.bias) if part is not None)

    def dequantized(self, dtype: type[np.floating] = np.float32) -> np.ndarray:
        """All rows as floats, ``(vocabulary, dim)``."""
        rows = self.rows.astype(dtype)
        if self.scale is None or self.bias is None:
            return rows
        return rows * self.scale.astype(dtype)[:, None] + self.bias.astype(dtype)[:, None]


@dataclass(frozen=True)
class Model:
    """One variant of a model, in the form that engines build from.

    Attributes:
        name: of the variant.
        schema: gives the features in the order of the graph's inputs.
        graph: ONNX file; one float32 input ``(rows, width)`` per feature, named after it; output ``logits``
            ``(rows, tasks)``. Quantized graphs are in the canonical QDQ form.
        tables: by table name (a feature's ``table``, or its own name).
        numeric: of the graph.
        checkpoint: folder with the trained PyTorch module, for engines that run it, or None.
    """

    name: str
    schema: Schema
    graph: Path
    tables: Mapping[str, Table]
    numeric: Numeric = "fp32"
    checkpoint: Path | None = None


class Runner(Protocol):
    """A graph that is open on a device. Thread-safe; releases the GIL while it computes."""

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """Write the logits of ``batch`` to ``out``, float32 ``(rows, tasks)``.

        Raises:
            BadRequest: an index or id is out of range; nothing outside a table was read.
            EngineError: the engine failed.
        """

    def close(self) -> None:
        """Free what the runner holds; it is not used afterwards."""


class Engine(Protocol):
    """An engine, as its file's entry point returns it."""

    def capabilities(self) -> Capabilities:
        """What the installed engine can do here."""

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Write the engine's own form of ``model`` into the empty ``folder``; tables are not copied there.

        Raises:
            EngineError: names the operator or type that the engine does not support.
        """

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> Runner:
        """Open what :meth:`build` wrote for ``model``."""
