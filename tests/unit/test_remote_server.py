"""Another server that runs batches: what it answers, refuses and spoils, and when it is taken in again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from rankine.models.columns import Batch
from rankine.models.schema import CategoricalFeature, DenseFeature, Identity, Schema
from rankine.serving.logs import LOGGER
from rankine.serving.protocols.batch_tensors import batch_inputs, batch_outputs, mark_of
from rankine.serving.remote.link import LinkTimeout
from rankine.serving.remote.lost import RemoteLost, RemoteMismatch
from rankine.serving.remote.server import RemoteServer
from unit.answering import Parts, answering, http_reply

SCHEMA = Schema(
    features=(
        CategoricalFeature(name="item", side="item", encoding=Identity(size=5)),
        DenseFeature(name="age", side="request"),
    ),
    item_id="item",
)
DIGEST = bytes(range(32))
INDEX = np.zeros(2, np.int32)
BATCH = Batch({"age": np.ones((1, 1), np.float32)}, {"item": np.arange(2, dtype=np.int32)}, {}, INDEX, np.arange(2))
INFER = http_reply(
    msgspec.json.encode(
        {
            "outputs": [
                {"name": "logits", "datatype": "FP32", "shape": [2, 1], "data": [0.5, -0.25]},
                {"name": "computed_by", "datatype": "UINT8", "shape": [32], "data": list(DIGEST)},
            ]
        }
    )
)


def outputs(logits: np.ndarray, digest: bytes = DIGEST, length: str | None = None) -> bytes:
    """A reply in binary; ``length`` is told instead of that of the JSON part."""
    named = (("logits", "FP32", logits), ("computed_by", "UINT8", np.frombuffer(digest, np.uint8)))
    told = [
        {"name": name, "datatype": kind, "shape": values.shape, "parameters": {"binary_data_size": values.nbytes}}
        for name, kind, values in named
    ]
    head: bytes = msgspec.json.encode({"outputs": told})
    raw = b"".join((head, *(values.tobytes() for _, _, values in named)))
    return http_reply(raw, inference_header_content_length=length or str(len(head)))


@dataclass
class There:
    """What the other server answers; tests change it while it runs."""

    metadata: bytes = json.dumps({"inputs": batch_inputs(SCHEMA), "outputs": batch_outputs(SCHEMA)}).encode()
    infer: Parts = (INFER,)
    ready: int = 200
    heads: list[bytes] = field(default_factory=list)

    def reply(self, request: bytes) -> Parts:
        self.heads.append(request.partition(b"\r\n\r\n")[0].lower())
        path = request.split()[1]
        if path.endswith(b"/infer"):
            return self.infer
        return [http_reply(b"", status=self.ready) if path.endswith(b"/ready") else http_reply(self.metadata)]


@pytest.fixture
def there() -> There:
    return There()


@pytest.fixture
def server(there: There) -> Iterator[RemoteServer]:
    with answering(there.reply) as url:
        opened = RemoteServer(url, "small.batch", SCHEMA, DIGEST, timeout_s=1.0, agree=_agree)
        yield opened
        opened.close()


def _agree(server: RemoteServer) -> None:
    """Scores are not what these tests are about."""


def run(server: RemoteServer) -> list[list[float]]:
    out = np.empty((2, 1), np.float32)
    server.run(BATCH, out)
    found: list[list[float]] = out.tolist()
    return found


def started(server: RemoteServer) -> None:
    """Started, and reached: on a busy machine not always at the first attempt."""
    server.start()
    until(lambda: server.up)


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s, "it took too long"
        time.sleep(0.01)


@pytest.mark.parametrize("reply", [INFER, outputs(np.array([[0.5], [-0.25]], np.float32))], ids=["json", "binary"])
def test_batch_runs_there_when_the_server_is_what_it_must_be(server: RemoteServer, there: There, reply: bytes) -> None:
    there.infer = [reply]
    with pytest.raises(RemoteLost, match="left out"):
        run(server)
    started(server)
    assert run(server) == [[0.5], [-0.25]]
    assert b"x-rankine-deadline-ms: 1000" in there.heads[-1]


def test_server_is_left_out_and_taken_in_again_when_it_does_not_answer_in_time(
    server: RemoteServer, there: There
) -> None:
    started(server)
    there.infer, there.ready = [INFER[:-10], *([b"x", 0.2] * 20)], 503
    begin_s = time.monotonic()
    with pytest.raises(LinkTimeout, match="in time"):
        run(server)
    assert time.monotonic() - begin_s < 3
    assert not server.up
    there.infer, there.ready = [INFER], 200
    until(lambda: server.up)
    assert run(server) == [[0.5], [-0.25]]


def test_server_stays_in_when_only_half_of_the_time_that_was_left_is_over(server: RemoteServer, there: There) -> None:
    started(server)
    there.infer = [0.6, INFER]
    server.within(0.4)
    with pytest.raises(LinkTimeout):
        run(server)
    assert server.up
    server.within(30.0)
    assert run(server) == [[0.5], [-0.25]]


def test_logits_are_refused_when_the_server_runs_what_is_not_certified(server: RemoteServer, there: There) -> None:
    started(server)
    there.infer, there.ready = [outputs(np.array([[0.5], [-0.25]], np.float32), mark_of(DIGEST, certified=False))], 503
    with pytest.raises(RemoteLost, match=r"no certificate there.*--parity"):
        run(server)
    assert not server.up
    there.ready = 200
    accepting = RemoteServer(
        server.url, "small.batch", SCHEMA, DIGEST, timeout_s=1.0, agree=_agree, allow_uncertified=True
    )
    started(accepting)
    assert run(accepting) == [[0.5], [-0.25]]
    accepting.close()


@pytest.mark.parametrize("status", [400, 429, 500, 503, 504])
def test_server_stays_in_when_it_refuses_a_batch(server: RemoteServer, there: There, status: int) -> None:
    started(server)
    there.infer = [http_reply(b"no room", status=status)]
    with pytest.raises(RemoteLost, match=f"refused a batch.*{status}: no room"):
        run(server)
    assert server.up


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_batch_is_lost_there_when_its_logits_are_not_finite(server: RemoteServer, there: There, value: float) -> None:
    started(server)
    there.infer = [outputs(np.array([[0.5], [value]], np.float32))]
    with pytest.raises(RemoteLost, match="no finite logits"):
        run(server)
    assert server.up, "the request may be at fault"


@pytest.mark.parametrize(
    "reply",
    [
        outputs(np.zeros((2, 1), np.float32), length="x"),
        outputs(np.zeros((2, 1), np.float32), length="-7"),
        outputs(np.zeros((2, 1), np.float32), length="99999999"),
        outputs(np.zeros((3, 1), np.float32)),
        outputs(np.zeros((2, 1), np.float32), digest=bytes(32)),
        http_reply(b'{"outputs":[{"name":"computed_by","datatype":"UINT8","shape":[1],"data":[300]}]}'),
        http_reply(b'{"outputs":[{"name":"a","datatype":"FP32","shape":[1],"data":' + b"[" * 99_999 + b"]}]}"),
        b"HTTP/9 what\r\n\r\n",
    ],
    ids=["length", "negative", "beyond", "rows", "variant", "value", "nested", "protocol"],
)
def test_server_is_left_out_and_taken_in_again_when_its_answer_is_none(
    server: RemoteServer, there: There, reply: bytes
) -> None:
    started(server)
    there.infer, there.ready = [reply], 503
    with pytest.raises(RemoteLost):
        run(server)
    assert not server.up
    there.infer, there.ready = [INFER], 200
    until(lambda: server.up)
    assert run(server) == [[0.5], [-0.25]]


@pytest.mark.parametrize(
    "metadata",
    [b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [Infinity]}], "outputs": []}', b"[" * 99_999, b"7"],
    ids=["infinity", "nested", "number"],
)
def test_server_is_none_of_the_protocol_when_its_metadata_make_no_sense(
    server: RemoteServer, there: There, metadata: bytes
) -> None:
    there.metadata = metadata
    with pytest.raises(RemoteMismatch, match="Open Inference Protocol"):
        server.start()


def test_server_is_tried_on_when_looking_at_it_fails_unexpectedly(
    there: There, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rankine", LOGGER.name):  # a server that ran in this process keeps its own handler
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    troubles = [ZeroDivisionError("nobody thought of it")] * 2

    def agree(server: RemoteServer) -> None:
        if troubles:
            raise troubles.pop()

    there.ready = 503
    with answering(there.reply) as url, caplog.at_level("WARNING", LOGGER.name):
        server = RemoteServer(url, "small.batch", SCHEMA, DIGEST, timeout_s=1.0, agree=agree)
        server.start()
        try:
            there.ready = 200
            until(lambda: server.up)
        finally:
            server.close()
    told = [record for record in caplog.records if record.exc_info is not None]
    assert [record.fields["error"] for record in told] == ["ZeroDivisionError: nobody thought of it"]  # type: ignore[attr-defined]
