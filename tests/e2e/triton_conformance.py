"""``tritonclient`` in all its forms against any served model: HTTP and gRPC, sync and asyncio, flat rows too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from conftest import end_without
from e2e.serve_process import ServerProcess
from rankine.models.columns import Columns, Ragged
from rankine.models.schema import DenseFeature, Feature, RaggedFeature, Schema

try:
    import tritonclient.grpc as over_grpc
    import tritonclient.grpc.aio as over_grpc_async
    import tritonclient.http as over_http
    import tritonclient.http.aio as over_http_async
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import grpc_address

__all__ = ["check_tritonclient"]

Tensors = list[tuple[str, np.ndarray]]


def check_tritonclient(
    server: ServerProcess, name: str, schema: Schema, items: Columns, body: Mapping[str, Any], reply: Mapping[str, Any]
) -> None:
    """Every client gives the scores of the rank endpoint's ``reply`` to ``body``.

    Args:
        items: raw static features of the body's candidates, in their order.
    """
    ids = body["candidates"]["ids"]
    scores = dict(zip(reply["ids"], reply["scores"], strict=True))
    ranked = [("ids", np.array(ids)), *_request(schema, body, 1), *_pair(schema, body)]
    flat = [*_request(schema, body, len(ids)), *_pair(schema, body)]
    flat += [tensor for feature in schema.catalog_features for tensor in _tensors(feature, items[feature.name])]
    for result in _answers(server, f"{name}.rank", ranked):
        assert dict(zip(result.as_numpy("ids").tolist(), result.as_numpy("scores"), strict=True)) == pytest.approx(
            scores, abs=1e-5
        )
    for result in _answers(server, name, flat):
        assert result.as_numpy("scores").tolist() == pytest.approx([scores[item] for item in ids], abs=1e-5)


def _answers(server: ServerProcess, name: str, tensors: Tensors) -> list[Any]:
    """What each of the four clients gets."""
    plain = ((over_http, f"127.0.0.1:{server.port}"), (over_grpc, grpc_address(server)))
    results = []
    for library, address in plain:
        client = library.InferenceServerClient(address)
        results.append(client.infer(name, _inputs(library, tensors)))
        client.close()

    async def ask() -> list[Any]:
        found = []
        for library, forms, address in (
            (over_http_async, over_http, plain[0][1]),
            (over_grpc_async, over_grpc, plain[1][1]),
        ):
            async with library.InferenceServerClient(address) as client:
                found.append(await client.infer(name, _inputs(forms, tensors)))
        return found

    return results + asyncio.run(ask())


def _inputs(library: Any, tensors: Tensors) -> list[Any]:
    made = []
    for name, values in tensors:
        datatype = {"i": "INT32" if values.dtype == np.int32 else "INT64", "f": "FP32"}.get(values.dtype.kind, "BYTES")
        made.append(library.InferInput(name, list(values.shape), datatype))
        made[-1].set_data_from_numpy(values)
    return made


def _request(schema: Schema, body: Mapping[str, Any], rows: int) -> Tensors:
    """The request's features, said again for each of ``rows``."""
    given = body.get("request", {})
    named = [feature for feature in schema.request_features if feature.name in given]
    return [tensor for feature in named for tensor in _tensors(feature, _column(feature, [given[feature.name]] * rows))]


def _pair(schema: Schema, body: Mapping[str, Any]) -> Tensors:
    given = body["candidates"].get("features", {})
    named = [feature for feature in schema.row_features if feature.name in given]
    return [tensor for feature in named for tensor in _tensors(feature, _column(feature, given[feature.name]))]


def _column(feature: Feature, values: Sequence[Any]) -> Any:
    if isinstance(feature, DenseFeature):
        return np.array(values, np.float32).reshape(len(values), -1)
    dtype = np.dtype(np.int64 if feature.dtype == "int64" else "S64")
    return Ragged.from_lists(values, dtype) if isinstance(feature, RaggedFeature) else np.array(values, dtype)


def _tensors(feature: Feature, column: Any) -> Tensors:
    if isinstance(column, Ragged):
        parts = [(f"{feature.name}.values", _plain(column.values)), (f"{feature.name}.offsets", column.offsets)]
        return parts if column.weights is None else [*parts, (f"{feature.name}.weights", column.weights)]
    if isinstance(feature, DenseFeature):
        return [(feature.name, np.asarray(column, np.float32).reshape(len(column), feature.width))]
    return [(feature.name, _plain(np.asarray(column)))]


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64) if values.dtype.kind in "iu" else values.astype(np.object_)
