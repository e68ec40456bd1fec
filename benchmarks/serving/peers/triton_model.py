"""The python backend's model: what Triton server's dynamic batcher joins runs in one call of the engine.

Runs inside Triton server's stub process, which alone has ``triton_python_backend_utils``. Tensors go over DLPack: the
backend's own arrays are of NumPy 1, and of NumPy 2 it reads sizes that are not there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from rankine.errors import RankineError
from serving.ranker import Prepared, Ranked, Ranker
from serving.wires import split_words


class TritonPythonModel:
    """Named and shaped as the python backend wants it."""

    def initialize(self, args: dict[str, str]) -> None:
        told = json.loads(json.loads(args["model_config"])["parameters"]["told"]["string_value"])
        self._ranker = Ranker(Path(told["artifact"]), Path(told["catalog"]), told["variant"], told["engine"])
        self._groups: dict[str, list[str]] = told["groups"]
        self._top_k: int = told["top_k"]
        sys.unraisablehook = _drop

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        responses: list[Any] = [None] * len(requests)
        prepared: dict[int, Prepared] = {}
        for number, request in enumerate(requests):
            try:
                prepared[number] = self._prepare(request)
            except RankineError as error:
                responses[number] = triton.InferenceResponse(error=triton.TritonError(str(error)))
        if prepared:
            ranked = self._ranker.run(list(prepared.values()))
            for (number, one), found in zip(prepared.items(), ranked, strict=True):
                responses[number] = _response(one, found)
        return responses

    def _prepare(self, request: Any) -> Prepared:
        ids = _values(request, "ids")
        features: dict[str, Any] = {}
        for tensor, names in self._groups.items():
            values = _values(request, tensor)
            plain = split_words(values.tobytes()) if tensor == "words" else values.tolist()
            features |= dict(zip(names, plain, strict=True))
        return self._ranker.prepare(features, ids, ids, min(self._top_k, len(ids)))


def _drop(unraisable: Any) -> None:
    """NumPy complains, once an output, that the backend renames capsules to a name that it does not know; that it has
    taken them is all that matters, and writing the complaint down would cost more than the output."""


def _values(request: Any, name: str) -> np.ndarray:
    return np.from_dlpack(triton.get_input_tensor_by_name(request, name))[0]


def _response(one: Prepared, ranked: Ranked) -> Any:
    ids = np.asarray(one.ids)[ranked.order]
    tensors = {"ids": ids, "scores": ranked.scores, "run_ms": np.array([ranked.run_ms], np.float32)}
    outputs = [triton.Tensor.from_dlpack(name, values[None]) for name, values in tensors.items()]
    return triton.InferenceResponse(output_tensors=outputs)
