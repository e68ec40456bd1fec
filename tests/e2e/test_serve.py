"""The server as its clients and operators see it."""

from __future__ import annotations

import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from e2e.serve_process import ServerProcess, run_server, start_server
from e2e.small_served import certify_small, rank_body
from rankine.artifact import Artifact
from rankine.serving import ServeConfig
from rankine.serving.model import open_model
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.scores import sigmoid32
from rankine.serving.work import join

pytestmark = pytest.mark.e2e
RANK = "/v1/models/small/rank"


def test_rank_gives_the_runner_s_scores_when_asked(server: ServerProcess, config: ServeConfig) -> None:
    model = open_model(config)
    work = RankProtocol(model, max_candidates=500).prepare(
        json.dumps(rank_body(200)).encode(), arrived_s=0.0, deadline_s=1.0, announced=None
    ).work  # fmt: skip
    out = np.empty((200, 1), np.float32)
    model.runner.run(join([work], model.runner.complete), out)
    answer = server.ask("POST", RANK, rank_body(200, timings=True))
    assert answer.status == 200
    reply = answer.json
    order = np.argsort(-out[:, 0], kind="stable")
    assert reply["ids"] == (1000 + order).tolist()
    assert reply["scores"] == pytest.approx(sigmoid32(out[order, 0]).tolist(), rel=1e-6)
    assert reply["artifact"] == model.artifact.digest
    assert reply["timings"]["batch_rows"] == 200
    assert reply["timings"]["run_ms"] > 0
    assert answer.headers["x-request-id"] == reply["request_id"]


@pytest.mark.parametrize("path", ["/v1/rank", RANK, RANK + "/"])
def test_rank_answers_on_every_path_when_the_model_is_the_default(server: ServerProcess, path: str) -> None:
    headers = {"x-rankine-deadline-ms": "5000", "x-rankine-candidates": "4", "x-request-id": "mine"}
    answer = server.ask("POST", path, rank_body(4, top_k=2), headers)
    assert answer.status == 200
    assert len(answer.json["ids"]) == len(answer.json["scores"]) == 2
    assert answer.json["request_id"] == "mine"


def test_rank_answers_by_version_when_it_is_the_one_served(server: ServerProcess, artifact: Artifact) -> None:
    version = artifact.manifest.version
    assert server.ask("POST", f"/v1/models/small/versions/{version}/rank", rank_body(2)).status == 200
    assert server.ask("POST", "/v1/models/small/versions/0/rank", rank_body(2)).status == 404


@pytest.mark.parametrize("rows", [5, 2000])
def test_rank_takes_a_compressed_body_when_it_is_gzip(server: ServerProcess, rows: int) -> None:
    body = gzip.compress(json.dumps(rank_body(rows)).encode())
    answer = server.ask("POST", RANK, body, {"content-encoding": "gzip"})
    assert answer.status == 200
    assert len(answer.json["ids"]) == rows


def test_rank_gives_each_its_own_answer_when_requests_come_together(server: ServerProcess) -> None:
    bodies = [rank_body(3 + at, timings=True) for at in range(40)]
    alone = [server.ask("POST", RANK, body).json for body in bodies]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda body: server.ask("POST", RANK, body).json, bodies))
    for one, other in zip(alone, together, strict=True):
        assert sorted(one["ids"]) == sorted(other["ids"])
        first, second = (dict(zip(reply["ids"], reply["scores"], strict=True)) for reply in (one, other))
        assert [second[key] for key in first] == pytest.approx(list(first.values()), abs=1e-5)


@pytest.mark.parametrize(
    ("query", "where", "allowed"),
    [
        ("count=0", "query count", "1..1024"),
        ("count=1025", "query count", "1..1024"),
        ("candidates=0", "query candidates", "1..2000"),
        ("candidates=2001", "query candidates", "1..2000"),
        ("count=1024&candidates=2000", "query count", "at most 1000000 of all examples together"),
        ("seed=-1", "query seed", "0..999999999"),
    ],
)
def test_examples_are_refused_when_a_number_is_out_of_bounds(
    server: ServerProcess, query: str, where: str, allowed: str
) -> None:
    answer = server.ask("GET", f"/v1/models/small/examples?{query}")
    assert answer.status == 400
    assert (answer.json["error"]["where"], answer.json["error"]["allowed"]) == (where, allowed)


