"""Probes: index work is run on chosen ids, which shows what every element of its result is.

Each atom of each row gets a code of its own. An element is an atom plus a constant if it is that constant where all
atoms are zero, and larger by the atom's code where they are codes. Random values and a second number of rows then
have to confirm it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rankine.models.rewrite.atoms import Atoms

__all__ = ["LARGEST_EXACT", "PROBES", "ROWS", "Layout", "Probes", "Selection"]

ROWS = (5, 7)
"""Rows of the probes: two numbers, so that what depends on the rows can be told from what does not."""

PROBES = tuple((kind, rows) for rows in range(len(ROWS)) for kind in ("zero", "code", "random"))
LARGEST_EXACT = 2**24
"""Above it, float32 matrices cannot carry a code."""


@dataclass(frozen=True)
class Layout:
    """How a value that is made of columns is laid out.

    Attributes:
        shape: with the rows first, -1 for their axis.
        axis: where the rows are moved to.
        dtype: of the value.
    """

    shape: tuple[int, ...]
    axis: int
    dtype: np.dtype


@dataclass(frozen=True)
class Selection:
    """A value of which every element is an atom plus a constant, or a constant.

    Attributes:
        atoms: of one row, ``(k, ...)``: numbers of atoms, -1 for a constant.
        offsets: added constants, of the same shape.
        axis: on which the rows lie: ``k`` elements of it belong to each.
        dtype: of the value.
    """

    atoms: np.ndarray
    offsets: np.ndarray
    axis: int
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value with its rows first, -1 for the axis of the rows."""
        return (-1, *self.atoms.shape[1:])


@dataclass
class Probes:
    """Values of the index work, by name, for every probe.

    Attributes:
        values: by probe and name.
        random: by atom, its random values ``(largest rows,)``.
    """

    atoms: Atoms
    values: list[dict[str, np.ndarray]] = field(default_factory=lambda: [{} for _ in PROBES])
    random: list[np.ndarray] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self.values[0]

    def define(self, name: str, pattern: np.ndarray, dtype: np.dtype | None = None) -> None:
        """A value whose row is ``pattern`` (numbers of atoms)."""
        for probe, (_, size) in enumerate(PROBES):
            index = np.arange(ROWS[size]).reshape(-1, *(1 for _ in pattern.shape))
            self.values[probe][name] = self._of(probe, pattern[None], index, dtype)

    def define_from_codes(self, name: str, numbers: list[np.ndarray], rows: list[np.ndarray], dtype: np.dtype) -> None:
        """A value given by its atoms and rows, once for each number of rows."""
        for probe, (_, size) in enumerate(PROBES):
            self.values[probe][name] = self._of(probe, numbers[size], rows[size], dtype)

    def _of(self, probe: int, numbers: np.ndarray, rows: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
        kind, size = PROBES[probe]
        numbers, rows = np.broadcast_arrays(numbers, rows)
        if kind == "zero":
            found = np.zeros(numbers.shape, np.int64)
        elif kind == "code":
            found = numbers * ROWS[size] + rows + 1
        else:
            found = np.array(self.random)[numbers, rows]
        return found if dtype is None or dtype == np.bool_ else found.astype(dtype)

    def decoded(self, name: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Atoms, rows and offsets of every element, for the probes of ``ROWS[size]`` rows; None if it has others.

        Atom and row are -1 for a constant.
        """
        zero, code, random = (self.values[3 * size + probe][name] for probe in range(3))
        if not zero.shape == code.shape == random.shape or zero.dtype.kind not in "iuf":
            return None
        delta = code.astype(np.float64) - zero
        limit = len(self.atoms) * ROWS[size]
        if (delta < 0).any() or (delta > min(limit, LARGEST_EXACT)).any() or (delta != np.floor(delta)).any():
            return None
        codes = delta.astype(np.int64) - 1
        numbers, rows = np.where(codes < 0, -1, codes // ROWS[size]), np.where(codes < 0, -1, codes % ROWS[size])
        expected = np.array(zero, np.float64)
        expected += np.where(numbers < 0, 0, np.array(self.random)[numbers, rows])
        return (numbers, rows, zero) if np.array_equal(expected, random.astype(np.float64)) else None

    def select(self, name: str) -> Selection | None:
        """What a value is, if it is a selection of atoms that is the same for every row."""
        found = [self._selected(name, size) for size in range(len(ROWS))]
        first, second = found
        if first is None or second is None or first.axis != second.axis:
            return None
        same = np.array_equal(first.atoms, second.atoms) and np.array_equal(first.offsets, second.offsets)
        return first if same else None

    def _selected(self, name: str, size: int) -> Selection | None:
        decoded = self.decoded(name, size)
        if decoded is None:
            return None
        numbers, rows, offsets = decoded
        count = ROWS[size]
        for axis, length in enumerate(numbers.shape):
            if length % count or not length:
                continue
            parts = [np.moveaxis(part, axis, 0) for part in (numbers, rows, offsets)]
            split = [part.reshape(count, length // count, *part.shape[1:]) for part in parts]
            own = (split[1] == np.arange(count).reshape(-1, *(1 for _ in split[1].shape[1:]))) | (split[0] < 0)
            if own.all() and all((part == part[:1]).all() for part in (split[0], split[2])):
                return Selection(split[0][0], split[2][0], axis, self.values[3 * size][name].dtype)
        return None

    def constant(self, name: str) -> np.ndarray | None:
        """The value, if it is the same for all probes."""
        first, *others = (values[name] for values in self.values)
        return first if all(np.array_equal(first, other) for other in others) else None

    def feeds(self, probe: int, names: list[str], constants: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values for one probe; constants are the same in all."""
        return {name: constants[name] if name in constants else self.values[probe][name] for name in names}
