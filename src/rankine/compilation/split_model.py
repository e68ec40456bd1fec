"""A variant in three parts, each a model that any engine builds: what is stored of an item, what is computed once a
request, and what is left for every row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rankine.artifact import read_record, sha256_of
from rankine.compilation.binding import BindingPlan, Settings, sides_of
from rankine.compilation.binding.costs import Storage
from rankine.compilation.binding.plan import pays
from rankine.compilation.product_runner import product_of
from rankine.config import Frozen
from rankine.errors import EngineError
from rankine.models.graph_inputs import GraphInput
from rankine.models.schema import Schema
from rankine.models.variant import Model

__all__ = ["LAYOUT_FILE", "PLAN_FILE", "SplitModels", "StoredValue", "open_split", "write_split"]

PLAN_FILE = "plan.json"
LAYOUT_FILE = "layout.json"
_PRODUCT_FILE = "request.npy"


class StoredValue(Frozen):
    """A value that is stored of an item: its name in a batch's items and in the catalog, and its width."""

    name: str
    width: int


class _Layout(Frozen):
    """What the parts exchange.

    Attributes:
        graphs: hash of all parts' graphs, so that no two splits have one layout.
        stored: of the catalog's graph, in the order of its output's columns.
        request_width: columns of the request graph's output; zero where there is no such graph.
        inputs: of the candidate's graph.
    """

    schema_version: Literal[1] = 1
    graphs: str
    storage: Storage
    stored: tuple[StoredValue, ...]
    request_width: int
    inputs: tuple[GraphInput, ...]


@dataclass(frozen=True)
class SplitModels:
    """A variant in parts.

    Attributes:
        catalog: gives what is stored of an item, side by side; None where nothing is.
        request: gives what a request's rows share; None where there is nothing.
        candidate: gives the logits.
        stored: the columns of ``catalog``. ``storage``: how they are stored.
        request_width: columns of ``request``.
        product: where ``request`` is one product of its features with constants, these: float32 ``(width, columns)``.
        folder: where they lie.
    """

    folder: Path
    catalog: Model | None
    request: Model | None
    candidate: Model
    stored: tuple[StoredValue, ...]
    storage: Storage
    request_width: int
    product: np.ndarray | None = None


def write_split(model: Model, settings: Settings, folder: Path) -> BindingPlan | None:
    """Split a variant into an empty folder; None, and nothing written, where it is not worth a call in parts.

    Raises:
        EngineError: the graph is of an opset whose operators mean something else, or cannot be taken apart.
    """
    import onnx

    from rankine.compilation.binding.layout import lay_out
    from rankine.compilation.binding.split import split_graph
    from rankine.models.rewrite.graph import failures

    graph = onnx.load(str(model.graph))
    try:
        split = split_graph(graph, sides_of(model.schema), settings)
        plan = split.plan
        if not pays(plan.work.before, plan.work.candidate):
            return None
        parts = lay_out(split, settings.storage)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, *failures) as error:
        raise EngineError("the graph cannot be taken apart", where=model.name, got=str(error)) from error
    for name, part in (("catalog", parts.catalog), ("request", parts.request), ("candidate", parts.candidate)):
        if part is not None:
            onnx.save(part, str(folder / f"{name}.onnx"))
    product = None if parts.request is None else product_of(parts.request)
    if product is not None:
        np.save(folder / _PRODUCT_FILE, product)
    layout = _Layout(
        graphs=_digest(folder),
        storage=settings.storage,
        stored=tuple(StoredValue(name=str(number), width=width) for number, width in enumerate(parts.stored)),
        request_width=parts.request_width,
        inputs=parts.inputs,
    )
    (folder / PLAN_FILE).write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    (folder / LAYOUT_FILE).write_text(layout.model_dump_json(indent=1), encoding="utf-8")
    return plan


def open_split(model: Model, folder: Path) -> SplitModels:
    """What :func:`write_split` wrote of ``model``.

    Raises:
        ArtifactError: the folder does not hold it.
    """
    plan, layout = read_record(folder / PLAN_FILE, BindingPlan), read_record(folder / LAYOUT_FILE, _Layout)
    late = [piece.feature for given in layout.inputs for piece in given.pieces if piece.feature is not None]
    return SplitModels(
        folder=folder,
        catalog=_part(model, folder, "catalog", plan.catalog_inputs) if layout.stored else None,
        request=_part(model, folder, "request", plan.request_inputs) if layout.request_width else None,
        candidate=_part(model, folder, "candidate", late, layout.inputs),
        stored=layout.stored,
        storage=layout.storage,
        request_width=layout.request_width,
        product=np.load(folder / _PRODUCT_FILE) if (folder / _PRODUCT_FILE).exists() else None,
    )


def _digest(folder: Path) -> str:
    """Hash of the graphs in a folder."""
    lines = [f"{path.name} {sha256_of(path)}\n" for path in sorted(folder.glob("*.onnx"))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _part(model: Model, folder: Path, name: str, features: Iterable[str], inputs: tuple[GraphInput, ...] = ()) -> Model:
    return Model(
        name=f"{model.name}.{name}",
        schema=_only(model.schema, set(features)),
        graph=folder / f"{name}.onnx",
        tables=model.tables,
        numeric=model.numeric,
        inputs=inputs,
    )


def _only(schema: Schema, names: set[str]) -> Schema:
    return schema.model_copy(update={"features": tuple(one for one in schema.features if one.name in names)})
