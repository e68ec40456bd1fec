"""Serving needs its small core only: whoever serves has neither the libraries that train nor those that export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.small_served import write_small_artifact, write_small_catalog
from engine.installed import installed_engine

pytestmark = pytest.mark.engine

_PROGRAM = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "openvino", "pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())

from pathlib import Path
from time import perf_counter
import numpy as np
import rankine.serving.server
from rankine.serving import ServeConfig
from rankine.serving.examples import example_bodies
from rankine.serving.model import open_model
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import join

config = ServeConfig(artifact=Path(sys.argv[1]), engine=sys.argv[2], allow_uncertified=True)
model = open_model(config)
[body] = example_bodies(model, count=1, candidates=7, seed=0, max_candidates=10)
protocol = RankProtocol(model, max_candidates=10)
work = protocol.prepare(json.dumps(body).encode(), arrived_s=0.0, deadline_s=1.0, announced=None).work
out = np.empty((7, 1), np.float32)
model.runner.run(join([work], model.runner.complete), out)
print(json.dumps(out[:, 0].tolist()))
"""


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_serving_opens_and_scores_when_training_libraries_are_not_installed(engine: str, tmp_path: Path) -> None:
    installed_engine(engine)
    write_small_catalog(tmp_path / "small")
    write_small_artifact(tmp_path / "small", engine)
    source = Path(__file__).resolve().parents[2] / "src"
    paths = [str(source), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "small"), engine],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(",") == 6
