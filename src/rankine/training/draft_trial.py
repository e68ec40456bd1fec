"""Trying a drafted call on the module itself: the form of its arguments, and how many tasks it has."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from rankine.config import parse
from rankine.errors import ConfigError
from rankine.models.intake.refusal import ModelError
from rankine.models.intake.signature import Signature
from rankine.models.schema import DenseFeature, Hash, Identity, Schema
from rankine.models.transforms import table_of
from rankine.training.draft import Draft, DraftFeature

__all__ = ["settle_by_running"]

_VOCABULARY_ROWS = 2


def settle_by_running(draft: Draft, signature: Signature) -> None:
    """Run the module with the drafted call and with other forms of it; keeps the one that works.

    Of several it is the first of those with the fewest outputs: a vector taken for a column broadcasts to a number for
    every pair of rows, which is no failure.

    The tasks become as many as the module has outputs, as far as there are labels. Where no form works, the draft says
    so. A model that is no module has told its forms before, and is not run.
    """
    module = signature.module
    if module is None or not draft.features:
        return
    from rankine.models.intake.trace import count_outputs

    first: Exception | None = None
    best: tuple[int, list[dict[str, Any]], list[DraftFeature]] | None = None
    for arguments in _forms(draft):
        features = [feature for feature in draft.features if feature.name in _held(arguments)]
        document = draft.document() | {"call": {"style": draft.style, "arguments": arguments}}
        document["features"] = [feature.keys for feature in features]
        try:
            schema = parse(Schema, document, source="draft")
            outputs = count_outputs(module, schema, _table_rows(schema))
        except (ModelError, ConfigError) as error:
            first = first or error
            continue
        if best is None or outputs < best[0]:
            best = outputs, arguments, features
    if best is None:
        draft.notes.append(f"the model did NOT run with this call: {first}")
        return
    outputs, draft.arguments, draft.features = best
    draft.tasks = draft.roles.labels[: max(outputs, 1)] or draft.tasks
    draft.notes.append("the model ran on random rows with this call")
    if outputs > len(draft.tasks):
        draft.notes.append(f"the model has {outputs} outputs: add tasks with their labels, in its order")


def _forms(draft: Draft) -> Iterator[list[dict[str, Any]]]:
    """As drafted; with numbers as vectors; with ids as columns; and a matrix without numbers, or of floats."""
    numbers = {feature.name for feature in draft.features if feature.keys["kind"] == "dense"}
    single = {feature.name for feature in draft.features if feature.keys.get("width", 1) == 1} & numbers

    def flat(argument: dict[str, Any]) -> None:
        if argument["form"] == "value" and argument["feature"] in single:
            argument["form"] = "flat"

    def column(argument: dict[str, Any]) -> None:
        if argument["form"] == "value" and argument["dtype"] != "float32":
            argument["form"] = "column"

    def ids(argument: dict[str, Any]) -> None:
        if argument["form"] == "packed":
            argument["columns"] = [part for part in argument["columns"] if part["feature"] not in numbers]
            argument["dtype"] = "int64"

    def floats(argument: dict[str, Any]) -> None:
        if argument["form"] == "packed":
            argument["dtype"] = "float32"

    yield draft.arguments
    for change in (flat, column, ids, floats):
        changed = copy.deepcopy(draft.arguments)
        for argument in changed:
            change(argument)
        if changed != draft.arguments and all(argument.get("columns", True) for argument in changed):
            yield changed


def _held(arguments: list[dict[str, Any]]) -> set[str]:
    """Names of the features that arguments hold."""
    packed = {column["feature"] for argument in arguments for column in argument.get("columns", ())}
    return packed | {argument["feature"] for argument in arguments if "feature" in argument}


def _table_rows(schema: Schema) -> dict[str, int]:
    """Rows of every table; of vocabularies, which are not fitted yet, a few."""
    rows = {}
    for feature in schema.features:
        if isinstance(feature, DenseFeature):
            continue
        match feature.encoding:
            case Identity(size=size):
                rows[table_of(feature)] = size
            case Hash(buckets=buckets):
                rows[table_of(feature)] = buckets
            case _:
                rows[table_of(feature)] = _VOCABULARY_ROWS
    return rows
