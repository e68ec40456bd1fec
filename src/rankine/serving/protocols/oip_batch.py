"""The third name of a model, ``name.batch``: one batch as an engine takes it, for servers that run theirs elsewhere.

Its inputs are those of :mod:`rankine.serving.protocols.batch_tensors`; its outputs ``logits [rows, tasks]``, and
``computed_by``, the SHA-256 of what computed them (UINT8 ``[32]``), so that nobody takes the logits of another model,
or of another rung of the ladder, for those of this one; nor those of what is not certified for those of what is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rankine.certification.plan import variant_digest
from rankine.errors import BadRequest
from rankine.serving.model import ServedModel
from rankine.serving.protocols.batch_tensors import (
    BATCH_SUFFIX,
    COMPUTED_BY,
    ITEM_INDEX,
    REQUEST_INDEX,
    batch_inputs,
    batch_limits,
    batch_outputs,
    columns_of,
    index_of,
    mark_of,
    rows_of_side,
)
from rankine.serving.protocols.oip import Inference, OipModel
from rankine.serving.protocols.oip_tensors import InferBody, OutputSpec, Tensor
from rankine.serving.work import Outcome, Work

__all__ = ["BatchModel"]


class BatchModel(OipModel):
    """The form for other servers; see :class:`~rankine.serving.protocols.oip.OipModel`."""

    def __init__(self, model: ServedModel, *, max_candidates: int) -> None:
        super().__init__(model, "flat", max_candidates=max_candidates)
        self.name = f"{model.name}{BATCH_SUFFIX}"
        self.limits = batch_limits(model.schema, max_candidates)
        self._inputs, self._outputs = batch_inputs(model.schema), batch_outputs(model.schema)
        variants = {rung.variant for rung in model.rungs}
        digests = {name: bytes.fromhex(variant_digest(model.artifact, name)) for name in variants}
        self._marks = {name: mark_of(digest, certified=model.certified) for name, digest in digests.items()}

    def optional(self) -> set[str]:
        return {spec["name"] for spec in self._inputs if spec["name"].endswith(".weights")}

    def outputs(self, inference: Inference, outcome: Outcome) -> list[tuple[OutputSpec, str, np.ndarray | list[str]]]:
        mark = np.frombuffer(self._marks[outcome.variant], np.uint8)
        values: dict[str, tuple[str, np.ndarray]] = {"logits": ("FP32", outcome.logits), COMPUTED_BY: ("UINT8", mark)}
        return [(spec, *values[spec.name]) for spec in inference.outputs]

    def accept(
        self, body: InferBody, tensors: Mapping[str, Tensor], *, binary: bool, arrived_s: float, deadline_s: float
    ) -> Inference:
        schema = self._model.schema
        outputs = self._wanted(body, binary=binary)
        requests = rows_of_side(schema.request_features, tensors, REQUEST_INDEX)
        items = rows_of_side(schema.catalog_features, tensors, ITEM_INDEX)
        request_index, item_index = index_of(tensors, REQUEST_INDEX, requests), index_of(tensors, ITEM_INDEX, items)
        rows = self._check_rows(len(request_index))
        if len(item_index) != rows:
            raise BadRequest("has the wrong number of rows", where=ITEM_INDEX, got=len(item_index), allowed=str(rows))
        if (request_index[1:] < request_index[:-1]).any():
            raise BadRequest("must not decrease", where=REQUEST_INDEX, hint="Sort the rows by their request.")
        work = Work(
            columns_of(schema, schema.request_features, tensors, requests),
            columns_of(schema, schema.row_features, tensors, rows),
            columns_of(schema, schema.catalog_features, tensors, items),
            request_index,
            item_index,
            requests,
            arrived_s,
            deadline_s,
        )
        return Inference(work, None, rows, outputs, body.id if isinstance(body.id, str) else None)
