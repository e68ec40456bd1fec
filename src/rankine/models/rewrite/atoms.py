"""Atoms: the single numbers that a model's arguments consist of, such as the third id of a history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankine.models.call import Argument
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    Hash,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
)

__all__ = ["Atom", "Atoms", "argument_pattern", "id_count"]


@dataclass(frozen=True, slots=True)
class Atom:
    """One number of a row.

    Attributes:
        kind: ``id``; ``dense``: a number; ``length``: of a sequence; ``mask``, ``blank``: whether a sequence has a
            value, or none, at ``position``; ``hot``: whether the id is ``value``.
        feature: whose.
        position: in the sequence, or column of a dense feature.
        value: the id of a ``hot`` one.
    """

    kind: Literal["id", "dense", "length", "mask", "blank", "hot"]
    feature: str
    position: int = 0
    value: int = 0


class Atoms:
    """Atoms by number, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._numbers: dict[Atom, int] = {}
        self._atoms: list[Atom] = []

    def __len__(self) -> int:
        return len(self._atoms)

    def __getitem__(self, number: int) -> Atom:
        return self._atoms[number]

    def number(self, atom: Atom) -> int:
        if atom not in self._numbers:
            self._numbers[atom] = len(self._atoms)
            self._atoms.append(atom)
        return self._numbers[atom]


def argument_pattern(argument: Argument, schema: Schema, number: Callable[[Atom], int]) -> np.ndarray | None:
    """The atoms of one row of an argument, ``()`` or ``(width,)``; None for the parts of a multi-hot feature.

    Args:
        number: gives an atom its number.
    """
    features = {feature.name: feature for feature in schema.features}
    if argument.feature is None:
        parts = [
            [Atom("length", column.feature)] if column.part == "length" else _atoms_of(features[column.feature])
            for column in argument.columns
        ]
        return np.array([number(atom) for part in parts for atom in part], np.int64)
    feature = features[argument.feature]
    if isinstance(feature, MultiHotFeature):
        return None
    if argument.form == "length":
        return np.array(number(Atom("length", feature.name)), np.int64)
    found = _atoms_of(feature)
    if argument.form == "mask":
        found = [Atom("mask", feature.name, atom.position) for atom in found]
    pattern = np.array([number(atom) for atom in found], np.int64)
    flat = argument.form == "flat" or (argument.form == "value" and isinstance(feature, CategoricalFeature))
    return pattern[0] if flat else pattern


def id_count(feature: Feature) -> int | None:
    """How many ids a feature can have; None where only its data tells."""
    match feature:
        case DenseFeature():
            return None
        case _:
            match feature.encoding:
                case Identity(size=size):
                    return size
                case Hash(buckets=buckets):
                    return buckets
                case _:
                    return None


def _atoms_of(feature: Feature) -> list[Atom]:
    match feature:
        case DenseFeature(width=width):
            return [Atom("dense", feature.name, column) for column in range(width)]
        case SequenceFeature(max_length=length):
            return [Atom("id", feature.name, position) for position in range(length)]
        case _:
            return [Atom("id", feature.name)]
