"""A drafted schema as YAML with comments: every guess with its reason, beside the key that it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from rankine.training.draft import Draft, DraftFeature, task_name

__all__ = ["render_draft"]


def render_draft(draft: Draft, *, model: str, data: str) -> str:
    """The schema as text that :func:`rankine.config.load_yaml` reads."""
    roles = draft.roles
    lines = [
        f"# A draft for {model}, guessed from it and from {data}.",
        f"# Check every line with a comment; then: rankine load {model} --schema THIS_FILE --data {data} --out DIR",
        "schema_version: 1",
        f"item_id: {_text(roles.item.column)}  # the item's external id: {roles.item.why}",
    ]
    if draft.item_is_text:
        lines.append("item_id_dtype: string")
    if roles.group is not None:
        lines.append(f"group: {_text(roles.group.column)}  # the user: {roles.group.why}")
    else:
        lines.append("# group: the column of the user was not found; certificates need it where users repeat")
    if roles.timestamp is not None:
        lines.append(f"timestamp: {_text(roles.timestamp.column)}  # {roles.timestamp.why}")
        lines += ["split:", "  by: time  # the newest rows are the test; training must not have seen them"]
    else:
        lines.append("# split: random by default; if the model was trained on some of these rows, keep them out")
    return "\n".join([*lines, "", *_tasks(draft), "", *_features(draft), "", *_call(draft), ""])


def _tasks(draft: Draft) -> list[str]:
    lines = ["tasks:  # one for each output of the model, in its order"]
    for role in draft.tasks:
        lines.append(f"  - name: {_text(task_name(role.column))}")
        lines.append(f"    label: {_text(role.column)}  # {role.why}")
        if role.column in draft.threshold:
            value = draft.threshold[role.column]
            lines.append(f"    threshold: {value:g}  # the column is not 0 or 1: this and more count as 1")
    lines.append("    # link: sigmoid  # write it where an output is a logit; a final sigmoid is found by itself")
    others = [role.column for role in draft.roles.labels if role not in draft.tasks]
    return lines + ([f"    # other columns that look like labels: {', '.join(others)}"] if others else [])


def _features(draft: Draft) -> list[str]:
    lines = ["features:  # in the order of the model's inputs"]
    if not draft.features:
        return [*lines[:-1], "# features: none was found; add them by hand"]
    for feature in draft.features:
        lines += _feature(feature)
    return lines


def _feature(feature: DraftFeature) -> list[str]:
    lines = [f"  # {note}" for note in feature.notes]
    for number, (key, value) in enumerate(feature.keys.items()):
        lines.append(f"  {'- ' if number == 0 else '  '}{key}: {_value(value)}")
    return lines


def _call(draft: Draft) -> list[str]:
    lines = ["call:  # how the model takes the features", *(f"  # {note}" for note in draft.notes)]
    lines += [f"  style: {draft.style}", "  arguments:"]
    for argument in draft.arguments:
        parts = ", ".join(f"{key}: {_value(value)}" for key, value in argument.items() if key != "columns")
        if "columns" not in argument:
            lines.append(f"    - {{{parts}}}")
            continue
        lines += [f"    - {key}: {_value(value)}" if number == 0 else f"      {key}: {_value(value)}"
                  for number, (key, value) in enumerate(argument.items()) if key != "columns"]  # fmt: skip
        lines.append("      columns:")
        lines += [f"        - {_value(column)}" for column in argument["columns"]]
    return lines


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(inner)}" for key, inner in value.items()) + "}"
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    """A string that YAML reads back as the same string: quoted where it would be a number, a date or a word of YAML."""
    plain = value.isidentifier() and yaml.safe_load(value) == value
    return value if plain else json.dumps(value)
