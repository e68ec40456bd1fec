"""Messages of gRPC: what they are made from, and what they are turned into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT, end_without
from e2e.small_served import rank_body, transforms
from rankine.errors import BadRequest, PayloadTooLarge
from rankine.models.schema import Feature
from rankine.serving.inputs import WeightedList
from rankine.serving.model import ServedModel
from rankine.serving.protocols.oip_tensors import OutputSpec
from rankine.serving.protocols.rank_body import BodyDecoder
from unit.numpy_served import numpy_model

try:
    from google.protobuf import descriptor_pb2
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import rank_message
from rankine.serving.grpc.infer_messages import body_of, response_of, tensors_of
from rankine.serving.grpc.messages import message_class
from rankine.serving.grpc.rank import given_columns
from rankine.serving.grpc.rank_columns import rows_of_column

PROTOS = ROOT / "src" / "rankine" / "serving" / "grpc" / "protos"
SCHEMA = transforms().schema
FEATURES: dict[str, Feature] = {feature.name: feature for feature in SCHEMA.features}
LIMITS = {"x": 10, "y": 10}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


def test_descriptors_are_those_of_the_proto_files_when_made_anew(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    made = tmp_path / "messages.binpb"
    names = sorted(path.name for path in PROTOS.glob("*.proto"))
    assert protoc.main(["", f"-I{PROTOS}", f"-I{_well_known()}", "--include_imports", f"-o{made}", *names]) == 0
    new, held = (descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()) for path in (made, _held()))
    assert {file.name: file for file in new.file} == {file.name: file for file in held.file}


def _held() -> Path:
    return PROTOS / "messages.binpb"


def _well_known() -> Path:
    from importlib.resources import files

    return Path(str(files("grpc_tools"))) / "_proto"


def test_fields_are_tritonclient_s_when_it_has_the_message_too() -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    files = (triton.service_pb2.DESCRIPTOR, triton.model_config_pb2.DESCRIPTOR)
    theirs = {name: message for file in files for name, message in file.message_types_by_name.items()}
    held = descriptor_pb2.FileDescriptorSet.FromString(_held().read_bytes())
    [ours] = [file for file in held.file if file.name == "inference.proto"]
    assert len(ours.message_type) > 15
    for described in ours.message_type:
        _same_fields(message_class(f"inference.{described.name}").DESCRIPTOR, theirs[described.name])


def _same_fields(ours: Any, theirs: Any) -> None:
    for field in ours.fields:
        other = theirs.fields_by_number[field.number]
        assert (field.name, field.type, field.is_repeated) == (other.name, other.type, other.is_repeated)
    for nested in ours.nested_types:
        _same_fields(nested, theirs.nested_types_by_name[nested.name])


def _request(**more: Any) -> Any:
    return message_class("inference.ModelInferRequest")(model_name="small", **more)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT32", "int_contents", [-1, 2]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -1.25]),
        ("FP64", "fp64_contents", [0.1, 1e300]),
        ("BYTES", "bytes_contents", [b"a", "Köln".encode()]),
    ],
)
def test_tensor_is_the_same_when_typed_or_raw(datatype: str, field: str, values: list[Any]) -> None:
    described = {"name": "x", "datatype": datatype, "shape": [2]}
    typed = _request(inputs=[{**described, "contents": {field: values}}])
    found = tensors_of(typed, body_of(typed), LIMITS)["x"]
    expected = [value.decode() if isinstance(value, bytes) else value for value in values]
    assert found.values.tolist() == expected
    assert (found.shape, found.datatype) == ((2,), datatype)
    if datatype == "BYTES":
        content = b"".join(len(value).to_bytes(4, "little") + value for value in values)
    else:
        content = found.values.tobytes()
    raw = _request(inputs=[described], raw_input_contents=[content])
    assert tensors_of(raw, body_of(raw), LIMITS)["x"].values.tolist() == expected


@pytest.mark.parametrize(
    ("inputs", "raws", "said"),
    [
        ([{"name": "z", "datatype": "INT32", "shape": [1]}], [], "z: unknown input"),
        ([{"name": "x", "datatype": "INT23", "shape": [0]}], [], "unknown datatype"),
        ([{"name": "x", "datatype": "INT32", "shape": [-1]}], [], "shape"),
        ([{"name": "x", "datatype": "INT32", "shape": [2]}], [], "does not fill the shape"),
        ([{"name": "x", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [1, 2]}}], [], "more values"),
        ([{"name": "x", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [300]}}], [], "out of the type"),
        ([{"name": "x", "datatype": "INT64", "shape": [1], "contents": {"int_contents": [1]}}], [], "another datatype"),
        ([{"name": "x", "datatype": "FP16", "shape": [1], "contents": {"fp32_contents": [1]}}], [], "raw_input"),
        ([{"name": "x", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"\xff"]}}], [], "UTF-8"),
        ([{"name": "x", "datatype": "INT32", "shape": [1]}], [b"\0" * 4, b""], "another number of inputs"),
        ([{"name": "x", "datatype": "INT32", "shape": [1]}], [b"\0" * 3], "cut off"),
        (
            [{"name": "x", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [1]}}], [b"\0" * 4],
            "beside raw_input_contents",
        ),
        ([{"name": "x", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [1]}}] * 2, [], "twice"),
    ],
)  # fmt: skip
def test_tensor_is_refused_when_it_is_malformed(inputs: list[Any], raws: list[bytes], said: str) -> None:
    message = _request(inputs=inputs, raw_input_contents=raws)
    with pytest.raises(BadRequest, match=said):
        tensors_of(message, body_of(message), LIMITS)


def test_tensor_is_refused_when_it_is_too_large() -> None:
    message = _request(inputs=[{"name": "x", "datatype": "INT32", "shape": [2**20, 2**20]}])
    with pytest.raises(PayloadTooLarge, match="x: too many values"):
        tensors_of(message, body_of(message), LIMITS)


def test_body_holds_parameters_and_outputs_when_they_are_given() -> None:
    message = _request(
        id="7", parameters={"top_k": {"int64_param": 3}, "final": {"bool_param": True}, "none": {}},
        outputs=[{"name": "ids"}, {"name": "scores", "parameters": {"classification": {"int64_param": 2}}}],
    )  # fmt: skip
    body = body_of(message)
    assert (body.id, body.parameters) == ("7", {"top_k": 3, "final": True})
    assert body.outputs
    assert [(output.name, output.parameters) for output in body.outputs] == [
        ("ids", {}), ("scores", {"classification": 2}),
    ]  # fmt: skip


@pytest.mark.parametrize("raw", [False, True])
def test_response_holds_values_as_they_were_asked_when_raw_or_typed(raw: bool) -> None:
    outputs: list[Any] = [
        (OutputSpec("ids", True), "BYTES", ["a", "Köln"]),
        (OutputSpec("logits", True), "FP32", np.array([[1, 2], [3, 4]], np.float32)),
    ]
    response = response_of({"model_name": "small", "model_version": "1", "id": "7"}, outputs, raw=raw)
    assert [(output.name, list(output.shape)) for output in response.outputs] == [("ids", [2]), ("logits", [2, 2])]
    if raw:
        assert response.raw_output_contents[1] == np.array([1, 2, 3, 4], "<f4").tobytes()
    else:
        assert list(response.outputs[0].contents.bytes_contents) == [b"a", "Köln".encode()]
        assert list(response.outputs[1].contents.fp32_contents) == [1, 2, 3, 4]


def _column(**fields: Any) -> Any:
    return message_class("rankine.Column")(**fields)


def _integers(*values: int) -> dict[str, list[int]]:
    return {"values": list(values)}


@pytest.mark.parametrize(
    ("feature", "column", "rows", "expected"),
    [
        ("user", {"integers": _integers(7)}, 1, [7]),
        ("country", {"texts": {"values": ["de", "nl"]}}, 2, ["de", "nl"]),
        ("price", {"floats": {"values": [0.5, 2]}}, 2, [0.5, 2.0]),
        ("match", {"floats": {"values": [1, 2, 3, 4]}}, 2, [[1.0, 2.0], [3.0, 4.0]]),
        ("recent", {"integers": _integers(1, 2)}, 1, [[1, 2]]),
        ("recent", {}, 1, [[]]),
        ("recent", {"integers": _integers(1, 2, 3), "lengths": [2, 0, 1]}, 3, [[1, 2], [], [3]]),
    ],
)
def test_column_gives_one_value_a_row_when_it_is_right(
    feature: str, column: dict[str, Any], rows: int, expected: list[Any]
) -> None:
    assert rows_of_column(FEATURES[feature], _column(**column), rows, "here") == expected


def test_column_gives_weighted_lists_when_it_has_weights() -> None:
    column = _column(integers=_integers(1, 2, 3), lengths=[1, 2], weights=[1, 0.5, 0.25])
    assert rows_of_column(FEATURES["recent"], column, 2, "here") == [
        WeightedList([1], [1.0]), WeightedList([2, 3], [0.5, 0.25]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "column", "said"),
    [
        ("user", {"texts": {"values": ["7", "8"]}}, "wrong type.*texts.*integers"),
        ("user", {}, "wrong type.*no values"),
        ("user", {"integers": _integers(7)}, "another number of values.*2, one a row"),
        ("user", {"integers": _integers(7, 8), "lengths": [1, 1]}, "neither lengths nor weights"),
        ("match", {"floats": {"values": [1, 2, 3]}}, "4, 2 a row"),
        ("country", {"texts": {"values": ["d" * 2000, ""]}}, "too long"),
        ("recent", {"integers": _integers(1)}, "lengths: has another number"),
        ("recent", {"integers": _integers(1), "lengths": [1, 1]}, "as many as the lengths say"),
        ("recent", {"integers": {"values": [1] * 5000}, "lengths": [5000, 0]}, "a list is too long"),
        ("recent", {"integers": _integers(1), "lengths": [1, 0], "weights": [1, 2]}, "weights: has another number"),
    ],
)
def test_column_is_refused_when_it_does_not_fit_its_feature(feature: str, column: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        rows_of_column(FEATURES[feature], _column(**column), 2, "here")


def test_body_is_that_of_json_when_the_same_is_sent_as_a_message(model: ServedModel) -> None:
    decoded = BodyDecoder(model.schema).decode(json.dumps(rank_body(4)).encode())
    message = rank_message(4)
    request = given_columns(message.request, FEATURES, 1, "request")
    features = given_columns(message.candidates.features, FEATURES, 4, "candidates.features")
    assert request == decoded.request
    assert features == decoded.features
    assert list(message.candidates.integers.values) == list(decoded.ids)
