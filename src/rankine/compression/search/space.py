"""What a search looks through: forms (passes before the quantization) and quantizations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product, zip_longest
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from rankine.compression.recipe import (
    Distill,
    LowRank,
    Pass,
    Prune,
    Quantize,
    QuotientRemainder,
    ShrinkTables,
    Tuning,
)
from rankine.config import Frozen
from rankine.models.network import Network

__all__ = ["Form", "SearchSpace", "space_of"]

Form = tuple[Pass, ...]

_SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Of the baseline's widths."""
_NARROWEST = 8
"""A narrower layer does not fill a vector register."""
_GRAPH_FORMS: tuple[Form, ...] = (
    (),
    *((Prune(macs=share),) for share in (0.5, 0.3, 0.15, 0.08)),
    *((LowRank(macs=share),) for share in (0.5, 0.25)),
    (LowRank(macs=0.5), Prune(macs=0.3)),
    (Prune(macs=0.3), ShrinkTables(bytes=0.5)),
    (Prune(macs=0.15), ShrinkTables(bytes=0.5)),
)
_GIANT_FORMS: tuple[Form, ...] = ((QuotientRemainder(),), (Prune(macs=0.3), QuotientRemainder()))
"""Of networks with a table that is large enough."""
_QUANTIZATIONS = (
    Quantize(),
    Quantize(tables="mixed", only_where_faster=True),
    Quantize(tables="mixed"),
    Quantize(sensitivity=1e-4),
    Quantize(tables="int4"),
    Quantize(tables="mixed", sensitivity=1e-4, tune=Tuning()),
)
"""The one that may be trained comes last: a search that runs out of time has the others."""


class SearchSpace(Frozen):
    """Candidates, given one by one: every form is tried, and those that are trained in full with every quantization.

    Attributes:
        forms: passes without a quantization; an empty one is the baseline as it is.
        quantizations: the first is tried in any case, also where time is over.
    """

    schema_version: Literal[1] = 1
    forms: tuple[Form, ...] = Field(min_length=1)
    quantizations: tuple[Quantize, ...] = Field(_QUANTIZATIONS, min_length=1)

    @model_validator(mode="after")
    def _forms_come_before_the_quantization(self) -> Self:
        for place, form in enumerate(self.forms):
            if any(step.type == "quantize" for step in form):
                raise ValueError(f"forms[{place}] holds a quantization: list it under 'quantizations'")
        return self


def space_of(network: Network, *, seed: int = 0, students: int = 48) -> SearchSpace:
    """The space of a network: for a reference model ``students`` of its architecture, drawn from all combinations of
    its sizes; for every model what can be done on its graph; where a table is giant, also that table as two small
    ones."""
    drawn: list[Form] = []
    if network.module is not None:
        every = list(_student_sizes(network.module.config.model_dump(mode="json")))
        order = np.random.default_rng(seed).permutation(len(every))[:students]
        drawn = [(_student(every[place]),) for place in order]
    graph_forms = (*_GRAPH_FORMS, *(_GIANT_FORMS if _has_giant_table(network) else ()))
    # In turns, so that a search that runs out of time has seen both kinds.
    turns = [form for pair in zip_longest(graph_forms, drawn) for form in pair if form is not None]
    return SearchSpace(forms=tuple(turns))


def _has_giant_table(network: Network) -> bool:
    return any(table.count >= QuotientRemainder().smallest for table in network.tables.values())


def _student(sizes: Mapping[str, Any]) -> Distill:
    beside = {key: value for key, value in sizes.items() if key not in ("hidden", "cross_layers")}
    given = {key: value for key, value in sizes.items() if key in ("hidden", "cross_layers")}
    return Distill.model_validate({**given, "sizes": beside})


def _student_sizes(config: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Every combination of smaller sizes that an architecture has: all layers narrower by one share, fewer layers,
    fewer cross layers or experts, cross matrices of low rank, smaller embeddings."""
    layers = {key: value for key, value in config.items() if isinstance(value, list)}
    choices: dict[str, list[Any]] = {"share": list(_SHARES), "depth": [0, 1]}
    if (crosses := config.get("cross_layers")) is not None:
        choices["cross_layers"] = sorted({crosses, min(crosses, 1), 0}, reverse=True)
    if "low_rank" in config:
        present = config["low_rank"]
        choices["low_rank"] = [present, *(rank for rank in (32, 16, 8) if present is None or rank < present)]
    if (experts := config.get("experts")) is not None:
        choices["experts"] = sorted({experts, min(experts, 2)}, reverse=True)
    if (dim := config.get("embedding_dim")) is not None:
        choices["embedding_dim"] = sorted({max(1, dim // part) for part in (1, 2, 4)}, reverse=True)
    seen: set[str] = set()
    for values in product(*choices.values()):
        sizes = _sizes(dict(zip(choices, values, strict=True)), layers)
        if all(config[key] == value for key, value in sizes.items()) or str(sizes) in seen:
            continue
        seen.add(str(sizes))
        yield sizes


def _sizes(chosen: dict[str, Any], layers: Mapping[str, list[int]]) -> dict[str, Any]:
    share, depth = chosen.pop("share"), chosen.pop("depth")
    if chosen.get("cross_layers") == 0:
        chosen.pop("low_rank", None)
    for name, widths in layers.items():
        kept = widths[: max(1, len(widths) - depth)] if name == "hidden" else widths
        chosen[name] = [min(width, max(_NARROWEST, round(width * share))) for width in kept]
    return chosen
