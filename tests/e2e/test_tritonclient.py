"""``tritonclient.http``, as it comes, against the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conftest import end_without
from e2e.history_served import history_body, raw_batch
from e2e.history_served import items as history_items
from e2e.serve_process import ServerProcess
from e2e.triton_inputs import ROWS, flat_values, rank_values, ranked

try:
    import tritonclient.http as triton
except ModuleNotFoundError as error:
    end_without(str(error))

pytestmark = pytest.mark.e2e
ROWS_OF_HISTORIES = 40


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield made
    made.close()


def _input(name: str, datatype: str, values: np.ndarray, binary: bool) -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def _inputs(values: list[tuple[str, str, np.ndarray]], binary: bool) -> list[Any]:
    return [_input(name, datatype, array, binary) for name, datatype, array in values]


def test_metadata_and_health_are_read_when_asked(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.is_model_ready("small.rank")
    assert not client.is_model_ready("large")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("small.rank")
    assert metadata["inputs"][0] == {"name": "ids", "datatype": "INT64", "shape": [-1]}
    assert [output["name"] for output in metadata["outputs"]] == ["ids", "scores", "logits"]
    version = metadata["versions"][0]
    assert client.get_model_metadata("small", version)["name"] == "small"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_rank_form_agrees_with_the_rank_endpoint_when_asked(
    server: ServerProcess, client: Any, binary: bool, named: bool
) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("scores", "ids")] if named else None
    result = client.infer(
        "small.rank", _inputs(rank_values(), binary), outputs=wanted, request_id="r1", parameters={"top_k": 20}
    )
    expected = ranked(server)
    assert result.as_numpy("ids").tolist() == list(expected)[:20]
    assert result.as_numpy("scores").tolist() == pytest.approx(list(expected.values())[:20], abs=1e-6)
    assert result.get_response()["id"] == "r1"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_flat_form_agrees_with_the_rank_endpoint_when_bodies_are_packed(
    server: ServerProcess, client: Any, binary: bool, packing: str | None
) -> None:
    result = client.infer(
        "small",
        _inputs(flat_values(), binary),
        request_compression_algorithm=packing,
        response_compression_algorithm=packing,
    )
    expected = ranked(server)
    scores = dict(zip(range(1000, 1000 + ROWS), result.as_numpy("scores").tolist(), strict=True))
    assert [scores[item] for item in expected] == pytest.approx(list(expected.values()), abs=1e-6)
    assert result.as_numpy("logits").dtype == np.float32


def test_error_is_a_text_with_a_status_when_an_input_is_wrong(client: Any) -> None:
    inputs = _inputs(rank_values(), True)[:-1]
    with pytest.raises(Exception, match="match: required input is missing") as caught:
        client.infer("small.rank", inputs)
    assert caught.value.status() == "400"


def test_error_body_has_the_protocol_s_form_when_the_model_is_unknown(server: ServerProcess) -> None:
    answer = server.ask("POST", "/v2/models/large/infer", {"inputs": []})
    assert answer.status == 404
    assert isinstance(json.loads(answer.body)["error"], str)


def _ragged_inputs(name: str, datatype: str, column: Any, binary: bool) -> list[Any]:
    values = column.values.astype(np.object_) if datatype == "BYTES" else column.values
    inputs = [
        _input(f"{name}.values", datatype, values, binary),
        _input(f"{name}.offsets", "INT32", column.offsets, binary),
    ]
    if column.weights is not None:
        inputs.append(_input(f"{name}.weights", "FP32", column.weights, binary))
    return inputs


def _history_inputs(binary: bool, history: list[int], *, flat: bool) -> list[Any]:
    """The tensors of ``history_body(ROWS_OF_HISTORIES)`` with another history, as one request or as flat rows."""
    request, pair = raw_batch(ROWS_OF_HISTORIES, history)
    row = np.arange(ROWS_OF_HISTORIES)
    copies: Any = dict(request)
    if flat:
        each = np.zeros(ROWS_OF_HISTORIES, np.int32)
        copies = {name: column.take(each) for name, column in request.items()}
        catalog: Any = history_items()
        inputs = [_input("item", "INT64", 100 + row, binary)]
        inputs += _ragged_inputs("tags", "BYTES", catalog["tags"].take(row), binary)
    else:
        inputs = [_input("ids", "INT64", 100 + row, binary)]
    inputs.append(_input("user", "INT64", copies["user"], binary))
    inputs += _ragged_inputs("history", "INT64", copies["history"], binary)
    inputs += _ragged_inputs("interests", "BYTES", copies["interests"], binary)
    inputs += _ragged_inputs("context", "INT64", pair["context"], binary)
    inputs.append(_input("match", "FP32", np.asarray(pair["match"]), binary))
    return inputs


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("history", [[103, 101, 140], [], [100 + at % 60 for at in range(500)]])
def test_both_forms_agree_with_the_rank_endpoint_when_features_are_ragged(
    history_server: ServerProcess, binary: bool, history: list[int]
) -> None:
    body: Any = history_body(ROWS_OF_HISTORIES)
    body["request"]["history"] = history
    expected = history_server.ask("POST", "/v1/rank", body).json
    client = triton.InferenceServerClient(f"127.0.0.1:{history_server.port}")
    ranked = client.infer("history.rank", _history_inputs(binary, history, flat=False), parameters={"top_k": 9})
    flat = client.infer("history", _history_inputs(binary, history, flat=True))
    client.close()
    assert ranked.as_numpy("ids").tolist() == expected["ids"][:9]
    assert ranked.as_numpy("logits").shape == (9, 2)
    assert flat.as_numpy("logits").shape == (ROWS_OF_HISTORIES, 2)
    rows = np.array(expected["ids"]) - 100
    for output, wanted in (
        ("scores", expected["scores"]),
        ("scores.ctr", expected["tasks"]["ctr"]),
        ("scores.cvr", expected["tasks"]["cvr"]),
    ):
        assert ranked.as_numpy(output).tolist() == pytest.approx(wanted[:9], abs=1e-6)
        assert flat.as_numpy(output)[rows].tolist() == pytest.approx(wanted, abs=1e-6)
