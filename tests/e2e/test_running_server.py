"""The server that the demonstration starts for each contestant."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.request import urlopen

import pytest

from rankine.artifact import Artifact
from rankine.catalog import catalog_beside
from rankine.demo.servers import running_server
from rankine.errors import EngineError

pytestmark = pytest.mark.e2e
CORES = sorted(os.sched_getaffinity(0))[:1]


@pytest.mark.parametrize(("split", "form"), [(False, "whole"), (True, "parts")])
def test_server_runs_the_form_that_was_asked_for_when_the_variant_has_parts(
    artifact: Artifact, split: bool, form: str
) -> None:
    started = running_server(
        artifact.path,
        variant="baseline",
        engine="onnxruntime",
        catalog=catalog_beside(artifact.path),
        cores=CORES,
        certified=True,
        split=split,
    )
    with started as url, urlopen(f"{url}/v1/models/small") as reply:
        assert json.load(reply)["form"] == form


def test_server_tells_its_last_lines_when_it_cannot_start(artifact: Artifact, tmp_path: Path) -> None:
    started = running_server(
        artifact.path,
        variant="baseline",
        engine="onnxruntime",
        catalog=tmp_path / "none",
        cores=CORES,
        certified=True,
    )
    with pytest.raises(EngineError, match="the artifact's catalog is not there"), started:
        pass
