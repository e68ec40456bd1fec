"""Open Inference Protocol v2 (KServe, Triton Inference Server) over one model, under three names.

``name`` scores flat rows: every raw feature is a tensor ``[N]`` or ``[N, width]``. ``name.rank`` ranks one request:
request features are ``[1]`` or ``[1, width]``, ``ids`` and candidate features ``[N]`` or ``[N, width]``, and the
reply is the ``top_k`` (a parameter of the request) best. A ragged feature ``x`` is ``x.values``, ``x.offsets`` and
optionally ``x.weights``; strings are BYTES. ``scores`` are what candidates are sorted by; a model of several tasks also
has an output ``scores.<task>`` for each. ``name.batch`` is for other servers, see
:mod:`rankine.serving.protocols.oip_batch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from msgspec import UNSET

from rankine.errors import BadRequest, PayloadTooLarge, did_you_mean
from rankine.models.columns import Column, Columns
from rankine.models.schema import DenseFeature, Feature, RaggedFeature
from rankine.serving.inputs import default_column, encode, longest_list
from rankine.serving.items import Items
from rankine.serving.model import ServedModel
from rankine.serving.protocols.oip_columns import (
    column_from_tensors,
    ids_from_tensor,
    refuse_incomplete,
    rows_of_tensors,
)
from rankine.serving.protocols.oip_tensors import InferBody, OutputSpec, Tensor, decode_infer, encode_outputs
from rankine.serving.scores import Scorer
from rankine.serving.work import Outcome, Work

__all__ = ["Inference", "OipModel", "oip_models"]

_RAGGED_PARTS = ("values", "offsets", "weights")
_IDS = "ids"
_SLACK = 2
"""A tensor may have this many values too many, so that checks of shapes can say in their own words what is wrong."""


@dataclass(frozen=True, slots=True)
class Inference:
    """An inference request that is ready to run, and what its reply needs."""

    work: Work
    ids: list[Any] | None
    top_k: int
    outputs: tuple[OutputSpec, ...]
    request_id: str | None


def oip_models(model: ServedModel, *, max_candidates: int) -> dict[str, OipModel]:
    """All forms by name."""
    from rankine.serving.protocols.oip_batch import BatchModel

    flat = OipModel(model, "flat", max_candidates=max_candidates)
    rank = OipModel(model, "rank", max_candidates=max_candidates)
    batch = BatchModel(model, max_candidates=max_candidates)
    return {form.name: form for form in (flat, rank, batch)}


class OipModel:
    """One of the two forms: its metadata, and inference requests to work and back.

    Attributes:
        limits: most elements of each input, by name.
    """

    def __init__(self, model: ServedModel, form: Literal["flat", "rank"], *, max_candidates: int) -> None:
        self._model = model
        self._form = form
        self._max_candidates = max_candidates
        self.name = model.name if form == "flat" else f"{model.name}.rank"
        schema, tasks = model.schema, model.schema.task_names
        self._scorer = Scorer(schema)
        self._inputs = [spec for feature in schema.features for spec in self._input_specs(feature)]
        self.limits = {name: limit for feature in schema.features for name, limit in self._limits_of(feature)}
        id_type = "INT64" if schema.item_id_dtype == "int64" else "BYTES"
        self._outputs = [
            {"name": "scores", "datatype": "FP32", "shape": [-1]},
            {"name": "logits", "datatype": "FP32", "shape": [-1, len(tasks)] if len(tasks) > 1 else [-1]},
        ]
        if len(tasks) > 1:
            self._outputs += [{"name": f"scores.{task}", "datatype": "FP32", "shape": [-1]} for task in tasks]
        if form == "rank":
            self.limits[_IDS] = max_candidates + _SLACK
            self._inputs.insert(0, {"name": _IDS, "datatype": id_type, "shape": [-1]})
            self._outputs.insert(0, {"name": _IDS, "datatype": id_type, "shape": [-1]})

    def metadata(self) -> dict[str, Any]:
        """The model metadata response."""
        return {
            "name": self.name,
            "versions": [self._model.version],
            "platform": f"rankine_{self._model.choice.engine}",
            "inputs": self._inputs,
            "outputs": self._outputs,
        }

    def optional(self) -> set[str]:
        """Names of the inputs that a request may leave out."""
        schema = self._model.schema
        given = schema.catalog_features if self._form == "rank" else ()
        free = [feature for feature in schema.features if feature.default is not None or feature in given]
        names = {spec["name"] for feature in free for spec in self._input_specs(feature)}
        return names | {spec["name"] for spec in self._inputs if spec["name"].endswith(".weights")}

    def prepare(self, raw: bytes, *, header_bytes: int | None, arrived_s: float, deadline_s: float) -> Inference:
        """Parse, check and encode an inference request.

        Raises:
            BadRequest: names the tensor that is wrong.
            PayloadTooLarge: too many rows.
        """
        body, tensors = decode_infer(raw, header_bytes, self.limits)
        return self.accept(body, tensors, binary=header_bytes is not None, arrived_s=arrived_s, deadline_s=deadline_s)

    def accept(
        self, body: InferBody, tensors: Mapping[str, Tensor], *, binary: bool, arrived_s: float, deadline_s: float
    ) -> Inference:
        """Check and encode a request that is parsed.

        Args:
            tensors: the inputs of ``body``, each no larger than :attr:`limits` say.
            binary: outputs are in binary, where the request does not say.

        Raises:
            BadRequest, PayloadTooLarge: as :meth:`prepare`.
        """
        for feature in self._model.schema.features:
            if isinstance(feature, RaggedFeature):
                refuse_incomplete(feature, tensors)
        outputs = self._wanted(body, binary=binary)
        request_id = None if body.id is UNSET else str(body.id)
        if self._form == "flat":
            work = self._flat(tensors, arrived_s, deadline_s)
            return Inference(work, None, work.rows, outputs, request_id)
        ids, work = self._rank(tensors, arrived_s, deadline_s)
        return Inference(work, ids, _top_k(body, work.rows), outputs, request_id)

    def reply(self, inference: Inference, outcome: Outcome) -> tuple[bytes, int | None]:
        """The reply's body, and the length of its JSON part where binary tensors follow.

        Raises:
            BadRequest: the ranking has no finite value for a row.
        """
        head: dict[str, Any] = {"model_name": self.name, "model_version": self._model.version}
        if inference.request_id is not None:
            head["id"] = inference.request_id
        return encode_outputs(head, self.outputs(inference, outcome))

    def outputs(self, inference: Inference, outcome: Outcome) -> list[tuple[OutputSpec, str, np.ndarray | list[str]]]:
        """The outputs that are wanted: spec, datatype and values of each (a list of strings for BYTES).

        Raises:
            BadRequest: the ranking has no finite value for a row.
        """
        logits = outcome.logits
        values: dict[str, tuple[str, np.ndarray | list[str]]] = {}
        if inference.ids is None:
            scores = self._scorer.scores(logits)
        else:
            order, scores = self._scorer.best(logits, inference.top_k)
            logits = logits[order]
            best = [inference.ids[at] for at in order.tolist()]
            is_text = self._model.schema.item_id_dtype == "string"
            values[_IDS] = ("BYTES", best) if is_text else ("INT64", np.array(best, np.int64))
        values |= {"scores": ("FP32", scores.ranking), "logits": ("FP32", logits if scores.tasks else logits[:, 0])}
        values |= {f"scores.{task}": ("FP32", of_task) for task, of_task in scores.tasks.items()}
        return [(spec, *values[spec.name]) for spec in inference.outputs]

    def _flat(self, tensors: Mapping[str, Tensor], arrived_s: float, deadline_s: float) -> Work:
        schema = self._model.schema
        rows = self._check_rows(rows_of_tensors(schema.features, tensors))
        request = self._columns(schema.request_features, tensors, rows)
        items = self._columns(schema.catalog_features, tensors, rows)
        pair = self._columns(schema.row_features, tensors, rows)
        index = np.arange(rows, dtype=np.int32)
        return Work(request, pair, items, index, index, rows, arrived_s, deadline_s)

    def _rank(self, tensors: Mapping[str, Tensor], arrived_s: float, deadline_s: float) -> tuple[list[Any], Work]:
        schema = self._model.schema
        if _IDS not in tensors:
            raise BadRequest("required input is missing", where=_IDS, hint="It holds the items to be ranked.")
        ids, known = ids_from_tensor(tensors[_IDS], schema.item_id_dtype)
        rows = self._check_rows(len(ids))
        request = self._columns(schema.request_features, tensors, 1)
        pair = self._columns(schema.row_features, tensors, rows)
        if any(_is_given(feature, tensors) for feature in schema.catalog_features):
            tensors = {schema.item_id: _renamed(tensors[_IDS], schema.item_id), **tensors}
            items: Items | Columns = self._columns(schema.catalog_features, tensors, rows)
            item_index = np.arange(rows, dtype=np.int32)
        else:
            items, item_index = self._model.find(self._model.items, known, _IDS)
        return ids, Work(request, pair, items, np.zeros(rows, np.int32), item_index, 1, arrived_s, deadline_s)

    def _check_rows(self, rows: int) -> int:
        if rows == 0:
            raise BadRequest("there are no rows to score", where="inputs")
        if rows > self._max_candidates:
            allowed = f"at most {self._max_candidates}"
            raise PayloadTooLarge("too many rows", where="inputs", got=rows, allowed=allowed)
        return rows

    def _columns(self, features: tuple[Feature, ...], tensors: Mapping[str, Tensor], rows: int) -> Columns:
        columns: dict[str, Column] = {}
        for feature in features:
            column = column_from_tensors(feature, tensors, rows)
            column = default_column(feature, rows) if column is None else column
            if column is None:
                raise BadRequest("required input is missing", where=_main_tensor(feature))
            columns[feature.name] = column
        return encode(self._model.transforms, features, columns, "inputs")

    def _wanted(self, body: InferBody, *, binary: bool) -> tuple[OutputSpec, ...]:
        names = [str(spec["name"]) for spec in self._outputs]
        parameters = body.parameters or {}
        default = parameters.get("binary_data_output", binary)
        if not isinstance(default, bool):
            raise BadRequest("must be true or false", where="parameters.binary_data_output", got=repr(default))
        if body.outputs is UNSET or not body.outputs:
            return tuple(OutputSpec(name, default) for name in names)
        specs = []
        for output in body.outputs:
            if output.name not in names:
                raise BadRequest("unknown output", where=output.name, hint=did_you_mean(output.name, names))
            wanted = output.parameters or {}
            as_binary = wanted.get("binary_data", parameters.get("binary_data_output", False))
            if not isinstance(as_binary, bool):
                raise BadRequest("binary_data must be true or false", where=output.name, got=repr(as_binary))
            if wanted.get("classification"):
                raise BadRequest(
                    "classification is not offered", where=output.name, hint="Use the .rank model's top_k."
                )
            specs.append(OutputSpec(output.name, as_binary))
        return tuple(specs)

    def _limits_of(self, feature: Feature) -> list[tuple[str, int]]:
        """Most elements of each of a feature's tensors."""
        rows = 1 if self._form == "rank" and feature.side == "request" else self._max_candidates
        if isinstance(feature, RaggedFeature):
            values = rows * longest_list(feature) + _SLACK
            parts = {"values": values, "offsets": rows + 1 + _SLACK, "weights": values}
            return [(f"{feature.name}.{part}", limit) for part, limit in parts.items()]
        width = feature.width if isinstance(feature, DenseFeature) else 1
        return [(feature.name, rows * width + _SLACK)]

    def _input_specs(self, feature: Feature) -> list[dict[str, Any]]:
        rows = 1 if self._form == "rank" and feature.side == "request" else -1
        if isinstance(feature, DenseFeature):
            shape = [rows] if feature.width == 1 else [rows, feature.width]
            return [{"name": feature.name, "datatype": "FP32", "shape": shape}]
        datatype = "INT64" if feature.dtype == "int64" else "BYTES"
        if isinstance(feature, RaggedFeature):
            offsets = 2 if rows == 1 else -1
            parts: list[tuple[str, str, int]] = [("values", datatype, -1), ("offsets", "INT32", offsets)]
            parts += [("weights", "FP32", -1)] if self._model.schema.takes_weights(feature) else []
            return [{"name": f"{feature.name}.{part}", "datatype": kind, "shape": [n]} for part, kind, n in parts]
        return [{"name": feature.name, "datatype": datatype, "shape": [rows]}]


def _main_tensor(feature: Feature) -> str:
    return f"{feature.name}.values" if isinstance(feature, RaggedFeature) else feature.name


def _is_given(feature: Feature, tensors: Mapping[str, Tensor]) -> bool:
    """Whether any tensor of the feature is there; one that is not whole is refused where it is read."""
    return any(name in tensors for name in (feature.name, *(f"{feature.name}.{part}" for part in _RAGGED_PARTS)))


def _renamed(tensor: Tensor, name: str) -> Tensor:
    return Tensor(name, tensor.datatype, tensor.shape, tensor.values)


def _top_k(body: InferBody, rows: int) -> int:
    top_k = (body.parameters or {}).get("top_k", rows)
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise BadRequest("must be a whole number of at least 1", where="parameters.top_k", got=repr(top_k))
    return min(top_k, rows)
