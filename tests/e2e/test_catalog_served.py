"""A server reads the newest generation of a catalog, while the catalog's own verbs change it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from e2e.serve_process import start_server
from e2e.small_served import ITEMS, rank_body
from rankine.artifact import Artifact
from rankine.catalog import catalog_beside
from rankine.cli import main
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["catalog", *arguments])
    assert not ended.value.code


def test_server_ranks_what_was_upserted_when_it_starts_after_it(artifact: Artifact, tmp_path: Path) -> None:
    place = tmp_path / "own.catalog"
    shutil.copytree(catalog_beside(artifact.path), place, symlinks=True)
    twin = {"item": 7000, "tags": ["tag-3"], "price": 12.5}
    (tmp_path / "new.json").write_text(json.dumps([twin, {**twin, "item": 7001}]), encoding="utf-8")
    old = start_server(ServeConfig(artifact=artifact.path, catalog=place, port=0))
    run("upsert", str(artifact.path), "--catalog", str(place), "--items", str(tmp_path / "new.json"))
    run("delete", str(artifact.path), "1000", "--catalog", str(place))
    new = start_server(ServeConfig(artifact=artifact.path, catalog=place, port=0))
    run("compact", str(artifact.path), "--catalog", str(place))
    both = rank_body(2)
    ranked = {**both, "candidates": {**both["candidates"], "ids": [7001, 7000]}}  # type: ignore[dict-item]
    try:
        # The one holds the first generation, also after the files of that are gone; the other the third.
        assert old.ask("POST", "/v1/rank", rank_body(ITEMS)).json["generation"] == 1
        assert old.ask("POST", "/v1/rank", ranked).status == 400
        reply = new.ask("POST", "/v1/rank", ranked)
        assert reply.status == 200
        assert reply.json["generation"] == 3
        assert sorted(reply.json["ids"]) == [7000, 7001]
        gone = new.ask("POST", "/v1/rank", both)
        assert gone.status == 400
        assert "unknown item" in gone.json["error"]["message"]
    finally:
        assert old.stop() == 0
        assert new.stop() == 0