def test_examples_are_refused_when_an_option_is_given_twice(server: ServerProcess) -> None:
    answer = server.ask("GET", "/v1/models/small/examples?count=1&seed=2&count=3")
    assert answer.status == 400
    assert (answer.json["error"]["where"], answer.json["error"]["got"]) == ("query count", "1, 3")


@pytest.mark.parametrize("left_ms", ["0", "0.0001"])
def test_a_passed_deadline_is_told_in_the_same_words_when_it_passes_before_and_after_the_arrival(
    server: ServerProcess, left_ms: str
) -> None:
    answer = server.ask("POST", RANK, rank_body(3), {"x-rankine-deadline-ms": left_ms})
    assert (answer.status, answer.json["error"]["message"]) == (504, "the deadline passed before the request ran")


def test_a_whole_number_of_any_size_is_called_so_when_a_string_is_needed(server: ServerProcess) -> None:
    for country, kind in ((7, "int"), (10**30, "int"), (-(2**64), "int"), (0.5, "float"), (1e30, "float")):
        body = rank_body(3)
        body["request"] = body["request"] | {"country": country}
        error = server.ask("POST", RANK, body).json["error"]
        assert (error["where"], error["got"], error["allowed"]) == ("request.country", kind, "str")


@pytest.mark.parametrize("path", ["//", "///", "/nowhere", "/nowhere/"])
def test_error_names_the_path_when_it_is_not_there(server: ServerProcess, path: str) -> None:
    answer = server.ask("GET", path)
    assert (answer.status, answer.json["error"]["where"]) == (404, path if path.strip("/") == "" else "/nowhere")


def test_request_id_is_the_client_s_own_when_it_is_short_enough(server: ServerProcess) -> None:
    for given, kept in (("a" * 128, True), ("a" * 129, False), ("a\tb", False)):
        answer = server.ask("GET", "/v2/health/live", headers={"x-request-id": given})
        assert (answer.headers["x-request-id"] == given) is kept


def test_a_client_that_sends_all_before_it_listens_sees_413_when_its_body_is_100_mb(server: ServerProcess) -> None:
    connection = server.connect()
    body = b" " * 1_000_000
    connection.putrequest("POST", RANK)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(100 * len(body)))
    connection.endheaders()
    for _ in range(100):
        connection.send(body)
    reply = connection.getresponse()
    assert reply.status == 413
    assert json.loads(reply.read())["error"]["code"] == "payload_too_large"
    connection.close()


def test_examples_are_answered_when_sent_back(server: ServerProcess) -> None:
    answer = server.ask("GET", "/v1/models/small/examples?count=5&candidates=700&seed=3")
    examples = answer.json["examples"]
    assert len(examples) == 5
    for example in examples:
        reply = server.ask("POST", RANK, example)
        assert reply.status == 200
        assert len(reply.json["ids"]) == 700


def test_model_tells_features_and_certificate_when_asked(server: ServerProcess, artifact: Artifact) -> None:
    [listed] = server.ask("GET", "/v1/models").json["models"]
    model = server.ask("GET", "/v1/models/small").json
    assert model == listed
    assert model["artifact"] == artifact.digest
    assert model["certificate"]["verdict"] == "pass"
    sides = {feature["name"]: feature["side"] for feature in model["features"]}
    assert sides["user"] == "request"
    assert sides["slot"] == "pair"


