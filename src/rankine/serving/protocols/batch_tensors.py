"""A batch of encoded rows as tensors of the Open Inference Protocol, and back: what one server asks another to run.

Ids of table rows are INT32, normalized numbers FP32. Request features have a row a request, features of items a row an
item, all others a row a row of the batch; ``request_index`` and ``item_index``, INT32 ``[rows]``, say which row refers
to which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankine.errors import BadRequest
from rankine.models.columns import Batch, Column, Columns, Ragged, take
from rankine.models.schema import DenseFeature, Feature, RaggedFeature, Schema
from rankine.serving.inputs import longest_list
from rankine.serving.protocols.oip_columns import refuse_incomplete
from rankine.serving.protocols.oip_tensors import Tensor

__all__ = [
    "BATCH_SUFFIX",
    "COMPUTED_BY",
    "ITEM_INDEX",
    "REQUEST_INDEX",
    "batch_inputs",
    "batch_outputs",
    "batch_tensors",
    "columns_of",
    "mark_of",
]

BATCH_SUFFIX = ".batch"
"""Behind a model's name."""
REQUEST_INDEX, ITEM_INDEX = "request_index", "item_index"
COMPUTED_BY = "computed_by"
"""The output that holds the SHA-256 of what computed the logits; see :func:`mark_of`."""


def mark_of(digest: bytes, *, certified: bool) -> bytes:
    """What ``computed_by`` holds: the variant's SHA-256, or that of it and a word where not all that a server runs is
    certified, so that nobody takes its logits for certified ones.
    """
    return digest if certified else hashlib.sha256(digest + b"uncertified").digest()


def batch_inputs(schema: Schema) -> list[dict[str, Any]]:
    """Name, datatype and shape of every input."""
    index = [{"name": name, "datatype": "INT32", "shape": [-1]} for name in (REQUEST_INDEX, ITEM_INDEX)]
    return index + [spec for feature in schema.features for spec in _specs(feature, schema)]


def batch_outputs(schema: Schema) -> list[dict[str, Any]]:
    """Name, datatype and shape of every output."""
    return [
        {"name": "logits", "datatype": "FP32", "shape": [-1, len(schema.tasks)]},
        {"name": COMPUTED_BY, "datatype": "UINT8", "shape": [32]},
    ]


def batch_limits(schema: Schema, max_rows: int) -> dict[str, int]:
    """Most elements of every input."""
    found = {REQUEST_INDEX: max_rows, ITEM_INDEX: max_rows}
    for feature in schema.features:
        if isinstance(feature, RaggedFeature):
            values = max_rows * longest_list(feature)
            found |= {f"{feature.name}.values": values, f"{feature.name}.offsets": max_rows + 1}
            found |= {f"{feature.name}.weights": values} if schema.takes_weights(feature) else {}
        else:
            found[feature.name] = max_rows * (feature.width if isinstance(feature, DenseFeature) else 1)
    return found


def batch_tensors(schema: Schema, batch: Batch) -> list[tuple[str, str, np.ndarray]]:
    """Name, datatype and values of every tensor of a batch: of its items, those that its rows refer to."""
    used, item_index = np.unique(batch.item_index, return_inverse=True)
    items = take({feature.name: batch.item[feature.name] for feature in schema.catalog_features}, used)
    columns = {**batch.request, **batch.pair, **items}
    found: list[tuple[str, str, np.ndarray]] = [
        (REQUEST_INDEX, "INT32", batch.request_index),
        (ITEM_INDEX, "INT32", item_index.astype(np.int32)),
    ]
    for feature in schema.features:
        column = columns[feature.name]
        if not isinstance(column, Ragged):
            flat = not isinstance(feature, DenseFeature) or feature.width == 1
            kind = "FP32" if isinstance(feature, DenseFeature) else "INT32"
            found.append((feature.name, kind, column.reshape(-1) if flat else column))
            continue
        found.append((f"{feature.name}.values", "INT32", column.values))
        found.append((f"{feature.name}.offsets", "INT32", column.offsets))
        if column.weights is not None:
            found.append((f"{feature.name}.weights", "FP32", column.weights))
    return found


def columns_of(schema: Schema, features: Sequence[Feature], tensors: Mapping[str, Tensor], rows: int) -> Columns:
    """Encoded columns of ``features`` of ``schema``, ``(rows, ...)`` each; ids are checked where they are looked up.

    Raises:
        BadRequest: names the tensor that is missing, or whose shape or datatype is wrong; or weights of a list that the
            model takes none of.
    """
    return {feature.name: _column(schema, feature, tensors, rows) for feature in features}


