"""A server follows its catalog, while the catalog's own verbs change it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.serve_process import Answer, ServerProcess, start_server
from e2e.small_served import ITEMS, rank_body
from rankine.artifact import Artifact
from rankine.catalog import catalog_beside
from rankine.serving import ServeConfig
from waiting import wait_until

pytestmark = pytest.mark.e2e
NEW = {"item": 7000, "tags": ["tag-3"], "price": 12.5}


@pytest.fixture
def place(artifact: Artifact, tmp_path: Path) -> Path:
    """A catalog of this test alone."""
    own = tmp_path / "own.catalog"
    shutil.copytree(catalog_beside(artifact.path), own, symlinks=True)
    return own


def run(verb: str, artifact: Artifact, place: Path, *arguments: str) -> None:
    """A verb of ``rankine catalog``, in a process of its own."""
    command = [sys.executable, "-m", "rankine", "catalog", verb, str(artifact.path), "--catalog", str(place)]
    subprocess.run([*command, *arguments], check=True, capture_output=True)


def upsert(artifact: Artifact, place: Path, items: list[dict[str, Any]]) -> None:
    file = place.with_name("items.json")
    file.write_text(json.dumps(items), encoding="utf-8")
    run("upsert", artifact, place, "--items", str(file))


def ranked(server: ServerProcess, ids: list[int]) -> Answer:
    body: dict[str, Any] = rank_body(len(ids))
    body["candidates"]["ids"] = ids
    return server.ask("POST", "/v1/rank", body)


def score(server: ServerProcess, item: int) -> float:
    found = ranked(server, [item])
    assert found.status == 200, found.body
    return float(found.json["scores"][0])


def test_requests_see_what_was_written_when_the_server_runs(artifact: Artifact, place: Path) -> None:
    server = start_server(ServeConfig(artifact=artifact.path, catalog=place, port=0, catalog_refresh_s=0.05))
    answers: list[Answer] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(server.ask("POST", "/v1/rank", rank_body(ITEMS)))

    def generation() -> int:
        return int(ranked(server, [1001]).json["generation"])

    try:
        with ThreadPoolExecutor(2) as clients:
            asking = [clients.submit(ask) for _ in range(2)]
            before = score(server, 1001)
            assert ranked(server, [7000]).status == 400
            changed = {"item": 1001, "tags": ["tag-9", "tag-5"], "price": 900.0}
            upsert(artifact, place, [NEW, changed])
            wait_until(lambda: generation() == 2)
            after = score(server, 1001)
            assert abs(after - before) > 1e-4
            assert sorted(ranked(server, [7000, 1001]).json["ids"]) == [1001, 7000]
            assert server.ask("GET", "/v1/models/small").json["items"] == ITEMS + 1
            assert "rankine_catalog_generation 2.0" in server.ask("GET", "/metrics").body.decode()
            run("build", artifact, place)
            run("compact", artifact, place)
            run("delete", artifact, place, "7000")
            wait_until(lambda: generation() == 4)
            assert score(server, 1001) == pytest.approx(after, abs=1e-6)
            gone = ranked(server, [7000])
            assert gone.status == 400
            assert "unknown item" in gone.json["error"]["message"]
            assert f"rankine_catalog_items {ITEMS}.0" in server.ask("GET", "/metrics").body.decode()
            stop.set()
            for one in asking:
                one.result()
    finally:
        stop.set()
        assert server.stop() == 0
    assert {answer.status for answer in answers} == {200}
    seen = [int(answer.json["generation"]) for answer in answers]
    assert {1, 4} <= set(seen) <= {1, 2, 3, 4}
    assert len(answers[-1].json["ids"]) == ITEMS


def test_server_stays_with_its_generation_when_it_does_not_refresh(artifact: Artifact, place: Path) -> None:
    settings = {"artifact": artifact.path, "catalog": place, "port": 0}
    old = start_server(ServeConfig.model_validate({**settings, "catalog_refresh_s": 0}))
    upsert(artifact, place, [NEW, {**NEW, "item": 7001}])
    run("delete", artifact, place, "1000")
    new = start_server(ServeConfig.model_validate(settings))
    run("compact", artifact, place)
    try:
        # The one holds the first generation, also after the files of that are gone; the other the third.
        assert old.ask("POST", "/v1/rank", rank_body(ITEMS)).json["generation"] == 1
        assert ranked(old, [7001, 7000]).status == 400
        reply = ranked(new, [7001, 7000])
        assert reply.status == 200
        assert reply.json["generation"] == 3
        assert sorted(reply.json["ids"]) == [7000, 7001]
        gone = new.ask("POST", "/v1/rank", rank_body(2))
        assert gone.status == 400
        assert "unknown item" in gone.json["error"]["message"]
    finally:
        assert old.stop() == 0
        assert new.stop() == 0