def test_page_and_metrics_and_health_answer_when_asked(server: ServerProcess) -> None:
    page = server.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert b"curl -s http://127.0.0.1" in page.body
    assert b"lower bound" in page.body
    assert b"margin 0.001" in page.body
    server.ask("POST", RANK, rank_body(2))
    metrics = server.ask("GET", "/metrics").body.decode()
    assert 'rankine_requests_total{protocol="rank",status="200"}' in metrics
    assert "rankine_run_seconds_count" in metrics
    assert "rankine_queue_seconds_bucket" in metrics
    assert 'engine="onnxruntime"' in metrics
    assert server.ask("GET", "/v2/health/ready").json == {"ready": True}
    assert server.ask("HEAD", "/v2/health/live").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "hint"),
    [
        ("GET", "/v1/modls", 404, "/v1/models"),
        ("POST", "/v1/models/smal/rank", 404, "small"),
        ("POST", "/v1/models/small/rnk", 404, "/v1/models/small/rank"),
        ("GET", RANK, 405, "POST"),
        ("POST", "/metrics", 405, "GET"),
    ],
)
def test_error_suggests_what_was_meant_when_path_or_method_is_wrong(
    server: ServerProcess, method: str, path: str, status: int, hint: str
) -> None:
    answer = server.ask(method, path, rank_body(2) if method == "POST" else None)
    assert answer.status == status
    assert hint in json.dumps(answer.json["error"])
    if status == 405:
        assert hint in answer.headers["allow"]


def test_serve_refuses_to_start_when_nothing_is_certified(compiled: Artifact) -> None:
    process = run_server(ServeConfig(artifact=compiled.path, port=0))
    _, log = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "rankine certify" in log


def test_serve_refuses_to_start_when_the_certificate_did_not_pass(compiled: Artifact, tmp_path: Path) -> None:
    failed = certify_small(compiled, tmp_path / "small", passed=False)
    process = run_server(ServeConfig(artifact=failed.path, port=0))
    _, log = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "verdict 'fail'" in log


def test_serve_answers_and_says_so_when_uncertified_is_allowed(compiled: Artifact) -> None:
    config = ServeConfig(artifact=compiled.path, port=0, allow_uncertified=True, unknown_item="row", log_requests=True)
    server = start_server(config)
    body = rank_body(2)
    body["candidates"]["ids"] = [1000, 4]
    assert server.ask("POST", RANK, body).status == 200
    assert server.ask("GET", "/v1/models/small").json["certified"] is False
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    assert any(line["message"] == "served without a certificate" for line in lines)
    assert any(line["message"] == "request" and line["status"] == 200 for line in lines)


def test_serve_names_the_address_before_it_opens_the_model_when_it_is_taken(
    server: ServerProcess, config: ServeConfig, tmp_path: Path
) -> None:
    process = run_server(config.model_copy(update={"port": server.port, "artifact": tmp_path / "none"}))
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"127.0.0.1:{server.port}" in log


def test_serve_names_the_catalog_when_it_is_missing(artifact: Artifact, tmp_path: Path) -> None:
    process = run_server(ServeConfig(artifact=artifact.path, port=0, catalog=tmp_path / "none"))
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "catalog" in log


def test_requests_are_refused_with_retry_after_when_the_queue_is_full(artifact: Artifact, config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"max_queue_rows": 2000, "max_batch_rows": 2000, "workers": 2}))
    body = rank_body(2000)
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: server.ask("POST", RANK, body), range(120)))
    assert server.stop() == 0
    assert {answer.status for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json["error"]["code"] == "capacity"


def test_request_is_dropped_and_counted_when_its_client_leaves(config: ServeConfig) -> None:
    server = start_server(config)
    connection = server.connect()
    connection.putrequest("POST", RANK)
    connection.putheader("content-length", "1000")
    connection.endheaders(b"{")
    connection.close()
    counted = 'rankine_requests_total{protocol="rank",status="499"} 1.0'
    deadline = time.monotonic() + 10
    while counted not in server.ask("GET", "/metrics").body.decode() and time.monotonic() < deadline:
        time.sleep(0.02)
    metrics = server.ask("GET", "/metrics").body.decode()
    assert counted in metrics
    assert "rankine_queue_seconds_count" in metrics
    assert server.stop() == 0
