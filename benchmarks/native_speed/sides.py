"""What is raced: engines on the canonical forms, PyTorch eager, and OpenVINO's best INT8 form, made by NNCF.

Every side begins with the ids of a batch: engines that do not look up themselves get the host's lookup. A side is held
to the float64 reference before it is timed; NNCF's, which rounds on its own, to the scores of FP32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from native_speed.record import Failure, Side
from native_speed.shapes import Forms
from rankine.compilation.engine import Model, Runner, Target
from rankine.compilation.engines import installed, load_engine
from rankine.compilation.pack_inputs import packed_graph
from rankine.compilation.verify import reference_logits, verify
from rankine.errors import EngineError, EngineMissing, RankineError
from rankine.models.columns import Batch

ENGINES = ("onnxruntime", "openvino", "native")
_NNCF_ROWS = 64
"""Rows a calibration batch; its graph is quantized on 2,048 rows like the canonical one."""
_NNCF_SCORE_LIMIT = 0.05
"""Mean difference of a score: what is further away computes something else. Quality is none of random weights."""
_NNCF_FOLDER = "openvino-nncf"
_LINEAR = ("FullyConnected", "MatMul", "Convolution")


@dataclass
class Opened:
    """Sides that are open, in the order in which they were asked for, and those that could not be."""

    model: str
    runners: dict[Side, Runner]
    failures: list[Failure]

    def add(self, side: Side, opened: Callable[[], Runner]) -> None:
        """Open a side, or keep why it cannot be."""
        try:
            self.runners[side] = opened()
        except RankineError as error:
            print(f"{self.model}: {side.label}: {error}", flush=True)
            told = error.as_dict()  # without the place, which is a folder that is gone
            text = " ".join(f"{told['message']}: {told.get('got', '')}".split())
            self.failures.append(Failure(model=self.model, side=side, error=text))

    def close(self) -> None:
        for runner in self.runners.values():
            runner.close()


def engines() -> list[str]:
    """Those of the raced engines that are installed; the others are told."""
    known = dict(installed())
    missing = [name for name in ENGINES if isinstance(known.get(name, EngineMissing("unknown")), EngineMissing)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", flush=True)
    return [name for name in ENGINES if name not in missing]


def open_engine(name: str, model: Model, folder: Path, batch: Batch) -> Runner:
    """Build a model for an engine in a new folder, open it, and hold it to the reference.

    Raises:
        EngineError: the engine does not run the graph, or computes something else.
    """
    into = folder / f"{name}-{model.numeric}"
    into.mkdir()
    load_engine(name).build(model, Target(), into)
    runner = load_engine(name).open(model, into)
    verify(model, runner, batch)
    return runner


def open_nncf(forms: Forms, folder: Path, batch: Batch) -> Runner:
    """OpenVINO on the graph that NNCF quantized: all of it that can be INT8, cross layers and their sums included.

    Raises:
        EngineError: the scores are not those of FP32 by far.
    """
    into = folder / _NNCF_FOLDER
    into.mkdir()
    model = replace(forms.int8, graph=into / "nncf.onnx")
    onnx.save(_quantized(forms), model.graph)
    load_engine("openvino").build(model, Target(), into)
    runner = load_engine("openvino").open(model, into)
    difference = float(_score_differences(runner, forms, batch).mean())
    if not difference <= _NNCF_SCORE_LIMIT:
        got, allowed = f"{difference:.3g} on average", f"{_NNCF_SCORE_LIMIT:g}"
        raise EngineError("NNCF's form gives other scores", where=forms.shape.name, got=got, allowed=allowed)
    return runner


def nncf_facts(forms: Forms, folder: Path, batch: Batch) -> dict[str, float | int | str]:
    """What shows that all of :func:`open_nncf`'s graph is executed in INT8, and how far its scores are from FP32's."""
    runner = load_engine("openvino").open(forms.int8, folder / _NNCF_FOLDER)
    differences = _score_differences(runner, forms, batch)
    runner.close()
    found = {"score_difference_mean": float(differences.mean()), "score_difference_largest": float(differences.max())}
    return {**found, **_precisions(folder / _NNCF_FOLDER / "graph.xml")}


def _score_differences(runner: Runner, forms: Forms, batch: Batch) -> np.ndarray:
    found = np.empty((batch.rows, forms.shape.tasks), np.float32)
    runner.run(batch, found)
    return np.abs(_scores(found) - _scores(reference_logits(forms.fp32, batch)))


def _quantized(forms: Forms) -> onnx.ModelProto:
    """The FP32 graph, every layer that NNCF can quantize in INT8: its default form."""
    import logging

    import nncf

    nncf.set_log_level(logging.ERROR)
    graph = packed_graph(forms.fp32)
    names = [value.name for value in graph.graph.input]
    values = dict(forms.inputs) if len(names) > 1 else {names[0]: np.concatenate(list(forms.inputs.values()), axis=1)}
    rows = len(next(iter(values.values())))
    batches = [
        {name: values[name][start : start + _NNCF_ROWS] for name in names} for start in range(0, rows, _NNCF_ROWS)
    ]
    quantized: onnx.ModelProto = nncf.quantize(graph, nncf.Dataset(batches), subset_size=len(batches))
    return quantized


def _precisions(path: Path) -> dict[str, int]:
    """How many layers and elementwise operators OpenVINO executes, and how many of them in INT8."""
    import openvino as ov

    ir = ov.Core().read_model(str(path))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    executed = [one.get_rt_info() for one in ov.Core().compile_model(ir, "CPU", settings).get_runtime_model().get_ops()]
    kinds = [(_text(info, "layerType"), _text(info, "runtimePrecision")) for info in executed]
    linear = [precision for kind, precision in kinds if kind in _LINEAR]
    elementwise = [precision for kind, precision in kinds if kind == "Eltwise"]
    return {
        "fake_quantize": sum(one.get_type_name() == "FakeQuantize" for one in ir.get_ops()),
        "linear": len(linear),
        "linear_int8": sum(precision in ("i8", "u8") for precision in linear),
        "elementwise": len(elementwise),
        "elementwise_int8": sum(precision in ("i8", "u8") for precision in elementwise),
    }


def _text(info: Mapping[str, object], key: str) -> str:
    return str(info[key].astype(str))  # type: ignore[attr-defined]


def _scores(logits: np.ndarray) -> np.ndarray:
    scores: np.ndarray = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return scores
