"""When a value is known: ``constant < catalog, request < candidate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankine.models.schema import Feature, Schema

__all__ = ["EARLY", "Binding", "binding_of", "join", "sides_of"]


class Binding(StrEnum):
    """When a value is known: always, with the catalog, once a request, or once a row."""

    CONSTANT = "constant"
    CATALOG = "catalog"
    REQUEST = "request"
    CANDIDATE = "candidate"


EARLY = (Binding.CATALOG, Binding.REQUEST)
"""What is known before the candidates are scored, and differs between items or requests."""


def join(bindings: Iterable[Binding]) -> Binding:
    """When all of several values are known: of the catalog joined with the request, once a row."""
    return reduce(_join, bindings, Binding.CONSTANT)


def binding_of(feature: Feature) -> Binding:
    """When a feature is known. Live item features change by the minute: they are given with the request, per row."""
    if feature.per_row:
        return Binding.CANDIDATE
    return Binding.REQUEST if feature.side == "request" else Binding.CATALOG


def sides_of(schema: Schema) -> Mapping[str, Binding]:
    """When each input of a schema's dense graph is known."""
    return {feature.name: binding_of(feature) for feature in schema.features}


def _join(one: Binding, other: Binding) -> Binding:
    if other in (one, Binding.CONSTANT):
        return one
    return other if one is Binding.CONSTANT else Binding.CANDIDATE
