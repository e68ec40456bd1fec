"""The exported graph equals the PyTorch module, on every installed engine that runs graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import is_ci
from engine.small_model import small_batch, small_schema
from rankine.artifact import Artifact
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.errors import EngineMissing
from rankine.models.checkpoint import load_checkpoint
from rankine.models.inputs import torch_inputs
from rankine.models.variant import BASELINE, load_model

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("rows", [1, 7, 512])
def test_exported_graph_equals_pytorch_when_rows_vary(zoo: Artifact, tmp_path: Path, engine: str, rows: int) -> None:
    try:
        compiled = compile_artifact(zoo, engines=[engine], verify_batch=small_batch(64), out=tmp_path / "compiled")
    except EngineMissing as error:
        if is_ci():
            pytest.fail(str(error))
        pytest.skip(str(error))
    checkpoint = load_model(zoo, BASELINE).checkpoint
    assert checkpoint is not None
    batch = small_batch(rows)
    with torch.inference_mode():
        expected = load_checkpoint(checkpoint)(torch_inputs(batch, small_schema(history=True))).numpy()
    out = np.empty((rows, 1), np.float32)
    runner = open_runner(compiled, BASELINE, engine)
    runner.run(batch, out)
    runner.close()
    assert (np.abs(out - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5
