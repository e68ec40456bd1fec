"""Write ``docs/reference/schema.md`` from the fields of the schema's classes.

$ python docs/make_schema_reference.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rankine.config import Frozen
from rankine.models.call import Argument, Call, PackedColumn
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Hash,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Split,
    Task,
    Vocabulary,
)

PAGE = Path(__file__).parent / "reference" / "schema.md"
_INTRODUCTION = """\
# Schema

Made from the classes in `rankine.models.schema` and `rankine.models.call` by `docs/make_schema_reference.py`; edit the
classes, not this page. [Bring your own data](../how-to/bring-your-data.md) shows a whole file,
[Bring your model](../how-to/bring-your-model.md) the call of a model from elsewhere. Unknown keys are refused, with a
suggestion.

A feature's `side` says where its value comes from, and with that who sends it:

| side | freshness | who sends it to the server |
| --- | --- | --- |
| `request` | `static` | the client, once a request, in `request` |
| `item` | `static` | nobody: the catalog has it (or the client, for an item given inline) |
| `item` | `live` | the client, with each candidate, in `candidates.features` |
| `pair` | `static` | the client, with each candidate, in `candidates.features` |

A feature without a `default` is required. What is fitted on the training rows (vocabularies, means and spreads) is kept
in the artifact, and the server applies the same.
"""
_SECTIONS: tuple[tuple[str, type[Frozen], str], ...] = (
    ("The file", Schema, "The keys of the file itself."),
    ("Categorical feature", CategoricalFeature, ""),
    ("Multi-hot feature", MultiHotFeature, ""),
    ("Sequence feature", SequenceFeature, ""),
    ("Dense feature", DenseFeature, ""),
    ("Vocabulary encoding", Vocabulary, ""),
    ("Hash encoding", Hash, ""),
    ("Identity encoding", Identity, ""),
    ("Task", Task, ""),
    ("Split", Split, ""),
    ("Call", Call, ""),
    ("Argument", Argument, ""),
    ("Packed column", PackedColumn, ""),
)


def render() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for title, kind, text in _SECTIONS:
        summary, told = _docstring(kind)
        intro = text or summary
        rows = [_row(name, field, told.get(name)) for name, field in kind.model_fields.items()]
        table = ["| key | type | default | |", "| --- | --- | --- | --- |", *rows]
        parts.append("\n".join([f"## {title}", "", intro, "", *table, ""]))
    return "\n".join(parts)


def _docstring(kind: type[Frozen]) -> tuple[str, dict[str, str]]:
    """A class' docstring in Markdown, and what its ``Attributes:`` say of each field."""
    text, _, attributes = inspect.cleandoc(kind.__doc__ or "").replace("``", "`").partition("Attributes:")
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", attributes, re.MULTILINE)
    return " ".join(text.split()), {name: " ".join(said.split()).removesuffix(".") for name, said in entries}


def _row(name: str, field: FieldInfo, told: str | None) -> str:
    text = ", ".join(part for part in (field.description or told, _bounds(field)) if part)
    return f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {text} |"


def _bounds(field: FieldInfo) -> str:
    found = []
    for rule in field.metadata:
        for key, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if (value := getattr(rule, key, None)) is not None:
                found.append(f"{sign} {value}")
        if (pattern := getattr(rule, "pattern", None)) is not None:
            found.append(f"matches `{pattern}`")
        if (least := getattr(rule, "min_length", None)) is not None:
            found.append(f"at least {least}")
    return ", ".join(found)


def _type(annotation: Any) -> str:
    """An annotation in the words of the file."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is not None and str(origin).endswith("Literal"):
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return "list of " + (_type(arguments[0]) if arguments[-1] is Ellipsis else f"{len(arguments)} numbers")
    if isinstance(annotation, type):
        if issubclass(annotation, Frozen):
            return _link(annotation)
        return {"str": "text", "int": "integer", "float": "number"}.get(annotation.__name__, annotation.__name__)
    kinds = [_type(part) for part in arguments if (isinstance(part, type) and part is not type(None)) or get_args(part)]
    return " or ".join(dict.fromkeys(kinds))


def _title(kind: type[Frozen]) -> str:
    return next(title for title, known, _ in _SECTIONS if known is kind)


def _link(kind: type[Frozen]) -> str:
    return f"[{_title(kind)}](#{_title(kind).lower().replace(' ', '-')})"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, tuple) and field.default and isinstance(field.default[0], Frozen):
        return ", ".join(f"one {_link(type(value))}" for value in field.default)
    if isinstance(field.default, Frozen):
        return _link(type(field.default))
    return f"`{list(field.default) if isinstance(field.default, tuple) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
