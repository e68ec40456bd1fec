"""Configuration is data: frozen, typed, versioned; unknown keys are refused with a suggestion.

Every configuration class of Rankine derives from :class:`Frozen` and is read by :func:`parse` or :func:`load_yaml`,
which turn pydantic's findings into one :class:`~rankine.errors.ConfigError` that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from rankine.errors import ConfigError, did_you_mean

__all__ = ["Frozen", "dump_yaml", "load_yaml", "parse", "read_mapping"]


class Frozen(BaseModel):
    """Base of all configuration: immutable, no unknown keys, no silent coercion of strings to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=())


Config = TypeVar("Config", bound=Frozen)


def parse(kind: type[Config], values: object, *, source: str = "config") -> Config:
    """Build ``kind`` from the mapping ``values``.

    Raises:
        ConfigError: ``values`` is no mapping; else names the first wrong key as ``source: path.to.key``, and suggests
            the closest known one.
    """
    if not isinstance(values, Mapping):
        raise ConfigError("must be a mapping", where=source, got=type(values).__name__)
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    raise _readable(kind, first, source)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing or cannot be read, is not YAML, or holds no mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except IsADirectoryError:
        raise ConfigError("is a folder", where=str(path), allowed="a YAML file") from None
    except OSError as error:
        raise ConfigError("cannot be read", where=str(path), got=error.strerror) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that is none
        raise ConfigError("not readable as YAML", where=str(path), got=" ".join(str(error).split())) from None
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping", where=str(path), got=type(values).__name__)
    return values


def load_yaml(kind: type[Config], path: Path) -> Config:
    """Read ``kind`` from a YAML file.

    Raises:
        ConfigError: the file is missing, not YAML, not a mapping, or does not fit ``kind``.
    """
    return parse(kind, read_mapping(path), source=str(path))


def dump_yaml(config: Frozen) -> str:
    """``config`` as YAML that :func:`load_yaml` reads back to an equal object."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=False), sort_keys=False, width=100)


def _readable(kind: type[BaseModel], found: ErrorDetails, source: str) -> ConfigError:
    """Pydantic's finding in the words and the places of the user's file."""
    path, models = _place(kind, found["loc"])
    if found["type"].startswith("union_tag_"):
        return _wrong_tag(path, models, found, source)
    where = f"{source}: {'.'.join(path)}" if path else source
    match found["type"]:
        case "extra_forbidden":
            known = {name for model in models for name in model.model_fields}
            return ConfigError("unknown key", where=where, hint=did_you_mean(path[-1], known))
        case "invalid_key":
            return ConfigError("a key must be text", where=where, hint="Put quotes around it.")
        case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
            return ConfigError("must be a mapping", where=where, got=repr(found["input"]))
        case "tuple_type" | "list_type":
            return ConfigError("must be a list", where=where, got=repr(found["input"]))
        case "too_short":
            return ConfigError("too few values", where=where, allowed=f"at least {found['ctx']['min_length']}")
        case _:
            message = found["msg"].removeprefix("Value error, ")
            got = None if found["type"] in ("missing", "value_error") else repr(found["input"])
            return ConfigError(message[:1].lower() + message[1:], where=where, got=got)


def _wrong_tag(path: list[str], models: list[type[BaseModel]], found: ErrorDetails, source: str) -> ConfigError:
    """The key that says which member of a union is meant is missing, or names none."""
    context = found["ctx"]
    key = str(context["discriminator"]).strip("'")
    tags = sorted({tag for model in models for tag in _tags(model, key)})
    where = f"{source}: {'.'.join([*path, key])}"
    if found["type"] == "union_tag_not_found":
        return ConfigError("field required", where=where, allowed=", ".join(tags))
    tag = str(context["tag"])
    return ConfigError(f"unknown {key}", where=where, got=repr(tag), hint=did_you_mean(tag, tags))


def _place(kind: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """Where pydantic's ``location`` is in the user's file, and the models that lie there or hold what does.

    Pydantic also puts the tag or the type of a union's member, and the names of validators, into a location: none of
    them is a key.
    """
    path: list[str] = []
    models: list[type[BaseModel]] = [kind]
    labels: set[str] = set()
    for part in map(str, location):
        tagged = [model for model in models if len(models) > 1 and part in _tags(model)]
        if tagged or part in labels or part.startswith("function-"):
            models = tagged or models
            continue
        path.append(part)
        fields = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        labels = {leaf.__name__ for field in fields for leaf in _leaves(field)} or labels
        models = [leaf for field in fields for leaf in _leaves(field) if issubclass(leaf, BaseModel)] or models
    return path, models


def _leaves(annotation: Any) -> list[type]:
    """The classes that an annotation is made of."""
    if arguments := get_args(annotation):
        return [leaf for argument in arguments for leaf in _leaves(argument)]
    return [annotation] if isinstance(annotation, type) else []


def _tags(model: type[BaseModel], key: str | None = None) -> set[str]:
    """Values of the literal fields of a model, or of the one named ``key``: what can name the model in a union."""
    literals = [
        get_args(field.annotation)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal and key in (None, name)
    ]
    return {value for values in literals for value in values if isinstance(value, str)}
