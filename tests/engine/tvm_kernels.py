"""Linear layers as single functions, compiled together and called with arrays: what tests of schedules begin with."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine.compilation.tensorir.instruction_sets import InstructionSet

_POINTERS = 13
_ROOM = 64
"""Rows behind the last one, as the arena has them."""


@dataclass(frozen=True)
class Shape:
    """A layer: ``inner`` numbers or codes to ``width``; ``full`` with all that can follow it."""

    inner: int
    width: int
    integer: bool
    full: bool

    @property
    def name(self) -> str:
        return f"layer_{self.inner}_{self.width}_{'i' if self.integer else 'f'}_{int(self.full)}"


def layer_of(shape: Shape):  # type: ignore[no-untyped-def]
    """The description that the schedules take."""
    from rankine.compilation.tensorir.epilogue import Epilogue
    from rankine.compilation.tensorir.linear import Linear

    names = ("target", "codes", "addend", "factor", "added") if shape.full else ("target",)
    strides = tuple((name, shape.width + 3) for name in names)
    kind = 1 if shape.full else 0
    epilogue = Epilogue(shape.integer, kind, shape.full, strides, 7.0)
    return Linear(shape.inner, shape.width, shape.inner + 5, epilogue)


def functions_of(shapes: list[Shape], machine: InstructionSet) -> Mapping[str, object]:
    """The TensorIR of layers, by name."""
    from rankine.compilation.tensorir.linear import linear_function

    return {shape.name: linear_function(shape.name, layer_of(shape), machine) for shape in shapes}


class Layers:
    """Layers of an instruction set in one library."""

    def __init__(self, shapes: list[Shape], machine: InstructionSet, folder: Path) -> None:
        from rankine.compilation.tensorir.compile import compile_library
        from rankine.compilation.tensorir.nodes import Function
        from rankine.compilation.tensorir.tiles import CONFIGURATION

        self.machine = machine
        functions = dict(functions_of(shapes, machine))
        if machine.tiles:
            configure = Function("configure", ("given",))
            configure.instruction("llvm.x86.ldtilecfg", configure["given"].address("uint8", 0))
            functions["configure"] = configure.finished()
        compile_library(functions, machine, folder / "layers.so")
        self._library = ctypes.CDLL(str(folder / "layers.so"))
        self._configuration = CONFIGURATION

    def run(self, shape: Shape, rows: int, seed: int = 0) -> tuple[np.ndarray, ...]:
        """A call on random numbers.

        Returns:
            The results and codes ``(rows, width)``, and the same by NumPy; sums of codes are exact in both.
        """
        random = np.random.default_rng(seed)
        layer = layer_of(shape)
        count = rows + _ROOM
        stride = shape.width + 3
        weight: np.ndarray
        source: np.ndarray
        if shape.integer:
            weight = random.integers(-127, 128, (shape.inner, shape.width)).astype(np.int8)
            source = random.integers(0, 256, (count, layer.stride)).astype(np.uint8)
        else:
            weight = random.normal(size=(shape.inner, shape.width)).astype(np.float32)
            source = random.normal(size=(count, layer.stride)).astype(np.float32)
        correction = random.integers(-9, 9, shape.width)
        bias, quant = (random.integers(-5, 6, shape.width).astype(np.float32) for _ in range(2))
        others = {
            name: random.integers(-3, 4, (count, stride)).astype(np.float32) for name in ("addend", "factor", "added")
        }
        sums = source[:rows, : shape.inner].astype(np.float64) @ weight.astype(np.float64)
        expected = sums + (correction if shape.integer else 0)
        if shape.full:
            kept = {name: values[:rows, : shape.width].astype(np.float64) for name, values in others.items()}
            expected = np.maximum(expected + bias + kept["addend"], 0) * kept["factor"] + kept["added"]
        quant = quant * np.float32(2**-12)
        target, codes = np.full((count, stride), np.nan, np.float32), np.zeros((count, stride), np.uint8)
        columns = {
            "scale": np.ones(shape.width, np.float32),
            "correction": (correction + (layer.shift(weight, self.machine) if shape.integer else 0)).astype(np.int32),
            "bias": bias,
            "slope": bias,
            "quant": quant,
        }
        given = {
            "source": source,
            "weight": layer.packed_weight(weight, self.machine),
            **{name: layer.packed_columns(numbers, self.machine) for name, numbers in columns.items()},
            "target": target,
            "codes": codes,
            **others,
            "scratch": np.zeros(4096, np.uint8),
        }
        self._call(shape.name, list(given.values()), rows)
        wanted = np.clip(np.rint(expected.astype(np.float32) * quant) + 7, 0, 255).astype(np.uint8)
        cut = (slice(rows), slice(shape.width))
        untouched = np.isnan(target[:, shape.width :]).all() and not codes[:, shape.width :].any()
        assert untouched, "what lies behind the columns was written"
        return target[cut], codes[cut], expected, wanted

    def _call(self, name: str, arrays: list[np.ndarray], rows: int) -> None:
        if self.machine.tiles:
            self._library.configure(ctypes.c_void_p(self._configuration.ctypes.data), ctypes.c_int64(0))
        call: Callable[..., None] = getattr(self._library, name)
        assert len(arrays) == _POINTERS
        call(*(ctypes.c_void_p(array.ctypes.data) for array in arrays), ctypes.c_int64(rows))