def index_of(tensors: Mapping[str, Tensor], name: str, rows: int) -> np.ndarray:
    """Which row of a side every row of the batch refers to, int32 ``(n,)``.

    Args:
        rows: of that side.

    Raises:
        BadRequest: it is missing, or refers to what is not there.
    """
    found = _values(tensors, name, "INT32")
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < rows:
        got, allowed = f"{found.min()}..{found.max()}", f"0..{rows - 1}" if rows else "nothing: there is none"
        raise BadRequest("the index is out of range", where=name, got=got, allowed=allowed)
    return found


def rows_of_side(features: Sequence[Feature], tensors: Mapping[str, Tensor], index: str) -> int:
    """Rows of a side: those of its first feature; where it has none, as many as its index refers to."""
    if features:
        first = features[0]
        if isinstance(first, RaggedFeature):
            return max(0, len(_values(tensors, f"{first.name}.offsets", "INT32")) - 1)
        name = first.name
        if name not in tensors:
            raise BadRequest("required input is missing", where=name)
        return tensors[name].shape[0] if tensors[name].shape else 0
    values = _values(tensors, index, "INT32")
    return int(values.max()) + 1 if len(values) else 0


def _specs(feature: Feature, schema: Schema) -> list[dict[str, Any]]:
    if isinstance(feature, DenseFeature):
        return [
            {"name": feature.name, "datatype": "FP32", "shape": [-1] if feature.width == 1 else [-1, feature.width]}
        ]
    if not isinstance(feature, RaggedFeature):
        return [{"name": feature.name, "datatype": "INT32", "shape": [-1]}]
    parts = [("values", "INT32"), ("offsets", "INT32")]
    parts += [("weights", "FP32")] if schema.takes_weights(feature) else []
    return [{"name": f"{feature.name}.{part}", "datatype": kind, "shape": [-1]} for part, kind in parts]


def _column(schema: Schema, feature: Feature, tensors: Mapping[str, Tensor], rows: int) -> Column:
    if isinstance(feature, RaggedFeature):
        return _ragged(schema, feature, tensors, rows)
    dense = isinstance(feature, DenseFeature)
    width = feature.width if isinstance(feature, DenseFeature) else 1
    values = _values(tensors, feature.name, "FP32" if dense else "INT32")
    if tensors[feature.name].shape not in ((rows, width), (rows,) if width == 1 else (rows, width)):
        got, allowed = f"shape {list(tensors[feature.name].shape)}", str([rows] if width == 1 else [rows, width])
        raise BadRequest("has the wrong shape", where=feature.name, got=got, allowed=allowed)
    return values.reshape(rows, width) if dense else values


def _ragged(schema: Schema, feature: RaggedFeature, tensors: Mapping[str, Tensor], rows: int) -> Ragged:
    refuse_incomplete(feature, tensors)
    names = [f"{feature.name}.{part}" for part in ("values", "offsets", "weights")]
    values, offsets = (_values(tensors, name, "INT32") for name in names[:2])
    if len(offsets) != rows + 1:
        got, allowed = f"{len(offsets)} values", f"{rows + 1}, one more than rows"
        raise BadRequest("has the wrong shape", where=names[1], got=got, allowed=allowed)
    if offsets[0] != 0 or offsets[-1] != len(values) or (offsets[1:] < offsets[:-1]).any():
        allowed = f"non-decreasing from 0 to {len(values)}, the number of values"
        raise BadRequest("offsets do not fit the values", where=names[1], allowed=allowed)
    if int((offsets[1:] - offsets[:-1]).max(initial=0)) > longest_list(feature):
        raise BadRequest("a list is too long", where=names[0], allowed=f"at most {longest_list(feature)} values a row")
    if names[2] not in tensors:
        return Ragged(values, offsets)
    if not schema.takes_weights(feature):
        raise BadRequest("the model takes no weights of this list", where=names[2], hint="Give the values alone.")
    weights = _values(tensors, names[2], "FP32")
    if len(weights) != len(values):
        raise BadRequest("must have one weight a value", where=names[2], got=len(weights), allowed=str(len(values)))
    return Ragged(values, offsets, weights)


def _values(tensors: Mapping[str, Tensor], name: str, datatype: str) -> np.ndarray:
    if name not in tensors:
        raise BadRequest("required input is missing", where=name)
    if tensors[name].datatype != datatype:
        raise BadRequest("has the wrong datatype", where=name, got=tensors[name].datatype, allowed=datatype)
    values = tensors[name].values
    if datatype == "FP32" and not np.isfinite(values).all():
        raise BadRequest("must be finite", where=name, got="NaN or infinity")
    return values
