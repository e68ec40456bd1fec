"""Open Inference Protocol v2: tensors in JSON and binary to work, and outcomes to tensors."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from e2e.small_served import rank_body
from rankine.errors import BadRequest, PayloadTooLarge
from rankine.models.columns import Ragged
from rankine.serving.model import ServedModel
from rankine.serving.protocols import oip_tensors
from rankine.serving.protocols.oip import Inference, OipModel, oip_models
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Outcome, join
from unit.numpy_served import as_they_are, expected_logits, numpy_model

Tensor = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def models(model: ServedModel) -> dict[str, OipModel]:
    return oip_models(model, max_candidates=20)


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> Tensor:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def rank_inputs(rows: int = 3) -> list[Tensor]:
    """The tensors of ``rank_body(rows)``."""
    return [
        tensor("ids", "INT64", [1000 + row for row in range(rows)]),
        tensor("user", "INT64", [7]),
        tensor("country", "BYTES", ["de"]),
        tensor("city", "BYTES", ["Köln"]),
        tensor("recent.values", "INT64", [1003, 1005]),
        tensor("recent.offsets", "INT32", [0, 2]),
        tensor("age", "FP32", [33.5, 1], [1, 2]),
        tensor("slot", "INT64", [row % 10 for row in range(rows)]),
        tensor("match", "FP32", [[0.5, 0.25 * (row % 7)] for row in range(rows)], [rows, 2]),
    ]


def flat_inputs(rows: int = 3) -> list[Tensor]:
    request = [
        tensor("user", "INT64", [7] * rows, [rows, 1]),
        tensor("city", "BYTES", ["Köln"] * rows),
        tensor("recent.values", "INT64", [1003, 1005] * rows),
        tensor("recent.offsets", "INT64", [2 * row for row in range(rows + 1)]),
        tensor("recent.weights", "FP32", [1.0, 0.5] * rows),
        tensor("age", "FP64", [33.5, 1] * rows, [rows, 2]),
        tensor("item", "INT32", [1000 + row for row in range(rows)]),
        tensor("tags.values", "BYTES", ["tag-1"]),
        tensor("tags.offsets", "INT32", [0, 1] + [1] * (rows - 1)),
        tensor("price", "FP32", [float(row) for row in range(rows)]),
    ]
    return [*request, *rank_inputs(rows)[-2:]]


def prepare(target: OipModel, inputs: list[Tensor], **more: Any) -> Inference:
    raw = json.dumps({"inputs": inputs, **more}).encode()
    return target.prepare(raw, header_bytes=None, arrived_s=0.0, deadline_s=float("inf"))


def binary(inputs: list[Tensor], **more: Any) -> tuple[bytes, int]:
    """The same request with binary tensors: the body and the length of its JSON."""
    chunks = []
    described = []
    for given in inputs:
        flat = np.array(given["data"], object).ravel().tolist()
        if given["datatype"] == "BYTES":
            encoded = [value.encode() for value in flat]
            chunk = b"".join(struct.pack("<I", len(value)) + value for value in encoded)
        else:
            kinds = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4", "FP64": "<f8"}
            chunk = np.array(flat, kinds[given["datatype"]]).tobytes()
        chunks.append(chunk)
        described.append(
            {key: value for key, value in given.items() if key != "data"}
            | {"parameters": {"binary_data_size": len(chunk)}}
        )
    head = json.dumps({"inputs": described, **more}).encode()
    return head + b"".join(chunks), len(head)


def test_rank_form_gives_the_same_work_as_the_rank_endpoint_when_values_are_the_same(
    model: ServedModel, models: dict[str, OipModel]
) -> None:
    ours = RankProtocol(model, max_candidates=20).prepare(
        json.dumps(rank_body(3)).encode(), arrived_s=0.0, deadline_s=float("inf"), announced=None
    )
    theirs = prepare(models["small.rank"], rank_inputs(3))
    scores = [expected_logits(join([work], as_they_are)) for work in (ours.work, theirs.work)]
    assert np.array_equal(*scores)
    assert theirs.ids == [1000, 1001, 1002]


def test_binary_tensors_give_the_same_work_as_json_when_values_are_the_same(
    model: ServedModel, models: dict[str, OipModel]
) -> None:
    raw, head = binary(rank_inputs(4))
    target = models["small.rank"]
    got = target.prepare(raw, header_bytes=head, arrived_s=0.0, deadline_s=1.0)
    wanted = prepare(target, rank_inputs(4))
    assert np.array_equal(
        expected_logits(join([got.work], as_they_are)), expected_logits(join([wanted.work], as_they_are))
    )
    assert all(spec.binary for spec in got.outputs)
    assert not any(spec.binary for spec in wanted.outputs)


def test_flat_form_has_a_request_and_an_item_a_row_when_prepared(models: dict[str, OipModel]) -> None:
    work = prepare(models["small"], flat_inputs(3)).work
    assert work.requests == 3
    assert work.request_index.tolist() == work.item_index.tolist() == [0, 1, 2]
    recent = work.request["recent"]
    assert isinstance(recent, Ragged)
    assert recent.offsets.tolist() == [0, 2, 4, 6]
    assert recent.weights is not None
    assert recent.weights.tolist() == [1.0, 0.5] * 3
    assert work.items is not None
    assert len(work.items["price"]) == 3


def test_rank_form_takes_inline_items_when_static_features_are_given(models: dict[str, OipModel]) -> None:
    inputs = [
        *rank_inputs(2),
        tensor("tags.values", "BYTES", []),
        tensor("tags.offsets", "INT32", [0, 0, 0]),
        tensor("price", "FP32", [1.0, 2.0]),
    ]
    inputs[0] = tensor("ids", "INT64", [1, 2])
    work = prepare(models["small.rank"], inputs).work
    assert work.items is not None
    assert np.asarray(work.items["item"]).tolist() == [0, 0]


def test_reply_gives_the_best_when_the_form_is_rank(models: dict[str, OipModel]) -> None:
    target = models["small.rank"]
    inference = prepare(target, rank_inputs(3), parameters={"top_k": 2}, id="abc")
    body, head = target.reply(
        inference, Outcome(np.array([[1], [3], [2]], np.float32), 0, 0, 3, 1, "", "baseline", "numpy")
    )
    reply = json.loads(body)
    assert head is None
    assert reply["id"] == "abc"
    outputs = {output["name"]: output for output in reply["outputs"]}
    assert outputs["ids"]["data"] == [1001, 1002]
    assert outputs["logits"] == {"name": "logits", "datatype": "FP32", "shape": [2], "data": [3, 2]}


def test_reply_mixes_json_and_binary_when_each_output_says_so(models: dict[str, OipModel]) -> None:
    target = models["small.rank"]
    outputs = [{"name": "ids"}, {"name": "logits", "parameters": {"binary_data": True}}]
    inference = prepare(target, rank_inputs(2), outputs=outputs)
    body, head = target.reply(inference, Outcome(np.array([[1], [3]], np.float32), 0, 0, 2, 1, "", "baseline", "numpy"))
    reply = json.loads(body[:head])
    assert [output["name"] for output in reply["outputs"]] == ["ids", "logits"]
    assert reply["outputs"][0]["data"] == [1001, 1000]
    assert np.frombuffer(body[head:], "<f4").tolist() == [3, 1]


def test_metadata_lists_ragged_features_as_their_parts_when_asked(models: dict[str, OipModel]) -> None:
    flat, rank = models["small"].metadata(), models["small.rank"].metadata()
    shapes = {given["name"]: (given["datatype"], given["shape"]) for given in flat["inputs"]}
    assert shapes["tags.values"] == ("BYTES", [-1])
    assert shapes["age"] == ("FP32", [-1, 2])
    ranked = {given["name"]: given["shape"] for given in rank["inputs"]}
    assert ranked["user"] == [1]
    assert ranked["slot"] == ranked["ids"] == [-1]


def _replace(name: str, **change: Any) -> list[Tensor]:
    return [given | change if given["name"] == name else given for given in rank_inputs()]


WRONG: dict[str, tuple[list[Tensor], str]] = {
    "unknown input": ([*rank_inputs(), tensor("usr", "INT64", [1])], "usr: unknown input.*'user'"),
    "input twice": ([*rank_inputs(), tensor("user", "INT64", [1])], "user: the input is given twice"),
    "missing input": (rank_inputs()[:-1], "match: required input is missing"),
    "missing ids": (rank_inputs()[1:], "ids: required input is missing"),
    "missing offsets": ([i for i in rank_inputs() if i["name"] != "recent.offsets"], r"recent\.offsets: required"),
    "unknown datatype": (_replace("user", datatype="INT46"), "user: unknown datatype.*INT64"),
    "datatype of another kind": (_replace("user", datatype="FP32", data=[7.5]), "user: has the wrong datatype"),
    "numbers for BYTES": (_replace("country", data=[3]), "country: holds values of the wrong type"),
    "text for numbers": (_replace("user", data=["7"]), "user: holds values of the wrong type"),
    "bool for numbers": (_replace("user", data=[True]), "user: holds values of the wrong type"),
    "shape of another size": (_replace("user", shape=[2]), "user: data does not fill the shape"),
    "wrong rows": (_replace("slot", data=[1, 2], shape=[2]), "slot: has the wrong shape"),
    "wrong width": (_replace("age", data=[1, 2, 3], shape=[1, 3]), "age: has the wrong shape"),
    "too many requests": (_replace("user", data=[1, 2], shape=[2]), "user: has the wrong shape"),
    "negative shape": (_replace("user", shape=[-1]), r"inputs\[1\]\.shape"),
    "overflow": (_replace("user", data=[2**63]), "user: a value is out of the type's range"),
    "uint64 overflow": (_replace("user", datatype="UINT64", data=[2**63]), "user: a value is out of int64"),
    "offsets not from 0": (_replace("recent.offsets", data=[1, 2]), r"recent\.offsets: offsets do not fit"),
    "offsets not to the end": (_replace("recent.offsets", data=[0, 1]), r"recent\.offsets: offsets do not fit"),
    "negative offsets": (_replace("recent.offsets", data=[0, -2]), r"recent\.offsets: offsets do not fit"),
    "too many offsets": (_replace("recent.offsets", data=[0, 1, 2], shape=[3]), r"recent\.offsets: has the wrong"),
    "long list": (_replace("recent.values", data=[1] * 21, shape=[21])[:5]
                  + _replace("recent.offsets", data=[0, 21])[5:], r"recent\.values: a list is too long"),
    "weights of another length": ([*rank_inputs(), tensor("recent.weights", "FP32", [1.0])], "one weight a value"),
    "id out of range": (_replace("slot", data=[0, 1, 99]), r"inputs\.slot: id out of range"),
    "not finite": (_replace("age", data=[1e39, 1]), r"inputs\.age: must be finite"),
    "no candidates": (_replace("ids", data=[], shape=[0]), "no rows to score"),
    "unknown item": (_replace("ids", data=[1, 1000, 1001]), r"ids\[0\]: unknown item"),
    "unevenly nested": (_replace("match", data=[[1, 2], 3, [4, 5]]), "match: data must be a list"),
    "no data": ([*rank_inputs()[:-1], {"name": "match", "datatype": "FP32", "shape": [3, 2]}], "match: has no data"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_prepare_names_the_tensor_when_it_is_wrong(models: dict[str, OipModel], name: str) -> None:
    inputs, message = WRONG[name]
    with pytest.raises(BadRequest, match=message):
        prepare(models["small.rank"], inputs)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"outputs": [{"name": "score"}]}, "score: unknown output.*'scores'"),
        ({"outputs": [{"name": "ids", "parameters": {"binary_data": 1}}]}, "ids: binary_data"),
        ({"outputs": [{"name": "ids", "parameters": {"classification": 3}}]}, "ids: classification"),
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        ({"parameters": {"top_k": 0}}, "top_k"),
        ({"inpust": []}, "inpust"),
    ],
)
def test_prepare_names_the_option_when_it_is_wrong(
    models: dict[str, OipModel], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        prepare(models["small.rank"], rank_inputs(), **more)


def _binary_cases() -> dict[str, tuple[bytes, int]]:
    raw, head = binary(rank_inputs())
    texts, text_head = binary([tensor("country", "BYTES", ["de"])])
    return {
        "cut off": (raw[:-1], head),
        "bytes left over": (raw + b"x", head),
        "head longer than the body": (raw, len(raw) + 1),
        "head cut off": (raw, head - 1),
        "text cut off": (texts[:text_head] + b"\x09\0\0\0de", text_head),
        "text not UTF-8": (texts[:text_head] + b"\x02\0\0\0\xff\xff", text_head),
        "size not a number": (raw.replace(b'"binary_data_size": 24', b'"binary_data_size": "a"', 1), head + 1),
    }


@pytest.mark.parametrize("name", _binary_cases())
def test_prepare_refuses_binary_tensors_when_they_do_not_add_up(models: dict[str, OipModel], name: str) -> None:
    raw, head = _binary_cases()[name]
    with pytest.raises(BadRequest):
        models["small.rank"].prepare(raw, header_bytes=head, arrived_s=0.0, deadline_s=1.0)


def test_prepare_refuses_when_there_are_too_many_rows(models: dict[str, OipModel]) -> None:
    with pytest.raises(PayloadTooLarge):
        prepare(models["small"], flat_inputs(21))


def test_prepare_refuses_when_json_nests_deeply_or_repeats_a_key(models: dict[str, OipModel]) -> None:
    deep = b'{"inputs": [{"name": "user", "shape": [1], "datatype": "INT64", "data": ' + b"[" * 50_000
    twice = b'{"inputs": [], "inputs": []}'
    for raw in (deep, twice):
        with pytest.raises(BadRequest):
            models["small"].prepare(raw, header_bytes=None, arrived_s=0.0, deadline_s=1.0)


def _empty_strings(count: int, shape: list[int]) -> tuple[bytes, int]:
    """``count`` empty BYTES elements, 4 bytes each, in a tensor of ``shape``."""
    parameters = {"binary_data_size": 4 * count}
    given = {"name": "tags.values", "datatype": "BYTES", "shape": shape, "parameters": parameters}
    head = json.dumps({"inputs": [given]}).encode()
    return head + bytes(4 * count), len(head)


def test_prepare_refuses_before_it_decodes_when_a_tensor_announces_too_many_values(
    models: dict[str, OipModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> list[bytes]:
        raise AssertionError("the elements were decoded")

    monkeypatch.setattr(oip_tensors, "_split_bytes", never)
    raw, head = _empty_strings(100_000, [100_000])
    with pytest.raises(PayloadTooLarge, match=r"tags\.values: too many values"):
        models["small"].prepare(raw, header_bytes=head, arrived_s=0.0, deadline_s=1.0)


@pytest.mark.parametrize("count", [3, 100_000])
def test_prepare_stops_at_the_shape_when_binary_data_goes_on(models: dict[str, OipModel], count: int) -> None:
    raw, head = _empty_strings(count, [2])
    with pytest.raises(BadRequest, match=r"tags\.values: data does not fill the shape.*more values"):
        models["small"].prepare(raw, header_bytes=head, arrived_s=0.0, deadline_s=1.0)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("BYTES", [""] * 5000), ("INT64", [0] * 5000), ("INT64", [[[0, 1]] * 50] * 50)],
)
def test_prepare_refuses_json_before_it_decodes_when_it_has_more_values_than_its_shape(
    models: dict[str, OipModel], datatype: str, data: list[Any]
) -> None:
    with pytest.raises(BadRequest, match=r"city: data does not fill the shape.*more values"):
        prepare(models["small.rank"], [tensor("city", datatype, data, [1])])


def test_prepare_refuses_when_a_request_has_too_many_values_to_decode(
    models: dict[str, OipModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oip_tensors, "_MAX_DECODED", 12)
    with pytest.raises(PayloadTooLarge, match=r"too many values in JSON and BYTES.*binary"):
        prepare(models["small.rank"], rank_inputs(3))
    raw, head = binary([given for given in rank_inputs(3) if given["name"] != "recent"])
    assert models["small.rank"].prepare(raw, header_bytes=head, arrived_s=0.0, deadline_s=1.0).work.rows == 3


@pytest.mark.parametrize(("part", "missing"), [("offsets", "values"), ("weights", "values"), ("values", "offsets")])
@pytest.mark.parametrize("name", ["recent", "tags"])
def test_prepare_names_the_missing_tensor_when_a_ragged_input_is_not_whole(
    models: dict[str, OipModel], name: str, part: str, missing: str
) -> None:
    inputs = [given for given in rank_inputs() if not given["name"].startswith(f"{name}.")]
    datatype = {"offsets": "INT32", "weights": "FP32", "values": "BYTES"}[part]
    given = tensor(f"{name}.{part}", datatype, ["x"] if part == "values" else [0, 0])
    with pytest.raises(BadRequest, match=rf"{name}\.{missing}: required input is missing"):
        prepare(models["small.rank"], [*inputs, given])


def test_prepare_takes_strings_when_they_look_like_keys(models: dict[str, OipModel]) -> None:
    for text in ('a":', " :b", ':"', "\\", '\\":'):
        inputs = [given | {"data": [text]} if given["name"] == "city" else given for given in rank_inputs()]
        assert prepare(models["small.rank"], inputs, id=text).request_id == text


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (('"data": [7]', '"data": [7], "data": [7]'), r"inputs\[1\]\.data"),
        (('"id": "x"', '"id": "a:b", "id" \n: "x"'), "id"),
        (('"top_k": 1', '"top_k": 1, "top_k":2'), r"parameters\.top_k"),
    ],
)
def test_prepare_tells_where_when_a_key_is_given_twice(
    models: dict[str, OipModel], change: tuple[str, str], where: str
) -> None:
    raw = json.dumps({"inputs": rank_inputs(), "id": "x", "parameters": {"top_k": 1}})
    twice = raw.replace(*change, 1)
    assert twice != raw
    with pytest.raises(BadRequest, match=f"^{where}: the key is given twice"):
        models["small.rank"].prepare(twice.encode(), header_bytes=None, arrived_s=0.0, deadline_s=1.0)
