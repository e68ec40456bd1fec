"""Held to each other on rows: a graph and its parts, in float64, in FP32, and in the integers of a rounded graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from rankine.compilation.binding.lattice import Binding
from rankine.compilation.binding.normalize import normalized
from rankine.compilation.binding.run import Columns, Evaluate, run_split
from rankine.compilation.binding.split import SplitModel
from rankine.compilation.engines.reference import widen
from rankine.config import Frozen
from rankine.models.onnx_session import open_session
from rankine.models.rewrite.graph import attribute, reads

__all__ = ["Proof", "prove"]


class Proof(Frozen):
    """What was found; errors are those of logits.

    Attributes:
        scale: of the logits: the largest of them.
        parts_in_float64: largest difference between the parts and the whole, both in float64.
        error_before, error_after: the largest against the whole in float64, of the whole and of the parts in FP32 (ONNX
            Runtime); ``mean_before``, ``mean_after``: the root of the mean square.
        sums: values behind rounded layers that could be compared: those before which nothing else is rounded.
        accumulator_difference: the largest of these layers' integer accumulators, in float64; less than one half proves
            them equal.
        codes: that these layers' results are rounded to next, in FP32; ``steps``: their largest difference;
            ``stepped``: how many differ.
    """

    rows: int
    scale: float
    parts_in_float64: float
    error_before: float
    error_after: float
    mean_before: float
    mean_after: float
    sums: int = 0
    accumulator_difference: float = 0.0
    codes: int = 0
    steps: int = 0
    stepped: int = 0


@dataclass(frozen=True)
class _Rounded:
    """Of a graph: sums of rounded layers, with the value of one step of an accumulator, broadcast; and the codes that
    come next."""

    units: Mapping[str, np.ndarray]
    codes: tuple[str, ...]


def prove(model: onnx.ModelProto, split: SplitModel, features: Columns, sides: Mapping[str, Binding]) -> Proof:
    """Hold ``split`` to the ``model`` that it was made of.

    Args:
        features: as the lookup gives them, float32 ``(rows, width)``, by name; ``sides``: when each is known.
    """
    whole = normalized(model, sides).closed(_like(model))  # its values have the names that they have in the parts
    rounded = _rounded(whole)
    computed = {name for node in split.parts.candidate.graph.node for name in node.output}
    probes = [name for name in (*rounded.units, *rounded.codes) if name in computed]
    logits = model.graph.output[0].name
    exact, before = _in_float64(model, features)[0], _in_float32(model, features)[0]
    found = {
        evaluate: (
            dict(zip([logits, *probes], evaluate(_probed(whole, probes), features), strict=True)),
            _of_parts(split, probes, features, sides, evaluate),
        )
        for evaluate in (_in_float64, _in_float32)
    }
    (wide, wide_parts), (plain, plain_parts) = found[_in_float64], found[_in_float32]
    sums = [np.abs(wide[n] - wide_parts[n]) / rounded.units[n] for n in probes if n in rounded.units]
    steps = [np.abs(plain[n].astype(int) - plain_parts[n]) for n in probes if n in rounded.codes]
    return Proof(
        rows=len(exact),
        scale=_largest(exact),
        parts_in_float64=_largest(exact - wide_parts[logits]),
        error_before=_largest(before - exact),
        error_after=_largest(plain_parts[logits] - exact),
        mean_before=_mean(before - exact),
        mean_after=_mean(plain_parts[logits] - exact),
        sums=len(sums),
        accumulator_difference=max(map(_largest, sums), default=0.0),
        codes=sum(step.size for step in steps),
        steps=int(max(map(_largest, steps), default=0)),
        stepped=sum(int(np.count_nonzero(step)) for step in steps),
    )


def _rounded(model: onnx.ModelProto) -> _Rounded:
    """The first rounded layers with what is added to them, and the first codes after them."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    units: dict[str, np.ndarray] = {}
    codes: list[str] = []
    passed: dict[str, int] = {}  # on the way to a value: 1 behind a rounded layer, 2 where it was rounded again
    for node in model.graph.node:
        behind = max((passed.get(name, 0) for name in reads(node)), default=0)
        given = [producers[name] for name in node.input[:2] if name in producers]
        scales = [constants[maker.input[1]] for maker in given if maker.op_type == "DequantizeLinear"]
        if node.op_type in ("Gemm", "MatMul") and len(scales) == 2 and behind == 0:
            units[node.output[0]] = scales[0].astype(np.float64) * scales[1]
            behind = 1
        elif node.op_type in ("Add", "Transpose") and behind == 1 and units.keys() & set(node.input):
            own = next(units[name] for name in node.input if name in units)
            units[node.output[0]] = own if node.op_type == "Add" else _turned(own, attribute(node, "perm"))
        elif node.op_type == "QuantizeLinear" and behind == 1:
            codes.append(node.output[0])
            behind = 2
        passed |= dict.fromkeys(node.output, behind)
    return _Rounded(units, tuple(codes))


def _turned(units: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """For a value with its axes in another order."""
    return units.reshape((1,) * (len(order) - units.ndim) + units.shape).transpose(order)


def _like(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with nothing in it but what it gives."""
    empty = onnx.ModelProto(ir_version=model.ir_version)
    empty.opset_import.extend(model.opset_import)
    empty.graph.name = model.graph.name
    empty.graph.output.extend(model.graph.output)
    return empty


def _probed(model: onnx.ModelProto, probes: Sequence[str]) -> onnx.ModelProto:
    """The same graph, which gives these values too."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    copied.graph.output.extend(onnx.ValueInfoProto(name=name) for name in probes)
    return copied


def _of_parts(
    split: SplitModel, probes: Sequence[str], features: Columns, sides: Mapping[str, Binding], evaluate: Evaluate
) -> dict[str, np.ndarray]:
    """The logits and the values named, by name."""
    candidate = _probed(split.parts.candidate, probes)
    given = {side: {name: features[name] for name, own in sides.items() if own is side} for side in Binding}
    rows = np.arange(len(next(iter(features.values()))))
    found: list[np.ndarray] = []

    def kept(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        results = evaluate(model, feeds)
        if model is candidate:
            found.extend(results)
        return results

    run_split(
        replace(split, parts=replace(split.parts, candidate=candidate)),
        item=given[Binding.CATALOG],
        request=given[Binding.REQUEST],
        row=given[Binding.CANDIDATE],
        item_index=rows,
        request_index=rows,
        evaluate=kept,
    )
    return dict(zip([value.name for value in candidate.graph.output], found, strict=True))


def _in_float64(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    wide = {name: values.astype(np.float64) for name, values in feeds.items()}
    results: list[np.ndarray] = ReferenceEvaluator(widen(model)).run(None, wide)  # type: ignore[assignment]
    return results


def _in_float32(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    results: list[np.ndarray] = open_session(model).run(None, dict(feeds))
    return results


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0))


def _mean(errors: np.ndarray) -> float:
    return float(np.sqrt(np.square(errors, dtype=np.float64).mean()))
